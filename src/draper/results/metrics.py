"""Figures of merit: how far labels and spectra are from the truth, and whether quoted errors are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from draper.data.arrays import blocks_of
from draper.data.grid import Grid
from draper.data.spectra import Spectra, has_errors
from draper.errors import DraperError

FloatArray = NDArray[np.float64]

LEVELS = (0.5, 0.68, 0.9)
"""Central intervals whose coverage is measured."""

TO_SIGMA = 1.4826
"""From the median absolute deviation to the standard deviation of a Gaussian."""


def robust_scatter(values: ArrayLike) -> float:
    """Return the scatter by the median absolute deviation: outliers do not count.

    Examples
    --------
    >>> round(robust_scatter([0.0, 1.0, 2.0, 3.0, 1000.0]), 2)
    1.48
    """
    array = np.asarray(values, dtype=np.float64)
    return float(TO_SIGMA * np.median(np.abs(array - np.median(array)))) if array.size else np.nan


def coverage_name(probability: float) -> str:
    """Return what the coverage of a central interval is called.

    Examples
    --------
    >>> coverage_name(0.68)
    'coverage_68'
    """
    return f"coverage_{100 * probability:.0f}"


def recovery(
    estimate: ArrayLike,
    truth: ArrayLike,
    sigma: ArrayLike | None = None,
    intervals: Mapping[float, tuple[ArrayLike, ArrayLike]] | None = None,
) -> dict[str, float]:
    """Return how well one label is recovered; rows without truth or estimate do not count.

    Parameters
    ----------
    estimate, truth : array (n,)
        Values of the label.
    sigma : array (n,), optional
        Quoted 1-sigma errors. Where there are none, pull and coverage are NaN.
    intervals : mapping of probability to (low, high), optional
        Ends (n,) of the central intervals of posteriors that are not Gaussian, for each of ``LEVELS``; by
        default they are those of ``sigma``.

    Returns
    -------
    dict
        ``number`` of rows that count; ``bias`` and ``scatter`` (mean and standard deviation of the error,
        estimate - truth), ``robust_bias`` and ``robust_scatter`` (by medians), ``rms``, ``mae`` (mean
        absolute error), ``r2``; ``baseline``, the rms of the best constant estimate; ``width_68``, the mean
        half-width of the 68 % interval; ``pull_mean`` and ``pull_std`` of the error over sigma,
        0 and 1 where quoted errors are honest; ``coverage_50``, ``_68`` and ``_90``, the fractions of truths
        in central intervals.

    Examples
    --------
    >>> recovery([1.1, 2.1, 2.9], [1, 2, 3], [0.1, 0.1, 0.1])["coverage_90"]
    1.0
    """
    estimated, true = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    quoted = np.full(true.shape, np.nan) if sigma is None else np.asarray(sigma, dtype=np.float64)
    counts = np.isfinite(estimated) & np.isfinite(true)
    error, values, quoted = (estimated - true)[counts], true[counts], quoted[counts]
    names = (
        "bias", "scatter", "robust_bias", "robust_scatter", "rms", "mae", "r2", "baseline", "width_68",
        "pull_mean", "pull_std",
    )  # fmt: skip
    figures = {"number": float(len(error)), **dict.fromkeys(names, np.nan)}
    figures |= {coverage_name(level): np.nan for level in LEVELS}
    if len(error) == 0:
        return figures
    figures |= {
        "bias": float(error.mean()),
        "scatter": float(error.std()),
        "robust_bias": float(np.median(error)),
        "robust_scatter": robust_scatter(error),
        "rms": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.abs(error).mean()),
        "r2": float(1 - np.mean(error**2) / values.var()) if values.var() > 0 else np.nan,
        "baseline": float(values.std()),
    }
    has_sigma = np.isfinite(quoted) & (quoted > 0)
    if has_sigma.any():
        pull = error[has_sigma] / quoted[has_sigma]
        figures |= {"pull_mean": float(pull.mean()), "pull_std": float(pull.std())}
        figures["width_68"] = float(quoted[has_sigma].mean())
        for level in LEVELS:
            figures[coverage_name(level)] = float((np.abs(pull) <= ndtri(0.5 + level / 2)).mean())
    for level, (low, high) in (intervals or {}).items():
        lower, upper = (np.asarray(end, dtype=np.float64)[counts] for end in (low, high))
        has_ends = np.isfinite(lower) & np.isfinite(upper)
        inside = ((lower <= values) & (values <= upper))[has_ends]
        figures[coverage_name(level)] = float(inside.mean()) if len(inside) else np.nan
        if coverage_name(level) == "coverage_68" and len(inside):
            figures["width_68"] = float((upper - lower)[has_ends].mean() / 2)
    return figures


@dataclass(frozen=True, eq=False)
class Residuals:
    """Made minus observed spectra, summed over good pixels along either axis.

    Fluxes that are not normalised are first divided by the median of the observed spectrum, so that bright
    stars do not outweigh the others.

    Attributes
    ----------
    grid : Grid
        Of p pixels.
    mean_spectrum, mean, sigma, rms : ndarray (p,)
        The mean of the observed spectra, and of the residuals mean, standard deviation and rms; NaN where no
        spectrum has a good pixel.
    spectrum_rms : ndarray (n,)
        Of each spectrum over its good pixels; NaN where it has none.
    reduced_chi2 : ndarray (n,), optional
        Of each spectrum, where the observed ones have errors.
    what : str
        What the residuals are, for axes.
    """

    grid: Grid
    mean_spectrum: FloatArray
    mean: FloatArray
    sigma: FloatArray
    rms: FloatArray
    spectrum_rms: FloatArray
    reduced_chi2: FloatArray | None
    what: str

    @property
    def worst(self) -> NDArray[np.int64]:
        """Rows from the worst spectrum to the best; those without a good pixel are left out."""
        order = np.argsort(-np.nan_to_num(self.spectrum_rms, nan=-1.0), kind="stable")
        return order[np.isfinite(self.spectrum_rms[order])]

    def figures(self) -> dict[str, float]:
        """Return the figures of merit."""
        values = self.spectrum_rms[np.isfinite(self.spectrum_rms)]
        figures = {
            "number": float(len(values)),
            "rms": float(np.sqrt(np.mean(values**2))) if len(values) else np.nan,
            "median_rms": float(np.median(values)) if len(values) else np.nan,
            "rms_99": float(np.quantile(values, 0.99)) if len(values) else np.nan,
            "worst_rms": float(values.max()) if len(values) else np.nan,
            "median_pixel_rms": float(np.nanmedian(self.rms)) if np.isfinite(self.rms).any() else np.nan,
            "worst_pixel_rms": float(np.nanmax(self.rms)) if np.isfinite(self.rms).any() else np.nan,
        }
        if self.reduced_chi2 is not None and np.isfinite(self.reduced_chi2).any():
            figures["median_reduced_chi2"] = float(np.nanmedian(self.reduced_chi2))
        return figures


def residuals(observed: Spectra, made: Spectra) -> Residuals:
    """Compare observed spectra with those that a model made, block by block.

    Parameters
    ----------
    observed, made
        Spectra on the same grid, row by row. A pixel counts where it is good in both.
    """
    observed.grid.require(
        made.grid, "the spectra that are compared are on other grids", "resample one of them"
    )
    if len(observed) != len(made):
        raise DraperError(
            "the spectra that are compared differ in number",
            given=f"{len(made)}",
            expected=f"{len(observed)}",
        )
    is_relative = observed.quantity == "flux"
    n, p = observed.flux.shape
    sums = np.zeros((4, p))  # counts, spectrum, residual, its square
    squares, weighted = np.full(n, np.nan), np.full(n, np.nan)
    for rows in blocks_of(observed.flux):
        good = (observed.ivar[rows] > 0) & (made.ivar[rows] > 0) & np.isfinite(made.flux[rows])
        flux = np.where(good, observed.flux[rows], 0).astype(np.float64)
        error = np.where(good, made.flux[rows], 0) - flux
        counts = good.sum(axis=1)
        some = counts > 0
        chi2 = (error**2 * observed.ivar[rows]).sum(axis=1)
        weighted[rows] = np.divide(chi2, counts, where=some, out=np.full(len(some), np.nan))
        if is_relative:
            level = _levels(flux, good)[:, None]
            flux, error = flux / level, error / level
        squares[rows] = np.divide((error**2).sum(axis=1), counts, where=some, out=np.full(len(some), np.nan))
        for number, values in enumerate((good, flux, error, error**2)):
            sums[number] += values.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spectrum, mean, square = sums[1:] / np.where(sums[0] > 0, sums[0], np.nan)
    return Residuals(
        observed.grid,
        spectrum,
        mean,
        np.sqrt(np.maximum(square - mean**2, 0)),
        np.sqrt(square),
        np.sqrt(squares),
        weighted if has_errors(observed) else None,
        "relative to the median of each spectrum" if is_relative else observed.quantity,
    )


def _levels(flux: FloatArray, good: NDArray[np.bool_]) -> FloatArray:
    """Return the median of the absolute good pixels of each spectrum (n,); 1 where there is none."""
    values = np.where(good, np.abs(flux), np.nan)
    values[~good.any(axis=1)] = 1.0
    medians: FloatArray = np.nanmedian(values, axis=1)
    return np.where(medians > 0, medians, 1.0)
