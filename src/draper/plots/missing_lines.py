"""Lines that synthetic spectra lack: mean spectra, and the missing responses to elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from draper.errors import DraperError
from draper.plots.axes import draw_band, draw_curve, spectral_axis
from draper.plots.style import BLACK, BLUE, COLORS, RED, free_figure, styled
from draper.results.missing_lines import UNKNOWN, LineTable

ROW, TOP, MOST = 1.0, 1.8, 8
"""Heights of an element's panel and of the spectra [inch], and the largest number of elements drawn."""


@styled
def plot_missing_lines(
    found: LineTable, elements: Sequence[str] | None = None, *, figure: Figure | None = None
) -> Figure:
    """Draw the mean spectra, and for each element the response that synthetic spectra lack, with its noise.

    Shaded: features that were found, each at its most likely element; lighter if it is a blend.

    Parameters
    ----------
    found
        Result of :func:`draper.models.translator.lines.new_lines`.
    elements
        Elements to draw; by default those of features, most frequent first, at most eight.
    figure
        Figure to draw in; a new one by default.
    """
    if elements is None:
        counts = {name: int((found.element == name).sum()) for name in found.elements}
        ranked = sorted(counts, key=lambda name: -counts[name])
        elements = [name for name in ranked if counts[name]][:MOST] or ranked[:1]
    if unknown := [name for name in elements if name not in found.elements]:
        raise DraperError(
            "this element was not compared", given=unknown[0], expected=", ".join(found.elements)
        )
    if figure is None:
        figure = free_figure(9.5, TOP + ROW * len(elements) + 0.5)
    panels = figure.subplots(
        len(elements) + 1,
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [TOP, *[ROW] * len(elements)]},
    )[:, 0]
    axis, title = spectral_axis(found.grid)
    edges = found.grid.bounds * (axis[-1] / found.grid.vacuum[-1])
    for flux, color, name in zip(found.flux, (RED, BLUE), ("synthetic", "observed"), strict=True):
        draw_curve(panels[0], found.grid, flux, color=color, linewidth=0.8, label=name)
    panels[0].set_ylabel("mean flux", fontsize=8)
    panels[0].legend(loc="lower right", ncols=2)
    for row, (ax, name) in enumerate(zip(panels[1:], elements, strict=True)):
        number, color = found.elements.index(name), COLORS[row % len(COLORS)]
        noise = found.noise[number]
        draw_band(ax, found.grid, -noise, noise, color=BLACK, alpha=0.2)
        draw_curve(ax, found.grid, -found.difference[number], color=color, linewidth=0.8)
        for at in np.flatnonzero(found.element == name):
            ax.axvspan(
                edges[found.first[at], 0],
                edges[found.last[at], 1],
                color=color,
                alpha=0.15 if found.blended[at] else 0.3,
                linewidth=0,
            )
        ax.set_title(name, loc="left", fontsize=10, fontweight="bold", pad=3, color=BLACK)
        ax.set_ylabel("depth" if name == UNKNOWN else "depth / dex", fontsize=8)
    for ax in panels:
        ax.tick_params(axis="y", labelsize=8)
        ax.margins(x=0.01)
    panels[-1].set_xlabel(title)
    return figure
