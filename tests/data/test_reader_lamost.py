"""LAMOST spectra of early and late releases."""

import numpy as np
import pytest
from astropy.io import fits

from draper.configs.read import ReadConfig
from draper.data import io
from draper.data.parsing.source import Source
from draper.errors import DraperError

PIXELS = 6
FLUX = np.array([10.0, 20, 30, 40, np.nan, 60])
IVAR = np.array([1.0, 4, 0, 4, 4, 4])
AND = np.array([0, 0, 0, 2, 0, 0])
OR = np.ones(PIXELS)
GOOD = [[1, 4, 0, 0, 0, 4]]


def read(path, **hints):
    source = Source(path)
    found = io.recognise(source, hints.pop("format", None))
    assert found.name == "lamost"
    (spectra,) = found.read(source, ReadConfig(**hints))
    return spectra


def header(**cards):
    made = fits.Header({"TELESCOP": "LAMOST", "VACUUM": True, "OBSID": 605006, "RA": 10.5, "DEC": -3.25})
    made.update({"DESIG": "LAMOST J0001+0002", "Z": -9999.0, "SNRG": 71.4, "CLASS": "STAR", "SUBCLASS": "F9"})
    made.update(cards)
    return made


def write_image(path, third="Wavelength", **cards):
    middle = 10 ** (3.6 + 1e-4 * np.arange(PIXELS)) if third == "Wavelength" else np.ones(PIXELS)
    rows = np.array([FLUX, IVAR, middle, AND, OR], dtype=np.float32)
    cards = {"EXTEN0": f"Flux Inverse {third} Andmask Ormask", "COEFF0": 3.6, "COEFF1": 1e-4, **cards}
    fits.PrimaryHDU(rows, header=header(**cards)).writeto(path)


def table(name, start, log=False, mask="ANDMASK"):
    wavelength = start + np.arange(PIXELS)
    axis = ("LOGLAM", np.log10(wavelength)) if log else ("WAVELENGTH", wavelength)
    arrays = {"FLUX": FLUX, "IVAR": IVAR, axis[0]: axis[1], mask: AND, "ORMASK": OR}
    columns = [fits.Column(key, f"{PIXELS}D", array=values[None]) for key, values in arrays.items()]
    return fits.BinTableHDU.from_columns(columns, name=name)


@pytest.mark.parametrize("third", ["Wavelength", "Subcontinuum"])
def test_image(tmp_path, third):
    write_image(tmp_path / "spec-1.fits", third)
    spectra = read(tmp_path / "spec-1.fits")
    np.testing.assert_allclose(spectra.grid.vacuum, 10 ** (3.6 + 1e-4 * np.arange(PIXELS)), rtol=1e-12)
    assert spectra.flux.tolist() == [[10, 20, 30, 40, 0, 60]]
    assert spectra.ivar.tolist() == GOOD  # the or-mask alone makes no pixel bad


def test_facts(tmp_path):
    write_image(tmp_path / "spec-1.fits")
    facts = {name: column[0] for name, column in read(tmp_path / "spec-1.fits").table.items()}
    assert np.isnan(facts.pop("z"))
    assert facts == {
        "id": "spec-1", "obsid": 605006, "designation": "J0001+0002", "ra": 10.5, "dec": -3.25, "snr_g": 71.4,
        "class": "STAR", "subclass": "F9",
    }  # fmt: skip


def test_medium_is_the_header_s_or_the_user_s(tmp_path):
    write_image(tmp_path / "air.fits", VACUUM=False)
    spectra = read(tmp_path / "air.fits")
    np.testing.assert_allclose(spectra.grid.air, 10 ** (3.6 + 1e-4 * np.arange(PIXELS)), rtol=1e-9)
    rows = np.ones((5, PIXELS), dtype=np.float32)
    fits.PrimaryHDU(rows, fits.Header({"TELESCOP": "LAMOST", "COEFF0": 3.6, "COEFF1": 1e-4})).writeto(
        tmp_path / "silent.fits"
    )
    with pytest.raises(DraperError, match="air or vacuum"):
        read(tmp_path / "silent.fits")
    assert read(tmp_path / "silent.fits", medium="vacuum").grid.vacuum[0] == pytest.approx(10**3.6)


def test_table_of_late_releases(tmp_path):
    fits.HDUList([fits.PrimaryHDU(header=header()), table("COADD", 4000.0)]).writeto(tmp_path / "a.fits")
    spectra = read(tmp_path / "a.fits")
    assert spectra.grid.vacuum.tolist() == [4000, 4001, 4002, 4003, 4004, 4005]
    assert spectra.ivar.tolist() == GOOD
    assert spectra.table["obsid"].tolist() == [605006]


def test_arms_of_medium_resolution_become_windows(tmp_path):
    hdus = [
        table("COADD_R", 6300.0, True, "PIXMASK"),
        table("B-1", 1000.0),
        table("COADD_B", 4950.0, True, "PIXMASK"),
    ]
    fits.HDUList([fits.PrimaryHDU(header=header()), *hdus]).writeto(tmp_path / "a.fits")
    spectra = read(tmp_path / "a.fits")
    expected = [*np.arange(4950, 4956), *np.arange(6300, 6306)]
    np.testing.assert_allclose(spectra.grid.vacuum, expected, rtol=1e-12)
    np.testing.assert_allclose(spectra.grid.windows, [(4950, 4955), (6300, 6305)], rtol=1e-12)
    assert spectra.ivar.tolist() == [GOOD[0] * 2]


def test_files_of_others_are_not_claimed(tmp_path):
    rows = np.ones((5, PIXELS), dtype=np.float32)
    fits.PrimaryHDU(rows, fits.Header({"TELESCOP": "SDSS 2.5-M", "COEFF0": 3.6})).writeto(tmp_path / "a.fits")
    fits.PrimaryHDU(np.ones((50, 50)), fits.Header({"TELESCOP": "LAMOST"})).writeto(tmp_path / "b.fits")
    for name in ("a", "b"):
        assert not io.formats()["lamost"].recognises(Source(tmp_path / f"{name}.fits"))


@pytest.mark.parametrize("keep", [2880, 3500, 5760])
def test_truncated_files_end_in_a_clear_error(tmp_path, keep):
    fits.HDUList([fits.PrimaryHDU(header=header()), table("COADD", 4000.0)]).writeto(tmp_path / "a.fits")
    (tmp_path / "b.fits").write_bytes((tmp_path / "a.fits").read_bytes()[:keep])
    with pytest.raises(DraperError):
        read(tmp_path / "b.fits", format="lamost")


def test_real_files(real_data):
    paths = sorted((real_data / "lamost").glob("spec-*.fits"))
    assert len(paths) == 10
    for path in paths:
        spectra = read(path)
        assert spectra.flux.shape == (1, 3904)
        np.testing.assert_allclose(spectra.grid.vacuum[[0, -1]], [10**3.5682, 10**3.9585], rtol=1e-12)
    first = read(paths[0])
    assert first.flux[0, 0] == np.float32(1623.7373)
    assert int((first.ivar == 0).sum()) == 166
    assert first.table["snr_g"][0] == 71.41
    assert first.table["subclass"][0] == "F9"
