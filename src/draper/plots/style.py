"""The look shared by all plots."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from draper.errors import DraperError

STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 0.9,
    "font.size": 10,
}
"""Matplotlib settings, applied inside a context and never process-wide."""


Plot = TypeVar("Plot", bound=Callable[..., Axes])


def styled(plot: Plot) -> Plot:
    """Make a plot function draw in draper's style, whatever the settings around it."""

    @wraps(plot)
    def wrapped(*args: Any, **options: Any) -> Axes:
        with rc_context(STYLE):
            return plot(*args, **options)

    return cast(Plot, wrapped)


def new_figure(rows: int = 1, columns: int = 1, *, width: float = 8.0, height: float = 4.0) -> Figure:
    """Return a figure of empty panels; it belongs to no window and no global state."""
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.subplots(rows, columns)
    return figure


def axes_or_new(ax: Axes | None) -> Axes:
    """Return ``ax``, or a new one: of the notebook's or window's figure where there is pyplot, else free."""
    if ax is not None:
        return ax
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot

        return pyplot.figure(figsize=(8, 4), layout="constrained").add_subplot()
    return new_figure().axes[0]


def save(ax: Axes, path: str | Path) -> Path:
    """Write the figure of ``ax`` to a file whose suffix says the format."""
    path = Path(path)
    figure = ax.get_figure()
    if not isinstance(figure, Figure):
        raise DraperError("these axes belong to no figure")
    if path.suffix.lstrip(".") not in figure.canvas.get_supported_filetypes():
        raise DraperError(
            "cannot draw in this format", given=path.suffix or str(path), expected=".png, .pdf, .svg"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
