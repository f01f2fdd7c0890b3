"""The runs of a sweep: a figure against the varied options, with its range over seeds."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from draper.errors import DraperError, did_you_mean
from draper.plots.style import BESIDE, COLORS, axes_or_new, styled
from draper.results.sweep import Spread, SweepResult, number_or_text

APART, TOGETHER = 0.06, 0.7
"""Distance of the lines, and their greatest together, where that of two values of the first option is 1."""

MARKERS = "Dos^v"
"""Markers of lines: the second of them where colours start again, and so on."""

LONG = 80
"""Number of letters of all values of an option above which these are written at an angle."""


@styled
def plot_sweep(result: SweepResult, figure: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a figure of every run as a dot; lines are the medians over seeds, bars their ranges.

    Values of the first option are along the axis, and those of the others have lines of their own.

    Parameters
    ----------
    result
        From :func:`draper.models.search.sweep.sweep`.
    figure
        Name of a figure, such as ``error_teff``; the first objective by default.
    ax
        Where to draw; new axes by default.
    """
    figure = next(iter(result.objectives)) if figure is None else figure
    if figure not in result.figures:
        raise DraperError(f"the sweep has no figure '{figure}'", hint=did_you_mean(figure, result.figures))
    if all(run.test is None for run in result.runs):
        raise DraperError("no run of the sweep has finished", given=f"{len(result.runs)} runs")
    ax = axes_or_new(ax)
    places: dict[str, int] = {}
    apart = min(APART, TOGETHER / len({setting[1:] for setting in result.settings()}))
    lines: dict[str, list[tuple[float, Spread]]] = {}
    for (setting, runs), row in zip(result.settings().items(), result.summary(), strict=True):
        first, *others = setting or (("", "all seeds"),)
        place = float(places.setdefault(first[1], len(places)))
        name = ", ".join(f"{option} = {value}" for option, value in others)
        lines.setdefault(name, [])
        place += apart * list(lines).index(name)
        lines[name].append((place, row[figure]))
        values = [run.test.columns().get(figure, np.nan) for run in runs if run.test is not None]
        color = COLORS[list(lines).index(name) % len(COLORS)]
        ax.plot([place] * len(values), values, "o", color=color, markersize=4, alpha=0.4)
    has_words = any(isinstance(number_or_text(value), str) for value in places)
    for number, (name, points) in enumerate(lines.items()):
        x = [place for place, _ in points]
        low, median, high = np.array([(one.low, one.median, one.high) for _, one in points]).T
        ax.errorbar(
            x,
            median,
            (median - low, high - median),
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number // len(COLORS) % len(MARKERS)],
            markersize=4 if apart == APART else 2.5,
            capsize=3 if apart == APART else 0,
            linestyle="none" if has_words else "-",
            label=name or None,
        )
    ax.set_xticks(list(places.values()), list(places))
    if sum(map(len, places)) > LONG:
        ax.tick_params(axis="x", rotation=60)
    ax.margins(x=0.15 / len(places) if len(places) > 1 else 0.15)
    options = list(result.runs[0].settings)
    ax.set_xlabel(options[0] if options else "")
    ax.set_ylabel(result.objectives.get(figure, figure.replace("_", " ")))
    if any(lines):
        ax.legend(**BESIDE)
    return ax
