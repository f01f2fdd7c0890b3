"""How unusual a star is: place among embeddings, parts predicted from each other, disagreement of heads."""

from __future__ import annotations

import torch
from torch import Tensor

from draper.models.masked.network import MaskedNetwork, Seen
from draper.nn.module import Batch

SCORES = ("distance", "misfit", "disagreement")
"""Scores that are larger for stars unlike those of the training set."""


def scores_of(network: MaskedNetwork, batch: Batch, seen: Seen, embedding: Tensor, spread: Tensor) -> Tensor:
    """Return the scores (n, 3) of stars."""
    return torch.stack([distance(network, embedding), misfit(network, batch, seen), spread], dim=1)


def distance(network: MaskedNetwork, embedding: Tensor) -> Tensor:
    """Return the Mahalanobis distance (n,) of embeddings from those of the training set."""
    off = (embedding - network.embedding_mean) @ network.embedding_root
    return off.square().mean(1).sqrt()


def misfit(network: MaskedNetwork, batch: Batch, seen: Seen) -> Tensor:
    """Return the mean chi2 (n,) per pixel and column of parts that are predicted from the rest.

    Each half of the pixels is hidden in turn, and every other column.
    """
    pixels = batch["flux"].shape[1]
    count = seen.columns.value.shape[1]
    total = torch.zeros(len(batch["flux"]), device=batch["flux"].device)
    number = torch.zeros_like(total)
    blocks = int(network.block.max()) + 1
    shown = (seen.visible.has_pixels > 0).float()
    for turn in range(2):
        half = network.block % 2 if blocks > 1 else (network.place >= 0.5).long()
        keep = (half != turn).float().expand(len(total), pixels) * shown[:, None]
        columns = ((torch.arange(count, device=total.device) % 2) != turn).float().expand(len(total), count)
        part = network.see(batch, keep, columns)
        predicted = network.predicted(network.trunk(part.visible))
        rows = ((part.every.pixels - part.shown.pixels) * shown > 0.5).nonzero()[:, 0]
        hidden = part.every.less(part.shown, rows)
        chi2, _ = hidden.misfit(predicted.components[rows], predicted.components_var[rows])
        total[rows] += chi2
        number[rows] += hidden.pixels
        absent = part.columns.known * (1 - part.columns.visible)
        # The first column is the brightness of the spectrum.
        absent[:, 0] = 0
        variance = predicted.columns_var + part.columns.target_error.square()
        off = (part.columns.target - predicted.columns).square() / variance
        total += (absent * off).sum(1)
        number += absent.sum(1)
    return torch.where(number > 0, total / number.clamp(min=1), torch.nan)
