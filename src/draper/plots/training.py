"""Plot of the history of a training run."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from draper.errors import DraperError
from draper.plots.style import axes_or_new, styled


@styled
def plot_history(rows: Sequence[dict[str, float]], ax: Axes | None = None) -> Axes:
    """Draw every loss against the step; held-out losses are thicker lines."""
    if not rows:
        raise DraperError("there is no history to draw", hint="train for at least one step")
    ax = axes_or_new(ax)
    names = list(dict.fromkeys(name for row in rows for name in row if "/" in name))
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        held_out = name.startswith("valid/")
        ax.plot(*zip(*points, strict=True), label=name, linewidth=1.8 if held_out else 0.9, alpha=0.9)
    if all(row[name] > 0 for row in rows for name in names if name in row):
        ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.legend()
    return ax
