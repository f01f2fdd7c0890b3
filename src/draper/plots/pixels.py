"""Errors of a model's spectra against observed ones: pixel by pixel and star by star."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from draper.data.labels import Label
from draper.plots.axes import draw_band, draw_curve, logarithmic, spectral_axis
from draper.plots.names import rounded, with_unit
from draper.plots.style import BLACK, BLUE, RED, axes_or_new, free_figure, styled
from draper.results.metrics import Residuals

PAIRS = (("teff", "logg"), ("teff", "fe_h"), ("logg", "fe_h"), ("fe_h", "vmic"))
"""Planes of labels in which errors are drawn."""

REVERSED = {"teff", "logg"}
"""Axes that are reversed if both are on a plot, as in the Kiel diagram."""


@styled
def plot_pixel_errors(residuals: Residuals, figure: Figure | None = None) -> Figure:
    """Draw against wavelength the mean spectrum, the rms error, and the mean error with its scatter."""
    figure = free_figure(9.0, 6.4) if figure is None else figure
    top, middle, bottom = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [1, 1.2, 1.2]})
    grid, mean, sigma = residuals.grid, residuals.mean, residuals.sigma
    draw_curve(top, grid, residuals.mean_spectrum, color=BLACK)
    draw_curve(middle, grid, residuals.rms, color=BLUE)
    draw_band(bottom, grid, mean - sigma, mean + sigma, color=BLUE, alpha=0.3)
    draw_curve(bottom, grid, mean, color=BLUE)
    bottom.axhline(0, color=BLACK, linewidth=0.6)
    if np.isfinite(residuals.rms).any():
        typical = float(np.nanmedian(residuals.rms))
        middle.axhline(typical, color=RED, linestyle="--", label=f"median {rounded(typical, signed=False)}")
        middle.set_ylim(0, float(np.nanmax(residuals.rms)) * 1.15 or 1.0)
        middle.legend(loc="upper right")
    top.set_ylabel("mean spectrum")
    middle.set_ylabel("rms error")
    bottom.set_ylabel("mean error, +- 1 sigma")
    bottom.set_xlabel(spectral_axis(grid)[1])
    top.set_title(f"model - observed, {residuals.what}")
    return figure


@styled
def plot_spectrum_errors(residuals: Residuals, ax: Axes | None = None) -> Axes:
    """Draw the distribution of the rms error of single spectra, with its median and 99th percentile."""
    ax = axes_or_new(ax)
    values = residuals.spectrum_rms[np.isfinite(residuals.spectrum_rms) & (residuals.spectrum_rms > 0)]
    ax.set_xlabel(f"rms error of a spectrum [{residuals.what}]")
    ax.set_ylabel("spectra")
    if len(values) == 0:
        ax.text(0.5, 0.5, "no spectrum has a good pixel", transform=ax.transAxes, ha="center")
        return ax
    low, high = values.min(), values.max()
    low, high = (low * 0.9, high * 1.1) if high < 1.2 * low else (low, high)
    number = int(np.clip(2 * np.sqrt(len(values)), 8, 60))
    ax.hist(values, bins=list(np.geomspace(low, high, number)), color=BLUE, alpha=0.7)
    for quantile, style, name in ((0.5, "-", "median"), (0.99, "--", "99 % are below")):
        at = float(np.quantile(values, quantile))
        ax.axvline(at, color=RED, linestyle=style, label=f"{name} {rounded(at, signed=False)}")
    if high > 3 * low:
        ax.set_xscale("log")
        logarithmic(ax.xaxis)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.02, y=0.2)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return ax


@styled
def plot_over_labels(
    values: NDArray[Any],
    table: Mapping[str, NDArray[Any]],
    pairs: Sequence[tuple[str, str]] = PAIRS,
    *,
    what: str = "rms error",
    figure: Figure | None = None,
) -> Figure:
    """Draw a number for each star as colour in planes of labels, to show where in the grid a model is wrong.

    Parameters
    ----------
    values
        Positive numbers (n,), such as the rms error of each spectrum.
    table
        Columns (n,); pairs of missing columns are left out.
    pairs
        The planes: horizontal and vertical label.
    what
        Meaning of the colour.
    figure
        Figure to draw in; a new one by default.
    """
    from matplotlib.colors import LogNorm

    planes = [pair for pair in pairs if set(pair) <= set(table)]
    columns = min(2, max(1, len(planes)))
    rows = max(1, -(-len(planes) // columns))
    figure = free_figure(4.4 * columns + 0.8, 3.5 * rows) if figure is None else figure
    panels = figure.subplots(rows, columns, squeeze=False)
    good = np.isfinite(values) & (values > 0)
    order = np.argsort(np.where(good, values, -1))[np.count_nonzero(~good) :]
    low, high = np.quantile(values[good], [0.01, 0.99]) if good.any() else (0.1, 1.0)
    spread = max(1.0, 2 / np.sqrt(high / low))  # a colour bar covers a factor of four at least
    norm = LogNorm(low / spread, high * spread)
    drawn = None
    for number, ax in enumerate(panels.flat):
        if number >= len(planes):
            ax.remove()
            continue
        x, y = planes[number]
        drawn = ax.scatter(
            np.asarray(table[x])[order],
            np.asarray(table[y])[order],
            c=values[order],
            norm=norm,
            cmap="cividis_r",
            linewidths=0,
            rasterized=True,
            s=float(np.clip(400 / np.sqrt(len(order) + 1), 5, 22)),
        )
        ax.set_xlabel(with_unit(Label(x)))
        ax.set_ylabel(with_unit(Label(y)))
        if {x, y} == REVERSED:
            ax.invert_yaxis()
        if x == "teff":
            ax.invert_xaxis()
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=figure.axes, aspect=35, extend="both")
        logarithmic(bar.ax.yaxis)
        bar.set_label(what)
    return figure
