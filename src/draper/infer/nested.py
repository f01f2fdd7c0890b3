"""Nested sampling (dynesty), from the whole prior or from samples near the posterior.

Nested sampling needs the more likelihoods, the narrower the posterior is than what it starts from. A start
from samples takes a mixture q of the prior p and a broad distribution about them in place of the prior, and
multiplies the likelihood by p / q: evidence and posterior are exactly the same (Petrosyan & Handley 2022).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from threading import Condition, local
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats import norm
from scipy.stats import t as student

from draper.errors import DraperError
from draper.infer.importance import effective_size, systematic
from draper.infer.mixture import moments

FloatArray = NDArray[np.float64]

LogLikelihood = Callable[[FloatArray], FloatArray]
"""A function of points (n, d) of the unit cube that returns log likelihoods (n,)."""

DEGREES = 4.0
"""Degrees of freedom of the distribution about samples: its tails leave room for what they have missed."""

PRIOR_SHARE = 0.5
"""Share of the unit cube that is left to the prior when sampling starts from samples."""

WORKERS = 32
"""Points that are evaluated together."""

SLICES = 5
"""Directions along which a live point is moved in turn before it counts as a new one."""

LOWEST = -1e300
"""Log likelihood where it is 0 or cannot be computed."""

EDGE = 1e-15
"""Distance that points keep from the faces of the unit cube, where quantiles are infinite."""


@dataclass(frozen=True, eq=False, repr=False)
class NestedSamples:
    """Samples of a posterior and its evidence.

    Attributes
    ----------
    samples : ndarray (n, d)
        Points of the unit cube.
    log_weights : ndarray (n,)
        Logarithms of their weights, which sum to 1.
    log_evidence, log_evidence_err : float
        Natural logarithm of the evidence, and its error.
    calls : int
        Number of likelihoods that were computed.
    """

    samples: FloatArray
    log_weights: FloatArray
    log_evidence: float
    log_evidence_err: float
    calls: int

    @property
    def effective_size(self) -> float:
        """Number of effective samples."""
        return effective_size(self.log_weights)

    def resample(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return samples (count, d) of equal weight in random order."""
        chosen = systematic(np.exp(self.log_weights), count, rng)
        drawn: FloatArray = self.samples[rng.permutation(chosen)]
        return drawn

    def __repr__(self) -> str:
        n, d = self.samples.shape
        return (
            f"NestedSamples({n} x {d}; {self.effective_size:.0f} effective, "
            f"log evidence {self.log_evidence:.3f} +- {self.log_evidence_err:.2g}, {self.calls} calls)"
        )


def nested(
    log_likelihood: LogLikelihood,
    d: int,
    *,
    live: int = 500,
    seed: int = 0,
    dlogz: float = 0.1,
    start: FloatArray | None = None,
) -> NestedSamples:
    """Return posterior and evidence by nested sampling.

    Parameters
    ----------
    log_likelihood
        Of points (n, d) of the unit cube, whose coordinates are the cumulative prior of each label; -inf or
        NaN where the likelihood is 0 or cannot be computed. It is called with up to ``WORKERS`` points.
    d
        Number of labels.
    live
        Number of live points.
    seed
        Random seed.
    dlogz
        Sampling ends when the live points could raise the log evidence by less than this.
    start : ndarray (n, d), optional
        Samples of equal weight in the unit cube, near the posterior, such as those of a normalising flow:
        the search is the shorter the better they are, and its result is the same.

    Examples
    --------
    >>> def log_likelihood(u):
    ...     return -0.5 * np.sum(((u - 0.4) / 0.01) ** 2 + np.log(2 * np.pi * 0.01**2), axis=1)
    >>> result = nested(log_likelihood, 2, live=100)
    >>> abs(result.log_evidence) < 4 * result.log_evidence_err
    True
    """
    dynesty = _dynesty()
    transform = Prior() if start is None else Proposal(np.asarray(start, dtype=np.float64))

    def corrected(cube: FloatArray) -> FloatArray:
        points, log_ratio = transform(cube)
        values = log_likelihood(points) + log_ratio
        return np.where(np.isnan(values), LOWEST, np.maximum(values, LOWEST))

    with warnings.catch_warnings(), Together(corrected, WORKERS) as pool:
        # It warns of likelihoods that are all the same: of data that no label explains they are.
        warnings.filterwarnings("ignore", module="dynesty")
        sampler = dynesty.NestedSampler(
            pool.call,
            _same,
            d + transform.extra,
            nlive=live,
            sample="rslice",  # random walks do not get along thin curved ridges
            slices=SLICES,
            rstate=np.random.default_rng(seed),
            pool=pool,
            use_pool={"prior_transform": False, "update_bound": False},
        )
        sampler.run_nested(dlogz=dlogz, print_progress=False)
    found = sampler.results
    log_evidence = float(found.logz[-1])
    return NestedSamples(
        transform(found.samples)[0],
        found.logwt - log_evidence,
        log_evidence,
        float(found.logzerr[-1]),
        pool.points,
    )


def _same(cube: FloatArray) -> FloatArray:
    return cube


def _dynesty() -> Any:
    try:
        return import_module("dynesty")
    except ModuleNotFoundError:
        raise DraperError("nested sampling needs dynesty", hint="pip install 'draper[nested]'") from None


class Prior:
    """Points of the unit cube as they are."""

    extra = 0
    """Number of coordinates beyond those of the points."""

    def __call__(self, cube: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the points (n, d), and zeros (n,)."""
        return cube, np.zeros(len(cube))


class Proposal:
    """A mixture of the prior and a broad distribution about samples, to start nested sampling from.

    In coordinates in which the prior is a standard normal distribution, samples are described by their mean
    and covariance; along its axes the distribution is Student's t. The first of d + 1 coordinates of the unit
    cube says which of the two a point is from: what the samples have missed is found in the prior's half, as
    without them.

    Parameters
    ----------
    start : ndarray (n, d)
        Samples in the unit cube.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> proposal = Proposal(rng.uniform(0.4, 0.5, (1000, 2)))
    >>> points, log_ratio = proposal(rng.uniform(size=(100_000, 3)))
    >>> np.exp(log_ratio).mean().round(2), np.median(np.abs(points - 0.45)).round(2)
    (np.float64(1.0), np.float64(0.06))
    """

    extra = 1

    def __init__(self, start: FloatArray) -> None:
        inside = np.clip(start, EDGE, 1 - EDGE)
        self.centre, self.factor = moments(ndtri(inside), np.full(len(start), 1 / len(start)))

    def __call__(self, cube: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return points (n, d) of the unit cube of the prior, and the log ratio (n,) of prior to proposal."""
        inside = np.clip(cube, EDGE, 1 - EDGE)
        is_prior = inside[:, 0] < PRIOR_SHARE
        x = np.where(
            is_prior[:, None],
            ndtri(inside[:, 1:]),
            self.centre + stdtrit(DEGREES, inside[:, 1:]) @ self.factor.T,
        )
        along = np.linalg.solve(self.factor, (x - self.centre).T).T
        log_prior = norm.logpdf(x).sum(axis=1)
        log_fitted = student.logpdf(along, DEGREES).sum(axis=1) - np.log(np.diag(self.factor)).sum()
        log_density = np.logaddexp(np.log(PRIOR_SHARE) + log_prior, np.log1p(-PRIOR_SHARE) + log_fitted)
        return ndtr(x), log_prior - log_density


class Together:
    """A pool of workers in which a function of many points is called once all of them wait for its value.

    dynesty calls a likelihood point by point; a model that computes many spectra at once is much faster
    this way.

    Parameters
    ----------
    function
        Of points (n, d), returns values (n,).
    size
        Number of workers.

    Attributes
    ----------
    points : int
        Number of points at which the function was called.
    """

    def __init__(self, function: Callable[[FloatArray], FloatArray], size: int) -> None:
        self.size, self.points = size, 0
        self._function = function
        self._threads = ThreadPoolExecutor(size)
        self._mine = local()
        self._changed = Condition()
        self._running: set[int] = set()
        self._started: set[int] = set()
        self._waiting: dict[int, FloatArray] = {}
        self._values: dict[int, float] = {}
        self._failure: Exception | None = None

    def __enter__(self) -> Together:
        return self

    def __exit__(self, *_: object) -> None:
        # After an interruption workers finish what they are at, a step of a second or so: of an exception in
        # the likelihood dynesty prints a traceback for each. Some never start, and must not be waited for.
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._changed:
            self._running &= self._started
            self._evaluate_if_all_wait()
        self._threads.shutdown()

    def map(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Return ``work(item)`` of each item; what ``work`` asks of :meth:`call` is computed together."""
        results: list[Any] = []
        for first in range(0, len(items), self.size):
            group = items[first : first + self.size]
            self._running, self._started = set(range(len(group))), set()
            results += self._threads.map(partial(self._run, work), range(len(group)), group)
        return results

    def _run(self, work: Callable[[Any], Any], number: int, item: Any) -> Any:
        self._mine.number = number
        with self._changed:
            self._started.add(number)
        try:
            return work(item)
        finally:
            with self._changed:
                self._running.discard(number)
                self._evaluate_if_all_wait()

    def call(self, point: FloatArray) -> float:
        """Return the value at a point (d,), computed together with those of the other workers."""
        number: int = self._mine.number
        with self._changed:
            self._waiting[number] = point
            self._evaluate_if_all_wait()
            self._changed.wait_for(lambda: number in self._values or self._failure is not None)
            if self._failure is not None:
                raise self._failure
            return self._values.pop(number)

    def _evaluate_if_all_wait(self) -> None:
        if self._failure is not None or not self._waiting or len(self._waiting) < len(self._running):
            return
        numbers = sorted(self._waiting)  # the result must not depend on who came first
        self.points += len(numbers)
        try:
            values = self._function(np.stack([self._waiting[number] for number in numbers]))
            self._values = dict(zip(numbers, values.tolist(), strict=True))
        except Exception as error:  # noqa: BLE001 - every worker raises it
            self._failure = error
        self._waiting.clear()
        self._changed.notify_all()
