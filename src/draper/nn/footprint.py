"""The labels that a network was trained at, and its errors on held-out spectra."""

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
"""Largest number of training points that are stored."""


def good_pixels(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield flux (n, p), zero where it is bad, and the mask (n, p) of good pixels."""
    for batch in batches():
        good = batch["ivar"] > 0
        yield torch.where(good, batch["flux"], 0.0), good


def complete_rows(batch: Batch) -> Batch:
    """Return the rows of a batch that have all labels."""
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
    model: Tensor, flux: Tensor, good: Tensor, complete: Tensor, variance: Tensor, kind: Literal["l1", "l2"]
) -> dict[str, Tensor]:
    """Return the misfit of spectra (n, p) relative to a variance, and the absolute one.

    Bad pixels have no weight, and neither have spectra that are not ``complete`` (n,).
    """
    residual = good * (model - torch.where(good, flux, 0.0))
    count = good.sum(1).clamp(min=1)
    if kind == "l1":
        each = complete * residual.abs().sum(1) / count
        return {"total": (each / variance.sqrt()).mean(), "error": each.detach().mean()}
    return squared(complete * residual.square().sum(1) / count, variance)


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
        Squared residuals, and the variance of the noise.
    good : Tensor (n, p) bool
        Good pixels.
    """

    x: Tensor
    squares: Tensor
    noise: Tensor
    good: Tensor


def misfits(network: SpectralNetwork, valid: Batches) -> Iterator[Misfits]:
    """Yield the residuals of held-out spectra."""
    for batch in map(complete_rows, valid()):
        ivar, good = batch["ivar"], batch["ivar"] > 0
        squares = good * (network(batch["labels"]) - torch.where(good, batch["flux"], 0.0)).square()
        # Weights of 1 are the default of spectra without errors.
        is_noisy = bool((good & (ivar != 1)).any())
        noise = torch.where(good, 1 / ivar.clamp(min=1e-30), 0.0) if is_noisy else torch.zeros_like(ivar)
        yield Misfits(batch["labels"], squares, noise, good)


def store_points(network: SpectralNetwork, train: Batches) -> int:
    """Store labels of training spectra and their hull; returns the number of spectra with all labels."""
    x = torch.cat([complete_rows(batch)["labels"] for batch in train()])
    network.facets = facets(x).to(x)
    network.points = x[torch.linspace(0, len(x) - 1, min(POINTS, len(x))).long().to(x.device)]
    return len(x)


def measure(network: SpectralNetwork, valid: Batches | None, factor: Tensor | None = None) -> bool:
    """Measure the error of each pixel on held-out spectra; returns whether there are any.

    Errors are relative to the ``factor`` (n,), if given, by which those of each spectrum are expected to be
    larger.
    """
    if valid is None:
        return False
    count = total = noise = torch.zeros_like(network.uncertainty)
    passed = 0
    for part in misfits(network, valid):
        own = 1.0 if factor is None else factor[passed : (passed := passed + len(part.x)), None].square()
        count, total = count + part.good.sum(0), total + (part.squares / own).sum(0)
        noise = noise + (part.noise / own).sum(0)
    if not count.any():
        return False
    measured = total / count.clamp(min=1)
    # The misfit minus the noise is uncertain by its own sampling error.
    variance = torch.maximum(
        measured - noise / count.clamp(min=1), measured * (2 / count.clamp(min=2)).sqrt()
    )
    usual = (variance * count).sum() / count.sum()
    # A pixel that is bad in all of them gets the mean error of the others.
    variance = torch.where(count > 0, variance, usual).clamp(min=1e-12 * usual)
    network.uncertainty.copy_(variance.sqrt())
    return True
