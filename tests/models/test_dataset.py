"""What a model is trained on: files, streams of partitions, simulators and pairs of unpaired sets."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import draper
from draper.config import Input
from draper.configs.train import TrainConfig
from draper.data.partitions import Partitions, write_partitions
from draper.errors import DraperError
from draper.models.dataset import EPOCH, SimulatorPart, StreamPart, as_spectra, gather
from draper.simulate.made import MadeStars
from draper.testing import AlignedRegression, LinearAutoencoder, SimulatedRegression, made_spectra
from draper.testing.checks import QUICK, same_state
from draper.train.checkpoint import Checkpoint
from draper.train.feed import ArrayFeed, JoinedFeed

STEPS = QUICK.replace(steps=27)
ONE = (Input("spectra", "", ("spectra", "stream", "simulator")),)
PAIR = (Input("synthetic", ""), Input("observed", ""))


def linear() -> LinearAutoencoder:
    return LinearAutoencoder(latent=4, labels=["teff", "logg"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_partitions(made_spectra(300), tmp_path / "partitions", rows=64)


def numbers(spectra: draper.Spectra) -> set[str]:
    return set(spectra.ids.tolist())


# ------------------------------------------------------------------------ streams


def test_a_stream_is_divided_by_object(folder: Path) -> None:
    data = gather(ONE, {"spectra": folder}, 0.2, seed=1)
    part = data.training["spectra"]
    assert isinstance(part, StreamPart)
    training = {name for batch in part.batches() for name in numbers(batch)}
    held_out = numbers(data.held_out["spectra"].subset.spectra)
    assert training | held_out == numbers(made_spectra(300))
    assert not training & held_out
    assert 30 <= len(held_out) <= 90
    assert sorted(part.table["id"]) == sorted(training)


def test_objects_of_a_stream_stay_on_their_side(tmp_path: Path) -> None:
    """Two exposures of a star in different partitions are both held out, or both trained on."""
    spectra = made_spectra(100)
    twice = draper.Spectra.concat([spectra, spectra])
    data = gather(ONE, {"spectra": write_partitions(twice, tmp_path / "p", rows=30)}, 0.3, seed=0)
    held_out = data.held_out["spectra"].subset.spectra
    assert len(held_out) == 2 * len(numbers(held_out))


def test_every_epoch_of_a_stream_sees_every_row_once(folder: Path) -> None:
    data = gather(ONE, {"spectra": folder}, 0, seed=1)
    part = data.training["spectra"]

    def arrays(spectra: draper.Spectra) -> dict:
        return {"teff": spectra.table["teff"]}

    train = TrainConfig(batch_size=50, seed=3)
    feed = data.feed(data.training, arrays, train, device="cpu", world=1)
    truth = np.sort(made_spectra(300).table["teff"])
    orders = []
    for epoch in range(2):
        drawn = torch.cat([feed.load(6 * epoch + step)["teff"] for step in range(6)]).numpy()
        np.testing.assert_array_equal(np.sort(drawn), truth)
        orders.append(drawn)
    assert not np.array_equal(*orders)
    swept = torch.cat([batch["teff"] for batch in feed.sweep()]).numpy()
    np.testing.assert_array_equal(swept, part.table["teff"])
    shares = [feed.load(5, rank, 2)["teff"] for rank in (0, 1)]
    assert torch.equal(torch.cat(shares), feed.load(5)["teff"])


def test_a_stream_trains_as_well_as_memory(folder: Path) -> None:
    spectra = made_spectra(300)
    streamed, held = (linear().fit(data, train=STEPS.replace(steps=300)) for data in (folder, spectra))
    losses = [model.training["valid"]["valid/total"] for model in (streamed, held)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
    assert streamed.training["source"] == str(folder)


def test_an_interrupted_stream_is_resumed_exactly(folder: Path, tmp_path: Path, monkeypatch) -> None:
    whole = linear().fit(folder, train=STEPS)
    written = Checkpoint.write
    calls = []

    def write_and_die(self: Checkpoint, path: Path) -> Path:
        calls.append(written(self, path))
        if len(calls) == 2:
            raise ProcessLookupError
        return calls[-1]

    monkeypatch.setattr(Checkpoint, "write", write_and_die)
    with pytest.raises(ProcessLookupError):
        linear().fit(folder, train=STEPS, out=tmp_path / "run")
    monkeypatch.undo()
    assert same_state(whole, linear().fit(folder, train=STEPS, out=tmp_path / "run", resume=True))


def test_two_processes_share_a_stream(folder: Path, tmp_path: Path) -> None:
    program = f"""
        import json, os
        from draper.testing import LinearAutoencoder, QUICK
        model = LinearAutoencoder(latent=4, labels=["teff", "logg"])
        model.fit({str(folder)!r}, train=QUICK.replace(steps=27))
        if os.environ["RANK"] == "0":
            print("HISTORY" + json.dumps(model.history))
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(program))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("HISTORY"))
    for together, alone in zip(
        json.loads(line.removeprefix("HISTORY")), linear().fit(folder, train=STEPS).history, strict=True
    ):
        for term in set(alone) - {"seconds"}:
            assert together[term] == pytest.approx(alone[term], rel=1e-5), term


def test_a_changed_stream_is_noticed(folder: Path, tmp_path: Path) -> None:
    linear().fit(folder, train=STEPS, out=tmp_path / "run")
    other = write_partitions(made_spectra(300, seed=5), tmp_path / "other", rows=64)
    with pytest.raises(DraperError, match="other data"):
        linear().fit(other, train=STEPS, out=tmp_path / "run", resume=True)


def test_a_stream_without_spectra_is_refused(tmp_path: Path) -> None:
    spectra = made_spectra(60)
    empty = draper.Spectra(spectra.grid, spectra.flux, 0 * spectra.ivar, spectra.table)
    with pytest.raises(DraperError, match="no spectrum"):
        linear().fit(write_partitions(empty, tmp_path / "p", rows=20), train=STEPS)


def test_a_streamed_training_set_is_known_again(folder: Path) -> None:
    """A report on spectra that the model was trained on says so, however they were read."""
    model = linear().fit(folder, valid=0.2, train=STEPS)
    held_out = model.gather(folder, 0.2, STEPS.seed).held_out["spectra"].subset.spectra
    for spectra, words in ((made_spectra(300), "was trained on"), (held_out, "held out in training")):
        assert any(words in note for note in model.evaluate(spectra).notes)
    assert not model.evaluate(made_spectra(40, seed=4)).notes


def test_spectra_without_a_name_are_objects_of_their_own(tmp_path: Path) -> None:
    spectra = made_spectra(200).with_columns(id=np.full(200, ""))
    folder = write_partitions(spectra, tmp_path / "p", rows=50)
    data = gather(ONE, {"spectra": folder}, 0.3, seed=0)
    assert 30 < len(data.held_out["spectra"]) < 90


def test_a_given_fraction_of_a_stream_is_held_out(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("draper.models.dataset.MOST_HELD_OUT", 10)
    assert len(gather(ONE, {"spectra": folder}, None, seed=0).held_out["spectra"]) < 25
    assert len(gather(ONE, {"spectra": folder}, 0.5, seed=0).held_out["spectra"]) > 100
    with pytest.raises(DraperError, match="too few objects"):
        gather(ONE, {"spectra": folder}, 1e-9, seed=0)


# ---------------------------------------------------------------------- simulators


def test_two_simulators_draw_different_stars() -> None:
    pair = tuple(Input(name, "", ("simulator",)) for name in ("one", "other"))
    data = gather(pair, {"one": MadeStars(), "other": MadeStars()}, None, seed=0)
    one, other = (set(data.training[name].table["teff"].tolist()) for name in ("one", "other"))
    assert not one & other


def test_a_simulator_draws_anew_and_holds_out_others() -> None:
    data = gather(ONE, {"spectra": MadeStars()}, None, seed=1)
    part = data.training["spectra"]
    assert isinstance(part, SimulatorPart)
    assert len(part) == EPOCH
    assert part.prior.names == ("teff", "logg", "fe_h")
    feed = data.feed(
        data.training, lambda spectra: {"teff": spectra.table["teff"]}, TrainConfig(batch_size=100),
        device="cpu", world=1,
    )  # fmt: skip
    drawn = torch.cat([feed.load(step)["teff"] for step in range(20)])
    assert len(drawn.unique()) == 2000
    assert torch.equal(feed.load(13)["teff"], drawn[1300:1400])
    others = {*data.held_out["spectra"].table["teff"].tolist(), *part.table["teff"].tolist()}
    assert not others & set(drawn.tolist())
    assert len(data.held_out["spectra"]) == EPOCH // 10


def test_draws_follow_the_seed_alone() -> None:
    """Threads and precision, which a run chooses, do not touch what is simulated."""
    one, other = (gather(ONE, {"spectra": MadeStars()}, 0, seed=seed) for seed in (1, 2))
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == gather(ONE, {"spectra": MadeStars()}, 0, seed=1).fingerprint


def test_a_simulator_is_judged_on_its_own_held_out_draws() -> None:
    model = SimulatedRegression(labels=["teff"]).fit(MadeStars(), valid=0.05, train=STEPS)
    assert model.training["held_out"] == 500
    assert model.training["spectra"] == EPOCH
    apart = SimulatedRegression(labels=["teff"]).fit(MadeStars(), valid=made_spectra(40), train=STEPS)
    assert apart.training["held_out"] == 40


# --------------------------------------------------------------------------- pairs


def test_a_pair_is_joined_row_by_row() -> None:
    data = gather(PAIR, {"synthetic": made_spectra(200), "observed": made_spectra(30, seed=1)}, None, seed=0)
    feed = data.feed(
        data.training,
        lambda spectra: {"flux": spectra.flux},
        TrainConfig(batch_size=64),
        device="cpu",
        world=1,
    )
    batch = feed.load(0)
    assert {name: len(tensor) for name, tensor in batch.items()} == {
        "synthetic.flux": 64,
        "observed.flux": 64,
    }
    swept = [len(batch["synthetic.flux"]) for batch in feed.sweep()]
    assert sum(swept) == len(data.training["synthetic"]) == 180
    assert all(len(batch["observed.flux"]) == size for batch, size in zip(feed.sweep(), swept, strict=True))


def test_the_facts_of_a_pair_name_both_inputs() -> None:
    model = AlignedRegression(labels=["teff"]).fit(**AlignedRegression.example_data(100), train=STEPS)
    facts = model.training["inputs"]
    assert facts["synthetic"]["spectra"] + facts["synthetic"]["held_out"] == 100
    assert facts["observed"]["spectra"] + facts["observed"]["held_out"] == 50
    assert model.training["spectra"] == 135


def test_held_out_parts_by_name() -> None:
    data = AlignedRegression.example_data(100)
    valid = {"observed": made_spectra(7, seed=9), "synthetic": 0.3}
    model = AlignedRegression(labels=["teff"]).fit(**data, valid=valid, train=STEPS)
    assert model.training["inputs"]["observed"]["held_out"] == 7
    assert model.training["inputs"]["synthetic"]["held_out"] == 30


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("given", "valid", "words"),
    [
        ({"synthetic": made_spectra(20)}, None, "observed"),
        ({"synthetic": made_spectra(20), "observd": made_spectra(20)}, None, "did you mean 'observed'"),
        ({"synthetic": MadeStars(), "observed": made_spectra(20)}, None, "spectra or stream"),
        ({"synthetic": made_spectra(20), "observed": made_spectra(20)}, made_spectra(5), "a dict"),
        ({"synthetic": made_spectra(20), "observed": made_spectra(20)}, {"other": 0.1}, "not given"),
        ({"synthetic": made_spectra(20), "observed": made_spectra(20)}, 1.5, "fraction"),
        ({"synthetic": made_spectra(20), "observed": made_spectra(20)}, {"observed": 0}, "every input"),
    ],
)
def test_wrong_inputs(given, valid, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        gather(PAIR, given, valid, seed=0)


def test_a_model_of_several_inputs_wants_their_names() -> None:
    with pytest.raises(DraperError, match=r"synthetic=\.\.\., observed="):
        AlignedRegression().fit(made_spectra(20))
    with pytest.raises(DraperError, match="given twice"):
        linear().fit(made_spectra(20), spectra=made_spectra(20))
    with pytest.raises(DraperError, match="no input 'observed'"):
        linear().fit(made_spectra(20), observed=made_spectra(20))


def test_further_labels_are_learnt_where_the_model_can() -> None:
    model = linear().fit(made_spectra(200), train=STEPS)
    before = model.predict(made_spectra(5, seed=3))
    model.fit(made_spectra(200), labels=["fe_h"], train=STEPS.replace(steps=1, learning_rate=1e-12))
    after = model.predict(made_spectra(5, seed=3))
    assert after.labels.names == ("teff", "logg", "fe_h")
    np.testing.assert_allclose(after["teff"], before["teff"], rtol=1e-5)
    assert model.config.labels == after.labels.names
    with pytest.raises(DraperError, match="options"):
        linear().fit(made_spectra(200), labels=["fe_h"], train=STEPS)
    aligned = AlignedRegression(labels=["teff"]).fit(**AlignedRegression.example_data(100), train=STEPS)
    with pytest.raises(DraperError, match="first fit"):
        aligned.fit(**AlignedRegression.example_data(100), labels=["fe_h"], train=STEPS)


def test_a_model_may_take_rows_without_pixels(monkeypatch) -> None:
    spectra = made_spectra(100)
    ivar = np.array(spectra.ivar)
    ivar[::2] = 0
    some = draper.Spectra(spectra.grid, spectra.flux, ivar, spectra.table, spectra.quantity)
    assert linear().fit(some, train=STEPS).training["spectra"] < 50
    monkeypatch.setattr(LinearAutoencoder, "needs_pixels", False)
    model = linear().fit(some, train=STEPS)
    assert model.training["spectra"] == 90
    assert np.isfinite(model.encode(some)).all()


def test_partitions_are_recognised(folder: Path, tmp_path: Path) -> None:
    assert isinstance(Partitions(folder), Partitions)
    assert isinstance(gather(ONE, {"spectra": str(folder)}, 0, seed=0).training["spectra"], StreamPart)
    np.testing.assert_array_equal(as_spectra(Partitions(folder)).flux, made_spectra(300).flux)
    file = draper.write(made_spectra(30), tmp_path / "a.h5")
    assert not isinstance(gather(ONE, {"spectra": file}, 0, seed=0).training["spectra"], StreamPart)


def test_the_noise_of_a_pair_survives_condensing() -> None:
    feeds = {
        name: ArrayFeed({"x": np.ones((8, 2), np.float32)}, batch_size=4, noise={"e": 3}, seed=1, repeat=True)
        for name in ("a", "b")
    }
    condensed = JoinedFeed(feeds).condensed(lambda batch: {"a.x": 2 * batch["a.x"]})
    batch = condensed.ready(condensed.load(0))
    assert set(batch) == {"a.x", "a.e", "b.e"}
    assert batch["a.x"].tolist() == [[2, 2]] * 4


def test_files_or_a_simulator_for_one_input() -> None:
    """An input that may be either has both flags, and needs neither."""
    from draper.cli.inputs import input_arguments, named, sources_of
    from draper.config import ModelConfig
    from draper.configs.read import ReadConfig

    class Either(ModelConfig):
        inputs = (Input("synthetic", "Spectra.", ("spectra", "simulator")),)

    names = [argument.name for argument in input_arguments(Either, "stars")]
    assert names == ["synthetic", "simulator", "simulator_options"]
    given = {"synthetic": (), "simulator": "stars", "read": ReadConfig()}
    assert list(sources_of("train either", Either, (), given)) == ["synthetic"]
    assert named(["--simulator", "a", "--simulator=b"], "--simulator") == "b"
    assert named(["--simulator=b", "--simulator", "a"], "--simulator") == "a"
