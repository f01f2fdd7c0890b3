"""The posterior of the labels of one spectrum, label against label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from draper.errors import DraperError
from draper.plots.names import label_name, with_unit
from draper.plots.protocol import LabelEstimates
from draper.plots.style import BLACK, BLUE, RED, free_figure, styled

FloatArray = NDArray[np.float64]

MASSES = (0.95, 0.68)
"""Probabilities that lie inside the contours."""
BINS = 36
REACH = 3.5
"""Half of the width of a panel in sigma, where there are no samples."""


@styled
def plot_corner(
    estimates: LabelEstimates,
    row: int = 0,
    truth: Mapping[str, NDArray[Any]] | None = None,
    names: Sequence[str] | None = None,
    *,
    figure: Figure | None = None,
) -> Figure:
    """Draw the posterior of one spectrum: each label on the diagonal, each pair of labels below it.

    Contours hold 68 and 95 %. They are those of the samples, else of the Gaussian of median and covariance
    (without a covariance the errors count as independent). Dashed lines are the median and the central 68 %.

    Parameters
    ----------
    estimates
        Of n spectra.
    row
        Which of them.
    truth
        Columns (n,) of true values, drawn as lines.
    names
        Which labels; all that have an estimate by default.
    figure
        Where to draw; a new figure by default.
    """
    if not 0 <= row < len(estimates):
        raise DraperError("there is no such spectrum", given=row, expected=f"0 to {len(estimates) - 1}")
    own = estimates.rows(row)
    measured = own.sigma[0] > 0
    names = (
        [n for n, good in zip(own.labels.names, measured, strict=True) if good] if names is None else names
    )
    places = [own.labels.names.index(own.labels[name].name) for name in names]
    if not places or not measured[places].all():
        raise DraperError(
            "a corner plot shows labels with an error",
            given=f"{own!r}, row {row}",
            hint="choose another row, or name labels that were measured (names=)",
        )
    values = [_true_value(truth, name, row) for name in names]
    ranges = [_range(own, place, value) for place, value in zip(places, values, strict=True)]
    size = len(names)
    figure = free_figure(1.9 * size + 0.9, 1.9 * size + 0.7) if figure is None else figure
    panels = figure.subplots(size, size, squeeze=False)
    for i, j in np.ndindex(size, size):
        ax = cast(Axes, panels[i, j])
        if j > i:
            ax.remove()
            continue
        ax.grid(visible=False)
        if i == j:
            _draw_label(ax, own, places[i], ranges[i])
            ax.set_title(f"{label_name(names[i])} = {_quoted(own, places[i])}", fontsize=9)
        else:
            _draw_pair(ax, own, places[j], places[i], ranges[j], ranges[i])
            ax.set_ylim(ranges[i])
            if np.isfinite(values[i]):
                ax.axhline(values[i], color=RED)
        if np.isfinite(values[j]):
            ax.axvline(values[j], color=RED)
        ax.set_xlim(ranges[j])
        _label_axes(ax, own, places, i, j)
    figure.align_labels()
    return figure


def _label_axes(ax: Axes, own: LabelEstimates, places: Sequence[int], i: int, j: int) -> None:
    """Name the outer axes only."""
    ax.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
    ax.tick_params(labelsize=8)
    if i == len(places) - 1:
        ax.set_xlabel(with_unit(own.labels[places[j]]))
        ax.tick_params(axis="x", rotation=40)
    else:
        ax.tick_params(labelbottom=False)
    if i == j:
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        return
    ax.yaxis.set_major_locator(MaxNLocator(3, prune="both"))
    if j == 0:
        ax.set_ylabel(with_unit(own.labels[places[i]]))
    else:
        ax.tick_params(labelleft=False)


def _draw_label(ax: Axes, own: LabelEstimates, place: int, span: tuple[float, float]) -> None:
    if own.samples is not None:
        drawn = own.samples[0, :, place]
        ax.hist(drawn, bins=BINS, range=span, color=BLUE, alpha=0.35, histtype="stepfilled")
    else:
        x = np.linspace(*span, 200)
        density = np.exp(-0.5 * ((x - own.median[0, place]) / own.sigma[0, place]) ** 2)
        ax.fill_between(x, density, color=BLUE, alpha=0.35, linewidth=0)
    for end in (own.quantile(0.5), *own.interval(0.68)):
        ax.axvline(end[0, place], color=BLACK, linestyle="--")
    ax.set_ylim(bottom=0)


def _draw_pair(
    ax: Axes, own: LabelEstimates, x: int, y: int, across: tuple[float, float], up: tuple[float, float]
) -> None:
    if own.samples is None:
        for mass in MASSES:
            ax.fill(*_ellipse(own, x, y, mass), color=BLUE, alpha=0.35, linewidth=0)
        return
    first, second = own.samples[0, :, x], own.samples[0, :, y]
    counts, x_edges, y_edges = np.histogram2d(first, second, BINS, (across, up))
    density = gaussian_filter(counts, 1.2, mode="constant")
    ax.plot(first, second, ".", color=BLUE, markersize=1, alpha=0.15, rasterized=True)
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    levels = [_level(density, mass) for mass in MASSES]
    if levels[0] < levels[1] < density.max():
        colours = [(*_rgb(BLUE), 0.35), (*_rgb(BLUE), 0.6)]
        ax.contourf(*middles, density.T, [*levels, density.max()], colors=colours)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def _level(density: FloatArray, mass: float) -> float:
    """Return the density above which a part of all the mass lies."""
    ordered = np.sort(density, axis=None)[::-1]
    share = np.cumsum(ordered) / max(float(ordered.sum()), 1e-300)
    return float(ordered[min(int(np.searchsorted(share, mass)), ordered.size - 1)])


def _ellipse(own: LabelEstimates, x: int, y: int, mass: float) -> FloatArray:
    """Return the outline (2, points) that holds a part of the mass of a Gaussian."""
    covariance = np.diag(own.sigma[0] ** 2) if own.covariance is None else own.covariance[0]
    sizes, axes = np.linalg.eigh(covariance[np.ix_([x, y], [x, y])])
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.sqrt(-2 * np.log(1 - mass)) * np.stack([np.cos(angle), np.sin(angle)])
    outline: FloatArray = own.median[0, [x, y], None] + axes @ (
        np.sqrt(np.maximum(sizes, 0))[:, None] * circle
    )
    return outline


def _range(own: LabelEstimates, place: int, value: float) -> tuple[float, float]:
    """Return what a panel shows of a label: nearly all of the posterior, and the true value."""
    if own.samples is not None:
        low, high = np.quantile(own.samples[0, :, place], (0.002, 0.998))
        margin = 0.08 * (high - low)
        low, high = low - margin, high + margin
    else:
        reach = REACH * own.sigma[0, place]
        low, high = own.median[0, place] - reach, own.median[0, place] + reach
    if np.isfinite(value):
        margin = 0.05 * (high - low)
        low, high = min(low, value - margin), max(high, value + margin)
    return float(low), float(high)


def _true_value(truth: Mapping[str, NDArray[Any]] | None, name: str, row: int) -> float:
    """Return a true value, NaN where it is not known."""
    return np.nan if truth is None or name not in truth else float(truth[name][row])


def _quoted(own: LabelEstimates, place: int) -> str:
    """Return the median with the distances to the ends of the central 68 %, to two digits of the smaller."""
    middle, low, high = (float(v[0, place]) for v in (own.quantile(0.5), *own.interval(0.68)))
    below, above = middle - low, high - middle
    smaller = min((width for width in (below, above) if width > 0), default=1.0)
    digits = max(0, 1 - int(np.floor(np.log10(smaller))))
    return f"${middle:.{digits}f}_{{-{below:.{digits}f}}}^{{+{above:.{digits}f}}}$"
