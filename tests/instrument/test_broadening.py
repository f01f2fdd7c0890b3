"""Broadening against brute-force integrals in float64, its limits and its gradients."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import erfc

from draper.errors import DraperError
from draper.instrument.broadening import (
    Kernels,
    broaden,
    gaussian,
    radial_tangential,
    reach,
    rotation,
    velocity_step,
)
from draper.instrument.doppler import SPEED_OF_LIGHT
from draper.instrument.resample import FWHM

STEP = 0.8
VELOCITY = STEP * (np.arange(1001) - 500.3)
WIDTH = 3.0
"""km/s; sigma of the line before broadening, nearly four pixels."""


def line(v):
    return 1 - 0.7 * np.exp(-0.5 * (v / WIDTH) ** 2)


FLUX = torch.from_numpy(line(VELOCITY))[None]


def rotational_profile(x: float, epsilon: float) -> float:
    """Gray (2005), eq. 18.14, in units of 1 / vsini."""
    if abs(x) >= 1:
        return 0.0
    return (2 * (1 - epsilon) * np.sqrt(1 - x * x) + np.pi * epsilon / 2 * (1 - x * x)) / (
        np.pi * (1 - epsilon / 3)
    )


def macro_profile(x: float) -> float:
    """Gray's radial-tangential profile, in units of 1 / zeta."""
    return 2 / np.sqrt(np.pi) * (np.exp(-x * x) - np.sqrt(np.pi) * abs(x) * erfc(abs(x)))


def brute(profile, scale: float, at: np.ndarray) -> np.ndarray:
    limit = 1.0 if profile(1.0) == 0 else 6.0

    def one(v: float) -> float:
        points = [v / scale] if abs(v / scale) < limit else None
        return quad(
            lambda x: profile(x) * line(v - scale * x), -limit, limit, points=[0.0, *(points or [])],
            epsabs=1e-11, limit=400,
        )[0]  # fmt: skip

    return np.array([one(v) for v in at])


PICK = slice(380, 620, 12)


@pytest.mark.parametrize("epsilon", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("vsini", [0.5, 4.0, 30.0, 120.0])
def test_rotation_is_the_integral(vsini: float, epsilon: float) -> None:
    found = broaden(FLUX, STEP, vsini=torch.tensor(vsini), limb_darkening=epsilon)[0].numpy()
    expected = brute(lambda x: rotational_profile(x, epsilon), vsini, VELOCITY[PICK])
    np.testing.assert_allclose(found[PICK], expected, atol=2e-7)


@pytest.mark.parametrize("vmac", [0.5, 4.0, 25.0])
def test_macroturbulence_is_the_integral(vmac: float) -> None:
    found = broaden(FLUX, STEP, vmac=torch.tensor(vmac))[0].numpy()
    np.testing.assert_allclose(found[PICK], brute(macro_profile, vmac, VELOCITY[PICK]), atol=2e-7)


@pytest.mark.parametrize("kind", ["lsf", "gaussian macroturbulence"])
def test_gaussians_add_in_quadrature(kind: str) -> None:
    sigma = 7.0
    if kind == "lsf":
        found = broaden(FLUX, STEP, resolving_power=torch.tensor(SPEED_OF_LIGHT / (FWHM * sigma)))
    else:
        found = broaden(FLUX, STEP, vmac=torch.tensor(sigma * 2**0.5), macroturbulence="gaussian")
    total = np.hypot(WIDTH, sigma)
    expected = 1 - 0.7 * WIDTH / total * np.exp(-0.5 * (VELOCITY / total) ** 2)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-7)


def test_all_together_are_one_after_the_other() -> None:
    vsini, vmac, power = torch.tensor(15.0), torch.tensor(6.0), torch.tensor(20_000.0)
    once = broaden(FLUX, STEP, vsini=vsini, vmac=vmac, resolving_power=power)
    steps = broaden(broaden(broaden(FLUX, STEP, vmac=vmac), STEP, vsini=vsini), STEP, resolving_power=power)
    torch.testing.assert_close(once, steps, atol=1e-8, rtol=0)


@pytest.mark.parametrize("vsini", [30.0, 200.0])
def test_nothing_wraps_around(vsini: float) -> None:
    """A line at one end leaves the other end alone, and a flat spectrum stays flat to the ends."""
    flux = torch.ones(1, 300, dtype=torch.float64)
    flux[0, 3:9] = 0.1
    found = broaden(flux, STEP, vsini=torch.tensor(vsini), resolving_power=torch.tensor(5000.0))
    far = reach(STEP, vsini=torch.tensor(vsini), resolving_power=torch.tensor(5000.0))
    assert far < 290 or vsini == 200.0
    assert abs(found[0, min(9 + far, 299) :] - 1).max() < (1e-6 if far < 290 else 0.2)
    assert found[0, 0] < 0.99
    flat = broaden(torch.full((2, 50), 0.7, dtype=torch.float64), STEP, vsini=torch.tensor([1.0, vsini]))
    torch.testing.assert_close(flat, torch.full_like(flat, 0.7))


def test_equivalent_width_is_kept() -> None:
    found = broaden(FLUX, STEP, vsini=torch.tensor(60.0), vmac=torch.tensor(5.0))
    assert float((1 - found).sum()) == pytest.approx(float((1 - FLUX).sum()), rel=1e-8)


def test_no_width_changes_nothing() -> None:
    zero = torch.tensor(0.0)
    torch.testing.assert_close(broaden(FLUX, STEP, vsini=zero, vmac=zero), FLUX)
    assert broaden(FLUX, STEP) is FLUX


def test_each_spectrum_has_its_own_width() -> None:
    vsini = torch.tensor([3.0, 50.0])
    both = broaden(FLUX.expand(2, -1), STEP, vsini=vsini)
    for row in range(2):
        torch.testing.assert_close(
            both[row : row + 1], broaden(FLUX, STEP, vsini=vsini[row]), atol=1e-9, rtol=0
        )


def test_spectra_of_one_star_share_its_width() -> None:
    vsini, power = torch.tensor([3.0, 50.0]), torch.tensor([20_000.0, 9_000.0])
    spectra = torch.stack([FLUX[0], 1 - FLUX[0], FLUX[0].square()]).expand(2, -1, -1)
    together = broaden(spectra, STEP, vsini=vsini, resolving_power=power)
    for number in range(3):
        alone = broaden(spectra[:, number], STEP, vsini=vsini, resolving_power=power)
        torch.testing.assert_close(together[:, number], alone, atol=1e-12, rtol=0)


def test_gradients() -> None:
    flux = FLUX[:, 440:560].clone().requires_grad_()
    widths = [
        torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (12.0, 5.0, 30_000.0)
    ]

    def function(flux, vsini, vmac, power):
        return broaden(flux, STEP, vsini=vsini, vmac=vmac, resolving_power=power)

    assert torch.autograd.gradcheck(function, (flux, *widths), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.01, 1.0])
def test_gradients_near_no_width_are_finite(value: float) -> None:
    width = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    broaden(FLUX, STEP, vsini=width, vmac=width).square().sum().backward()
    assert torch.isfinite(width.grad).all()


def test_works_under_functional_transforms() -> None:
    """The fitter takes forward-mode Jacobians of many stars at once."""

    def one(vsini):
        frequency = torch.linspace(0, 0.6, 50, dtype=torch.float64)
        return rotation(frequency, vsini) * radial_tangential(frequency, vsini) * gaussian(frequency, vsini)

    stars = torch.tensor([2.0, 9.0], dtype=torch.float64)
    found = torch.func.vmap(torch.func.jacfwd(one))(stars)
    step = 1e-6
    expected = torch.stack([(one(v + step) - one(v - step)) / (2 * step) for v in stars])
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)


def test_refusals() -> None:
    with pytest.raises(DraperError, match=r"Grid\.log"):
        velocity_step(torch.linspace(5000, 6000, 100))
    with pytest.raises(DraperError, match="radial-tangential or gaussian"):
        broaden(FLUX, STEP, vmac=torch.tensor(3.0), macroturbulence="isotropic")


def test_the_transpose_is_that_of_the_convolution() -> None:
    random = torch.Generator().manual_seed(3)
    widths = {"vsini": torch.tensor([3.0, 60.0]).double(), "vmac": torch.tensor([9.0, 0.0]).double()}
    kernels = Kernels(80, STEP, {"vsini": torch.tensor(60.0), "vmac": torch.tensor(9.0)})
    transform = kernels.transform(widths)
    unit = torch.eye(80, dtype=torch.float64)
    for row in (0, 1):
        matrix = kernels.convolve(unit, transform[row : row + 1])
        values = torch.randn(1, 80, generator=random, dtype=torch.float64)
        found = kernels.transpose(values, transform[row : row + 1])
        torch.testing.assert_close(found, values @ matrix.T, atol=1e-12, rtol=0)


def test_transforms_in_single_precision_are_exact() -> None:
    frequency, vsini = torch.fft.rfftfreq(4096, d=2.0), torch.tensor([[0.3], [7.0], [200.0]])
    exact = rotation(frequency.double(), vsini.double())
    torch.testing.assert_close(rotation(frequency, vsini).double(), exact, atol=2e-6, rtol=0)
