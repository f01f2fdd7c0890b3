"""Noise has the stated variance; the continuum is found under lines."""

import numpy as np
import pytest
import torch

from draper.errors import DraperError
from draper.instrument import noise
from draper.instrument.continuum import chebyshev_basis, continuum, fit, smoothed, spline_basis

WAVELENGTH = torch.linspace(8460, 8700, 801, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_noise_has_the_stated_variance() -> None:
    flux = torch.linspace(0.2, 1, 50, dtype=torch.float64).expand(20_000, -1)
    for photons in (False, True):
        ivar = noise.ivar_from_snr(flux, torch.full((20_000,), 40.0), photons=photons)
        spread = (noise.add_noise(flux, ivar, normal(20_000, 50)) - flux).std(0)
        torch.testing.assert_close(spread, ivar[0].rsqrt(), rtol=0.03, atol=0)
    middle = flux[0].median()
    assert float(ivar[0, 24].rsqrt()) == pytest.approx(float(middle) / 40, rel=0.02)
    assert float(ivar[0, 0] / ivar[0, -1]) == pytest.approx(5, rel=1e-6)


def test_bad_pixels_get_no_noise() -> None:
    ivar = torch.tensor([[100.0, 0.0]])
    flux = noise.add_noise(torch.ones(1, 2, requires_grad=True), ivar, torch.ones(1, 2))
    assert flux.tolist() == [[pytest.approx(1.1), 1.0]]
    flux.sum().backward()


@pytest.mark.parametrize("length", [0.7, 2.0, 6.5])
def test_correlated_noise_has_the_stated_correlation(length: float) -> None:
    p, half = 60, noise.margin(length)
    made = noise.correlated(normal(40_000, p + 2 * half), length)
    assert made.shape == (40_000, p)
    found = made.T @ made / len(made)
    distance = torch.arange(p)[:, None] - torch.arange(p)[None]
    expected = torch.exp(-(distance.double() ** 2) / (2 * length**2))
    assert float((found - expected).abs().max()) < 0.03


def test_fit_is_exact_within_its_basis() -> None:
    for basis in (chebyshev_basis(WAVELENGTH, 5), spline_basis(WAVELENGTH, 6)):
        truth = normal(4, basis.shape[1]) @ basis.T
        ivar = torch.rand(4, 801, dtype=torch.float64) + 0.1
        torch.testing.assert_close(fit(truth, ivar, basis), truth, atol=1e-6, rtol=1e-6)


def test_fit_ignores_bad_pixels_and_survives_empty_spectra() -> None:
    basis = chebyshev_basis(WAVELENGTH, 3)
    truth = normal(2, 4) @ basis.T
    ivar = torch.ones(2, 801, dtype=torch.float64)
    ivar[0, 100:300], ivar[1] = 0, 0
    spoilt = truth.clone()
    spoilt[0, 100:300] = 1e6
    found = fit(spoilt, ivar, basis)
    torch.testing.assert_close(found[0], truth[0], atol=1e-5, rtol=1e-5)
    assert torch.isfinite(found).all()


def test_chebyshev_matches_numpy() -> None:
    x = np.linspace(-1, 1, 801)
    np.testing.assert_allclose(
        chebyshev_basis(WAVELENGTH, 6), np.polynomial.chebyshev.chebvander(x, 6), atol=1e-9
    )


@pytest.mark.parametrize("basis", [chebyshev_basis(WAVELENGTH, 4), spline_basis(WAVELENGTH, 3)])
def test_continuum_under_lines(basis: torch.Tensor) -> None:
    """Fifteen lines, half of a percent of noise and a few cosmic rays move it by less than 0.4 percent."""
    random = np.random.default_rng(3)
    truth = 1000 * (1 + 0.2 * torch.sin((WAVELENGTH - 8460) / 90))
    centres = torch.from_numpy(random.uniform(8465, 8695, 15))
    lines = 1 - 0.5 * torch.exp(-0.5 * ((WAVELENGTH - centres[:, None]) / 1.2) ** 2)
    flux = (truth * lines.prod(0) + 5 * normal(801))[None]
    flux[0, [50, 400, 700]] += 800
    found = continuum(flux, torch.full_like(flux, 1 / 25), basis)
    error = (found[0] / truth - 1)[20:-20].abs()
    assert float(error.max()) < 0.01
    assert float(error.median()) < 0.004
    plain = fit(flux, torch.full_like(flux, 1 / 25), basis)
    assert float((plain[0] / truth - 1).abs().median()) > 0.01


def test_continuum_gradients() -> None:
    basis = chebyshev_basis(WAVELENGTH[::40], 2)
    flux = (1 + 0.1 * normal(2, 21)).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: fit(f, torch.ones(2, 21).double(), basis), (flux,), atol=1e-6)
    with pytest.raises(DraperError, match="iterations=0"):
        continuum(flux, torch.ones(2, 21), basis, iterations=0)


def test_smoothing_is_a_weighted_mean() -> None:
    flux, ivar = 1 + 0.3 * normal(2, 801), torch.rand(2, 801, dtype=torch.float64)
    ivar[:, 400:420] = 0
    found = smoothed(flux, ivar, WAVELENGTH, 10.0, block=100)
    kernel = torch.exp(-0.5 * ((WAVELENGTH[410] - WAVELENGTH) / 10) ** 2)
    expected = (kernel * ivar * flux).sum(1) / (kernel * ivar).sum(1)
    torch.testing.assert_close(found[:, 410], expected)
    torch.testing.assert_close(smoothed(torch.ones_like(flux), ivar, WAVELENGTH, 10.0), torch.ones_like(flux))
