"""Plot of the history of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from draper.errors import DraperError
from draper.plots.axes import logarithmic
from draper.plots.style import BLACK, COLORS, free_figure, styled

COLUMNS = 4
"""Largest number of panels side by side."""

WIDE = 3.0
"""Ratio of positive losses above which their axis is logarithmic; below, it would look the same."""

TRAINING: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.55}
HELD_OUT: dict[str, Any] = {"linewidth": 1.8}
"""Lines of losses on the training set and on the held-out set."""

Row = Mapping[str, float]


@styled
def plot_history(rows: Sequence[Row], *, figure: Figure | None = None) -> Figure:
    """Draw every loss against the step, each term of each player in a panel; held-out losses are thick.

    The losses of the last player, those of the model itself, come first. Terms whose names differ after the
    last underscore alone, such as ``cycle_synthetic`` and ``cycle_observed``, share a panel. An axis is
    logarithmic where all its values are positive and differ by more than a factor of three.

    Parameters
    ----------
    rows
        Those of ``history.csv``: ``step``, ``PLAYER/TERM``, and ``valid/PLAYER/TERM``, or ``valid/TERM`` for
        the last player.
    figure
        Where to draw; a new figure by default.

    Examples
    --------
    >>> rows = [{"step": 10, "train/total": 2.0, "valid/total": 2.1}, {"step": 20, "train/total": 1.0}]
    >>> [ax.get_title() for ax in plot_history(rows).axes]
    ['total']
    """
    panels = _panels(rows)
    if not panels:
        raise DraperError("there is no history to draw", hint="train for at least one step")
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    if figure is None:
        figure = free_figure(max(5.0, 2.7 * columns), 2.0 * lines + 0.8)
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False)
    names = list(dict.fromkeys(name for terms in panels.values() for name in terms if len(terms) > 1))
    for place, ax in enumerate(grid.flat):
        if place >= len(panels):
            ax.remove()
            continue
        title = [*panels][place]
        for name, (train, valid) in panels[title].items():
            color = COLORS[(names.index(name) if name in names else 0) % len(COLORS)]
            _draw(ax, rows, train, {"color": color, **TRAINING})
            _draw(ax, rows, valid, {"color": color, **HELD_OUT})
        values = [y for line in ax.lines for y in np.asarray(line.get_ydata())]
        if min(values) > 0 and max(values) > WIDE * min(values):
            ax.set_yscale("log")
            logarithmic(ax.yaxis)
        ax.set_title(title)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.tick_params(labelsize=8, which="both")
        if place + columns >= len(panels):  # no panel below
            ax.tick_params(labelbottom=True)
            ax.set_xlabel("step")
    handles = [Line2D([], [], color=BLACK, label="training", **TRAINING)]
    if any(name.startswith("valid/") for row in rows for name in row):
        handles.append(Line2D([], [], color=BLACK, label="held out", **HELD_OUT))
    handles += [Line2D([], [], color=COLORS[n % len(COLORS)], label=name) for n, name in enumerate(names)]
    figure.legend(handles=handles, loc="outside upper center", ncols=8)
    return figure


def _panels(rows: Sequence[Row]) -> dict[str, dict[str, tuple[str, str]]]:
    """Return by title and term the columns of its losses on the training set and on the held-out set."""
    terms: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        player, _, term = name.partition("/")
        if term and player != "valid":
            terms.setdefault(player, []).append(term)
    panels: dict[str, dict[str, tuple[str, str]]] = {}
    for player in reversed(terms):
        group = "valid" if player == [*terms][-1] else f"valid/{player}"
        stems = [term.rpartition("_")[0] for term in terms[player]]
        for term in sorted(terms[player], key=lambda term: term != "total"):
            stem, _, end = term.rpartition("_")
            shown, name = (stem, end) if stem and stems.count(stem) > 1 else (term, term)
            title = shown if len(terms) == 1 else f"{player}: {shown}"
            panels.setdefault(title, {})[name] = f"{player}/{term}", f"{group}/{term}"
    return panels


def _draw(ax: Axes, rows: Sequence[Row], column: str, style: dict[str, Any]) -> None:
    """Draw a column of a history where it has values; a single value is a dot."""
    points = np.array([(row["step"], row[column]) for row in rows if column in row]).reshape(-1, 2)
    dot: dict[str, Any] = {"marker": "o", "markersize": 4} if len(points) == 1 else {}
    ax.plot(*points.T, **style, **dot)
