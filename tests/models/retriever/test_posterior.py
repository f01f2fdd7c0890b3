"""Posteriors agree with prior draws weighted by the likelihood, whatever is known beforehand."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from draper import Label, LabelSet, TrainConfig
from draper.configs.retriever import RetrieveConfig
from draper.errors import DraperError
from draper.infer.importance import ImportanceSamples
from draper.models.retriever.model import Retriever
from draper.models.retriever.observation import Observation
from draper.models.retriever.posterior import Retrieval, Target, _nested, largest_run, retrieve
from draper.models.retriever.prior import Prior
from draper.simulate.planets import Planets

BOX = LabelSet([Label("teff", low=4000, high=7000), Label("logg", low=0, high=5)])
TRAIN = TrainConfig(
    steps=40,
    batch_size=64,
    learning_rate=3e-3,
    warmup=10,
    patience=None,
    threads=1,
    matmul="highest",
    progress="none",
)
RADII = 0.98, 1.2
"""Radii beyond which the planet of the tests cannot be."""


class Setting(NamedTuple):
    """A model, one observed planet, and draws from the prior with their fine spectra."""

    model: Retriever
    seen: Observation
    labels: np.ndarray
    fine: np.ndarray


@pytest.fixture(scope="module")
def setting() -> Setting:
    model = Retriever(components=8, transforms=3, width=32, blocks=1, calibration=0)
    model.fit(Planets(box="exogan"), valid=0, train=TRAIN)
    planet = Planets("hst-wfc3-g141", box="exogan", error=300.0).simulate(1, seed=5)
    seen = model.observations(planet, RetrieveConfig())[0]
    assert seen is not None
    low, high = np.array(model.labels.low), np.array(model.labels.high)
    low[2], high[2] = RADII
    labels = np.random.default_rng(0).uniform(low, high, (40_000, 7))
    with torch.no_grad():
        fine = model.physics.depth(torch.from_numpy(labels).float(), seen.pixels).double().numpy()
    return Setting(model, seen, labels, fine)


class Weighted(NamedTuple):
    """Draws from the prior with weights of sum 1, and the log evidence with its error."""

    draws: np.ndarray
    weights: np.ndarray
    log_evidence: float
    error: float

    @property
    def effective(self) -> float:
        return float(1 / np.square(self.weights).sum())


def weighted(setting: Setting, prior: Any = None, star: Any = 1.0, inflation: Any = 1.0) -> Weighted:
    """Return draws from the prior weighted by the likelihood, in the simplest way."""
    n = len(setting.labels)
    star, inflation = (np.broadcast_to(part, n)[:, None] for part in (star, inflation))
    model = setting.fine @ setting.seen.operator.T / star**2
    sigma = np.sqrt(setting.seen.variance) * inflation
    log_weights = stats.norm.logpdf(setting.seen.flux, model, sigma).sum(1)
    log_weights += math.log((RADII[1] - RADII[0]) / (1.5 - 0.8))
    if prior is not None:
        log_weights += prior(setting.labels)
    total = logsumexp(log_weights)
    weights = np.exp(log_weights - total)
    effective = 1 / np.square(weights).sum()
    draws = np.concatenate([setting.labels, star, inflation], axis=1)
    return Weighted(draws, weights, total - math.log(n), math.sqrt(1 / effective - 1 / n))


def target_of(setting: Setting, **options: Any) -> tuple[Target, RetrieveConfig]:
    chosen = RetrieveConfig(draws=5000, samples=3000, **options)
    prior = Prior.of(chosen, setting.model.labels)
    network, physics = setting.model.network, setting.model.physics
    return Target(network, physics, setting.seen, prior, chosen, chosen.star_radius_error), chosen


def found(setting: Setting, **options: Any) -> Retrieval:
    target, chosen = target_of(setting, **options)
    return retrieve(target, chosen, chosen.draws, np.random.default_rng(1))


def require_same(ours: Retrieval, theirs: Weighted, beside: tuple[int, ...] = ()) -> None:
    """Compare evidence, means and scatters of the labels, and of star (7) and inflation (8)."""
    error = math.hypot(ours.log_evidence_err, theirs.error)
    assert ours.log_evidence == pytest.approx(theirs.log_evidence, abs=3.5 * error)
    assert error < 0.15
    assert ours.samples.shape[1] == 7 + len(beside)
    for number, values in zip((*range(7), *beside), ours.samples.T, strict=True):
        draws = theirs.draws[:, number]
        mean = theirs.weights @ draws
        scatter = math.sqrt(theirs.weights @ (draws - mean) ** 2)
        few = min(ours.effective, theirs.effective)
        assert np.mean(values) == pytest.approx(mean, abs=scatter * 5 / math.sqrt(few))
        assert np.std(values) == pytest.approx(scatter, rel=5 / math.sqrt(few))


def test_importance_sampling_agrees_with_the_prior_weighted_by_the_likelihood(setting: Setting) -> None:
    ours, theirs = found(setting, refine="never"), weighted(setting)
    assert ours.how == "weighted"
    assert ours.is_reliable
    require_same(ours, theirs)
    # What the samples say of the data.
    chi2 = ((setting.fine @ setting.seen.operator.T - setting.seen.flux) ** 2 / setting.seen.variance).sum(1)
    order = np.argsort(chi2)
    median = chi2[order][np.searchsorted(theirs.weights[order].cumsum(), 0.5)]
    assert ours.chi2 == pytest.approx(median, abs=1.0)
    assert ours.bins == 18
    assert ours.p_value == pytest.approx(theirs.weights @ stats.chi2(18).sf(chi2), abs=0.05)


def test_the_proposal_is_normalised(setting: Setting) -> None:
    # Where the data say nothing, the evidence is the integral of the prior.
    target, _ = target_of(setting)
    vague = replace(setting.seen, variance=np.full(18, 100.0), flux=np.zeros(18))
    target.observation = vague
    start = target.start(8000, np.random.default_rng(0))
    expected = stats.norm.logpdf(np.zeros(18), 0, 10).sum()
    assert start.log_evidence == pytest.approx(expected, abs=4 * start.log_evidence_err)
    assert start.log_evidence_err < 0.05


@pytest.mark.parametrize("refine", ["never", "auto"])
def test_gaussian_priors_and_narrower_ranges_reweight_the_posterior(setting: Setting, refine: str) -> None:
    ours = found(
        setting, priors={"planet_mass": (1.2, 0.2)}, bounds={"temperature": (1200.0, 1900.0)}, refine=refine
    )

    def prior(labels: np.ndarray) -> np.ndarray:
        # In place of the uniform ones; the Gaussian is cut at 0.8 and 2.
        mass = stats.truncnorm(-2, 4, 1.2, 0.2).logpdf(labels[:, 0]) + math.log(2 - 0.8)
        return mass + stats.uniform(1200, 700).logpdf(labels[:, 1]) + math.log(2000 - 1000)

    require_same(ours, weighted(setting, prior))
    assert ours.samples[:, 1].min() >= 1200
    assert ours.samples[:, 1].max() <= 1900


def test_the_radius_of_the_star_is_sampled(setting: Setting) -> None:
    star = 1 + 0.02 * np.random.default_rng(3).standard_normal(len(setting.labels))
    ours = found(setting, star_radius_error=0.02, refine="never")
    require_same(ours, weighted(setting, star=star), (7,))


def test_the_inflation_of_errors_is_sampled(setting: Setting) -> None:
    rng = np.random.default_rng(3)
    inflation = 3.0 ** rng.uniform(size=len(setting.labels))
    ours = found(setting, inflation=3.0, refine="never")
    require_same(ours, weighted(setting, inflation=inflation), (8,))
    both = found(setting, inflation=3.0, star_radius_error=0.02, refine="never")
    star = 1 + 0.02 * rng.standard_normal(len(setting.labels))
    require_same(both, weighted(setting, star=star, inflation=inflation), (7, 8))


def test_a_fixed_label_is_known_exactly(setting: Setting) -> None:
    ours = found(setting, fixed={"planet_mass": 1.3, "log_co": -8.0})
    assert ours.samples[:, 0] == pytest.approx(1.3, abs=0.006)
    assert ours.samples[:, 6].min() >= -8
    assert ours.samples[:, 6].max() < -7.95
    assert ours.is_reliable
    assert ours.how == "refined"
    # The evidence is that of a simulator without these labels.
    labels = setting.labels.copy()
    labels[:, 0], labels[:, 6] = 1.3, -8.0
    few = slice(0, 15_000)
    with torch.no_grad():
        fine = setting.model.physics.depth(torch.from_numpy(labels[few]).float(), setting.seen.pixels)
    theirs = weighted(setting._replace(labels=labels[few], fine=fine.double().numpy()))
    error = math.hypot(ours.log_evidence_err, theirs.error)
    assert ours.log_evidence == pytest.approx(theirs.log_evidence, abs=3.5 * error)


@pytest.mark.parametrize("options", [{}, {"star_radius_error": 0.05, "inflation": 2.0}])
def test_weights_are_the_target_over_the_proposal(setting: Setting, options: dict[str, float]) -> None:
    target, _ = target_of(setting, **options)
    start = target.start(640, np.random.default_rng(0))
    possible = np.isfinite(start.log_weights)
    assert possible.mean() > 0.3
    joint = target(start.samples)
    # Whatever star and inflation a sample was drawn for, it keeps its labels in the common coordinates.
    assert (np.isfinite(joint) == possible).mean() > 0.995
    if not options:
        proposal = target.start_log_density(start.samples)
        np.testing.assert_allclose((joint - proposal)[possible], start.log_weights[possible], atol=0.02)
    else:
        labels = target.labels(start.samples)
        star, inflation = target.factors(start.samples[:, 7:])
        expected = target.log_likelihood(labels, star, inflation)
        with torch.no_grad():
            fine = target.model.depth(torch.from_numpy(labels).float(), setting.seen.pixels).double().numpy()
        model = fine @ setting.seen.operator.T / star[:, None] ** 2
        sigma = np.sqrt(setting.seen.variance) * inflation[:, None]
        dense = stats.norm.logpdf(setting.seen.flux, model, sigma).sum(1)
        np.testing.assert_allclose(expected, dense, rtol=1e-6)


def test_data_that_no_planet_explains_fail_without_an_error(setting: Setting) -> None:
    target, chosen = target_of(setting, refine="never")
    target.observation = replace(setting.seen, flux=setting.seen.flux + 1e6, variance=np.full(18, 1e-12))
    ours = retrieve(target, chosen, 300, np.random.default_rng(0))
    assert ours.samples.shape == (3000, 7)
    assert not ours.is_reliable


def test_priors_are_normalised_densities() -> None:
    options = RetrieveConfig(
        priors={"logg": (0.1, 0.3)}, bounds={"teff": (3000.0, 5000.0), "logg": (0.05, 9.0)}
    )
    prior = Prior.of(options, BOX)
    assert not prior.is_plain
    assert prior.low.tolist() == [4000, 0.05]
    assert prior.high.tolist() == [5000, 5]
    teff, logg = np.linspace(3900, 5100, 241), np.linspace(0, 5, 2001)
    points = np.stack(np.meshgrid(teff, logg, indexing="ij"), axis=2).reshape(-1, 2)
    density = np.exp(prior.log_density(points)).reshape(241, 2001)
    cell = (teff[1] - teff[0]) * (logg[1] - logg[0])
    assert density.sum() * cell == pytest.approx(1, rel=0.02)
    assert density[:20].max() == 0
    plain = Prior.of(RetrieveConfig(), BOX)
    assert plain.is_plain
    np.testing.assert_allclose(plain.log_density(np.array([[5000.0, 1.0]])), -math.log(15_000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priors": {"logg": (7.0, 0.1)}}, "outside the range"),
        ({"fixed": {"teff": 3000.0}}, "outside the range"),
        ({"bounds": {"teff": (1000.0, 2000.0)}}, "does not overlap"),
        ({"fixed": {"loggg": 2.0}}, "logg"),
        ({"bounds": {"teff": (5000.0, 4500.0)}}, "no width"),
        ({"priors": {"logg": (4.0, 0.1)}, "bounds": {"logg": (1.0, 3.0)}}, "of its bounds"),
        ({"priors": {"logg": (4.0, float("inf"))}}, "width of the prior"),
    ],
)
def test_priors_beyond_the_box_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DraperError, match=message):
        Prior.of(RetrieveConfig(**options), BOX)


def test_priors_soften_step_by_step() -> None:
    options = RetrieveConfig(priors={"logg": (2.0, 0.1)}, bounds={"teff": (5000.0, 5300.0)})
    prior = Prior.of(options, BOX)
    assert prior.softened(0).is_plain
    assert prior.known.tolist() == [True, True]
    assert np.array_equal(prior.softened(1).low, prior.low)
    half = prior.softened(1e-3)
    assert half.sigma[1] == pytest.approx(0.1 / math.sqrt(1e-3))
    assert 4000 < half.low[0] < 5000
    assert 5300 < half.high[0] < 7000
    widths = np.diff([np.ptp([one.low[0], one.high[0]]) for one in map(prior.softened, (1e-6, 1e-3, 1))])
    assert (widths < 0).all()
    # The softest are nearly the box.
    assert prior.softened(1.001e-7).low[0] == pytest.approx(4000, abs=5)


def test_places_in_the_prior_are_uniform_in_it() -> None:
    options = RetrieveConfig(priors={"logg": (0.1, 0.3)}, bounds={"teff": (4000.0, 5000.0)})
    prior = Prior.of(options, BOX)
    places = np.random.default_rng(0).uniform(size=(2000, 2))
    labels = prior.at(places)
    np.testing.assert_allclose(prior.place(labels), places, atol=1e-9)
    assert stats.kstest(labels[:, 1], stats.truncnorm(-1 / 3, 49 / 3, 0.1, 0.3).cdf).pvalue > 0.01
    assert stats.kstest(labels[:, 0], stats.uniform(4000, 1000).cdf).pvalue > 0.01


NARROW: dict[str, Any] = {
    "bounds": {"planet_mass": (1.2, 1.22), "temperature": (1500, 1510), "log_h2o": (-3.5, -3.4)},
}


@pytest.mark.parametrize("refine", ["auto", "nested"])
def test_narrow_ranges_of_several_labels_are_sampled(setting: Setting, refine: str) -> None:
    ours = found(setting, **NARROW, refine=refine)
    assert ours.is_reliable
    ends = {0: (1.2, 1.22), 1: (1500, 1510), 3: (-3.5, -3.4)}
    rng, labels = np.random.default_rng(2), setting.labels[:15_000].copy()
    for number, (low, high) in ends.items():
        labels[:, number] = rng.uniform(low, high, len(labels))
        assert ours.samples[:, number].min() >= low
        assert ours.samples[:, number].max() <= high
    with torch.no_grad():
        fine = setting.model.physics.depth(torch.from_numpy(labels).float(), setting.seen.pixels)
    theirs = weighted(setting._replace(labels=labels, fine=fine.double().numpy()))
    error = math.hypot(ours.log_evidence_err, theirs.error)
    assert ours.log_evidence == pytest.approx(theirs.log_evidence, abs=3.5 * error)
    mean = theirs.weights @ labels[:, 2]
    scatter = math.sqrt(theirs.weights @ (labels[:, 2] - mean) ** 2)
    assert ours.samples[:, 2].mean() == pytest.approx(mean, abs=0.3 * scatter)


def test_nested_sampling_in_the_prior_itself_agrees(setting: Setting) -> None:
    # Without a start, as where no sample of the network lies in the prior.
    target, chosen = target_of(setting, priors={"planet_mass": (1.3, 0.01)}, star_radius_error=0.02)
    nothing = ImportanceSamples(np.zeros((100, 8)), np.full(100, -np.inf))
    ours = _nested(target, nothing, chosen, np.random.default_rng(0))
    assert ours.how == "nested"
    other = found(setting, priors={"planet_mass": (1.3, 0.01)}, star_radius_error=0.02)
    error = math.hypot(ours.log_evidence_err, other.log_evidence_err)
    # Weights of a curved posterior have more scatter than they know, and it depends on the processor.
    assert ours.log_evidence == pytest.approx(other.log_evidence, abs=max(4 * error, 0.2))
    apart = (ours.samples.mean(0) - other.samples.mean(0)) / other.samples.std(0)
    # Chance is 0.03; what is missed at the ends of ridges is not in the effective sizes.
    assert np.abs(apart).max() < 0.25


def test_nested_sampling_of_data_that_nothing_explains_fails(setting: Setting) -> None:
    target, chosen = target_of(setting, refine="nested")
    target.model = Nothing()
    ours = retrieve(target, chosen, 300, np.random.default_rng(0))
    assert ours.how == "failed"
    assert np.isnan(ours.samples).all()


class Nothing:
    """A forward model without a single spectrum."""

    def depth(self, labels: torch.Tensor, bins: slice | None = None) -> torch.Tensor:
        return torch.full((len(labels), bins.stop - bins.start), math.nan)


def test_neighbouring_residuals_of_one_sign_are_found() -> None:
    rng = np.random.default_rng(0)
    good = [largest_run(np.tile(rng.normal(size=100), (5, 1))) for _ in range(300)]
    assert 2 < np.median(good) < 3.6
    assert np.quantile(good, 0.99) < 5.5
    shifted = rng.normal(size=100)
    shifted[40:56] += 2
    assert largest_run(np.tile(shifted, (5, 1))) > 6
    # One bin: the residual itself. What scatters from sample to sample may be absorbed by the fit.
    assert largest_run(np.full((5, 1), -3.0)) == pytest.approx(3)
    absorbed = np.full((2000, 1), 1.0) + math.sqrt(0.75) * rng.normal(size=(2000, 1))
    assert largest_run(absorbed) == pytest.approx(2, rel=0.1)


def test_which_posteriors_can_be_trusted() -> None:
    samples = np.zeros((10, 1))
    good = Retrieval(samples, effective=200, pareto_k=0.3, how="weighted")
    assert good.is_reliable
    assert not replace(good, effective=50).is_reliable
    assert not replace(good, pareto_k=0.9).is_reliable
    assert not replace(good, how="failed", effective=math.nan).is_reliable
