"""From the numbers of a file to spectra: pixels in order of wavelength, errors and flags as weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_opening

from draper.data.grid import Grid
from draper.data.parsing.source import Source
from draper.data.spectra import DATA_SETS, Spectra
from draper.errors import DraperError, option_text

Rows = NDArray[Any]

GAP = 10
"""Least number of neighbouring pixels of exactly no flux that are taken for a gap between detectors."""


@dataclass(frozen=True)
class Axis:
    """A grid, and how the pixels of a file lie on it.

    Attributes
    ----------
    grid
        The p pixels.
    medium
        What the wavelengths of the file are measured in; those of the grid are vacuum wavelengths.
    order
        The file's q pixels in order of wavelength; None where they lie in order.
    starts
        Where each pixel of the grid begins among them (p,), if several share a wavelength; None elsewhere.
    """

    grid: Grid
    medium: str = "vacuum"
    order: NDArray[np.intp] | None = None
    starts: NDArray[np.intp] | None = None

    def put(self, values: Rows) -> Rows:
        """Return values (..., q) in order of wavelength."""
        return values if self.order is None else values[..., self.order]

    def merge(self, flux: Rows, ivar: Rows | None, bad: Rows) -> tuple[Rows, Rows | None, Rows]:
        """Replace good pixels (..., q) that share a wavelength by their weighted mean (..., p)."""
        if self.starts is None:
            return flux, ivar, bad
        weight = np.where(bad, 0, np.ones_like(flux) if ivar is None else ivar).astype(np.float64)
        total = np.add.reduceat(weight, self.starts, axis=-1)
        light = np.add.reduceat(weight * np.where(bad, 0, flux), self.starts, axis=-1)
        mean = np.divide(light, total, where=total > 0, out=np.zeros_like(total))
        merged = mean.astype(np.float32)
        return merged, None if ivar is None else total.astype(np.float32), total == 0


def axis(
    source: Source,
    wavelength: ArrayLike,
    unit: str,
    medium: str,
    edges: ArrayLike | None = None,
    resolving_power: float | None = None,
    merge: bool = False,
) -> Axis:
    """Put wavelengths (q,) in increasing order; repeated ones are merged, or an error that names them."""
    values = np.asarray(wavelength, dtype=np.float64)
    bins = None if edges is None else np.asarray(edges, dtype=np.float64)
    order = starts = None
    with np.errstate(all="ignore"):  # wavelengths beyond all measure become infinite and are refused
        if values.ndim == 1 and not (np.diff(values) > 0).all():
            order = np.argsort(values, kind="stable")
            values = values[order]
            bins = None if bins is None else bins[order]
            is_new = np.append(True, np.diff(values) != 0)
            repeated = np.unique(values[~is_new])
            if len(repeated) and merge:
                starts = np.flatnonzero(is_new)
                values, bins = values[starts], None
            elif len(repeated):
                shown = ", ".join(f"{value:.10g}" for value in repeated[:5])
                raise source.error(
                    f"{len(repeated)} wavelengths are repeated",
                    given=shown + (", ..." if len(repeated) > 5 else ""),
                    hint=f"average the pixels that share one with {option_text('read.repeated', 'mean')}, "
                    "or give each order its own file",
                )
        grid = Grid.from_wavelength(
            values, unit=unit, medium=medium, edges=bins, resolving_power=resolving_power
        )
    return Axis(grid, medium, order, starts)


def spectra(
    source: Source,
    axis: Axis,
    flux: ArrayLike,
    *,
    error: ArrayLike | None = None,
    ivar: ArrayLike | None = None,
    bad: ArrayLike | None = None,
    data_sets: ArrayLike | None = None,
    **facts: Any,
) -> Spectra:
    """Build spectra from rows (n, q), or one (q,), as a file holds them; ``bad`` marks pixels to leave out.

    Where a file states no errors, gaps between detectors that it fills with zeros are left out, too. Errors,
    weights and flags may also be one row (q,) for all spectra; ``data_sets`` (q,) are numbers of the data set
    of each pixel. The other arguments are those of :class:`Spectra`; one spectrum is called by the file's
    name unless the table has an ``id``.
    """
    with np.errstate(all="ignore"):  # what does not fit in single precision is a bad pixel
        values = np.atleast_2d(axis.put(np.asarray(flux))).astype(np.float32)
        given = None if ivar is None else np.asarray(ivar).astype(np.float32)
    weights: Rows | None = given if error is None else inverse_variance(error)
    if weights is not None:
        weights = np.broadcast_to(axis.put(weights), values.shape)
        weights = np.where(np.isfinite(weights) & (weights > 0), weights, np.float32(0))
    wrong = ~np.isfinite(values)
    if bad is not None:
        wrong = wrong | axis.put(np.asarray(bad) != 0)
    if weights is None and facts.get("quantity", "flux") in ("flux", "normalised flux"):
        wrong |= gaps(values)
    values, weights, wrong = axis.merge(values, weights, wrong)
    if wrong.any():
        weights = np.where(wrong, np.float32(0), np.float32(1) if weights is None else weights)
    if axis.grid.is_spectral:
        facts["meta"] = {"medium": axis.medium, **facts.get("meta", {})}
    if data_sets is not None:
        facts["meta"] = {**facts.get("meta", {}), DATA_SETS: axis.put(np.asarray(data_sets)).tolist()}
    table = dict(facts.pop("table", {}))
    if len(values) == 1 and "id" not in table:
        table = {"id": np.array([source.name]), **table}
    return Spectra(axis.grid, values, weights, table=table, **facts)  # type: ignore[arg-type]


def gaps(flux: Rows) -> NDArray[np.bool_]:
    """Return pixels (q,) where all spectra (n, q) are exactly zero, with many neighbours, but not everywhere.

    Examples
    --------
    >>> flux = np.ones((1, 40))
    >>> flux[0, 5] = flux[0, 10:25] = 0
    >>> np.flatnonzero(gaps(flux))
    array([10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24])
    """
    zero = np.asarray((flux == 0).all(axis=0))
    return np.asarray(binary_opening(zero, np.ones(GAP, dtype=bool)) & ~zero.all())


def inverse_variance(error: ArrayLike) -> NDArray[np.float32]:
    """Return 1 / error^2 in the shape of ``error``; 0 where the error is missing, infinite or not positive.

    Examples
    --------
    >>> inverse_variance([0.5, 0.0, -1.0, np.nan, np.inf])
    array([4., 0., 0., 0., 0.], dtype=float32)
    """
    error = np.asarray(error, dtype=np.float64)
    valid = np.isfinite(error) & (error > 0)
    with np.errstate(all="ignore"):
        ivar = np.where(valid, 1 / error**2, 0).astype(np.float32)
    wild = ~np.isfinite(ivar)
    if 2 * wild.sum() > valid.sum():  # a few are bad pixels, but most are the scale of the data
        raise DraperError(
            "the errors are too small for single precision",
            given=f"a median of {np.median(error[valid]):.3g}",
            expected="above 1e-19",
            hint="multiply flux and error by a power of ten first",
        )
    ivar[wild] = 0
    return ivar
