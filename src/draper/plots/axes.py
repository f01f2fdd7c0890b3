"""Axes that plots share: wavelengths with open gaps, and logarithms."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from draper.data.grid import Grid

FloatArray = NDArray[np.float64]

WIDE_STEP = 5.0
"""A step to the next pixel that is larger than all steps near it by this factor is a gap."""


def spectral_axis(grid: Grid) -> tuple[FloatArray, str]:
    """Return the positions (p,) of the pixels of a grid on the axis, and the title of the axis."""
    if not grid.is_spectral:
        return np.arange(len(grid), dtype=np.float64), f"coefficient: {grid.extent}"
    if grid.vacuum[-1] > 2e4:
        return grid.vacuum / 1e4, "vacuum wavelength [micron]"
    return grid.vacuum, "vacuum wavelength [Angstrom]"


def broken(grid: Grid, *values: ArrayLike) -> list[FloatArray]:
    """Return the positions of the pixels on the axis, and values (p,), with NaN in every gap.

    Gaps are those between the windows of a grid, and steps that are much wider than those around them: files
    seldom say where a chip ends.

    Examples
    --------
    >>> grid = Grid.from_wavelength([4000, 4001, 4002, 4050, 4051], medium="vacuum")
    >>> broken(grid, [1, 2, 3, 4, 5])[1]
    array([ 1.,  2.,  3., nan,  4.,  5.])
    """
    starts = {piece.start for piece in grid.segments()[1:]}
    if grid.is_spectral:
        steps = np.diff(grid.vacuum)
        near = np.pad(steps, 2)
        widest = np.max([near[:-4], near[1:-3], near[3:-1], near[4:]], axis=0)
        starts |= {int(pixel) + 1 for pixel in np.flatnonzero((steps > WIDE_STEP * widest) & (widest > 0))}
    columns = (np.asarray(column, dtype=np.float64) for column in (spectral_axis(grid)[0], *values))
    return [np.insert(column, sorted(starts), np.nan) for column in columns]


def draw_curve(ax: Axes, grid: Grid, values: ArrayLike, **style: Any) -> None:
    """Draw values (p,) of pixels as a line that leaves gaps and NaN open; single pixels are dots."""
    axis, curve = broken(grid, values)
    good = np.isfinite(np.pad(curve, 1, constant_values=np.nan))
    alone = np.flatnonzero(good[1:-1] & ~good[:-2] & ~good[2:])
    dots = {"marker": ".", "markevery": alone} if len(alone) else {}
    ax.plot(axis, curve, **{**dots, **style})


def draw_band(ax: Axes, grid: Grid, low: ArrayLike, high: ArrayLike = 0.0, **style: Any) -> None:
    """Fill between values (p,) of pixels, or between them and one number, with open gaps."""
    axis, lower, upper = broken(grid, low, np.broadcast_to(high, len(grid)))
    ax.fill_between(axis, lower, upper, linewidth=0, **style)


def limit_to(ax: Axes, grid: Grid) -> None:
    """Let the horizontal axis end with the pixels of a grid."""
    if len(grid) > 1:
        axis, _ = spectral_axis(grid)
        ax.set_xlim(axis[0], axis[-1])


def logarithmic(axis: Axis) -> None:
    """Write numbers on a logarithmic axis at 1, 2 and 5 of each decade, without powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_formatter(NullFormatter())
