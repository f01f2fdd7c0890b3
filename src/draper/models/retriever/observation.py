"""One observed spectrum, compared with fine spectra through its bins, its errors and its data sets."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.configs.retriever import RetrieveConfig
from draper.data.grid import Grid
from draper.data.resample import averaging
from draper.data.spectra import Spectra, lacks_errors
from draper.errors import DraperError, option_text
from draper.models.retriever.summary import Statistics, Summary

FloatArray = NDArray[np.float64]

PPM = 1e-6

ROUGH = 0.3
"""Largest relative error of the radius of a star: of a wider Gaussian much would lie below zero."""

COVERED = 0.999
"""Part of a bin that must lie inside the fine grid."""


@dataclass(frozen=True)
class Binning:
    """How bins see a fine spectrum.

    Attributes
    ----------
    pixels : slice
        The pixels of the fine grid that any bin touches.
    operator : ndarray (m, q)
        Means over the bins of these pixels.
    covered : ndarray (m,)
        Which bins lie inside the fine grid.
    """

    pixels: slice
    operator: FloatArray
    covered: NDArray[np.bool_]

    @classmethod
    def between(cls, fine: Grid, grid: Grid) -> Binning:
        """Return the binning of spectra on a grid."""
        if fine.matches(grid):
            return cls(slice(0, len(fine)), np.eye(len(fine)), np.ones(len(fine), dtype=bool))
        if not (fine.is_spectral and grid.is_spectral):
            fine.require(grid, "the spectra are not on the model's grid", "give spectra in wavelengths")
        operator = averaging(fine, grid).toarray()
        share = operator.sum(axis=1)
        covered = share > COVERED
        if not covered.any():
            raise DraperError(
                "the spectra do not overlap the model's range",
                given=grid.extent,
                expected=fine.extent,
                hint="check the unit of the wavelengths",
            )
        used = np.flatnonzero(operator[covered].any(axis=0))
        pixels = slice(int(used[0]), int(used[-1]) + 1)
        return cls(pixels, operator[:, pixels] / np.maximum(share, 1e-9)[:, None], covered)


@dataclass(frozen=True)
class Observation:
    """The good bins of one spectrum, as in front of a star of a given radius.

    Attributes
    ----------
    operator : ndarray (m, q)
        Means over the bins of the pixels ``pixels`` of the fine grid.
    pixels : slice
    flux, variance : ndarray (m,)
        Values and their variance, that of the forward model included.
    groups : ndarray (m,)
        Number of the data set of each bin.
    offset : float
        1-sigma offset of each data set after the first.
    scale : float
        By what the data were multiplied: densities are those of the data as they were given.
    """

    operator: FloatArray
    pixels: slice
    flux: FloatArray
    variance: FloatArray
    groups: NDArray[np.int64]
    offset: float = 0.0
    scale: float = 1.0

    @property
    def digest(self) -> int:
        """A number that follows from the data: as a seed it makes samples independent of other spectra."""
        return zlib.crc32(self.variance.tobytes(), zlib.crc32(self.flux.tobytes()))

    def scaled(self, factor: float, inflation: float = 1.0) -> Observation:
        """Return the observation with flux and errors multiplied, and errors inflated."""
        return Observation(
            self.operator,
            self.pixels,
            self.flux * factor,
            self.variance * (factor * inflation) ** 2,
            self.groups,
            self.offset * factor,
            self.scale * factor,
        )

    def whiten(self, rows: FloatArray, inflation: FloatArray | float = 1.0) -> FloatArray:
        """Return what has unit covariance if the rows (..., m) have that of the errors.

        Errors may be inflated, by one factor or by one for each row (n,); offsets of data sets are not.
        """
        inflation = np.asarray(inflation)[..., None]
        white = rows / np.sqrt(self.variance) / inflation
        shared = self._shared()
        if not shared.shape[1]:
            return np.asarray(white)
        # With Q = I + VV', the inverse root of Q only changes the space that V spans. Data sets have no bin
        # in common, so its axes are they.
        values = np.sqrt((shared**2).sum(axis=0))
        basis = shared / values
        shrink = 1 / np.sqrt(1 + (values / inflation) ** 2) - 1
        return np.asarray(white + ((white @ basis) * shrink) @ basis.T)

    def _shared(self) -> FloatArray:
        """Return the offsets (m, k) of data sets, each of unit variance, in units of the errors."""
        names = np.unique(self.groups)[1:] if self.offset > 0 else np.zeros(0)
        return np.asarray(self.offset * (self.groups[:, None] == names) / np.sqrt(self.variance)[:, None])

    def log_norm(self, inflation: FloatArray | float = 1.0) -> FloatArray:
        """Return the logarithm of the density of the data where residuals are zero, for inflations (n,)."""
        factor = np.asarray(inflation, dtype=np.float64)
        strength = (self._shared() ** 2).sum(axis=0)
        determinant = np.log1p(strength / factor[..., None] ** 2).sum(axis=-1)
        errors = np.log(2 * np.pi * self.variance / self.scale**2).sum()
        return np.asarray(-(errors + determinant) / 2 - len(self.flux) * np.log(factor))

    def residuals(self, fine: FloatArray, inflation: FloatArray | float = 1.0) -> FloatArray:
        """Return the whitened residuals (n, m) of fine spectra (n, q) at ``pixels``."""
        return self.whiten(self.flux - fine @ self.operator.T, inflation)

    def statistics(self, summary: Summary) -> Statistics:
        """Return the sufficient statistics (1, k) on the components of a summary."""
        basis = summary.basis.numpy()[self.pixels]
        components = self.whiten((self.operator @ basis).T).T
        rest = self.whiten(self.flux - self.operator @ summary.mean.numpy()[self.pixels])
        weighted, precision = rest @ components, components.T @ components
        return Statistics(torch.from_numpy(weighted)[None], torch.from_numpy(precision)[None])

    def novelty(self, summary: Summary) -> float:
        """Return how unlikely the data are among the training spectra, taken as Gaussian.

        The cube root of chi2 per bin, which is nearly normal, less its mean, in units of its scatter.
        """
        basis = summary.basis.numpy()[self.pixels]
        components = self.whiten((self.operator @ basis).T).T
        rest = self.whiten(self.flux - self.operator @ summary.mean.numpy()[self.pixels])
        precision = components.T @ components + np.eye(components.shape[1])
        weighted = rest @ components
        chi2 = max(float(rest @ rest - weighted @ np.linalg.solve(precision, weighted)), 1e-9)
        count = len(rest)
        root = (chi2 / count) ** (1 / 3)
        return float((root - (1 - 2 / (9 * count))) / math.sqrt(2 / (9 * count)))


def with_errors(spectra: Spectra, error: float | None) -> Spectra:
    """Return spectra with their own errors, or with one error [ppm] of all bins where they have none."""
    lacking = lacks_errors(spectra) & (spectra.ivar > 0).any(axis=1)
    if not lacking.any():
        return spectra
    if error is None:
        which, noise = "the spectra have", f"; evaluate also adds noise: {option_text('snr')}"
        if not lacking.all():  # noise is added to all spectra or none
            which, noise = f"{lacking.sum()} of {len(spectra)} spectra have", ""
        raise DraperError(
            f"{which} no errors, on which every posterior depends",
            given=f"the first of them: {spectra.ids[lacking][0]}",
            hint=f"give one for all their bins [ppm]: {option_text('error')}{noise}",
        )
    given = np.where(spectra.ivar > 0, (error * PPM) ** -2, 0)
    return replace(spectra, ivar=np.where(lacking[:, None], given, spectra.ivar).astype(spectra.ivar.dtype))


def star_radii(spectra: Spectra, options: RetrieveConfig, knows_stars: bool) -> FloatArray:
    """Return the radii (n,) of the stars [solar radii]; 1 for a model that knows none."""
    if not knows_stars:
        if options.star_radius is not None:
            raise DraperError(
                "a model that was trained on files knows no stars",
                given=f"star_radius={options.star_radius:g}",
                hint="give depths in front of stars like those of the files",
            )
        return np.ones(len(spectra))
    if options.star_radius is None and "star_radius" in spectra.table:
        radii = spectra.columns(["star_radius"])[:, 0]
    else:
        # Older files of simulated planets have it in their metadata.
        radii = np.full(len(spectra), options.star_radius or float(spectra.meta.get("star_radius", 1.0)))
    least = np.min(radii, initial=np.inf, where=radii > 0)
    if options.star_radius_error > ROUGH * least:
        raise DraperError(
            "the radius of a star is not known well enough to be sampled",
            given=f"{least:g} +- {options.star_radius_error:g} solar radii",
            expected=f"an error of at most {ROUGH:.0%}",
        )
    return radii


def observations(
    spectra: Spectra,
    binning: Binning,
    star_radius: FloatArray,
    model_error: FloatArray,
    offset: float = 0.0,
    groups: NDArray[np.int64] | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> list[Observation | None]:
    """Return the observations of spectra; None without a good bin in the fine grid, or a star's radius.

    Parameters
    ----------
    spectra
        The n spectra.
    binning
        Of their grid.
    star_radius : ndarray (n,)
        By whose square the spectra are multiplied.
    model_error : ndarray (p,)
        1-sigma error of the forward model on the fine grid; errors of neighbours are not independent.
    offset
        1-sigma offset of each data set.
    groups : ndarray (m,)
        Data set of each bin; one data set by default.
    counted : ndarray (m,)
        Bins whose errors hold that of the forward model already; none by default.
    """
    own = binning.operator @ model_error[binning.pixels]
    if counted is not None:
        own = np.where(counted, 0.0, own)
    names = np.zeros(len(own), dtype=np.int64) if groups is None else groups
    found: list[Observation | None] = []
    for row in range(len(spectra)):
        flux, ivar = np.asarray(spectra.flux[row], float), np.asarray(spectra.ivar[row], float)
        good = binning.covered & (ivar > 0) & np.isfinite(flux) & np.isfinite(ivar)
        if not good.any() or not 0 < star_radius[row] < np.inf:  # also if it is not known
            found.append(None)
            continue
        scale = star_radius[row] ** 2
        found.append(
            Observation(
                binning.operator[good],
                binning.pixels,
                scale * flux[good],
                scale**2 / ivar[good] + own[good] ** 2,
                names[good],
                scale * offset,
                scale,
            )
        )
    return found


def stacked(statistics: list[Statistics]) -> Statistics:
    """Return the statistics of several spectra as one batch."""
    return Statistics(*(torch.cat([part[n] for part in statistics]) for n in range(2)))


def tensor(values: FloatArray) -> Tensor:
    """Return an array as a tensor of double precision."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
