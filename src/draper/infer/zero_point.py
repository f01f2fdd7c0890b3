"""Zero points: what stars with known labels say of a model's lines, and of the labels of other fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.configs.fit import FitConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.infer.exposures import Exposure
from draper.infer.forward import ForwardModel
from draper.infer.prepare import prepare
from draper.infer.start import at_rest
from draper.nn.precision import fit_mode

FloatArray = NDArray[np.float64]

SUN = {"teff": 5772.0, "logg": 4.438, "fe_h": 0.0, "vmic": 1.0}
"""Labels of the Sun (IAU 2015 resolution B3; 1 km/s as in most differential analyses); all [X/Fe] are 0."""

STRENGTH = 0.3
"""1-sigma of how much the depth of a line in a model may be wrong, relative to that depth."""

MISSING = 0.02
"""1-sigma of the depth of lines that a model lacks, in the first star."""

MISFIT = 0.005
"""Difference that is left between real and computed spectra with the right lines."""

FEWEST_PIXELS = 30
"""Fewest pixels that show their noise."""

SCATTER_FROM = 5
"""Number of stars from which on the scatter beyond their errors is measured."""

BEND = 1.0
"""Differences [sigma] beyond which a star counts less in an offset."""

CUT, CUT_SQUARE = 2.0, 0.9205
"""Differences [sigma] at which those of a scatter are cut off; mean of z^2 of a Gaussian that is cut so."""

ROUNDS = 50
"""Rounds of weights; halvings of the range of a variance."""


def sun(labels: LabelSet) -> dict[str, float]:
    """Return the labels of the Sun that a model has.

    Examples
    --------
    >>> from draper.data.labels import Label
    >>> sun(LabelSet([Label("teff", low=4000, high=7000), Label("mg_fe")]))
    {'teff': 5772.0, 'mg_fe': 0.0}
    """
    return {name: SUN.get(name, 0.0) for name in labels.names if name in SUN or name.endswith(("_fe", "_h"))}


@torch.no_grad()
def line_correction(
    model: ForwardModel, spectra: Spectra, known: FloatArray, config: FitConfig
) -> tuple[Tensor, Tensor]:
    """Return by how much lines of a model are too weak in real stars, pixel by pixel.

    The depth d of a spectrum becomes (1 + a) d + b m, with m its mean over all pixels: a corrects strengths
    of lines, b adds lines that the model lacks, which are weaker where all lines are. Both shrink to 0 where
    the stars do not demand them.

    Parameters
    ----------
    model
        The function; flux 1 is the continuum.
    spectra
        Real stars, on any pixels, at least as sharp as what is to be corrected.
    known : ndarray (n, d)
        Their labels; those that are NaN are fitted.
    config
        How spectra are fitted.

    Returns
    -------
    Tensor (p,), Tensor (p,)
        a and b.
    """
    names = model.labels.names
    pixels = len(model.grid)
    curvature, gradient = torch.zeros(pixels, 2, 2).double(), torch.zeros(pixels, 2).double()
    wavelength = torch.tensor(model.grid.vacuum)
    first, (noise, level) = None, noise_of(spectra, model.grid)
    for row, values in enumerate(known):
        fixed = {name: float(value) for name, value in zip(names, values, strict=True) if np.isfinite(value)}
        with fit_mode():
            (exposure,), fitter, _ = prepare(
                model, spectra[row], config.replace(fixed={**config.fixed, **fixed}, jitter="fit")
            )
            solved = fitter.solve([Exposure.of(exposure)])
        ((part, place),) = solved.problem.each
        x = solved.solution.x[:, place]
        flux, _ = part.models(x)
        ratio = torch.where((part.ivar > 0) & (flux > 0), part.flux / flux, 1.0)
        rv = part.layout.split(x)[1] if part.rv is None else part.rv
        seen, weight = at_rest(wavelength, part.observed, ratio, part.ivar, rv)
        depth = 1 - model.function(solved.solution.x[:, : len(names)].float())[0].double()
        lack = (1 - depth) * (1 - seen[0].double())
        good = weight[0] > 0
        density = good / (MISFIT**2 + float(noise[row] / level[row]) ** 2)
        parts = torch.stack([depth, depth.mean().expand(pixels)], dim=1)
        curvature += parts[:, :, None] * parts[:, None] * density[:, None, None]
        gradient += parts * torch.where(good, density * lack, 0.0)[:, None]
        first = depth.mean() if first is None else first
    assert first is not None
    prior = torch.tensor([STRENGTH**-2, float(MISSING / first) ** -2]).double()
    share, extra = torch.linalg.solve(curvature + torch.diag(prior), gradient).T.float()
    return share, extra


def noise_of(spectra: Spectra, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """Return the noise (n,) of spectra within a grid, and their level (n,), both in units of the flux.

    Noise is what differs between every second pixel (Stoehr et al. 2008), so that neither errors need be
    stated nor lines be known.

    Examples
    --------
    >>> grid = Grid.linear(5000, 5100, 0.05, medium="vacuum")
    >>> flux = 3 + 0.03 * np.random.default_rng(0).normal(size=(1, len(grid)))
    >>> noise, level = noise_of(Spectra(grid, flux), grid)
    >>> noise.round(2), level.round(1)
    (array([0.03]), array([3.]))
    """
    inside = (spectra.grid.vacuum >= grid.vacuum[0]) & (spectra.grid.vacuum <= grid.vacuum[-1])
    noise, level = np.zeros(len(spectra)), np.ones(len(spectra))
    for row, (flux, ivar) in enumerate(zip(spectra.flux[:, inside], spectra.ivar[:, inside], strict=True)):
        good = flux[ivar > 0].astype(np.float64)
        if len(good) > FEWEST_PIXELS:
            jumps = np.abs(2 * good[2:-2] - good[:-4] - good[4:])
            noise[row] = 1.4826 / 6**0.5 * np.median(jumps)
            level[row] = max(float(np.median(np.abs(good))), 1e-30)
    return noise, level


@dataclass(frozen=True)
class Offsets:
    """How fitted labels differ from known ones, for d labels; 0 where none is known.

    Attributes
    ----------
    offset, error : ndarray (d,)
        What to subtract from fitted labels, and its 1-sigma error.
    scatter : ndarray (d,)
        1-sigma scatter beyond the errors of both; 0 if it is unknown, as there are too few stars.
    stars : ndarray (d,)
        Stars whose label is known.
    """

    offset: FloatArray
    error: FloatArray
    scatter: FloatArray
    stars: NDArray[np.int64]

    @classmethod
    def of(cls, difference: FloatArray, variance: FloatArray) -> Offsets:
        """Return the offsets of differences (n, d), fitted minus known, whose variances are (n, d).

        Stars far off count less. From five stars on, the scatter is that at which the differences have the
        size that is expected of Gaussians.

        Examples
        --------
        >>> off = np.random.default_rng(0).normal(0.1, 0.05, size=(400, 1))
        >>> found = Offsets.of(off, np.full_like(off, 0.03**2))
        >>> found.offset.round(2), found.scatter.round(2)
        (array([0.1]), array([0.04]))
        """
        columns = [_offset(*column) for column in zip(difference.T, variance.T, strict=True)]
        return cls(*(np.array(values) for values in zip(*columns, strict=True)))


def _offset(difference: FloatArray, variance: FloatArray) -> tuple[float, float, float, int]:
    """Return offset, error, scatter and number of stars of one label."""
    known = np.isfinite(difference) & np.isfinite(variance)
    if not known.any():
        return 0.0, 0.0, 0.0, 0
    off, own, count = difference[known], variance[known].clip(1e-30), int(known.sum())
    offset, scatter = float(np.median(off)), 0.0
    for _ in range(ROUNDS):
        if count >= SCATTER_FROM:
            scatter = _scatter(off - offset, own)
        total = own + scatter**2
        share = np.minimum(1, BEND / np.maximum(np.abs(off - offset) / np.sqrt(total), 1e-9))
        weight = (share if count >= SCATTER_FROM else 1.0) / total
        offset = float(np.sum(weight * off) / np.sum(weight))
    error = float(np.sum(weight) ** -0.5)
    if 1 < count < SCATTER_FROM:
        # Too few for a scatter; but where they do not agree, their mean is less sure.
        error *= max(1.0, float(np.sqrt(np.sum((off - offset) ** 2 / own) / (count - 1))))
    return offset, error, scatter, count


def _scatter(off: FloatArray, own: FloatArray) -> float:
    """Return the scatter that brings squared differences, cut off beyond ``CUT`` sigma, to their mean."""
    expected = CUT_SQUARE * (len(off) - 1) / len(off)
    low, high = 0.0, float(np.max(off**2)) + 1e-30
    for _ in range(ROUNDS):
        middle = 0.5 * (low + high)
        if np.minimum(off**2 / (own + middle), CUT**2).mean() > expected:
            low = middle
        else:
            high = middle
    return float(np.sqrt(low))
