"""t-SNE maps of spectra and latents side by side, coloured by labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from draper.data.labels import Label
from draper.errors import DraperError
from draper.latents.map import neighbour_r2
from draper.plots.names import with_unit
from draper.plots.recovery import PLATE
from draper.plots.style import free_figure, styled

PANEL = 2.7
"""Side of a map [inch]."""

LIMITS = (2, 98)
"""Percentiles of a label at the ends of the colour scale."""

UNKNOWN = "#CCCCCC"
"""Colour of points without a value."""


@styled
def plot_maps(
    maps: Mapping[str, ArrayLike],
    labels: Mapping[str, ArrayLike],
    *,
    score: bool = True,
    figure: Figure | None = None,
) -> Figure:
    """Draw maps of the same stars side by side, one row for each label, coloured by it.

    A map without any order in a label does not prove that the label has been removed: only fresh probes do.

    Parameters
    ----------
    maps
        Title and coordinates (n, 2) of each, such as those of ``embed(latents)``.
    labels
        Columns (n,); points without a value (NaN) are grey.
    score
        Whether to write R2 of the prediction of a label from the neighbours in the map.
    figure
        Where to draw; a new figure unless given.
    """
    places = {title: np.asarray(points, dtype=np.float64) for title, points in maps.items()}
    values = {name: np.asarray(column, dtype=np.float64) for name, column in labels.items()}
    if not places or not values:
        raise DraperError("there is nothing to draw", given=f"{len(places)} maps, {len(values)} labels")
    n = len(next(iter(values.values())))
    for what, array, shape in (
        *((f"the map '{title}'", points, (n, 2)) for title, points in places.items()),
        *((f"label '{name}'", column, (n,)) for name, column in values.items()),
    ):
        if array.shape != shape:
            raise DraperError(
                f"{what} is not of the same stars", given=f"shape {array.shape}", expected=f"{shape}"
            )
    if figure is None:
        figure = free_figure(PANEL * len(places) + 0.9, PANEL * len(values) + 0.3)
    panels = figure.subplots(len(values), len(places), squeeze=False)
    # Later points cover earlier ones: that must not depend on the order of the table.
    order = np.random.default_rng(0).permutation(n)
    style: dict[str, Any] = {"s": point_size(n), "linewidths": 0, "rasterized": True}
    for row, (name, column) in enumerate(values.items()):
        low, high = colour_limits(column)
        shown = order[np.isfinite(column[order])]
        hidden = order[~np.isfinite(column[order])]
        drawn: Any = None
        for ax, (title, points) in zip(panels[row], places.items(), strict=True):
            ax.scatter(*points[hidden].T, color=UNKNOWN, **style)
            drawn = ax.scatter(
                *points[shown].T, c=column[shown], cmap="viridis", vmin=low, vmax=high, **style
            )
            ax.set(xticks=[], yticks=[], box_aspect=1)
            ax.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)
            if row == 0:
                ax.set_title(title)
            r2 = neighbour_r2(points, column) if score else np.nan
            if np.isfinite(r2):
                ax.text(
                    0.03, 0.03, f"neighbours: R2 {r2:.2f}", transform=ax.transAxes, fontsize=7, bbox=PLATE
                )
        bar = figure.colorbar(drawn, ax=list(panels[row]), extend="both", aspect=22, pad=0.02)
        bar.set_label(with_unit(Label(name)))
    return figure


def colour_limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the colour scale, so that a few outliers do not use it up.

    Examples
    --------
    >>> low, high = colour_limits(np.append(np.linspace(0, 1, 1001), 1e6))
    >>> round(low, 2), round(high, 2)
    (0.02, 0.98)
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(finite, LIMITS))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def point_size(n: int) -> float:
    """Return the area of a point [square points] so that n of them are visible and do not hide each other."""
    return float(np.clip(250 / np.sqrt(n + 1), 1.2, 14))
