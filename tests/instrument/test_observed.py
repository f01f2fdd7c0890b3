"""Model spectra as seen: each window on its own, widths that add up, errors that move with their pixels."""

import numpy as np
import pytest
import torch

from draper.data.grid import Grid
from draper.errors import DraperError
from draper.instrument.doppler import SPEED_OF_LIGHT
from draper.instrument.observed import Widths, observed

GRID = Grid.log(5000, 5100, 4e-6, medium="vacuum", resolving_power=50_000)


def line(centres, depth: float = 0.5, sigma: float = 0.15, grid: Grid = GRID) -> torch.Tensor:
    """Return normalised spectra with one Gaussian line each, sigma in Angstrom."""
    shape = np.exp(-0.5 * ((grid.vacuum - np.atleast_1d(centres)[:, None]) / sigma) ** 2)
    return torch.from_numpy(1 - depth * shape).float()


def width(flux: torch.Tensor, grid: Grid) -> float:
    """Return the standard deviation of a line in Angstrom."""
    depth = 1 - flux.double().numpy()
    mean = (depth * grid.vacuum).sum() / depth.sum()
    return float(np.sqrt((depth * (grid.vacuum - mean) ** 2).sum() / depth.sum()))


def test_resolving_power_of_the_model_counts() -> None:
    flux, error = line(5050.0), torch.full((1, len(GRID)), 0.01)
    made, _, _, grid = observed(flux, error, GRID, Widths.of(1, resolving_power=10_000))
    added = (5050 / 2.3548) ** 2 * (1 / 10_000**2 - 1 / 50_000**2)
    assert width(made[0], GRID) == pytest.approx(np.sqrt(0.15**2 + added), rel=2e-3)
    assert grid.resolving_power == 10_000
    for power in (50_000, 1.005 * 50_000, 0.995 * 50_000):  # the same power within its tolerance
        same, _, _, _ = observed(flux, error, GRID, Widths.of(1, resolving_power=power))
        assert torch.equal(same, flux)


def test_target_says_the_resolving_power() -> None:
    target = Grid.linear(5020, 5080, 0.05, medium="vacuum", resolving_power=10_000)
    flux, error = line(5050.0), torch.full((1, len(GRID)), 0.01)
    made, _, reached, grid = observed(flux, error, GRID, Widths.of(1), target)
    expected = np.sqrt(0.15**2 + (5050 / 2.3548) ** 2 * (1 / 10_000**2 - 1 / 50_000**2))
    assert width(made[0], target) == pytest.approx(expected, rel=2e-3)
    assert reached.all()
    assert grid.resolving_power == 10_000


def test_lines_move_star_by_star_and_errors_with_them() -> None:
    rv = np.array([0.0, 250.0, -250.0])
    at = torch.from_numpy(0.01 + 0.05 * np.exp(-0.5 * ((GRID.vacuum - 5050) / 0.5) ** 2)).float()
    made, error, reached, _ = observed(line([5050.0] * 3), at.expand(3, -1), GRID, Widths.of(3, rv=rv))
    factor = np.sqrt((1 + rv / SPEED_OF_LIGHT) / (1 - rv / SPEED_OF_LIGHT))
    np.testing.assert_allclose(
        GRID.vacuum[torch.where(reached, made, 1.0).argmin(1).numpy()], 5050 * factor, atol=0.04
    )
    np.testing.assert_allclose(GRID.vacuum[error.argmax(1).numpy()], 5050 * factor, atol=0.04)
    assert reached[0].all()
    assert not reached[1, GRID.vacuum < 5000 * factor[1]].any()
    assert not reached[2, GRID.vacuum > 5100 * factor[2]].any()


def test_windows_do_not_leak() -> None:
    grid = GRID.cut([(5000, 5030), (5060, 5100)])
    flux, error = line(5059.8, sigma=0.4, grid=grid), torch.full((1, len(grid)), 0.01)
    made, _, reached, _ = observed(flux, error, grid, Widths.of(1, vsini=30.0, rv=-100.0))
    first = grid.vacuum < 5040
    torch.testing.assert_close(
        made[:, first & reached[0].numpy()], torch.ones(1, int((first & reached[0].numpy()).sum()))
    )
    assert not reached[0, first][-35:].any()  # what would come from the gap
    assert made[0, ~first].min() < 0.9


def test_wrong_widths_are_refused() -> None:
    with pytest.raises(DraperError, match="one value, or one for each"):
        Widths.of(3, vsini=[1.0, 2.0])
    with pytest.raises(DraperError, match="not negative"):
        Widths.of(1, vmac=-1.0)
    with pytest.raises(DraperError, match="cannot be sharper"):
        observed(line(5050.0), line(5050.0), GRID, Widths.of(1, resolving_power=60_000))
