"""Shifts and other pixels against closed forms."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from draper.data.grid import Grid
from draper.data.resample import averaging
from draper.data.resample import resample as resample_spectra
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.doppler import SPEED_OF_LIGHT, doppler_factor, shift
from draper.instrument.resample import FWHM, Operator, cubic, line_spread


def test_doppler_factor_is_relativistic() -> None:
    rv = torch.tensor([-500.0, 0.0, 500.0, 0.8 * SPEED_OF_LIGHT], dtype=torch.float64)
    factor = doppler_factor(rv)
    assert float(factor[3]) == pytest.approx(3.0, rel=1e-12)
    torch.testing.assert_close(factor * doppler_factor(-rv), torch.ones(4, dtype=torch.float64))
    beta = 500 / SPEED_OF_LIGHT
    assert float(factor[2] - 1) == pytest.approx(beta + beta**2 / 2, rel=1e-5)


@pytest.mark.parametrize("rv", [-480.0, -0.3, 0.0, 12.345, 480.0])
def test_a_line_is_where_it_should_be(rv: float) -> None:
    wavelength = torch.linspace(8460, 8700, 2401, dtype=torch.float64)
    centre, width = 8580.0, 0.5

    def line(at):
        return 1 - 0.6 * torch.exp(-0.5 * ((at - centre) / width) ** 2)

    found, inside = shift(line(wavelength)[None], wavelength, torch.tensor([rv], dtype=torch.float64))
    expected = line(wavelength / doppler_factor(torch.tensor(rv, dtype=torch.float64)))
    assert float((found[0] - expected).abs().max()) < 2e-4
    assert bool(inside.all()) == (rv == 0)
    assert int((~inside).sum()) == pytest.approx(abs(rv) / SPEED_OF_LIGHT * 8580 / 0.1, abs=4)


def test_shift_gradients() -> None:
    wavelength = torch.linspace(5000, 5010, 40, dtype=torch.float64)
    flux = torch.rand(2, 40, dtype=torch.float64, requires_grad=True)
    rv = torch.tensor([3.1, -20.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, v: shift(f, wavelength, v)[0], (flux, rv), atol=1e-6)


def test_cubic_is_exact_for_parabolas_on_any_pixels() -> None:
    x = torch.tensor(np.cumsum(np.random.default_rng(0).uniform(0.2, 2, 30)))
    at = torch.linspace(float(x[0]), float(x[-1]), 97, dtype=torch.float64)
    for coefficients in ((1.0, 0.0, 0.0), (0.3, -2.0, 0.0), (0.3, -2.0, 0.7)):
        values = sum(c * x**power for power, c in enumerate(coefficients))
        expected = sum(c * at**power for power, c in enumerate(coefficients))
        found, inside = cubic(values[None], x, at)
        torch.testing.assert_close(found[0], expected)
        assert bool(inside.all())


def test_cubic_hits_its_pixels_and_holds_the_ends() -> None:
    x = torch.linspace(0, 9, 10, dtype=torch.float64)
    values = torch.rand(3, 10, dtype=torch.float64)
    torch.testing.assert_close(cubic(values, x, x)[0], values)
    found, inside = cubic(values, x, torch.tensor([-5.0, 12.0], dtype=torch.float64))
    torch.testing.assert_close(found, values[:, [0, -1]])
    assert not inside.any()


@pytest.mark.parametrize("power", [5000.0, np.linspace(3000, 9000, 41)])
def test_line_spread_is_the_integral(power) -> None:
    """Against a brute-force integral of a smooth spectrum with a Gaussian in ln(lambda) of FWHM 1/R."""
    source = Grid.log(8400, 8800, 2e-7 * 25, medium="vacuum")
    target = Grid.linear(8500, 8700, 5, medium="vacuum")

    def spectrum(at):
        return 1 - 0.5 * np.exp(-0.5 * ((at - 8600.7) / 1.5) ** 2) + 1e-3 * (at - 8600)

    found = line_spread(source, target, power) @ spectrum(source.vacuum)
    powers = np.broadcast_to(power, len(target))
    for pixel in range(0, len(target), 4):
        centre, sigma = np.log(target.vacuum[pixel]), 1 / (FWHM * powers[pixel])
        expected = quad(
            lambda x, c=centre, s=sigma: np.exp(-0.5 * (x / s) ** 2) * spectrum(np.exp(c + x)),
            -6 * sigma,
            6 * sigma,
            epsabs=1e-14,
            limit=300,
        )[0] / (sigma * np.sqrt(2 * np.pi))
        assert found[pixel] == pytest.approx(expected, abs=3e-6)


def test_line_spread_is_empty_where_it_would_lose_light() -> None:
    source = Grid.log(8400, 8800, 5e-6, medium="vacuum").cut([(8400, 8550), (8600, 8800)])
    target = Grid.linear(8401, 8799, 1, medium="vacuum")
    rows = np.asarray(line_spread(source, target, 2000).sum(axis=1))[:, 0]
    assert set(np.round(rows, 6)) == {0.0, 1.0}
    assert (rows[(target.vacuum > 8545) & (target.vacuum < 8605)] == 0).all()
    assert rows[0] == 0
    with pytest.raises(DraperError, match="positive"):
        line_spread(source, target, 0.0)


def test_operator_carries_errors_as_the_files_do() -> None:
    """The differentiable operator and the one that readers use agree."""
    fine, coarse = Grid.linear(5000, 5100, 0.5, medium="vacuum"), Grid.linear(5010, 5090, 4, medium="vacuum")
    random = np.random.default_rng(0)
    flux = random.normal(1, 0.1, (3, len(fine))).astype(np.float32)
    ivar = np.where(random.random(flux.shape) < 0.2, 0, random.uniform(50, 100, flux.shape)).astype(
        np.float32
    )
    expected = resample_spectra(Spectra(fine, flux, ivar), coarse)
    operator = Operator.from_matrix(averaging(fine, coarse))
    found, weight = operator.with_errors(torch.from_numpy(flux), torch.from_numpy(ivar))
    np.testing.assert_allclose(found.numpy(), expected.flux, rtol=1e-4)
    np.testing.assert_allclose(weight.numpy(), expected.ivar, rtol=1e-4)


def test_operator_gradients() -> None:
    fine, coarse = Grid.linear(5000, 5010, 0.5, medium="vacuum"), Grid.linear(5002, 5008, 2, medium="vacuum")
    operator = Operator.from_matrix(averaging(fine, coarse))
    flux = torch.rand(2, len(fine), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator, (flux,), atol=1e-6)
