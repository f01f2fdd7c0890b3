"""Kiel diagrams and diagrams of alpha elements against iron: true and estimated labels side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from draper.data.labels import Label
from draper.errors import DraperError, did_you_mean
from draper.plots.axes import logarithmic
from draper.plots.latent import colour_limits, point_size
from draper.plots.names import rounded, with_unit
from draper.plots.style import free_figure, styled

FloatArray = NDArray[np.float64]

Columns = Mapping[str, ArrayLike]

DENSITY = ""
"""Name of the column that holds the number of nearby stars, for the colour of the points."""

FEW = 30
"""Number of stars below which the axes hold those of all panels."""

CELLS = 90
"""Number of cells along each axis in which stars are counted."""

MAX_COLUMNS = 4
"""Largest number of panels side by side."""


@styled
def plot_kiel(
    panels: Mapping[str, Columns], *, colour: str | None = "fe_h", figure: Figure | None = None
) -> Figure:
    """Draw Kiel diagrams side by side: gravity against effective temperature, both axes reversed.

    Parameters
    ----------
    panels
        Title and columns ``teff``, ``logg`` and ``fe_h`` (n,) of each panel. The first, usually the truth,
        sets axes and colours; with fewer than 30 stars the axes hold those of all panels. Panels with as many
        stars must hold the same stars; their mean absolute difference from the first is written above them.
    colour
        Column that colours the points; None colours them by the number of nearby stars.
    figure
        Figure to draw in; by default a new one.
    """
    return draw_panels(panels, "teff", "logg", colour, figure, reverse=("x", "y"))


@styled
def plot_abundances(
    panels: Mapping[str, Columns], *, colour: str | None = None, figure: Figure | None = None
) -> Figure:
    """Draw diagrams of [alpha/Fe] against [Fe/H] side by side, which separate the thin and thick discs.

    Parameters
    ----------
    panels
        Title and columns ``fe_h`` and ``alpha_fe`` (n,) of each panel, the truth first; see ``plot_kiel``.
    colour
        Column that colours the points; None colours them by the number of nearby stars.
    figure
        Figure to draw in; by default a new one.
    """
    return draw_panels(panels, "fe_h", "alpha_fe", colour, figure)


def draw_panels(
    panels: Mapping[str, Columns],
    x: str,
    y: str,
    colour: str | None,
    figure: Figure | None,
    reverse: Sequence[str] = (),
) -> Figure:
    """Draw one label against another in every panel, with the axes and colours of the first."""
    if not panels:
        raise DraperError("there is no panel to draw", hint="give at least one: title and columns")
    wanted = [x, y] if colour is None else [x, y, colour]
    tables = {title: panel_columns(title, columns, wanted) for title, columns in panels.items()}
    truth = next(iter(tables.values()))
    is_few = len(truth[x]) < FEW
    limits = [
        limits_of(np.concatenate([table[name] for table in tables.values()]) if is_few else truth[name])
        for name in (x, y)
    ]
    if colour is None:
        for columns in tables.values():
            columns[DENSITY] = density(columns[x], columns[y], limits)
    shade = DENSITY if colour is None else colour
    norm = (
        LogNorm(1, max(2.0, float(truth[shade].max())))
        if colour is None
        else Normalize(*colour_limits(truth[shade]))
    )
    rows = -(-len(tables) // MAX_COLUMNS)
    number = -(-len(tables) // rows)
    if figure is None:
        figure = free_figure(2.9 * number + 1.0, 3.0 * rows + 0.3)
    axes = figure.subplots(rows, number, sharex=True, sharey=True, squeeze=False)
    axes[0, 0].set(xlim=limits[0], ylim=limits[1])
    for axis in reverse:
        getattr(axes[0, 0], f"invert_{axis}axis")()
    drawn: Any = None
    for ax, (title, columns) in zip(axes.flat, tables.items(), strict=False):
        order = drawing_order(columns[shade], by_value=colour is None)
        drawn = ax.scatter(
            columns[x][order],
            columns[y][order],
            c=columns[shade][order],
            norm=norm,
            cmap="viridis",
            s=point_size(len(order)),
            linewidths=0,
            rasterized=True,
        )
        ax.set_title(title, pad=15)
        note(ax, columns, truth, (x, y), limits)
    for place, ax in enumerate(axes.flat):
        if place >= len(tables):
            ax.remove()
        elif place + number >= len(tables):  # no panel below
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(with_unit(Label(x)))
    for row in axes:
        row[0].set_ylabel(with_unit(Label(y)))
    bar = figure.colorbar(
        drawn, ax=figure.axes, aspect=25, pad=0.02, extend="max" if colour is None else "both"
    )
    if colour is None:
        logarithmic(bar.ax.yaxis)
    bar.set_label("stars nearby" if colour is None else with_unit(Label(colour)))
    return figure


def panel_columns(title: str, columns: Columns, names: Sequence[str]) -> dict[str, FloatArray]:
    """Return the named columns of a panel as numbers; they must have equal lengths."""
    for name in names:
        if name not in columns:
            raise DraperError(
                f"the panel '{title}' has no column '{name}'",
                given=", ".join(columns) or "no columns",
                hint=did_you_mean(name, columns),
            )
    numbers = {name: np.asarray(columns[name], dtype=np.float64) for name in names}
    if len({len(column) for column in numbers.values()}) > 1:
        raise DraperError(
            f"the columns of the panel '{title}' differ in length",
            given=", ".join(f"{name}: {len(column)}" for name, column in numbers.items()),
            hint="give one value for each star",
        )
    return numbers


def limits_of(values: FloatArray) -> tuple[float, float]:
    """Return axis limits that include all values but a few outliers."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise DraperError("the first panel has no values", hint="give the truth first")
    low, high = (float(limit) for limit in np.percentile(finite, (0.1, 99.9)))
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def density(x: FloatArray, y: FloatArray, limits: Sequence[tuple[float, float]]) -> FloatArray:
    """Return the number of stars near each star (n,), counted in cells between the limits."""
    from scipy.ndimage import gaussian_filter

    inside = np.isfinite(x) & np.isfinite(y)
    counts = np.histogram2d(x[inside], y[inside], CELLS, limits)[0]
    smooth = gaussian_filter(counts, 1.0) * 4 * np.pi  # stars within two cells
    cells = [
        np.clip(((np.nan_to_num(values) - low) / (high - low) * CELLS).astype(int), 0, CELLS - 1)
        for values, (low, high) in zip((x, y), limits, strict=True)
    ]
    return np.where(inside, np.maximum(smooth[cells[0], cells[1]], 1.0), 1.0)


def drawing_order(values: FloatArray, *, by_value: bool) -> NDArray[np.int64]:
    """Return the rows with a colour in drawing order: dense regions last, or else at random."""
    order = np.argsort(values) if by_value else np.random.default_rng(0).permutation(len(values))
    return order[np.isfinite(values[order])]


def note(
    ax: Axes,
    columns: Mapping[str, FloatArray],
    truth: Mapping[str, FloatArray],
    names: tuple[str, str],
    limits: Sequence[tuple[float, float]],
) -> None:
    """Write the mean error of a panel, and the number of its stars beyond the axes."""
    lines: list[str] = []
    beyond: Any = np.zeros(len(columns[names[0]]), dtype=bool)
    for name, (low, high) in zip(names, limits, strict=True):
        beyond |= (columns[name] < low) | (columns[name] > high)
        if columns is not truth and len(columns[name]) == len(truth[name]):
            error = np.abs(columns[name] - truth[name])
            unit = f" {Label(name).unit}" if Label(name).unit else ""
            typical = float(np.mean(error[np.isfinite(error)])) if np.isfinite(error).any() else np.nan
            lines.append(f"{rounded(typical, signed=False)}{unit}")
    text = [f"mean |error| {', '.join(lines)}"] if lines else []
    if columns is not truth and beyond.any():
        text.append(f"{np.count_nonzero(beyond)} beyond")
    ax.text(0.5, 1.02, ";  ".join(text), transform=ax.transAxes, ha="center", fontsize=7, color="#444444")
