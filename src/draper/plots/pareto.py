"""What a search has found: reconstruction against leak."""

from __future__ import annotations

from matplotlib.axes import Axes

from draper.errors import DraperError
from draper.plots.style import BLUE, RED, axes_or_new, styled
from draper.results.trials import Tuning

FAINT = "#AAAAAA"
"""Colour of trials that others beat."""

WIDE = 5.0
"""Ratio of reconstructions beyond which their axis is logarithmic."""


@styled
def plot_pareto(tuning: Tuning, ax: Axes | None = None) -> Axes:
    """Draw every trial, the front of those that no other beats in both, and its knee.

    Dots are figures on the validation part, which the search has looked at; hollow ones those on the test
    part. Numbers are those of the trials.

    Parameters
    ----------
    tuning
        From :func:`draper.models.search.run.tune`.
    ax
        Where to draw; new axes unless given.
    """
    if tuning.chosen is None:
        raise DraperError("no trial of the search has ended", given=f"{len(tuning.trials)} trials")
    ax = axes_or_new(ax)
    best = {one.number for one in tuning.front}
    others = tuning.points([one for one in tuning.trials if one.number not in best])
    ax.plot(*others.T, "o", color=FAINT, markersize=4, alpha=0.6, label="beaten by others")
    front, test = tuning.points(tuning.front), tuning.points(tuning.front, "test")
    ax.step(*front.T, where="post", color=BLUE, alpha=0.6, zorder=3)
    ax.plot(*front.T, "o", color=BLUE, markersize=5, zorder=4, label="beaten by none")
    for (x, y), (x_test, y_test) in zip(front, test, strict=True):
        ax.plot([x, x_test], [y, y_test], color=BLUE, linewidth=0.5, alpha=0.6)
    ax.plot(*test.T, "o", color=BLUE, markerfacecolor="white", markersize=5, zorder=4, label="test part")
    for one, (x, y) in zip(tuning.front, front, strict=True):
        ax.annotate(
            str(one.number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8, color=BLUE
        )
    (chosen,) = tuning.points([tuning.chosen])
    ax.plot(*chosen[:, None], "o", color=RED, markerfacecolor="none", markersize=12, label="chosen", zorder=5)
    values = tuning.points(tuning.trials)[:, 0]
    known = values[values == values]
    if known.min() > 0 and known.max() > WIDE * known.min():
        ax.set_xscale("log")
    ax.set_xlabel(f"error of the reconstruction ({tuning.measure})")
    ax.set_ylabel("largest leak of a removed label")
    ax.set_ylim(bottom=min(-0.02, ax.get_ylim()[0]))
    ax.legend()
    return ax
