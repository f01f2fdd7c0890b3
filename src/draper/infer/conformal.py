"""Split-conformal calibration: quantiles and scores made to hold on held-out rows, in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.errors import DraperError

FloatArray = NDArray[np.float64]

LEAST = 39
"""Rows that a calibration needs at least: fewer have no 2.5 % quantile."""

ENOUGH = 150
"""Rows that a finer group, such as ``spectrum 3``, needs. With fewer, ``spectrum`` is nearly as alike."""

KEPT = 1000
"""Scores that are kept of the held-out rows."""

NARROWEST = 1e-12


def width_of(levels: FloatArray, quantiles: FloatArray) -> FloatArray:
    """Return half of the spread (n, l) of quantiles (n, q, l) between those nearest to 16 and 84 %."""
    low, high = (int(np.abs(levels - level).argmin()) for level in (0.16, 0.84))
    return np.maximum((quantiles[:, high] - quantiles[:, low]) / 2, NARROWEST)


def conformal_rank(number: int, level: float) -> int:
    """Return which of ``number`` sorted scores bounds a fraction ``level`` of new ones, from 0.

    A new score lies at each place among them with equal probability: one more than there are scores.

    Examples
    --------
    >>> conformal_rank(99, 0.9), conformal_rank(9, 0.05)
    (89, 0)
    """
    upper = int(np.ceil((number + 1) * level)) - 1
    lower = int(np.floor((number + 1) * level)) - 1
    # Below the median the lower rank errs on the side of wider intervals, too.
    return int(np.clip(upper if level >= 0.5 else lower, 0, number - 1))


@dataclass(frozen=True)
class ConformalQuantiles:
    """Shifts that make quantiles hold, in units of their own width, for each group of rows.

    A quantile at level t is moved so that a share t of the held-out values of its group lies below. Shifts
    have either sign: intervals that are too wide become narrower (Romano et al. 2019, with signed scores).

    Attributes
    ----------
    levels : ndarray (q,)
        Probabilities of the quantiles.
    shifts : mapping of str to ndarray (q, l)
        By group. A finer group with few rows, such as ``spectrum 3``, takes the shift of the first word of
        its name; ``""`` is all of them, for a kind of which there is hardly any.
    numbers : mapping of str to ndarray (l,)
        Rows of each group.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(4000, 1))
    >>> too_wide = np.broadcast_to(np.array([-1.5, 0.0, 1.5])[:, None], (4000, 3, 1))
    >>> measured = ConformalQuantiles.measure([0.16, 0.5, 0.84], too_wide, truth, [""] * 4000)
    >>> measured(too_wide[:1], [""])[0, [0, 2], 0].round(1)
    array([-1.,  1.])
    """

    levels: FloatArray
    shifts: Mapping[str, FloatArray]
    numbers: Mapping[str, NDArray[np.int64]]

    @classmethod
    def measure(
        cls, levels: ArrayLike, quantiles: FloatArray, truth: FloatArray, groups: Sequence[str]
    ) -> Self:
        """Measure the shifts on held-out rows.

        Parameters
        ----------
        levels
            Probabilities (q,).
        quantiles
            Predicted quantiles (n, q, l).
        truth
            True values (n, l); NaN where unknown.
        groups
            Group of each row.
        """
        levels = np.asarray(levels, dtype=np.float64)
        width = width_of(levels, quantiles)
        scores = (truth[:, None] - quantiles) / width[:, None]
        names = np.asarray(groups)
        shifts, numbers = {}, {}
        first = np.array([name.partition(" ")[0] for name in names.tolist()])
        for name in ["", *sorted({*names.tolist(), *first.tolist()} - {""})]:
            rows = np.ones(len(names), dtype=bool) if name == "" else (names == name) | (first == name)
            own = scores[rows]
            known = np.isfinite(own).all(axis=1)
            counts = known.sum(axis=0)
            table = np.full(own.shape[1:], np.nan)
            for label, count in enumerate(counts):
                # Rows of another kind are unlike these: few of one's own are better than many of theirs.
                if count < (ENOUGH if " " in name else LEAST):
                    continue
                ordered = np.sort(own[known[:, label], :, label], axis=0)
                ranks = [conformal_rank(int(count), float(level)) for level in levels]
                table[:, label] = ordered[ranks, np.arange(len(levels))]
            shifts[name], numbers[name] = table, counts
        return cls(levels, shifts, numbers)

    def __call__(self, quantiles: FloatArray, groups: Sequence[str]) -> FloatArray:
        """Return quantiles (n, q, l) moved by the shifts of their groups, in increasing order."""
        if quantiles.shape[1] != len(self.levels):
            raise DraperError(
                "these quantiles are not those that were calibrated",
                given=f"{quantiles.shape[1]} levels",
                expected=f"{len(self.levels)}: {', '.join(f'{level:g}' for level in self.levels)}",
            )
        own = {name: self._shift_of(name) for name in set(groups)}
        moves = np.array([own[name] for name in groups]).reshape(len(groups), *self.shifts[""].shape)
        moved = quantiles + moves * width_of(self.levels, quantiles)[:, None]
        ordered: FloatArray = np.sort(moved, axis=1)
        return ordered

    def _shift_of(self, name: str) -> FloatArray:
        """Return the shift of a group, or of the next larger one that has rows enough."""
        found = np.nan_to_num(self.shifts[""])
        for key in (name.partition(" ")[0], name):
            if key in self.shifts:
                found = np.where(np.isfinite(self.shifts[key]), self.shifts[key], found)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "levels": self.levels.tolist(),
            "shifts": {
                name: [[None if np.isnan(x) else float(x) for x in row] for row in table]
                for name, table in self.shifts.items()
            },
            "numbers": {name: counts.tolist() for name, counts in self.numbers.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` described."""
        return cls(
            np.array(data["levels"]),
            {name: np.array(table, dtype=np.float64) for name, table in data["shifts"].items()},
            {name: np.array(counts) for name, counts in data["numbers"].items()},
        )


@dataclass(frozen=True)
class ConformalScores:
    """Scores of held-out rows by group, against which new ones are p values.

    A group that was not measured, such as ``spectrum 3``, takes that of the first word of its name, or all.
    Above the largest held-out score, p values fall exponentially, at the rate of the upper tenth.

    Examples
    --------
    >>> known = ConformalScores.measure(np.arange(99.0), [""] * 99)
    >>> known([98.0, -1.0, 49.5], [""] * 3), bool(known([110.0], [""])[0] < 1e-3)
    (array([0.02, 1.  , 0.5 ]), True)
    """

    scores: Mapping[str, FloatArray]
    numbers: Mapping[str, int]

    @classmethod
    def measure(cls, scores: ArrayLike, groups: Sequence[str]) -> Self:
        """Keep the scores (n,) of held-out rows, or as many quantiles of them."""
        values, names = np.asarray(scores, dtype=np.float64), np.asarray(groups)
        kept, numbers = {}, {}
        for name in ["", *sorted(set(names.tolist()) - {""})]:
            own = values if name == "" else values[names == name]
            own = np.sort(own[np.isfinite(own)])
            if len(own) >= LEAST:
                numbers[name] = len(own)
                places = np.linspace(0, len(own) - 1, min(KEPT, len(own)))
                kept[name] = own[places.round().astype(int)]
        return cls(kept, numbers)

    def __call__(self, scores: ArrayLike, groups: Sequence[str]) -> FloatArray:
        """Return the probability (n,) of scores at least as large; NaN where nothing was measured."""
        values = np.asarray(scores, dtype=np.float64)
        found = np.full(len(values), np.nan)
        names = np.asarray(groups)
        for name in np.unique(names):
            rows = (names == name) & np.isfinite(values)
            key = next((one for one in (str(name), str(name).partition(" ")[0]) if one in self.scores), "")
            if key in self.scores:
                own = self.scores[key]
                above = len(own) - np.searchsorted(own, values[rows], side="left")
                tail = own[-max(len(own) // 10, 2) :]
                rate = max(float(tail.mean() - tail[0]), NARROWEST)
                beyond = np.maximum(values[rows] - own[-1], 0) / rate
                found[rows] = (above + 1) / (len(own) + 1) * np.exp(-beyond)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        rounded = {name: [float(f"{x:.5g}") for x in own] for name, own in self.scores.items()}
        return {"scores": rounded, "numbers": dict(self.numbers)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` described."""
        return cls({name: np.array(own) for name, own in data["scores"].items()}, dict(data["numbers"]))
