"""The swap test: stars get one label of similar stars, and the labels of the new spectra are measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper import atomic_write
from draper.errors import DraperError
from draper.results.table import writable, write_table

FloatArray = NDArray[np.float64]

MAX_DIFFERENCE = 0.07
"""Maximum difference of the other labels between star and donor, in units of their ranges."""

MIN_CHANGE = 0.15
"""Minimum change of the swapped label, in units of its range."""

MIN_STARS = 10
"""Minimum number of stars with a donor for a figure."""

Move = Callable[[NDArray[np.int64], int, FloatArray], FloatArray]
"""Takes k rows, the number of a label and its changes (k,); returns measured changes of all labels (k, d)."""


@dataclass(frozen=True, eq=False, repr=False)
class Swap:
    """Requested and measured changes of d labels.

    Attributes
    ----------
    names : tuple of str
        The labels.
    width : ndarray (d,)
        Their ranges, which contain 98 % of the stars.
    rows : tuple of ndarray (k,)
        For each label, the stars with a donor.
    asked : tuple of ndarray (k,)
        For each label, the requested changes.
    moved : tuple of ndarray (k, d)
        For each label, the measured changes of all labels.
    """

    names: tuple[str, ...]
    width: FloatArray
    rows: tuple[NDArray[np.int64], ...]
    asked: tuple[FloatArray, ...]
    moved: tuple[FloatArray, ...]

    def slope(self, name: str, measured: str | None = None) -> float:
        """Return the slope of measured against requested changes, both in units of the ranges.

        The measured label is the changed one unless given. By least squares through the origin; NaN where too
        few stars have a donor.
        """
        asked, moved = self._changes(name, measured or name)
        return float(asked @ moved / (asked @ asked)) if len(asked) >= MIN_STARS else np.nan

    def median_error(self, name: str, measured: str | None = None) -> float:
        """Return the median absolute error of a measured change, as a fraction of the requested change."""
        asked, moved = self._changes(name, measured or name)
        error = moved - asked if measured in (None, name) else moved
        return float(np.median(np.abs(error / asked))) if len(asked) >= MIN_STARS else np.nan

    def _changes(self, name: str, measured: str) -> tuple[FloatArray, FloatArray]:
        """Return requested and measured changes (k,) in units of the ranges."""
        row, column = self.names.index(name), self.names.index(measured)
        return self.asked[row] / self.width[row], self.moved[row][:, column] / self.width[column]

    def to_json(self) -> dict[str, Any]:
        """Return all figures as JSON values; None where there are too few stars."""

        def finite(value: float) -> float | None:
            return value if np.isfinite(value) else None

        return {
            name: {
                "stars": len(asked),
                "slope": finite(self.slope(name)),
                "median_error": finite(self.median_error(name)),
                "others": {
                    other: {
                        "slope": finite(self.slope(name, other)),
                        "median": finite(self.median_error(name, other)),
                    }
                    for other in self.names
                    if other != name
                },
            }
            for name, asked in zip(self.names, self.asked, strict=True)
        }

    def table(self) -> dict[str, NDArray[Any]]:
        """Return one row for each change: label, row of the star, requested change, measured changes."""
        counts = [len(asked) for asked in self.asked]
        moved = np.concatenate(self.moved)
        return {
            "label": np.repeat(np.array(self.names), counts),
            "row": np.concatenate(self.rows),
            "asked": np.concatenate(self.asked),
            **{f"{name}_read": moved[:, number] for number, name in enumerate(self.names)},
        }

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the figures as .json, or single changes as .csv, .ecsv, .fits or .parquet."""
        path = writable(path, also=(".json",))
        if path.suffix != ".json":
            return write_table(self.table(), path, {}, overwrite=overwrite)
        text = json.dumps(self.to_json(), indent=1, allow_nan=False)
        return atomic_write.write(path, text, overwrite=overwrite)

    def __repr__(self) -> str:
        head = "change of".ljust(12) + "stars".rjust(6) + "slope".rjust(8) + "error".rjust(8)
        lines = ["Swap test: measured changes of labels, in units of their ranges", ""]
        lines += [head + "   slopes of the others"]
        for name, asked in zip(self.names, self.asked, strict=True):
            others = ", ".join(
                f"{other} {self.slope(name, other):+.3f}" for other in self.names if other != name
            )
            figures = f"{self.slope(name):8.3f}{self.median_error(name):8.1%}"
            lines.append(f"{name:<12}{len(asked):6}{figures}   {others}")
        return "\n".join(lines)


def measure_swap(
    move: Move, labels: ArrayLike, others: ArrayLike, names: Sequence[str], seed: int = 0
) -> Swap:
    """Change each label of stars to that of a donor, and measure the changes of all labels.

    A donor has similar values of all other labels, so that the new combination is one that stars have; the
    size of the change is random.

    Parameters
    ----------
    move
        Changes a label of some stars and measures the changes of all labels.
    labels, others : array (n, d), (m, d)
        Labels of the stars, and of the possible donors.
    names
        The d labels.
    seed
        Seed of the choice of donors.

    Examples
    --------
    >>> stars = np.random.default_rng(0).uniform(size=(500, 2))
    >>> def move(rows, changed, change):
    ...     return np.outer(change, [1.0, 0.05] if changed == 0 else [0.0, 0.9])
    >>> swap = measure_swap(move, stars[:100], stars, ["teff", "logg"])
    >>> round(swap.slope("teff"), 3), round(swap.slope("teff", "logg"), 2)
    (1.0, 0.05)
    >>> round(swap.median_error("logg"), 3)
    0.1
    """
    values, given = (np.asarray(array, dtype=np.float64) for array in (labels, others))
    if values.ndim != 2 or given.ndim != 2 or not values.shape[1] == given.shape[1] == len(names):
        raise DraperError(
            "the labels of a swap test are one column each",
            given=f"shapes {values.shape} and {given.shape}",
            expected=f"{len(names)} columns",
        )
    given = given[np.isfinite(given).all(axis=1)]
    if len(given) == 0:
        raise DraperError("no star has all labels, so there is no donor", expected=", ".join(names))
    low, high = np.percentile(given, (1, 99), axis=0)
    width = np.where(high > low, high - low, 1.0)
    rows, asked, moved = [], [], []
    for number in range(len(names)):
        donor = donors(values, given, number, width, seed)
        changed = np.flatnonzero(donor >= 0)
        change = given[donor[changed], number] - values[changed, number]
        rows.append(changed)
        asked.append(change)
        moved.append(move(changed, number, change) if len(changed) else np.empty((0, len(names))))
    return Swap(tuple(names), width, tuple(rows), tuple(asked), tuple(moved))


def donors(
    labels: FloatArray, others: FloatArray, swapped: int, width: FloatArray, seed: int
) -> NDArray[np.int64]:
    """Return for each star (n, d) the row of its donor among others (m, d), -1 where none is similar."""
    random = np.random.default_rng(seed)
    rest = np.arange(labels.shape[1]) != swapped
    chosen = np.full(len(labels), -1)
    for row, star in enumerate(labels):
        apart = np.abs(others - star) / width
        similar = np.flatnonzero(
            (apart[:, rest] < MAX_DIFFERENCE).all(axis=1) & (apart[:, swapped] > MIN_CHANGE)
        )
        if len(similar):
            # Uniform in the new label, not in the stars: most of these are near.
            wanted = random.uniform(others[similar, swapped].min(), others[similar, swapped].max())
            chosen[row] = similar[np.abs(others[similar, swapped] - wanted).argmin()]
    return chosen


def changes_by_label(swap: Swap) -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]]:
    """Return requested and measured changes by label, for :func:`draper.plots.relabelled.plot_swap`."""
    numbered = list(enumerate(swap.names))
    return (
        {name: swap.asked[number] for number, name in numbered},
        {name: swap.moved[number][:, number] for number, name in numbered},
    )
