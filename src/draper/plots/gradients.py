"""Gradients of spectra by labels, and the pixels that hold the information on each label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.labels import Label
from draper.data.lines import strong_lines
from draper.errors import DraperError
from draper.plots.axes import draw_band, draw_curve, limit_to, spectral_axis
from draper.plots.names import label_name, rounded
from draper.plots.overlay import name_lines
from draper.plots.style import BLACK, COLORS, free_figure, styled
from draper.results.information import Information, enough

SHARE = "#999999"
"""Colour of the cumulative information."""

ROW, TOP = 1.0, 1.5
"""Heights of a label's panel and of the spectrum [inch]."""


@styled
def plot_gradients(
    information: Information,
    names: Sequence[str] | None = None,
    *,
    star: int = 0,
    figure: Figure | None = None,
) -> Figure:
    """Draw the spectrum of a star, and for each label its gradient and the cumulative information.

    Gradients are in per cent of the continuum, per 100 K, 0.1 dex or 1 km/s. The grey line is the cumulative
    share of the information on the label alone: it is steep where the label is measured.

    Parameters
    ----------
    information
        From an emulator.
    names
        Labels to draw; all free quantities by default.
    star
        Number of the star.
    figure
        Figure to draw in; a new one by default.
    """
    names = list(information.names if names is None else names)
    columns = [information.index(name) for name in names]
    if not 0 <= star < len(information):
        raise DraperError("there is no such star", given=star, expected=f"0 to {len(information) - 1}")
    if figure is None:
        figure = free_figure(9.5, TOP + ROW * len(names) + 0.5)
    panels = figure.subplots(
        len(names) + 1,
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [TOP, *[ROW] * len(names)]},
    )[:, 0]
    grid, used = information.grid, information.ivar[star] > 0
    flux = np.where(used, information.flux[star], np.nan).astype(np.float64)
    draw_curve(panels[0], grid, flux, color=BLACK, linewidth=0.8)
    name_lines(panels[0], grid, flux, flux, strong_lines())
    panels[0].set_ylabel("flux", fontsize=8)
    panels[0].tick_params(axis="y", labelsize=8)
    cumulative = np.cumsum(information.pixels[star], axis=0)
    for row, (ax, name, number) in enumerate(zip(panels[1:], names, columns, strict=True)):
        label = information.labels[number]
        step = enough(label) or float(information.values[star, number]) / 10 or 1.0
        change = np.where(used, 100 * step * information.gradients[star, :, number], np.nan)
        draw_label(ax, grid, change, cumulative[:, number], COLORS[row % 6])
        ax.set_title(label_name(name), loc="left", fontsize=10, fontweight="bold", pad=3, color=BLACK)
        ax.set_title(
            bound_text(label, information, star, number), loc="right", fontsize=8, pad=3, color="#444444"
        )
        ax.set_ylabel(f"% per\n{step:g}{f' {label.unit}' if label.unit else ''}", fontsize=8)
        ax.tick_params(axis="y", labelsize=8)
    limit_to(panels[0], grid)
    panels[-1].set_xlabel(spectral_axis(grid)[1])
    figure.align_ylabels(panels)
    return figure


def draw_label(
    ax: Axes,
    grid: Grid,
    change: NDArray[np.float64],
    cumulative: NDArray[np.float64],
    color: str,
) -> None:
    """Draw the change (q,) of a spectrum, and the cumulative information (q,) behind it."""
    whole = float(cumulative[-1])
    if whole > 0:
        behind = ax.twinx()
        draw_band(behind, grid, cumulative / whole, color=SHARE, alpha=0.13)
        draw_curve(behind, grid, cumulative / whole, color=SHARE, linewidth=0.9)
        behind.set_ylim(0, 1.02)
        behind.set_yticks([0, 0.5, 1], ["0", "50", "100 %"])
        behind.tick_params(labelsize=7, colors=SHARE, length=0)
        behind.grid(False)
        ax.set_zorder(behind.get_zorder() + 1)
        ax.patch.set_visible(False)
    draw_band(ax, grid, change, color=color, alpha=0.35)
    draw_curve(ax, grid, change, color=color, linewidth=0.8)
    ax.axhline(0, color=BLACK, linewidth=0.4)
    reach = float(np.nanmax(np.abs(change))) if np.isfinite(change).any() else 0.0
    ax.set_ylim(-1.12 * reach or -1.0, 1.12 * reach or 1.0)
    ax.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))


def bound_text(label: Label, information: Information, star: int, number: int) -> str:
    """Return the bound as text."""
    unit = f" {label.unit}" if label.unit else ""
    bound, alone = information.bound[star, number], information.conditional[star, number]
    parts = [f"{rounded(float(error), signed=False)}{unit}" for error in (bound, alone)]
    return f"smallest error {parts[0]}, all else known {parts[1]}"
