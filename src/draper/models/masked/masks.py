"""What the network does not see of a star in training: random parts of it, drawn with each row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NUMBERS = 9
"""Random numbers of each row, besides one for each column and each label; the last chooses among heads."""

FIRST, LAST = (0.3, 0.28), (0.55, 0.3)
"""Shares of the stars that are shown as they were observed, and of those whose spectrum is hidden: at first,
and, with labels, at the end of a training. Labels are mostly asked of such stars."""

ONLY_LABELS = 0.06
"""Share of the stars of which nothing but labels is shown, if they have any."""

LABELS_HIDDEN = 0.75
"""Share of the others whose labels are all hidden."""


class Masks(NamedTuple):
    """What is shown of n stars, 0 or 1: pixels (n, p), columns (n, c), labels (n, l)."""

    pixels: Tensor
    columns: Tensor
    labels: Tensor


def random_masks(
    numbers: Tensor,
    block: Tensor,
    place: Tensor,
    columns: int,
    labels: int,
    is_related: bool = False,
    progress: float = 0.0,
) -> Masks:
    """Return masks from uniform numbers (n, NUMBERS + columns + labels).

    Parameters
    ----------
    block, place : Tensor (p,)
        Number of the independent block of each pixel, and its place in there. Within a block of related
        pixels only the last ones are hidden: what others say is then known exactly.
    columns, labels
        Their numbers; the first column is the brightness of the spectrum.
    is_related
        Whether pixels are related.
    progress
        Of the training, 0 to 1.
    """
    mode, kind, start, width, share, who, which, cut = numbers[:, : NUMBERS - 1].T
    by_column, by_label = numbers[:, NUMBERS : NUMBERS + columns], numbers[:, NUMBERS + columns :]
    last = LAST if labels else FIRST
    observed, hidden = (one + (other - one) * progress for one, other in zip(FIRST, last, strict=True))
    as_observed, no_spectrum = mode < observed, mode > 1 - hidden
    blocks = int(block.max()) + 1
    if not is_related:
        low = (start * 1.2 - 0.2)[:, None]
        high = low + (0.05 + 0.45 * width)[:, None]
        region = (place < low) | (place > high)
        end = torch.where(which[:, None] < 0.5, place < cut[:, None], place > cut[:, None])
    else:
        # A whole block, or the last pixels of each.
        region = block != (start * blocks).long().clamp(max=blocks - 1)[:, None]
        end = place < cut[:, None].square()
    pixels = torch.where((kind < 0.5)[:, None], region, end)
    pixels &= ~no_spectrum[:, None]
    pixels |= as_observed[:, None]
    shown = (by_column > (0.9 * share)[:, None]) | as_observed[:, None]
    # The magnitude of the spectrum itself goes with it.
    shown[:, 0] = pixels.any(1)
    has_label = (by_label < width[:, None]) & (who > LABELS_HIDDEN)[:, None]
    if labels:
        only = (who > 1 - ONLY_LABELS)[:, None]
        pixels, shown, has_label = pixels & ~only, shown & ~only, has_label | only
    return Masks(pixels.float(), shown.float(), has_label.float())
