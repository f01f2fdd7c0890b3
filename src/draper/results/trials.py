"""Trials of a search for options: their figures, the Pareto front of the best, and the one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """How good a model is on spectra that it has not seen.

    Attributes
    ----------
    objectives
        What models are compared by; the smaller, the better.
    others
        What is reported beside the objectives, such as the errors of labels.
    shortfall
        By how much a constraint is missed: at most 0 where it is met, or where there is none.
    """

    objectives: Mapping[str, float]
    others: Mapping[str, float] = field(default_factory=dict)
    shortfall: float = 0.0

    def columns(self) -> dict[str, float]:
        """Return all figures by name, the objectives first."""
        return {**self.objectives, **self.others}


@dataclass(frozen=True)
class Trial:
    """One training with options that a search has proposed.

    Attributes
    ----------
    number
        From 0.
    settings
        Values of the searched options.
    seconds
        Duration of training and evaluation.
    valid
        Figures on the validation part; None where the training diverged.
    test
        Figures on the test part; only the best trials have them.
    """

    number: int
    settings: Mapping[str, float]
    seconds: float
    valid: Figures | None
    test: Figures | None = None


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search.

    Attributes
    ----------
    model
        Name of the model.
    objectives
        What each objective is, by its name; all are minimised.
    trials
        In their order.
    constraint
        What a trial must fulfil to be among the best, in words; empty if anything will do.
    beside
        Names of other figures that tables show beside the objectives.
    """

    model: str
    objectives: Mapping[str, str]
    trials: tuple[Trial, ...]
    constraint: str = ""
    beside: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the figures that tables show, the objectives first."""
        return (*self.objectives, *self.beside)

    @property
    def finished(self) -> tuple[Trial, ...]:
        """Trials whose training did not diverge."""
        return tuple(trial for trial in self.trials if trial.valid is not None)

    @property
    def admissible(self) -> tuple[Trial, ...]:
        """Finished trials that meet the constraint."""
        return tuple(trial for trial in self.finished if trial.valid and trial.valid.shortfall <= 0)

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """The Pareto front: trials with no other that is at least as good in every objective.

        It is sorted by the first objective. With one objective it is the best trial alone. If no trial meets
        the constraint, it is the front of all finished trials.
        """
        trials = self.admissible or self.finished
        return tuple(trials[row] for row in pareto_front(self.points(trials)))

    @property
    def chosen(self) -> Trial | None:
        """The knee of the front on the validation part; None if no trial has finished."""
        return self.front[knee(self.points(self.front))] if self.front else None

    def points(self, trials: Sequence[Trial], part: str = "valid") -> FloatArray:
        """Return the objectives (n, k) of trials, NaN where they were not evaluated on the part."""
        points = np.full((len(trials), len(self.objectives)), np.nan)
        for row, trial in enumerate(trials):
            figures: Figures | None = getattr(trial, part)
            if figures is not None:
                points[row] = [figures.objectives[name] for name in self.objectives]
        return points

    def table(self) -> dict[str, NDArray[Any]]:
        """Return one row a trial: its settings and figures, those on the test part as ``test_...``."""
        rows = []
        best = {trial.number for trial in self.front}
        chosen = self.chosen
        for trial in self.trials:
            row: dict[str, Any] = {"trial": trial.number, **trial.settings, "seconds": trial.seconds}
            row |= {} if trial.valid is None else trial.valid.columns()
            row |= {
                "best": trial.number in best,
                "chosen": trial is chosen,
                "diverged": trial.valid is None,
            }
            row |= {} if trial.test is None else {f"test_{k}": v for k, v in trial.test.columns().items()}
            rows.append(row)
        columns = columns_of(rows)
        return dict(sorted(columns.items(), key=lambda column: column[0].startswith("test_")))

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        best = {trial.number for trial in self.front}
        return {
            "model": self.model,
            "objectives": dict(self.objectives),
            "constraint": self.constraint,
            "chosen": None if self.chosen is None else self.chosen.number,
            "trials": [{**asdict(trial), "best": trial.number in best} for trial in self.trials],
        }


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Return rows as columns by name, NaN where a row lacks a value."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


def pareto_front(points: ArrayLike) -> NDArray[np.int64]:
    """Return the rows of the Pareto front, sorted by the first column; of equal rows the first.

    Parameters
    ----------
    points : array (n, k)
        Objectives that are minimised.

    Examples
    --------
    >>> pareto_front([[1, 3], [2, 2], [3, 2.5], [3, 1], [1, 3]])
    array([0, 1, 3])
    >>> pareto_front([[2.0], [1.0], [1.0]])
    array([1])
    """
    values = np.asarray(points, dtype=np.float64)
    front: list[int] = []
    # A row can only be dominated by one that sorts before it.
    for row in np.lexsort(values.T[::-1]) if len(values) else ():
        if not (values[front] <= values[row]).all(axis=1).any():
            front.append(int(row))
    return np.array(front, dtype=np.int64)


def knee(points: ArrayLike) -> int:
    """Return the point of a front that is nearest to the best of all objectives, in units of their ranges.

    Parameters
    ----------
    points : array (n, k)
        A Pareto front.

    Examples
    --------
    >>> knee([[1.0, 0.9], [1.1, 0.1], [3.0, 0.0]])
    1
    """
    values = np.asarray(points, dtype=np.float64)
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    return int(np.square((values - low) / np.where(span > 0, span, 1)).sum(axis=1).argmin())
