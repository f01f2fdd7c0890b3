"""Mixtures of Student t distributions are densities, and are fitted to weighted samples in little time."""

import time

import numpy as np
import pytest
from scipy import stats

from draper.infer.importance import ImportanceSamples, effective_size
from draper.infer.mixture import DEGREES, Mixture, spread_centres

RNG = np.random.default_rng(1)


def made() -> Mixture:
    factors = np.array([[[1.0, 0.0], [0.5, 0.3]], [[0.2, 0.0], [0.0, 2.0]]])
    return Mixture(np.array([0.3, 0.7]), np.array([[0.0, 1.0], [4.0, -1.0]]), factors)


def test_density_and_samples_are_those_of_the_components() -> None:
    mixture = made()
    x = RNG.normal(0, 3, (50, 2))
    expected = sum(
        share * stats.multivariate_t(mean, factor @ factor.T, df=DEGREES).pdf(x)
        for share, mean, factor in zip(mixture.shares, mixture.means, mixture.factors, strict=True)
    )
    np.testing.assert_allclose(np.exp(mixture.log_density(x)), expected)
    drawn = mixture.sample(40_000, RNG)
    np.testing.assert_allclose(drawn.mean(axis=0), mixture.shares @ mixture.means, atol=0.04)
    broadened = DEGREES / (DEGREES - 2) * mixture.factors @ mixture.factors.transpose(0, 2, 1)
    second = np.einsum("k,kij->ij", mixture.shares, broadened + np.einsum("ki,kj->kij", *[mixture.means] * 2))
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), second, rtol=0.03, atol=0.1)


def test_a_mixture_is_found_again_from_weighted_samples() -> None:
    mixture = made()
    x = RNG.uniform([-6, -12], [8, 10], (60_000, 2))
    found = Mixture.fit(x, mixture.log_density(x), RNG, components=2)
    order = np.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.shares[order], mixture.shares, atol=0.03)
    np.testing.assert_allclose(found.means[order], mixture.means, atol=0.15)
    scales = [factors @ factors.transpose(0, 2, 1) for factors in (found.factors[order], mixture.factors)]
    np.testing.assert_allclose(scales[0], scales[1], atol=0.3, rtol=0.15)


def test_a_fit_to_a_gaussian_is_a_good_proposal_and_fast() -> None:
    d, n = 9, 5000
    factor = np.tril(RNG.normal(size=(d, d))) + 2 * np.eye(d)
    x = RNG.standard_normal((n, d)) @ factor.T
    began = time.process_time()
    mixture = Mixture.fit(x, np.zeros(n), RNG)
    assert time.process_time() - began < 1  # 0.1 s on an idle core
    y = mixture.sample(n, RNG)
    target = stats.multivariate_normal(np.zeros(d), factor @ factor.T)
    assert ImportanceSamples(y, target.logpdf(y) - mixture.log_density(y)).efficiency > 0.7


def test_there_are_as_many_components_as_the_samples_tell() -> None:
    one = RNG.standard_normal((1000, 5))
    assert len(Mixture.fit(one, np.zeros(1000), RNG, components=8).shares) == 1
    four = one + 20 * np.arange(1000)[:, None] % 80
    assert len(Mixture.fit(four, np.zeros(1000), RNG, components=4).shares) == 4
    assert len(Mixture.fit(four[:36], np.zeros(36), RNG, components=4).shares) <= 3


@pytest.mark.parametrize("points", [1, 2, 12])
def test_few_effective_samples_give_a_density_all_the_same(points: int) -> None:
    x = RNG.standard_normal((1000, 7))
    log_weights = np.full(1000, -np.inf)
    log_weights[:points] = 0
    assert effective_size(log_weights) == pytest.approx(points)
    mixture = Mixture.fit(x, log_weights, RNG)
    assert np.isfinite(mixture.log_density(x)).all()
    assert mixture.shares.sum() == pytest.approx(1)


def test_centres_are_spread() -> None:
    x = np.repeat(np.arange(5.0), 200)[:, None] + RNG.normal(0, 0.01, (1000, 1))
    centres = spread_centres(x, np.full(1000, 0.001), 5, RNG)
    np.testing.assert_allclose(np.sort(centres[:, 0]), np.arange(5), atol=0.05)
