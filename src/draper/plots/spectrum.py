"""Plots of spectra against wavelength."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from draper.data.spectra import Spectra, has_errors
from draper.plots.style import axes_or_new, styled

MAX_LEGEND = 8
"""Largest number of spectra that get a legend."""


@styled
def plot_spectra(spectra: Spectra, ax: Axes | None = None, *, offset: float = 0.0) -> Axes:
    """Draw each spectrum as a line and, for up to five, its error as a band; bad pixels are left out.

    Parameters
    ----------
    spectra
        A few spectra.
    ax
        Axes to draw in; by default those of a new figure.
    offset
        Offset between one spectrum and the next, so that they do not overlap.
    """
    ax = axes_or_new(ax)
    grid = spectra.grid
    axis = grid.vacuum if grid.is_spectral else np.arange(len(grid))
    unit = "Angstrom"
    if grid.is_spectral and axis[-1] > 2e4:
        axis, unit = axis / 1e4, "micron"
    shows_errors = has_errors(spectra) and len(spectra) <= 5
    for row, name in enumerate(spectra.ids):
        good = spectra.ivar[row] > 0
        flux = np.where(good, spectra.flux[row], np.nan) + row * offset
        style = {} if grid.is_spectral else {"marker": ".", "markersize": 3, "linewidth": 0.5}
        for number, piece in enumerate(grid.segments()):
            label = str(name) if number == 0 and len(spectra) <= MAX_LEGEND else None
            color = f"C{row % 10}"
            ax.plot(axis[piece], flux[piece], color=color, label=label, **style)  # type: ignore[arg-type]
            if shows_errors:
                sigma = 1 / np.sqrt(np.where(good, spectra.ivar[row], np.nan)[piece])
                ax.fill_between(
                    axis[piece],
                    flux[piece] - sigma,
                    flux[piece] + sigma,
                    color=color,
                    alpha=0.25,
                    linewidth=0,
                )
    ax.set_xlabel(f"vacuum wavelength [{unit}]" if grid.is_spectral else f"coefficient: {grid.extent}")
    ax.set_ylabel(f"{spectra.quantity} [{spectra.unit}]" if spectra.unit else spectra.quantity)
    if 0 < len(spectra) <= MAX_LEGEND:
        ax.legend(loc="best")
    return ax
