"""The built-in emulator of RVS spectra keeps to its stated error, and to its seed."""

import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

import draper
from draper.data import samples
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.simulate.stars import Stars

LARGEST = 11e6
"""Bytes that the weights may take."""

MEDIAN, P99 = 3e-4, 2.5e-3
"""Most that the per-spectrum rms of unseen spectra may be at the resolution of RVS, by cross-validation."""


@pytest.fixture(scope="module")
def stars() -> Stars:
    return Stars()


def rms(error: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(error.astype(np.float64) ** 2, axis=1))


def middle(stars: Stars, rows: int) -> dict[str, np.ndarray]:
    """Labels of stars around the middle of the box."""
    place = np.random.default_rng(3).uniform(0.3, 0.7, (rows, len(stars.prior)))
    return dict(zip(stars.prior.names, stars.prior.unscale(place).T, strict=True))


def test_weights_are_small_and_described(stars: Stars) -> None:
    packed = Path(str(files("draper.models") / "packed" / "rvs-emulator" / "weights.safetensors"))
    assert packed.stat().st_size < LARGEST
    assert stars.meta["licence"] == "BSD-3-Clause"
    assert "Turbospectrum" in stars.meta["trained_on"]["computed_with"]
    stated = stars.meta["held_out_error"]["all"]
    assert stated["spectra"] == len(samples.load("rvs-grid"))
    assert 0 < stated["smoothed median"] <= MEDIAN
    assert 0 < stated["smoothed p99"] <= P99


def test_leave_one_out_errors_are_near_those_of_cross_validation(stars: Stars) -> None:
    """They have a closed form, and a training spectrum more; the warp has seen all spectra."""
    network = stars.network
    parts = []
    for kernel, _ in network.parts():
        own = kernel.inverse(kernel.points).diagonal()
        parts.append(kernel.weights / own[:, None])
    error = (torch.cat(parts, dim=1) @ network.basis.double()).numpy()
    stated = stars.meta["held_out_error"]["all"]["native median"]
    assert 0.7 * stated < np.median(rms(error)) < stated


def test_is_the_emulator_that_fits_use(stars: Stars) -> None:
    emulator = draper.load("builtin:rvs-emulator")
    labels = middle(stars, 5)
    np.testing.assert_allclose(stars.simulate(labels).flux, emulator.generate(labels).flux, atol=2e-6)


def test_agrees_with_the_built_in_grid(stars: Stars) -> None:
    grid = samples.load("rvs-grid")
    made = stars.simulate(grid.table)
    np.testing.assert_array_equal(made.column("teff"), grid.column("teff"))
    assert not made.table["outside_box"].any()
    # It nearly passes through the spectra that it was trained on.
    assert np.median(rms(made.flux - grid.flux)) < 0.5 * stars.meta["held_out_error"]["all"]["native median"]


def test_carries_its_error(stars: Stars) -> None:
    made = stars.simulate(2)
    np.testing.assert_allclose(made.ivar, np.tile(stars.uncertainty**-2.0, (2, 1)), rtol=1e-5)
    assert 1e-5 < stars.uncertainty.min() < stars.uncertainty.max() < 0.02


def test_same_seed_same_arrays_however_chunked(stars: Stars) -> None:
    some, more = stars.simulate(300, seed=4), stars.simulate(600, seed=4)
    np.testing.assert_array_equal(some.flux, more.flux[:300])
    np.testing.assert_array_equal(some.columns(stars.prior.names), more[:300].columns(stars.prior.names))
    assert not np.array_equal(some.flux, stars.simulate(300, seed=5).flux)
    given = {name: more.table[name] for name in stars.prior.names}
    parts = [stars.simulate({k: v[rows] for k, v in given.items()}) for rows in (slice(300), slice(300, 600))]
    np.testing.assert_array_equal(Spectra.concat(parts).flux, more.flux)


def test_out_of_box_is_flagged(stars: Stars) -> None:
    labels = middle(stars, 3)
    labels["teff"][1] = 7400.0
    made = stars.simulate(labels)
    assert made.table["outside_box"].tolist() == [False, True, False]
    assert np.isfinite(made.flux).all()


def test_what_the_grid_does_not_cover_is_flagged(stars: Stars) -> None:
    grid = samples.load("rvs-grid")
    assert not stars.extrapolates(grid.columns(stars.prior.names)).any()
    drawn = stars.simulate(2000, seed=1)
    assert not drawn.table["extrapolated"].any()
    assert not drawn.table["outside_box"].any()
    for name in stars.prior.names:
        assert np.ptp(drawn.column(name)) > 0.9 * np.ptp(grid.column(name)), name
    labels = middle(stars, 4)
    labels["logg"][:2] = 1.0
    labels["teff"][:2] = 4500.0, 6500.0
    labels["mg_fe"][2], labels["ca_fe"][2] = -0.2, 0.6
    assert stars.simulate(labels).table["extrapolated"][:3].tolist() == [False, True, True]


def test_missing_labels_are_refused(stars: Stars) -> None:
    labels = middle(stars, 3)
    labels["mg_fe"][2] = np.nan
    with pytest.raises(DraperError, match="mg_fe"):
        stars.simulate(labels)
    del labels["mg_fe"]
    with pytest.raises(DraperError, match="mg_fe"):
        stars.simulate(labels)


def test_is_differentiable() -> None:
    stars = Stars(torch.float64)
    low, high = torch.from_numpy(stars.prior.low), torch.from_numpy(stars.prior.high)
    place = torch.rand(2, len(low), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pixels = torch.arange(50, len(stars.grid), 700)

    def flux(scaled: torch.Tensor) -> torch.Tensor:
        return stars.flux(low + scaled * (high - low))[:, pixels]

    assert torch.autograd.gradcheck(flux, place.requires_grad_(), atol=1e-6)


def test_gradients_are_finite_at_the_sun() -> None:
    stars = Stars(torch.float64)
    sun = torch.zeros(1, len(stars.prior), dtype=torch.float64)
    sun[0, :3] = torch.tensor([5777.0, 4.44, 0.0])
    assert stars.prior.names[:2] == ("teff", "logg")
    sun[0, stars.prior.names.index("vmic")] = 1.0
    gradient = torch.func.jacfwd(lambda labels: stars.flux(labels)[0, ::500])(sun)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax(dim=0) > 0).all()


def test_single_precision_is_enough(stars: Stars) -> None:
    labels = torch.from_numpy(samples.load("rvs-grid")[:300].columns(stars.prior.names))
    exact = Stars(torch.float64).flux(labels).numpy()
    assert np.abs(stars.flux(labels).numpy() - exact).max() < 2e-6


def test_lines_answer_to_labels(stars: Stars) -> None:
    labels = {name: np.repeat(values, 2) for name, values in middle(stars, 1).items()}
    labels["ca_fe"] = np.array([0.0, 0.3])
    poor, rich = stars.simulate(labels).flux
    wing = np.abs(np.abs(stars.grid.air - 8542.09) - 2) < 0.5
    assert np.mean(rich[wing]) < np.mean(poor[wing]) - 0.005
    far = (stars.grid.air > 8700) & (stars.grid.air < 8705)
    assert abs(np.mean(rich[far]) - np.mean(poor[far])) < 0.001


def test_streams_in_blocks(stars: Stars) -> None:
    start = time.perf_counter()
    sizes = [len(block) for block in stars.stream(600)]
    assert sizes == [256, 256, 88]
    assert time.perf_counter() - start < 5
