"""Estimates of some labels whose errors tell nothing of others: neither their mean nor their size."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

FEATURES = 400
"""Random cosines, of which corrections are made."""

RIDGE = 0.5
"""Regularisation of corrections, over the number of rows."""

NONE = -100.0
"""ln(variance) of errors that no noise is added for."""

MIN_ROWS = 500
"""Rows with all labels from which on a correction is learnt."""


class Cosines(nn.Module):
    """A constant, the inputs and cosines of them in random directions (Rahimi & Recht 2007).

    Parameters
    ----------
    inputs, features
        Numbers of inputs and of cosines.
    """

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.directions: Tensor
        self.phases: Tensor
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("directions", torch.randn(inputs, features, generator=generator))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features, generator=generator))
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.size = 1 + inputs + features

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (n, f) of inputs (n, i)."""
        unit = (inputs - self.mean.to(inputs)) / self.scale.to(inputs)
        directions, phases = self.directions.to(unit), self.phases.to(unit)
        cosines = torch.cos(unit @ directions + phases) * math.sqrt(2 / len(phases))
        return torch.cat([torch.ones_like(unit[:, :1]), unit, cosines], dim=1)

    def measure(self, inputs: Tensor) -> Tensor:
        """Standardise by these inputs (n, i), and return their features (n, f)."""
        self.mean.copy_(inputs.mean(0))
        self.scale.copy_(inputs.std(0).clamp(min=1e-3))
        return cast(Tensor, self(inputs))


class KeptLatents(nn.Module):
    """Latents of kept labels: estimates whose errors tell as little as possible of removed labels.

    A regressor estimates the mean of the labels that a spectrum may have. Where the spectrum is noisy, that
    mean lies nearer to labels that are common among the stars it has learnt, and by how much depends on all
    labels. Estimates x are therefore corrected: the correction h is the one for which the mean of h(x) - y
    given all labels y is zero, a nonparametric regression with instruments (Newey & Powell 2003), where both
    the correction and the functions of y that errors must not follow are sums of cosines.

    The size of errors also depends on all labels. Latents therefore get noise that makes it the same for
    stars with like kept labels and noise levels, as far as that costs no more than a given part of R2.

    Parameters
    ----------
    labels
        Number l of labels that are estimated.
    keep
        Numbers of those that are kept, k of them.
    """

    def __init__(self, labels: int, keep: tuple[int, ...]) -> None:
        super().__init__()
        self.keep = keep
        self.cosines, self.of_kept = Cosines(labels + 1, FEATURES), Cosines(len(keep) + 1, FEATURES // 2)
        self.weights: Tensor
        self.sizes: Tensor
        self.spread: Tensor
        self.share: Tensor
        self.register_buffer("weights", torch.zeros(self.cosines.size, len(keep)))
        # ln(variance) of errors: its mean, its scatter, and how far above the mean noise brings it.
        self.register_buffer("sizes", torch.zeros(self.of_kept.size, len(keep)))
        self.sizes[0] = NONE
        self.register_buffer("spread", torch.zeros(len(keep)))
        self.register_buffer("share", torch.zeros(len(keep)))

    def forward(self, estimates: Tensor, level: Tensor, log_error: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents (n, k) and the scatter (n, k) of their noise.

        Parameters
        ----------
        estimates, log_error : Tensor (n, l)
            Estimates of all labels, and ln of their errors.
        level : Tensor (n,)
            Noise levels of the spectra.
        """
        kept = estimates[:, self.keep]
        correction = self.cosines(torch.cat([estimates, level[:, None]], dim=1)) @ self.weights
        mean = self.of_kept(torch.cat([kept, level[:, None]], dim=1)) @ self.sizes
        return kept + correction, self._noise(mean, log_error)

    def _noise(self, mean: Tensor, log_error: Tensor) -> Tensor:
        """Return the noise (n, k) that brings errors to a size; ``mean`` (n, k) is of ln(variance)."""
        wanted = (mean + self.share * self.spread).exp()
        return (wanted - (2 * log_error[:, self.keep]).exp()).clamp(min=0).sqrt()

    @torch.no_grad()
    def fit(
        self, estimates: Tensor, level: Tensor, log_error: Tensor, labels: Tensor, errors: Tensor, cost: float
    ) -> None:
        """Learn correction and noise; rows without all labels are left out.

        Parameters
        ----------
        estimates, level, log_error
            As for :meth:`forward`.
        labels, errors : Tensor (n, l)
            Labels in units of their scatter, and their errors. The mean of true labels given those with
            errors is taken to be that of Gaussians.
        cost
            The largest part of R2 that noise may cost.
        """
        known = torch.isfinite(labels).all(1) & torch.isfinite(estimates).all(1)
        n = int(known.sum())
        if n < MIN_ROWS or not self.keep:
            return
        x, s, y, error = (values[known].double() for values in (estimates, level, labels, errors))
        kept = x[:, self.keep]
        features = self.cosines.measure(torch.cat([x, s[:, None]], dim=1))
        instruments = (
            Cosines(y.shape[1] + 1, FEATURES).to(y.device).measure(torch.cat([y, s[:, None]], dim=1))
        )
        covariance = torch.cov(y.T) + 1e-6 * torch.eye(y.shape[1], dtype=y.dtype)
        drawn = (y - y.mean(0)) @ torch.linalg.inv(covariance)
        target = (y - drawn * error.square().clamp(max=1.0))[:, self.keep] - kept
        own = instruments.T @ instruments / n
        own += 1e-5 * torch.eye(len(own), dtype=own.dtype)
        cross = instruments.T @ features / n
        projected = torch.linalg.solve(own, cross)
        normal = cross.T @ projected + RIDGE / n * torch.eye(cross.shape[1], dtype=own.dtype)
        self.weights.copy_(torch.linalg.solve(normal, projected.T @ (instruments.T @ target / n)))
        if cost == 0:
            return
        features = self.of_kept.measure(torch.cat([kept, s[:, None]], dim=1))
        size = 2 * log_error[known].double()[:, self.keep]
        normal = features.T @ features / n + 1e-4 * torch.eye(features.shape[1], dtype=size.dtype)
        self.sizes.copy_(torch.linalg.solve(normal, features.T @ size / n))
        mean = features.float() @ self.sizes
        self.spread.copy_((size - mean).std(0))
        self._spend(mean, log_error[known], cost)

    def _spend(self, mean: Tensor, log_error: Tensor, cost: float) -> None:
        """Choose how far noise raises the errors, by bisection: labels have a variance of 1."""
        left = (2 * log_error[:, self.keep]).exp().mean(0).clamp(max=1.0)
        low, high = (torch.full_like(self.share, end) for end in (-5.0, 5.0))
        for _ in range(40):
            self.share.copy_((low + high) / 2)
            dear = self._noise(mean, log_error).square().mean(0) > cost * (1 - left)
            low, high = torch.where(dear, low, self.share), torch.where(dear, self.share, high)
        self.share.copy_(low)
