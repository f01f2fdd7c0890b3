"""Refined proposals reach posteriors that their start hardly touches; evidence and moments are right."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import log_ndtr, ndtr

from draper.errors import DraperError
from draper.infer.importance import ImportanceSamples, effective_size
from draper.infer.refine import Record, refine, tempered

LOG_TAU = np.log(2 * np.pi)
DRAWS = 3000
LIMITS = np.array([0.0, -0.5, 0.5, -1.0])


def standard(x: np.ndarray) -> np.ndarray:
    """Return the log density of the prior in coordinates without bounds."""
    return -0.5 * np.sum(x**2 + LOG_TAU, axis=1)


def normal(mean: np.ndarray, factor: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def log_density(x: np.ndarray) -> np.ndarray:
        return standard(np.linalg.solve(factor, (x - mean).T).T) - np.log(np.diag(factor)).sum()

    return log_density


class Problem(NamedTuple):
    """A posterior, and a start for its search."""

    target: Callable[[np.ndarray], np.ndarray]
    log_evidence: float
    mean: np.ndarray
    start: Callable[[np.ndarray], np.ndarray] = standard
    draw: Callable[[np.random.Generator, int, int], np.ndarray] = lambda rng, n, d: rng.standard_normal(
        (n, d)
    )


def correlated() -> Problem:
    """A Gaussian of nine correlated labels, and a narrower start that is off by 0.8 sigma in each."""
    rng, d = np.random.default_rng(0), 9
    a = rng.normal(size=(d, d))
    factor = 0.3 * np.linalg.cholesky(a @ a.T / d + 0.02 * np.eye(d))
    mean = rng.normal(size=d)
    shifted = mean + factor @ np.full(d, 0.8)
    target = normal(mean, factor)
    return Problem(
        lambda x: 3 + target(x),
        3.0,
        mean,
        normal(shifted, 0.9 * factor),
        lambda rng, n, d: shifted + 0.9 * rng.standard_normal((n, d)) @ factor.T,
    )


def bimodal() -> Problem:
    """Two separate modes, with 30 and 70 % of the mass."""
    d, offset = 8, np.array([1.5, *[0.0] * 7])
    left, right = normal(-offset, 0.25 * np.eye(d)), normal(offset, 0.3 * np.eye(d))
    return Problem(lambda x: np.logaddexp(np.log(0.3) + left(x), np.log(0.7) + right(x)), 0.0, 0.4 * offset)


def banana() -> Problem:
    """A curved ridge between two labels, and five others."""
    d = 7

    def target(x: np.ndarray) -> np.ndarray:
        bent = np.column_stack([x[:, 0] / 0.7, (x[:, 1] - x[:, 0] ** 2 + 0.49) / 0.1, (x[:, 2:] - 0.5) / 0.3])
        return standard(bent) - np.log(0.7 * 0.1 * 0.3**5)

    return Problem(target, 0.0, np.array([0, 0, *[0.5] * (d - 2)]))


def limits(width: float) -> Problem:
    """Upper limits of four labels, sharp (width 0) or not, and five measured ones."""
    measured, error = 0.3, 0.2
    mean, variance = measured / (1 + error**2), 1 + error**2

    def target(x: np.ndarray) -> np.ndarray:
        offset = LIMITS - x[:, :4]
        with np.errstate(divide="ignore"):
            allowed = log_ndtr(offset / width) if width else np.where(offset > 0, 0, -np.inf)
        return standard(x) + allowed.sum(axis=1) - 0.5 * np.sum(((x[:, 4:] - measured) / error) ** 2, axis=1)

    share = ndtr(LIMITS / np.sqrt(1 + width**2))
    cut = -np.exp(-0.5 * LIMITS**2 / (1 + width**2)) / np.sqrt(2 * np.pi * (1 + width**2)) / share
    each = np.log(error / np.sqrt(variance)) - 0.5 * measured**2 / variance
    return Problem(target, np.log(share).sum() + 5 * each, np.array([*cut, *[mean] * 5]))


PROBLEMS = {
    "correlated": correlated(),
    "bimodal": bimodal(),
    "banana": banana(),
    "upper limits": limits(0.1),
    "sharp limits": limits(0.0),
}


def started(problem: Problem, seed: int = 0, n: int = 5000) -> ImportanceSamples:
    x = problem.draw(np.random.default_rng(seed), n, len(problem.mean))
    return ImportanceSamples(x, problem.target(x) - problem.start(x))


@pytest.mark.parametrize(
    ("name", "knows_start"),
    [*((name, True) for name in PROBLEMS), ("correlated", False)],
)
def test_evidence_and_means_from_a_poor_start(name: str, knows_start: bool) -> None:
    problem, efficiency = PROBLEMS[name], 0.5 if name == "correlated" else 0.3
    start = started(problem)
    assert start.efficiency < 0.01
    found = refine(
        problem.target,
        start,
        np.random.default_rng(1),
        start_log_density=problem.start if knows_start else None,
        draws=DRAWS,
        efficiency=efficiency,
    )
    assert found.efficiency > efficiency
    assert found.reliable
    assert 0 < found.rounds <= 8
    assert len(found) - DRAWS in ((333, 1500, 2500) if knows_start else (0,))  # at least a tenth
    # A few percent of the ends of the banana may be missing.
    missed = (0.1, 0.2) if name == "banana" else (0.0, 0.0)
    evidence = pytest.approx(problem.log_evidence, abs=4 * found.log_evidence_err + missed[0])
    assert found.log_evidence == evidence
    weights = found.weights
    mean = weights @ found.samples
    error = np.sqrt(np.square(weights) @ np.square(found.samples - mean))
    assert np.all(np.abs(mean - problem.mean) < 4 * error + missed[1])


def test_the_evidence_is_unbiased() -> None:
    """Weights at samples that the proposal was fitted to would be too small, by 4 errors here."""
    d = 6
    target = normal(np.full(d, 0.5), 0.3 * np.eye(d))
    runs = []
    for seed in range(16):
        x = np.random.default_rng(seed).standard_normal((600, d))
        start = ImportanceSamples(x, target(x) - standard(x))
        options = {"draws": 600, "components": 4}
        runs.append(refine(target, start, np.random.default_rng(seed), **options))
    pulls = [run.log_evidence / run.log_evidence_err for run in runs]
    assert abs(np.mean(pulls)) < 0.8
    assert 0.5 < np.std(pulls) < 1.6


def test_further_draws_come_from_the_best_mixture() -> None:
    problem = PROBLEMS["bimodal"]
    calls: list[int] = []

    def target(x: np.ndarray) -> np.ndarray:
        calls.append(len(x))
        return problem.target(x)

    options = {"start_log_density": standard, "draws": 2000}
    few = refine(target, started(problem), np.random.default_rng(2), **options)
    assert calls == [2000] * few.rounds
    calls.clear()
    many = refine(target, started(problem), np.random.default_rng(2), final=8000, **options)
    assert calls == [2000] * many.rounds + [8000]
    assert len(many) - 10_000 in (1111, 2500)
    assert many.effective_size > 2 * few.effective_size
    assert many.log_evidence == pytest.approx(0, abs=5 * many.log_evidence_err)


def test_a_start_and_a_mixture_are_better_together() -> None:
    """Each covers one of two modes well; the share of the start is chosen so."""
    d = 4
    left, right = (normal(np.full(d, x), 0.3 * np.eye(d)) for x in (-2, 2))

    def target(x: np.ndarray) -> np.ndarray:
        return np.logaddexp(left(x), right(x)) - np.log(2)

    def density(x: np.ndarray) -> np.ndarray:
        return np.logaddexp(np.log(0.99) + left(x), np.log(0.01) + right(x))

    rng = np.random.default_rng(0)
    x = np.where(rng.uniform(size=(8000, 1)) < 0.99, -2, 2) + 0.3 * rng.standard_normal((8000, d))
    record = Record(d)
    record.add(record.propose(density), x, target(x))
    y = 2 + 0.3 * rng.standard_normal((1000, d))
    record.add(record.propose(right), y, target(y))
    found = record.result(1, 4000, 1)
    assert len(found) == 2000  # of 111, 500, 1000 or 2000 from the start
    assert found.efficiency > 0.9


def test_a_good_start_is_left_alone_and_a_hopeless_one_refused() -> None:
    x = np.random.default_rng(0).normal(0, 1.2, (1000, 3))
    good = ImportanceSamples(x, standard(x) - standard(x / 1.2))

    def never(x: np.ndarray) -> np.ndarray:
        raise AssertionError

    assert refine(never, good, np.random.default_rng(0), final=100) is good
    none = ImportanceSamples(x, np.full(1000, -np.inf))
    with pytest.raises(DraperError, match="no sample has a weight"):
        refine(never, none, np.random.default_rng(0))


def test_a_handful_of_possible_samples_is_enough_to_start_from() -> None:
    def target(x: np.ndarray) -> np.ndarray:
        return np.where((x > 1.1).all(axis=1), standard(x), -np.inf)

    x = np.random.default_rng(0).standard_normal((1000, 3))
    start = ImportanceSamples(x, target(x) - standard(x))
    assert start.effective_size < 5
    found = refine(target, start, np.random.default_rng(0), start_log_density=standard, draws=2000)
    assert found.efficiency > 0.3
    assert found.log_evidence == pytest.approx(3 * np.log(ndtr(-1.1)), abs=4 * found.log_evidence_err)


def test_a_model_that_cannot_be_computed_everywhere() -> None:
    def target(x: np.ndarray) -> np.ndarray:
        return np.where(x[:, 0] > 0, standard((x - 0.5) / 0.2) - 4 * np.log(0.2), np.nan)

    x = np.random.default_rng(0).standard_normal((3000, 4))
    start = ImportanceSamples(x, target(x) - standard(x))
    found = refine(target, start, np.random.default_rng(0), start_log_density=standard)
    assert found.efficiency > 0.3
    assert found.log_evidence == pytest.approx(np.log(ndtr(2.5)), abs=5 * found.log_evidence_err)


def test_the_same_seed_gives_the_same_samples() -> None:
    problem = PROBLEMS["bimodal"]
    options = {"draws": 500, "rounds": 2}
    first, again = (
        refine(problem.target, started(problem), np.random.default_rng(3), **options) for _ in range(2)
    )
    np.testing.assert_array_equal(first.samples, again.samples)


def test_tempered_weights_have_the_effective_samples_that_are_needed() -> None:
    log_weights = np.random.default_rng(0).normal(0, 30, 4000)
    log_weights[::2] = -np.inf
    assert effective_size(tempered(log_weights, 300)) == pytest.approx(300, abs=1)
    assert np.isinf(tempered(log_weights, 300)[::2]).all()
    assert effective_size(tempered(log_weights, 1e9)) == pytest.approx(1000, abs=1)
    flat = np.zeros(50)
    np.testing.assert_array_equal(tempered(flat, 10), flat)


def test_the_balance_heuristic_weighs_by_the_mean_density() -> None:
    record = Record(1)
    for width in (1.0, 2.0):
        origin = record.propose(normal(np.zeros(1), np.array([[width]])))
        x = np.full((3, 1), width)
        record.add(origin, x, np.zeros(3))
    samples, log_weights = record.weighted(np.array([0, 1, 4]))
    assert samples[:, 0].tolist() == [1, 1, 2]
    density = [np.exp(record.densities[number][[0, 1, 4]]) for number in (0, 1)]
    np.testing.assert_allclose(np.exp(-log_weights), (2 * density[0] + density[1]) / 3)
