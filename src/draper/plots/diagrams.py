"""The diagrams astronomers judge labels by: Kiel, and alpha elements against iron; true and found."""

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
from draper.plots.latent import colour_limits, point_size
from draper.plots.pixels import logarithmic
from draper.plots.recovery import rounded, with_unit
from draper.plots.style import free_figure, styled

FloatArray = NDArray[np.float64]

Columns = Mapping[str, ArrayLike]

DENSITY = ""
"""Name under which the colour by how many stars are near is kept among the columns."""

CELLS = 90
"""Cells along each axis in which stars are counted."""

MOST_COLUMNS = 4


@styled
def plot_kiel(
    panels: Mapping[str, Columns], *, colour: str | None = "fe_h", figure: Figure | None = None
) -> Figure:
    """Draw Kiel diagrams side by side: gravity against effective temperature, both axes reversed.

    Parameters
    ----------
    panels
        Title and columns ``teff``, ``logg`` and ``fe_h`` (n,) of each. The first, usually the truth, sets the
        axes and colours; where the others have as many stars, they are the same ones, and the mean
        absolute difference from the first is written.
    colour
        The column that the points are coloured by; by how many stars are near if None.
    figure
        Where to draw; a new figure unless given.
    """
    return draw_panels(panels, "teff", "logg", colour, figure, reverse=("x", "y"))


@styled
def plot_abundances(
    panels: Mapping[str, Columns], *, colour: str | None = None, figure: Figure | None = None
) -> Figure:
    """Draw [alpha/Fe] against [Fe/H] side by side, where the thin and thick disc part.

    Parameters
    ----------
    panels
        Title and columns ``fe_h`` and ``alpha_fe`` (n,) of each, the truth first, as for ``plot_kiel``.
    colour
        The column that the points are coloured by; by how many stars are near if None.
    figure
        Where to draw; a new figure unless given.
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
    """Draw one label against another in every panel, on the axes and in the colours of the first."""
    if not panels:
        raise DraperError("there is no panel to draw")
    wanted = [x, y] if colour is None else [x, y, colour]
    held = {title: known(title, columns, wanted) for title, columns in panels.items()}
    truth = next(iter(held.values()))
    limits = [limits_of(truth[name]) for name in (x, y)]
    if colour is None:
        for columns in held.values():
            columns[DENSITY] = density(columns[x], columns[y], limits)
    shade = DENSITY if colour is None else colour
    norm = (
        LogNorm(1, max(2.0, float(truth[shade].max())))
        if colour is None
        else Normalize(*colour_limits(truth[shade]))
    )
    rows = -(-len(held) // MOST_COLUMNS)
    number = -(-len(held) // rows)
    if figure is None:
        figure = free_figure(2.9 * number + 1.0, 3.0 * rows + 0.3)
    axes = figure.subplots(rows, number, sharex=True, sharey=True, squeeze=False)
    axes[0, 0].set(xlim=limits[0], ylim=limits[1])
    for axis in reverse:
        getattr(axes[0, 0], f"invert_{axis}axis")()
    drawn: Any = None
    for ax, (title, columns) in zip(axes.flat, held.items(), strict=False):
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
        if place >= len(held):
            ax.remove()
        elif place + number >= len(held):  # nothing stands below
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


def known(title: str, columns: Columns, names: Sequence[str]) -> dict[str, FloatArray]:
    """Return the columns of a panel by name, as numbers of equal length."""
    for name in names:
        if name not in columns:
            raise DraperError(
                f"the panel '{title}' lacks a column",
                given=", ".join(columns) or "no columns",
                expected=name,
                hint=did_you_mean(name, columns),
            )
    found = {name: np.asarray(columns[name], dtype=np.float64) for name in names}
    if len({len(column) for column in found.values()}) > 1:
        raise DraperError(f"columns of the panel '{title}' differ in length")
    return found


def limits_of(values: FloatArray) -> tuple[float, float]:
    """Return the ends of an axis that shows all but a few outliers."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise DraperError("the first panel has no values", hint="give the truth first")
    low, high = (float(limit) for limit in np.percentile(finite, (0.1, 99.9)))
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def density(x: FloatArray, y: FloatArray, limits: Sequence[tuple[float, float]]) -> FloatArray:
    """Return how many stars are near each of n, counted in cells of a plane between limits."""
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
    """Return rows in the order in which they are drawn: dense parts last, or mixed; none without a colour."""
    order = np.argsort(values) if by_value else np.random.default_rng(0).permutation(len(values))
    return order[np.isfinite(values[order])]


def note(
    ax: Axes,
    columns: Mapping[str, FloatArray],
    truth: Mapping[str, FloatArray],
    names: tuple[str, str],
    limits: Sequence[tuple[float, float]],
) -> None:
    """Write how far a panel is from the truth, and how many of its stars are beyond the axes."""
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
