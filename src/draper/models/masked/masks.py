"""What the network does not see of a star in training: random parts of it, drawn with each row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NUMBERS = 9
"""Random numbers of each row, besides one for each column and each label; the last chooses among heads."""

FIRST, LAST = (0.3, 0.28), (0.4, 0.25)
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
        Number of the independent block of each pixel, and its place in there.
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
    # A run of pixels, narrow ones more often, at one place of one block or of all; low orders tell most.
    low = ((start.square() if is_related else start) * 1.1 - 0.1)[:, None]
    high = low + (0.02 + 0.48 * width.square())[:, None]
    chosen = (which * (blocks + 1)).long()[:, None]
    run = (place >= low) & (place <= high) & ((block == chosen) | (chosen == blocks))
    # High orders of related pixels, such as coefficients; either end of others.
    if is_related:
        end = place >= cut[:, None].square()
    else:
        end = torch.where(which[:, None] < 0.5, place >= cut[:, None], place <= cut[:, None])
    whole = block == (start * blocks).long().clamp(max=blocks - 1)[:, None]
    kinds = (whole, whole, run, end) if blocks > 1 else (run, end)
    choice = (kind * len(kinds)).long().clamp(max=len(kinds) - 1)
    pixels = ~torch.stack(kinds, dim=1)[torch.arange(len(choice), device=choice.device), choice]
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


def random_gaps(n: int, block: Tensor, place: Tensor, is_related: bool, seed: int = 0) -> Tensor:
    """Return which pixels (n, p) are left of n spectra with gaps as they are hidden in training.

    Examples
    --------
    >>> left = random_gaps(100, torch.zeros(50).long(), torch.arange(50) / 50, False)
    >>> left.shape, 0.5 < left.float().mean() < 0.9
    (torch.Size([100, 50]), tensor(True))
    """
    numbers = torch.rand(n, NUMBERS + 1, generator=torch.Generator().manual_seed(seed))
    numbers[:, 0] = 0.5  # neither as observed nor without a spectrum
    return random_masks(numbers, block.cpu(), place.cpu(), 1, 0, is_related).pixels > 0
