"""Importance sampling: weighted samples of a posterior, its evidence, and how far both can be trusted.

Samples come from a proposal of known density, such as a normalising flow; the weight of each is the
unnormalised posterior over the density of the proposal. What a good proposal has to cover is thereby checked,
not assumed: weights that vary much mean few effective samples, and a heavy tail of weights (Pareto k) means
that the figures may be wrong however many samples there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from draper.errors import DraperError

FloatArray = NDArray[np.float64]

MIN_TAIL = 5
"""Number of weights that a fit of their tail needs at least."""

NEGLIGIBLE = 1e-200
"""Weights, relative to the largest, that count as 0 beside it."""

HOPELESS = 2.0
"""Pareto k above which smoothing would give a few useless samples equal weights."""


@dataclass(frozen=True, eq=False, repr=False)
class ImportanceSamples:
    """Weighted samples of a posterior.

    Attributes
    ----------
    samples : ndarray (n, d)
        Draws from the proposal.
    log_weights : ndarray (n,)
        Logarithm of the unnormalised posterior over the density of the proposal. NaN, of a model that cannot
        be computed there, counts as -inf: the weight is 0.
    rounds : int
        Number of rounds in which the proposal was refined.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(0, 2, (4000, 1))
    >>> made = ImportanceSamples(x, np.log(3 * 2) - 0.375 * x[:, 0] ** 2)  # 3 N(0, 1) / N(0, 4)
    >>> made
    ImportanceSamples(4000 x 1; efficiency 0.66, Pareto k -1.78, log evidence 1.089 +- 0.011)
    """

    samples: FloatArray
    log_weights: FloatArray
    rounds: int = 0

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples, dtype=np.float64)
        log_weights = np.asarray(self.log_weights, dtype=np.float64)
        if samples.ndim != 2 or log_weights.shape != samples.shape[:1] or len(samples) < 2:
            raise DraperError(
                "each sample has one weight, and there are two samples at least",
                given=f"samples {samples.shape}, log_weights {log_weights.shape}",
                expected="samples (n, d), log_weights (n,)",
            )
        if np.any(log_weights == np.inf):
            raise DraperError(
                "a weight is infinite",
                given=f"sample {int(np.argmax(log_weights))}",
                hint="the density of the proposal must be positive at its own samples",
            )
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "log_weights", np.where(np.isnan(log_weights), -np.inf, log_weights))

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def effective_size(self) -> float:
        """The number of independent samples of the posterior that are worth as much: (sum w)^2 / sum w^2."""
        return effective_size(self.log_weights)

    @property
    def efficiency(self) -> float:
        """Effective size over the number of samples, 1 for a perfect proposal."""
        return self.effective_size / len(self)

    @cached_property
    def log_evidence(self) -> float:
        """Natural logarithm of the evidence: of the mean weight."""
        return float(logsumexp(self.log_weights) - np.log(len(self)))

    @property
    def log_evidence_err(self) -> float:
        """1-sigma error of the log evidence, by propagation of the error of the mean weight."""
        if self.effective_size == 0:
            return np.inf
        return float(np.sqrt((1 / self.efficiency - 1) / (len(self) - 1)))

    @cached_property
    def _smoothed(self) -> tuple[FloatArray, float]:
        return pareto_smoothed(self.log_weights)

    @property
    def pareto_k(self) -> float:
        """Shape of the tail of the weights; see :func:`pareto_smoothed`."""
        return self._smoothed[1]

    @property
    def reliable(self) -> bool:
        """Whether k is below min(1 - 1 / log10 n, 0.7), beyond which means and errors may be far off."""
        return bool(self.pareto_k < min(1 - 1 / np.log10(len(self)), 0.7))

    @property
    def weights(self) -> FloatArray:
        """Pareto-smoothed weights (n,), of sum 1."""
        smoothed = self._smoothed[0]
        if self.effective_size == 0:
            raise DraperError(
                "all weights are 0",
                given=f"{len(self)} samples",
                hint="the proposal misses the posterior, or the model cannot be computed at any sample",
            )
        weights: FloatArray = np.exp(smoothed - logsumexp(smoothed))
        return weights

    def resample(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return samples (count, d) of equal weight in random order.

        The smoothed weights are used, and systematic resampling: the number of copies of a sample differs by
        less than 1 from what its weight demands.
        """
        drawn: FloatArray = self.samples[rng.permutation(systematic(self.weights, count, rng))]
        return drawn

    def __repr__(self) -> str:
        n, d = self.samples.shape
        return (
            f"ImportanceSamples({n} x {d}; efficiency {self.efficiency:.2g}, Pareto k {self.pareto_k:.2f}, "
            f"log evidence {self.log_evidence:.3f} +- {self.log_evidence_err:.2g})"
        )


def effective_size(log_weights: FloatArray) -> float:
    """Return (sum w)^2 / sum w^2, the number of effective samples; 0 if all weights are.

    Examples
    --------
    >>> round(effective_size(np.log([1.0, 1.0, 1.0, 1e-9])), 6)
    3.0
    """
    top = log_weights.max()
    if top == -np.inf:
        return 0.0
    weights = np.exp(log_weights - top)
    return float(weights.sum() ** 2 / np.square(weights).sum())


def systematic(weights: FloatArray, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return indices (count,), each as often as its weight demands, rounded up or down at random.

    Examples
    --------
    >>> systematic(np.array([0.5, 0.25, 0.25]), 4, np.random.default_rng(0))
    array([0, 0, 1, 2])
    """
    ends = np.cumsum(weights)
    places = (np.arange(count) + rng.uniform()) / count * ends[-1]
    chosen: NDArray[np.int64] = np.searchsorted(ends, places, side="right")
    return np.minimum(chosen, len(weights) - 1)


def pareto_smoothed(log_weights: FloatArray) -> tuple[FloatArray, float]:
    """Return log weights (n,) whose largest are replaced by quantiles of a Pareto distribution, and its k.

    The largest min(n / 5, 3 sqrt(n)) weights are fitted by a generalised Pareto distribution (Vehtari et al.
    2024). Below k = 0.5 the variance of the weights is finite; above 0.7 means are unreliable; above 1 not
    even their mean exists, and above ``HOPELESS`` the weights are left as they are. k is infinite if there
    are too few weights above 0 for a fit.

    Examples
    --------
    >>> smoothed, k = pareto_smoothed(np.random.default_rng(1).exponential(0.6, 100_000))  # Pareto, k = 0.6
    >>> abs(k - 0.6) < 0.1
    True
    """
    n = len(log_weights)
    size = int(np.ceil(min(n / 5, 3 * np.sqrt(n))))
    order = np.argsort(log_weights, kind="stable")
    tail = order[n - size :]
    cutoff, top = log_weights[order[n - size - 1]], log_weights[order[-1]]
    if size < MIN_TAIL or top == -np.inf or not np.isfinite(log_weights[tail[0]]):
        return log_weights, np.inf
    excess = np.exp(log_weights[tail] - top) - np.exp(cutoff - top)
    if excess[-1] <= 1e-12:  # all weights of the tail are equal, and there is nothing to smooth
        return log_weights, -np.inf
    excess = excess[excess > NEGLIGIBLE]
    if len(excess) < MIN_TAIL:
        return log_weights, np.inf
    k, sigma = pareto_fit(excess)
    smoothed = log_weights.copy()
    if k < HOPELESS:
        levels = (np.arange(size) + 0.5) / size
        # Quantiles of a very heavy tail are infinite; no weight is larger than the largest that was met.
        with np.errstate(over="ignore"):
            drawn = sigma * (np.expm1(-k * np.log1p(-levels)) / k if abs(k) > 1e-9 else -np.log1p(-levels))
        smoothed[tail] = np.minimum(np.log(np.exp(cutoff - top) + drawn), 0) + top
    return smoothed, k


def pareto_fit(excess: FloatArray) -> tuple[float, float]:
    """Return shape k and scale of the generalised Pareto distribution of sorted positive values (m,).

    The estimate of Zhang & Stephens (2009): the posterior mean over a grid of b = -k / scale, each with the
    k of largest likelihood. A weak prior draws k to 0.5 with the weight of ten values.

    Examples
    --------
    >>> u = (np.arange(2000) + 0.5) / 2000
    >>> k, scale = pareto_fit(2 / 0.3 * ((1 - u) ** -0.3 - 1))
    >>> round(k, 2), round(scale, 1)
    (0.3, 2.0)
    """
    m = len(excess)
    count = 30 + int(np.sqrt(m))
    quartile = excess[max(int(m / 4 + 0.5) - 1, 0)]
    b = 1 / excess[-1] + (1 - np.sqrt(count / (np.arange(count) + 0.5))) / (3 * quartile)
    shapes = np.log1p(-b[:, None] * excess).mean(axis=1)
    log_likelihood = m * (np.log(-b / shapes) - shapes - 1)
    chosen = float(np.exp(log_likelihood - logsumexp(log_likelihood)) @ b)
    k = float(np.log1p(-chosen * excess).mean())
    return (m * k + 5) / (m + 10), -k / chosen
