"""Calibration of posteriors: coverage against level, and histograms of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binom

from draper.errors import DraperError, did_you_mean
from draper.infer.calibration import ALL, CELLS, JOINT, Calibration
from draper.plots.names import label_name
from draper.plots.style import BESIDE, BLACK, BLUE, axes_or_new, free_figure, styled

SHADE = "#999999"
"""Colour of what right posteriors would give."""

SMALL_P = 1e-4
"""Smaller probabilities are written as a limit."""

PROBABILITY = 0.95
"""Probability of bands."""


@styled
def plot_coverage(
    calibration: Calibration,
    group: str = ALL,
    names: Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw coverage minus level against the level: below 0 errors are too small, above too large.

    The curve of all labels together (TARP) is black. Grey is where a right posterior lies in 95 % of cases
    (at one level).

    Parameters
    ----------
    calibration
        From simulations.
    group
        Which of them.
    names
        Which labels; by default every label, and all together.
    ax
        Where to draw; new axes by default.
    """
    ax = axes_or_new(ax)
    held, rows = calibration[group], _rows(calibration, names)
    levels = np.arange(1, CELLS // 2) / (CELLS // 2)
    coverages = np.array([held.coverage(level) for level in levels])
    number = int(held.numbers[rows].min(initial=held.numbers.max()))
    low, high = binom.interval(PROBABILITY, number, levels) / np.maximum(number, 1)
    ax.fill_between(
        100 * levels,
        100 * (low - levels),
        100 * (high - levels),
        color=SHADE,
        alpha=0.3,
        linewidth=0,
        label=f"{100 * PROBABILITY:.0f} % of right posteriors",
    )
    ax.axhline(0, color=BLACK, linewidth=0.6)
    for row in rows:
        name = calibration.rows[row]
        is_joint = name == JOINT
        ax.plot(
            100 * levels,
            100 * (coverages[:, row] - levels),
            color=BLACK if is_joint else None,
            linewidth=1.6 if is_joint else 1.1,
            label=f"{JOINT} (TARP)" if is_joint else label_name(name),
        )
    ax.set_xlabel("level of the credible region [%]")
    ax.set_ylabel("coverage - level [percentage points]")
    ax.set_xlim(0, 100)
    reach = max(3.0, 1.15 * np.abs(ax.dataLim.intervaly).max())
    ax.set_ylim(-reach, reach)
    count = f"{number:,} simulation{'s' if number != 1 else ''}"
    ax.set_title(count if group == ALL else f"{group}: {count}")
    ax.legend(**BESIDE)
    return ax


@styled
def plot_ranks(
    calibration: Calibration,
    group: str = ALL,
    names: Sequence[str] | None = None,
    *,
    bins: int = 20,
    columns: int = 4,
    figure: Figure | None = None,
) -> Figure:
    """Draw the histogram of ranks of each label, and below it their cumulative distribution minus a uniform.

    Grey is where right posteriors lie in 95 % of cases: of the histogram each bin, of the cumulative
    distribution the whole curve. A histogram that is high at both ends belongs to errors that are too small,
    one that is high in the middle to errors that are too large, a tilted one to a bias.

    Parameters
    ----------
    calibration
        From simulations.
    group
        Which of them.
    names
        Which labels; by default every label, and all together.
    bins
        Number of bins, a divisor of 200.
    columns
        Largest number of labels side by side.
    figure
        Where to draw; a new figure by default.
    """
    held, chosen = calibration[group], _rows(calibration, names)
    counts, chances = held.histogram(bins), held.chi2_p
    columns = min(columns, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = free_figure(2.5 * columns + 0.6, 2.9 * lines + 0.2) if figure is None else figure
    panels = figure.subplots(
        2 * lines, columns, squeeze=False, sharex=True, gridspec_kw={"height_ratios": [1.5, 1] * lines}
    )
    for place in range(lines * columns):
        line, column = divmod(place, columns)
        upper, lower = cast(Axes, panels[2 * line, column]), cast(Axes, panels[2 * line + 1, column])
        if place >= len(chosen):
            upper.remove()
            lower.remove()
            continue
        row = chosen[place]
        name, number = calibration.rows[row], int(held.numbers[row])
        _draw_histogram(upper, counts[row], number)
        _draw_cumulative(lower, calibration, group, row)
        title = f"{JOINT} (TARP)" if name == JOINT else label_name(name)
        chance = f"= {chances[row]:.2g}" if chances[row] >= SMALL_P else f"< {SMALL_P:g}"
        upper.set_title(title if np.isnan(chances[row]) else f"{title}: p {chance}", fontsize=9)
        lower.set_xlim(0, 1)
        lower.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        lower.tick_params(labelbottom=True)
        lower.set_xlabel("rank / samples")
        if column == 0:
            upper.set_ylabel("simulations")
            lower.set_ylabel("cumulative\n- uniform")
    figure.align_ylabels()
    return figure


def _draw_histogram(ax: Axes, counts: np.ndarray, number: int) -> None:
    bins = len(counts)
    low, high = binom.interval(PROBABILITY, number, 1 / bins)
    ax.axhspan(low, high, color=SHADE, alpha=0.3, linewidth=0)
    ax.axhline(number / bins, color=BLACK, linewidth=0.6)
    ax.stairs(counts, np.linspace(0, 1, bins + 1), color=BLUE, fill=True, alpha=0.35)
    ax.stairs(counts, np.linspace(0, 1, bins + 1), color=BLUE)
    ax.set_ylim(0, 1.15 * max(float(counts.max()), high, 1.0))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _draw_cumulative(ax: Axes, calibration: Calibration, group: str, row: int) -> None:
    band = calibration[group].cumulative(row, PROBABILITY)
    ax.fill_between(
        band.levels, band.low - band.levels, band.high - band.levels, color=SHADE, alpha=0.3, linewidth=0
    )
    ax.axhline(0, color=BLACK, linewidth=0.6)
    ax.plot(band.levels, band.values - band.levels, color=BLUE)


def _rows(calibration: Calibration, names: Sequence[str] | None) -> list[int]:
    """Return the rows of labels by name."""
    rows = calibration.rows
    for name in names or ():
        if name not in rows:
            raise DraperError("there is no such label", given=name, hint=did_you_mean(name, rows))
    return [rows.index(name) for name in (rows if names is None else names)]
