"""The swap test: stars get a label of others like them, and what the spectra then say is read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper import atomic
from draper.errors import DraperError
from draper.results.table import writable, write_table

FloatArray = NDArray[np.float64]

NEAR = 0.07
"""How much another label of the donor differs at most, in units of the range."""

FAR = 0.15
"""How much the swapped label differs at least."""

FEWEST = 10
"""Stars with a donor that a figure needs."""

Move = Callable[[NDArray[np.int64], int, FloatArray], FloatArray]
"""Returns how labels (k, d), as they are read back, move when one of k rows is changed by something (k,)."""


@dataclass(frozen=True, eq=False, repr=False)
class Swap:
    """What is read back of changes of d labels.

    Attributes
    ----------
    names : tuple of str
        The labels.
    width : ndarray (d,)
        Their ranges, which hold 98 % of the stars.
    rows : tuple of ndarray (k,)
        For each label, the stars that had a donor.
    asked : tuple of ndarray (k,)
        For each label, the changes asked for.
    moved : tuple of ndarray (k, d)
        For each label, how all labels moved.
    """

    names: tuple[str, ...]
    width: FloatArray
    rows: tuple[NDArray[np.int64], ...]
    asked: tuple[FloatArray, ...]
    moved: tuple[FloatArray, ...]

    def slope(self, name: str, read: str | None = None) -> float:
        """Return how much a label moves for each unit that another, or itself, is changed by; both in ranges.

        By least squares through the origin; NaN where too few stars had a donor.
        """
        asked, moved = self._shares(name, read or name)
        return float(asked @ moved / (asked @ asked)) if len(asked) >= FEWEST else np.nan

    def typical(self, name: str, read: str | None = None) -> float:
        """Return the median size of what is wrong, as a fraction of the change; both in ranges."""
        asked, moved = self._shares(name, read or name)
        wrong = moved - asked if read in (None, name) else moved
        return float(np.median(np.abs(wrong / asked))) if len(asked) >= FEWEST else np.nan

    def _shares(self, name: str, read: str) -> tuple[FloatArray, FloatArray]:
        row, column = self.names.index(name), self.names.index(read)
        return self.asked[row] / self.width[row], self.moved[row][:, column] / self.width[column]

    def to_json(self) -> dict[str, Any]:
        """Return all figures as JSON values; None where there are too few stars."""

        def known(value: float) -> float | None:
            return value if np.isfinite(value) else None

        return {
            name: {
                "stars": len(asked),
                "slope": known(self.slope(name)),
                "median_error": known(self.typical(name)),
                "others": {
                    other: {
                        "slope": known(self.slope(name, other)),
                        "median": known(self.typical(name, other)),
                    }
                    for other in self.names
                    if other != name
                },
            }
            for name, asked in zip(self.names, self.asked, strict=True)
        }

    def table(self) -> dict[str, NDArray[Any]]:
        """Return one row for each change: the label, the row of the star, what was asked, what was read."""
        counts = [len(asked) for asked in self.asked]
        moved = np.concatenate(self.moved)
        return {
            "label": np.repeat(np.array(self.names), counts),
            "row": np.concatenate(self.rows),
            "asked": np.concatenate(self.asked),
            **{f"{name}_read": moved[:, number] for number, name in enumerate(self.names)},
        }

    def write(self, path: str | Path) -> Path:
        """Write the figures as .json, or single changes as .csv, .ecsv or .fits."""
        path = writable(path, also=(".json",))
        if path.suffix != ".json":
            return write_table(self.table(), path, {})
        return atomic.write(path, json.dumps(self.to_json(), indent=1, allow_nan=False))

    def __repr__(self) -> str:
        head = "change of".ljust(12) + "stars".rjust(6) + "slope".rjust(8) + "error".rjust(8)
        lines = ["Swap test: what is read back of changed labels, in units of their ranges", ""]
        lines += [head + "   slopes of the others"]
        for name, asked in zip(self.names, self.asked, strict=True):
            others = ", ".join(
                f"{other} {self.slope(name, other):+.3f}" for other in self.names if other != name
            )
            figures = f"{self.slope(name):8.3f}{self.typical(name):8.1%}"
            lines.append(f"{name:<12}{len(asked):6}{figures}   {others}")
        return "\n".join(lines)


def measure_swap(
    move: Move, labels: ArrayLike, others: ArrayLike, names: Sequence[str], seed: int = 0
) -> Swap:
    """Change each label of stars to that of a donor, and ask how labels move.

    A donor is like the star in all other labels, so that the new combination is one that stars have; how far
    it differs in the one that is swapped is left to chance.

    Parameters
    ----------
    move
        Changes labels and reads them back.
    labels, others : array (n, d), (m, d)
        Labels of the stars, and of those that may give.
    names
        The d labels.
    seed
        Of the choice of donors.

    Examples
    --------
    >>> stars = np.random.default_rng(0).uniform(size=(500, 2))
    >>> def move(rows, changed, change):
    ...     return np.outer(change, [1.0, 0.05] if changed == 0 else [0.0, 0.9])
    >>> found = measure_swap(move, stars[:100], stars, ["teff", "logg"])
    >>> round(found.slope("teff"), 3), round(found.slope("teff", "logg"), 2), round(found.typical("logg"), 3)
    (1.0, 0.05, 0.1)
    """
    values, given = (np.asarray(one, dtype=np.float64) for one in (labels, others))
    if values.ndim != 2 or given.ndim != 2 or not values.shape[1] == given.shape[1] == len(names):
        raise DraperError(
            "the labels of a swap test are one column each", given=f"shapes {values.shape} and {given.shape}",
            expected=f"{len(names)} columns",
        )  # fmt: skip
    given = given[np.isfinite(given).all(axis=1)]
    if len(given) == 0:
        raise DraperError("no star has all labels, so none can give one", expected=", ".join(names))
    low, high = np.percentile(given, (1, 99), axis=0)
    width = np.where(high > low, high - low, 1.0)
    rows, asked, moved = [], [], []
    for number in range(len(names)):
        donor = donors(values, given, number, width, seed)
        some = np.flatnonzero(donor >= 0)
        change = given[donor[some], number] - values[some, number]
        rows.append(some)
        asked.append(change)
        moved.append(move(some, number, change) if len(some) else np.empty((0, len(names))))
    return Swap(tuple(names), width, tuple(rows), tuple(asked), tuple(moved))


def donors(
    labels: FloatArray, others: FloatArray, swapped: int, width: FloatArray, seed: int
) -> NDArray[np.int64]:
    """Return for each star (n, d) a row of the others (m, d) that gives its label, -1 where none is alike."""
    random = np.random.default_rng(seed)
    rest = np.arange(labels.shape[1]) != swapped
    found = np.full(len(labels), -1)
    for row, star in enumerate(labels):
        apart = np.abs(others - star) / width
        alike = np.flatnonzero((apart[:, rest] < NEAR).all(axis=1) & (apart[:, swapped] > FAR))
        if len(alike):
            # Even in the new label, not in the stars: most of these are near.
            wanted = random.uniform(others[alike, swapped].min(), others[alike, swapped].max())
            found[row] = alike[np.abs(others[alike, swapped] - wanted).argmin()]
    return found


def as_columns(swap: Swap) -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]]:
    """Return the changes asked for and read back by label, as :func:`plot_swap` draws them."""
    numbered = list(enumerate(swap.names))
    return (
        {name: swap.asked[number] for number, name in numbered},
        {name: swap.moved[number][:, number] for number, name in numbered},
    )
