"""The same star with other labels: its spectrum, errors over a grid of labels, and the swap test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from draper.data.grid import Grid
from draper.data.labels import Label
from draper.data.lines import strong_lines
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.plots.axes import draw_curve, limit_to, logarithmic, spectral_axis
from draper.plots.latent import point_size
from draper.plots.names import label_name, rounded, shortened, with_unit, wrapped
from draper.plots.overlay import name_lines
from draper.plots.recovery import PLATE
from draper.plots.style import BLACK, BLUE, COLORS, RED, axes_or_new, free_figure, styled

FloatArray = NDArray[np.float64]

GREEN = COLORS[2]
"""Colour of true spectra."""

NUMBERED = 12
"""Maximum number of rows and columns of a grid whose numbers are written into the cells."""

WIDE = 10.0
"""Ratio of the largest to the smallest error above which colours are logarithmic."""

DARK = 0.55
"""Fraction of the colour scale, from below, on which numbers are white."""

STEPS = 12
"""Number of bins of a change for the running median."""


@styled
def plot_relabelled(
    original: Spectra,
    generated: Spectra,
    row: int = 0,
    *,
    reconstruction: Spectra | None = None,
    truth: Spectra | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw the spectrum of a star and the same with other labels; below, the changes and the errors.

    Parameters
    ----------
    original, generated
        The observed spectra, and those that a model generated with other labels, on one grid.
    row
        Which star.
    reconstruction
        The model's spectra with the stars' own labels; changes are then relative to it.
    truth
        True spectra of the same stars with the other labels.
    figure
        Where to draw; a new figure unless given.
    """
    given = {"original": original, "reconstruction": reconstruction, "relabelled": generated, "truth": truth}
    spectra = {what: part for what, part in given.items() if part is not None}
    for what, part in spectra.items():
        original.grid.require(part.grid, f"original and {what} spectra are on other grids", "resample one")
        if len(part) != len(original):
            raise DraperError(
                "these are not the same stars", given=f"{len(part)} {what} spectra", expected=len(original)
            )
    if not 0 <= row < len(original):
        raise DraperError("there is no such star", given=row, expected=f"0 to {len(original) - 1}")
    flux = {what: np.where(s.ivar[row] > 0, s.flux[row], np.nan) for what, s in spectra.items()}
    base = "reconstruction" if "reconstruction" in flux else "original"
    changes = {"relabelled": (flux["relabelled"] - flux[base], RED)}
    errors = {}
    if "reconstruction" in flux:
        errors["reconstruction"] = flux["reconstruction"] - flux["original"], BLUE
    if "truth" in flux:
        changes = {"truth": (flux["truth"] - flux["original"], GREEN), **changes}
        errors["relabelled"] = flux["relabelled"] - flux["truth"], RED
    count = 3 if errors else 2
    figure = free_figure(9.5, 2.4 + 1.3 * count) if figure is None else figure
    panels = figure.subplots(
        count, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [2.4, 1.2, 1][:count]}
    )[:, 0]
    colours = {"original": BLACK, "truth": GREEN, "reconstruction": BLUE, "relabelled": RED}
    draw_curves(
        panels[0], original.grid, {what: (flux[what], colours[what]) for what in colours if what in flux}
    )
    draw_curves(panels[1], original.grid, changes)
    panels[0].set_ylabel(
        original.quantity if not original.unit else f"{original.quantity}\n[{original.unit}]"
    )
    panels[1].set_ylabel(f"change from\n{base}")
    if errors:
        draw_curves(panels[2], original.grid, errors)
        panels[2].set_ylabel("error")
        wrong = [f"{what} {rounded(rms(error), signed=False)}" for what, (error, _) in errors.items()]
        panels[2].set_title(f"rms error: {', '.join(wrong)}", loc="right", fontsize=8, color="#444444", pad=3)
    for ax in panels[1:]:
        ax.axhline(0, color=BLACK, linewidth=0.5)
    if original.grid.is_spectral:
        low, high = (np.asarray(bound.reduce([*flux.values()]), np.float64) for bound in (np.fmin, np.fmax))
        name_lines(panels[0], original.grid, low, high, strong_lines())
    figure.suptitle(wrapped(relabelling(original, generated, row)))
    panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(flux), borderaxespad=0)
    limit_to(panels[0], original.grid)
    panels[-1].set_xlabel(spectral_axis(original.grid)[1])
    figure.align_ylabels(panels)
    return figure


def relabelling(original: Spectra, generated: Spectra, row: int) -> str:
    """Return the changed labels of a star, for a title."""
    parts = [shortened(original.ids[row])]
    for name, column in original.table.items():
        if name not in generated.table or column.dtype.kind != "f":
            continue
        old, new = float(column[row]), float(generated.table[name][row])
        if np.isfinite(new) and not np.isclose(old, new, rtol=1e-6, atol=1e-9):
            digits = 0 if Label(name).unit == "K" else 2
            unit = f" {Label(name).unit}" if Label(name).unit else ""
            parts.append(f"{label_name(name)} {old:.{digits}f} to {new:.{digits}f}{unit}")
    return ",   ".join(parts)


def draw_curves(ax: Axes, grid: Grid, curves: Mapping[str, tuple[FloatArray, str]]) -> None:
    """Draw spectra by name, value and colour, without a line across gaps."""
    for what, (values, colour) in curves.items():
        draw_curve(ax, grid, values, color=colour, alpha=0.9, label=what)


def rms(values: FloatArray) -> float:
    """Return the root mean square of the finite values."""
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else np.nan


@styled
def plot_error_grid(
    values_from: ArrayLike,
    values_to: ArrayLike,
    error: ArrayLike,
    *,
    name: str = "teff",
    what: str = "rms error",
    ax: Axes | None = None,
) -> Axes:
    """Draw the error of relabelled spectra by the old and the new value of a label.

    On the diagonal nothing has been changed. The cells of small grids show their numbers.

    Parameters
    ----------
    values_from, values_to
        Increasing values of the label, (a,) and (b,).
    error
        Positive numbers (a, b): errors of spectra changed from the first to the second; NaN cells are grey.
    name
        Name of the label.
    what
        Name of the error.
    ax
        Where to draw; a new figure unless given.
    """
    old, new = (np.asarray(values, dtype=np.float64) for values in (values_from, values_to))
    cells = np.asarray(error, dtype=np.float64)
    if cells.shape != (len(old), len(new)):
        raise DraperError(
            "the grid of errors has one row for each old value, and one column for each new value",
            given=f"shape {cells.shape}",
            expected=f"({len(old)}, {len(new)})",
        )
    if min(len(old), len(new)) < 1 or (np.diff(old) <= 0).any() or (np.diff(new) <= 0).any():
        raise DraperError("the values of an error grid increase")
    ax = axes_or_new(ax)
    finite = cells[np.isfinite(cells) & (cells > 0)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    is_wide = low > 0 and high > WIDE * low
    norm = LogNorm(low, high) if is_wide else Normalize(0, high)
    ax.set_facecolor("#DDDDDD")
    ax.grid(False)
    drawn = ax.pcolormesh(edges(old), edges(new), np.ma.masked_invalid(cells.T), cmap="cividis", norm=norm)
    ends = max(edges(old)[0], edges(new)[0]), min(edges(old)[-1], edges(new)[-1])
    if max(cells.shape) <= NUMBERED:
        for (row, column), value in np.ndenumerate(cells):
            if np.isfinite(value):
                ax.text(
                    float(old[row]),
                    float(new[column]),
                    rounded(float(value), signed=False),
                    fontsize=6.5,
                    color="white" if norm(float(value)) < DARK else BLACK,
                    ha="center",
                    va="center",
                )
    elif ends[0] < ends[1]:
        ax.plot(ends, ends, color="white", linestyle="--", linewidth=1.0)
    ax.set_xlabel(f"{with_unit(Label(name))} of the star")
    ax.set_ylabel(f"{with_unit(Label(name))} requested")
    bar = ax.figure.colorbar(drawn, ax=ax, aspect=25, pad=0.02)
    if is_wide:
        logarithmic(bar.ax.yaxis)
    bar.set_label(what)
    return ax


def edges(values: FloatArray) -> FloatArray:
    """Return the edges (a + 1,) of cells around increasing values (a,).

    Examples
    --------
    >>> edges(np.array([1.0, 2.0, 4.0])).tolist()
    [0.5, 1.5, 3.0, 5.0]
    """
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])


@styled
def plot_swap(
    asked: Mapping[str, ArrayLike],
    read: Mapping[str, ArrayLike],
    *,
    band: float = 0.1,
    columns: int = 4,
    figure: Figure | None = None,
) -> Figure:
    """Draw measured against requested changes of the labels of relabelled spectra.

    Parameters
    ----------
    asked, read
        Changes (n,) of each label, in its unit: new minus old value. Stars without either (NaN) are left out.
    band
        Half-width of the shaded band, as a fraction of the requested change.
    columns
        Number of panels side by side.
    figure
        Where to draw; a new figure unless given.
    """
    names = [name for name in asked if name in read]
    if not names:
        raise DraperError(
            "there is no label whose change was measured", given=", ".join(read), expected=", ".join(asked)
        )
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure = free_figure(2.9 * columns + 0.4, 3.0 * rows + 0.2) if figure is None else figure
    panels = figure.subplots(rows, columns, squeeze=False)
    for place, ax in enumerate(panels.flat):
        if place >= len(names):
            ax.remove()
            continue
        requested, measured = (np.asarray(each[names[place]], dtype=np.float64) for each in (asked, read))
        if requested.ndim != 1 or requested.shape != measured.shape:
            raise DraperError(
                f"changes of '{names[place]}' differ in number",
                given=f"{measured.shape}",
                expected=f"{requested.shape}",
            )
        ax.set_title(with_unit(Label(names[place])))
        ax.set_xlabel("requested change")
        draw_swap(ax, requested, measured, band)
    for line in panels:
        line[0].set_ylabel("measured change")
    return figure


def draw_swap(ax: Axes, requested: FloatArray, measured: FloatArray, band: float) -> None:
    """Draw the panel of one label: stars, their running median, the 1:1 line and the band around it."""
    both = np.isfinite(requested) & np.isfinite(measured)
    requested, measured = requested[both], measured[both]
    if len(requested) == 0 or not requested.any():
        ax.text(0.5, 0.5, "no star was changed", transform=ax.transAxes, ha="center")
        return
    span = float(np.ptp(requested)) or float(np.abs(requested).max())
    line = np.sort([requested.min() - 0.05 * span, 0.0, requested.max() + 0.05 * span])
    ax.fill_between(
        line,
        line - band * np.abs(line),
        line + band * np.abs(line),
        color="#999999",
        alpha=0.3,
        linewidth=0,
        label=f"+- {100 * band:g} %",
    )
    ax.plot(line, line, color=BLACK, linewidth=0.8)
    is_few = len(requested) <= 2 * STEPS
    ax.scatter(
        requested,
        measured,
        s=point_size(len(requested)),
        color=BLUE,
        alpha=1.0 if is_few else 0.4,
        zorder=3 if is_few else 1,
        linewidths=0,
        rasterized=True,
    )
    if not is_few:  # medians of few would hide them
        ends = np.linspace(requested.min(), requested.max(), STEPS + 1)
        part = np.clip(np.searchsorted(ends, requested, side="right") - 1, 0, STEPS - 1)
        medians = np.array(
            [
                [np.median(requested[part == number]), np.median(measured[part == number])]
                for number in np.unique(part)
            ]
        )
        ax.plot(*medians.T, color=RED, marker="o", markersize=3, linewidth=1.2, label="median")
    slope = float(requested @ measured / (requested @ requested))
    inside = float(np.mean(np.abs(measured - requested) <= band * np.abs(requested)))
    ax.text(
        0.03,
        0.97,
        f"slope {slope:.3f}\n{100 * inside:.0f} % within {100 * band:g} %",
        transform=ax.transAxes,
        va="top",
        fontsize=8,
        bbox=PLATE,
    )
    ax.set_xlim(line[0], line[-1])
    low, high = np.percentile(measured, (0.5, 99.5))
    ax.set_ylim(min(line[0], float(low)) - 0.03 * span, max(line[-1], float(high)) + 0.03 * span)
    ax.legend(loc="lower right")
