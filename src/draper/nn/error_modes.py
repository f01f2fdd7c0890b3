"""Errors that pixels of a network have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from draper.nn.footprint import complete_rows
from draper.nn.module import Batches
from draper.nn.spectral import SpectralNetwork

MOST = 100
"""Largest number of modes."""

ROWS = 2048
"""Held-out spectra that the modes are measured on."""

FOR_EACH = 4
"""Least number of spectra for each mode."""

LEAST = 0.2
"""Least share of a pixel's error that is independent of the other pixels."""

NEGLECTED = 0.005
"""Share of the variance of modes that may be left out."""

ABOVE = 1.5
"""How many times the largest variance that noise alone would show a mode must have."""


def modes(network: SpectralNetwork, valid: Batches, factor: Tensor) -> Tensor:
    """Return the directions (r, p) of common errors on held-out spectra, with lengths of 1 sigma.

    Errors are relative to the ``factor`` (n,) by which those of each spectrum are expected to be larger.

    A network that is wrong in one pixel is wrong in others, too: its errors are those of a smooth function of
    a few labels. A fit that took them as independent would underestimate its errors.
    """
    parts, noise, rows, passed = [], 0.0, 0, 0
    for batch in map(complete_rows, valid()):
        ivar, good = batch["ivar"], batch["ivar"] > 0
        own = factor[passed : (passed := passed + len(ivar)), None]
        residual = good * (network(batch["labels"]) - torch.where(good, batch["flux"], 0.0)) / own
        whole = good.float().mean(1) > 0.5
        if bool((good & (ivar != 1)).any()):  # weights of 1 are the default, not errors
            noise += float((torch.where(good, 1 / ivar.clamp(min=1e-30), 0.0) / own**2)[whole].mean(1).sum())
        parts.append(residual[whole])
        rows += len(parts[-1])
        if rows >= ROWS:
            break
    residuals = torch.cat(parts) if parts else torch.zeros(0, network.pixels)
    n, p = residuals.shape
    most = min(MOST, n // FOR_EACH)
    if most == 0:
        return residuals[:0]
    _, size, direction = torch.linalg.svd(residuals.double(), full_matrices=False)
    edge = ABOVE * (noise / n) ** 0.5 * (n**0.5 + p**0.5)
    kept = (size > edge) & (size > 0)
    kept[most:] = False
    sized: Tensor = (direction[kept] * size[kept, None] / n**0.5).to(residuals.dtype)
    return sized


def leading(modes: Tensor) -> Tensor:
    """Return the directions (k, p) of most of the variance of modes (r, p), which may not be orthogonal.

    Broadened modes are alike: few of them are left.
    """
    if not len(modes):
        return modes
    power, vectors = torch.linalg.eigh((modes @ modes.T).double())
    kept = power.cumsum(0) > NEGLECTED * power.sum()
    few: Tensor = vectors[:, kept].T.to(modes) @ modes
    return few


def independent_error(uncertainty: Tensor, modes: Tensor) -> Tensor:
    """Return the 1-sigma error (p,) of each pixel without the part that modes (r, p) describe."""
    own = uncertainty.square() - modes.square().sum(0)
    return torch.maximum(own, (LEAST * uncertainty).square()).sqrt()
