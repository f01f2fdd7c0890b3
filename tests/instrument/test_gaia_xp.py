"""Gaia's photometers against real stars, black bodies and their own statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import draper
from draper.data.spectra import Correlation, Spectra
from draper.errors import DraperError
from draper.instrument.gaia_xp import SAMPLED, GaiaXP, Photometer, Projection

WAVELENGTH = np.arange(3200.0, 11300.0, 20.0)
SECOND_RADIATION = 1.438776877e8


@pytest.fixture(scope="module")
def xp() -> GaiaXP:
    return GaiaXP()


def real_stars(folder: Path) -> Spectra:
    return draper.read(folder / "gaia_xp" / "XP_CONTINUOUS_RAW.csv")


def planck(teff: float, wavelength: np.ndarray) -> torch.Tensor:
    flux = 1e4 / (wavelength**5 * np.expm1(SECOND_RADIATION / wavelength / teff))
    return torch.from_numpy(flux / flux.max())[None] * 1e-15


def spectrum_of(part: Photometer, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the spectrum [W/m2/nm] that stands behind coefficients of one photometer."""
    photons = part.photons(WAVELENGTH)
    inverse = part.incident(WAVELENGTH) / np.where(photons > 0, photons, np.inf)
    return coefficients @ torch.from_numpy(inverse)


def test_coefficients_of_real_stars_come_back(xp: GaiaXP, real_data: Path) -> None:
    stars = torch.from_numpy(real_stars(real_data).flux.astype(np.float64))
    for part, values in zip(xp.photometers, xp.split(stars), strict=True):
        back = Projection(part, WAVELENGTH)(spectrum_of(part, values))
        missed = (back - values).norm(dim=1) / values.norm(dim=1)
        assert missed.max() < 0.01
        # Those of the first four that carry over 2 % of the flux, one by one.
        first, large = back[:, :4] / values[:, :4] - 1, values[:, :4].abs() > 0.02 * values[:, :1].abs()
        assert first[large].abs().max() < 0.02
        photons = torch.from_numpy(part.incident(WAVELENGTH))
        assert ((back - values) @ photons).std(dim=1).max() < 0.01 * (values @ photons).std()


def test_real_stars_have_their_magnitudes(xp: GaiaXP, real_data: Path) -> None:
    proxima = torch.from_numpy(real_stars(real_data).flux[:1].astype(np.float64))
    published = {"g": 8.985, "bp": 11.373, "rp": 7.569}
    for band, magnitude in published.items():
        assert float(xp.magnitude(proxima, band)) == pytest.approx(magnitude, abs=0.04)


@pytest.mark.parametrize("teff", [4000.0, 5800.0, 8000.0])
def test_a_black_body_comes_back_as_samples(xp: GaiaXP, teff: float) -> None:
    seen = xp.sampled(xp.projection(WAVELENGTH)(planck(teff, WAVELENGTH)))[0]
    error = (seen / planck(teff, SAMPLED.vacuum)[0] - 1)[32:308]
    assert error.abs().median() < 0.003
    assert error.square().mean().sqrt() < 0.008


def test_finer_pixels_make_the_same_coefficients(xp: GaiaXP) -> None:
    fine = np.arange(3200.0, 11300.0, 5.0)
    coarse = xp.projection(WAVELENGTH)(planck(5000.0, WAVELENGTH))
    assert torch.allclose(xp.projection(fine)(planck(5000.0, fine)), coarse, atol=2e-3 * float(coarse[0, 0]))


def test_coefficients_are_proportional_to_the_flux_and_differentiable(xp: GaiaXP) -> None:
    project = xp.projection(WAVELENGTH)
    flux = planck(5000.0, WAVELENGTH).requires_grad_()
    assert torch.allclose(project(1e-3 * flux), 1e-3 * project(flux), rtol=1e-9)
    project(flux)[0, 0].backward()
    assert flux.grad is not None
    assert flux.grad.isfinite().all()
    assert flux.grad.abs().max() > 0


def test_gradients_are_those_of_finite_differences(xp: GaiaXP) -> None:
    project = xp.projection(WAVELENGTH)
    flux = planck(5000.0, WAVELENGTH)
    wave = 1 + 0.3 * torch.sin(torch.from_numpy(WAVELENGTH) / 700)
    for direction in (flux, flux * wave, flux.max() * wave[None]):
        _, along = torch.func.jvp(project, (flux,), (direction,))
        change = (project(flux + 1e-5 * direction) - project(flux - 1e-5 * direction)) / 2e-5
        assert torch.allclose(along, change, rtol=1e-6, atol=1e-7 * float(change.abs().max()))


def test_errors_are_like_those_of_the_archive(xp: GaiaXP, real_data: Path) -> None:
    stars = real_stars(real_data)
    values, errors = torch.from_numpy(stars.flux.astype(np.float64)), stars.ivar.astype(np.float64) ** -0.5
    transits = torch.from_numpy(stars.table["rp_n_measurements"] / 60)
    made = xp.covariance(values, transits).diagonal(dim1=1, dim2=2).sqrt().numpy()
    ratio = np.log(made / errors)
    # Documented: 0.36 (BP) and 0.19 (RP) rms over the stars that it was fitted to. These two are among them.
    assert np.abs(np.median(ratio, axis=1)).max() < 0.22
    assert 0.3 < ratio[:, :55].std() < 0.45
    assert 0.15 < ratio[:, 55:].std() < 0.28


def test_correlations_are_as_unlike_the_archive_s_as_documented(xp: GaiaXP, real_data: Path) -> None:
    stars = real_stars(real_data)
    assert stars.correlation is not None
    values, transits = torch.from_numpy(stars.flux.astype(np.float64)), torch.ones(len(stars)).double()
    covariance = xp.covariance(values, transits).numpy()
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    related = {
        "model": covariance / sigma[:, :, None] / sigma[:, None],
        "archive": stars.correlation.of(slice(None)),
    }
    apart = ~np.eye(55, dtype=bool)
    size = {
        name: [
            [np.abs(one[block, block][apart]).mean() for block in (slice(55), slice(55, 110))]
            for one in found
        ]
        for name, found in related.items()
    }
    # G = 9.0 and 13.2; BP, RP.
    assert np.allclose(size["model"], [[0.25, 0.10], [0.11, 0.05]], atol=0.006)
    assert np.allclose(size["archive"], [[0.08, 0.08], [0.09, 0.04]], atol=0.006)


def test_covariances_are_positive_and_fall_with_transits(xp: GaiaXP) -> None:
    coefficients = xp.projection(WAVELENGTH)(planck(5000.0, WAVELENGTH)) * torch.tensor([[1e-3], [1.0]])
    few, many = (xp.covariance(coefficients, torch.full((2,), t, dtype=torch.float64)) for t in (10.0, 40.0))
    assert torch.allclose(few, 4 * many, rtol=1e-9)
    assert torch.linalg.eigvalsh(few).min() > 0
    assert (few[:, :55, 55:] == 0).all()


def test_samples_scatter_as_they_say(xp: GaiaXP) -> None:
    coefficients = xp.projection(WAVELENGTH)(planck(5000.0, WAVELENGTH))
    covariance = xp.covariance(coefficients, torch.tensor([40.0], dtype=torch.float64))[0]
    n = 2000
    normal = torch.randn(n, 110, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noisy = coefficients + normal @ torch.linalg.cholesky(covariance).T
    sigma = covariance.diagonal().sqrt()
    related = (covariance / sigma[:, None] / sigma).float().numpy()[None]
    spectra = Spectra(
        xp.grid,
        noisy.numpy(),
        np.broadcast_to(sigma.numpy() ** -2, (n, 110)),
        quantity="coefficients",
        correlation=Correlation(related, np.zeros(n, dtype=np.int64)),
    )
    samples = xp.resampled(spectra)
    assert samples.grid == SAMPLED
    pull = (samples.flux - samples.flux.mean(axis=0)) * np.sqrt(samples.ivar)
    assert np.abs(pull.std(axis=0) - 1).max() < 0.08
    truth = xp.sampled(coefficients)[0].numpy() * 1e17
    assert samples.unit == "1e-17 W / (m2 nm)"
    assert np.allclose(samples.flux.mean(axis=0), truth, rtol=0.02, atol=0.01 * truth.max())


def test_real_coefficients_become_samples(xp: GaiaXP, real_data: Path) -> None:
    samples = xp.resampled(real_stars(real_data))
    assert samples.flux.shape == (2, 343)
    assert np.median(samples.flux * np.sqrt(samples.ivar)) > 20


def test_what_lacks_a_photometer_is_refused(xp: GaiaXP, real_data: Path) -> None:
    stars = draper.read(real_data / "gaia_xp" / "XP_CONTINUOUS_RAW_with_missing_BP.fits")
    with pytest.raises(DraperError, match="lack"):
        xp.resampled(stars)
    with pytest.raises(DraperError, match="continuous"):
        xp.resampled(Spectra(SAMPLED, np.ones((1, 343))))


@pytest.mark.parametrize(
    ("wavelength", "message"),
    [
        (np.arange(4000.0, 11300.0, 20.0), "BP photometer"),
        (np.arange(3200.0, 9000.0, 20.0), "RP photometer"),
        (np.arange(12000.0, 13000.0, 20.0), "BP photometer"),
        (np.arange(3200.0, 11300.0, 50.0), "too coarse"),
    ],
)
def test_spectra_that_do_not_fit_are_refused(xp: GaiaXP, wavelength: np.ndarray, message: str) -> None:
    with pytest.raises(DraperError, match=message):
        xp.projection(wavelength)
