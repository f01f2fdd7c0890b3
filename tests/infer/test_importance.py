"""Importance sampling agrees with closed forms, and says when it cannot be trusted."""

import numpy as np
import pytest
from scipy import stats

from draper.errors import DraperError
from draper.infer.importance import (
    ImportanceSamples,
    effective_size,
    pareto_fit,
    pareto_smoothed,
    systematic,
)


def gaussian(n: int, width: float, seed: int = 0, evidence: float = 7.0, d: int = 1) -> ImportanceSamples:
    """Return samples of N(0, width^2) with weights for evidence * N(0, 1) in d dimensions."""
    x = np.random.default_rng(seed).normal(0, width, (n, d))
    log_weights = (stats.norm.logpdf(x) - stats.norm.logpdf(x, scale=width)).sum(axis=1)
    return ImportanceSamples(x, np.log(evidence) + log_weights)


@pytest.mark.parametrize(("width", "d"), [(1.0, 1), (2.0, 1), (1.5, 4)])
def test_efficiency_and_evidence_of_a_gaussian_in_closed_form(width: float, d: int) -> None:
    n = 20_000
    found = gaussian(n, width, d=d)
    # E[w^2] / E[w]^2 = (width^2 / sqrt(2 width^2 - 1))^d
    expected = (np.sqrt(2 * width**2 - 1) / width**2) ** d
    assert found.efficiency == pytest.approx(expected, rel=0.02)
    assert found.effective_size == pytest.approx(found.efficiency * n)
    assert found.log_evidence_err == pytest.approx(np.sqrt((1 / expected - 1) / n), rel=0.02, abs=1e-9)
    assert found.log_evidence == pytest.approx(np.log(7), abs=4 * found.log_evidence_err + 1e-9)
    assert found.reliable


def test_the_error_of_the_evidence_is_its_scatter() -> None:
    runs = [gaussian(1000, 2.0, seed) for seed in range(300)]
    pulls = [(run.log_evidence - np.log(7)) / run.log_evidence_err for run in runs]
    assert np.std(pulls) == pytest.approx(1, abs=0.13)
    assert abs(np.mean(pulls)) < 0.2


@pytest.mark.parametrize("k", [-0.5, 0.1, 0.5, 0.9])
def test_a_generalised_pareto_distribution_is_found_again(k: float) -> None:
    excess = np.sort(stats.genpareto.rvs(k, scale=3.0, size=4000, random_state=1))
    shape, scale = pareto_fit(excess)
    assert shape == pytest.approx(k, abs=0.06)
    assert scale == pytest.approx(3.0, rel=0.08)


def test_the_tail_of_weights_is_that_of_the_ratio() -> None:
    # N(0, 1) over N(0, 0.6^2): the weights have a tail of k = 1 - 0.6^2.
    narrow = gaussian(50_000, 0.6)
    assert narrow.pareto_k == pytest.approx(1 - 0.6**2, abs=0.12)
    assert not gaussian(50_000, 0.4).reliable
    # 1 - 1 / log10 n is below 0.7 for few samples
    few = ImportanceSamples(np.zeros((100, 1)), stats.genpareto.rvs(1, size=100, random_state=0))
    assert few.reliable == (few.pareto_k < 0.5)


def test_smoothing_replaces_the_tail_alone_and_keeps_its_order() -> None:
    log_weights = np.random.default_rng(2).normal(0, 2, 1000)
    smoothed, k = pareto_smoothed(log_weights)
    order = np.argsort(log_weights)
    changed = (smoothed != log_weights)[order]
    assert not changed[: 1000 - 95].any()  # 3 sqrt(1000) = 94.9
    assert changed[-95:].sum() >= 90
    assert np.all(np.diff(smoothed[order]) >= 0)
    assert smoothed.max() <= log_weights.max()
    assert 0.4 < k < 1.2


@pytest.mark.parametrize("k", [0.6, 0.9])
def test_smoothed_weights_have_the_smaller_error(k: float) -> None:
    """The mean of Pareto weights of known k, from many small samples: smoothing lowers its error."""
    rng = np.random.default_rng(3)
    true = 1 / (1 - k)
    errors = []
    for _ in range(300):
        log_weights = rng.exponential(k, 500)
        smoothed, _ = pareto_smoothed(log_weights)
        errors.append([np.exp(log_weights).mean() - true, np.exp(smoothed).mean() - true])
    raw, smooth = np.sqrt(np.mean(np.square(errors), axis=0))
    assert smooth < raw


@pytest.mark.parametrize("spread", [30.0, 300.0, 3e3, 3e4])
def test_weights_of_any_spread_are_unreliable(spread: float) -> None:
    log_weights = np.random.default_rng(0).normal(0, spread, 500)
    smoothed, k = pareto_smoothed(log_weights)
    assert k > 1
    assert np.isfinite(smoothed).all()
    assert smoothed.max() <= log_weights.max()


def test_equal_and_few_weights() -> None:
    equal = ImportanceSamples(np.zeros((500, 1)), np.full(500, 3.0))
    assert (equal.efficiency, equal.pareto_k, equal.log_evidence) == pytest.approx((1, -np.inf, 3))
    assert equal.reliable
    weights = np.full(500, -np.inf)
    weights[:3] = 0
    few = ImportanceSamples(np.zeros((500, 1)), weights)
    assert few.effective_size == pytest.approx(3)
    assert few.pareto_k == np.inf
    assert not few.reliable
    none = ImportanceSamples(np.zeros((500, 1)), np.full(500, np.nan))
    assert (none.efficiency, none.log_evidence, none.log_evidence_err) == (0, -np.inf, np.inf)
    with pytest.raises(DraperError, match="all weights are 0"):
        none.resample(10, np.random.default_rng(0))
    assert effective_size(np.array([-1e5, -1e5])) == pytest.approx(2)


def test_hopeless_weights_are_left_as_they_are() -> None:
    x = np.random.default_rng(0).standard_normal((3000, 6))
    hopeless = ImportanceSamples(x, -0.5 * np.sum(((x - 2) / 0.02) ** 2, axis=1))
    assert hopeless.pareto_k > 10
    assert hopeless.effective_size == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(pareto_smoothed(hopeless.log_weights)[0], hopeless.log_weights)


def test_resampling_keeps_the_weighted_distribution() -> None:
    found = gaussian(20_000, 2.0)
    drawn = found.resample(5000, np.random.default_rng(4))
    assert drawn.shape == (5000, 1)
    assert stats.kstest(drawn[::4, 0], "norm").pvalue > 0.01
    assert abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < 0.05  # random order
    np.testing.assert_array_equal(drawn, found.resample(5000, np.random.default_rng(4)))


def test_systematic_resampling_rounds_each_share() -> None:
    weights = np.random.default_rng(5).dirichlet(np.ones(40))
    counts = np.bincount(systematic(weights, 300, np.random.default_rng(6)), minlength=40)
    assert counts.sum() == 300
    assert np.abs(counts - 300 * weights).max() < 1


@pytest.mark.parametrize(
    ("samples", "weights", "message"),
    [
        (np.zeros((4, 2)), np.zeros(3), "one weight"),
        (np.zeros(4), np.zeros(4), "one weight"),
        (np.zeros((1, 2)), np.zeros(1), "two samples"),
        (np.zeros((4, 2)), np.array([0, 1, np.inf, 0]), "infinite"),
    ],
)
def test_what_are_no_weighted_samples_is_refused(samples, weights, message) -> None:
    with pytest.raises(DraperError, match=message):
        ImportanceSamples(samples, weights)
