"""Errors that pixels of a network have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draper.nn.footprint import complete_rows
from draper.nn.module import Batches
from draper.nn.nearby import nearby_covariance
from draper.nn.spectral import SpectralNetwork

MOST = 100
"""Largest number of modes."""

ROWS = 2048
"""Held-out spectra that the modes are measured on."""

FOR_EACH = 4
"""Least number of spectra for each mode."""

LEAST = 0.2
"""Least share of a pixel's error that is independent of the other pixels."""

WIDTHS = (0.1, 0.15, 0.2, 0.3, 0.5)
"""Distances of labels, in units of their ranges, up to which errors may be alike; the best is taken."""

DERIVATIVES, CHUNK = 64, 128
"""Spectra by which the importance of labels is measured, and spectra that are processed together."""

ROUNDING = 1e-4
"""Size of modes, relative to the largest, that are nothing but rounding errors of single precision."""

NEGLECTED = 0.005
"""Share of the variance of modes that may be left out."""

ABOVE = 1.5
"""How many times the largest variance that noise alone would show a mode must have."""


@dataclass(frozen=True)
class CommonErrors:
    """Errors that pixels have in common, on n held-out spectra.

    Attributes
    ----------
    modes : Tensor (r, p)
        Directions of these errors, with lengths of 1 sigma.
    labels : Tensor (n, d)
        Scaled labels of the spectra.
    amplitudes : Tensor (n, r)
        Of the directions in each; without meaning where spectra have noise.
    noisy
        Whether they have.
    """

    modes: Tensor
    labels: Tensor
    amplitudes: Tensor
    noisy: bool


def common_errors(network: SpectralNetwork, valid: Batches, factor: Tensor) -> CommonErrors:
    """Return the common errors on held-out spectra.

    Errors are relative to the ``factor`` (n,) by which those of each spectrum are expected to be larger.

    A network that is wrong in one pixel is wrong in others, too: its errors are those of a smooth function of
    a few labels. A fit that took them as independent would underestimate its errors.
    """
    parts, labels, noise, rows, passed = [], [], 0.0, 0, 0
    for batch in map(complete_rows, valid()):
        ivar, good = batch["ivar"], batch["ivar"] > 0
        own = factor[passed : (passed := passed + len(ivar)), None]
        residual = good * (network(batch["labels"]) - torch.where(good, batch["flux"], 0.0)) / own
        whole = good.float().mean(1) > 0.5
        if bool((good & (ivar != 1)).any()):  # weights of 1 are the default, not errors
            noise += float((torch.where(good, 1 / ivar.clamp(min=1e-30), 0.0) / own**2)[whole].mean(1).sum())
        parts.append(residual[whole])
        labels.append(batch["labels"][whole])
        rows += len(parts[-1])
        if rows >= ROWS:
            break
    residuals = torch.cat(parts) if parts else torch.zeros(0, network.pixels)
    at = torch.cat(labels) if labels else torch.zeros(0, network.labels)
    n, p = residuals.shape
    most = min(MOST, n // FOR_EACH)
    if most == 0:
        return CommonErrors(residuals[:0], at, residuals[:, :0], noise > 0)
    score, size, direction = torch.linalg.svd(residuals.double(), full_matrices=False)
    edge = ABOVE * (noise / n) ** 0.5 * (n**0.5 + p**0.5)
    kept = (size > edge) & (size > ROUNDING * size[0])
    kept[most:] = False
    sized = direction[kept] * size[kept, None] / n**0.5
    return CommonErrors(
        sized.to(residuals.dtype), at, (score[:, kept] * n**0.5).to(residuals.dtype), noise > 0
    )


def error_width(network: SpectralNetwork, found: CommonErrors) -> Tensor:
    """Return how far in each label (d,) errors are alike: the widths of :func:`nearby_covariance`.

    Those labels count most that spectra depend on most. The widths are those under which errors left out one
    by one are most likely; infinite if that gains nothing over a covariance that is the same everywhere.
    """
    everywhere = found.labels.new_full((network.labels,), torch.inf)
    if found.noisy or not found.amplitudes.shape[1]:
        return everywhere
    some = found.labels[:: -(-len(found.labels) // DERIVATIVES)]
    weight = torch.cat([network.jacobian(x)[1].square().mean((0, 1))[None] for x in torch.split(some, 8)])
    weight = weight.mean(0).sqrt()
    usual = (weight / weight.max()).clamp(min=1e-3).rsqrt()
    best, least = everywhere, found.amplitudes.double().square().sum(1).mean()
    for width in WIDTHS:
        loss = torch.cat(
            [
                _misfit(found.labels, found.amplitudes, width * usual, rows)
                for rows in torch.split(torch.arange(len(found.labels)), CHUNK)
            ]
        ).mean()
        if loss < least:
            best, least = width * usual, loss
    return best


def _misfit(labels: Tensor, amplitudes: Tensor, width: Tensor, rows: Tensor) -> Tensor:
    """Return -2 times the log likelihood (k,) of some amplitudes (n, r), by those of all others."""
    own = nearby_covariance(labels[rows], labels, amplitudes, width, rows)
    root = torch.linalg.cholesky(own)
    unit = torch.linalg.solve_triangular(root, amplitudes[rows, :, None].double(), upper=False)
    misfit: Tensor = unit.square().sum((1, 2)) + 2 * root.diagonal(dim1=1, dim2=2).log().sum(1)
    return misfit


def leading(modes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the directions (k, p) of most of the variance of modes (r, p), which may not be orthogonal.

    Broadened modes are alike: few of them are left. Also returned is what (r, k) of the amplitudes of the
    modes is the amplitude of each direction.
    """
    if not len(modes):
        return modes, modes.new_zeros(0, 0)
    power, vectors = torch.linalg.eigh((modes @ modes.T).double())
    kept = power.cumsum(0) > NEGLECTED * power.sum()
    mixture = vectors[:, kept].to(modes)
    return mixture.T @ modes, mixture


def independent_error(uncertainty: Tensor, modes: Tensor) -> Tensor:
    """Return the 1-sigma error (p,) of each pixel without the part that modes (r, p) describe."""
    own = uncertainty.square() - modes.square().sum(0)
    return torch.maximum(own, (LEAST * uncertainty).square()).sqrt()
