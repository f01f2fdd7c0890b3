"""What a model is trained on: named sources, their held-out parts, and how to recognise them again."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from draper.config import Input, SourceKind
from draper.configs.train import TrainConfig
from draper.data.arrays import blocks_of, has_good_pixel
from draper.data.grid import Grid
from draper.data.io import read
from draper.data.labels import LabelSet
from draper.data.partitions import Partitions
from draper.data.spectra import Spectra, Subset
from draper.errors import DraperError, did_you_mean, option_text
from draper.nn.precision import reproducible
from draper.simulate.base import BLOCK, Simulator
from draper.train.feed import ArrayFeed, DrawFeed, Feed, JoinedFeed, PartitionFeed, seed_of

HELD_OUT = 0.1
"""Fraction of the objects that are held out by default."""

MOST_HELD_OUT = 10_000
"""Objects of a stream that are held out at most by default: they are kept in memory."""

SAMPLED = 64
"""Spectra that a fingerprint looks at."""

EPOCH = 10_000
"""Draws of a simulator that count as one epoch."""

SAMPLE = 2_000
"""Draws of a simulator that transforms are measured on."""

DRAWS, HELD_OUT_DRAWS, SAMPLE_DRAWS = 10, 11, 12
"""Streams of random numbers of a simulator, which never meet."""

Source = Spectra | Partitions | Simulator | str | Path
"""What may be given as an input of a model: spectra, their file, a folder of Parquet files, a simulator."""

Arrays = Callable[[Spectra], dict[str, NDArray[Any]]]
"""Returns the named arrays (n, ...) of some spectra that a network is trained on."""


class Part(ABC):
    """Some objects of one source: labels and transforms are measured on them, batches are drawn from them.

    Attributes
    ----------
    grid : Grid
    quantity, unit, source : str
        Of the values, and where they come from.
    prior : LabelSet
        Range of the labels, where the source knows it (a simulator does); empty else.
    """

    grid: Grid
    quantity: str
    unit: str
    source: str
    prior: LabelSet = LabelSet()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of objects; of a simulator, the draws that count as one epoch."""

    @property
    @abstractmethod
    def table(self) -> Mapping[str, NDArray[Any]]:
        """The columns (m,) of the objects; of a simulator, of a sample."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash by which the same data are recognised."""

    @abstractmethod
    def batches(self, rows: int | None = None) -> Iterator[Spectra]:
        """Iterate over all spectra, at most ``rows`` at a time; over a sample of those of a simulator."""

    @abstractmethod
    def feed(self, arrays: Arrays, train: TrainConfig, **options: Any) -> Feed:
        """Return the batches of the arrays of these spectra; ``options`` are those of every feed."""


class SpectraPart(Part):
    """Rows of spectra in memory or in a mapped file."""

    def __init__(self, subset: Subset) -> None:
        self.subset = subset
        spectra = subset.spectra
        self.grid, self.quantity, self.unit = spectra.grid, spectra.quantity, spectra.unit
        self.source = str(spectra.meta.get("source", "memory"))

    def __len__(self) -> int:
        return len(self.subset)

    @property
    def table(self) -> dict[str, NDArray[Any]]:
        """The columns (m,) of the objects."""
        return self.subset.table

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the grid, the number of spectra and a sample of them."""
        return fingerprint(self.subset)

    def batches(self, rows: int | None = None) -> Iterator[Spectra]:
        """Iterate over all spectra, at most ``rows`` at a time."""
        return self.subset.batches(rows)

    def feed(self, arrays: Arrays, train: TrainConfig, **options: Any) -> Feed:
        """Return the batches, held on the device where they fit or are asked to."""
        spectra, device = self.subset.spectra, torch.device(options["device"])
        found = arrays(spectra)
        needed = sum(array.nbytes for array in found.values()) * len(self) / max(1, len(spectra))
        resident = train.data == "resident" or (train.data == "auto" and needed < free_memory(device) / 2)
        return ArrayFeed(found, self.subset.rows, resident=resident, **options)


class StreamTable(Mapping[str, NDArray[Any]]):
    """Columns of some rows of partitions: millions of rows, so that each is read when it is asked for."""

    def __init__(self, partitions: Partitions, chosen: NDArray[np.bool_]) -> None:
        self.partitions, self.chosen = partitions, chosen

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return one column (m,)."""
        if name not in self.partitions.columns:
            raise KeyError(name)
        values: NDArray[Any] = self.partitions.column(name)[self.chosen]
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.partitions.columns)

    def __len__(self) -> int:
        return len(self.partitions.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.partitions.columns


class StreamPart(Part):
    """Rows of partitions that are read one after the other."""

    def __init__(self, partitions: Partitions, rows: list[NDArray[np.int64]], share: float = 0.0) -> None:
        self.partitions, self.rows, self.share = partitions, rows, share
        self.grid, self.quantity, self.unit = partitions.grid, partitions.quantity, partitions.unit
        self.source = str(partitions.path)

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows)

    @property
    def table(self) -> Mapping[str, NDArray[Any]]:
        """The columns (m,) of the objects; each is read when it is asked for."""
        chosen = np.zeros(sum(self.partitions.counts), dtype=bool)
        first = 0
        for count, rows in zip(self.partitions.counts, self.rows, strict=True):
            chosen[first + rows] = True
            first += count
        return StreamTable(self.partitions, chosen)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash, the same as that of these spectra in memory."""
        ends = np.cumsum([len(rows) for rows in self.rows])
        chosen = _sampled(len(self))
        numbers = np.searchsorted(ends, chosen, side="right")
        parts = []
        for number in np.unique(numbers):
            rows = self.rows[number]
            places = chosen[numbers == number] - (ends[number] - len(rows))
            parts.append(self.partitions.read(int(number), rows[places]))
        return _hash(self.grid, len(self), Spectra.concat(parts, fill=True))

    def batches(self, rows: int | None = None) -> Iterator[Spectra]:
        """Iterate over all spectra, at most ``rows`` at a time."""
        for number, own in enumerate(self.rows):
            if len(own):
                yield from Subset.whole(self.partitions.read(number, own)).batches(rows)

    def feed(self, arrays: Arrays, train: TrainConfig, **options: Any) -> Feed:
        """Return the batches, read from disk: at most three partitions are in memory."""
        used = [number for number, rows in enumerate(self.rows) if len(rows)]

        def read_arrays(number: int) -> dict[str, NDArray[Any]]:
            return arrays(self.partitions.read(used[number], self.rows[used[number]]))

        return PartitionFeed([len(self.rows[number]) for number in used], read_arrays, **options)


class SimulatorPart(Part):
    """The endless draws of a simulator, with a sample to measure labels and transforms on."""

    def __init__(self, simulator: Simulator, seed: int) -> None:
        self.simulator, self.seed = simulator, seed_of(seed, DRAWS)
        self.sample = Subset.whole(drawn(simulator, SAMPLE, seed_of(seed, SAMPLE_DRAWS)))
        spectra = self.sample.spectra
        self.grid, self.quantity, self.unit = simulator.grid, spectra.quantity, spectra.unit
        self.source = f"draws of {type(simulator).__name__}"
        self.prior = simulator.prior

    def __len__(self) -> int:
        return EPOCH

    @property
    def table(self) -> dict[str, NDArray[Any]]:
        """The columns (m,) of the sample."""
        return self.sample.table

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the sample."""
        return fingerprint(self.sample)

    def batches(self, rows: int | None = None) -> Iterator[Spectra]:
        """Iterate over the sample."""
        return self.sample.batches(rows)

    def feed(self, arrays: Arrays, train: TrainConfig, **options: Any) -> Feed:
        """Return batches that are simulated anew at every step."""
        # Batches that do not end with a block look at it again.
        block = lru_cache(maxsize=2)(self._block)

        def draw(start: int, stop: int) -> dict[str, NDArray[Any]]:
            parts = []
            for number in range(start // BLOCK, (stop - 1) // BLOCK + 1):
                first = number * BLOCK
                parts.append(block(number)[max(start - first, 0) : stop - first])
            return arrays(Spectra.concat(parts))

        sample = ArrayFeed(arrays(self.sample.spectra), resident=False, **options)
        return DrawFeed(draw, sample, len(self), **options)

    def _block(self, number: int) -> Spectra:
        with reproducible():
            return self.simulator.block(number, self.seed)


def drawn(simulator: Simulator, number: int, seed: int) -> Spectra:
    """Return spectra of a simulator, the same whatever the state of torch."""
    with reproducible():
        return simulator.simulate(number, seed)


@dataclass(frozen=True)
class Dataset:
    """What a model is trained on.

    Attributes
    ----------
    training, held_out : dict of Part
        By the name of the input. Held-out parts may be empty.
    """

    training: Mapping[str, Part]
    held_out: Mapping[str, SpectraPart]

    @property
    def fingerprint(self) -> str:
        """A fingerprint of all parts."""
        return "+".join(self._fingerprint_of(name) for name in self.training)

    def _fingerprint_of(self, name: str) -> str:
        return f"{self.training[name].fingerprint}-{self.held_out[name].fingerprint}"

    @property
    def has_held_out(self) -> bool:
        """Whether objects of every source are held out."""
        return all(len(part) for part in self.held_out.values())

    @property
    def facts(self) -> dict[str, object]:
        """What an artifact says about them."""
        first = next(iter(self.training.values()))
        facts: dict[str, object] = {
            "source": ", ".join(part.source for part in self.training.values()),
            "fingerprint": self.fingerprint,
            "spectra": sum(len(part) for part in self.training.values()),
            "held_out": sum(len(part) for part in self.held_out.values()),
            "quantity": first.quantity,
            "unit": first.unit,
        }
        if isinstance(first, StreamPart):
            facts["hashed_share"] = first.share
        if len(self.training) > 1:
            facts["inputs"] = {
                name: {
                    "source": part.source,
                    "fingerprint": self._fingerprint_of(name),
                    "spectra": len(part),
                    "held_out": len(self.held_out[name]),
                    **({"hashed_share": part.share} if isinstance(part, StreamPart) else {}),
                }
                for name, part in self.training.items()
            }
        return facts

    def feed(self, parts: Mapping[str, Part], arrays: Arrays, train: TrainConfig, **options: Any) -> Feed:
        """Return the batches of the training or the held-out parts; several sources are joined, unpaired.

        Parameters
        ----------
        parts
            ``training`` or ``held_out``.
        arrays
            Returns the arrays that a network is trained on.
        train
            Size of the batches, seed, and where rows are held.
        options
            Those of every :class:`draper.train.feed.Feed`.
        """
        seed, size = train.seed, train.batch_size
        if len(parts) == 1:
            return next(iter(parts.values())).feed(arrays, train, batch_size=size, seed=seed, **options)
        size = min(size, max(len(part) for part in parts.values()))
        size = max(size // options["world"], 1) * options["world"]
        return JoinedFeed(
            {
                name: part.feed(
                    arrays, train, batch_size=size, seed=seed_of(seed, number), repeat=True, **options
                )
                for number, (name, part) in enumerate(parts.items())
            }
        )


def gather(
    inputs: tuple[Input, ...],
    given: Mapping[str, Source],
    valid: Source | float | Mapping[str, Source | float] | None,
    seed: int,
    *,
    needs_pixels: bool = True,
) -> Dataset:
    """Divide sources by object into a training and a held-out part.

    Parameters
    ----------
    inputs
        What the model takes.
    given
        The sources by name.
    valid
        Held-out spectra, or the fraction of the objects to hold out (a tenth if None); or either by the name
        of the input.
    seed
        Decides which objects are held out, and what a simulator draws.
    needs_pixels
        Whether spectra without a good pixel are left out.
    """
    names = [entry.name for entry in inputs]
    for name in given:
        if name not in names:
            raise DraperError(f"the model has no input '{name}'", given=name, hint=did_you_mean(name, names))
    if missing := [entry.name for entry in inputs if entry.required and entry.name not in given]:
        raise DraperError(
            "an input of the model is missing", given=", ".join(given), expected=", ".join(missing)
        )
    if not given:
        raise DraperError("the model needs data", expected=" or ".join(names))
    fractions: Mapping[str, Source | float | None]
    if isinstance(valid, Mapping):
        if unknown := [name for name in valid if name not in given]:
            raise DraperError("held-out data are for an input that is not given", given=", ".join(unknown))
        fractions = {name: valid.get(name) for name in given}
    elif len(given) > 1 and valid is not None and not isinstance(valid, (int, float)):
        raise DraperError(
            "held-out data of several inputs are given by name",
            given=valid,
            expected=f"a dict of {', '.join(given)}",
        )
    else:
        fractions = dict.fromkeys(given, valid)
    training, held_out = {}, {}
    for number, entry in enumerate(inputs):
        name = entry.name
        if name in given:
            source = _opened(given[name], entry)
            # Two simulators must not draw the same random numbers.
            own = seed_of(seed, number) if number and isinstance(source, Simulator) else seed
            training[name], held_out[name] = _divided(source, fractions[name], own, needs_pixels)
    counts = {name: len(part) for name, part in held_out.items()}
    if any(counts.values()) and not all(counts.values()):
        raise DraperError(
            "some inputs have held-out data and others have none",
            given=", ".join(f"{name}: {count}" for name, count in counts.items()),
            hint="hold out a part of every input, or of none",
        )
    return Dataset(training, held_out)


def _opened(source: Source, entry: Input) -> Spectra | Partitions | Simulator:
    """Return an input as spectra, stream or simulator; refuse what the model does not take."""
    if isinstance(source, (str, Path)):
        source = Partitions(source) if "stream" in entry.kinds and is_partitioned(source) else read(source)
    kinds: dict[type, SourceKind] = {Spectra: "spectra", Partitions: "stream", Simulator: "simulator"}
    kind = next((kind for known, kind in kinds.items() if isinstance(source, known)), None)
    if kind not in entry.kinds:
        raise DraperError(
            f"the model does not take this as its input '{entry.name}'",
            given=repr(source),
            expected=" or ".join(entry.kinds),
        )
    return source


def _divided(
    source: Spectra | Partitions | Simulator, valid: Source | float | None, seed: int, needs_pixels: bool
) -> tuple[Part, SpectraPart]:
    """Return the training and the held-out part of one source."""
    fraction = HELD_OUT if valid is None else valid
    if isinstance(fraction, (int, float)):
        if not 0 <= fraction < 1:
            raise DraperError("the held-out fraction must be at least 0 and below 1", given=fraction)
        if isinstance(source, Simulator):
            part = SimulatorPart(source, seed)
            number = round(fraction * EPOCH)
            spectra = (
                drawn(source, number, seed_of(seed, HELD_OUT_DRAWS)) if number else part.sample.spectra[:0]
            )
            return part, SpectraPart(Subset.whole(spectra))
        if isinstance(source, Partitions):
            most = MOST_HELD_OUT / max(1, len(source))
            share = min(float(fraction), most) if valid is None else float(fraction)
            return _stream(source, share, seed, needs_pixels)
        training, held_out = divide(_nonempty(source), fraction, seed)
        return SpectraPart(_usable(training, needs_pixels)), SpectraPart(
            _usable(held_out, needs_pixels, least=0)
        )
    apart = SpectraPart(_usable(Subset.whole(as_spectra(fraction)), needs_pixels, least=0))
    if isinstance(source, Simulator):
        return SimulatorPart(source, seed), apart
    if isinstance(source, Partitions):
        return _stream(source, 0.0, seed, needs_pixels)[0], apart
    return SpectraPart(_usable(Subset.whole(_nonempty(source)), needs_pixels)), apart


def _nonempty(spectra: Spectra) -> Spectra:
    if len(spectra) == 0:
        raise DraperError("there are no spectra to train on", given=repr(spectra))
    return spectra


def _usable(subset: Subset, needs_pixels: bool, least: int = 1) -> Subset:
    """Return the rows that a model can be trained on."""
    rows = with_good_pixels(subset) if needs_pixels else subset
    if len(rows) < least:
        raise DraperError(
            "no spectrum has a good pixel, and this model needs some",
            given=repr(subset.spectra),
            hint="check the inverse variance: it is 0 where a pixel is bad",
        )
    return rows


def _stream(
    partitions: Partitions, share: float, seed: int, needs_pixels: bool
) -> tuple[StreamPart, SpectraPart]:
    """Read a stream once: keep the held-out objects in memory, and note which rows are trained on."""
    total = sum(partitions.counts)
    rows, first = [], 0
    held_out: list[Spectra] = []
    for number, count in enumerate(partitions.counts):
        spectra = partitions.read(number)
        usable = has_good_pixel(spectra.ivar) if needs_pixels else np.ones(count, dtype=bool)
        is_held_out = hashed(spectra, share, seed, first)
        rows.append(np.flatnonzero(usable & ~is_held_out))
        # Joined at once, so that the partitions' copies of shared correlations do not add up.
        held_out = [Spectra.concat([*held_out, spectra[np.flatnonzero(usable & is_held_out)]], fill=True)]
        first += count
    training = StreamPart(partitions, rows, share)
    if len(training) == 0:
        raise DraperError(
            "the partitions hold no spectrum to train on", given=f"{partitions.path}: {total} spectra"
        )
    apart = Spectra.concat(held_out, fill=True)
    if share and not len(apart):
        raise DraperError(
            "too few objects to hold some out",
            given=f"{total} spectra",
            hint=f"pass {option_text('valid', 0)} to hold out none, or give more spectra",
        )
    return training, SpectraPart(Subset.whole(apart))


def hashed(spectra: Spectra, share: float, seed: int, first: int = 0) -> NDArray[np.bool_]:
    """Return which spectra (n,) of a stream are held out: a share of the objects, by a hash of their names.

    Spectra without a name are objects of their own; ``first`` is the number of spectra before these.
    """
    ids = spectra.table.get("id", np.full(len(spectra), ""))
    names = [str(name) or f"#{first + row}" for row, name in enumerate(ids)]
    return np.array([_uniform(f"{seed} {name}") < share for name in names], dtype=bool)


def _uniform(text: str) -> float:
    """Return a number from 0 to 1 that follows from a text: the same object is always on the same side."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def is_partitioned(path: str | Path) -> bool:
    """Return whether a path is a Parquet file, or a folder of such files."""
    path = Path(path)
    return path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))


def as_spectra(source: Source) -> Spectra:
    """Return spectra in memory: as they are, those of a file, or all partitions of a stream."""
    if isinstance(source, (str, Path)):
        return read(source)
    if isinstance(source, Partitions):
        return Spectra.concat([source.read(number) for number in range(len(source.counts))], fill=True)
    if not isinstance(source, Spectra):
        raise DraperError(
            "these are no spectra", given=repr(source), expected="spectra, or the path of a file"
        )
    return source


def divide(spectra: Spectra, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Hold out a fraction of the objects."""
    if not 0 <= fraction < 1:
        raise DraperError("the held-out fraction must be at least 0 and below 1", given=fraction)
    if fraction == 0:
        return Subset.whole(spectra), Subset.whole(spectra[:0])
    training, held_out = (Subset(spectra, rows) for rows in spectra.split_rows(1 - fraction, seed=seed))
    if not (len(training) and len(held_out)):
        count = len(np.unique(spectra.ids))
        alike = f" of {count} objects by their column 'id'" if count < len(spectra) else ""
        raise DraperError(
            "too few objects to hold some out",
            given=f"{len(spectra)} spectra{alike}",
            hint=f"pass {option_text('valid', 0)} to hold out none, or give more "
            + ("objects ids of their own" if alike else "spectra"),
        )
    return training, held_out


def with_good_pixels(subset: Subset) -> Subset:
    """Return the rows that have a good pixel."""
    ivar = subset.spectra.ivar
    good = np.empty(len(ivar), dtype=bool)
    for rows in blocks_of(ivar):
        good[rows] = has_good_pixel(ivar[rows])
    return Subset(subset.spectra, subset.rows[good[subset.rows]])


def fingerprint(subset: Subset) -> str:
    """Return a short hash of the grid, the number of spectra and a sample of them."""
    return _hash(subset.grid, len(subset), subset.spectra[subset.rows[_sampled(len(subset))]])


def _sampled(number: int) -> NDArray[np.int64]:
    """Return the rows that a fingerprint looks at."""
    return np.linspace(0, number - 1, min(SAMPLED, number)).astype(np.int64)


def _hash(grid: Grid, number: int, sample: Spectra) -> str:
    digest = hashlib.sha256(f"{grid.fingerprint} {number}".encode())
    for values in (sample.flux, sample.ivar):
        digest.update(np.ascontiguousarray(values).tobytes())
    for name, column in sample.table.items():
        digest.update(f"{name} {column.tolist()}".encode())
    return digest.hexdigest()[:16]


def free_memory(device: torch.device) -> float:
    """Return the bytes that this process may take on a device, of those that are free."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    # Not every system says what is free; a group of processes may be given less than the machine has.
    pages = next(name for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if name in os.sysconf_names)
    free = float(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (given := limit.read_text().strip()).isdigit():
        free = min(free, float(given))
    return free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
