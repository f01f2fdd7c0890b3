"""Errors that pixels of a network have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from draper.nn.footprint import complete
from draper.nn.module import Batches
from draper.nn.spectral import SpectralNetwork

MOST = 20
"""Modes that are kept at most."""

ROWS = 2048
"""Held-out spectra that they are found in."""

FOR_EACH = 4
"""Spectra that each mode takes at least."""

ABOVE = 1.5
"""How many times the largest variance that noise alone would show a mode must have."""


def modes(network: SpectralNetwork, valid: Batches) -> Tensor:
    """Return the directions (r, p) in which held-out spectra are wrong, as long as their 1-sigma sizes.

    A network that is wrong in one pixel is wrong in others, too: its errors are those of a smooth function of
    a few labels. A fit that took them as independent would be too sure of itself.
    """
    found, noise, rows = [], 0.0, 0
    for batch in map(complete, valid()):
        ivar, good = batch["ivar"], batch["ivar"] > 0
        residual = good * (network(batch["labels"]) - torch.where(good, batch["flux"], 0.0))
        whole = good.float().mean(1) > 0.5
        if bool((good & (ivar != 1)).any()):  # weights of 1 are no errors but the default
            noise += float(torch.where(good, 1 / ivar.clamp(min=1e-30), 0.0)[whole].mean(1).sum())
        found.append(residual[whole])
        rows += len(found[-1])
        if rows >= ROWS:
            break
    residuals = torch.cat(found) if found else torch.zeros(0, network.pixels)
    n, p = residuals.shape
    most = min(MOST, n // FOR_EACH)
    if most == 0:
        return residuals[:0]
    _, size, direction = torch.linalg.svd(residuals.double(), full_matrices=False)
    edge = ABOVE * (noise / n) ** 0.5 * (n**0.5 + p**0.5)
    kept = (size > edge) & (size > 0)
    kept[most:] = False
    made: Tensor = (direction[kept] * size[kept, None] / n**0.5).to(residuals.dtype)
    return made
