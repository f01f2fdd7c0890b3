"""Lines that a line list lacks: where observed spectra respond to an element, and synthetic ones do not.

Both kinds of spectra are functions of labels. Their exact derivatives by the abundance of each element are
compared, averaged over stars. A missing line makes the flux fall with the abundance in one of them only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter
from scipy.signal import find_peaks, peak_prominences
from scipy.stats import false_discovery_control, norm

from draper.data.grid import Grid
from draper.data.lines import Lines
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.models.emulator.model import Emulator
from draper.models.translator.response_difference import (
    OBVIOUS,
    Comparison,
    compare,
    fit_noise,
    responses_at,
    settle,
    typical_width,
)
from draper.models.translator.responses import Responses, as_forward_model, stars_of
from draper.results.missing_lines import LineTable

FloatArray = NDArray[np.float64]
Function = ForwardModel | Emulator
Error = Callable[[Comparison], FloatArray]

PROMINENCE = 0.25
"""A peak is one of its own if the valley beside it is lower by this fraction of its height."""

TAIL = 0.1
"""The largest of noise peaks, whose exponential tail is extrapolated."""

DECOYS = 30
"""Fewest noise peaks whose distribution is used; with fewer, noise counts as Gaussian."""

EDGE = 2.0
"""A feature ends where its response is below so many sigma, or a tenth of its peak."""

DRAWS = 2000
"""Draws from which probabilities of elements are counted."""


def new_lines(
    synthetic: Function,
    observed: Function,
    labels: ArrayLike | Mapping[str, ArrayLike] | Spectra | int = 64,
    *,
    null: Function | tuple[Function, Function] | None = None,
    q: float = 0.05,
    least: float = 0.5,
    lines: Lines | None = None,
    width: float | None = None,
    seed: int = 0,
    error: Error | None = None,
) -> LineTable:
    """Find lines that observed spectra have and synthetic ones lack, and the elements that make them.

    Parameters
    ----------
    synthetic, observed
        Functions from labels to both kinds of spectra, on one grid, with equal names of labels.
    labels
        Stars over which responses are averaged: labels (n, d), in the order of ``observed.labels``, or
        columns by name, or the number of stars to draw from the points at which ``observed`` is good.
    null
        Shows what differences look like where nothing is missing: another function of the observed spectra,
        such as that of a second training, which is compared with ``observed``; or a pair (synthetic,
        observed) in which nothing is missing. Give it where functions are trained networks, whose errors
        are not symmetric. Noise is always estimated from differences of the other sign, too, which no
        missing line makes; lines that are too strong in synthetic spectra count as noise.
    q
        Largest expected fraction of false features among those that are returned (Benjamini-Hochberg); with
        1, all candidates are returned.
    least
        Smallest part of the observed response that synthetic spectra must lack. Of a missing line it is 1; a
        line that they have with another strength is no new one.
    lines
        Known lines with which to compare.
    width
        Full width at half maximum [pixels] of a line; measured in the mean spectrum unless given.
    seed
        Decides which stars are drawn, and random numbers behind probabilities of elements.
    error
        Returns the 1-sigma error (e, p) that the mean difference is known to have, smoothed as it is: the
        noise is at least that.

    Returns
    -------
    LineTable
        One row for each feature.

    Examples
    --------
    >>> import draper
    >>> from draper.models.translator.line_mask import mask_lines
    >>> complete = draper.load("builtin:rvs-emulator")
    >>> incomplete = mask_lines(complete, 0.1).forward_model(complete)
    >>> found = new_lines(incomplete, complete, 8)
    >>> len(found) > 20, "Ca" in found.element
    (True, True)
    """
    one, two = as_forward_model(synthetic), as_forward_model(observed)
    stars = stars_of(two, labels, seed)
    pairs = []
    if null is not None:
        pair = null if isinstance(null, tuple) else (observed, null)
        before, after = (responses_at(as_forward_model(model), stars, two) for model in pair)
        pairs.append((before, after))
    old, new = (responses_at(model, stars, two) for model in (one, two))
    return search(old, new, two, pairs, q=q, least=least, lines=lines, width=width, seed=seed, error=error)


def search(
    old: Responses,
    new: Responses,
    observed: ForwardModel,
    pairs: Sequence[tuple[Responses, Responses]] = (),
    *,
    q: float = 0.05,
    least: float = 0.5,
    lines: Lines | None = None,
    width: float | None = None,
    seed: int = 0,
    error: Error | None = None,
) -> LineTable:
    """Return the lines that responses of the same stars show, as :func:`new_lines` does.

    Parameters
    ----------
    old, new
        Responses of synthetic and of observed spectra.
    observed
        Has the grid, and the error of the observed function.
    pairs
        Responses, before and after, between which nothing is missing.
    q, least, lines, width, seed, error
        As for :func:`new_lines`.
    """
    if not 0 < q <= 1:
        raise DraperError("the false discovery rate is not valid", given=q, expected="0 < q <= 1")
    grid, line = observed.grid, float(width or typical_width(new.flux.mean(axis=0)))
    compared = compare(old, new, observed, line)
    compared, noise, plain = settle(compared, one_sided=True)
    everywhere = np.ones_like(noise, dtype=bool)
    scaled = []
    for before, after in pairs:
        nothing, _, _ = settle(compare(before, after, observed, line), one_sided=False)
        noise = np.maximum(noise, fit_noise(nothing, everywhere, at=compared))
        scaled.append(nothing.difference / fit_noise(nothing, everywhere))
    if error is not None:
        noise = np.maximum(noise, error(compared))
    heights = (-compared.difference / noise).max(axis=0)
    # A missing line has responses of the other sign, too, to the opacity of other elements: smaller ones.
    nearby = maximum_filter(heights, 2 * round(1.5 * line) + 1)
    if not pairs:  # Noise may be large near noise that is obvious; a null would tell.
        plain = (nearby < OBVIOUS) | (nearby < (compared.difference / noise).max(axis=0))
    decoys = [_heights(compared.difference / noise, grid, plain)]
    decoys += [np.concatenate([_heights(sign * one, grid) for sign in (1, -1)]) for one in scaled]
    peaks = _peaks(heights, grid)
    # A feature must be unlike noise of either kind.
    p_values = np.max([chance(heights[peaks], one, len(new.elements)) for one in decoys], axis=0)
    table = _table(compared, noise, peaks, p_values, lines, seed)
    lacking = table.fraction >= least
    # Peaks that are no new lines stay in the count of tests, which were made.
    q_values = false_discovery_control(np.where(lacking, p_values, 1.0)) if len(table) else p_values
    return replace(table, q_value=q_values)[lacking & (q_values <= q)]


# ------------------------------------------------------------------------------- peaks and the test


def _peaks(heights: FloatArray, grid: Grid) -> NDArray[np.int64]:
    """Return the pixels of positive peaks of heights (p,), without ripples on the sides of higher ones."""
    found = []
    for piece in grid.segments():
        # Peaks at the ends of a window have no neighbour, which find_peaks would ask for.
        part = np.concatenate([[-np.inf], heights[piece], [-np.inf]])
        peaks, _ = find_peaks(part)
        peaks = peaks[part[peaks] > 0]
        prominences = peak_prominences(np.maximum(part, 0), peaks)[0]
        found.append(peaks[prominences >= PROMINENCE * part[peaks]] - 1 + piece.start)
    return np.concatenate(found).astype(np.int64)


def _heights(difference: FloatArray, grid: Grid, where: NDArray[np.bool_] | None = None) -> FloatArray:
    """Return the heights of peaks of differences (e, p) over their noise, the largest of all elements."""
    heights: FloatArray = difference.max(axis=0)
    peaks = _peaks(heights, grid)
    return heights[peaks if where is None else peaks[where[peaks]]]


def chance(heights: FloatArray, decoys: FloatArray, elements: int) -> FloatArray:
    """Return the probability (m,) that noise has a peak at least so high.

    Parameters
    ----------
    heights
        Heights (m,) of peaks over the noise, the largest of all elements.
    decoys
        Heights of peaks of noise alone. Above nine tenths of them an exponential tail is extrapolated, which
        falls off more slowly than that of Gaussian noise.
    elements
        Number of elements, which counts if there are too few decoys.

    Examples
    --------
    >>> decoys = np.random.default_rng(0).exponential(size=1000)
    >>> chance(np.array([1.0, 10.0]), decoys, 1).round(4)
    array([0.3796, 0.    ])
    """
    if len(decoys) < DECOYS:
        return np.asarray(-np.expm1(elements * norm.logcdf(heights)), dtype=np.float64)
    ordered = np.sort(decoys)
    tail = max(10, round(TAIL * len(decoys)))
    start = ordered[-tail - 1]
    scale = (ordered[-tail:] - start).mean()
    above = len(ordered) - np.searchsorted(ordered, heights)
    empirical = (1 + above) / (1 + len(ordered))
    extrapolated = tail / len(ordered) * np.exp(-np.clip(heights - start, 0, 700 * scale) / scale)
    probability: FloatArray = np.where(heights > start, extrapolated, empirical)
    return probability


# ------------------------------------------------------------------------- features and their elements


def _table(
    compared: Comparison,
    noise: FloatArray,
    peaks: NDArray[np.int64],
    p_values: FloatArray,
    lines: Lines | None,
    seed: int,
) -> LineTable:
    grid, width = compared.grid, compared.width
    z = -compared.difference / noise
    elements, m = compared.new.elements, len(peaks)
    windows = np.array(list(_windows(compared.difference, z, peaks, grid)), dtype=np.int64).reshape(m, 2)
    amplitude = np.zeros((m, len(elements)))
    centroid, depth, fraction = np.zeros(m), np.zeros(m), np.zeros(m)
    known, known_at = np.full(m, "", dtype=object), np.full(m, np.nan)
    missing = (compared.old.flux.astype(np.float64) - compared.new.flux).mean(axis=0)
    for row, (first, last) in enumerate(windows):
        pixels = slice(first, last + 1)
        old, new = (one.slopes[:, pixels].astype(np.float64) for one in (compared.old, compared.new))
        weights, profile = _pattern(old - new)
        amplitude[row] = np.einsum("nwe,n,w->e", old - new, weights, profile)
        whole = -np.einsum("nwe,n,w->e", new, weights, profile)[amplitude[row].argmax()]
        fraction[row] = np.clip(amplitude[row].max() / max(whole, 1e-9), 0, 1)
        vacuum = grid.vacuum[pixels]
        centroid[row] = profile @ vacuum
        depth[row] = missing[peaks[row]]
        if lines is not None:
            known[row], known_at[row] = _nearest(lines, centroid[row], vacuum, width * grid.step[peaks[row]])
    # The noise of a mean over a line's width is also that of the mean over a feature, or more.
    error = noise[:, peaks].T
    random = np.random.default_rng(seed)
    wins = np.zeros(amplitude.shape)
    for row in range(m):
        drawn = random.normal(amplitude[row], error[row], (DRAWS, len(elements)))
        wins[row] = np.bincount(drawn.argmax(axis=1), minlength=len(elements)) / DRAWS
    counts = np.where(amplitude > EDGE * error, amplitude, 0.0)
    best = amplitude.argmax(axis=1)[:, None] == np.arange(len(elements))
    counts = np.where(best & (counts.sum(axis=1, keepdims=True) == 0), 1.0, counts)
    return LineTable(
        grid, elements, windows[:, 0], windows[:, 1], peaks, centroid, depth, fraction, amplitude,
        error, wins, counts / counts.sum(axis=1, keepdims=True) if m else counts,
        z.max(axis=0)[peaks], p_values, p_values,
        known.astype(str), known_at, compared.difference, noise,
        np.stack([compared.old.flux.mean(axis=0), compared.new.flux.mean(axis=0)]).astype(np.float64), width,
    )  # fmt: skip


def _pattern(slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return weights of stars (n,) and of pixels (w,) of a feature, each of sum 1.

    Parameters
    ----------
    slopes
        Depth per dex (n, w, e) that synthetic spectra lack, of n stars in the pixels of a feature. Stars and
        pixels count by how strong the feature is there in all elements together: a line of an element is
        strong in the same stars and pixels as its response, whichever the element.
    """
    total = slopes.sum(axis=2)
    profile = np.clip(total.mean(axis=0), 0, None)
    profile = profile if profile.any() else np.ones(slopes.shape[1])
    weights = np.clip(total @ profile, 0, None)
    weights = weights if weights.any() else np.ones(len(total))
    return weights / weights.sum(), profile / profile.sum()


def _windows(
    difference: FloatArray, z: FloatArray, peaks: NDArray[np.int64], grid: Grid
) -> Iterator[tuple[int, int]]:
    """Yield the first and last pixel of features with these peaks; they end at valleys between peaks."""
    pieces = grid.segments()
    for number, peak in enumerate(peaks):
        element = int(z[:, peak].argmax())
        piece = next(piece for piece in pieces if piece.start <= peak < piece.stop)
        inside = (z[element] >= EDGE) & (difference[element] <= 0.1 * difference[element, peak])
        ends = []
        for side, bound in ((-1, piece.start), (1, piece.stop - 1)):
            if 0 <= number + side < len(peaks) and (peaks[number + side] - bound) * side < 0:
                low, high = sorted((peak, peaks[number + side]))
                bound = low + int(z[:, low : high + 1].max(axis=0).argmin())
            end = int(peak)
            while end != bound and inside[end + side]:
                end += side
            ends.append(end)
        yield ends[0], ends[1]


def _nearest(lines: Lines, centre: float, vacuum: FloatArray, reach: float) -> tuple[str, float]:
    """Return species and wavelength of the line nearest to a feature's centre, if one is near its pixels."""
    near = lines.within(vacuum[0] - reach, vacuum[-1] + reach)
    if not len(near):
        return "", np.nan
    at = int(np.abs(near.wavelength - centre).argmin())
    return str(near.species[at]), float(near.wavelength[at])
