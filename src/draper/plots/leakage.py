"""Leakage of latents: R2 of probes for each label, between floor and ceiling."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from draper.latents.leakage import Leakage, figure_text
from draper.plots.names import label_name
from draper.plots.style import BLACK, COLORS, free_figure, styled

SPAN = "#DDDDDD"
"""Colour of the span from floor to ceiling."""

ROWS = (0.8, 0.45)
"""Height of a label's row [inch] where labels are few, and least height, which two lines of text need."""

TALL = 12.0
"""Height [inch] up to which rows keep their height."""

MARKERS = "osD^v"
"""Markers of the probes."""

LOWEST = -0.15
"""Smallest R2 that is drawn in its place: below 0 a probe predicts worse than the mean."""


@styled
def plot_leakage(leakage: Leakage, *, figure: Figure | None = None) -> Figure:
    """Draw R2 of every probe of the latents for each label, with its error.

    The grey bar goes from the floor, R2 of a removed label from kept ones, to the ceiling, R2 from the
    spectra; kept labels have no floor. The markers of a removed label should lie at the left end of its bar,
    and those of a kept one at the right. Hollow markers are predictions from latents and kept labels
    together. R2 below -0.15 is an arrow at the left edge, with its value.

    Parameters
    ----------
    leakage
        From :func:`draper.latents.leakage.measure_leakage`.
    figure
        Where to draw; a new figure unless given.
    """
    if figure is None:
        count = len(leakage.names)
        figure = free_figure(8.0, 1.3 + max(min(ROWS[0] * count, TALL), ROWS[1] * count))
    ax = figure.subplots()
    rows = np.arange(len(leakage.names))
    floor = np.nan_to_num(leakage.value["floor"])
    ceiling = np.maximum(leakage.value["ceiling"], LOWEST)
    ax.barh(rows, ceiling - floor, 0.7, left=floor, color=SPAN, zorder=1, label="floor to ceiling")
    gap = 0.6 / len(leakage.probes)
    for number, kind in enumerate(leakage.probes):
        at = rows + gap * (number - (len(leakage.probes) - 1) / 2)
        color = COLORS[number % len(COLORS)]
        style: dict[str, Any] = {"fmt": MARKERS[number % len(MARKERS)], "color": color, "markersize": 5}
        _draw(ax, leakage, "latents", number, at, {**style, "label": kind})
        if leakage.kept and leakage.removed:
            legend = {"label": "with kept labels"} if number == 0 else {}
            _draw(
                ax, leakage, "both", number, at + 0.3 * gap, {**style, "markerfacecolor": "white", **legend}
            )
    for row, name in enumerate(leakage.names):
        ax.text(
            1.02,
            row,
            _text_beside(leakage, name),
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=8,
        )
    ax.axvline(0, color=BLACK, linewidth=0.8, zorder=2)
    ax.set_xlim(min(-0.03, ax.get_xlim()[0]), 1.02)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_yticks(rows, [label_name(name) for name in leakage.names])
    ax.set_xlabel("R2 on held-out spectra")
    ax.grid(visible=False, axis="y")
    figure.legend(loc="outside upper center", ncols=len(leakage.probes) + 2)
    return figure


def _draw(
    ax: Axes, leakage: Leakage, source: str, number: int, at: NDArray[Any], style: dict[str, Any]
) -> None:
    """Draw R2 of one probe from a source."""
    value, error = leakage.value[source][:, number], leakage.error[source][:, number]
    inside = np.where(value < LOWEST, np.nan, value)
    ax.errorbar(inside, at, xerr=error, elinewidth=1, zorder=3, **style)
    for row in np.flatnonzero(value < LOWEST):
        fill = style.get("markerfacecolor", style["color"])
        ax.plot(LOWEST, at[row], "<", color=style["color"], markerfacecolor=fill, markersize=6, zorder=3)
        ax.annotate(
            f"{value[row]:.2f}",
            (LOWEST, at[row]),
            # Side by side: the two markers of a probe are nearer to each other than a line of text is high.
            xytext=(6 if source == "latents" else 34, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=style["color"],
        )


def _text_beside(leakage: Leakage, name: str) -> str:
    """Return the text beside the row of a label."""
    figures, errors = leakage.value, leakage.error
    row = leakage.names.index(name)

    def pair(key: str) -> str:
        text = figure_text(figures[key][row], errors[key][row], is_leak=key != "kept_ratio")
        return text.replace("+-", "±")

    if name in leakage.kept:
        return f"kept {pair('kept_ratio')}"
    given = f"\ngiven kept {pair('best_conditional')}" if leakage.kept else ""
    return f"leak alone {pair('best_leak')}{given}"
