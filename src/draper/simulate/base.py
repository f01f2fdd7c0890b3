"""What every simulator does: labels in, spectra out, the same numbers however the rows are chunked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError

BLOCK = 256
"""Rows that are computed together. Blocks lie at fixed row numbers, so chunks cut differently agree."""

LABELS, NOISE = 0, 1
"""Streams of random numbers that never meet."""

KEPT = 30 * 2**20
"""Bytes of an array that is freed once: from then on glibc keeps twice that at hand (it heeds up to 32 MB).
Else it returns memory after each step, and asking for it anew can cost more than computing the spectra."""

Columns = dict[str, NDArray[Any]]


def generator(seed: int, stream: int, block: int) -> np.random.Generator:
    """Return the random numbers of a block of rows.

    Examples
    --------
    >>> bool(generator(1, NOISE, 7).integers(100) == generator(1, NOISE, 7).integers(100))
    True
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, stream, block))))


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
        Labels that are drawn where a table of labels lacks them.
    """

    grid: Grid
    prior: LabelSet
    optional: tuple[str, ...] = ()

    @abstractmethod
    def compute(self, labels: NDArray[np.float64], seed: int, block: int) -> Spectra:
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
            Columns by name, or a number of spectra whose labels are drawn.
        seed
            Decides everything that is random.
        """
        return Spectra.concat(list(self.stream(labels, seed)))

    def count(self, labels: int | Mapping[str, ArrayLike]) -> int:
        """Return how many spectra labels, or a number, stand for."""
        if isinstance(labels, int):
            return labels
        given = LabelSet(label for label in self.prior if label.name not in self.optional)
        return len(given.read({name: np.atleast_1d(values) for name, values in labels.items()}))

    def blocks(self, labels: int | Mapping[str, ArrayLike]) -> int:
        """Return how many blocks :meth:`stream` yields."""
        return -(-self.count(labels) // BLOCK)

    def stream(self, labels: int | Mapping[str, ArrayLike], seed: int = 0) -> Iterator[Spectra]:
        """Yield the same spectra block by block, in constant memory."""
        given = None if isinstance(labels, int) else {k: np.atleast_1d(v) for k, v in labels.items()}
        total = self.count(labels)
        if total < 1:
            raise DraperError("there is nothing to simulate", given=f"{total} spectra", expected="at least 1")
        np.empty(KEPT, dtype=np.uint8)
        for start in range(0, total, BLOCK):
            block, count = start // BLOCK, min(BLOCK, total - start)
            rows = slice(start, start + count)
            table = {} if given is None else {name: values[rows] for name, values in given.items()}
            if given is None or not set(self.optional) <= set(table):
                drawn = self.draw(count, seed, block)
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
            spectra = self.compute(values, seed, block)
            ids = np.array([f"sim-{seed}-{row:07d}" for row in range(start, start + count)])
            flags = {"outside_box": ~self.prior.inside(values)}
            yield spectra.with_columns(**{"id": ids, **table, **spectra.table, **flags})
