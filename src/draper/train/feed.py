"""Batches as pure functions of (seed, step, rank, world): resuming and dividing the work change nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from functools import lru_cache
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.errors import DraperError
from draper.nn.module import Batch

ORDER, NOISE = 0, 1
"""Streams of random numbers that never meet."""

TOGETHER = 2
"""Partitions whose rows are shuffled together."""


def seed_of(*key: int) -> int:
    """Mix whole numbers into one seed of 63 bits.

    Examples
    --------
    >>> seed_of(0, 1) != seed_of(1, 0)
    True
    """
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1


class Feed(ABC):
    """A source of batches.

    ``load`` may run in another thread; ``ready`` runs in the trainer's, on its device.

    Attributes
    ----------
    rows
        Rows of one epoch.
    size
        Rows of the global batch.
    seed
        Decides the order of the rows, and the noise.
    noise
        Standard normal numbers drawn for each row: name to count. They are drawn for the global batch, so
        that one process and several draw the same.
    """

    rows: int
    size: int
    threaded: bool = True
    """Whether loading is slow enough to be worth a thread of its own."""
    only_trainer_thread: bool = False
    """Whether loading must happen in the trainer's thread."""

    def __init__(
        self,
        rows: int,
        *,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        transform: Callable[[Batch], Batch] | None = None,
        noise: Mapping[str, int] | None = None,
        world: int = 1,
        repeat: bool = False,
    ) -> None:
        if rows < (1 if repeat else world):
            raise DraperError(
                "there are too few rows to train on", given=f"{rows} rows", expected=f"at least {world}"
            )
        if batch_size % world:
            raise DraperError(
                "the batch cannot be divided among the processes",
                given=f"batch_size={batch_size}, {world} processes",
                expected=f"a multiple of {world}",
            )
        self.rows = rows
        self.size = (batch_size if repeat else min(batch_size, rows)) // world * world
        self.batch_size, self.world, self.seed = batch_size, world, seed
        self.device = torch.device(device)
        self.transform, self.noise = transform, dict(noise or {})

    @abstractmethod
    def take(self, step: int, share: slice) -> dict[str, Tensor]:
        """Return some rows of the global batch of a step, without noise."""

    @abstractmethod
    def rows_in_order(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return rows by their number in a sweep, without noise."""

    def load(self, step: int, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
        """Return this process's share of the batch of a step; depends on nothing but the arguments."""
        width = self.size // world
        share = slice(rank * width, (rank + 1) * width)
        return self.take(step, share) | self._draw(step, self.size, share)

    def ready(self, batch: Batch) -> Batch:
        """Bring a loaded batch to the device and transform it."""
        if self.device.type != "cpu":
            batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        return batch if self.transform is None else self.transform(batch)

    def block(self, start: int, stop: int, share: slice) -> Batch:
        """Return a share of the rows from ``start`` to ``stop`` of a sweep, ready to use.

        Beyond the last row the first ones follow again.
        """
        rows = np.arange(start, stop)[share] % self.rows
        # The high bit keeps the noise of sweeps apart from that of steps.
        return self.ready(self.rows_in_order(rows) | self._draw((1 << 62) + start, stop - start, share))

    def sweep(self, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Pass once over this process's share of all rows, in order, ready to use."""
        for start in range(0, self.rows, self.size):
            stop = min(start + self.size, self.rows)
            first, last = ((stop - start) * part // world for part in (rank, rank + 1))
            if first < last:
                yield self.block(start, stop, slice(first, last))

    def condensed(self, function: Callable[[Batch], Batch]) -> Feed:
        """Return a feed of the same batches with a function applied to each row.

        Rows that can be held are transformed once; others when they are loaded.
        """
        feed, transform = copy(self), self.transform

        def both(batch: Batch) -> Batch:
            with torch.no_grad():
                result = function(batch if transform is None else transform(batch))
            return {**{name: batch[name] for name in self.noise}, **result}

        feed.transform = both
        return feed

    def _draw(self, key: int, rows: int, share: slice) -> dict[str, Tensor]:
        if not self.noise:
            return {}
        generator = torch.Generator().manual_seed(seed_of(self.seed, NOISE, key))
        drawn = {name: torch.randn(rows, count, generator=generator) for name, count in self.noise.items()}
        return {name: numbers[share] for name, numbers in drawn.items()}


class ArrayFeed(Feed):
    """Batches of arrays with equal first axes, in memory, on the device or mapped from a file.

    Every epoch is a new permutation of the rows; batches run on across epochs, so all have the same size.

    Parameters
    ----------
    arrays
        Named arrays (n, ...). Memory-mapped ones are read batch by batch unless ``resident``.
    subset
        Which of their rows to use, in increasing order; all unless given.
    batch_size
        Rows of the global batch; reduced to n where there are fewer rows, unless ``repeat``.
    seed
        Decides order and noise.
    device
        Where ``ready`` brings the tensors.
    resident
        Hold all rows on the device.
    transform
        Applied to each batch on the device.
    noise
        Standard normal numbers drawn for each row: name to count.
    world
        Processes that share a batch.
    repeat
        Whether a batch may hold a row several times, where there are fewer rows than ``batch_size``.

    Examples
    --------
    >>> feed = ArrayFeed({"x": np.arange(6.0, dtype=np.float32)}, batch_size=4, seed=1)
    >>> feed.load(0)["x"].shape
    torch.Size([4])
    >>> torch.equal(feed.load(3)["x"], feed.load(3)["x"])
    True
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        subset: NDArray[np.int64] | None = None,
        *,
        resident: bool = False,
        **options: Any,
    ) -> None:
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise DraperError("the arrays of a feed have different lengths", given=lengths)
        super().__init__(next(iter(lengths.values())) if subset is None else len(subset), **options)
        self.subset = subset
        self.threaded = not resident
        self._arrays = dict(arrays)
        self._tensors = (
            {
                name: torch.from_numpy(self._read(array, slice(None))).to(self.device)
                for name, array in arrays.items()
            }
            if resident
            else {}
        )
        if resident and self.transform is not None:
            # Once for all steps; a row is transformed alike in any company.
            for start in range(0, self.rows, self.size):
                rows = slice(start, start + self.size)
                result = self.transform({name: tensor[rows] for name, tensor in self._tensors.items()})
                if start == 0:
                    self._tensors |= {
                        name: tensor.new_empty((self.rows, *tensor.shape[1:]))
                        for name, tensor in result.items()
                        if name not in self._tensors or tensor.shape[1:] != self._tensors[name].shape[1:]
                    }
                for name, tensor in result.items():
                    self._tensors[name][rows] = tensor
            self.transform = None
        self._orders: dict[int, NDArray[np.int64]] = {}

    def condensed(self, function: Callable[[Batch], Batch]) -> Feed:
        """Return a feed of the same batches, to whose rows a function has been applied once."""
        with torch.no_grad():
            parts = [
                {name: tensor.cpu().numpy() for name, tensor in function(batch).items()}
                for batch in self.sweep()
            ]
        kept = [name for name in parts[0] if name not in self.noise]
        return ArrayFeed(
            {name: np.concatenate([part[name] for part in parts]) for name in kept},
            batch_size=self.batch_size,
            seed=self.seed,
            device=self.device,
            resident=True,
            noise=self.noise,
            world=self.world,
            repeat=self.size > self.rows,
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            order = np.random.default_rng(seed_of(self.seed, ORDER, epoch)).permutation(self.rows)
            self._orders = {number: kept for number, kept in self._orders.items() if number == epoch - 1}
            self._orders[epoch] = order
        return self._orders[epoch]

    def take(self, step: int, share: slice) -> dict[str, Tensor]:
        """Return some rows of the global batch of a step; sorted, so that a mapped file is read in order."""
        pieces = [self._order(epoch)[positions] for epoch, positions in epochs_of(step, self.size, self.rows)]
        return self._gather(np.sort(np.concatenate(pieces))[share])

    def rows_in_order(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return rows by their number."""
        is_run = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
        return self._gather(slice(int(rows[0]), int(rows[-1]) + 1) if is_run else rows)

    def _gather(self, rows: NDArray[np.int64] | slice) -> dict[str, Tensor]:
        if not self.threaded:
            if isinstance(rows, slice):
                return {name: tensor[rows] for name, tensor in self._tensors.items()}
            index = torch.as_tensor(rows, device=self.device)
            # Four times faster than tensor[index].
            return {name: tensor.index_select(0, index) for name, tensor in self._tensors.items()}
        return {name: torch.from_numpy(self._read(array, rows)) for name, array in self._arrays.items()}

    def _read(self, array: NDArray[Any], rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        index = rows if self.subset is None else self.subset[rows]
        if isinstance(index, slice):
            return np.array(array[index])
        # take copies once; a second copy would cost more than the reading.
        return np.asarray(np.take(array, index, axis=0))


class PartitionFeed(Feed):
    """Batches of partitions too large to be held together: at most three are in memory.

    Every epoch passes over the partitions in a new order, two by two; the rows of such a pair are shuffled
    together. Where a batch lies follows from the seed and the step alone.

    Parameters
    ----------
    counts : array (k,) int
        Rows of each partition.
    read
        Returns the named arrays (rows, ...) of a partition by its number.
    options
        As of :class:`ArrayFeed`.

    Examples
    --------
    >>> parts = [np.arange(3.0), np.arange(3.0, 8.0)]
    >>> feed = PartitionFeed([3, 5], lambda number: {"x": parts[number]}, batch_size=4)
    >>> sorted(torch.cat([feed.load(0)["x"], feed.load(1)["x"]]).tolist())
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """

    def __init__(
        self, counts: Sequence[int], read: Callable[[int], Mapping[str, NDArray[Any]]], **options: Any
    ) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        super().__init__(int(self.counts.sum()), **options)
        self._read = lru_cache(maxsize=TOGETHER)(read)

    def take(self, step: int, share: slice) -> dict[str, Tensor]:
        """Return some rows of the global batch of a step."""
        places = [
            self._places(epoch, positions) for epoch, positions in epochs_of(step, self.size, self.rows)
        ]
        return self._gather(np.concatenate(places)[share])

    def rows_in_order(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return rows by their number, counted through all partitions."""
        ends = np.cumsum(self.counts)
        numbers = np.searchsorted(ends, rows, side="right")
        return self._gather(np.column_stack([numbers, rows - (ends - self.counts)[numbers]]))

    def _places(self, epoch: int, positions: slice) -> NDArray[np.int64]:
        """Return partition and row (n, 2) of some positions of an epoch."""
        order = np.random.default_rng(seed_of(self.seed, ORDER, epoch)).permutation(len(self.counts))
        places, first = [], 0
        for group in (order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)):
            last = first + int(self.counts[group].sum())
            if first < positions.stop and last > positions.start:
                numbers = np.repeat(group, self.counts[group])
                rows = np.concatenate([np.arange(count) for count in self.counts[group]])
                random = np.random.default_rng(seed_of(self.seed, ORDER, epoch, 1 + int(group[0])))
                mixed = random.permutation(len(rows))
                mixed = mixed[max(positions.start - first, 0) : positions.stop - first]
                places.append(np.column_stack([numbers[mixed], rows[mixed]]))
            first = last
        return np.concatenate(places)

    def _gather(self, places: NDArray[np.int64]) -> dict[str, Tensor]:
        result: dict[str, NDArray[Any]] = {}
        # In the order of the places: on the border of two pairs, the one that is done with makes room.
        for number in dict.fromkeys(places[:, 0].tolist()):
            here = places[:, 0] == number
            for name, array in self._read(number).items():
                rows = result.setdefault(name, np.empty((len(places), *array.shape[1:]), array.dtype))
                rows[here] = array[places[here, 1]]
        return {name: torch.from_numpy(array) for name, array in result.items()}


class DrawFeed(Feed):
    """Batches that are drawn anew at every step, such as by a simulator; a sweep passes over a fixed sample.

    Parameters
    ----------
    draw
        Returns named arrays (stop - start, ...) of the rows from ``start`` to ``stop`` of an endless
        sequence, a function of these two numbers alone.
    sample
        What :meth:`sweep` passes over.
    rows
        Draws that count as an epoch.
    options
        As of :class:`ArrayFeed`.
    """

    # Drawing may set the state of torch (threads, precision), which belongs to the trainer's thread.
    threaded = False
    only_trainer_thread = True

    def __init__(
        self,
        draw: Callable[[int, int], Mapping[str, NDArray[Any]]],
        sample: ArrayFeed,
        rows: int,
        **options: Any,
    ) -> None:
        super().__init__(rows, **options)
        self.draw, self.sample = draw, sample

    def take(self, step: int, share: slice) -> dict[str, Tensor]:
        """Return some rows of the global batch of a step."""
        start = step * self.size
        drawn = self.draw(start + share.start, start + share.stop)
        return {name: torch.from_numpy(np.array(array)) for name, array in drawn.items()}

    def rows_in_order(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return rows of the sample."""
        return self.sample.rows_in_order(rows)

    def block(self, start: int, stop: int, share: slice) -> Batch:
        """Return a share of some rows of the sample, ready to use."""
        return self.sample.block(start, stop, share)

    def sweep(self, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Pass once over the sample."""
        return self.sample.sweep(rank, world)

    def condensed(self, function: Callable[[Batch], Batch]) -> Feed:
        """Return a feed of the same batches with a function applied to each row."""
        feed = cast(DrawFeed, super().condensed(function))
        feed.sample = cast(ArrayFeed, self.sample.condensed(function))
        return feed


class JoinedFeed(Feed):
    """Batches of several unpaired sources at once; their tensors are called ``<source>.<name>``.

    Every source gives as many rows to a batch; the longest decides what an epoch is, and the others begin
    again.

    Parameters
    ----------
    feeds
        By the name of the source, with equal batch sizes and ``repeat``.
    """

    def __init__(self, feeds: Mapping[str, Feed]) -> None:
        first = next(iter(feeds.values()))
        if len({feed.size for feed in feeds.values()}) > 1:
            raise DraperError(
                "joined sources have different batch sizes", given={k: f.size for k, f in feeds.items()}
            )
        super().__init__(
            max(feed.rows for feed in feeds.values()),
            batch_size=first.size,
            seed=first.seed,
            device=first.device,
            world=first.world,
            repeat=True,
        )
        self.feeds = dict(feeds)
        self.only_trainer_thread = any(feed.only_trainer_thread for feed in feeds.values())
        self.threaded = not self.only_trainer_thread and any(feed.threaded for feed in feeds.values())
        self.noise = {
            f"{name}.{key}": width for name, feed in feeds.items() for key, width in feed.noise.items()
        }

    def load(self, step: int, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
        """Return this process's share of the batch of a step."""
        return _joined({name: feed.load(step, rank, world) for name, feed in self.feeds.items()})

    def ready(self, batch: Batch) -> Batch:
        """Bring a batch to the device and transform it."""
        parts: dict[str, dict[str, Tensor]] = {source: {} for source in self.feeds}
        for key, tensor in batch.items():
            source, _, name = key.partition(".")
            parts[source][name] = tensor
        return self._together({source: feed.ready(parts[source]) for source, feed in self.feeds.items()})

    def block(self, start: int, stop: int, share: slice) -> Batch:
        """Return a share of some rows of each source, ready to use."""
        return self._together({name: feed.block(start, stop, share) for name, feed in self.feeds.items()})

    def _together(self, parts: Mapping[str, Batch]) -> Batch:
        batch = _joined(parts)
        return batch if self.transform is None else self.transform(batch)

    def take(self, step: int, share: slice) -> dict[str, Tensor]:
        """Return some rows of the global batch of each source."""
        return _joined({name: feed.take(step, share) for name, feed in self.feeds.items()})

    def rows_in_order(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return rows of each source."""
        return _joined({name: feed.rows_in_order(rows % feed.rows) for name, feed in self.feeds.items()})


def _joined(batches: Mapping[str, Batch]) -> dict[str, Tensor]:
    return {f"{source}.{name}": tensor for source, batch in batches.items() for name, tensor in batch.items()}


def epochs_of(step: int, size: int, rows: int) -> Iterator[tuple[int, slice]]:
    """Yield the epochs that a batch lies in, and its positions there.

    Examples
    --------
    >>> list(epochs_of(2, size=4, rows=10))
    [(0, slice(8, 10, None)), (1, slice(0, 2, None))]
    """
    start, stop = step * size, (step + 1) * size
    for epoch in range(start // rows, (stop - 1) // rows + 1):
        first = epoch * rows
        yield epoch, slice(max(start - first, 0), min(stop - first, rows))


class Prefetch:
    """Loads the batch of the next step in another thread while this one is computed."""

    def __init__(self, feed: Feed, step: int, steps: int, rank: int = 0, world: int = 1) -> None:
        self.feed, self.step, self.steps = feed, step, steps
        self.rank, self.world = rank, world
        self._pool = ThreadPoolExecutor(1) if feed.threaded else None
        self._waiting: Future[dict[str, Tensor]] | None = None

    def __enter__(self) -> Self:
        return self

    def next(self) -> Batch:
        """Return the batch of the next step, on the device."""
        rank, size = self.rank, self.world
        if self._pool is None:
            loaded = self.feed.load(self.step, rank, size)
        else:
            waiting = self._waiting or self._pool.submit(self.feed.load, self.step, rank, size)
            loaded = waiting.result()
            if self.step + 1 < self.steps:
                self._waiting = self._pool.submit(self.feed.load, self.step + 1, rank, size)
        self.step += 1
        return self.feed.ready(loaded)

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
