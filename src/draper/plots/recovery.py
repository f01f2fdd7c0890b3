"""Estimated labels against true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from draper.data.labels import Label
from draper.errors import DraperError
from draper.plots.names import label_name, rounded, with_unit
from draper.plots.protocol import LabelEstimates
from draper.plots.style import BLACK, BLUE, RED, free_figure, styled
from draper.results.metrics import recovery

PLATE = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.5}
"""The background of text that is drawn over points."""


@styled
def plot_recovery(
    estimates: LabelEstimates,
    truth: Mapping[str, NDArray[Any]],
    names: Sequence[str] | None = None,
    *,
    colour: str | None = None,
    columns: int = 3,
    figure: Figure | None = None,
) -> Figure:
    """Draw estimated against true values and the differences below: a pair of panels for each label.

    Parameters
    ----------
    estimates
        Of n spectra.
    truth
        Columns (n,) of true values.
    names
        Which labels; by default all that both have.
    colour
        The column that the points are coloured by, such as ``fe_h``.
    columns
        How many pairs of panels stand side by side.
    figure
        Where to draw; a new figure by default.
    """
    names = [name for name in estimates.labels.names if name in truth] if names is None else list(names)
    if not names:
        raise DraperError(
            "there is no label whose true value is known",
            given=", ".join(truth) or "no columns",
            expected=", ".join(estimates.labels.names),
        )
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    if figure is None:
        figure = free_figure(
            3.1 * columns + (0.6 if colour else 0) + (0.8 if columns == 1 else 0), 3.5 * rows
        )
    panels = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": [2.4, 1] * rows})
    flagged = np.any([*estimates.flags.values()], axis=0)
    values = None if colour is None else np.asarray(truth[colour], dtype=np.float64)
    points = None
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        upper, lower = panels[2 * row, column], panels[2 * row + 1, column]
        if number >= len(names):
            upper.remove()
            lower.remove()
            continue
        label = estimates.labels[names[number]]
        position = estimates.labels.names.index(label.name)
        pair = draw_pair(
            upper,
            lower,
            label,
            np.asarray(truth[label.name], dtype=np.float64),
            estimates.median[:, position],
            estimates.sigma[:, position],
            flagged,
            values,
        )
        points = points or pair
    if colour is not None and points is not None:
        bar = figure.colorbar(points, ax=figure.axes, aspect=25 * rows, shrink=0.8, pad=0.02)
        bar.set_label(label_name(colour))
    return figure


def draw_pair(
    upper: Axes,
    lower: Axes,
    label: Label,
    truth: NDArray[np.float64],
    estimate: NDArray[np.float64],
    sigma: NDArray[np.float64],
    flagged: NDArray[np.bool_],
    values: NDArray[np.float64] | None,
) -> Any:
    """Draw the two panels of one label, and return the points, to which a colour bar belongs."""
    known = np.isfinite(truth) & np.isfinite(estimate)
    figures = recovery(estimate, truth, sigma)
    upper.set_title(with_unit(label))
    upper.tick_params(labelbottom=False)
    lower.set_xlabel(f"true {with_unit(label)}")
    upper.set_ylabel("estimate")
    lower.set_ylabel("estimate - true")
    upper.sharex(lower)
    if not known.any():
        upper.text(0.5, 0.5, "no star has a true value", transform=upper.transAxes, ha="center")
        return None
    size = float(np.clip(600 / np.sqrt(known.sum()) / 6, 2, 16))
    error = estimate - truth
    largest = float(np.abs(error[known]).max())
    around = 0.06 * float(np.ptp(truth[known])) or 2 * largest or 0.1 * abs(float(truth[known][0])) or 1.0
    low, high = float(truth[known].min()) - around, float(truth[known].max()) + around
    span = high - low
    reach = float(max(np.quantile(np.abs(error[known]), 0.98) * 1.3, 1e-9 * span))
    beyond = known & (np.abs(error) > reach)
    points = None
    for mask, marker, edge, text in (  # flagged stars first, so that they do not hide the others
        (known & flagged, "^", RED, f"flagged ({(known & flagged).sum():,})"),
        (known & ~flagged, "o", None, None),
    ):
        if not mask.any():
            continue
        style: dict[str, Any] = {"s": size * (1.8 if edge else 1), "marker": marker, "alpha": 0.75}
        rim = edge if values is None else BLACK
        style |= {"edgecolors": rim, "linewidths": 0.5} if edge else {"linewidths": 0}
        if values is None:
            style["color" if not edge else "facecolors"] = BLUE if not edge else "none"
        else:
            spread = values[np.isfinite(values)]
            style |= {"c": values[mask], "cmap": "viridis"}
            style |= {"vmin": spread.min(), "vmax": spread.max()} if len(spread) else {}
        drawn = upper.scatter(truth[mask], estimate[mask], label=text, rasterized=True, **style)
        points = points or drawn
        lower.scatter(truth[mask], np.clip(error[mask], -reach, reach), rasterized=True, **style)
    upper.plot([low, high], [low, high], color=BLACK, linewidth=0.8)
    lower.axhline(0, color=BLACK, linewidth=0.8)
    if np.isfinite(sigma[known]).any():
        typical = float(np.nanmedian(sigma[known]))
        lower.axhspan(-typical, typical, color="#999999", alpha=0.25, linewidth=0, zorder=0)
    upper.set_xlim(low, high)
    margin = 0.04 * span
    upper.set_ylim(
        min(low, max(estimate[known].min() - margin, low - span / 2)),
        max(high, min(estimate[known].max() + margin, high + span / 2)),
    )
    lower.set_ylim(-reach * 1.05, reach * 1.05)
    lines = [f"bias {rounded(figures['bias'])}"]
    if known.sum() > 1:
        lines.append(f"scatter {rounded(figures['scatter'], signed=False)}")
        lines.append(f"robust {rounded(figures['robust_scatter'], signed=False)}")
    if beyond.any():
        lines.append(f"{beyond.sum()} at the edge below")
    upper.text(0.03, 0.97, "\n".join(lines), transform=upper.transAxes, va="top", fontsize=8, bbox=PLATE)
    if (known & flagged).any():
        scale = max(1.0, 4 / np.sqrt(size))
        upper.legend(loc="lower right", handletextpad=0.1, borderpad=0.1, markerscale=scale)
    return points
