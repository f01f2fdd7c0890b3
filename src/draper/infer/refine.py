"""Adaptive importance sampling: proposals that are fitted to the posterior as far as it is known.

Each round fits a mixture to all samples so far and draws from it. For the fit, samples are weighted by the
mean density of all proposals (the balance heuristic of multiple importance sampling; Cornuet et al. 2012).
The result holds only samples to which its proposal was not fitted: a mixture is denser at the samples that it
was fitted to, so that their weights, and with them the evidence, come out too small.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from draper.errors import DraperError
from draper.infer.importance import ImportanceSamples, effective_size
from draper.infer.mixture import Mixture

FloatArray = NDArray[np.float64]

LogDensity = Callable[[FloatArray], FloatArray]
"""A function of points (n, d) that returns the logarithm of a density (n,), not necessarily normalised."""

DEFENSIVE = 0.1
"""Share of the result that at least comes from the first proposal: it covers what a mixture may have lost."""

SUPPORT = 30
"""Effective samples per dimension that a mixture is fitted to: weights are tempered to have as many."""

FINITE = 0.5
"""Pareto k below which the variance of the weights is finite: the search goes on above it."""


def refine(
    log_target: LogDensity,
    start: ImportanceSamples,
    rng: np.random.Generator,
    *,
    start_log_density: LogDensity | None = None,
    draws: int = 4000,
    rounds: int = 8,
    components: int = 8,
    efficiency: float = 0.3,
    final: int = 0,
) -> ImportanceSamples:
    """Return samples of a posterior from a proposal that is fitted to it, starting from a poor one.

    Of all rounds and the start, the samples of the most efficient are returned; ``rounds`` of the result is
    0 if those are the start's. What no sample has met cannot be in the result: of the ends of a long curved
    ridge a few percent of the mass may be missing, unnoticed by the errors.

    Parameters
    ----------
    log_target
        Unnormalised log posterior; -inf or NaN where it is 0 or cannot be computed.
    start
        Weighted samples (n, d) in coordinates without bounds, such as those in which the prior is a standard
        normal distribution.
    rng
        Source of randomness.
    start_log_density
        Log density of the proposal of ``start``. With it one half of the samples of the start remains in use
        for the fits; of the other half, which is kept out of them, a part stands in the result, so large that
        the efficiency is best.
    draws
        Number of evaluations of the target in each round.
    rounds
        Largest number of rounds.
    components
        Largest number of components of a mixture.
    efficiency
        The efficiency at which the search ends, if Pareto k is below ``FINITE`` too.
    final
        Number of further draws from the best mixture, after the search.

    Examples
    --------
    >>> def log_target(x):  # 5 times a Gaussian of width 0.1 at 2 in each of four directions
    ...     return np.log(5) - 0.5 * np.sum(((x - 2) / 0.1) ** 2 + np.log(2 * np.pi * 0.1**2), axis=1)
    >>> def log_density(x):
    ...     return -0.5 * np.sum(x**2 + np.log(2 * np.pi), axis=1)
    >>> rng = np.random.default_rng(1)
    >>> x = rng.standard_normal((4000, 4))
    >>> start = ImportanceSamples(x, log_target(x) - log_density(x))
    >>> refined = refine(log_target, start, rng, start_log_density=log_density)
    >>> start.efficiency < 0.001, refined.efficiency > 0.3, round(float(np.exp(refined.log_evidence)), 1)
    (True, True, 5.0)
    """
    if start.effective_size == 0:
        raise DraperError(
            "no sample has a weight above 0",
            given=f"{len(start)} samples",
            hint="draw more, or use nested sampling",
        )
    record, reserve = Record(start.samples.shape[1]), 0
    samples, log_weights = start.samples, start.log_weights
    if start_log_density is not None:
        half = len(start) // 2
        reserve = half if np.isfinite(log_weights[half:]).any() else 0
        density = start_log_density(samples)
        record.add(record.propose(start_log_density), samples, log_weights + density, density)
        samples, log_weights = samples[reserve:], log_weights[reserve:]
    best, chosen = start, None
    for number in range(1, rounds + 1):
        if best.efficiency >= efficiency and best.pareto_k < FINITE:
            break
        support = SUPPORT * samples.shape[1]
        mixture = Mixture.fit(samples, tempered(log_weights, support), rng, components=components)
        drawn = mixture.sample(draws, rng)
        origin = record.propose(mixture.log_density)
        record.add(origin, drawn, log_target(drawn))
        found = record.result(origin, reserve, number)
        if found.efficiency > best.efficiency:
            best, chosen = found, (origin, mixture)
        samples, log_weights = record.weighted(np.arange(reserve, len(record.origins)))
    if chosen is not None and final > 0:
        origin, mixture = chosen
        drawn = mixture.sample(final, rng)
        record.add(origin, drawn, log_target(drawn))
        best = record.result(origin, reserve, best.rounds)
    return best


def tempered(log_weights: FloatArray, need: float) -> FloatArray:
    """Return b log w, with the largest b up to 1 for which the weights have ``need`` effective samples.

    Examples
    --------
    >>> log_weights = np.random.default_rng(0).normal(0, 10, 1000)
    >>> effective_size(log_weights) < 10, round(effective_size(tempered(log_weights, 200)))
    (True, 200)
    """
    finite = np.isfinite(log_weights)
    shifted: FloatArray = log_weights - log_weights.max()
    need = min(need, finite.sum() / 2)
    if effective_size(shifted) >= need:
        return shifted
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if effective_size(middle * shifted[finite]) > need else (low, middle)
    flatter: FloatArray = np.where(finite, low * np.where(finite, shifted, 0), -np.inf)
    return flatter


class Record:
    """All samples so far, and the density of every proposal at each of them.

    Attributes
    ----------
    samples : ndarray (n, d)
        Of all proposals, in the order in which they were drawn.
    log_target : ndarray (n,)
        Log target there.
    origins : ndarray (n,)
        Number of the proposal that each is from.
    densities : list of ndarray (n,)
        Log density of each proposal.
    """

    def __init__(self, d: int) -> None:
        self.samples = np.empty((0, d))
        self.log_target = np.empty(0)
        self.origins = np.empty(0, dtype=np.int64)
        self.densities: list[FloatArray] = []
        self._proposals: list[LogDensity] = []

    def propose(self, log_density: LogDensity) -> int:
        """Add a proposal, and return its number."""
        self._proposals.append(log_density)
        self.densities.append(log_density(self.samples))
        return len(self._proposals) - 1

    def add(
        self, origin: int, samples: FloatArray, log_target: FloatArray, density: FloatArray | None = None
    ) -> None:
        """Add samples of a proposal, whose log density there is computed unless given."""
        new = [
            proposal(samples) if number != origin or density is None else density
            for number, proposal in enumerate(self._proposals)
        ]
        self.densities = [np.concatenate(pair) for pair in zip(self.densities, new, strict=True)]
        self.samples = np.concatenate([self.samples, samples])
        possible = np.where(np.isnan(log_target), -np.inf, log_target)
        self.log_target = np.concatenate([self.log_target, possible])
        self.origins = np.concatenate([self.origins, np.full(len(samples), origin)])

    def result(self, origin: int, reserve: int, rounds: int) -> ImportanceSamples:
        """Return the samples of a proposal, and as many of the first ``reserve`` samples as serve best."""
        own = np.flatnonzero(self.origins == origin)
        least = int(DEFENSIVE / (1 - DEFENSIVE) * len(own))
        counts = {min(count, reserve) for count in (least, len(own) // 2, len(own), 2 * len(own))}
        rows = (np.concatenate([np.arange(count), own]) for count in sorted(counts))
        found = (ImportanceSamples(*self.weighted(chosen), rounds) for chosen in rows)
        return max(found, key=lambda one: one.efficiency)

    def weighted(self, rows: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """Return samples and log weights by the balance heuristic, as if there were no others."""
        counts = np.bincount(self.origins[rows])
        used = np.flatnonzero(counts)
        density = logsumexp(
            [self.densities[number][rows] for number in used],
            axis=0,
            b=(counts[used] / len(rows))[:, None],
        )
        return self.samples[rows], self.log_target[rows] - density
