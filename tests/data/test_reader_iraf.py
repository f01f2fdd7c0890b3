"""Spectra as FITS images with a wavelength axis."""

import numpy as np
import pytest
from astropy.io import fits

from draper.configs.read import ReadConfig
from draper.data import io
from draper.data.parsing.source import Source
from draper.errors import DraperError

P = 5
FLUX = np.array([1.0, 2, np.nan, 4, 5])
LINEAR = {"CRVAL1": 5000.0, "CDELT1": 2.0, "CUNIT1": "Angstrom", "CTYPE1": "WAVE"}
EXPECTED = 5000 + 2.0 * np.arange(P)


def write(path, data=FLUX, extensions=(), **cards):
    header = fits.Header({key.replace("_", "-") if key == "DC_FLAG" else key: v for key, v in cards.items()})
    fits.HDUList([fits.PrimaryHDU(data, header), *extensions]).writeto(path / "star.fits")
    return path / "star.fits"


def batches(path, **hints):
    source = Source(path)
    found = io.recognise(source, hints.pop("format", None))
    assert found.name == "iraf"
    return list(found.read(source, ReadConfig(**hints)))


def one(path, **hints):
    (spectra,) = batches(path, **hints)
    return spectra


def recognised(path):
    return io.formats()["iraf"].recognises(Source(path))


def test_linear_in_vacuum_without_errors(tmp_path):
    spectra = one(write(tmp_path, **LINEAR, BUNIT="Relative Flux"))
    assert spectra.grid.vacuum.tolist() == EXPECTED.tolist()
    assert spectra.flux.tolist() == [[1, 2, 0, 4, 5]]
    assert spectra.ivar.tolist() == [[1, 1, 0, 1, 1]]
    assert (spectra.quantity, spectra.unit, spectra.ids[0]) == ("flux", "", "star")
    assert spectra.meta["bunit"] == "Relative Flux"


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"CRVAL1": 5000.0, "CD1_1": 2.0}, EXPECTED),
        ({"CRVAL1": 5004.0, "CDELT1": 2.0, "CRPIX1": 3.0}, EXPECTED),
        ({"CRVAL1": 5008.0, "CDELT1": -2.0}, EXPECTED),
        ({"CRVAL1": 3.6, "CDELT1": 1e-4, "DC_FLAG": 1}, 10 ** (3.6 + 1e-4 * np.arange(P))),
        ({"CRVAL1": 3.6, "CD1_1": 1e-4, "CTYPE1": "LOG-LINEAR"}, 10 ** (3.6 + 1e-4 * np.arange(P))),
        ({"CRVAL1": 5000.0, "CDELT1": 2.0, "CTYPE1": "WAVE-LOG"}, 5000 * np.exp(2 * np.arange(P) / 5000)),
    ],
)
def test_axes(tmp_path, cards, expected):
    spectra = one(write(tmp_path, **cards), unit="angstrom", medium="vacuum")
    np.testing.assert_allclose(spectra.grid.vacuum, expected, rtol=1e-12)
    assert spectra.flux[0, [0, -1]].tolist() == ([5, 1] if cards.get("CDELT1") == -2 else [1, 5])


@pytest.mark.parametrize(
    ("cards", "medium"),
    [
        ({"CTYPE1": "AWAV", "CUNIT1": "nm"}, "air"),
        ({"CTYPE1": "AWAV-LOG", "CUNIT1": "nm"}, "air"),
        ({"CTYPE1": "WAVE", "CUNIT1": "nm"}, "vacuum"),
        ({"VACUUM": True, "CUNIT1": "nm"}, "vacuum"),
        ({"VACUUM": False, "CUNIT1": "nm"}, "air"),
        ({"AIRORVAC": "vac", "CUNIT1": "nm"}, "vacuum"),
        ({"VACUUM": False, "WAT1_001": "wtype=linear label=Wavelength units=nanometers"}, "air"),
    ],
)
def test_declared_unit_and_medium(tmp_path, cards, medium):
    spectra = one(write(tmp_path, CRVAL1=500.0, CDELT1=0.2, **cards))
    assert spectra.grid.to("nm", medium)[0] == pytest.approx(500, rel=1e-10)


def test_what_is_not_declared_is_asked_for(tmp_path):
    path = write(tmp_path, CRVAL1=5000.0, CDELT1=2.0, CTYPE1="ANGSTROM")
    with pytest.raises(DraperError, match="air or vacuum"):
        batches(path)
    assert one(path, medium="air").grid.air[0] == pytest.approx(5000, rel=1e-10)
    silent = tmp_path / "other"
    silent.mkdir()
    with pytest.raises(DraperError, match="unit of its wavelengths"):
        batches(write(silent, CRVAL1=5000.0, CDELT1=2.0), medium="air")


@pytest.mark.parametrize(("name", "values"), [("ERRS", 0.5), ("IVAR", 4.0)])
def test_errors_and_flags_in_extensions(tmp_path, name, values):
    given = np.array([values, 0, values, values, values])
    quality = np.array([0, 0, 0, 1, 0])
    extensions = [fits.ImageHDU(given, name=name), fits.ImageHDU(quality, name="QUAL")]
    assert one(write(tmp_path, extensions=extensions, **LINEAR)).ivar.tolist() == [[4, 0, 0, 0, 4]]


def test_physical_fluxes_keep_their_errors_in_single_precision(tmp_path):
    extensions = [fits.ImageHDU(np.full(P, 1e-22), name="ERRS")]
    path = write(tmp_path, np.full(P, 1e-20), extensions, **LINEAR, BUNIT="erg/s/cm2/Angstrom")
    spectra = one(path)
    assert spectra.unit == "1e-17 erg / (s cm2 Angstrom)"
    np.testing.assert_allclose(spectra.flux, 1e-3, rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar, 1e10, rtol=1e-6)


def test_rows_that_the_header_names(tmp_path):
    data = np.array([FLUX, np.full(P, 0.5), np.full(P, 0.1)])
    cards = {"ARRAY1": "NORMALISED FLUX", "ARRAY2": "NORMALISED ERROR", "ARRAY3": "EXPECTED ERROR"}
    assert one(write(tmp_path, data, **LINEAR, **cards)).ivar.tolist() == [[4, 4, 0, 4, 4]]


def test_rows_that_nobody_names_are_asked_for(tmp_path):
    path = write(tmp_path, np.array([np.full(P, 0.5), FLUX]), **LINEAR)
    with pytest.raises(DraperError, match="does not declare what they hold"):
        batches(path)
    spectra = one(path, flux_column="1", error_column="0")
    assert spectra.flux.tolist() == [[1, 2, 0, 4, 5]]
    assert spectra.ivar.tolist() == [[4, 4, 0, 4, 4]]
    with pytest.raises(DraperError, match="no such row"):
        batches(path, flux_column="2", error_column="0")


def test_bands_of_iraf(tmp_path):
    data = np.array([FLUX, np.zeros(P), np.zeros(P), np.full(P, 0.5)])[:, None, :]
    cards = {"BANDID1": "spectrum - background none", "BANDID4": "sigma - background none", "APNUM1": "1 1"}
    assert one(write(tmp_path, data, **LINEAR, **cards)).ivar.tolist() == [[4, 4, 0, 4, 4]]


def test_apertures_that_share_an_axis(tmp_path):
    path = write(tmp_path, np.array([FLUX, FLUX + 1]), **LINEAR, APNUM1="1 1 0 0", APNUM2="2 2 0 0")
    spectra = one(path)
    assert spectra.ids.tolist() == ["star-1", "star-2"]
    assert spectra.flux[:, 0].tolist() == [1, 2]


def multispec(*specs):
    text = "wtype=multispec " + " ".join(f'spec{k + 1} = "{spec}"' for k, spec in enumerate(specs))
    return {"CTYPE1": "MULTISPE", "WAT1_001": "wtype=multispec label=Wavelength units=angstroms"} | {
        f"WAT2_{k // 68 + 1:03d}": text[k : k + 68] for k in range(0, len(text), 68)
    }


def test_orders_of_an_echelle(tmp_path):
    cards = multispec(
        "1 50 0 5000. 2. 5 0. 1. 2.",  # linear
        "2 49 1 3.7 0.0001 5 0. 1. 2.",  # log-linear
        "3 48 0 6000. 1. 4 0.5 1. 2.",  # linear, four valid pixels, redshift 0.5
        "4 47 2 0. 0. 5 0. 1. 2. 1. 0. 1 3 1. 5. 7000. 10. 1.",  # Chebyshev
        "5 46 2 0. 0. 5 0. 1. 2. 1. 0. 2 3 1. 5. 7000. 10. 1.",  # Legendre
    )
    found = batches(write(tmp_path, np.tile(np.arange(1.0, 6), (5, 1)), **cards), medium="vacuum")
    x = np.linspace(-1, 1, 5)
    expected = [
        EXPECTED,
        10 ** (3.7 + 1e-4 * np.arange(5)),
        (6000 + np.arange(4)) / 1.5,
        7000 + 10 * x + (2 * x**2 - 1),
        7000 + 10 * x + (1.5 * x**2 - 0.5),
    ]
    assert [part.ids[0] for part in found] == [f"star-{k}" for k in range(1, 6)]
    for part, wavelength in zip(found, expected, strict=True):
        np.testing.assert_allclose(part.grid.vacuum, wavelength, rtol=1e-12)
        assert part.flux.tolist() == [list(range(1, len(wavelength) + 1))]


@pytest.mark.parametrize(
    "spec", ["1 1 2 0 0 5 0 1 2 1 0 3 3 1 5 7 1 1", "1 1 0 x 1 5 0 1 2", "1 1", "1 1 -1 0 0 0 0"]
)
def test_dispersions_that_cannot_be_read(tmp_path, spec):
    with pytest.raises(DraperError, match="dispersion of row 1"):
        batches(write(tmp_path, **multispec(spec)), medium="air")


def test_facts_of_the_header(tmp_path):
    cards = {
        "OBJECT": "HD 1",
        "RA": "01:02:03",
        "DEC": -5.5,
        "SNR": 80.0,
        "SPEC_RES": 48000.0,
        "CONTNORM": True,
    }
    spectra = one(write(tmp_path, **LINEAR, **cards))
    assert {name: column[0] for name, column in spectra.table.items()} == {
        "id": "star",
        "object": "HD 1",
        "dec": -5.5,
        "snr": 80.0,
    }
    assert spectra.grid.resolving_power == 48000
    assert spectra.quantity == "normalised flux"


@pytest.mark.parametrize(
    ("shape", "cards"),
    [
        ((20, 20), {"CTYPE1": "RA---TAN", "CRVAL1": 10.0, "CDELT1": 0.1}),
        ((20, 20), LINEAR),  # a picture of the slit
        ((5,), {"CTYPE1": "FREQ", "CRVAL1": 1e9, "CDELT1": 1e6}),
        ((5,), {"CRVAL1": 5000.0}),
        ((5,), {"CRVAL1": "5000", "CDELT1": 2.0}),
        ((5,), {}),
    ],
)
def test_other_images_are_not_claimed(tmp_path, shape, cards):
    assert not recognised(write(tmp_path, np.ones(shape), **cards))


@pytest.mark.parametrize(
    "cards", [{"CRVAL1": 400.0, "CDELT1": 100.0, "DC_FLAG": 1}, {"CRVAL1": -9.0, "CDELT1": 1.0}]
)
def test_impossible_wavelengths(tmp_path, cards):
    with pytest.raises(DraperError):
        batches(write(tmp_path, **cards), unit="angstrom", medium="air")


def test_truncated_files_end_in_a_clear_error(tmp_path):
    path = write(tmp_path, np.ones(5000), **LINEAR)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DraperError):
        batches(path)


# ------------------------------------------------------------------ real files

REAL = [
    ("harps/HARPS.GBOG_Procyon.fits", {}, 200000, 4800.0, 0.01, 1.0570866),
    ("harps/HARPS.GBOG_alfTau.fits", {}, 200000, 4800.0, 0.01, 0.01205073),
    ("harps/Sun_HARPS.fits", {"medium": "air"}, 313025, 3783.14390541065, 0.00999979886290158, 0.39241996),
    ("harps/sun01_harps.fits", {"medium": "air"}, 313198, 3780.45, 0.01, 0.98813224),
    ("mike_hd122563/hd122563.fits", {"unit": "angstrom", "medium": "air"}, 174892, 3400.028141407062,
     0.0329575953701351, 1.07720395),
]  # fmt: skip


@pytest.mark.parametrize(("name", "hints", "pixels", "start", "step", "first"), REAL)
def test_real_files(real_data, name, hints, pixels, start, step, first):
    spectra = one(real_data / name, **hints)
    assert spectra.flux.shape == (1, pixels)
    assert spectra.flux[0, 0] == pytest.approx(first, rel=1e-6)
    np.testing.assert_allclose(spectra.grid.air[[0, -1]], [start, start + step * (pixels - 1)], rtol=1e-9)


@pytest.mark.parametrize(("name", "hints"), [row[:2] for row in REAL if row[1]])
def test_real_files_that_do_not_declare_their_medium(real_data, name, hints):
    with pytest.raises(DraperError, match="does not declare"):
        batches(real_data / name)


def test_real_facts(real_data):
    facts = one(real_data / "harps" / "Sun_HARPS.fits", medium="air").table
    assert (facts["object"][0], facts["ra"][0], facts["exptime"][0]) == ("Ganymede", 258.725708, 299.9959)


def test_real_apogee_grid(real_data):
    source = Source(real_data / "apogee_atlas" / "apg_rvsynthgrid.fits")
    found = io.recognise(source)
    assert found.name == "apogee-grid"
    (spectra,) = found.read(source, ReadConfig())
    assert spectra.flux.shape == (96, 10796)
    assert spectra.quantity == "normalised flux"
    np.testing.assert_allclose(spectra.grid.air[0], 10**4.17871759122, rtol=1e-10)
    assert [spectra.table[name][0] for name in ("teff", "logg", "fe_h")] == [3500, 2, -2]
