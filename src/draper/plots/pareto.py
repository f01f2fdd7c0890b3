"""The trials of a search: one objective against another, or against an option."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from draper.errors import DraperError, did_you_mean
from draper.plots.axes import logarithmic
from draper.plots.style import BESIDE, BLUE, RED, axes_or_new, styled
from draper.results.trials import FloatArray, SearchResult

FAINT = "#AAAAAA"
"""Colour of trials that are not among the best."""

NAMED = 20
"""Largest number of trials of a front whose numbers are written; of more, only the ends and the knee."""

WIDE = 5.0
"""Ratio of the values on an axis beyond which it is logarithmic."""


def plot_search(result: SearchResult, ax: Axes | None = None) -> Axes:
    """Draw a search: the Pareto front of several objectives, or the values of one.

    One objective is drawn against the option, if one is searched, and against the number of the trial if
    several are.
    """
    if len(result.objectives) > 1:
        return plot_pareto(result, ax)
    options = list(result.trials[0].settings) if result.trials else []
    return plot_objective(result, options[0] if len(options) == 1 else None, ax)


@styled
def plot_pareto(result: SearchResult, ax: Axes | None = None) -> Axes:
    """Draw every trial, the Pareto front, and its knee; of more than two objectives the first two.

    Filled dots are figures on the validation part, which the search has used; hollow ones those on the test
    part. Numbers are those of the trials.

    Parameters
    ----------
    result
        From :func:`draper.models.search.tune.tune`.
    ax
        Where to draw; new axes by default.
    """
    _require_finished(result)
    ax = axes_or_new(ax)
    best = {trial.number for trial in result.front}
    others = result.points([trial for trial in result.trials if trial.number not in best])[:, :2]
    size = _size(len(result.trials))
    if len(others):
        ax.plot(
            *others.T, "o", color=FAINT, markersize=0.8 * size, alpha=0.6, label="dominated", rasterized=True
        )
    front, test = result.points(result.front)[:, :2], result.points(result.front, "test")[:, :2]
    ax.step(*front.T, where="post", color=BLUE, alpha=0.6, zorder=3)
    ax.plot(*front.T, "o", color=BLUE, markersize=size, zorder=4, label="Pareto front")
    tested = np.isfinite(test).all(axis=1)
    for (x, y), (x_test, y_test) in zip(front[tested], test[tested], strict=True):
        ax.plot([x, x_test], [y, y_test], color=BLUE, linewidth=0.5, alpha=0.6)
    _draw_test(ax, test[:, 0], test[:, 1], size)
    ends = (result.front[0], result.front[-1], result.chosen)
    for trial, (x, y) in zip(result.front, front, strict=True):
        if len(front) <= NAMED or trial in ends:
            _name(ax, trial.number, x, y)
    _draw_chosen(ax, *result.points([trial for trial in result.trials if trial is result.chosen])[0, :2])
    if _is_wide(result.points(result.trials)[:, 0]):
        ax.set_xscale("log")
        logarithmic(ax.xaxis)
    x_label, y_label = list(result.objectives.values())[:2]
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.legend(**BESIDE)
    return ax


@styled
def plot_objective(result: SearchResult, option: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the first objective of every trial, against an option or the number of the trial.

    Against the number, a line shows the best value so far. Filled dots are figures on the validation part;
    the hollow one is the best trial on the test part.

    Parameters
    ----------
    result
        From :func:`draper.models.search.tune.tune`.
    option
        Name of a searched option; by default the number of the trial.
    ax
        Where to draw; new axes by default.
    """
    _require_finished(result)
    ax = axes_or_new(ax)
    known = result.trials[0].settings
    if option is not None and option not in known:
        raise DraperError(f"the search has not varied '{option}'", hint=did_you_mean(option, known))
    x = np.array([t.number if option is None else t.settings[option] for t in result.trials], dtype=float)
    y, test = (result.points(result.trials, part)[:, 0] for part in ("valid", "test"))
    size = _size(len(x))
    ax.plot(x, y, "o", color=BLUE, markersize=size, label="validation part", rasterized=True)
    if option is None:
        ax.set_xlim(x.min() - 0.5 - 0.01 * len(x), x.max() + 0.5 + 0.01 * len(x))
        ax.step(x, np.fmin.accumulate(y), where="post", color=BLUE, alpha=0.6, label="best so far")
    _draw_test(ax, x, test, size)
    row = next(row for row, trial in enumerate(result.trials) if trial is result.chosen)
    _draw_chosen(ax, x[row], y[row])
    _name(ax, result.trials[row].number, x[row], y[row])
    if option is not None and _is_wide(x):
        ax.set_xscale("log")
        logarithmic(ax.xaxis)
    if _is_wide(y):
        ax.set_yscale("log")
        logarithmic(ax.yaxis)
    if option is None:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlabel(option or "trial")
    ax.set_ylabel(next(iter(result.objectives.values())))
    ax.legend(**BESIDE)
    return ax


def _require_finished(result: SearchResult) -> None:
    if result.chosen is None:
        raise DraperError("no trial of the search has finished", given=f"{len(result.trials)} trials")


def _size(trials: int) -> float:
    """Return the size of dots so that they do not hide each other."""
    return float(np.clip(60 / np.sqrt(trials), 1.5, 5))


def _draw_test(ax: Axes, x: FloatArray, y: FloatArray, size: float) -> None:
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 0.2 * size}
    ax.plot(x, y, "o", color=BLUE, markersize=size, zorder=4, label="test part", **hollow)


def _draw_chosen(ax: Axes, x: float, y: float) -> None:
    ax.plot([x], [y], "o", color=RED, markerfacecolor="none", markersize=12, label="chosen", zorder=5)


def _name(ax: Axes, number: int, x: float, y: float) -> None:
    ax.annotate(str(number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8, color=BLUE)


def _is_wide(values: FloatArray) -> bool:
    """Return whether positive values differ by so much that their axis should be logarithmic."""
    known = values[np.isfinite(values)]
    return bool(known.min() > 0 and known.max() > WIDE * known.min())
