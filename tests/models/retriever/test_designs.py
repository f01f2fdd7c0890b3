"""Random instruments: what they share, how large their errors are, and that bins average exactly."""

import numpy as np
import pytest
import torch

from draper import Grid
from draper.data.resample import averaging
from draper.models.retriever.designs import (
    GROUP,
    NUMBERS,
    PRESETS,
    WIDEST,
    Design,
    bins_of,
    random_designs,
    sums_between,
)

PIXELS, ERRORS = 362, (3e-6, 1.5e-3)

KNOWN = torch.tensor(
    [
        [[0.0, 1.0], [1.0, 2.5], [float("nan"), float("nan")]],
        [[100.25, 103.0], [103.0, 110.5], [200.0, 201.0]],
    ]
)
"""Two instruments: of two bins, and of three."""


def numbers(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, NUMBERS, generator=generator), torch.rand(
        rows, bins_of(KNOWN), generator=generator
    )


def designs(rows: int, seed: int = 0) -> Design:
    return random_designs(*numbers(rows, seed), KNOWN, PIXELS, ERRORS, GROUP)


def test_every_instrument_has_bins_inside_the_grid() -> None:
    edges, sigma, _ = designs(2000)
    exists = torch.isfinite(sigma)
    assert edges.shape == (2000, bins_of(KNOWN), 2)
    assert exists.any(1).all()
    assert torch.isfinite(edges).all()
    low, high = edges[exists].unbind(1)
    assert low.min() >= 0
    assert high.max() <= PIXELS + 1e-3
    widths = high - low
    assert widths.min() > 0
    assert widths.max() <= WIDEST
    assert (sigma > 0).all()


def test_rows_of_a_group_share_bins_but_not_errors() -> None:
    edges, sigma, _ = designs(1003)
    for first in range(0, 1003, GROUP):
        assert (edges[first : first + GROUP] == edges[first]).all()
    different = [not torch.equal(edges[n], edges[n + GROUP]) for n in range(0, 900, GROUP)]
    assert np.mean(different) > 0.6  # two known instruments are met again
    assert not torch.equal(sigma[0], sigma[1])


def test_bins_need_not_be_shared() -> None:
    uniform, kept = numbers(64)
    edges, sigma, group = random_designs(uniform, kept, KNOWN, PIXELS, ERRORS, 1)
    assert group == 1
    assert np.mean([not torch.equal(edges[n], edges[n + 1]) for n in range(63)]) > 0.6
    alone = random_designs(uniform[9:10], kept[9:10], KNOWN, PIXELS, ERRORS, 1)
    assert torch.equal(alone.edges, edges[9:10])
    assert torch.equal(alone.sigma, sigma[9:10])


def test_a_design_follows_from_the_numbers_of_its_group() -> None:
    uniform, kept = numbers(64)
    whole = random_designs(uniform, kept, KNOWN, PIXELS, ERRORS, GROUP)
    part = random_designs(uniform[16:40], kept[16:40], KNOWN, PIXELS, ERRORS, GROUP)
    assert torch.equal(part.edges, whole.edges[16:40])
    assert torch.equal(part.sigma, whole.sigma[16:40])


def test_errors_are_log_uniform_with_a_slope_and_jumps() -> None:
    uniform, kept = numbers(4000)
    uniform[:, 2] = 0.5  # no slope
    uniform[:, 3] = 0.0  # the first known instrument
    edges, sigma, _ = random_designs(uniform, torch.zeros_like(kept), KNOWN, PIXELS, ERRORS, GROUP)
    assert torch.equal(edges[:, :2], KNOWN[0, :2].expand(4000, -1, -1))
    assert torch.isfinite(sigma).sum(1).eq(2).all()
    expected = ERRORS[0] * (ERRORS[1] / ERRORS[0]) ** uniform[:, 0]
    torch.testing.assert_close(sigma[:, :2], expected[:, None].expand(-1, 2))
    # With a slope, the ends of a spectrograph deviate in opposite directions.
    uniform, kept = numbers(4000)
    edges, sigma, _ = random_designs(uniform, torch.zeros_like(kept), KNOWN, PIXELS, ERRORS, GROUP)
    second = (uniform[::GROUP, 3].repeat_interleave(GROUP) * 2 / PRESETS).long() == 1
    ratio = (sigma[second, 2] / sigma[second, 0]).log()
    assert abs(float(ratio.mean())) < 0.02
    assert 0.15 < float(ratio.std()) < 0.3  # 0.4 x 2 x (200 - 100.25) / 362


def test_half_of_the_instruments_are_known_and_some_lack_bins() -> None:
    edges, sigma, _ = designs(80_000)
    known = [(edges[::GROUP, :3] == KNOWN.nan_to_num()[n]).all(2).all(1) for n in range(2)]
    shares = [float(which.float().mean()) for which in known]
    assert shares == pytest.approx([PRESETS / 2] * 2, abs=0.02)
    rows = known[1].repeat_interleave(GROUP)
    whole = torch.isfinite(sigma[rows][:, :3]).all(1)
    # 60 % keep all; of the others, a share of 0.15 to 1 of each bin is kept: mean of its cube 0.3.
    assert float(whole.float().mean()) == pytest.approx(0.6 + 0.4 * (1 - 0.15**4) / 4 / 0.85, abs=0.02)


@pytest.mark.parametrize("shared", [True, False])
def test_sums_over_fractional_bins_are_those_of_the_averaging_matrix(shared: bool) -> None:
    rng = np.random.default_rng(0)
    ends = np.geomspace(5000, 9000, 41)
    fine = Grid.from_wavelength(
        (ends[1:] + ends[:-1]) / 2, unit="angstrom", medium="vacuum", edges=np.stack([ends[:-1], ends[1:]], 1)
    )
    places = np.sort(rng.uniform(0, 40, 12))
    places[3], places[11] = 17.0, 40.0
    wanted = np.interp(places, np.arange(41), ends)
    target = Grid.from_wavelength(
        (wanted[1:] + wanted[:-1]) / 2,
        unit="angstrom",
        medium="vacuum",
        edges=np.stack([wanted[:-1], wanted[1:]], 1),
    )
    flux = rng.normal(size=(1 if shared else 3, 40, 2))
    cumulative = np.concatenate([np.zeros((len(flux), 1, 2)), (flux * np.diff(ends)[:, None]).cumsum(1)], 1)
    edges = torch.from_numpy(np.stack([places[:-1], places[1:]], 1)).expand(3, -1, -1)
    sums = sums_between(torch.from_numpy(cumulative), edges).numpy()
    means = sums / np.diff(wanted)[:, None]
    expected = np.stack([averaging(fine, target) @ spectrum for spectrum in flux])
    np.testing.assert_allclose(means, np.broadcast_to(expected, means.shape), rtol=1e-9, atol=1e-12)
