"""What a spectrum on any bins with any errors says of the fine spectrum behind it: its sufficient statistics.

For Gaussian errors of covariance C and bins that average a fine spectrum (a matrix A), A'C^-1 d and A'C^-1 A
hold all that the data d say, and those of several data sets add. On k principal components of the simulated
spectra they are k numbers and a matrix (k, k). Solved with the scatter of the simulations as a prior, they
become the most probable components and their errors, which do not depend on the instrument.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from draper.models.retriever.designs import Design, sums_between
from draper.nn.module import Batches

LARGEST_SIGMA = 1.0
"""Largest error of the logarithm of the reference that counts."""


class Statistics(NamedTuple):
    """Sufficient statistics of b spectra on k components.

    Attributes
    ----------
    weighted : Tensor (b, k)
        Components of A'C^-1 (d - mean spectrum).
    precision : Tensor (b, k, k)
        Components of A'C^-1 A.
    """

    weighted: Tensor
    precision: Tensor


class Reference(NamedTuple):
    """Half of the logarithm of the mean flux in the reference pixels, as the data tell it.

    Attributes
    ----------
    centre, sigma : Tensor (b,)
        Value and error.
    """

    centre: Tensor
    sigma: Tensor


class Summary(nn.Module):
    """Features of constant size of spectra of any instrument.

    Parameters
    ----------
    width
        Widths (p,) of the pixels, by which bins average.
    components
        Number k of principal components.
    reference
        Pixels (r,) whose mean sets the scale of the spectrum; none by default.
    """

    mean: Tensor
    basis: Tensor
    width: Tensor
    reference: Tensor

    def __init__(self, width: Tensor, components: int, reference: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("width", width.double())
        self.register_buffer("mean", torch.zeros_like(self.width))
        self.register_buffer("basis", torch.zeros(len(width), components, dtype=torch.float64))
        self.register_buffer("reference", torch.tensor([]).long() if reference is None else reference)

    @property
    def features(self) -> int:
        """Number of features."""
        return 2 * self.basis.shape[1] + (2 if len(self.reference) else 0)

    def prepare(self, train: Batches) -> None:
        """Measure mean and components of the training spectra: of good pixels, and less their own noise."""
        pairs = self.mean.new_zeros(2 * self.mean.shape)
        square, total, noise = torch.zeros_like(pairs), torch.zeros_like(pairs), torch.zeros_like(self.mean)
        for batch in train():
            good = torch.isfinite(batch["variance"])
            flux = torch.where(good, batch["values"], 0.0).double()
            known = good.double()
            # Of each pair of pixels the spectra count in which both are good.
            pairs, square, total = pairs + known.T @ known, square + flux.T @ flux, total + flux.T @ known
            noise = noise + torch.where(good, batch["variance"], 0.0).double().sum(0)
        pairs = pairs.clamp(min=1)
        means, count = total / pairs, pairs.diagonal()
        mean, covariance = means.diagonal(), square / pairs - means * means.T - torch.diag(noise / count)
        values, vectors = torch.linalg.eigh(covariance)
        order = values.argsort(descending=True)[: self.basis.shape[1]]
        self.mean.copy_(mean)
        self.basis.copy_(vectors[:, order] * values[order].clamp(min=1e-30).sqrt())

    def observe(self, flux: Tensor, design: Design, noise: Tensor, own_variance: Tensor) -> Statistics:
        """Observe fine spectra (b, p) with given instruments, and return the statistics.

        Parameters
        ----------
        flux, own_variance : Tensor (b, p)
            Fine spectra, and the variance of the noise that they hold already (infinite for bad pixels).
        design
            Instruments.
        noise : Tensor (b, m)
            Standard normal.
        """
        edges = design.edges
        zero = self.width.new_zeros(1)
        groups = edges[:: design.group]
        owner = torch.arange(len(edges), device=edges.device) // design.group
        span = sums_between(torch.cat([zero, self.width.cumsum(0)])[None, :, None], groups)[..., 0]
        span = span.clamp(min=1e-30)
        both = torch.cat([self.basis, self.mean[:, None]], dim=1) * self.width[:, None]
        both = nn.functional.pad(both.cumsum(0), (0, 0, 1, 0))
        binned = (sums_between(both[None], groups) / span[..., None])[owner]
        components, mean = binned[..., :-1], binned[..., -1]
        bad = torch.isinf(own_variance)
        variance = torch.where(bad, 0.0, own_variance.double()) * self.width**2
        fine = torch.stack([flux.double() * self.width, variance, bad.double()], dim=2)
        fine = nn.functional.pad(fine.cumsum(1), (0, 0, 1, 0))
        seen, span = sums_between(fine, edges), span[owner]
        spectrum, variance = seen[..., 0] / span, seen[..., 1] / span**2
        variance = variance + design.sigma.double() ** 2
        data = spectrum + design.sigma.nan_to_num(posinf=0.0).double() * noise.double()
        good = torch.isfinite(variance) & torch.isfinite(data) & (seen[..., 2] == 0) & (variance > 0)
        weight = torch.where(good, 1 / variance, 0.0)
        difference = torch.where(weight > 0, data - mean, 0.0) * weight
        return Statistics(
            (difference[:, None] @ components)[:, 0],
            (components * weight[..., None]).mT @ components,
        )

    def forward(self, statistics: Statistics) -> tuple[Tensor, Reference]:
        """Return the features (b, f) of statistics, and the reference."""
        eye = torch.eye(self.basis.shape[1], dtype=torch.float64, device=self.basis.device)
        factor = torch.linalg.cholesky(statistics.precision + eye)
        components = torch.cholesky_solve(statistics.weighted[..., None], factor)[..., 0]
        inverse = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
        spread = inverse.square().sum(1)
        parts = [components, spread.log() / 4]
        reference = Reference(components.new_zeros(len(components)), components.new_ones(len(components)))
        if len(self.reference):
            direction = self.basis[self.reference].mean(0)
            level = self.mean[self.reference].mean()
            value = (level + components @ direction).clamp(min=1e-3 * level)
            sigma = (inverse @ direction).norm(dim=1) / (2 * value)
            reference = Reference(value.log() / 2, sigma.clamp(1e-6, LARGEST_SIGMA))
            relative = 2 * reference.centre - level.log()
            parts += [relative[:, None], reference.sigma.log()[:, None] / 4]
        return torch.cat(parts, dim=1).float(), reference
