"""Bounds on errors: against closed forms, and against the scatter of fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.table import Table
from made import LABELS, Made, network, wavelength

from draper import Grid
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.models.emulator.model import Emulator
from draper.nn.emulator import EmulatorNetwork

GRID = Grid.from_wavelength(wavelength(), medium="vacuum")
STAR: dict[str, Any] = {"teff": 5600.0, "logg": 2.1, "fe_h": -0.5}
SPAN = LABELS.high - LABELS.low


def emulator(made: Made, grid: Grid = GRID) -> Emulator:
    """Return an emulator with the weights of a made network."""
    sizes = [layer.out_features for layer in made.layers]
    own = EmulatorNetwork(3, len(grid), sizes, made.activation)
    own.load_state_dict(made.state_dict(), strict=False)
    return Emulator.from_network(own, grid, LABELS)


@pytest.fixture(scope="module")
def model() -> Emulator:
    return emulator(network())


def linear() -> tuple[Emulator, np.ndarray]:
    """Return an emulator that is linear in its labels, and its derivatives (p, 3) per physical unit."""
    made = Made(3, len(GRID), (6,), "leaky_relu")
    slopes = torch.randn(len(GRID), 3, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.no_grad():
        # Far above zero the activation is the identity.
        made.layers[0].weight.copy_(torch.eye(6, 3))
        made.layers[0].bias.fill_(10.0)
        made.last.weight.zero_()
        made.last.weight[:, :3] = slopes
        made.last.bias.copy_(1 - 10 * slopes.sum(1))
    return emulator(made), slopes.double().numpy() / SPAN


def test_a_linear_emulator_has_a_closed_form() -> None:
    model, slopes = linear()
    ivar = np.linspace(100, 9000, len(GRID))
    ivar[100:150] = 0
    found = model.information(STAR, ivar=ivar, rv=0.0)
    fisher = slopes.T @ (ivar[:, None] * slopes)
    np.testing.assert_allclose(found.covariance[0], np.linalg.inv(fisher), rtol=1e-4)
    np.testing.assert_allclose(found.conditional[0], np.diag(fisher) ** -0.5, rtol=1e-4)
    np.testing.assert_allclose(found.gradients[0], slopes, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found.pixels[0], ivar[:, None] * slopes**2, rtol=1e-3, atol=1e-12)
    told = model.information(STAR, ivar=ivar, rv=0.0, priors={"logg": (2.1, 0.002)})
    fisher[1, 1] += 0.002**-2
    np.testing.assert_allclose(told.covariance[0], np.linalg.inv(fisher), rtol=1e-4)
    u = np.linspace(-1, 1, len(GRID))
    basis = model.generate(STAR).flux[0][:, None] * np.stack([u**0, u, u**2], axis=1)
    whole = np.concatenate([slopes * SPAN, basis], axis=1)
    lost = np.linalg.inv(whole.T @ (ivar[:, None] * whole))[:3, :3] * SPAN * SPAN[:, None]
    free = model.information(STAR, ivar=ivar, rv=0.0, continuum=2)
    # The Chebyshev polynomials run over vacuum wavelength, which here is nearly even in its logarithm.
    np.testing.assert_allclose(free.bound[0], np.diag(lost) ** 0.5, rtol=1e-3)


def test_errors_of_the_emulator_count() -> None:
    model, slopes = linear()
    modes = 0.01 * torch.sin(torch.arange(len(GRID)) / torch.tensor([[40.0], [90.0]]))
    model.network.modes = modes
    model.network.uncertainty = (0.005**2 + modes.square().sum(0)).sqrt()
    wrong = modes.double().numpy()
    noise = np.diag(np.full(len(GRID), 1 / 300**2 + 0.005**2)) + wrong.T @ wrong
    found = model.information(STAR, snr=300, rv=0.0)
    fisher = slopes.T @ np.linalg.solve(noise, slopes)
    np.testing.assert_allclose(found.covariance[0], np.linalg.inv(fisher), rtol=1e-3)
    # Held-out spectra near the star had larger errors, and those of both modes went together.
    each = np.random.default_rng(0).normal(size=(200, 2)) @ [[2.0, 1.5], [0.0, 0.7]]
    model.network.held_out, model.network.amplitudes = torch.zeros(200, 3), torch.from_numpy(each).float()
    model.network.error_width = torch.ones(3)
    near = (200 * each.T @ each / 200 + 30 * np.eye(2)) / 230
    fisher = slopes.T @ np.linalg.solve(noise + wrong.T @ (near - np.eye(2)) @ wrong, slopes)
    found = model.information(STAR, snr=300, rv=0.0)
    np.testing.assert_allclose(found.covariance[0], np.linalg.inv(fisher), rtol=1e-3)
    bare = model.information(STAR, snr=300, rv=0.0, emulator_error=False)
    np.testing.assert_allclose(bare.conditional[0], np.diag(300**2 * slopes.T @ slopes) ** -0.5, rtol=1e-4)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"continuum": 2},
        {"rv": 0.0, "windows": ((8500.0, 8700.0),)},
        {"grid": Grid.linear(8460, 8690, 0.4, medium="vacuum", resolving_power=9000), "rv": 0.0},
    ],
    ids=["velocity", "continuum", "window", "spectrograph"],
)
def test_fits_scatter_as_much_as_the_bound_says(model: Emulator, case: dict[str, Any]) -> None:
    grid, options = case.get("grid", GRID), {name: one for name, one in case.items() if name != "grid"}
    bound = model.information(STAR, snr=200, grid=grid, **options)
    random = np.random.default_rng(2)
    noisy = bound.flux + random.normal(0, 1 / 200, (300, len(grid)))
    mocks = Spectra(grid, noisy.astype(np.float32), np.full(noisy.shape, 4e4, dtype=np.float32))
    fitted = model.predict(mocks, **options)
    assert fitted.labels == bound.labels
    ratio = fitted.median.std(axis=0) / bound.bound[0]
    assert ratio == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(np.median(fitted.sigma, axis=0), bound.bound[0], rtol=0.02)


def test_the_bound_follows_the_noise(model: Emulator) -> None:
    found = model.information(STAR, snr=[25, 100, 400])
    np.testing.assert_allclose(
        found.bound * np.array([[25], [100], [400]]), found.bound[[1] * 3] * 100, rtol=1e-4
    )
    assert found.names == ("teff", "logg", "fe_h", "rv")
    assert (found.conditional <= found.bound).all()
    np.testing.assert_allclose(np.einsum("nii->ni", found.correlation), 1)


def test_less_is_known_of_less(model: Emulator) -> None:
    def bound(**options: Any) -> np.ndarray:
        return model.information(STAR, snr=100, **options).bound[0]

    sharp, middle, dull = (bound(resolving_power=power) for power in (20_000, 8000, 3000))
    assert (sharp < middle).all()
    assert (middle < dull).all()
    assert (bound(continuum=3) > bound()).all()
    assert (bound()[:3] > bound(rv=0.0)).all()
    assert (bound(priors={"teff": (5600, 1.0)}) < bound()).all()
    assert (bound(masked=((8500, 8600),)) > bound()).all()
    assert (bound(fixed={"logg": 2.1}) < bound()[[0, 2, 3]]).all()
    assert bound(jitter=0.01) == pytest.approx(bound() * 2**0.5, rel=1e-4)


def test_stars_may_move_and_turn(model: Emulator) -> None:
    at_rest = model.information(STAR, snr=100)
    moved = model.information({**STAR, "rv": 90.0}, snr=100)
    assert moved["rv"] == pytest.approx(at_rest["rv"], rel=0.05)
    assert not moved.ivar[0, :5].any()
    lines = [flux[0].argmin() for flux in (at_rest.flux, moved.flux)]
    assert np.diff(GRID.vacuum[lines]) == pytest.approx(GRID.vacuum[lines[0]] * 90 / 299792.458, abs=0.3)
    free = model.information({**STAR, "vsini": 30.0}, snr=100, vsini="free")
    known = model.information({**STAR, "vsini": 30.0}, snr=100)
    same = model.information(STAR, snr=100, vsini=30.0)
    assert free.names[-1] == "vsini"
    assert free.values[0, -1] == 30
    np.testing.assert_allclose(known.bound, same.bound)
    assert (free.bound[0, :4] > known.bound[0]).all()
    assert (known.bound > at_rest.bound).all()


def test_windows_sum_to_the_whole(model: Emulator) -> None:
    found = model.information(STAR, snr=100, rv=0.0)
    edges = np.linspace(GRID.vacuum[0] - 1e-3, GRID.vacuum[-1] + 1e-3, 8)
    parts = found.windows(zip(edges[:-1], edges[1:] - 1e-9, strict=True))
    assert parts.shape == (1, 7, 3)
    np.testing.assert_allclose(parts.sum(axis=1), found.conditional**-2.0, rtol=1e-4)
    assert found.windows([]).shape == (1, 0, 3)
    # Pixels of the data and of the emulator need not be the same: sums agree as well as the curvature does.
    other = model.information(STAR, snr=100, grid=Grid.linear(8460, 8690, 0.21, medium="vacuum"))
    np.testing.assert_allclose(other.pixels.sum(axis=1), other.conditional**-2.0, rtol=0.02)


def test_what_can_be_measured(model: Emulator) -> None:
    found = model.information(STAR, snr=[2, 1000])
    able = found.measurable()
    assert set(able) == {"teff", "logg", "fe_h", "rv"}
    assert [one.tolist() for one in able.values()] == [[False, True]] * 4
    assert found.measurable({"teff": float(found["teff"][0]) * 1.01})["teff"].all()
    with pytest.raises(DraperError, match="did you mean 'logg'"):
        found.measurable({"logq": 0.1})


def test_the_table_has_units(model: Emulator, tmp_path: Path) -> None:
    found = model.information({**STAR, "teff": [5600.0, 9000.0]}, snr=100)
    table = Table.read(found.write(tmp_path / "bounds.ecsv"))
    assert str(table["teff_bound"].unit) == "K"
    np.testing.assert_allclose(table["logg_bound"], found["logg"])
    assert table["outside"].tolist() == [False, True]
    assert "2 stars" in repr(found)


def test_errors_say_what_to_do(model: Emulator) -> None:
    sharp = emulator(network(), replace(GRID, resolving_power=12_000.0))
    for call, text in (
        (lambda: model.information(STAR), "noise follows from snr or"),
        (
            lambda: model.information(STAR, snr=1, ivar=np.ones(900)),
            "the noise follows from snr or from ivar",
        ),
        (lambda: model.information(STAR, snr=-1), "must be positive"),
        (lambda: model.information(STAR, ivar=np.ones(7)), "one value for each pixel"),
        (lambda: model.information({"teff": 5000.0}, snr=9), "not given: logg, fe_h"),
        (lambda: model.information(STAR, snr=9, vsini="free"), "vsini is free"),
        (lambda: model.information({**STAR, "vsini": [1.0, 2.0]}, snr=9), "vsini differs"),
        (lambda: sharp.information(STAR, snr=9, resolving_power=50_000), "cannot be sharper"),
        (
            lambda: model.information(STAR, snr=9, grid=Grid.linear(5000, 5100, 1, medium="air")),
            "do not overlap",
        ),
    ):
        with pytest.raises(DraperError, match=text):
            call()


def test_nothing_is_known_without_pixels(model: Emulator) -> None:
    found = model.information(STAR, ivar=np.zeros(len(GRID)))
    assert np.isnan(found.bound).all()
    assert not any(able.any() for able in found.measurable().values())
