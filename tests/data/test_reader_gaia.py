"""Gaia RVS and XP tables, in every container that the archive delivers."""

import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from draper.configs.read import ReadConfig
from draper.data import io
from draper.data.parsing import gaia
from draper.data.parsing.source import Source
from draper.data.readers import gaia_xp
from draper.data.spectra import Spectra
from draper.errors import DraperError

RVS_NM = np.linspace(846, 870, 2401)
XP_ANGSTROM = 3360 + 20.0 * np.arange(343)
ID = 5853498713190525696


def batches(path, format=None, **hints):
    source = Source(path)
    return list(io.recognise(source, format).read(source, ReadConfig(**hints)))


def one(path, **hints):
    return Spectra.concat(batches(path, **hints))


def rvs_values(sources=2):
    flux = 1 + 0.001 * np.arange(2401) + np.arange(sources)[:, None]
    error = np.full((sources, 2401), 0.25)
    flux[:, :3] = np.nan
    error[:, :3] = np.nan
    return flux, error


def cell(values, null="NaN"):
    return "(" + ", ".join(null if np.isnan(v) else repr(float(v)) for v in values) + ")"


def write_long(path, sources=2, ids=True):
    flux, error = rvs_values(sources)
    lines = [("source_id,solution_id,ra," if ids else "") + "wavelength,flux,flux_error"]
    for k in range(sources):
        for w, f, e in zip(RVS_NM, flux[k], error[k], strict=True):
            start = f"{ID + k},1,{10.5 + k}," if ids else ""
            lines.append(f"{start}{w:.2f},{'' if np.isnan(f) else repr(float(f))},{'' if np.isnan(e) else e}")
    path.write_text("\n".join(lines) + "\n")


def check_rvs(spectra, sources=2):
    flux, _ = rvs_values(sources)
    assert spectra.quantity == "normalised flux"
    assert spectra.unit == ""
    assert spectra.grid.resolving_power == 11500
    np.testing.assert_allclose(spectra.grid.vacuum, RVS_NM * 10, rtol=1e-12)
    np.testing.assert_array_equal(spectra.flux[:, 3:], flux[:, 3:].astype(np.float32))
    np.testing.assert_array_equal(spectra.ivar[:, :3], 0)
    np.testing.assert_array_equal(spectra.ivar[:, 3:], 16)
    np.testing.assert_array_equal(spectra.flux[:, :3], 0)


def test_rvs_long_csv_of_two_sources(tmp_path):
    write_long(tmp_path / "any.name")
    spectra = one(tmp_path / "any.name")
    check_rvs(spectra)
    assert spectra.ids.tolist() == [str(ID), str(ID + 1)]
    assert spectra.table["source_id"].tolist() == [ID, ID + 1]  # exact: a float would round it
    assert spectra.table["ra"].tolist() == [10.5, 11.5]


def test_rvs_long_csv_split_between_pieces(tmp_path, monkeypatch):
    write_long(tmp_path / "a.csv", sources=5)
    monkeypatch.setattr(gaia, "PIXELS", 3001)
    check_rvs(one(tmp_path / "a.csv"), sources=5)


def test_rvs_long_csv_without_ids_is_called_by_its_file(tmp_path):
    write_long(tmp_path / "star.csv", sources=1, ids=False)
    spectra = one(tmp_path / "star.csv")
    check_rvs(spectra, sources=1)
    assert spectra.ids.tolist() == ["star"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["csv", "ecsv"])
def test_rvs_raw_text(tmp_path, kind, compressed):
    flux, error = rvs_values()
    header = "source_id,ra,flux,flux_error,combined_transits\n"
    if kind == "ecsv":
        header = "# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n# - name: source_id\n" + header
    text = header
    for k in range(2):
        f, e = (
            cell(v, "null").replace("(", "[").replace(")", "]") if kind == "ecsv" else cell(v)
            for v in (flux[k], error[k])
        )
        text += f'{ID + k},1.5,"{f}","{e}",7\n'
    content = text.encode()
    (tmp_path / "a").write_bytes(gzip.compress(content) if compressed else content)
    spectra = one(tmp_path / "a")
    check_rvs(spectra)
    assert spectra.table["combined_transits"].tolist() == [7, 7]


@pytest.mark.parametrize("format", ["fits", "votable"])
@pytest.mark.parametrize("form", ["raw", "raw with wavelengths", "long"])
def test_rvs_fits_and_votable(tmp_path, format, form):
    flux, error = rvs_values()
    ids = np.array([ID, ID + 1])
    if form == "long":
        columns = {
            "source_id": np.repeat(ids, 2401),
            "wavelength": np.tile(RVS_NM, 2),
            "flux": flux.ravel(),
            "flux_error": error.ravel(),
        }
    else:
        columns = {"source_id": ids, "flux": flux, "flux_error": error}
        if form == "raw with wavelengths":
            columns["wavelength"] = np.tile(RVS_NM, (2, 1))
    Table(columns).write(tmp_path / "a", format=format)
    spectra = one(tmp_path / "a")
    check_rvs(spectra)
    assert spectra.ids.tolist() == [str(ID), str(ID + 1)]


def test_rvs_sources_on_other_pixels_come_apart(tmp_path):
    rows = [f"{ID},{w:.2f},1.0,0.5" for w in RVS_NM[:5]] + [f"{ID + 1},{w:.2f},2.0,0.5" for w in RVS_NM[:7]]
    (tmp_path / "a.csv").write_text("source_id,wavelength,flux,flux_error\n" + "\n".join(rows) + "\n")
    found = batches(tmp_path / "a.csv")
    assert [(len(part), len(part.grid), part.ids[0]) for part in found] == [
        (1, 5, str(ID)),
        (1, 7, str(ID + 1)),
    ]


def xp_columns(n=3, bp=4, rp=3, seed=1):
    rng = np.random.default_rng(seed)
    columns = {"source_id": ID + np.arange(n)}
    for band, size in (("bp", bp), ("rp", rp)):
        columns |= {
            f"{band}_standard_deviation": 1.0 + np.arange(n),
            f"{band}_n_relevant_bases": np.arange(n),
            f"{band}_coefficients": rng.normal(size=(n, size)),
            f"{band}_coefficient_errors": np.full((n, size), 0.5),
            f"{band}_coefficient_correlations": rng.uniform(-0.5, 0.5, (n, size * (size - 1) // 2)),
        }
    return columns


def test_xp_of_more_coefficients_than_gaia_has_are_refused(tmp_path):
    """A damaged width of 4,320 took the memory of three matrices of 8,640 x 8,640."""
    table = Table({name: values for name, values in xp_columns(bp=201).items() if "correlations" not in name})
    table.write(tmp_path / "a", format="fits")
    with pytest.raises(DraperError, match="more coefficients than any basis"):
        one(tmp_path / "a")


@pytest.mark.parametrize("format", ["csv", "fits", "votable"])
def test_xp_coefficients_and_correlations(tmp_path, format):
    columns = xp_columns()
    if format == "csv":
        text = {k: [f'"{cell(v)}"' for v in c] if c.ndim == 2 else c.astype(str) for k, c in columns.items()}
        lines = [",".join(text), *(",".join(row) for row in zip(*text.values(), strict=True))]
        (tmp_path / "a").write_text("\n".join(lines) + "\n")
    else:
        Table(columns).write(tmp_path / "a", format=format)
    spectra = one(tmp_path / "a")
    assert spectra.quantity == "coefficients"
    assert spectra.grid.names == ("bp_0", "bp_1", "bp_2", "bp_3", "rp_0", "rp_1", "rp_2")
    expected = np.concatenate([columns["bp_coefficients"], columns["rp_coefficients"]], axis=1)
    np.testing.assert_array_equal(spectra.flux, expected.astype(np.float32))
    np.testing.assert_array_equal(spectra.ivar, 4)
    assert spectra.table["rp_n_relevant_bases"].tolist() == [0, 1, 2]
    assert spectra.table["bp_standard_deviation"].tolist() == [1, 2, 3]
    c = columns["bp_coefficient_correlations"][2].astype(np.float32)
    block = [[1, c[0], c[1], c[3]], [c[0], 1, c[2], c[4]], [c[1], c[2], 1, c[5]], [c[3], c[4], c[5], 1]]
    matrix = spectra.correlation.of(2)
    np.testing.assert_array_equal(matrix[:4, :4], np.array(block, dtype=np.float32))
    np.testing.assert_array_equal(matrix[:4, 4:], 0)
    assert matrix[4, 5] == np.float32(columns["rp_coefficient_correlations"][2, 0])


def test_xp_in_pieces_equals_xp_at_once(tmp_path, monkeypatch):
    Table(xp_columns(n=7)).write(tmp_path / "a.fits")
    whole = one(tmp_path / "a.fits")
    monkeypatch.setattr(gaia, "SOURCES", 3)
    parts = batches(tmp_path / "a.fits")
    assert [len(part) for part in parts] == [3, 3, 1]
    joined = Spectra.concat(parts)
    np.testing.assert_array_equal(joined.flux, whole.flux)
    np.testing.assert_array_equal(joined.correlation.of(slice(None)), whole.correlation.of(slice(None)))


def test_xp_without_any_bp(tmp_path):
    columns = xp_columns(n=1, bp=3)
    text = {
        k: '""' if k.startswith("bp") else f'"{cell(v[0])}"' if v.ndim == 2 else str(v[0])
        for k, v in columns.items()
    }
    (tmp_path / "a.csv").write_text(f"{','.join(text)}\n{','.join(text.values())}\n")
    spectra = one(tmp_path / "a.csv")
    assert spectra.grid.names == ("bp_0", "bp_1", "bp_2", "rp_0", "rp_1", "rp_2")
    assert spectra.ivar.tolist() == [[0, 0, 0, 4, 4, 4]]
    np.testing.assert_array_equal(spectra.correlation.of(0)[:3, :3], np.eye(3))
    assert np.isnan(spectra.table["bp_standard_deviation"]).all()


@pytest.mark.parametrize("magnitude", [3, 21])
def test_xp_sampled_keeps_bright_and_faint_stars_in_single_precision(tmp_path, magnitude):
    flux = np.full((1, 343), 3.6e-11 * 10 ** (-0.4 * magnitude))
    Table({"source_id": [1], "flux": flux, "flux_error": flux / 100}).write(tmp_path / "a.fits")
    spectra = one(tmp_path / "a.fits")
    assert spectra.unit == "1e-17 W / (m2 nm)"
    np.testing.assert_allclose(spectra.grid.vacuum, XP_ANGSTROM, rtol=1e-12)
    np.testing.assert_allclose(spectra.flux, flux / 1e-17, rtol=1e-6)
    np.testing.assert_allclose(spectra.flux * np.sqrt(spectra.ivar), 100, rtol=1e-5)


def test_xp_sampled_with_other_pixels_is_not_claimed(tmp_path):
    Table({"source_id": [1], "flux": np.ones((1, 50)), "flux_error": np.ones((1, 50))}).write(
        tmp_path / "a.fits"
    )
    assert not gaia_xp.recognises_sampled(Source(tmp_path / "a.fits"))
    with pytest.raises(DraperError, match="number of pixels is not that"):
        batches(tmp_path / "a.fits", format="gaia-xp-sampled")


def test_external_spectra_need_their_medium(tmp_path):
    text = 'source_id,wl,flux,flux_error\n5,"(500.0, 502.0)","(1e-17, 2e-17)","(5e-18, 0.0)"\n'
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DraperError, match="air or vacuum"):
        batches(tmp_path / "a.csv")
    spectra = one(tmp_path / "a.csv", medium="air")
    np.testing.assert_allclose(spectra.grid.air, [5000, 5020], rtol=1e-9)
    np.testing.assert_allclose(spectra.flux, [[1, 2]], rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar, [[4, 0]], rtol=1e-6)


def test_other_tables_are_not_claimed(tmp_path):
    texts = [
        "wavelength,flux,flux_error\n500.0,1,1\n502.0,1,1\n",
        "source_id,teff\n1,5000\n",
        "5000 1 1\n5001 1 1\n",
    ]
    for k, text in enumerate(texts):
        (tmp_path / f"{k}").write_text(text)
        source = Source(tmp_path / f"{k}")
        assert not any(one.recognises(source) for one in io.formats().values() if one.name.startswith("gaia"))


BROKEN = ["1,2\n", '1,"(1.0, x)","(1, 2)"\n', '1,"(1, 2)","(1)"\n', "x,1,1\n", '1,"(1.0', "1,,\n"]


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("name", ["gaia-rvs", "gaia-xp-sampled", "gaia-xp-continuous", "gaia-xp-external"])
def test_damaged_tables_end_in_a_clear_error(tmp_path, text, name):
    (tmp_path / "a.csv").write_text("source_id,flux,flux_error\n" + text)
    with pytest.raises(DraperError, match=r"a\.csv"):
        batches(tmp_path / "a.csv", format=name, medium="vacuum")


# ------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("name", "bad", "first"),
    [
        ("Kepler-93", 7, 0.9942193),
        ("KOI-001", 4, 0.98698866),
        ("GaiaDR3-1535964555128078720", 3, 0.98716646),
        ("GaiaDR3-3174658066485297152", 18, 1.006416),
    ],
)
def test_real_rvs(real_data, name, bad, first):
    path = real_data / "gaia_rvs" / f"{name}.csv"
    assert io.recognise(Source(path)).name == "gaia-rvs"
    spectra = one(path)
    assert spectra.flux.shape == (1, 2401)
    assert spectra.grid.vacuum[[0, -1]].tolist() == [8460, 8700]
    assert int((spectra.ivar == 0).sum()) == bad
    assert spectra.flux[0, 0] == np.float32(first)


def test_real_rvs_grid(real_data):
    path = real_data / "gaia_rvs" / "gaia_rvs_wavelength.fits"
    assert io.recognise(Source(path)).name == "gaia-rvs-grid"
    assert one(path).grid.matches(one(real_data / "gaia_rvs" / "KOI-001.csv").grid)


@pytest.mark.parametrize("name", ["PecautMamajek_table.csv", "elbadry2018_singles_metrics.csv"])
def test_real_catalogues_are_not_spectra(real_data, name):
    source = Source(real_data / "gaia_rvs" / name)
    assert not any(one.recognises(source) for one in io.formats().values() if one.name.startswith("gaia"))


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "xml"])
def test_real_xp_continuous(real_data, suffix):
    path = real_data / "gaia_xp" / f"XP_CONTINUOUS_RAW.{suffix}"
    assert io.recognise(Source(path)).name == "gaia-xp-continuous"
    spectra = one(path)
    assert spectra.flux.shape == (2, 110)
    assert spectra.flux[0, 0] == np.float32(56947.03696840172)
    assert spectra.table["bp_n_relevant_bases"][0] == 53
    # Read in another order, the same numbers would not make matrices with positive eigenvalues.
    assert (np.linalg.eigvalsh(spectra.correlation.of(slice(None)).astype(float)) > 0).all()


def test_real_xp_with_missing_bp(real_data):
    spectra = one(real_data / "gaia_xp" / "XP_CONTINUOUS_RAW_with_missing_BP.fits")
    assert (spectra.ivar == 0).sum(axis=1).tolist() == [0, 55, 0]
    np.testing.assert_array_equal(spectra.correlation.of(1)[:55, :55], np.eye(55))
    assert np.isnan(spectra.table["bp_n_relevant_bases"]).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "name",
    ["dr3int6.csv", "dr3int6.ecsv", "dr3int6.fits", "votable_dr3int6.xml", "votable_plain_dr3int6.xml"],
)
def test_real_xp_sampled(real_data, name):
    path = real_data / "gaia_xp" / f"XP_SAMPLED_RAW_{name}"
    assert io.recognise(Source(path)).name == "gaia-xp-sampled"
    spectra = one(path)
    assert spectra.ids.tolist() == ["6", "4"]
    np.testing.assert_array_equal(spectra.grid.vacuum, XP_ANGSTROM)
    np.testing.assert_allclose(spectra.flux[0, 0], 33.061049, rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar[0, 0], 6.84483**-2, rtol=1e-5)


def test_real_external(real_data):
    spectra = one(real_data / "gaia_xp" / "SPSS_2nm.csv", medium="vacuum")
    assert spectra.flux.shape == (5, 451)
    assert spectra.grid.vacuum[[0, -1]].tolist() == [3000, 12000]
    assert spectra.ids.tolist() == ["5", "8", "10", "20", "19"]


def test_truncated_real_files_end_in_a_clear_error(real_data, tmp_path):
    for name in ("XP_CONTINUOUS_RAW.fits", "XP_CONTINUOUS_RAW.xml", "XP_CONTINUOUS_RAW.csv"):
        content = (real_data / "gaia_xp" / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(DraperError):
            batches(tmp_path / name, format="gaia-xp-continuous")


def test_a_grid_of_other_pixels_is_not_the_rvs_grid(tmp_path):
    fits.PrimaryHDU(np.linspace(400, 800, 2401)).writeto(tmp_path / "a.fits")
    assert not io.formats()["gaia-rvs-grid"].recognises(Source(tmp_path / "a.fits"))


def test_a_truncated_grid_is_not_recognised(real_data, tmp_path):
    content = (real_data / "gaia_rvs" / "gaia_rvs_wavelength.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(content[:6000])
    assert not io.formats()["gaia-rvs-grid"].recognises(Source(tmp_path / "a.fits"))
