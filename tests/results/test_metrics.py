"""Figures of merit against numbers that are known."""

import numpy as np
import pytest

from draper import Grid, Spectra
from draper.errors import DraperError
from draper.results.metrics import recovery, residuals, robust_scatter


def test_honest_errors_are_called_honest() -> None:
    random = np.random.default_rng(0)
    truth, sigma = random.uniform(4000, 7000, 20_000), random.uniform(50, 200, 20_000)
    found = recovery(truth + 30 + sigma * random.normal(size=truth.size), truth, sigma)
    assert found["bias"] == pytest.approx(30, abs=3)
    assert found["scatter"] == pytest.approx(np.sqrt(np.mean(sigma**2)), rel=0.03)
    assert found["baseline"] == pytest.approx(3000 / np.sqrt(12), rel=0.02)
    assert found["pull_std"] == pytest.approx(1, abs=0.04)
    found = recovery(truth + sigma * random.normal(size=truth.size), truth, sigma)
    for level in (50, 68, 90):
        assert found[f"coverage_{level}"] == pytest.approx(level / 100, abs=0.015)


def test_outliers_do_not_move_robust_figures() -> None:
    error = np.random.default_rng(1).normal(0, 2, 1000)
    hit = np.where(np.arange(1000) % 50 == 0, 1e4, error)
    assert robust_scatter(hit) == pytest.approx(robust_scatter(error), rel=0.1)
    found = recovery(hit, np.zeros(1000))
    assert found["scatter"] > 1000
    assert found["robust_scatter"] == pytest.approx(2, rel=0.15)


def test_what_is_missing_does_not_count() -> None:
    found = recovery([1.0, np.nan, 3.0, 5.0], [0.0, 2.0, np.nan, 4.0], [0.5, 0.5, 0.5, np.nan])
    assert (found["number"], found["bias"], found["pull_mean"]) == (2, 1.0, 2.0)
    empty = recovery([np.nan], [1.0], [1.0])
    assert empty["number"] == 0
    assert np.isnan(empty["bias"])
    assert np.isnan(recovery([1.0], [1.0])["coverage_68"])


def spectra(flux: np.ndarray, ivar: np.ndarray | None = None, quantity: str = "normalised flux") -> Spectra:
    return Spectra(Grid.linear(5000, 5002, 1, medium="vacuum"), flux, ivar, quantity=quantity)


def test_residuals_along_both_axes() -> None:
    observed = spectra(np.ones((2, 3)), np.array([[4.0, 4.0, 0.0], [4.0, 4.0, 4.0]]))
    made = spectra(np.array([[1.5, 1.0, 9.0], [0.5, 1.0, 1.0]]))
    found = residuals(observed, made)
    np.testing.assert_allclose(found.spectrum_rms, [np.sqrt(0.125), np.sqrt(0.25 / 3)])
    np.testing.assert_allclose(found.mean, [0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found.rms, [0.5, 0, 0])
    np.testing.assert_allclose(found.reduced_chi2, [0.5, 1 / 3])
    assert found.worst.tolist() == [0, 1]
    assert found.figures()["worst_pixel_rms"] == pytest.approx(0.5)


def test_residuals_of_fluxes_are_relative() -> None:
    observed = spectra(np.array([[10.0, 10.0, 10.0], [1e4, 1e4, 1e4]]), quantity="flux")
    found = residuals(observed, spectra(observed.flux * 1.01, quantity="flux"))
    np.testing.assert_allclose(found.spectrum_rms, 0.01, rtol=1e-4)
    assert "relative" in found.what


def test_rows_and_pixels_without_data() -> None:
    ivar = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    found = residuals(spectra(np.ones((2, 3)), ivar), spectra(np.full((2, 3), 2.0)))
    assert np.isnan(found.spectrum_rms[0])
    assert np.isnan(found.rms[0])
    assert found.worst.tolist() == [1]
    assert found.reduced_chi2 is None
    assert found.figures()["rms"] == 1.0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DraperError, match="number"):
        residuals(spectra(np.ones((2, 3))), spectra(np.ones((1, 3))))
    other = Spectra(Grid.linear(6000, 6002, 1, medium="vacuum"), np.ones((2, 3)))
    with pytest.raises(DraperError, match="other grids"):
        residuals(spectra(np.ones((2, 3))), other)
