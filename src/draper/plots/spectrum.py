"""Plots of spectra against wavelength."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from draper.data.spectra import Spectra, has_errors
from draper.plots.axes import draw_band, draw_curve, spectral_axis
from draper.plots.names import label_name, shortened
from draper.plots.style import BESIDE, BLUE, COLORS, axes_or_new, styled

MAX_LINES = 8
"""Largest number of spectra that are drawn one by one."""

MAX_ERRORS = 5
"""Largest number of spectra whose errors are drawn."""

BANDS = (0.95, 0.68)
"""Central fractions of many spectra that are drawn as bands, the wider first."""

NAMED_BY = 3
"""Number of labels that name a spectrum without an id."""


@styled
def plot_spectra(spectra: Spectra, ax: Axes | None = None, *, offset: float | None = None) -> Axes:
    """Draw up to eight spectra as lines, and the distribution of more; bad pixels are left out.

    Parameters
    ----------
    spectra
        The spectra. Errors of up to five are bands; of more than eight, the median of each pixel and the
        central 68 and 95 % of its values are drawn.
    ax
        Axes to draw in; by default those of a new figure.
    offset
        Offset between one spectrum and the next. By default normalised spectra do not overlap, and others
        have none.
    """
    ax = axes_or_new(ax)
    flux = np.where(spectra.ivar > 0, spectra.flux, np.nan).astype(np.float64)
    is_many = len(spectra) > MAX_LINES
    if is_many:
        _draw_distribution(ax, spectra, flux)
        offset = 0.0
    else:
        offset = _free_offset(spectra, flux) if offset is None else offset
        _draw_lines(ax, spectra, flux + offset * np.arange(len(flux))[:, None])
    ax.set_xlabel(spectral_axis(spectra.grid)[1])
    name = f"{spectra.quantity} + offset" if offset else spectra.quantity
    ax.set_ylabel(f"{name} [{spectra.unit}]" if spectra.unit else name)
    if len(spectra):
        ax.legend(reverse=offset > 0, **BESIDE)
    return ax


def _draw_lines(ax: Axes, spectra: Spectra, flux: NDArray[np.float64]) -> None:
    style: dict[str, Any] = {} if spectra.grid.is_spectral else {"marker": ".", "linewidth": 0.5}
    shows_errors = has_errors(spectra) and len(spectra) <= MAX_ERRORS
    for row, name in enumerate(_names(spectra)):
        color = COLORS[len(ax.lines) % len(COLORS)]
        draw_curve(ax, spectra.grid, flux[row], color=color, label=name, **style)
        if shows_errors:
            sigma = 1 / np.sqrt(np.where(np.isfinite(flux[row]), spectra.ivar[row], np.nan))
            draw_band(ax, spectra.grid, flux[row] - sigma, flux[row] + sigma, color=color, alpha=0.25)


def _draw_distribution(ax: Axes, spectra: Spectra, flux: NDArray[np.float64]) -> None:
    known = np.asarray(np.isfinite(flux).any(axis=0))
    for band in BANDS:
        ends = np.full((2, len(known)), np.nan)
        ends[:, known] = np.nanquantile(flux[:, known], (0.5 - band / 2, 0.5 + band / 2), axis=0)
        text = f"{100 * band:.0f} % of {len(flux):,}"
        draw_band(ax, spectra.grid, *ends, color=BLUE, alpha=0.25, label=text)
    median = np.full(len(known), np.nan)
    median[known] = np.nanmedian(flux[:, known], axis=0)
    draw_curve(ax, spectra.grid, median, color=BLUE, label="median")


def _free_offset(spectra: Spectra, flux: NDArray[np.float64]) -> float:
    """Return the offset at which normalised spectra (n, p) do not overlap, and 0 for others."""
    good = flux[:, np.isfinite(flux).any(axis=0)]
    if len(flux) < 2 or good.size == 0 or spectra.quantity != "normalised flux":
        return 0.0
    return float(np.nanmax(good) - np.nanmin(good))


def _names(spectra: Spectra) -> list[str]:
    """Return the ids of spectra, or, where there are none, the values of the labels that tell them apart."""
    if "id" in spectra.table:
        return [shortened(name, 28) for name in spectra.ids]
    columns = {
        name: column
        for name, column in spectra.table.items()
        if column.dtype.kind == "f" and (len(spectra) == 1 or len(np.unique(column)) > 1)
    }
    rows = [
        ",\n".join(f"{label_name(name)} {column[row]:.4g}" for name, column in [*columns.items()][:NAMED_BY])
        for row in range(len(spectra))
    ]
    return [text or f"spectrum {row + 1}" for row, text in enumerate(rows)]
