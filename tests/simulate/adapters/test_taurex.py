import importlib
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from draper.errors import DraperError
from draper.simulate import planet_units, planets, transit
from draper.simulate.adapters.planet_tables import planet_tables
from draper.simulate.adapters.run import compute
from draper.simulate.adapters.taurex import CrossSections, TaurexPlanets, bin_means


def with_taurex(test):
    """Mark a test that needs TauREx, which is not ours to keep free of warnings."""
    absent = find_spec("taurex") is None
    skipped = pytest.mark.skipif(absent, reason="TauREx is not installed (draper[taurex])")
    return pytest.mark.filterwarnings("default")(skipped(test))


WAVENUMBER = np.geomspace(1e4 / 16.5, 1e4 / 0.42, 3000)
TEMPERATURE = np.array([500.0, 1500.0, 2500.0])
PRESSURE = np.geomspace(1e-6, 1e7, 14)
LABELS = {
    "planet_mass": 1.2,
    "temperature": 1400.0,
    "planet_radius": 1.1,
    "log_h2o": -3.0,
    "log_co2": -5.0,
    "log_ch4": -4.0,
    "log_co": -6.0,
}


def grey(value: float) -> CrossSections:
    shape = (len(PRESSURE), len(TEMPERATURE), len(WAVENUMBER))
    return CrossSections(WAVENUMBER, TEMPERATURE, PRESSURE, np.full(shape, value))


def greys() -> dict[str, CrossSections]:
    return {"h2o": grey(1e-21), "co2": grey(3e-21), "ch4": grey(1e-23), "co": grey(1e-24)}


def grey_depth(cloud_top: float = planet_units.BOTTOM) -> float:
    """Return the depth of a grey isothermal planet, integrated numerically along each ray."""
    boltzmann, gravity, atomic_mass = 1.380649e-23, 6.6743e-11, 1.6605390666e-27
    fractions = {gas: 10 ** LABELS[f"log_{gas}"] for gas in planet_units.GASES}
    fill = 1 - sum(fractions.values())
    hydrogen = fill / (1 + planet_units.HELIUM_RATIO)
    weights = dict(zip(planet_units.GASES, transit.MOLECULAR_MASSES, strict=True))
    mean = sum(fractions[gas] * weights[gas] for gas in fractions)
    mean += hydrogen * transit.HYDROGEN_MASS + (fill - hydrogen) * transit.HELIUM_MASS
    base, mass = (
        LABELS["planet_radius"] * planet_units.JUPITER_RADIUS,
        LABELS["planet_mass"] * planet_units.JUPITER_MASS,
    )
    steepness = gravity * mass * mean * atomic_mass / (boltzmann * LABELS["temperature"])
    sigma = 1e-4 * sum(fractions[gas] * table.values[0, 0, 0] for gas, table in greys().items())

    def density(r: float) -> float:
        return (
            planet_units.BOTTOM * np.exp(steepness * (1 / r - 1 / base)) / (boltzmann * LABELS["temperature"])
        )

    deck = 1 / (1 / base + np.log(cloud_top / planet_units.BOTTOM) / steepness)
    radii = np.linspace(deck, base * 1.25, 1500)
    along = [2 * quad(lambda s, b=b: density(np.hypot(b, s)), 0, base, limit=200)[0] for b in radii]
    area = deck**2 + np.trapezoid(2 * radii * -np.expm1(-sigma * np.array(along)), radii)
    return float(area / planet_units.SUN_RADIUS**2)


def test_labels_and_bins_are_those_of_our_planets() -> None:
    adapter = TaurexPlanets(greys(), instrument="jwst-nirspec-prism")
    ours = planets.Planets("jwst-nirspec-prism", clouds=True)
    assert (*adapter.needed, *adapter.optional) == ours.prior.names
    assert adapter.grid().matches(ours.grid)
    np.testing.assert_array_equal(adapter.grid().edges, ours.grid.edges)
    np.testing.assert_allclose(TaurexPlanets(greys()).grid().vacuum, planets.Planets().grid.vacuum)


def test_bin_means_are_exact_for_straight_lines() -> None:
    wavelength = np.array([1.0, 1.3, 2.0])
    edges = np.array([[1.0, 1.1], [1.25, 1.9]])
    np.testing.assert_allclose(bin_means(wavelength, 2 * wavelength - 1, edges), edges.sum(1) - 1)
    with pytest.raises(DraperError, match="do not cover the bins"):
        bin_means(wavelength, wavelength, np.array([[0.9, 1.1]]))


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="opacities is not a folder"):
        TaurexPlanets(tmp_path / "nowhere")
    with pytest.raises(DraperError, match="opacities are missing"):
        TaurexPlanets({"h2o": grey(1.0)})
    with pytest.raises(DraperError, match="unknown instrument"):
        TaurexPlanets(greys(), instrument="hubble")


@pytest.mark.skipif(find_spec("taurex") is not None, reason="TauREx is installed")
def test_the_error_names_what_to_install() -> None:
    with pytest.raises(DraperError, match=r"pip install 'draper\[taurex\]'"):
        compute(TaurexPlanets(greys()), {name: [value] for name, value in LABELS.items()})


@with_taurex
def test_a_grey_planet_is_that_of_the_integral() -> None:
    adapter = TaurexPlanets(greys(), instrument="hst-wfc3-g141", layers=200, rayleigh=False)
    depth = adapter.spectrum(LABELS)
    assert np.ptp(depth) < 1e-12
    assert depth[0] == pytest.approx(grey_depth(), abs=3e-7)
    cloudy = adapter.spectrum(LABELS | {"log_cloud_top": -5.0})
    assert cloudy[0] > depth[0] + 1e-4
    # A deck begins at one of the layers, which are an eighth of a scale height apart.
    assert cloudy[0] == pytest.approx(grey_depth(cloud_top=1.0), abs=1e-5)


@with_taurex
def test_agrees_with_our_chords_on_our_opacities_without_saturation() -> None:
    ours = planets.opacities(torch.float64)
    centre = ours.wavelength.numpy()
    tables = planet_tables(ours, TEMPERATURE, PRESSURE)
    edges = planets.native_edges()[20:-20]
    adapter = TaurexPlanets(tables, edges=edges, rayleigh=False, layers=200)
    plain = ours._replace(
        collisions=torch.full_like(ours.collisions, -100.0) * torch.tensor([[1.0], [0.0], [0.0]]),
        saturation=torch.full_like(ours.saturation, -100.0) * torch.tensor([[1.0], [0.0]]),
    )
    # Temperatures of the tables, so that nothing is interpolated between them.
    values = torch.tensor([list((LABELS | {"temperature": 1500.0}).values())], dtype=torch.float64)
    rays = transit.chords(values, transit.log_pressures(), exact_weight=True)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    terms = transit.pressure_terms(transit.log_pressures(), *ours[-3:])
    strength = transit.polynomial(plain.strength, zero[..., None]).exp()
    saturation = transit.polynomial(plain.saturation, zero[..., None]).exp()
    nothing = torch.zeros(1, len(centre), dtype=torch.float64)
    depth = transit.disc_depth(rays, nothing, nothing, strength, saturation, terms)[0].numpy()
    theirs = adapter.spectrum(LABELS | {"temperature": 1500.0})
    order = np.argsort(centre)
    points = bin_means(centre[order], depth[order], edges)
    assert np.sqrt(np.mean((theirs - points) ** 2)) < 1e-6


@with_taurex
def test_agrees_over_the_wide_box(monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "scripts")
    check = importlib.import_module("check_planets")
    known = np.array([[*planet, *check.GAS] for planet in check.KNOWN.values()])
    labels = np.concatenate([check.draw(6, 0), known[:4]])
    assert transit.is_bound(torch.from_numpy(labels), exact_weight=True).all()
    expected, (found, thin) = check.theirs(labels, check.tables()), check.ours(labels)
    rms = np.sqrt(np.mean((found - expected) ** 2, axis=1))
    assert (rms / np.ptp(expected, axis=1) < 2e-3).all()
    assert np.median(rms) < 3e-6
    assert thin.mean() > 0.9
    assert np.abs(found - expected)[thin].max() < 5e-3 * np.ptp(expected, axis=1).max()


@with_taurex
def test_a_folder_of_files_is_the_same_as_arrays(tmp_path: Path) -> None:
    tables = greys()
    for gas, table in tables.items():
        with h5py.File(tmp_path / f"{gas}.h5", "w") as file:
            file["bin_edges"], file["t"], file["p"] = (
                table.wavenumber,
                table.temperature,
                table.pressure / 1e5,
            )
            file["p"].attrs["units"] = "bar"
            file["xsecarr"] = table.values
            file["mol_name"] = [gas.upper()]
            file["key_iso_ll"] = "made"
            file["DOI"] = ["none"]
    labels = {name: [value, value] for name, value in LABELS.items()} | {"temperature": [1400.0, 1100.0]}
    from_files = compute(TaurexPlanets(tmp_path, instrument="hst-wfc3-g141"), labels, workers=2)
    from_arrays = compute(TaurexPlanets(tables, instrument="hst-wfc3-g141"), labels, workers=1)
    np.testing.assert_allclose(from_files.spectra.flux, from_arrays.spectra.flux, rtol=1e-6)
    assert from_files.spectra.quantity == "transit depth"
    assert from_files.spectra.flux[0, 0] > from_files.spectra.flux[1, 0]  # hotter is larger
    (tmp_path / "co.h5").unlink()
    with pytest.raises(DraperError, match="TauREx finds no opacities"):
        compute(TaurexPlanets(tmp_path), labels, workers=1)
