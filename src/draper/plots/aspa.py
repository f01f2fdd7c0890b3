"""The array of a spectrum and its labels, as a picture with its areas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from draper.errors import DraperError
from draper.plots.names import label_name
from draper.plots.style import BLACK, free_figure, styled

Mask = NDArray[np.bool_]


@styled
def plot_aspa(
    picture: ArrayLike, areas: Mapping[str, Mask], ax: Axes | None = None, *, known: Mask | None = None
) -> Axes:
    """Draw an array of numbers from 0 to 1, outline its areas and write their names into them.

    Parameters
    ----------
    picture
        The array (m, m), such as one of :func:`draper.models.retriever.aspa.encode`.
    areas
        Which pixels (m, m) hold what, by name, such as :func:`draper.models.retriever.aspa.areas`.
    ax
        Axes to draw in; new ones by default.
    known
        The pixels (m, m) that were known before the others were filled in; the others get a cross.
    """
    values = np.asarray(picture, dtype=np.float64)
    if values.ndim != 2 or any(mask.shape != values.shape for mask in areas.values()):
        raise DraperError(
            "picture and areas differ in shape",
            given=f"picture {values.shape}",
            expected=", ".join(sorted({str(mask.shape) for mask in areas.values()})),
            hint="draw one picture at a time: pictures[0]",
        )
    ax = free_figure(6.4, 5.6).subplots() if ax is None else ax
    image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1)
    for name, mask in areas.items():
        ax.add_collection(LineCollection(_outline(mask), colors="white", linewidths=0.8))
        _write(ax, name, mask)
    if known is not None:
        rows, columns = np.nonzero(~known)
        ax.scatter(columns, rows, marker="x", s=6, color="white", linewidths=0.5)
    ax.set_axis_off()
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, label="value", fraction=0.046, pad=0.02)
    return ax


def _outline(mask: Mask) -> list[list[tuple[float, float]]]:
    """Return the edges of pixels (m, m) at which an area ends, as lines in (column, row)."""
    padded = np.pad(mask, 1)
    lines = []
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        lines.append([(column - 0.5, row - 1.5), (column - 0.5, row - 0.5)])
    for row, column in np.argwhere(padded[1:] != padded[:-1]):
        lines.append([(column - 1.5, row - 0.5), (column - 0.5, row - 0.5)])
    return lines


def _write(ax: Axes, name: str, mask: Mask) -> None:
    """Write the name of an area on the pixels where it has room, along them."""
    rows, columns = np.nonzero(mask)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    # The widest row of the area, nearest to its middle, has the most room.
    counts = np.bincount(rows)
    widest = np.flatnonzero(counts == counts.max())
    row = widest[len(widest) // 2]
    middle = (np.median(rows), columns[0]) if width == 1 else (row, columns[rows == row].mean())
    ax.text(
        float(middle[1]),
        float(middle[0]),
        label_name(name),
        rotation=90 if width == 1 < height else 0,
        ha="center",
        va="center",
        fontsize=5.5,
        color="white",
        path_effects=[withStroke(linewidth=1.2, foreground=BLACK)],
    )
