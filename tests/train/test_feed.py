"""Batches are pure functions of (seed, step, rank, world)."""

import numpy as np
import pytest
import torch
from toy import arrays

from draper.errors import DraperError
from draper.train.feed import ArrayFeed, PartitionFeed, seed_of


def make(n=10, batch_size=4, **options) -> ArrayFeed:
    return ArrayFeed({"x": np.arange(n, dtype=np.float32)}, batch_size=batch_size, **options)


def test_every_epoch_is_a_permutation() -> None:
    feed = make(n=12, batch_size=4)
    epochs = [torch.cat([feed.load(step)["x"] for step in range(first, first + 3)]) for first in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(12))
    assert not torch.equal(epochs[0], epochs[1])


def test_batches_run_on_across_epochs() -> None:
    feed = make(n=10, batch_size=4)
    drawn = torch.cat([feed.load(step)["x"] for step in range(5)])
    assert len(drawn) == 20
    assert np.array_equal(np.bincount(drawn.numpy().astype(int)), np.full(10, 2))


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    fresh, used = make(seed=4), make(seed=4)
    for step in range(9):
        used.load(step)
    assert torch.equal(fresh.load(7)["x"], used.load(7)["x"])
    assert not torch.equal(make(seed=5).load(7)["x"], used.load(7)["x"])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shares_make_the_global_batch(world: int) -> None:
    feed = ArrayFeed(arrays(50), batch_size=8, noise={"e": 2}, seed=1)
    for step in (0, 9):
        whole = feed.load(step)
        shares = [feed.load(step, rank, world) for rank in range(world)]
        for name in ("x", "y", "e"):
            assert torch.equal(torch.cat([share[name] for share in shares]), whole[name])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_sweep_sees_every_row_once(world: int) -> None:
    feed = make(n=11, batch_size=6, world=world, noise={"e": 1})
    rows = [batch["x"] for rank in range(world) for batch in feed.sweep(rank, world)]
    assert sorted(torch.cat(rows).tolist()) == list(range(11))
    first = [batch["e"] for batch in feed.sweep()]
    assert all(torch.equal(a, b["e"]) for a, b in zip(first, feed.sweep(), strict=True))


def test_subset_resident_and_mapped_agree(tmp_path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.array([1, 2, 5, 8, 20, 29])
    feeds = [
        ArrayFeed({"x": array}, rows, batch_size=4, resident=resident)
        for array, resident in ((values, False), (values, True), (mapped, False), (mapped, True))
    ]
    for step in range(4):
        first, *others = (feed.load(step)["x"] for feed in feeds)
        assert all(torch.equal(first, other) for other in others)
        assert all(any(np.array_equal(row, values[i]) for i in rows) for row in first.numpy())
    assert np.array_equal(torch.cat([b["x"] for b in feeds[2].sweep()]).numpy(), values[rows])


def test_partitions_are_read_once_in_an_epoch() -> None:
    read: list[int] = []

    def values(number: int) -> dict[str, np.ndarray]:
        read.append(number)
        return {"x": np.arange(5.0) + 5 * number}

    feed = PartitionFeed([5] * 6, values, batch_size=4)  # batches lie across the borders of pairs
    drawn = torch.cat([feed.load(step)["x"] for step in range(7)])
    assert len(drawn.unique()) == 28
    assert sorted(read) == list(range(6))


def test_refusals() -> None:
    with pytest.raises(DraperError, match="different lengths"):
        ArrayFeed({"x": np.zeros(3), "y": np.zeros(4)}, batch_size=2)
    with pytest.raises(DraperError, match="multiple of 3"):
        make(batch_size=4, world=3)
    with pytest.raises(DraperError, match="too few rows"):
        make(n=1, batch_size=4, world=2)


def test_seeds_are_spread() -> None:
    assert len({seed_of(a, b) for a in range(30) for b in range(30)}) == 900


def test_condensed_batches_are_the_same_rows() -> None:
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    feed = ArrayFeed({"x": values}, np.arange(3, 18), batch_size=4, seed=2, noise={"z": 3})
    calls = []

    def halved(batch):
        calls.append(len(batch["x"]))
        return {**batch, "x": batch["x"][:, :1] / 2}

    condensed = feed.condensed(halved)
    assert sum(calls) == 15
    for step in range(9):
        one, other = feed.load(step), condensed.load(step)
        assert torch.equal(one["x"][:, :1] / 2, other["x"])
        assert torch.equal(one["z"], other["z"])
    assert sum(calls) == 15
