"""Nested sampling gives the same evidence and posterior from the prior and from any samples."""

import importlib
import signal
from threading import Thread, main_thread

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from draper.errors import DraperError
from draper.infer import nested as nested_file
from draper.infer.nested import NestedSamples, Proposal, Together, nested

MEAN = np.array([0.3, -0.2, 0.8, 0.0])
A = np.random.default_rng(0).normal(size=(4, 4))
COVARIANCE = 0.02 * (A @ A.T / 4 + 0.1 * np.eye(4))


def as_likelihood(log_density):
    """Return the likelihood in the unit cube of a posterior density in normal coordinates; evidence e^2."""

    def log_likelihood(cube: np.ndarray) -> np.ndarray:
        x = ndtri(np.clip(cube, 1e-15, 1 - 1e-15))
        return 2 + log_density(x) + 0.5 * np.sum(x**2 + np.log(2 * np.pi), axis=1)

    return log_likelihood


gaussian = as_likelihood(multivariate_normal(MEAN, COVARIANCE).logpdf)
GAUSSIAN_SAMPLES = ndtr(np.random.default_rng(1).multivariate_normal(MEAN, COVARIANCE, 500))


@as_likelihood
def banana(x: np.ndarray) -> np.ndarray:
    bent = np.column_stack([x[:, 0] / 0.6, (x[:, 1] - x[:, 0] ** 2) / 0.1])
    return -0.5 * np.sum(bent**2 + np.log(2 * np.pi), axis=1) - np.log(0.06)


def banana_samples(n: int) -> np.ndarray:
    first, second = np.random.default_rng(2).standard_normal((2, n))
    return np.column_stack([0.6 * first, 0.36 * first**2 + 0.1 * second])


def assert_moments(found: NestedSamples, mean: np.ndarray, sigma: np.ndarray, atol: float) -> None:
    drawn = ndtri(found.resample(4000, np.random.default_rng(0)))
    np.testing.assert_allclose((drawn.mean(axis=0) - mean) / sigma, 0, atol=atol)
    np.testing.assert_allclose(drawn.std(axis=0) / sigma, 1, atol=atol)


@pytest.fixture(scope="module")
def plain() -> NestedSamples:
    return nested(gaussian, 4, live=80, seed=1)


@pytest.mark.parametrize("kind", ["prior", "posterior", "elsewhere"])
def test_a_gaussian_from_any_start(kind: str, plain: NestedSamples) -> None:
    starts = {"posterior": GAUSSIAN_SAMPLES, "elsewhere": 0.2 + 0.05 * GAUSSIAN_SAMPLES}
    found = plain if kind == "prior" else nested(gaussian, 4, live=60, seed=2, start=starts[kind])
    assert found.log_evidence == pytest.approx(2, abs=3.5 * found.log_evidence_err)
    assert_moments(found, MEAN, np.sqrt(np.diag(COVARIANCE)), 0.2)
    if kind == "posterior":
        assert found.calls < plain.calls / 2
        assert found.log_evidence_err < plain.log_evidence_err / 1.3
    assert found.effective_size > 150
    assert np.exp(found.log_weights).sum() == pytest.approx(1)


@pytest.mark.parametrize("start", [None, ndtr(banana_samples(500))], ids=["prior", "samples"])
def test_a_curved_posterior(start: np.ndarray | None) -> None:
    found = nested(banana, 2, live=70, seed=3, start=start)
    assert found.log_evidence == pytest.approx(2, abs=3.5 * found.log_evidence_err)
    expected = banana_samples(100_000)
    assert_moments(found, expected.mean(axis=0), expected.std(axis=0), 0.3)


def test_a_likelihood_that_cannot_be_computed_everywhere() -> None:
    def half(cube: np.ndarray) -> np.ndarray:
        possible = np.where(cube[:, 0] > 0.5, 0.0, np.where(cube[:, 1] > 0.5, np.nan, -np.inf))
        return possible + np.log(1 - cube[:, 0])

    found = nested(half, 2, live=100)
    assert found.log_evidence == pytest.approx(np.log(0.125), abs=4 * found.log_evidence_err)
    assert found.samples[found.log_weights > -100, 0].min() > 0.5


def test_data_that_nothing_explains_end_without_noise() -> None:
    result = nested(lambda u: np.full(len(u), -np.inf), 2, live=50)
    assert result.log_evidence < -1e100


def test_the_same_seed_gives_the_same_samples(plain: NestedSamples) -> None:
    again = nested(gaussian, 4, live=80, seed=1)
    np.testing.assert_array_equal(again.samples, plain.samples)
    assert repr(again) == repr(plain)


def test_points_are_evaluated_together() -> None:
    sizes: list[int] = []

    def counted(cube: np.ndarray) -> np.ndarray:
        sizes.append(len(cube))
        return gaussian(cube)

    found = nested(counted, 4, live=64, start=GAUSSIAN_SAMPLES)
    assert sum(sizes) == found.calls
    assert max(sizes) == nested_file.WORKERS
    assert (
        np.mean(sizes) > 5
    )  # random walks of equal length fill the batches; the search before them does not


def test_the_proposal_keeps_every_integral() -> None:
    proposal = Proposal(GAUSSIAN_SAMPLES)
    points, log_ratio = proposal(np.random.default_rng(0).uniform(size=(50_000, 5)))
    weights = np.exp(log_ratio) / len(points)
    assert weights.sum() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(weights @ points, 0.5, atol=0.01)
    assert weights @ np.exp(gaussian(points)) == pytest.approx(np.exp(2), rel=0.02)
    assert log_ratio.max() < np.log(2) + 1e-9  # the prior has half of the points


def test_a_failure_reaches_the_caller() -> None:
    def fails(cube: np.ndarray) -> np.ndarray:
        raise DraperError("no such model")

    with pytest.raises(DraperError, match="no such model"):
        nested(fails, 2, live=50)


def test_workers_may_ask_unequally_often() -> None:
    asked: list[int] = []

    def double(points: np.ndarray) -> np.ndarray:
        asked.append(len(points))
        return 2 * points[:, 0]

    with Together(double, 4) as pool:
        sums = pool.map(lambda n: sum(pool.call(np.array([float(i)])) for i in range(n)), [0, 1, 2, 3, 4, 1])
    assert sums == [0, 0, 2, 6, 12, 0]
    assert sum(asked) == 11
    assert asked[:3] == [3, 2, 1]


def test_an_interruption_does_not_leave_workers_waiting() -> None:
    raised: list[type] = []

    def interrupted() -> None:
        try:
            with Together(lambda points: points[:, 0], 3) as pool:
                submit = pool._threads.submit

                def stop(*arguments: object) -> object:  # Ctrl-C while the last worker is being started
                    if arguments[1] == 2:
                        raise KeyboardInterrupt
                    return submit(*arguments)  # type: ignore[arg-type]

                pool._threads.submit = stop  # type: ignore[assignment, method-assign]
                pool.map(lambda n: pool.call(np.array([float(n)])), [0, 1, 2])
        except KeyboardInterrupt as error:
            raised.append(type(error))

    thread = Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(20)
    assert raised == [KeyboardInterrupt]


def test_an_interruption_prints_no_tracebacks(capfd: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    def stopped(cube: np.ndarray) -> np.ndarray:
        calls.append(len(cube))
        if len(calls) == 150:
            signal.pthread_kill(main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]
        return gaussian(cube)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            nested(stopped, 4, live=80)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) < 2000  # what was begun is finished, and no more
    assert capfd.readouterr() == ("", "")


def test_a_missing_dynesty_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(nested_file, "import_module", absent)
    assert importlib.import_module is not absent
    with pytest.raises(DraperError, match=r"dynesty[\s\S]*draper\[nested\]"):
        nested(gaussian, 4)
