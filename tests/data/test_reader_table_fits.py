"""FITS tables with columns of wavelength and flux."""

import numpy as np
import pytest
from astropy.io import fits

from draper.configs.read import ReadConfig
from draper.data import io
from draper.data.parsing.source import Source
from draper.errors import DraperError

WAVE = np.array([5000.0, 5001, 5003, 5006])
FLUX = np.array([1.0, 2, np.nan, 4])
ERR = np.array([0.5, 0.5, 0.5, 0])
IVAR = [4.0, 4, 0, 0]


def write(path, columns, units=None, header=None, table_cards=None, arrays=False):
    made = []
    for name, values in columns.items():
        values = np.asarray(values)
        values = values[None] if arrays and values.ndim == 1 and values.dtype.kind == "f" else values
        width = values.shape[1] if values.ndim == 2 else 1
        code = {"f": "D", "i": "K", "b": "L"}.get(values.dtype.kind) or f"{values.dtype.itemsize // 4}A"
        form = f"{width}{code}" if values.dtype.kind in "fib" else code
        made.append(fits.Column(name, form, unit=(units or {}).get(name), array=values))
    table = fits.BinTableHDU.from_columns(made)
    table.header.update(table_cards or {})
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(header or {})), table]).writeto(path / "star.fits")
    return path / "star.fits"


def batches(path, **hints):
    source = Source(path)
    found = io.recognise(source, hints.pop("format", None))
    assert found.name == "table-fits"
    return list(found.read(source, ReadConfig(**hints)))


def one(path, **hints):
    (spectra,) = batches(path, **hints)
    return spectra


HINTS = {"unit": "angstrom", "medium": "vacuum"}


@pytest.mark.parametrize("wave", ["wave", "waveobs", "WAVELENGTH", "lambda", "wl", "Wave"])
@pytest.mark.parametrize("flux", ["flux", "FLUX", "flux_norm"])
@pytest.mark.parametrize("error", ["err", "error", "sigma", "flux_err", "ERR_FLUX"])
def test_names(tmp_path, wave, flux, error):
    spectra = one(write(tmp_path, {wave: WAVE, flux: FLUX, error: ERR}), **HINTS)
    assert spectra.grid.vacuum.tolist() == WAVE.tolist()
    assert spectra.flux.tolist() == [[1, 2, 0, 4]]
    assert spectra.ivar.tolist() == [IVAR]
    assert spectra.quantity == ("normalised flux" if flux == "flux_norm" else "flux")


@pytest.mark.parametrize("name", ["mask", "QUAL", "and_mask"])
def test_weights_and_flags(tmp_path, name):
    flags = np.array([0, 1, 0, 0])
    path = write(tmp_path, {"wave": WAVE, "flux": FLUX, "ivar": np.array([4.0, 4, 4, -1]), name: flags})
    assert one(path, **HINTS).ivar.tolist() == [[4, 0, 0, 0]]


def test_no_errors_at_all(tmp_path):
    assert one(write(tmp_path, {"wave": WAVE, "flux": FLUX}), **HINTS).ivar.tolist() == [[1, 1, 0, 1]]


def test_pixels_are_put_in_order_and_padding_is_dropped(tmp_path):
    path = write(tmp_path, {"wave": [5003.0, 5001, 0, np.nan, 5000], "flux": [3.0, 2, 9, 9, 1]})
    spectra = one(path, **HINTS)
    assert spectra.grid.vacuum.tolist() == [5000, 5001, 5003]
    assert spectra.flux.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("name", ["loglam", "LOG_LAMBDA", "log_wave"])
def test_logarithms(tmp_path, name):
    path = write(tmp_path, {name: np.log10(WAVE), "flux": FLUX})
    np.testing.assert_allclose(one(path, **HINTS).grid.vacuum, WAVE, rtol=1e-12)


def test_loglam_is_sdss_s_name_for_vacuum_angstrom(tmp_path):
    path = write(tmp_path, {"loglam": np.log10(WAVE), "flux": FLUX})
    np.testing.assert_allclose(one(path).grid.vacuum, WAVE, rtol=1e-12)


def eso(tmp_path, ucd, origin="ESO"):
    return write(
        tmp_path,
        {"WAVE": WAVE / 10, "FLUX": FLUX * 1e-16, "ERR": ERR * 1e-16, "SNR": ERR},
        units={"WAVE": "nm", "FLUX": "erg cm**(-2) s**(-1) angstrom**(-1)"},
        header={"ORIGIN": origin, "OBJECT": "HD 1", "SPEC_RES": 40000.0, "PRODCATG": "SCIENCE.SPECTRUM"},
        table_cards={"TUCD1": ucd},
        arrays=True,
    )


@pytest.mark.parametrize(("ucd", "medium"), [("em.wl", "vacuum"), ("em.wl;obs.atmos", "air")])
def test_eso_phase_3(tmp_path, ucd, medium):
    spectra = one(eso(tmp_path, ucd))
    np.testing.assert_allclose(spectra.grid.to("angstrom", medium), WAVE, rtol=1e-10)
    assert spectra.grid.resolving_power == 40000
    assert spectra.unit == "1e-17 erg / (s cm2 Angstrom)"
    np.testing.assert_allclose(spectra.flux, [[10, 20, 0, 40]], rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar, [[0.04, 0.04, 0, 0]], rtol=1e-6)
    assert spectra.table["object"].tolist() == ["HD 1"]


def test_a_plain_ucd_of_other_archives_declares_no_medium(tmp_path):
    with pytest.raises(DraperError, match="air or vacuum"):
        batches(eso(tmp_path, "em.wl", origin="elsewhere"))


def test_unit_and_medium_are_asked_for(tmp_path):
    path = write(tmp_path, {"wave": WAVE, "flux": FLUX})
    with pytest.raises(DraperError, match="unit of its wavelengths"):
        batches(path, medium="air")
    with pytest.raises(DraperError, match="air or vacuum"):
        batches(path, unit="angstrom")


def test_rows_of_arrays_on_one_grid(tmp_path):
    flux = np.array([FLUX, FLUX + 1])
    columns = {"wavelength": np.array([WAVE, WAVE]), "flux": flux, "teff": np.array([5000.0, 6000.0])}
    spectra = one(write(tmp_path, columns), **HINTS)
    assert spectra.ids.tolist() == ["star-1", "star-2"]
    assert spectra.flux[:, 0].tolist() == [1, 2]
    assert spectra.table["teff"].tolist() == [5000, 6000]


def test_rows_of_arrays_on_two_grids(tmp_path):
    columns = {"wavelength": np.array([WAVE, WAVE + 1]), "flux": np.array([FLUX, FLUX + 1])}
    found = batches(write(tmp_path, columns), **HINTS)
    assert [(part.grid.vacuum[0], part.flux[0, 0], part.ids[0]) for part in found] == [
        (5000, 1, "star-1"),
        (5001, 2, "star-2"),
    ]


def test_names_that_the_user_gives(tmp_path):
    path = write(tmp_path, {"X": WAVE, "Y": FLUX, "flux": FLUX + 1, "D": ERR})
    source = Source(path)
    assert not io.formats()["table-fits"].recognises(source)
    hints = {"format": "table-fits", "wavelength_column": "x", "error_column": "3", **HINTS}
    assert one(path, flux_column="Y", **hints).flux[0].tolist() == [1, 2, 0, 4]
    spectra = one(path, **hints)
    assert spectra.flux[0].tolist() == [2, 3, 0, 5]
    assert spectra.ivar[0].tolist() == IVAR
    with pytest.raises(DraperError, match="no column 'Z'"):
        batches(path, **{**hints, "wavelength_column": "Z"})


def test_columns_of_unequal_length(tmp_path):
    path = write(tmp_path, {"wave": WAVE[None], "flux": FLUX[None, :3]})
    with pytest.raises(DraperError, match="differ in length"):
        batches(path, **HINTS)


def test_text_in_place_of_numbers(tmp_path):
    path = write(tmp_path, {"wave": np.array(["a", "b"]), "flux": np.array([1.0, 2.0])})
    with pytest.raises(DraperError):
        batches(path, **HINTS)


@pytest.mark.parametrize("columns", [{"time": WAVE, "flux": FLUX}, {"wave": WAVE, "teff": FLUX}])
def test_other_tables_are_not_claimed(tmp_path, columns):
    assert not io.formats()["table-fits"].recognises(Source(write(tmp_path, columns)))


@pytest.mark.parametrize("keep", [2880, 4000, 5760, 5800])
def test_truncated_files_end_in_a_clear_error(tmp_path, keep):
    path = write(tmp_path, {"wave": WAVE, "flux": FLUX})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DraperError):
        batches(path, format="table-fits", **HINTS)


def test_real_18_sco(real_data):
    path = real_data / "harps" / "HARPS.Archive_18Sco_R32K.fits"
    with pytest.raises(DraperError, match="unit of its wavelengths"):
        batches(path)
    spectra = one(path, unit="angstrom", medium="air")
    assert spectra.flux.shape == (1, 1536)
    np.testing.assert_allclose(spectra.grid.air[[0, -1]], [5143.572207933707, 5301.165670352647], rtol=1e-10)
    assert spectra.flux[0, 0] == np.float32(0.9545079339742901)
    assert spectra.ivar[0, 0] == pytest.approx(0.006569221825924871**-2, rel=1e-6)


SURVEYS = ["sdss_spec/*.fits", "sdss_apvisit_boss/*.fits", "desi/*.fits", "lamost/*.fits", "gaia_*/*.fits"]


@pytest.mark.parametrize("pattern", SURVEYS)
def test_files_of_surveys_are_left_to_the_readers_before(real_data, pattern):
    paths = sorted(real_data.glob(pattern))
    assert paths
    for path in paths:
        assert io.recognise(Source(path)).name not in ("iraf", "table-fits")


def test_radius_ratios_become_depths(tmp_path):
    columns = {"wave": WAVE, "rp_rs": np.full(4, 0.1), "rp_rs_err": np.full(4, 0.001)}
    spectra = one(write(tmp_path, columns), **HINTS)
    assert spectra.quantity == "transit depth"
    np.testing.assert_allclose(spectra.flux, 0.01, rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar**-0.5, 0.0002, rtol=1e-6)
