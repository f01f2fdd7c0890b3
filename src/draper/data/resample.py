"""Bringing spectra onto another grid: a sparse linear operator, with errors and bad pixels carried along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from draper.data.arrays import blocks
from draper.data.grid import Grid
from draper.data.spectra import Spectra, has_errors
from draper.errors import DraperError

Array = NDArray[Any]

ROWS = 256
"""Spectra that are interpolated together, so that a batch costs little memory."""


def interpolation(source: Grid, target: Grid) -> csr_matrix:
    """Return the operator (p_target, p_source) of linear interpolation; rows outside the source are empty.

    A target pixel closer than 1e-6 of a pixel to a source pixel takes its value unchanged.
    """
    x, y = source.vacuum, target.vacuum
    if len(x) < 2:
        raise DraperError("a grid of one pixel cannot be interpolated", given=repr(source))
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


def resample(spectra: Spectra, target: Grid) -> Spectra:
    """Interpolate spectra onto a grid.

    The variance of a new pixel is that of the weighted mean of its neighbours (their covariance is not kept);
    a pixel that touches a bad one, or lies outside, is bad.

    Examples
    --------
    >>> spectra = Spectra(Grid.linear(5000, 5002, 1, medium="vacuum"), [[1.0, 0.5, 1.0]])
    >>> resample(spectra, Grid.linear(5000, 5002, 0.5, medium="vacuum")).flux
    array([[1.  , 0.75, 0.5 , 0.75, 1.  ]], dtype=float32)
    """
    grid = replace(target, resolving_power=_power_on(spectra.grid, target))
    if spectra.grid.matches(target):
        return replace(spectra, grid=grid)
    if not (spectra.grid.is_spectral and target.is_spectral):
        raise DraperError("coefficients cannot be resampled", given=repr(spectra.grid), expected=repr(target))
    if spectra.correlation is not None:
        raise DraperError("spectra with correlated pixels cannot be interpolated", given=repr(spectra))
    operator = interpolation(spectra.grid, target)
    if operator.nnz == 0:
        raise DraperError("the grids do not overlap", given=repr(spectra.grid), expected=repr(target))
    shape = (len(spectra), len(target))
    flux, ivar = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    for rows in blocks(len(spectra), ROWS):
        flux[rows], ivar[rows] = _interpolated(operator, spectra.flux[rows], spectra.ivar[rows])
    if not has_errors(spectra):
        ivar = (ivar > 0).astype(np.float32)
    return replace(spectra, grid=grid, flux=flux, ivar=ivar, validated=False)


def _interpolated(operator: csr_matrix, flux: Array, ivar: Array) -> tuple[Array, Array]:
    """Return new flux and ivar (n, p_target)."""
    good = ivar > 0
    variance = np.divide(1.0, ivar, where=good, out=np.zeros(ivar.shape), dtype=np.float64)
    touches_bad = np.asarray((operator != 0).astype(np.float64) @ (~good).T.astype(np.float64)).T > 0
    covered = np.diff(operator.indptr) > 0
    new_variance = np.asarray(operator.multiply(operator) @ variance.T).T
    new_flux = np.asarray(operator @ np.where(good, flux, 0.0).T).T
    return new_flux, np.divide(
        1.0, new_variance, where=covered & ~touches_bad, out=np.zeros(new_variance.shape)
    )


def common_grid(grids: Sequence[Grid]) -> Grid:
    """Return the range that all grids share, with the pixels of the coarsest of them there.

    Examples
    --------
    >>> fine, coarse = (Grid.linear(5000, 5100, step, medium="vacuum") for step in (0.1, 1))
    >>> common_grid([fine, coarse[10:]])
    Grid(91 px, 5010.000-5100.000 A vacuum)
    """
    low = max(grid.vacuum[0] for grid in grids)
    high = min(grid.vacuum[-1] for grid in grids)
    inside = [grid.inside([(low, high)]) for grid in grids]
    if low >= high or min(int(mask.sum()) for mask in inside) < 2:
        raise DraperError(
            "the files share no range of wavelength",
            given="; ".join(sorted({grid.extent for grid in grids})[:12]),
            hint="convert them into separate files",
        )
    coarsest = min(range(len(grids)), key=lambda number: int(inside[number].sum()))
    return replace(grids[coarsest], resolving_power=None)[inside[coarsest]]


def _power_on(source: Grid, target: Grid) -> float | Array | None:
    power = source.resolving_power
    return np.interp(target.vacuum, source.vacuum, power) if isinstance(power, np.ndarray) else power
