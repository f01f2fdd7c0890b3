"""Places of data among the model's pixels: beside a search, the cubic interpolation, and autograd."""

import pytest
import torch

from draper.infer.places import Pixels, SamePlaces
from draper.instrument.doppler import doppler_factor, shift

COUNT = 3001
STEPS = {
    "even": torch.full((COUNT - 1,), 0.1),
    "even in the logarithm": 0.1 * torch.exp(0.1 / 8400 * torch.arange(COUNT - 1)),
    "drifting": torch.linspace(0.099998, 0.100002, COUNT - 1),
    "nearly even": torch.full((COUNT - 1,), 0.1) + 1e-6 * torch.sin(torch.arange(COUNT - 1) / 9),
    "uneven": 0.1 + 0.02 * torch.sin(torch.arange(COUNT - 1) / 50),
}
OBSERVED = torch.linspace(8410, 8680, 1777, dtype=torch.float64)
RV = torch.tensor([12.3, -40.0], dtype=torch.float64)


def wavelengths(kind: str) -> torch.Tensor:
    if kind == "even in the logarithm":
        return 8400 * torch.exp(1.2e-5 * torch.arange(COUNT).double())
    return 8400 + torch.cat([torch.zeros(1), STEPS[kind]]).double().cumsum(0)


@pytest.mark.parametrize("kind", STEPS)
def test_places_are_those_of_a_search(kind: str) -> None:
    wavelength = wavelengths(kind)
    pixels = Pixels(wavelength)
    assert pixels.is_even == kind.startswith("even")
    places = pixels.places(OBSERVED, RV)
    place = OBSERVED / doppler_factor(RV)[:, None]
    left = torch.searchsorted(wavelength, place, right=True) - 1
    expected = left + (place - wavelength[left]) / (wavelength[left + 1] - wavelength[left])
    # Within a pixel, places in the logarithm differ from those in wavelength by an eighth of its step.
    torch.testing.assert_close(places.left + places.share.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", STEPS)
def test_values_derivatives_and_transpose(kind: str) -> None:
    wavelength = wavelengths(kind)
    places = Pixels(wavelength).places(OBSERVED, RV)
    random = torch.Generator().manual_seed(1)
    flux = 1 - 0.5 * torch.rand(2, COUNT, generator=random)
    value, slope = places.interpolate(flux)
    expected, inside = shift(flux.double(), wavelength, RV, OBSERVED)
    assert inside.all()
    torch.testing.assert_close(value.double(), expected, rtol=0, atol=5e-6)

    moved = RV.clone().requires_grad_()
    gradient = torch.autograd.grad(
        shift(flux.double(), wavelength, moved, OBSERVED)[0][:, 500], moved, torch.ones(2).double()
    )
    torch.testing.assert_close(slope[:, 500].double(), gradient[0], rtol=1e-4, atol=1e-7)

    given = torch.randn(2, len(OBSERVED), generator=random)
    back = places.transpose(given)
    torch.testing.assert_close((value * given).sum(1), (flux * back).sum(1), rtol=1e-4, atol=1e-3)
    ends = places.transpose(torch.ones(2, len(OBSERVED)))
    torch.testing.assert_close(ends.sum(1), torch.full((2,), float(len(OBSERVED))), rtol=1e-5, atol=0)


def test_the_transpose_holds_at_the_ends() -> None:
    for kind in ("even", "uneven"):
        pixels = Pixels(wavelengths(kind)[:7])
        places = pixels.places(torch.linspace(8399.9, 8400.8, 40).double(), RV[:1])
        unit = torch.eye(7)
        matrix = torch.stack([places.interpolate(row[None])[0][0] for row in unit])
        back = torch.stack([places.transpose(row[None])[0] for row in torch.eye(40)])
        torch.testing.assert_close(matrix, back.T, rtol=0, atol=1e-5)


def test_weights_are_kept_and_nearest_pixels_are_near() -> None:
    wavelength = wavelengths("uneven")
    places = Pixels(wavelength).places(OBSERVED, RV)
    weights = torch.rand(2, len(OBSERVED))
    torch.testing.assert_close(places.spread(weights).sum(1), weights.sum(1))
    distance = (OBSERVED / doppler_factor(RV)[:, None])[..., None] - wavelength
    found = distance.abs().gather(2, places.nearest[..., None])[..., 0]
    torch.testing.assert_close(found, distance.abs().min(2).values, rtol=0, atol=1e-6)


def test_the_same_pixels_need_no_interpolation() -> None:
    places = SamePlaces(Pixels(wavelengths("even")))
    flux = torch.rand(2, COUNT)
    assert places.interpolate(flux)[0] is flux
    assert places.transpose(flux) is flux
    assert places.spread(flux) is flux
    assert places.nearest.tolist() == [list(range(COUNT))]
