"""The style shared by all plots."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from draper.atomic_write import replacing
from draper.errors import DraperError

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
"""Colour-blind safe colours, after Okabe and Ito."""

BLACK, BLUE, RED = "#222222", COLORS[0], COLORS[1]
"""Colours of observations, of models, and of pixels that do not fit."""

STYLE: Any = {
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.titlesize": 11,
    "figure.titlesize": 10,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 0.9,
    "font.size": 10,
}
"""Matplotlib settings, applied inside a context and never to the whole process."""

BESIDE: Any = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.0}
"""Where a legend stands that may be long: to the right of its axes."""

Plot = TypeVar("Plot", bound=Callable[..., Axes | Figure])


def styled(plot: Plot) -> Plot:
    """Make a plot function draw in draper's style, whatever the current settings."""

    @wraps(plot)
    def wrapped(*args: Any, **options: Any) -> Axes | Figure:
        with rc_context(STYLE):
            return plot(*args, **options)

    return cast(Plot, wrapped)


def new_figure(rows: int = 1, columns: int = 1, *, width: float = 8.0, height: float = 4.0) -> Figure:
    """Return a figure of empty panels, independent of pyplot's windows and state."""
    figure = free_figure(width, height)
    with rc_context(STYLE):
        figure.subplots(rows, columns)
    return figure


def free_figure(width: float = 8.0, height: float = 4.0) -> Figure:
    """Return a figure without panels, independent of pyplot's windows and state."""
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_or_new(ax: Axes | None) -> Axes:
    """Return ``ax``, or axes of a new figure, which pyplot manages if it is imported."""
    if ax is not None:
        return ax
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot

        return pyplot.figure(figsize=(8, 4), layout="constrained").add_subplot()
    return new_figure().axes[0]


def drawable(path: str | Path) -> Path:
    """Return the path if its suffix is a format that can be drawn, else raise an error."""
    path = Path(path)
    if path.suffix.lstrip(".") not in FigureCanvasBase.get_supported_filetypes():
        raise DraperError(
            "plots cannot be written in this format",
            given=path.suffix or str(path),
            expected=".png, .pdf, .svg",
        )
    return path


def save(ax: Axes | Figure, path: str | Path) -> Path:
    """Write a figure, or the figure of ``ax``, to a file; the suffix gives the format."""
    path = drawable(path)
    figure = ax if isinstance(ax, Figure) else ax.get_figure()
    if not isinstance(figure, Figure):
        raise DraperError("these axes do not belong to a figure")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        figure.savefig(part)
    return path
