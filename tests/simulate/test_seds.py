"""The built-in emulator of spectral energy distributions keeps to its stated error, and to physics."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import zeta

from draper.data import samples
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.simulate.seds import Seds

LARGEST = 5e6
"""Bytes that the weights may take."""

MEDIAN = 0.01
"""Most that the per-spectrum rms of the relative flux of held-out spectra may be."""

STEFAN_BOLTZMANN = 5.670374419e-5
"""erg / (s cm2 K4)."""
SECOND_RADIATION = 1.438776877e8
"""h c / k [Angstrom K]."""


@pytest.fixture(scope="module")
def seds() -> Seds:
    return Seds()


@pytest.fixture(scope="module")
def held_out(seds: Seds) -> Spectra:
    """The spectra of the built-in grid that the emulator was not trained on."""
    grid = samples.load("sed-grid")
    parts = grid.split_rows(*seds.meta["split"]["fractions"], seed=seds.meta["split"]["seed"])
    assert [len(part) for part in parts] == seds.meta["split"]["rows"]
    assert len(parts[2]) >= 0.19 * len(grid)
    return grid[parts[2]]


def sun(**others: float) -> dict[str, list[float]]:
    """Labels of the Sun, some of them replaced."""
    labels = {"teff": 5777.0, "logg": 4.44, "fe_h": 0.0, "alpha_fe": 0.0} | others
    return {name: [value] for name, value in labels.items()}


def below(x: np.ndarray) -> np.ndarray:
    """Return the fraction of a black body's flux at h c / (lambda k T) above x, that is, bluer."""
    n = np.arange(1, 40)[:, None]
    terms = np.exp(-n * x) * (x**3 / n + 3 * x**2 / n**2 + 6 * x / n**3 + 6 / n**4)
    return terms.sum(axis=0) / (6 * zeta(4))


def integrated(spectra: Spectra) -> np.ndarray:
    """Return the flux (n,) in the whole of the grid, erg / (s cm2)."""
    return np.asarray(spectra.flux.astype(np.float64) @ np.diff(spectra.grid.edges)[:, 0])


def test_keeps_to_its_stated_error(seds: Seds, held_out: Spectra) -> None:
    packed = Path(str(files("draper.simulate") / "packed" / "sed-emulator.safetensors"))
    assert packed.stat().st_size < LARGEST
    made = seds.simulate(held_out.table)
    assert made.grid.matches(held_out.grid)
    np.testing.assert_allclose(made.grid.edges, held_out.grid.edges, atol=1e-6)
    assert made.unit == held_out.unit
    error = made.flux.astype(np.float64) / held_out.flux - 1
    rms = np.sqrt(np.mean(error**2, axis=1))
    stated = seds.meta["held_out_error"]
    assert stated["median"] <= MEDIAN
    assert np.median(rms) == pytest.approx(stated["median"], rel=0.01)
    assert np.quantile(rms, 0.99) == pytest.approx(stated["p99"], rel=0.01)
    np.testing.assert_allclose(np.sqrt(np.mean(error**2, axis=0)), seds.uncertainty, rtol=0.02)


def test_carries_its_error(seds: Seds) -> None:
    made = seds.simulate(5, seed=2)
    np.testing.assert_allclose(made.ivar**-0.5 / made.flux, np.tile(seds.uncertainty, (5, 1)), rtol=1e-5)
    assert 1e-4 < seds.uncertainty.min() < seds.uncertainty.max() < 0.03


@pytest.mark.parametrize(
    ("teff", "logg", "fe_h"), [(5777.0, 4.44, 0.0), (4700.0, 2.5, -0.3), (6300.0, 4.1, -1.5)]
)
def test_gives_off_nearly_what_a_black_body_does(seds: Seds, teff: float, logg: float, fe_h: float) -> None:
    # Lines move flux from the blue to the red and mostly stay within the window, so the sum hardly changes.
    ends = seds.grid.edges[[0, -1], [0, 1]]
    blue, red = below(SECOND_RADIATION / (ends * teff))
    expected = (red - blue) * STEFAN_BOLTZMANN * teff**4
    made = seds.simulate(sun(teff=teff, logg=logg, fe_h=fe_h))
    assert integrated(made)[0] == pytest.approx(expected, rel=0.05)


def test_answers_to_labels_as_stars_do(seds: Seds) -> None:
    air = seds.grid.air
    blue, red = (air > 3800) & (air < 4500), (air > 7500) & (air < 9000)

    def ratio(**labels: float) -> float:
        flux = seds.simulate(sun(**labels)).flux[0]
        return float(flux[blue].mean() / flux[red].mean())

    assert ratio(teff=6500.0) > ratio() > ratio(teff=5000.0)
    assert ratio(fe_h=-1.0) > ratio() > ratio(fe_h=0.4)
    hot, cool = seds.simulate(sun(teff=6500.0)).flux[0], seds.simulate(sun(teff=5000.0)).flux[0]
    assert np.all(hot > cool)


def test_flux_has_gradients(seds: Seds) -> None:
    exact = Seds(torch.float64)
    low, high = torch.from_numpy(exact.prior.low), torch.from_numpy(exact.prior.high)
    place = torch.rand(2, len(low), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pixels = torch.arange(5, len(exact.grid), 60)

    def log_flux(scaled: torch.Tensor) -> torch.Tensor:
        return exact.flux(low + scaled * (high - low))[:, pixels].log()

    assert torch.autograd.gradcheck(log_flux, place.requires_grad_(), atol=1e-6)
    labels = (low + place.detach() * (high - low)).requires_grad_()
    seds.flux(labels).sum().backward()
    assert torch.isfinite(labels.grad).all()
    np.testing.assert_allclose(
        seds.flux(labels).detach().numpy(), exact.flux(labels).detach().numpy(), rtol=1e-5
    )


def test_same_seed_same_arrays_however_chunked(seds: Seds) -> None:
    some, more = seds.simulate(300, seed=4), seds.simulate(600, seed=4)
    np.testing.assert_array_equal(some.flux, more.flux[:300])
    given = {name: more.table[name][:300] for name in seds.prior.names}
    np.testing.assert_array_equal(seds.simulate(given).flux, some.flux)


def test_what_the_grid_does_not_cover_is_flagged(seds: Seds) -> None:
    grid = samples.load("sed-grid")
    assert not seds.extrapolates(grid.columns(seds.prior.names)).any()
    drawn = seds.simulate(2000, seed=1)
    assert not drawn.table["extrapolated"].any()
    for name in seds.prior.names:
        assert np.ptp(drawn.column(name)) > 0.95 * np.ptp(grid.column(name)), name
    labels = {
        "teff": [4700, 6500, 6500, 8000],
        "logg": [1.2, 1.2, 2.8, 4],
        "fe_h": [0] * 4,
        "alpha_fe": [0] * 4,
    }
    made = seds.simulate(labels)
    assert made.table["extrapolated"].tolist() == [False, True, True, True]
    assert made.table["outside_box"].tolist() == [False, False, False, True]
    assert np.all(np.isfinite(made.flux) & (made.flux > 0))


def test_missing_labels_are_refused(seds: Seds) -> None:
    with pytest.raises(DraperError, match="fe_h"):
        seds.simulate(sun(fe_h=np.nan))
    labels = sun()
    del labels["alpha_fe"]
    with pytest.raises(DraperError, match="alpha_fe"):
        seds.simulate(labels)
