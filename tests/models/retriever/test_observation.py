"""Observations agree with dense covariance matrices, and see fine spectra through the right bins."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from draper import Grid, Spectra
from draper.data.resample import averaging
from draper.errors import DraperError
from draper.models.retriever.observation import Binning, Observation, observations, stacked
from draper.models.retriever.summary import Summary
from draper.simulate.planets import Planets, native_edges

PIXELS = 40


def grid(low: float, high: float, bins: int) -> Grid:
    """Return bins of equal ratio between two wavelengths [um]."""
    ends = np.geomspace(low, high, bins + 1)
    edges = np.stack([ends[:-1], ends[1:]], axis=1)
    return Grid.from_wavelength(np.sqrt(edges.prod(1)), unit="um", medium="vacuum", edges=edges)


FINE = grid(1.0, 2.0, PIXELS)


def observation(offset: float = 0.0, sets: int = 3, bins: int = 9, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    return Observation(
        rng.uniform(size=(bins, 6)),
        slice(4, 10),
        rng.normal(size=bins),
        rng.uniform(0.5, 2.0, bins),
        np.arange(bins) * sets // bins + 5,
        offset,
    )


def covariance(one: Observation) -> np.ndarray:
    """Return the dense covariance: errors, and an offset that each data set but the first shares."""
    matrix = np.diag(one.variance)
    for name in sorted(set(one.groups))[1:]:
        member = (one.groups == name).astype(float)
        matrix += one.offset**2 * np.outer(member, member)
    return matrix


@pytest.mark.parametrize("offset", [0.0, 0.3, 20.0])
def test_whitened_errors_have_unit_covariance(offset: float) -> None:
    one = observation(offset)
    white = one.whiten(np.linalg.cholesky(covariance(one)).T)
    np.testing.assert_allclose(white.T @ white, np.eye(9), atol=1e-12)


@pytest.mark.parametrize(("offset", "sets"), [(0.0, 3), (0.3, 3), (20.0, 2), (0.3, 1)])
def test_likelihoods_are_those_of_a_dense_gaussian(offset: float, sets: int) -> None:
    one = observation(offset, sets)
    fine = np.random.default_rng(1).normal(size=(5, 6))
    chi2 = (one.residuals(fine) ** 2).sum(1)
    for row in range(5):
        law = stats.multivariate_normal(one.operator @ fine[row], covariance(one))
        assert one.log_norm() - chi2[row] / 2 == pytest.approx(law.logpdf(one.flux), abs=1e-9)


def test_a_larger_star_makes_everything_larger() -> None:
    one = observation(0.3)
    scaled = one.scaled(1.7)
    fine = np.random.default_rng(1).normal(size=(3, 6))
    np.testing.assert_allclose(scaled.residuals(1.7 * fine) ** 2, one.residuals(fine) ** 2)
    # The evidence is that of the data as they were given.
    assert scaled.log_norm() == pytest.approx(one.log_norm())


def test_inflation_is_that_of_the_errors_and_not_of_offsets() -> None:
    one = observation(0.3)
    fine = np.random.default_rng(1).normal(size=(3, 6))
    factors = np.array([1.0, 2.0, 5.0])
    chi2 = (one.residuals(fine, factors) ** 2).sum(1)
    for row, factor in enumerate(factors):
        inflated = one.scaled(1.0, factor)
        np.testing.assert_allclose(one.residuals(fine, factors)[row], inflated.residuals(fine)[row])
        law = stats.multivariate_normal(one.operator @ fine[row], covariance(inflated))
        expected = law.logpdf(one.flux)
        assert one.log_norm(factors)[row] - chi2[row] / 2 == pytest.approx(expected, abs=1e-9)


def test_statistics_and_novelty_are_those_of_the_dense_covariance() -> None:
    one = observation(0.3)
    summary = Summary(torch.ones(PIXELS), 3)
    rng = np.random.default_rng(2)
    summary.basis.copy_(torch.from_numpy(rng.normal(size=(PIXELS, 3))))
    summary.mean.copy_(torch.from_numpy(rng.normal(size=PIXELS)))
    matrix = one.operator @ summary.basis.numpy()[4:10]
    rest = one.flux - one.operator @ summary.mean.numpy()[4:10]
    inverse = np.linalg.inv(covariance(one))
    weighted, precision = stacked([one.statistics(summary)] * 2)
    assert weighted.shape == (2, 3)
    np.testing.assert_allclose(weighted[1], matrix.T @ inverse @ rest)
    np.testing.assert_allclose(precision[1], matrix.T @ inverse @ matrix)
    # Standard normal components scatter the data beyond their errors.
    chi2 = rest @ np.linalg.solve(covariance(one) + matrix @ matrix.T, rest)
    root, mean = (chi2 / 9) ** (1 / 3), 1 - 2 / 81
    assert one.novelty(summary) == pytest.approx((root - mean) / math.sqrt(2 / 81))


def test_novelty_of_good_data_is_standard_normal() -> None:
    summary = Summary(torch.ones(PIXELS), 3)
    rng = np.random.default_rng(2)
    summary.basis.copy_(torch.from_numpy(rng.normal(size=(PIXELS, 3))))
    one = observation(0.3)
    factor = np.linalg.cholesky(covariance(one))
    found = []
    for _ in range(2000):
        fine = summary.basis.numpy()[4:10] @ rng.normal(size=3)
        data = one.operator @ fine + factor @ rng.normal(size=9)
        found.append(replace(one, flux=data).novelty(summary))
    assert np.mean(found) == pytest.approx(0, abs=0.1)
    assert np.std(found) == pytest.approx(1, abs=0.07)


def test_bins_see_the_part_of_the_fine_grid_that_they_touch() -> None:
    target = grid(1.2, 1.5, 7)
    binning = Binning.between(FINE, target)
    assert binning.covered.all()
    whole = np.zeros((7, PIXELS))
    whole[:, binning.pixels] = binning.operator
    np.testing.assert_allclose(whole, averaging(FINE, target).toarray(), rtol=1e-9)
    assert binning.operator.any(axis=0).all()
    np.testing.assert_allclose(binning.operator.sum(1), 1)


def test_bins_beyond_the_fine_grid_are_not_covered() -> None:
    target = grid(0.5, 4.0, 30)
    binning = Binning.between(FINE, target)
    low, high = target.bounds.T / 1e4
    expected = (low > 1 - 1e-5) & (high < 2 + 1e-5)
    assert 5 < expected.sum() < 15
    assert np.array_equal(binning.covered, expected)
    fine = np.linspace(1, 2, PIXELS)
    inside = (binning.operator @ fine[binning.pixels])[binning.covered]
    assert ((inside > 1) & (inside < 2)).all()
    with pytest.raises(DraperError, match="overlap"):
        Binning.between(FINE, grid(3.0, 4.0, 5))


def test_bins_finer_than_the_fine_grid_repeat_its_pixels() -> None:
    planets = Planets()
    target = grid(2.87, 5.14, 1748)  # R = 3000
    binning = Binning.between(planets.grid, target)
    assert binning.covered.all()
    fine = np.random.default_rng(0).normal(size=362)
    centre = target.vacuum / 1e4
    owner = np.searchsorted(native_edges()[:, 1], centre)
    seen = binning.operator @ fine[binning.pixels]
    low, high = target.bounds.T / 1e4
    within = (low > native_edges()[owner, 0]) & (high < native_edges()[owner, 1])
    assert within.mean() > 0.9
    np.testing.assert_allclose(seen[within], fine[owner][within], rtol=1e-9)


def test_a_set_on_the_fine_grid_is_taken_as_it_is() -> None:
    binning = Binning.between(FINE, FINE)
    assert np.array_equal(binning.operator, np.eye(PIXELS))
    basis = Grid.coefficients(["a", "b", "c"])
    assert np.array_equal(Binning.between(basis, basis).operator, np.eye(3))
    with pytest.raises(DraperError, match="model's grid"):
        Binning.between(basis, FINE)


def test_good_bins_become_observations_in_front_of_one_solar_radius() -> None:
    target = grid(0.9, 1.5, 12)
    binning = Binning.between(FINE, target)
    rng = np.random.default_rng(0)
    flux, ivar = rng.uniform(0.01, 0.02, (3, 12)), np.full((3, 12), 1e8)
    ivar[0, 5] = 0
    flux[0, 5] = np.nan
    ivar[1] = 0
    groups = np.arange(12) // 6
    own = rng.uniform(1e-5, 2e-5, PIXELS)
    found = observations(Spectra(target, flux, ivar), binning, np.array([1.0, 1.0, 0.5]), own, 1e-4, groups)
    assert found[1] is None
    good = binning.covered.copy()
    assert 0 < (~good).sum() < 6
    third = found[2]
    np.testing.assert_allclose(third.flux, flux[2, good] / 4, rtol=1e-6)
    errors = (averaging(FINE, target) @ own)[good]
    np.testing.assert_allclose(third.variance, (1e-4 / 4) ** 2 + errors**2, rtol=1e-6)
    assert third.offset == pytest.approx(1e-4 / 4)
    assert np.array_equal(third.groups, groups[good])
    good[5] = False
    assert len(found[0].flux) == good.sum()
    np.testing.assert_allclose(found[0].flux, flux[0, good], rtol=1e-6)
