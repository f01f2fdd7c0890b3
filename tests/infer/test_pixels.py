"""Places among the model's pixels: computed where these are even, searched elsewhere, and the same."""

from typing import Any

import pytest
import torch

from draper.infer.pixels import Layout, PixelProblem

COUNT = 3001
STEPS = {
    "even": torch.full((COUNT - 1,), 0.1),
    "even in the logarithm": 0.1 * torch.exp(1.2e-5 * torch.arange(COUNT - 1)),
    "drifting": torch.linspace(0.099998, 0.100002, COUNT - 1),
    "uneven": 0.1 + 0.02 * torch.sin(torch.arange(COUNT - 1) / 50),
}


@pytest.mark.parametrize("kind", STEPS)
def test_left_and_nearest_pixels_are_those_of_a_search(kind: str) -> None:
    wavelength = 8400 + torch.cat([torch.zeros(1), STEPS[kind]]).double().cumsum(0)
    observed = torch.linspace(8410, 8680, 1777, dtype=torch.float64)
    empty, rows = torch.zeros(1, len(observed)), torch.zeros(1).long()
    flux_of: Any = None  # is not asked
    problem = PixelProblem(flux_of, wavelength, observed, empty, empty, Layout(2, rv=True))
    assert problem.linear == (kind == "even")
    rv = torch.tensor([12.3], dtype=torch.float64)
    factor = problem._doppler(rv, rows)
    place = observed / factor
    expected = torch.searchsorted(wavelength, place, right=True) - 1
    assert torch.equal(problem._left_pixel(place, factor), expected)
    distance = (place[0, :, None] - wavelength).abs()
    found = distance.gather(1, problem._nearest_pixel(rv, rows).T)[:, 0]
    torch.testing.assert_close(found, distance.min(1).values, rtol=0, atol=1e-6)
