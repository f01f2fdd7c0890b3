"""Resampling spectra onto another grid by a sparse linear operator, with their errors and bad pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from draper.data.arrays import blocks
from draper.data.grid import Grid
from draper.data.spectra import DATA_SETS, Spectra, lacks_errors
from draper.errors import DraperError

Array = NDArray[Any]

ROWS = 256
"""Number of spectra resampled at once, to save memory."""

COARSER = 1.5
"""Pixels are averaged if the new ones are wider by more than this factor, else interpolated."""

FILLED = 0.5
"""Minimum fraction of a new pixel that good pixels must cover."""

EDGE = 1e-6
"""Edges of pixels that differ by less than this [Angstrom] count as equal."""

BOX = 2 * np.sqrt(2 * np.log(2) / 12)
"""FWHM of the Gaussian that is as wide (rms) as a box of width 1."""


def interpolation(source: Grid, target: Grid) -> csr_matrix:
    """Return the operator (p_target, p_source) of linear interpolation; rows outside the source are empty.

    A target pixel closer than 1e-6 of a pixel to a source pixel takes its value unchanged.
    """
    x, y = source.vacuum, target.vacuum
    if len(x) < 2:
        raise DraperError(
            "a grid of one pixel cannot be interpolated", given=repr(source), expected="at least 2 pixels"
        )
    left = np.clip(np.searchsorted(x, y, side="right") - 1, 0, len(x) - 2)
    position = (y - x[left]) / (x[left + 1] - x[left])
    position = np.where(np.abs(position - np.rint(position)) < 1e-6, np.rint(position), position)
    covered = (position >= 0) & (position <= 1)
    for low, high in zip(source.segments()[:-1], source.segments()[1:], strict=True):
        in_gap = (y > x[low.stop - 1]) & (y < x[high.start])
        covered &= ~in_gap | (position == np.rint(position))
    rows = np.flatnonzero(covered)
    weights = np.concatenate([1 - position[rows], position[rows]])
    place = (np.tile(rows, 2), np.concatenate([left[rows], left[rows] + 1]))
    operator = csr_matrix((weights, place), shape=(len(y), len(x)))
    operator.eliminate_zeros()
    return operator


def averaging(source: Grid, target: Grid) -> csr_matrix:
    """Return the operator (p_target, p_source): which parts of a target pixel lie in which source pixels.

    Rows of pixels without a width, alone in their windows, are empty.
    """
    lower, upper = source.bounds.T
    low, high = target.bounds.T
    if not (low < high).any():
        raise DraperError(
            "a single pixel has no width unless it is given",
            given=repr(target),
            hint="give the edges of its bin: Grid.from_wavelength(..., edges=), a fourth column of TauREx "
            "text (the width), or columns wavelength_min and wavelength_max",
        )
    first = np.searchsorted(upper, low, side="right")
    last = np.searchsorted(lower, high, side="left")
    counts = np.maximum(last - first, 0)
    rows = np.repeat(np.arange(len(target)), counts)
    columns = (
        np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    )
    overlap = np.minimum(upper[columns], high[rows]) - np.maximum(lower[columns], low[rows])
    width = (high - low)[rows]
    weights = np.divide(np.maximum(overlap, 0), width, where=width > 0, out=np.zeros_like(width))
    return csr_matrix((weights, (rows, columns)), shape=(len(target), len(source)))


def operator_between(source: Grid, target: Grid) -> tuple[csr_matrix, float]:
    """Return the operator for two grids, and the fraction of a new pixel that good pixels must cover."""
    averages = len(target) > 1 and bool(np.median(target.step) > COARSER * np.median(source.step))
    operator = (averaging if averages else interpolation)(source, target)
    if operator.nnz == 0:
        raise DraperError("the grids do not overlap", given=repr(source), expected=repr(target))
    return operator, FILLED if averages else 1.0


def resample(spectra: Spectra, target: Grid) -> Spectra:
    """Resample spectra onto a grid: by averaging onto coarser pixels, otherwise by linear interpolation.

    Averaging conserves flux: a new pixel is the mean of the good pixels over its own width, and is bad where
    these cover less than half of it. An interpolated pixel is bad where it touches a bad one. In both cases
    the variance is that of the weighted mean (the covariance between new pixels is not kept). Weights of
    spectra without errors stay 1, and the data sets of joined spectra are no longer told apart.

    Examples
    --------
    >>> spectra = Spectra(Grid.linear(5000, 5002, 1, medium="vacuum"), [[1.0, 0.5, 1.0]])
    >>> resample(spectra, Grid.linear(5000, 5002, 0.5, medium="vacuum")).flux
    array([[1.  , 0.75, 0.5 , 0.75, 1.  ]], dtype=float32)
    >>> spectra = Spectra(Grid.linear(5000, 5005, 1, medium="vacuum"), [[1.0, 1.0, 0.4, 1.0, 1.0, 1.0]])
    >>> resample(spectra, Grid.linear(5001, 5004, 3, medium="vacuum")).flux.round(3)
    array([[0.8, 1. ]], dtype=float32)
    """
    if spectra.grid.matches(target):
        return replace(spectra, grid=replace(target, resolving_power=_power_on(spectra.grid, target)))
    if not (spectra.grid.is_spectral and target.is_spectral):
        raise DraperError("coefficients cannot be resampled", given=repr(spectra.grid), expected=repr(target))
    if spectra.correlation is not None:
        raise DraperError(
            "spectra with correlated pixels cannot be resampled",
            given=repr(spectra),
            hint="use them on their own grid, or drop the correlation: "
            "dataclasses.replace(spectra, correlation=None)",
        )
    operator, filled = operator_between(spectra.grid, target)
    shape = (len(spectra), len(target))
    flux, ivar = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    for rows in blocks(len(spectra), ROWS):
        flux[rows], ivar[rows] = _mean(operator, spectra.flux[rows], spectra.ivar[rows], filled)
    without = lacks_errors(spectra)
    ivar[without] = ivar[without] > 0
    power = _power_on(spectra.grid, target, widened=filled < 1)
    grid = replace(target, resolving_power=power)
    meta = {name: value for name, value in spectra.meta.items() if name != DATA_SETS}
    return replace(spectra, grid=grid, flux=flux, ivar=ivar, meta=meta, validated=False)


def _mean(operator: csr_matrix, flux: Array, ivar: Array, filled: float) -> tuple[Array, Array]:
    """Return the weighted mean of good pixels and its ivar (n, p_target); 0 where they cover too little."""
    good = ivar > 0
    variance = np.divide(1.0, ivar, where=good, out=np.zeros(ivar.shape), dtype=np.float64)
    weight = np.asarray(operator @ good.T.astype(np.float64)).T
    is_filled = (weight > 0) & (weight >= filled - 1e-6)
    scale = np.divide(1.0, weight, where=is_filled, out=np.zeros_like(weight))
    mean = np.asarray(operator @ np.where(good, flux, 0.0).T).T * scale
    new_variance = np.asarray(operator.multiply(operator) @ variance.T).T * scale**2
    return mean, np.divide(1.0, new_variance, where=is_filled, out=np.zeros_like(weight))


def common_grid(grids: Sequence[Grid]) -> Grid:
    """Return the pixels of the coarsest grid that lie wholly in the range common to all grids.

    Examples
    --------
    >>> fine, coarse = (Grid.linear(5000, 5100, step, medium="vacuum") for step in (0.1, 1))
    >>> common_grid([fine, coarse[10:]])
    Grid(90 px, 5010.000-5099.000 A vacuum)
    """
    bounds = [grid.bounds for grid in grids]
    low = max(edges[0, 0] for edges in bounds)
    high = min(edges[-1, 1] for edges in bounds)
    inside = [(edges[:, 0] >= low - EDGE) & (edges[:, 1] <= high + EDGE) for edges in bounds]
    if low >= high or min(int(mask.sum()) for mask in inside) < 2:
        raise DraperError(
            "the files have no wavelength range in common",
            given="; ".join(sorted({grid.extent for grid in grids})[:12]),
            hint="convert them into separate files",
        )
    coarsest = min(range(len(grids)), key=lambda number: int(inside[number].sum()))
    return replace(grids[coarsest], resolving_power=None)[inside[coarsest]]


def _power_on(source: Grid, target: Grid, *, widened: bool = False) -> float | Array | None:
    """Return the resolving power on the new grid, lowered by the width of pixels that were averaged over."""
    power = source.resolving_power
    if isinstance(power, np.ndarray):
        power = np.interp(target.vacuum, source.vacuum, power)
    if power is None or not widened:
        return power
    box = target.step * BOX / target.vacuum
    return np.asarray(1 / np.sqrt((1 / np.asarray(power)) ** 2 + box**2))
