"""The transmission spectrum of a planet with the spectra of its posterior, and what absorbs where."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any, Literal, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.plots.names import shortened, wrapped
from draper.plots.style import BLACK, BLUE, COLORS, free_figure, styled

FloatArray = NDArray[np.float64]

LEVELS = (0.95, 0.68)
"""Probabilities of the bands of the model, the wider first."""

TICKS = (0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30)
"""Wavelengths [um] at which the axis may have a tick."""

FILLS = (*COLORS[1:5], "#8B6FB5", "#666666", "#B5A642", "#7F3B08")
"""Colours of absorbers; blue is the model's."""

FEW = 4
"""Number of ``TICKS`` in range below which there are ticks at round numbers instead."""

MANY = 200
"""Number of bins from which data are fainter, and behind the model."""

FACTORS = {"ppm": 1e6, "%": 100.0}


@styled
def plot_transmission(
    spectrum: Spectra,
    predicted: FloatArray,
    contributions: Mapping[str, FloatArray] | None = None,
    *,
    unit: Literal["ppm", "%"] | None = None,
    title: str | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw a transmission spectrum, the median and the central 68 and 95 % of the model, and the residuals.

    Parameters
    ----------
    spectrum
        One spectrum of transit depths in p bins; horizontal bars are the widths of the bins, if known, and
        bins without weight are left out.
    predicted : ndarray (draws, p)
        Spectra of samples of the posterior, in the same bins.
    contributions : mapping of str to ndarray (p,), optional
        Depths that each absorber alone would give, such as a molecule or the cloud deck; drawn as areas.
    unit
        Of the depth; by default % from a median depth of 1 % on, else ppm.
    title
        Above the plot; by default the name of the spectrum.
    figure
        Where to draw; a new figure by default.
    """
    depths = np.asarray(predicted, dtype=np.float64)
    _check(spectrum, depths, contributions or {})
    good = spectrum.ivar[0] > 0
    data = np.where(good, spectrum.flux[0], np.nan).astype(np.float64)
    sigma = 1 / np.sqrt(np.where(good, spectrum.ivar[0], np.nan).astype(np.float64))
    median = np.median(depths, axis=0)
    unit = unit or ("%" if float(np.median(median)) >= 0.01 else "ppm")
    factor = FACTORS[unit]
    axis = spectrum.grid.vacuum / 1e4
    half = _half_widths(spectrum)
    figure = free_figure(8.0, 5.2) if figure is None else figure
    upper, lower = cast(
        tuple[Axes, Axes], figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    )
    _set_limits(upper, [factor * part for part in (depths, data - sigma, data + sigma)])
    _draw_contributions(upper, spectrum, {n: factor * v for n, v in (contributions or {}).items()})
    _draw_model(upper, spectrum, factor * depths)
    is_many = len(axis) > MANY
    bars: dict[str, Any] = {
        "fmt": "o",
        "color": BLACK,
        "markersize": 1.2 if is_many else 3,
        "elinewidth": 0.3 if is_many else 0.8,
        "alpha": 0.4 if is_many else 1.0,
        "capsize": 0,
        "zorder": 2 if is_many else 4,
    }
    upper.errorbar(axis, factor * data, factor * sigma, half, label="data", **bars)
    pull = (data - median) / sigma
    for reach in (1, 3):
        lower.axhspan(-reach, reach, color="#999999", alpha=0.13, linewidth=0)
    lower.axhline(0, color=BLUE)
    lower.errorbar(axis, pull, np.where(good, 1.0, np.nan), half, **bars)
    limit = max(3.5, 1.1 * float(np.nanmax(np.abs(pull), initial=0)) + 1)
    lower.set_ylim(-limit, limit)
    _set_wavelength_axis(lower, axis, half)
    upper.set_ylabel(f"transit depth [{unit}]")
    lower.set_ylabel("residual [sigma]")
    chi2 = float(np.nansum(pull**2))
    upper.set_title(shortened(spectrum.ids[0]) if title is None else wrapped(title))
    bins = f"{int(good.sum()):,} bin{'s' if good.sum() != 1 else ''}"
    lower.set_title(f"chi2 of the median = {chi2:,.1f} in {bins}", loc="right", fontsize=8)
    _draw_legend(upper)
    figure.align_ylabels()
    return figure


def _check(spectrum: Spectra, depths: FloatArray, contributions: Mapping[str, FloatArray]) -> None:
    pixels = len(spectrum.grid)
    if len(spectrum) != 1 or not spectrum.grid.is_spectral:
        raise DraperError(
            "the plot shows one spectrum against wavelength",
            given=f"{spectrum!r}",
            hint="choose one: spectra[0]",
        )
    shapes = {"predicted": depths.shape[1:] if depths.ndim == 2 and len(depths) else depths.shape}
    shapes |= {name: np.shape(values) for name, values in contributions.items()}
    for name, shape in shapes.items():
        if shape != (pixels,):
            raise DraperError(
                f"the depths '{name}' are not those of the bins of the spectrum",
                given=f"shape {depths.shape if name == 'predicted' else shape}",
                expected=f"(draws, {pixels})" if name == "predicted" else f"({pixels},)",
            )


def _half_widths(spectrum: Spectra) -> FloatArray | None:
    """Return the distances (2, p) [um] of bins from their edges, if these are known."""
    edges = spectrum.grid.edges
    if edges is None:
        return None
    axis = spectrum.grid.vacuum
    return np.abs(np.stack([axis - edges[:, 0], edges[:, 1] - axis])) / 1e4


def _set_limits(ax: Axes, shown: list[FloatArray]) -> None:
    low = min(float(np.nanmin(values)) for values in shown)
    high = max(float(np.nanmax(values)) for values in shown)
    margin = 0.08 * (high - low)
    ax.set_ylim(low - margin, high + 2.5 * margin)  # the legend is above


def _draw_model(ax: Axes, spectrum: Spectra, depths: FloatArray) -> None:
    """Draw median and bands, without bridging gaps between the ranges of the grid; a bin alone is a step."""
    axis, half = spectrum.grid.vacuum / 1e4, _half_widths(spectrum)
    for number, piece in enumerate(spectrum.grid.segments()):
        x, drawn = axis[piece], depths[:, piece]
        if len(x) == 1 and half is not None:
            x, drawn = x + half[:, piece][:, 0] * [-1, 1], np.repeat(drawn, 2, axis=1)
        for level in LEVELS:
            low, high = np.quantile(drawn, (0.5 - level / 2, 0.5 + level / 2), axis=0)
            text = f"{100 * level:.0f} %" if number == 0 else None
            alpha = 0.25 if level == LEVELS[0] else 0.45
            ax.fill_between(x, low, high, color=BLUE, alpha=alpha, linewidth=0, label=text, zorder=3)
        middle = np.median(drawn, axis=0)
        ax.plot(x, middle, color=BLUE, label="median" if number == 0 else None, zorder=3)


def _draw_contributions(ax: Axes, spectrum: Spectra, contributions: Mapping[str, FloatArray]) -> None:
    """Fill from what all absorbers have in common to the depth of each, the highest first: none is hidden."""
    if not contributions:
        return
    axis, floor = spectrum.grid.vacuum / 1e4, np.min([*contributions.values()], axis=0)
    colours = dict(zip(contributions, cycle(FILLS), strict=False))
    for name in sorted(contributions, key=lambda name: -float(np.mean(contributions[name]))):
        colour = colours[name]
        for number, piece in enumerate(spectrum.grid.segments()):
            depth, text = contributions[name][piece], name if number == 0 else None
            ax.fill_between(
                axis[piece], floor[piece], depth, color=colour, alpha=0.35, linewidth=0, label=text
            )
            ax.plot(axis[piece], depth, color=colour, linewidth=0.6)


def _draw_legend(ax: Axes) -> None:
    """List data and model first, then the absorbers."""
    handles, texts = ax.get_legend_handles_labels()
    own = ["data", "median", *(f"{100 * level:.0f} %" for level in reversed(LEVELS))]
    order = [texts.index(text) for text in own] + [n for n, text in enumerate(texts) if text not in own]
    ax.legend([handles[n] for n in order], [texts[n] for n in order], loc="upper left", ncols=5)


def _set_wavelength_axis(ax: Axes, axis: FloatArray, half: FloatArray | None) -> None:
    ax.set_xscale("log")
    low, high = (axis, axis) if half is None else (axis - half[0], axis + half[1])
    ax.set_xlim(0.98 * float(low.min()), 1.02 * float(high.max()))
    shown = [tick for tick in TICKS if low.min() <= tick <= high.max()]
    ax.xaxis.set_major_locator(FixedLocator(shown) if len(shown) >= FEW else MaxNLocator(7))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("vacuum wavelength [um]")
