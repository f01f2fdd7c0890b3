"""Observed stars: resolution, velocity, noise and label errors, the same however they are chunked."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.doppler import doppler_factor
from draper.instrument.resample import cubic, line_spread
from draper.simulate.base import Simulator
from draper.simulate.planets import Planets
from draper.simulate.population import ALPHA
from draper.simulate.stars import Stars
from draper.simulate.survey import PRESETS, Survey, even_cubic
from draper.simulate.xp import LowResolution

STARS = Stars()
SUN = {"teff": 5777.0, "logg": 4.44, "fe_h": 0.0, "vmic": 1.05, "ni_fe": 0.0, **dict.fromkeys(ALPHA, 0.0)}


@pytest.fixture(scope="module")
def observed() -> Spectra:
    return Survey("gaia-rvs-800", stars=STARS).simulate(600, seed=3)


def labels(n: int = 1, **changed: float) -> dict[str, np.ndarray]:
    return {name: np.full(n, changed.get(name, value)) for name, value in SUN.items()}


def test_ideal_spectra_are_the_convolved_ones() -> None:
    """Against the convolution of the full spectrum, done in one step onto the survey's pixels."""
    survey = Survey("ideal", stars=STARS)
    found = survey.simulate(labels()).flux[0]
    full = STARS.simulate(labels()).flux[0].astype(np.float64)
    expected = line_spread(STARS.grid, survey.grid, 11_500) @ full
    assert np.abs(found - expected).max() < 3e-4
    assert np.sqrt(np.mean((found - expected) ** 2)) < 4e-5


def test_even_cubic_is_the_cubic_on_even_pixels() -> None:
    random = torch.Generator().manual_seed(0)
    flux = torch.rand(3, 40, generator=random, dtype=torch.float64)
    at = 1 + 37 * torch.rand(3, 100, generator=random, dtype=torch.float64)
    expected, _ = cubic(flux, torch.arange(40, dtype=torch.float64), at)
    torch.testing.assert_close(even_cubic(flux, at), expected)
    beyond = torch.tensor([[-5.0, 0.5, 1.0, 38.0, 38.5, 60.0]], dtype=torch.float64).expand(3, -1)
    torch.testing.assert_close(even_cubic(flux, beyond), flux[:, [1, 1, 1, 38, 38, 38]])
    places = at[:, :10].clone().requires_grad_()
    assert torch.autograd.gradcheck(even_cubic, (flux.requires_grad_(), places))


@pytest.mark.parametrize("rv", [-90.0, 40.0])
def test_velocities_move_lines(rv: float) -> None:
    survey = Survey("ideal", stars=STARS)
    values = torch.tensor([[SUN[name] for name in STARS.prior.names]], dtype=torch.float64)
    rest, moved = (survey.flux(values, torch.tensor([v], dtype=torch.float64))[0].numpy() for v in (0.0, rv))
    factor = float(doppler_factor(torch.tensor(rv, dtype=torch.float64)))
    wavelength = survey.grid.vacuum
    inside = slice(200, -200)
    expected = CubicSpline(wavelength, rest)(wavelength / factor)
    assert np.abs(moved - expected)[inside].max() < 3e-4


def test_noise_is_as_stated(observed: Spectra) -> None:
    clean = Survey("ideal", stars=STARS)
    values = torch.from_numpy(
        observed.columns([f"{n}_true" if f"{n}_true" in observed.table else n for n in STARS.prior.names])
    )
    rest = Survey("gaia-rvs-800", stars=STARS).flux(values, torch.tensor(observed.table["rv"])).numpy()
    assert clean.grid.resolving_power == 11_500
    good = np.asarray(observed.ivar) > 0
    # high-pass, so that the smooth error of the continuum does not count
    residual = (observed.flux - rest) * np.sqrt(observed.ivar)
    pull = (residual[:, 1:] - residual[:, :-1])[good[:, 1:] & good[:, :-1]] / np.sqrt(2)
    assert pull.std() == pytest.approx(1, abs=0.02)
    assert (~good).mean() == pytest.approx(0.002, rel=0.15)


def test_snr_falls_with_magnitude(observed: Spectra) -> None:
    table = observed.table
    assert table["magnitude"].min() > 8
    assert table["magnitude"].max() < 14
    slope, start = np.polyfit(table["magnitude"] - 8, np.log(table["snr"]), 1)
    width = np.median(observed.grid.step) / 0.3
    assert np.exp(start) / np.sqrt(width) == pytest.approx(200, rel=1e-3)
    assert np.exp(start + 6 * slope) / np.sqrt(width) == pytest.approx(15, rel=1e-3)


def test_labels_are_published_with_their_errors(observed: Spectra) -> None:
    for name, sigma in PRESETS["gaia-rvs"].label_errors.items():
        error = observed.table[name] - observed.table[f"{name}_true"]
        assert error.std() == pytest.approx(sigma, rel=0.1)
        assert set(observed.table[f"{name}_err"]) == {sigma}
    mean = np.mean([observed.table[name] for name in ALPHA], axis=0)
    np.testing.assert_allclose(mean, observed.table["alpha_fe_true"], atol=1e-12)


def test_chunks_and_seeds() -> None:
    survey = Survey("gaia-rvs-800", stars=STARS)
    whole, part = survey.simulate(300, seed=1), survey.simulate(270, seed=1)
    assert np.array_equal(whole.flux[:270], part.flux)
    assert np.array_equal(whole.ivar[:270], part.ivar)
    assert all(np.array_equal(whole.table[name][:270], part.table[name]) for name in whole.table)
    assert not np.array_equal(survey.simulate(5, seed=2).flux, part.flux[:5])


def test_rotation_widens_lines() -> None:
    slow, fast = (Survey("ideal", stars=STARS, vsini=vsini).simulate(labels()) for vsini in (None, 40.0))
    assert fast.flux.min() > slow.flux.min() + 0.05
    middle = slice(300, -300)
    assert float((1 - fast.flux[0, middle]).sum()) == pytest.approx(
        float((1 - slow.flux[0, middle]).sum()), rel=0.03
    )


def test_labels_that_no_grid_star_has_are_flagged() -> None:
    """A hot star of low gravity lies in the box, and beyond the grid."""
    survey = Survey("ideal", stars=STARS)
    assert not survey.simulate(labels()).table["extrapolated"].any()
    odd = survey.simulate(labels(teff=6500.0, logg=1.0)).table
    assert odd["extrapolated"].all()
    assert not odd["outside_box"].any()


def test_snr_can_be_chosen() -> None:
    observed = Survey("gaia-rvs-800", stars=STARS, snr=(20.0, 80.0)).simulate(300, seed=0)
    assert 20 <= observed.table["snr"].min() < 25
    assert 70 < observed.table["snr"].max() <= 80


def test_populations_differ() -> None:
    galaxy, box = (Survey("gaia-rvs-800", stars=STARS, population=p).simulate(200) for p in ("galaxy", "box"))
    assert np.std(box.table["fe_h_true"]) > 1.5 * np.std(galaxy.table["fe_h_true"])
    assert STARS.prior.inside(
        np.stack([galaxy.table.get(f"{n}_true", galaxy.table[n]) for n in STARS.prior.names], 1)
    ).all()


def test_refusals() -> None:
    with pytest.raises(DraperError, match="did you mean 'gaia-rvs'"):
        Survey("gaia-rv")
    with pytest.raises(DraperError, match="galaxy or box"):
        Survey(population="cluster", stars=STARS)
    with pytest.raises(DraperError, match="no column 'logg'"):
        Survey(stars=STARS).simulate({name: value for name, value in labels().items() if name != "logg"})


@pytest.mark.parametrize("simulator", [Survey, LowResolution, Planets])
@pytest.mark.parametrize(
    "snr", [(0, 10), (-5, 10), (200, 20), (20, np.inf), (np.nan, 10), (50,), 50, ("a", "b")]
)
def test_ranges_of_ratios_are_checked_by_every_simulator(simulator: type[Simulator], snr: object) -> None:
    with pytest.raises(DraperError, match="no range of ratios"):
        simulator(snr=snr)  # type: ignore[call-arg]


def test_widths_cannot_be_negative() -> None:
    with pytest.raises(DraperError, match="vsini cannot be negative"):
        Survey(vsini=-1.0)
    with pytest.raises(DraperError, match="vmac cannot be negative"):
        Survey(vmac=np.nan)


def test_columns_must_have_one_length_and_seeds_be_positive() -> None:
    with pytest.raises(DraperError, match="differ in length"):
        Survey("ideal").simulate(labels(2) | {"teff": np.array([5000.0, 5100.0, 5200.0])})
    with pytest.raises(DraperError, match="seed"):
        Survey("ideal").simulate(labels(2), seed=-1)
