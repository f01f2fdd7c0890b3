"""What every simulator does: labels in, spectra out, the same numbers however the rows are chunked."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data.grid import Grid
from draper.data.labels import LabelSet, canonical
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.nn.precision import one_thread

BLOCK = 256
"""Rows that are computed together. Blocks lie at fixed row numbers, so chunks cut differently agree."""

LABELS, NOISE, EXTRA = 0, 1, 2
"""Streams of random numbers that never meet."""

KEPT = 30 * 2**20
"""Bytes of an array that is freed once: from then on glibc keeps twice that at hand (it heeds up to 32 MB).
Else it returns memory after each step, and asking for it anew can cost more than computing the spectra."""

FloatArray = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]


def generator(seed: int, stream: int, block: int) -> np.random.Generator:
    """Return the random numbers of a block of rows.

    Examples
    --------
    >>> bool(generator(1, NOISE, 7).integers(100) == generator(1, NOISE, 7).integers(100))
    True
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, stream, block))))


def padded(labels: FloatArray, rows: int = BLOCK) -> FloatArray:
    """Return labels (n, l) with the last row repeated, so that there are always so many rows.

    Random numbers are drawn for whole blocks, and a matrix product may round otherwise for another number of
    rows: what a row becomes must not depend on how many there are.

    Examples
    --------
    >>> padded(np.array([[1.0], [2.0]]), 4).T
    array([[1., 2., 2., 2.]])
    """
    return np.concatenate([labels, np.repeat(labels[-1:], rows - len(labels), axis=0)])


def require_ratios(snr: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return a range of signal-to-noise ratios, or refuse it.

    Examples
    --------
    >>> require_ratios((20, 200)), require_ratios((np.inf, np.inf))
    ((20.0, 200.0), (inf, inf))
    """
    if snr is None:
        return None
    try:
        low, high = (float(end) for end in snr)
    except (TypeError, ValueError):
        low = high = np.nan
    if not 0 < low <= high or np.isfinite(low) != np.isfinite(high):
        raise DraperError(
            "this is no range of ratios",
            given=snr,
            expected="0 < low <= high; infinity stands alone",
            hint=f"such as {option_text('simulator.snr', (20, 200))}; one number for both ends is "
            f"{option_text('simulator.snr', 50)}, no noise is {option_text('simulator.snr', math.inf)}",
        )
    return low, high


class Simulator(ABC):
    """Makes spectra from labels.

    A final class sets ``grid`` and ``prior`` and computes blocks of rows (:meth:`compute`). Random numbers
    come from :func:`generator` for the absolute number of the block, never from elsewhere.

    Attributes
    ----------
    grid : Grid
        The pixels of what it makes.
    prior : LabelSet
        The labels it needs, and the box in which it can be trusted.
    optional : tuple of str
        Labels that are drawn where a table of labels has no such column.
    synonyms : dict
        What catalogues call its labels, beyond what :func:`~draper.data.labels.canonical` knows.
    """

    grid: Grid
    prior: LabelSet
    optional: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def compute(self, labels: FloatArray, seed: int, block: int) -> Spectra:
        """Return the spectra of at most ``BLOCK`` rows of labels (n, l), the block of this number."""

    def draw(self, n: int, seed: int, block: int) -> Columns:
        """Draw the labels of the first n rows of a block: uniform in the box unless a class knows better."""
        unit = generator(seed, LABELS, block).uniform(size=(BLOCK, len(self.prior)))[:n]
        return dict(zip(self.prior.names, self.prior.unscale(unit).T, strict=True))

    def simulate(self, labels: int | Mapping[str, ArrayLike], seed: int = 0) -> Spectra:
        """Make spectra of given labels (columns of equal length), or of as many as a number says.

        Parameters
        ----------
        labels
            Columns by name, or a number of spectra whose labels are drawn. Columns that are no labels are
            passed on to the table of the spectra.
        seed
            Decides everything that is random; 0 or larger.
        """
        return Spectra.concat(list(self.stream(labels, seed)))

    def count(self, labels: int | Mapping[str, ArrayLike]) -> int:
        """Return how many spectra labels, or a number, stand for."""
        if isinstance(labels, int):
            return labels
        needed = LabelSet(label for label in self.prior if label.name not in self.optional)
        return len(needed.read(self.named(labels)))

    def named(self, labels: Mapping[str, ArrayLike]) -> Columns:
        """Return columns, all of one length, under draper's names."""
        table: Columns = {}
        origin: dict[str, str] = {}
        for given, values in labels.items():
            known = given if given in self.prior.names else canonical(given)
            name = self.synonyms.get(known, known)
            if name in table:
                raise DraperError(
                    "two columns are the same label",
                    given=f"'{origin[name]}' and '{given}', both '{name}'",
                    hint="leave one of them out, or rename it",
                )
            table[name], origin[name] = np.atleast_1d(np.asarray(values)), given
        if len({len(values) for values in table.values()}) > 1:
            raise DraperError(
                "the columns differ in length",
                given=", ".join(f"{name}: {len(values)}" for name, values in table.items()),
                hint="give one value for each spectrum",
            )
        return table

    def blocks(self, labels: int | Mapping[str, ArrayLike]) -> int:
        """Return how many blocks :meth:`stream` yields."""
        return -(-self.count(labels) // BLOCK)

    def stream(self, labels: int | Mapping[str, ArrayLike], seed: int = 0) -> Iterator[Spectra]:
        """Yield the same spectra block by block, in constant memory."""
        if seed < 0:
            raise DraperError("a seed cannot be negative", given=seed, expected="0 or larger")
        given = None if isinstance(labels, int) else self.named(labels)
        total = self.count(labels)
        if total < 1:
            raise DraperError("there is nothing to simulate", given=f"{total} spectra", expected="at least 1")
        np.empty(KEPT, dtype=np.uint8)
        for start in range(0, total, BLOCK):
            count = min(BLOCK, total - start)
            table = None if given is None else {name: v[start : start + count] for name, v in given.items()}
            yield self.block(start // BLOCK, seed, count, table)

    @one_thread()
    def block(self, number: int, seed: int, count: int = BLOCK, given: Columns | None = None) -> Spectra:
        """Return the first rows of one block of an endless sequence of spectra.

        Parameters
        ----------
        number
            Of the block: its first row is ``number * BLOCK`` of the sequence.
        seed
            Decides everything that is random.
        count
            Rows, at most ``BLOCK``.
        given
            Columns (count,) under draper's names; labels are drawn unless given.
        """
        table = {} if given is None else given
        if given is None or not set(self.optional) <= set(table):
            drawn = self.draw(count, seed, number)
            wanted = drawn if given is None else self.optional
            table = {name: drawn[name] for name in wanted} | table
        values = self.prior.read(table)
        missing = ~np.isfinite(values).all(axis=0)
        if missing.any():
            raise DraperError(
                "a label is missing",
                given=", ".join(np.array(self.prior.names)[missing]),
                expected="a finite value in every row",
                hint="fill the column, or leave these rows out",
            )
        spectra = self.compute(values, seed, number)
        first = number * BLOCK
        ids = np.array([f"sim-{seed}-{row:07d}" for row in range(first, first + count)])
        columns = {**spectra.table, "outside_box": ~self.prior.inside(values)}
        twice = [name for name in given or () if name in columns and name not in self.prior.names]
        if twice:
            raise DraperError(
                "columns have the names of what is simulated",
                given=", ".join(twice),
                hint=f"rename them, '{twice[0]}_given' say, or leave them out; the labels are "
                f"{', '.join(self.prior.names)}",
            )
        return spectra.with_columns(**{"id": ids, **table, **columns})
