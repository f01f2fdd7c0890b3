"""Mixtures of Student t distributions, fitted to weighted samples: proposals for importance sampling."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log, pi
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from draper.infer.importance import effective_size

FloatArray = NDArray[np.float64]

DEGREES = 10.0
"""Degrees of freedom: tails heavier than a Gaussian's cover what a fit has missed, at little cost."""

STRETCH = 1.1
"""Factor by which a fitted mixture is wider than its samples, which are fewer than would show its tails."""

FLOOR = 1e-8
"""Smallest variance of a component, where the variance of all samples is 1."""

LARGEST = 4000
"""Number of samples, those of the largest weights, to which a mixture is fitted at most."""

ITERATIONS = 30
TOLERANCE = 1e-3
"""EM ends after so many iterations, or when the mean log density of the samples rises by less than this."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of k multivariate Student t distributions of ``DEGREES`` degrees of freedom.

    Attributes
    ----------
    shares : ndarray (k,)
        Probabilities of the components.
    means : ndarray (k, d)
        Their centres.
    factors : ndarray (k, d, d)
        Lower Cholesky factors of their scale matrices.
    """

    shares: FloatArray
    means: FloatArray
    factors: FloatArray

    @classmethod
    def fit(
        cls, samples: FloatArray, log_weights: FloatArray, rng: np.random.Generator, *, components: int = 8
    ) -> Self:
        """Return a mixture of large weighted likelihood, by expectation maximisation from k-means++ centres.

        It is then made wider by ``STRETCH``.
        Of the largest number of components, half of it, a quarter, ... the number of the best Akaike
        criterion is chosen. A weak prior draws the scale matrices to their mean, so that none collapses;
        components that fewer effective samples support than they have dimensions are dropped.

        Parameters
        ----------
        samples : ndarray (n, d)
            Points in coordinates without bounds.
        log_weights : ndarray (n,)
            Logarithms of their weights.
        rng
            Chooses the first centres.
        components
            Largest number of components.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> x = np.concatenate([rng.normal(-5, 1, (500, 2)), rng.normal(5, 1, (1500, 2))])
        >>> mixture = Mixture.fit(x, np.zeros(2000), rng, components=2)
        >>> mixture.shares.round(2), mixture.means.round(0)
        (array([0.25, 0.75]), array([[-5., -5.],
               [ 5.,  5.]]))
        """
        effective = effective_size(log_weights)
        used = np.argsort(-log_weights, kind="stable")[:LARGEST]
        x = samples[used]
        weights: FloatArray = np.exp(log_weights[used] - logsumexp(log_weights[used]))
        d = x.shape[1]
        # All labels count alike where the samples have mean 0 and covariance 1.
        centre, whole = moments(x, weights)
        if effective < 2 * d:  # too few to tell a width: it is between theirs and that of all samples
            spread = moments(samples, np.full(len(samples), 1 / len(samples)))[1] / (1 + effective)
            whole = np.asarray(np.linalg.cholesky(whole @ whole.T + spread @ spread.T), dtype=np.float64)
        z = np.asarray(np.linalg.solve(whole, (x - centre).T).T, dtype=np.float64)
        # A component needs a few samples for each dimension.
        count = int(np.clip(effective / (2 * d), 1, components))
        counts = [count >> halvings for halvings in range(count.bit_length())]
        fits = [cls._maximised(z, weights, effective, count, rng) for count in counts]
        best = max(fits, key=lambda fit: effective * fit[1] - fit[0].parameters)[0]
        return cls(best.shares, centre + best.means @ whole.T, STRETCH * whole @ best.factors)

    @classmethod
    def _maximised(
        cls, z: FloatArray, weights: FloatArray, effective: float, count: int, rng: np.random.Generator
    ) -> tuple[Self, float]:
        """Return the mixture of at most ``count`` components, and the mean log density of the samples."""
        d = z.shape[1]
        factors = np.tile(count ** (-1 / d) * np.eye(d), (count, 1, 1))
        mixture = cls(np.full(count, 1 / count), spread_centres(z, weights, count, rng), factors)
        last = -np.inf
        for _ in range(ITERATIONS):
            mixture, level = mixture._improved(z, weights, effective)
            if level - last < TOLERANCE:
                break
            last = level
        return mixture, level

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        d: int = self.means.shape[1]
        return len(self.means) * (1 + d + d * (d + 1) // 2)

    def _improved(self, z: FloatArray, weights: FloatArray, effective: float) -> tuple[Self, float]:
        """Return the mixture after one iteration, and the mean log density of the samples before it."""
        d = z.shape[1]
        densities, distances = self._components(z)
        total = logsumexp(densities, axis=0)
        belongs = weights * np.exp(densities - total)  # (k, n)
        counts = effective * belongs.sum(axis=1)
        kept = counts >= min(d, counts.max())
        belongs, counts, distances = belongs[kept], counts[kept], distances[kept]
        # In the tails of a Student t a sample counts less.
        pull = belongs * (DEGREES + d) / (DEGREES + distances)
        means = pull @ z / pull.sum(axis=1, keepdims=True)
        offsets = z - means[:, None]
        scatter = effective * (offsets * pull[..., None]).transpose(0, 2, 1) @ offsets
        # Few samples may lie in a plane, or all in one point.
        floor = max(FLOOR, (1 + effective) ** -2.0)
        mean, prior = scatter.sum(axis=0) / counts.sum() + floor * np.eye(d), d + 1.0
        matrices = (scatter + prior * mean) / (counts + prior)[:, None, None]
        better = type(self)(counts / counts.sum(), means, np.linalg.cholesky(matrices))
        return better, float(weights @ total)

    def _components(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log share + log density, and squared Mahalanobis distances (k, n) of each component."""
        d = x.shape[1]
        offsets = (x - self.means[:, None]) @ np.linalg.inv(self.factors).transpose(0, 2, 1)
        distances = np.square(offsets).sum(axis=2)
        constant = (
            lgamma((DEGREES + d) / 2)
            - lgamma(DEGREES / 2)
            - d / 2 * log(DEGREES * pi)
            + np.log(self.shares)
            - np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1)
        )
        return constant[:, None] - (DEGREES + d) / 2 * np.log1p(distances / DEGREES), distances

    def log_density(self, x: FloatArray) -> FloatArray:
        """Return the logarithm of the density (n,) at points (n, d)."""
        density: FloatArray = logsumexp(self._components(x)[0], axis=0)
        return density

    def sample(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return draws (count, d), ordered by component."""
        d = self.means.shape[1]
        chosen = np.repeat(np.arange(len(self.shares)), rng.multinomial(count, self.shares))
        normal = rng.standard_normal((count, d, 1))
        stretch = np.sqrt(DEGREES / rng.chisquare(DEGREES, count))
        drawn: FloatArray = self.means[chosen] + stretch[:, None] * (self.factors[chosen] @ normal)[..., 0]
        return drawn


def moments(x: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean (d,) and Cholesky factor (d, d) of the covariance of points with weights of sum 1."""
    centre = weights @ x
    offsets = x - centre
    covariance = (offsets * weights[:, None]).T @ offsets
    # Few samples may lie in a plane.
    floor = 1e-6 * (np.trace(covariance) / len(centre)) + 1e-12
    return centre, np.linalg.cholesky(covariance + floor * np.eye(len(centre)))


def spread_centres(x: FloatArray, weights: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Return centres (count, d) far from each other, as k-means++ chooses them, after one step of k-means."""
    chosen = [int(rng.choice(len(x), p=weights))]
    nearest = np.full(len(x), np.inf)
    owner = np.zeros(len(x), dtype=np.int64)
    for number in range(count):
        distance = np.square(x - x[chosen[number]]).sum(axis=1)
        owner = np.where(distance < nearest, number, owner)
        nearest = np.minimum(nearest, distance)
        if number + 1 < count:
            odds = weights * nearest
            chosen.append(int(rng.choice(len(x), p=odds / odds.sum())))
    mass = np.bincount(owner, weights, count)
    centres = np.stack([np.bincount(owner, weights * column, count) for column in x.T], axis=1)
    return centres / np.maximum(mass, 1e-300)[:, None]
