"""Runs of a sweep: many options and seeds, one table, and the spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.results.trials import Figures, columns_of


@dataclass(frozen=True)
class Run:
    """One training of a sweep.

    Attributes
    ----------
    name
        Of its folder in ``runs/``.
    settings
        Values of the varied options, as text.
    seed
        Of the training.
    seconds
        Duration of training and evaluation.
    test
        Figures on the test part; None where the training diverged.
    """

    name: str
    settings: Mapping[str, str]
    seed: int
    seconds: float
    test: Figures | None


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds of one setting; NaN where every training diverged."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.median):
            return "-"
        return f"{self.median:.4g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class SweepResult:
    """The runs of a sweep.

    Attributes
    ----------
    model
        Name of the model.
    objectives
        What each objective is, by its name; the smaller, the better.
    runs
        In their order.
    """

    model: str
    objectives: Mapping[str, str]
    runs: tuple[Run, ...]

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of all figures, the objectives first."""
        names = [name for run in self.runs if run.test for name in run.test.columns()]
        return tuple(dict.fromkeys([*self.objectives, *names]))

    def settings(self) -> dict[tuple[tuple[str, str], ...], list[Run]]:
        """Return the runs of each setting, in the order of the sweep."""
        groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
        for run in self.runs:
            groups.setdefault(tuple(run.settings.items()), []).append(run)
        return groups

    def summary(self) -> list[dict[str, Any]]:
        """Return for each setting its values, how many runs finished, and a :class:`Spread` per figure."""
        rows = []
        for setting, runs in self.settings().items():
            finished = [run.test.columns() for run in runs if run.test is not None]
            row: dict[str, Any] = {**dict(setting), "runs": len(runs), "diverged": len(runs) - len(finished)}
            for name in self.figures:
                row[name] = spread([figures[name] for figures in finished if name in figures])
            rows.append(row)
        return rows

    def table(self) -> dict[str, NDArray[Any]]:
        """Return one row a run: settings, seed, figures on the test part, seconds."""
        rows = [
            {
                "run": run.name,
                **{name: number_or_text(text) for name, text in run.settings.items()},
                "seed": run.seed,
                **({} if run.test is None else run.test.columns()),
                "seconds": run.seconds,
                "diverged": run.test is None,
            }
            for run in self.runs
        ]
        return columns_of(rows)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        summary = [
            {name: asdict(value) if isinstance(value, Spread) else value for name, value in row.items()}
            for row in self.summary()
        ]
        runs = [asdict(run) for run in self.runs]
        return {"model": self.model, "objectives": dict(self.objectives), "runs": runs, "settings": summary}


def spread(values: list[float]) -> Spread:
    """Return median, smallest and largest of the finite values.

    Examples
    --------
    >>> print(spread([0.3, 0.1, 0.2]))
    0.2 (0.1 to 0.3)
    """
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return Spread(np.nan, np.nan, np.nan)
    return Spread(float(np.median(finite)), min(finite), max(finite))


def number_or_text(text: str) -> float | str:
    """Return the number that a text says, or the text.

    Examples
    --------
    >>> number_or_text("8"), number_or_text("1e-3"), number_or_text("bins")
    (8, 0.001, 'bins')
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
