"""What a network of spectra remembers of its training: where it was, and how wrong it is on held-out ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from draper.nn.hull import facets
from draper.nn.module import Batch, Batches
from draper.nn.spectral import SpectralNetwork

POINTS = 4096
"""Training points that are kept."""


def good_pixels(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass over flux (n, p), zero where bad, and where it is good."""
    for batch in batches():
        good = batch["ivar"] > 0
        yield torch.where(good, batch["flux"], 0.0), good


def complete(batch: Batch) -> Batch:
    """Return the rows that have all labels."""
    rows = torch.isfinite(batch["labels"]).all(1)
    return batch if rows.all() else {name: tensor[rows] for name, tensor in batch.items()}


def moments(batches: Batches, pixels: int) -> tuple[Tensor, Tensor, int]:
    """Return the mean (p,) of spectra, the variance about it of all their pixels, and their number."""
    total, count, square = (torch.zeros(pixels, dtype=torch.float64) for _ in range(3))
    rows = 0
    for flux, good in good_pixels(batches):
        rows += len(flux)
        total, count = total.to(flux.device) + flux.double().sum(0), count.to(flux.device) + good.sum(0)
        square = square.to(flux.device) + flux.double().square().sum(0)
    mean = total / count.clamp(min=1)
    variance = (square.sum() - (mean.square() * count).sum()) / count.sum().clamp(min=1)
    return mean, variance.clamp(min=1e-30), rows


def misfit(
    made: Tensor, flux: Tensor, good: Tensor, known: Tensor, variance: Tensor, kind: Literal["l1", "l2"]
) -> dict[str, Tensor]:
    """Return the misfit of spectra (n, p) relative to a variance, and the absolute one.

    Bad pixels have no weight, and neither have spectra that are not ``known`` (n,).
    """
    residual = good * (made - torch.where(good, flux, 0.0))
    count = good.sum(1).clamp(min=1)
    if kind == "l1":
        each = known * residual.abs().sum(1) / count
        return {"total": (each / variance.sqrt()).mean(), "error": each.detach().mean()}
    return squared(known * residual.square().sum(1) / count, variance)


def squared(squares: Tensor, variance: Tensor) -> dict[str, Tensor]:
    """Return mean squared residuals (n,) relative to a variance, and the mean rms."""
    return {"total": squares.mean() / variance, "error": squares.detach().sqrt().mean()}


@dataclass
class Misfits:
    """Residuals of held-out spectra.

    Attributes
    ----------
    x : Tensor (n, d)
        Scaled labels.
    squares, noise : Tensor (n, p)
        Squared residuals, and which variance the noise of the spectra has.
    good : Tensor (n, p) bool
        Where the spectra are good.
    """

    x: Tensor
    squares: Tensor
    noise: Tensor
    good: Tensor


def misfits(network: SpectralNetwork, valid: Batches) -> Iterator[Misfits]:
    """Pass over the residuals of held-out spectra."""
    for batch in map(complete, valid()):
        ivar, good = batch["ivar"], batch["ivar"] > 0
        squares = good * (network(batch["labels"]) - torch.where(good, batch["flux"], 0.0)).square()
        # Weights of 1 are no errors but the default.
        is_noisy = bool((good & (ivar != 1)).any())
        noise = torch.where(good, 1 / ivar.clamp(min=1e-30), 0.0) if is_noisy else torch.zeros_like(ivar)
        yield Misfits(batch["labels"], squares, noise, good)


def remember_points(network: SpectralNetwork, train: Batches) -> int:
    """Keep where the training spectra are, and return how many have all labels."""
    x = torch.cat([complete(batch)["labels"] for batch in train()])
    network.facets = facets(x).to(x)
    network.points = x[torch.linspace(0, len(x) - 1, min(POINTS, len(x))).long().to(x.device)]
    return len(x)


def measure(network: SpectralNetwork, valid: Batches | None) -> bool:
    """Set the error of each pixel to what held-out spectra say; return whether they say anything."""
    if valid is None:
        return False
    count = total = noise = torch.zeros_like(network.uncertainty)
    for part in misfits(network, valid):
        count, total = count + part.good.sum(0), total + part.squares.sum(0)
        noise = noise + part.noise.sum(0)
    if not count.any():
        return False
    measured = total / count.clamp(min=1)
    # What noise leaves of the misfit is known no better than this.
    variance = torch.maximum(
        measured - noise / count.clamp(min=1), measured * (2 / count.clamp(min=2)).sqrt()
    )
    usual = (variance * count).sum() / count.sum()
    # A pixel that was bad in all of them is as uncertain as the others.
    variance = torch.where(count > 0, variance, usual).clamp(min=1e-12 * usual)
    network.uncertainty.copy_(variance.sqrt())
    return True
