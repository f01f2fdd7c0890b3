"""How unusual a star is: by its embedding, parts predicted from each other, heads that disagree, labels."""

from __future__ import annotations

import torch
from torch import Tensor

from draper.models.masked.network import MaskedNetwork, Seen
from draper.models.masked.statistics import Products
from draper.nn.module import Batch

SCORES = ("distance", "misfit", "disagreement", "labels")
"""Scores that are larger for stars unlike those of the training set."""


def is_second(network: MaskedNetwork) -> Tensor:
    """Return which pixels (p,) are in the second of two unrelated halves, such as RP after BP."""
    return network.block % 2 > 0 if int(network.block.max()) else network.place >= 0.5


def halves(network: MaskedNetwork, batch: Batch) -> tuple[Products, Products, Products]:
    """Return the products of all pixels, and of two unrelated halves of them."""
    second = is_second(network).float().expand_as(batch["flux"])
    one, other = network.statistics.products(batch, 1 - second)
    return one.with_rest(other), one, other


def scores_of(
    network: MaskedNetwork,
    batch: Batch,
    seen: Seen,
    products: tuple[Products, Products, Products],
    embedding: Tensor,
    spread: Tensor,
    quantiles: Tensor,
) -> Tensor:
    """Return the scores (n, 4) of stars; ``products`` are those of :func:`halves`."""
    scores = (
        distance(network, embedding),
        misfit(network, batch, seen, products),
        spread,
        extremeness(quantiles),
    )
    return torch.stack(scores, dim=1)


def extremeness(quantiles: Tensor) -> Tensor:
    """Return how far (n,) scaled labels, of quantiles (n, q, l), lie from the middle of their ranges.

    Stars beyond the labels of the training set often look like others, and only their labels tell.
    """
    middle = quantiles[:, quantiles.shape[1] // 2] - 0.5
    return middle.abs().amax(1) if middle.shape[1] else middle.new_full((len(middle),), torch.nan)


def distance(network: MaskedNetwork, embedding: Tensor) -> Tensor:
    """Return the Mahalanobis distance (n,) of embeddings from those of the training set."""
    off = (embedding - network.embedding_mean) @ network.embedding_root
    return off.square().mean(1).sqrt()


def misfit(
    network: MaskedNetwork, batch: Batch, seen: Seen, products: tuple[Products, Products, Products]
) -> Tensor:
    """Return the mean chi2 (n,) per pixel and column of parts that are predicted from the rest.

    Each half of the pixels is hidden in turn, and every other column.
    """
    every, *parts = products
    count = seen.columns.value.shape[1]
    total = torch.zeros(len(batch["flux"]), device=batch["flux"].device)
    number = torch.zeros_like(total)
    has_pixels = seen.visible.has_pixels > 0
    for turn, half in enumerate(parts):
        columns = ((torch.arange(count, device=total.device) % 2) != turn).float().expand(len(total), count)
        part = network.see(batch, columns=columns, products=(every, half, parts[1 - turn]))
        predicted = network.predicted(network.trunk(part.visible), part)
        rows = ((part.hidden.pixels > 0.5) & has_pixels).nonzero()[:, 0]
        hidden = part.hidden.rows(rows)
        chi2, _ = hidden.misfit(predicted.spectrum(part.shown, rows))
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
