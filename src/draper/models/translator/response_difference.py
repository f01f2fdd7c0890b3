"""How responses of two functions differ, and the noise of that difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation, gaussian_filter1d
from scipy.optimize import nnls
from scipy.signal import find_peaks, peak_widths

from draper.data.grid import Grid
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.models.translator.responses import Responses, element_labels, responses

FloatArray = NDArray[np.float64]

BASELINE = 10
"""Differences broader than so many widths of a line are no lines; they are subtracted where that is safe."""

CLIP, KEPT = 2.5, 0.9205
"""Squares of noise are clipped at CLIP sigma, which leaves this fraction of their mean."""

FEWEST = 30
"""Fewest values from which noise is estimated as a sum of several parts."""

FWHM = 2.3548
"""Full width at half maximum of a Gaussian, in sigma."""

LEVEL = 2.0
"""Differences are clipped at so many sigma where their broad parts are measured."""

OBVIOUS = 5.0
"""Differences above so many sigma are no noise, whatever a test will say."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Responses of two functions, and their mean difference over n stars.

    Attributes
    ----------
    grid : Grid
        The p pixels.
    width : float
        Full width at half maximum [pixels] of a line.
    old, new : Responses
        Responses of each star.
    weights : ndarray (n, e)
        Weights of stars in means.
    difference : ndarray (e, p)
        Mean of new - old, smoothed by the width of a line.
    templates : ndarray (k, e, p)
        Variances of its noise up to factors: the same everywhere; that of errors that scale with the
        response; that of the new function's own error.
    """

    grid: Grid
    width: float
    old: Responses
    new: Responses
    weights: FloatArray
    difference: FloatArray
    templates: FloatArray

    def mean(self, one: Responses) -> FloatArray:
        """Return the mean response (e, p) over stars, smoothed as the difference is."""
        return smoothed(np.einsum("npe,ne->ep", one.slopes, self.weights), self.grid, self.width)


def responses_at(model: ForwardModel, stars: Mapping[str, FloatArray], like: ForwardModel) -> Responses:
    """Return the responses of a function at stars, given that it has the grid and the labels of another."""
    like.grid.require(model.grid, "the functions have different grids", "resample one of them")
    if set(model.labels.names) != set(like.labels.names):
        raise DraperError(
            "the functions have different labels",
            given=", ".join(model.labels.names),
            expected=", ".join(like.labels.names),
        )
    found = responses(model, model.labels.read(stars))
    elements = tuple(element_labels(like.labels))
    order = [found.elements.index(name) for name in elements]
    return Responses(elements, found.flux, found.slopes[:, :, order])


def compare(old: Responses, new: Responses, observed: ForwardModel, width: float) -> Comparison:
    """Return the mean difference of responses; ``observed`` made the new ones."""
    grid = observed.grid
    # Errors that trained functions make are much the same in all stars: those with strong lines tell more.
    weights = np.sqrt(np.square(new.slopes, dtype=np.float64).mean(axis=1)) + 1e-9
    weights /= weights.sum(axis=0)
    whole = Comparison(grid, width, old, new, weights, np.empty(0), np.empty(0))
    means = whole.mean(old), whole.mean(new)
    difference = means[1] - means[0]
    templates = [
        np.ones_like(difference),
        np.maximum(*map(np.abs, means)) ** 2,
        np.broadcast_to(own_variance(observed, width), difference.shape),
    ]
    return replace(whole, difference=difference, templates=np.stack(templates))


def settle(compared: Comparison, *, one_sided: bool) -> tuple[Comparison, FloatArray, NDArray[np.bool_]]:
    """Return differences without broad parts, their noise (e, p), and the plain pixels (p,) it is taken from.

    One-sided noise is that of differences above 0, which no line makes that old spectra lack.
    """
    plain = np.ones(len(compared.grid), dtype=bool)
    for _ in range(2):
        noise = fit_noise(compared, plain & ((compared.difference >= 0) | (not one_sided)))
        heights = compared.difference / noise
        # Pixels of missing lines may also respond with the other sign, to the opacity of other elements.
        strong = (-heights if one_sided else np.abs(heights)).max(axis=0) > OBVIOUS
        plain &= ~binary_dilation(strong, iterations=round(1.5 * compared.width))
        compared = levelled(compared, noise, plain)
    noise = fit_noise(compared, plain & ((compared.difference >= 0) | (not one_sided)))
    return compared, noise, plain


def levelled(compared: Comparison, noise: FloatArray, plain: NDArray[np.bool_]) -> Comparison:
    """Return differences less their broad parts, which plain pixels (p,), those without lines, show."""
    broad = BASELINE * compared.width
    weight = smoothed(plain[None].astype(np.float64), compared.grid, broad)
    # Wings of lines, which are not obvious, would count most.
    values = np.clip(compared.difference, -LEVEL * noise, LEVEL * noise) * plain
    level = smoothed(values, compared.grid, broad) / np.maximum(weight, 1e-9)
    # In the middle of a broad feature no plain pixel is near.
    return replace(compared, difference=compared.difference - np.where(weight > 0.1, level, 0.0))


def own_variance(model: ForwardModel, width: float) -> FloatArray:
    """Return the variance (p,) of the function's own error, smoothed as differences are; 0 if unknown."""
    error = model.function.uncertainty.detach().cpu().numpy().astype(np.float64)
    modes = model.function.modes.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(error).all():
        return np.zeros(len(error))
    # Errors that pixels have in common add up when pixels are averaged; the others cancel.
    alone = np.clip(error**2 - (modes**2).sum(axis=0), 0, None)
    together = (smoothed(modes, model.grid, width) ** 2).sum(axis=0)
    sigma = width / FWHM
    # The square of a Gaussian kernel is one that is narrower by the square root of 2.
    variance: FloatArray = together + smoothed(alone[None], model.grid, width / 2**0.5)[0] / (
        2 * np.pi**0.5 * sigma
    )
    return variance


def fit_noise(fitted: Comparison, chosen: NDArray[np.bool_], at: Comparison | None = None) -> FloatArray:
    """Return the noise (e, p) of differences: a sum of templates, fitted robustly to chosen values (e, p)."""
    templates = (fitted if at is None else at).templates
    # Without any noise, rounding of 32-bit numbers is what is left.
    floor = (1e-6 * max(1.0, float(np.abs(fitted.new.slopes).max()))) ** 2
    noise = np.empty_like(fitted.difference)
    for row, use in enumerate(chosen):
        values = fitted.difference[row, use] ** 2
        basis = fitted.templates[:, row][:, use].T
        scale = np.maximum(fitted.templates[:, row].mean(axis=1), 1e-30)
        variance = np.full(len(values), max(floor, 2.2 * float(np.median(values)) if len(values) else floor))
        factors = np.zeros(len(scale))
        for _ in range(10 if len(values) >= FEWEST else 0):
            clipped = np.minimum(values, CLIP**2 * variance) / KEPT
            factors, _ = nnls(basis / scale / variance[:, None], clipped / variance)
            variance = np.maximum(basis @ (factors / scale), floor)
        if len(values) < FEWEST:
            factors[0] = variance[0] if len(values) else floor
        noise[row] = np.sqrt(np.maximum(templates[:, row].T @ (factors / scale), floor))
    return noise


def smoothed(rows: ArrayLike, grid: Grid, width: float) -> FloatArray:
    """Return rows (k, p), averaged over a line's width in each window of the grid."""
    smooth = np.array(rows, dtype=np.float64)
    for piece in grid.segments():
        if smooth.shape[0]:
            smooth[:, piece] = gaussian_filter1d(smooth[:, piece], width / FWHM, axis=1, mode="nearest")
    return smooth


def typical_width(flux: ArrayLike) -> float:
    """Return the median full width at half depth [pixels] of the lines of a spectrum (p,); 3 if it has none.

    Examples
    --------
    >>> x = np.arange(-30, 30)
    >>> round(typical_width(1 - 0.3 * np.exp(-0.5 * (x / 2) ** 2)), 1)
    4.8
    """
    depth = -np.asarray(flux, dtype=np.float64)
    peaks, _ = find_peaks(depth, prominence=0.01)
    return float(np.clip(np.median(peak_widths(depth, peaks)[0]), 1.0, None)) if len(peaks) else 3.0
