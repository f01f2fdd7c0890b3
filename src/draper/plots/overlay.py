"""An observed spectrum with a model of it, their difference over the error, and names of lines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.lines import Lines, strong_lines
from draper.data.spectra import Spectra, has_errors
from draper.errors import DraperError
from draper.plots.axes import draw_curve, limit_to, spectral_axis
from draper.plots.names import label_name, rounded, shortened, wrapped
from draper.plots.protocol import LabelEstimates
from draper.plots.style import BLACK, BLUE, RED, free_figure, styled

PIXELS_IN_ROW, MOST_ROWS = 2500, 4
"""Pixels of each row of panels, and the largest number of rows."""
LABELS_IN_ROW = 48
"""Largest number of names of lines side by side."""

HYDROGEN, CORE, SIDE = "H I", 1.0, (2.0, 4.0)
"""A line of hydrogen is named if its whole core is lower than both sides: half-width and range [Angstrom]."""

SHORT = 60
"""Largest length of the last line of a title that is followed by more text."""

MAIN = ("teff", "logg", "fe_h", "rv")
"""Labels that are shown in a title."""

LEAST_DEPTH = 0.02
"""A line is named where the model is lower than its surroundings by this fraction."""


class FitQuality(NamedTuple):
    """What a fit says of itself: its chi2 counts free parameters, the model's own error, and the jitter."""

    reduced_chi2: float
    jitter: float
    """Error that was added to those of the pixels [unit of the flux]."""


@styled
def plot_overlay(
    observed: Spectra,
    model: Spectra,
    *,
    title: str = "",
    lines: Lines | None = None,
    rv: float = 0.0,
    fit: FitQuality | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw one observed spectrum with a model of it; below, their difference over the error.

    Long spectra take several rows. Bad pixels of the observed spectrum are left out. Without errors the
    difference itself is drawn.

    Parameters
    ----------
    observed, model
        One spectrum each, on the same grid.
    title
        Title, such as the star's name and labels.
    lines
        Lines that may be named; draper's table of strong lines by default.
    rv
        Velocity of the lines [km/s].
    fit
        What the fit says of itself; by default the title gives chi2 per pixel of what is drawn.
    figure
        Figure to draw in; a new one by default.
    """
    if len(observed) != 1 or len(model) != 1:
        raise DraperError(
            "an overlay shows one spectrum",
            given=f"{len(observed)} and {len(model)}",
            hint="pick a row: spectra[0]",
        )
    observed.grid.require(
        model.grid, "model and observed spectrum have different grids", "resample one of them"
    )
    rows = int(np.clip(-(-len(observed.grid) // PIXELS_IN_ROW), 1, MOST_ROWS))
    figure = free_figure(9.5, 1.0 + 3.4 * rows) if figure is None else figure
    panels = figure.subplots(2 * rows, 1, squeeze=False, gridspec_kw={"height_ratios": [2.6, 1] * rows})[:, 0]
    table = strong_lines() if lines is None else lines
    shifted = Lines(table.species, table.wavelength * (1 + rv / 299792.458), table.strength)
    good = (observed.ivar[0] > 0) & (model.ivar[0] > 0)
    flux = np.where(observed.ivar[0] > 0, observed.flux[0], np.nan).astype(np.float64)
    spectrum = np.where(model.ivar[0] > 0, model.flux[0], np.nan).astype(np.float64)
    in_sigma = has_errors(observed)
    error = np.where(good, spectrum - flux, np.nan)
    if in_sigma:
        weight = np.where(good, observed.ivar[0], 1.0).astype(np.float64)
        error /= np.sqrt(1 / weight + (fit.jitter if fit else 0.0) ** 2)
    reach = _reach(error)
    for number, pixels in enumerate(np.array_split(np.arange(len(observed.grid)), rows)):
        upper, lower = panels[2 * number], panels[2 * number + 1]
        lower.sharex(upper)
        _draw(upper, lower, observed.grid[pixels], flux[pixels], spectrum[pixels], error[pixels])
        lower.set_ylim(-reach, reach)
        lower.set_ylabel("difference\n[sigma]" if in_sigma else "difference")
        upper.set_ylabel(
            observed.quantity if not observed.unit else f"{observed.quantity}\n[{observed.unit}]"
        )
        if observed.grid.is_spectral:
            name_lines(upper, observed.grid[pixels], spectrum[pixels], flux[pixels], shifted)
    panels[0].legend(loc="lower left", ncols=2)
    panels[-1].set_xlabel(spectral_axis(observed.grid)[1])
    title = wrapped(title)
    space = "   " if len(title.rpartition("\n")[2]) < SHORT else "\n"
    figure.suptitle(f"{title}{space}{_summary(error, in_sigma, fit)}".strip())
    return figure


def title_of_estimates(estimates: LabelEstimates, row: int) -> str:
    """Return a title for one star: its name, the estimates of the main labels, and its flags."""
    parts = []
    for number, name in enumerate(estimates.labels.names):
        if name in MAIN:
            value, error = float(estimates.median[row, number]), float(estimates.sigma[row, number])
            has_error = np.isfinite(error) and error > 0
            digits = max(0, 1 - int(np.floor(np.log10(error)))) if has_error else 2
            text = f" +- {error:.{digits}f}" if has_error else ""
            parts.append(f"{label_name(name)} {value:.{digits}f}{text}")
    raised = [name for name, values in estimates.flags.items() if values[row]]
    title = f"{shortened(estimates.ids[row])}   {',  '.join(parts)}".strip()
    return f"{title}\nflagged: {', '.join(raised)}" if raised else title


def quality_of_fit(estimates: LabelEstimates, row: int) -> FitQuality | None:
    """Return what the table of estimates says of the fit of one star; None if they do not come from a fit."""
    if not set(FitQuality._fields) <= set(estimates.columns):
        return None
    return FitQuality(*(float(estimates.columns[name][row]) for name in FitQuality._fields))


def _draw(
    upper: Axes,
    lower: Axes,
    grid: Grid,
    flux: NDArray[np.float64],
    spectrum: NDArray[np.float64],
    error: NDArray[np.float64],
) -> None:
    draw_curve(upper, grid, flux, color=BLACK, label="observed")
    draw_curve(upper, grid, spectrum, color=RED, alpha=0.9, label="model")
    draw_curve(lower, grid, error, color=BLUE, linewidth=0.6)
    lower.axhline(0, color=BLACK, linewidth=0.6)
    upper.tick_params(labelbottom=False)
    limit_to(upper, grid)


def name_lines(
    ax: Axes, grid: Grid, spectrum: NDArray[np.float64], flux: NDArray[np.float64], lines: Lines
) -> None:
    """Name the strongest lines of a row that are visible in the model and have space for a name."""
    values = np.concatenate([spectrum[np.isfinite(spectrum)], flux[np.isfinite(flux)]])
    if values.size == 0:
        return
    low, high = np.quantile(values, [0.001, 0.999])
    span = max(float(high - low), 1e-12)
    axis, _ = spectral_axis(grid)
    scale = axis[-1] / grid.vacuum[-1]
    space = (axis[-1] - axis[0]) / LABELS_IN_ROW
    chosen: list[tuple[float, str]] = []
    shown = lines.within(float(grid.vacuum[0]), float(grid.vacuum[-1]))
    broad = shown.species == HYDROGEN
    for row in np.lexsort((-shown.strength, ~broad)):  # broad ones first: narrow ones may lie in them
        at = float(shown.wavelength[row]) * scale
        free = all(abs(at - other) > space for other, _ in chosen)
        if free and (
            _is_dip(axis, spectrum, at, scale) if broad[row] else _is_visible(axis, spectrum, at, space)
        ):
            chosen.append((at, str(shown.species[row])))
    roof = float(high) + 0.06 * span
    for at, species in chosen:
        ax.plot([at, at], [roof, roof + 0.04 * span], color="#777777", linewidth=0.6)
        ax.text(
            at,
            roof + 0.06 * span,
            species,
            rotation=90,
            fontsize=6.5,
            ha="center",
            va="bottom",
            color="#444444",
        )
    ax.set_ylim(float(low) - 0.08 * span, roof + (0.34 if chosen else 0.05) * span)


def _is_visible(axis: NDArray[np.float64], spectrum: NDArray[np.float64], at: float, space: float) -> bool:
    """Whether the model is lower at a position than around it."""
    pixel = int(np.argmin(np.abs(axis - at)))
    core, around = spectrum[max(0, pixel - 2) : pixel + 3], spectrum[np.abs(axis - at) <= space]
    if not (np.isfinite(core).any() and np.isfinite(around).any()):
        return False
    level = float(np.nanmedian(around))
    return level > 0 and float(np.nanmin(core)) < (1 - LEAST_DEPTH) * level


def _is_dip(axis: NDArray[np.float64], spectrum: NDArray[np.float64], at: float, scale: float) -> bool:
    """Whether the model has a broad line at a position."""
    away = (axis - at) / scale
    core = spectrum[np.abs(away) <= CORE]
    sides = [spectrum[(away >= low) & (away <= high)] for low, high in (SIDE, (-SIDE[1], -SIDE[0]))]
    if not all(np.isfinite(part).any() for part in (core, *sides)):
        return False
    return float(np.nanmax(core)) < (1 - LEAST_DEPTH) * min(float(np.nanmax(side)) for side in sides)


def _reach(error: NDArray[np.float64]) -> float:
    """Return the range of the axis of differences: it holds 99.5 % of them."""
    finite = np.abs(error[np.isfinite(error)])
    return float(np.quantile(finite, 0.995)) * 1.25 or 1.0 if finite.size else 1.0


def _summary(error: NDArray[np.float64], in_sigma: bool, fit: FitQuality | None) -> str:
    finite = error[np.isfinite(error)]
    if finite.size == 0:
        return "no good pixel"
    rms = float(np.sqrt(np.mean(finite**2)))
    if not in_sigma:
        return f"rms {rounded(rms, signed=False)}"
    if fit is None:
        return f"chi2 per pixel {rms**2:.3g}"
    jitter = f" with jitter {rounded(fit.jitter, signed=False)}" if fit.jitter else ""
    return f"reduced chi2 {fit.reduced_chi2:.4g}{jitter}"
