"""Spectra that specutils opens: masks, uncertainties of every type, arms and chips."""

import sys

import numpy as np
import pytest
from astropy.io import fits

import draper
from draper.data import units
from draper.data.parsing.source import Source
from draper.data.readers import surveys
from draper.errors import DraperError

specutils = pytest.importorskip("specutils")


def sdss(path):
    columns = {
        "flux": np.float32([1, 2, 3]),
        "loglam": np.float32([3.6, 3.61, 3.62]),
        "ivar": np.float32([4, 0, 16]),
        "and_mask": np.int32([0, 0, 0]),
        "wdisp": np.float32([1, 1, 1]),
    }
    formats = {"f": "E", "i": "J"}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, formats[values.dtype.kind], array=values) for name, values in columns.items()],
        name="COADD",
    )
    row = fits.BinTableHDU.from_columns(
        [fits.Column("Z", "E", array=[0.5]), fits.Column("CLASS", "6A", array=["STAR"])], name="SPALL"
    )
    primary = fits.PrimaryHDU()
    primary.header.update(TELESCOP="SDSS 2.5-M", PLUG_RA=10.0, PLUG_DEC=-1.0, MJD=51602, FIBERID=7)
    primary.header["BUNIT"] = "1E-17 erg/cm^2/s/Ang"
    fits.HDUList([primary, table, row]).writeto(path)
    return path


def image(data, **cards):
    hdu = fits.ImageHDU(data)
    hdu.header.update(cards)
    return hdu


def visit(path):
    wavelength = np.array([[16500.0, 16499, 16498], [16001, 16000, 15999], [15502, 15501, 15500]])
    flux = np.arange(9, dtype=np.float32).reshape(3, 3)
    mask = np.zeros((3, 3), dtype=np.int16)
    mask[0, 0], mask[1, 0] = 1, 1 << 12  # a bad pixel, and a sky line that is kept
    primary = fits.PrimaryHDU()
    primary.header.update(SURVEY="apogee", OBJID="2M01", RA=1.0, DEC=2.0, SNR=45.0, VHELIO=-33.0)
    primary.header["HISTORY"] = "APOGEE Reduction"
    fits.HDUList(
        [
            primary,
            image(flux, BUNIT="Flux (10^-17)"),
            image(np.full((3, 3), 0.5, np.float32), BUNIT="Flux Error"),
            image(mask),
            image(wavelength, BUNIT="Wavelength (Ang)"),
        ]
    ).writeto(path)
    return path


def star(path):
    flux = np.float32([[1, 2, 3], [9, 9, 9]])
    mask = np.int32([[0, 1 << 14, 0], [1, 1, 1]])
    primary = fits.PrimaryHDU()
    primary.header.update(SFILE1="apVisit-1.fits", OBJID="2M02")
    primary.header["HISTORY"] = "APOGEE Reduction"
    cards = {"CTYPE1": "LOG-LINEAR", "CRPIX1": 1, "CRVAL1": 4.179, "CDELT1": 6e-6}
    fits.HDUList(
        [primary, image(flux, **cards), image(np.full((2, 3), 0.5, np.float32)), image(mask)]
    ).writeto(path)
    return path


def aspcap(path):
    cards = {"CTYPE1": "LOG-LINEAR", "CRPIX1": 1, "CRVAL1": 4.179, "CDELT1": 6e-6}
    table = fits.BinTableHDU.from_columns([fits.Column("ASPCAPFLAG", "J", array=[0])])
    rows = (np.float32([0.9, 0.8, 0]), np.float32([0.5, 0.5, 1e10]), np.float32([1, 1, 1]))
    fits.HDUList([fits.PrimaryHDU(), *(image(values, **cards) for values in rows), table]).writeto(path)
    return path


def desi(path):
    fibermap = fits.BinTableHDU.from_columns(
        [fits.Column("TARGETID", "K", array=[11, 12]), fits.Column("TARGET_RA", "D", array=[1.0, 2.0])],
        name="FIBERMAP",
    )
    hdus = [fits.PrimaryHDU(), fibermap]
    hdus[0].header["INFIL000"] = "spectra.fits"
    unit = "10**-17 erg/(s cm2 Angstrom)"
    for arm, wave, flux, ivar in (
        ("B", [4998.0, 4999, 5000, 5001], [9.0, 0, 1, 2], 1.0),
        ("R", [5001.0, 5002, 5003, 5004], [5.0, 6, 7, 8], 3.0),
    ):
        rows = np.float32([flux, flux])
        weights = np.full((2, 4), ivar, np.float32)
        weights[1, 0] = 0
        for name, data, bunit in (
            ("WAVELENGTH", np.array(wave), "Angstrom"),
            ("FLUX", rows, unit),
            ("IVAR", weights, "10**+34 (s2 cm4 Angstrom2) / erg2"),
            ("MASK", np.zeros((2, 4), np.int32), ""),
        ):
            hdu = image(data, BUNIT=bunit)
            hdu.name = f"{arm}_{name}"
            hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)
    return path


def jwst(path):
    columns = [
        fits.Column(name, form, unit=unit, array=values)
        for name, form, unit, values in (
            ("WAVELENGTH", "D", "um", [1.0, 1.5, 2.0]),
            ("FLUX", "D", "Jy", [1e-3, 2e-3, np.nan]),
            ("FLUX_ERROR", "D", "Jy", [1e-5, 1e-5, 1e-5]),
            ("SURF_BRIGHT", "D", "MJy/sr", [0.0, 0, 0]),
            ("SB_ERROR", "D", "MJy/sr", [0.0, 0, 0]),
            ("DQ", "J", None, [0, 1, 0]),
        )
    ]
    table = fits.BinTableHDU.from_columns(columns, name="EXTRACT1D")
    table.header["SRCTYPE"] = "POINT"
    primary = fits.PrimaryHDU()
    primary.header.update(TELESCOP="JWST", TARGNAME="WASP-39", TARG_RA=1.0, TARG_DEC=2.0)
    fits.HDUList([primary, table, fits.ImageHDU(name="ASDF")]).writeto(path)
    return path


def galah(path):
    cards = {"CRVAL1": 4713.0, "CDELT1": 0.5, "CRPIX1": 1.0}
    primary = fits.PrimaryHDU(np.float32([100, 101, 102]))
    primary.header.update(ORIGIN="GALAH", OBJECT="star", **cards)
    rest = ([2, 2, 0], [7, 7, 7], [0.1, 0.1, 0.1], [0.9, 0.8, 0.7])
    fits.HDUList([primary, *(image(np.float32(values), **cards) for values in rest)]).writeto(path)
    return path


def test_sdss(tmp_path):
    spectra = draper.read(sdss(tmp_path / "spec.fits"))
    assert spectra.meta["format"] == "sdss"
    assert spectra.unit == "1e-17 erg / (s cm2 Angstrom)"
    np.testing.assert_allclose(spectra.grid.vacuum, 10 ** np.float32([3.6, 3.61, 3.62]), rtol=1e-6)
    assert spectra.flux.tolist() == [[1, 2, 3]]
    assert spectra.ivar.tolist() == [[4, 0, 16]]
    assert {name: spectra.table[name][0] for name in ("ra", "dec", "fiber", "z", "class")} == {
        "ra": 10,
        "dec": -1,
        "fiber": 7,
        "z": 0.5,
        "class": "STAR",
    }


def test_apogee_visit_is_one_ascending_grid_with_three_windows(tmp_path):
    spectra = draper.read(visit(tmp_path / "apVisit.fits"))
    assert spectra.meta["format"] == "apogee-visit"
    np.testing.assert_array_equal(
        spectra.grid.vacuum, [15500, 15501, 15502, 15999, 16000, 16001, 16498, 16499, 16500]
    )
    assert spectra.grid.windows == ((15500, 15502), (15999, 16001), (16498, 16500))
    assert spectra.flux.tolist() == [[8, 7, 6, 5, 4, 3, 2, 1, 0]]
    assert spectra.ivar.tolist() == [[4] * 8 + [0]]
    assert spectra.table["rv"].tolist() == [-33]


def test_apogee_star_is_the_combined_spectrum(tmp_path):
    spectra = draper.read(star(tmp_path / "apStar.fits"))
    assert spectra.meta["format"] == "apogee-star"
    np.testing.assert_allclose(spectra.grid.vacuum, 10 ** (4.179 + 6e-6 * np.arange(3)), rtol=1e-9)
    assert spectra.flux.tolist() == [[1, 2, 3]]
    assert spectra.ivar.tolist() == [[4, 0, 4]]


def test_aspcap_is_normalised(tmp_path):
    spectra = draper.read(aspcap(tmp_path / "aspcapStar.fits"))
    assert (spectra.meta["format"], spectra.quantity, spectra.unit) == (
        "apogee-aspcap",
        "normalised flux",
        "",
    )
    np.testing.assert_allclose(spectra.grid.vacuum, 10 ** (4.179 + 6e-6 * np.arange(3)), rtol=1e-9)
    np.testing.assert_allclose(spectra.ivar, [[4, 4, 1e-20]], rtol=1e-5)


def test_desi_arms_are_averaged_where_they_share_pixels(tmp_path):
    spectra = draper.read(desi(tmp_path / "coadd.fits"))
    assert spectra.meta["format"] == "desi"
    np.testing.assert_allclose(spectra.grid.vacuum, np.arange(4998, 5005))
    shared = (2 * 1 + 5 * 3) / 4
    np.testing.assert_allclose(spectra.flux, [[9, 0, 1, shared, 6, 7, 8], [0, 0, 1, 2, 6, 7, 8]])
    assert spectra.ivar.tolist() == [[1, 1, 1, 4, 3, 3, 3], [0, 1, 1, 1, 3, 3, 3]]
    assert spectra.ids.tolist() == [11, 12]
    assert spectra.unit == "1e-17 erg / (s cm2 Angstrom)"


def test_jwst_flags_and_missing_fluxes_are_bad(tmp_path):
    spectra = draper.read(jwst(tmp_path / "x1d.fits"))
    assert spectra.meta["format"] == "jwst"
    np.testing.assert_allclose(spectra.grid.vacuum, [1e4, 1.5e4, 2e4])
    np.testing.assert_allclose(spectra.ivar, [[1e10, 0, 0]], rtol=1e-5)
    assert spectra.unit == "Jy"
    assert spectra.table["object"].tolist() == ["WASP-39"]


def test_galah_is_in_air(tmp_path):
    path = galah(tmp_path / "galah.fits")
    spectra = draper.read(path)
    assert spectra.meta["format"] == "galah"
    np.testing.assert_allclose(spectra.grid.vacuum, units.air_to_vacuum(4713 + 0.5 * np.arange(3)), rtol=1e-9)
    assert spectra.flux.tolist() == [[100, 101, 102]]
    assert spectra.ivar.tolist() == [[0.25, 0.25, 0]]
    normalised = draper.read(path, quantity="normalised flux")
    assert normalised.quantity == "normalised flux"
    np.testing.assert_allclose(normalised.flux, [[0.9, 0.8, 0.7]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["std", "var", "ivar"])
def test_uncertainties_of_every_type(tmp_path, kind):
    from astropy import nddata
    from astropy import units as astropy_units

    classes = {
        "std": nddata.StdDevUncertainty,
        "var": nddata.VarianceUncertainty,
        "ivar": nddata.InverseVariance,
    }
    values = {"std": [0.5, 0.25], "var": [0.25, 0.0625], "ivar": [4.0, 16.0]}
    spectrum = specutils.Spectrum(
        flux=[1.0, 2.0] * astropy_units.Jy,
        spectral_axis=[1.0, 2.0] * astropy_units.um,
        uncertainty=classes[kind](values[kind]),
        mask=np.array([False, False]),
    )
    source = Source(sdss(tmp_path / "any.fits"))
    spectra, _ = surveys._one(source, surveys.SURVEYS[0], spectrum, None, {})
    np.testing.assert_allclose(spectra.ivar, [[4, 16]])


def test_without_specutils_the_error_names_the_package(tmp_path, monkeypatch):
    path = sdss(tmp_path / "spec.fits")
    monkeypatch.setitem(sys.modules, "specutils", None)
    with pytest.raises(DraperError, match=r"pip install .?draper\[surveys\]"):
        draper.read(path)


@pytest.mark.parametrize("make", [sdss, visit, star, aspcap, desi, jwst, galah])
def test_recognised_from_headers_without_specutils(tmp_path, monkeypatch, make):
    source = Source(make(tmp_path / "any.fits"))
    monkeypatch.setitem(sys.modules, "specutils", None)
    assert [found.name for found in surveys.FORMATS if found.recognises(source)] == [
        {"sdss": "sdss", "visit": "apogee-visit", "star": "apogee-star", "aspcap": "apogee-aspcap"}.get(
            make.__name__, make.__name__
        )
    ]


# --------------------------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("name", "kind", "shape", "first", "last", "snr"),
    [
        ("sdss_apvisit_boss/apVisit-r13-5095-55844-128.fits", "apogee-visit", (1, 12288),
         15142.685, 16954.791, 44.9672),
        ("sdss_apvisit_boss/apVisit-r13-9518-57729-104.fits", "apogee-visit", (1, 12288),
         15142.260, 16954.533, 89.5949),
        ("sdss_apvisit_boss/spec-3586-55181-0500.fits", "sdss", (1, 4625), 3561.230, 10327.612, 54.97553635),
        ("sdss_spec/spec-0266-51602-0031.fits", "sdss", (1, 3842), 3800.143, 9202.379, 7.26011658),
    ],
)  # fmt: skip
def test_real_sdss_and_apogee(real_data, name, kind, shape, first, last, snr):
    spectra = draper.read(real_data / name)
    assert spectra.meta["format"] == kind
    assert spectra.flux.shape == shape
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([first, last], abs=2e-3)
    assert len(spectra.grid.windows) == (3 if kind == "apogee-visit" else 0)
    assert spectra.unit == "1e-17 erg / (s cm2 Angstrom)"
    assert spectra.table["snr"][0] == pytest.approx(snr, rel=1e-5)
    assert spectra.snr[0] == pytest.approx(snr, rel=0.06)


def test_real_desi_coadd(real_data):
    path = real_data / "desi" / "coadd-sv3-dark-26065.fits"
    spectra = draper.read(path)
    assert spectra.flux.shape == (5, 7781)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([3600, 9824])
    np.testing.assert_allclose(np.diff(spectra.grid.vacuum), 0.8, atol=1e-6)
    with fits.open(path) as hdus:
        assert spectra.ids.tolist() == hdus["FIBERMAP"].data["TARGETID"].tolist()
        blue, good = hdus["B_FLUX"].data[:, :2000], hdus["B_IVAR"].data[:, :2000] > 0
        np.testing.assert_allclose(spectra.flux[:, :2000][good], blue[good], rtol=1e-6)
