"""How spectra answer to labels, from labels with known errors: a regression on labels as they truly are."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

FEATURES = 400
"""Random cosines that the response is made of."""

FREQUENCY = 0.35
"""Scatter of their frequencies, per scatter of a label: higher ones would follow the noise."""

RIDGE = 0.5
"""Regularisation, relative to the square of each feature in a mean row."""

LEAST = 5 * FEATURES
"""Rows without which changes of spectra would follow the noise."""

COMPONENTS = 15
"""Gaussians that the distribution of labels is made of."""

ROWS = 500
"""Rows for each Gaussian, at least."""

SAMPLE = 10_000
"""Rows that these are fitted to, at most."""

MIN_VARIANCE = 1e-4
"""Minimum variance of a Gaussian in any direction once errors are subtracted; labels have a variance of 1."""

STEPS = 30
"""Steps of expectation-maximisation."""

BLOCK = 1024
"""Rows whose features are computed together."""


class Response(nn.Module):
    """The mean spectrum (p,) at labels (l,), whose differences are what a change of labels does.

    A regression on estimated labels is too steep, since the noise of a spectrum moves its estimates, and one
    on published labels is too flat, since they have errors of their own. The distribution of true labels
    follows from the published ones and their errors, and so does the mean of any function of the true labels
    given the published ones. The regression is on these means, of cosines, which is free of both.

    Parameters
    ----------
    labels, pixels
        Numbers l of labels, in units of their scatter, and p of pixels.
    """

    def __init__(self, labels: int, pixels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.directions: Tensor
        self.phases: Tensor
        self.weights: Tensor
        self.ready: Tensor
        directions = FREQUENCY * torch.randn(labels, FEATURES, generator=generator)
        self.register_buffer("directions", directions)
        self.register_buffer("phases", 2 * math.pi * torch.rand(FEATURES, generator=generator))
        self.register_buffer("weights", torch.zeros(1 + labels + FEATURES, pixels))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, labels: Tensor) -> Tensor:
        """Return mean spectra (n, p) at labels (n, l)."""
        cosines = torch.cos(labels @ self.directions + self.phases) * math.sqrt(2 / FEATURES)
        return torch.cat([torch.ones_like(labels[:, :1]), labels, cosines], dim=1) @ self.weights

    @torch.no_grad()
    def fit(self, labels: Tensor, errors: Tensor, spectra: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learn the response.

        Parameters
        ----------
        labels, errors : Tensor (n, l)
            Published labels and their errors.
        spectra
            Blocks of flux (k, p) and weights (k,) of the same n rows.
        """
        mixture = Mixture(labels, errors)
        size, start = len(self.weights), 0
        normal = torch.zeros(size, size, dtype=torch.float64)
        right = torch.zeros(size, self.weights.shape[1], dtype=torch.float64)
        for flux, weight in spectra:
            for part in torch.split(torch.arange(len(flux)), BLOCK):
                rows = slice(start, start + len(part))
                features = self._expected(*mixture.posterior(labels[rows], errors[rows]))
                weighted = features.T * weight[part]
                normal += (weighted @ features).double()
                right += (weighted @ flux[part]).double()
                start += len(part)
        ridge = RIDGE / start * normal.diagonal()
        ridge[0] = 0
        self.weights.copy_(torch.linalg.solve(normal + torch.diag(ridge + 1e-9 * start), right))
        self.ready.fill_(True)

    def _expected(self, share: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
        """Return the means (n, f) of the features over mixtures of k Gaussians."""
        cosines = torch.zeros(len(share), FEATURES)
        for number in range(share.shape[1]):
            spread = ((covariance[:, number] @ self.directions) * self.directions).sum(1)
            wave = torch.cos(mean[:, number] @ self.directions + self.phases)
            cosines += share[:, number, None] * wave * (-0.5 * spread).exp()
        centre = (share[:, :, None] * mean).sum(1)
        return torch.cat([torch.ones(len(share), 1), centre, cosines * math.sqrt(2 / FEATURES)], dim=1)


class Mixture:
    """The distribution of true labels, as a mixture of Gaussians, from labels with errors (n, l).

    Examples
    --------
    >>> true = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
    >>> labels = true + torch.randn(2000, 1, generator=torch.Generator().manual_seed(2))
    >>> share, mean, _ = Mixture(labels, torch.ones(2000, 1)).posterior(labels, torch.ones(2000, 1))
    >>> errors = [(estimate - true).std() for estimate in (labels, (share[:, :, None] * mean).sum(1))]
    >>> bool(errors[1] < 0.75 * errors[0])
    True
    """

    def __init__(self, labels: Tensor, errors: Tensor) -> None:
        from sklearn.mixture import GaussianMixture

        rows = np.random.default_rng(0).permutation(len(labels))[:SAMPLE]
        measured = labels[rows].double().numpy()
        fitted = GaussianMixture(
            min(COMPONENTS, max(1, len(rows) // ROWS)), reg_covar=MIN_VARIANCE, max_iter=60, random_state=0
        ).fit(measured)
        noise = torch.diag(errors[rows].double().square().mean(0))
        self.share = torch.from_numpy(fitted.weights_)
        self.mean = torch.from_numpy(fitted.means_)
        self.covariance = positive(torch.from_numpy(fitted.covariances_) - noise)
        # Narrow Gaussians of labels with errors are not those of true labels: expectation-maximisation (Bovy
        # et al. 2011) goes on from there, if there are errors.
        for _ in range(STEPS if float(noise.amax()) > 0 else 0):
            self._maximise(labels[rows], errors[rows])

    def _maximise(self, labels: Tensor, errors: Tensor) -> None:
        """Do one step of expectation-maximisation on labels with errors (n, l)."""
        k, d = self.mean.shape
        total, first, second = torch.zeros(k), torch.zeros(k, d), torch.zeros(k, d, d)
        for part in torch.split(torch.arange(len(labels)), BLOCK):
            share, mean, covariance = self.posterior(labels[part], errors[part])
            total += share.sum(0)
            first += torch.einsum("nk,nkd->kd", share, mean)
            second += torch.einsum("nk,nkde->kde", share, covariance)
            second += torch.einsum("nk,nkd,nke->kde", share, mean, mean)
        used = total.clamp(min=1e-6).double()
        self.share = used / used.sum()
        self.mean = first.double() / used[:, None]
        products = self.mean[:, :, None] * self.mean[:, None]
        self.covariance = positive(second.double() / used[:, None, None] - products)

    def posterior(self, labels: Tensor, errors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return shares (n, k), means (n, k, l) and covariances (n, k, l, l) of the true labels of n rows."""
        total = self.covariance + torch.diag_embed(errors.double().square())[:, None]
        root = torch.linalg.cholesky(total)
        away = (labels.double()[:, None] - self.mean)[..., None]
        white = torch.linalg.solve_triangular(root, away, upper=False)[..., 0]
        size = torch.diagonal(root, dim1=-2, dim2=-1).log().sum(-1)
        share = (self.share.log() - 0.5 * white.square().sum(-1) - size).softmax(1)
        gain = torch.cholesky_solve(self.covariance.expand_as(total), root).transpose(-1, -2)
        mean = self.mean + (gain @ away)[..., 0]
        covariance = self.covariance - gain @ self.covariance
        return share.float(), mean.float(), covariance.float()


def positive(covariance: Tensor) -> Tensor:
    """Return covariances (k, l, l) with a variance of at least ``MIN_VARIANCE`` in every direction."""
    values, vectors = torch.linalg.eigh(covariance)
    made: Tensor = (vectors * values.clamp(min=MIN_VARIANCE)[:, None]) @ vectors.transpose(1, 2)
    return made
