"""What a search has tried: two figures for each trial, the front of the best, and the one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """How good a model is on spectra that it has not seen.

    Attributes
    ----------
    reconstruction
        How far the reconstructions are from the spectra; see :attr:`Tuning.measure`.
    leaks, conditional
        Of each removed label: between 0, what kept labels tell of it, and 1, what spectra tell, the part that
        latents tell, and latents and kept labels together.
    kept
        Of each kept label: how much of what spectra tell of it latents tell.
    """

    reconstruction: float
    leaks: Mapping[str, float]
    conditional: Mapping[str, float]
    kept: Mapping[str, float]

    @property
    def leak(self) -> float:
        """The largest leak, of latents alone or beside kept labels; 0 at least: less is chance."""
        return max(0.0, *self.leaks.values(), *self.conditional.values())

    @property
    def least_kept(self) -> float:
        """The smallest ratio of the kept labels; NaN if none is kept."""
        return min(self.kept.values(), default=np.nan)

    def columns(self) -> dict[str, float]:
        """Return all figures by name."""
        return {
            "reconstruction": self.reconstruction,
            "leak": self.leak,
            **{f"leak_{name}": value for name, value in self.leaks.items()},
            **{f"conditional_{name}": value for name, value in self.conditional.items()},
            **{f"kept_{name}": value for name, value in self.kept.items()},
        }


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes
    ----------
    number
        From 0.
    settings
        The values that were tried, by option.
    seconds
        It took.
    valid
        Figures on the validation part; None where the training diverged.
    test
        Figures on the test part, which only the best are judged by.
    """

    number: int
    settings: Mapping[str, float]
    seconds: float
    valid: Judged | None
    test: Judged | None = None


@dataclass(frozen=True)
class Tuning:
    """A search.

    Attributes
    ----------
    model
        Name of the model.
    measure
        What the reconstruction is judged by.
    trials
        In their order.
    least_kept
        Ratio of the kept labels below which a trial does not count; None for no such limit.
    """

    model: str
    measure: str
    trials: tuple[Tried, ...]
    least_kept: float | None = None

    @property
    def keeps_enough(self) -> bool:
        """Whether any trial keeps as much as was asked for; the front is that of all trials if none does."""
        return bool(self._counting[0])

    @property
    def _counting(self) -> tuple[list[Tried], list[Tried]]:
        """Trials that keep enough, and all that ended."""
        ended = [one for one in self.trials if one.valid is not None]
        if self.least_kept is None:
            return ended, ended
        return [one for one in ended if one.valid and one.valid.least_kept >= self.least_kept], ended

    @cached_property
    def front(self) -> tuple[Tried, ...]:
        """Trials that no other beats in both reconstruction and leak, from the best reconstruction on."""
        enough, ended = self._counting
        trials = enough or ended
        return tuple(trials[row] for row in front(self.points(trials)))

    @property
    def chosen(self) -> Tried | None:
        """The knee of the front, by the validation part; None if no trial has ended."""
        return self.front[knee(self.points(self.front))] if self.front else None

    @staticmethod
    def points(trials: Sequence[Tried], part: str = "valid") -> FloatArray:
        """Return reconstruction and leak (n, 2) of trials, NaN where they were not judged."""
        judged = [getattr(one, part) for one in trials]
        found = [(np.nan, np.nan) if one is None else (one.reconstruction, one.leak) for one in judged]
        return np.array(found, dtype=np.float64).reshape(-1, 2)

    def table(self) -> dict[str, NDArray[Any]]:
        """Return one row for each trial: its settings and figures, those of the test part as ``test_...``."""
        rows = []
        best = {one.number for one in self.front}
        chosen = self.chosen
        for one in self.trials:
            row: dict[str, Any] = {"trial": one.number, **one.settings, "seconds": one.seconds}
            row |= {} if one.valid is None else one.valid.columns()
            row |= {"best": one.number in best, "chosen": one is chosen, "diverged": one.valid is None}
            row |= {} if one.test is None else {f"test_{k}": v for k, v in one.test.columns().items()}
            rows.append(row)
        names = list(dict.fromkeys(name for row in rows for name in row))
        names.sort(key=lambda name: name.startswith("test_"))
        return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        best = {one.number for one in self.front}
        return {
            "model": self.model,
            "measure": self.measure,
            "least_kept": self.least_kept,
            "chosen": None if self.chosen is None else self.chosen.number,
            "trials": [{**asdict(one), "best": one.number in best} for one in self.trials],
        }


def front(points: ArrayLike) -> NDArray[np.int64]:
    """Return the rows that no other beats in both columns, by the first column; of equal ones the first.

    Parameters
    ----------
    points : array (n, 2)
        What is to be small.

    Examples
    --------
    >>> front([[1, 3], [2, 2], [3, 2.5], [3, 1], [1, 3]])
    array([0, 1, 3])
    """
    values = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    order = np.lexsort((values[:, 1], values[:, 0]))
    least = np.minimum.accumulate(values[order, 1])
    return order[np.concatenate([[True], values[order[1:], 1] < least[:-1]])] if len(order) else order


def knee(points: ArrayLike) -> int:
    """Return which point of a front is nearest to the best of both, each in units of its range.

    Parameters
    ----------
    points : array (n, 2)
        A front.

    Examples
    --------
    >>> knee([[1.0, 0.9], [1.1, 0.1], [3.0, 0.0]])
    1
    """
    values = np.asarray(points, dtype=np.float64)
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    return int(np.square((values - low) / np.where(span > 0, span, 1)).sum(axis=1).argmin())
