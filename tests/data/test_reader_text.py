"""Text and CSV, Turbospectrum, and the work flow from a folder of spectra and a label table to one set."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import draper
from draper.data import units
from draper.data.parsing.columns import describe
from draper.errors import DraperError

VACUUM = {"unit": "angstrom", "medium": "vacuum"}


def written(tmp_path, content, name="star.txt"):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "content",
    [
        "5000 1.0 0.5\n5001 0.5 0.25\n",
        "# a comment\n\n5000\t1.0\t0.5\n5001\t0.5\t0.25\n",
        "5000,1.0,0.5\n5001, 0.5, 0.25\n",
        "wave;flux;error\n5000;1,0;0,5\n5001;0,5;0,25\n",
        "wl flux sigma\n5000 1.0 0.5\n5001 0.5 0.25\n",
        "flux,err,lambda\n1.0,0.5,5000\n0.5,0.25,5001\n",
        "# lambda  flux  e_flux\n5000 1.0 0.5\n5001 0.5 0.25\n",
        "wave,flux,ivar\n5000,1.0,4\n5001,0.5,16\n",
        "wave,name,flux,err\n5000,a b,1.0,0.5\n5001,c,0.5,0.25\n",
        "\ufeffwave,flux,err\r\n5000,1.0,0.5\r\n5001,0.5,0.25\r\n",
        "5001 0.5 0.25 # out of order\n5000 1.0 0.5\n",
    ],
)
def test_every_way_to_write_the_same_numbers(tmp_path, content):
    spectra = draper.read(written(tmp_path, content), **VACUUM)
    np.testing.assert_array_equal(spectra.grid.vacuum, [5000, 5001])
    np.testing.assert_array_equal(spectra.flux, np.float32([[1.0, 0.5]]))
    np.testing.assert_array_equal(spectra.ivar, np.float32([[4, 16]]))
    assert spectra.ids.tolist() == ["star"]


def test_gzip_reads_like_the_text_inside(tmp_path):
    path = tmp_path / "star.txt.gz"
    path.write_bytes(gzip.compress(b"5000 1.0\n5001 0.5\n"))
    spectra = draper.read(path, **VACUUM)
    assert spectra.ids.tolist() == ["star"]
    np.testing.assert_array_equal(spectra.flux, np.float32([[1.0, 0.5]]))


@pytest.mark.parametrize(
    ("name", "unit", "medium"),
    [
        ("wave[nm]", "nm", ""), ("wavelength_um", "um", ""), ("Wavelength (micron)", "um", ""),
        ("wave", "", ""),
        ("Wavelength(Å)", "angstrom", ""), ("wave_vac_A", "angstrom", "vacuum"), ("wave_air", "", "air"),
        ("wavelength_vacuum_angstrom", "angstrom", "vacuum"), ("Wavelength microns", "um", ""),
    ],
)  # fmt: skip
def test_names_tell_unit_and_medium(name, unit, medium):
    column = describe(name)
    assert column.role == "wavelength"
    assert column.medium == medium
    assert (units.unit_name(column.unit) if column.unit else "") == unit


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("flux", "flux"), ("dppm", "flux"), ("Rp/R*", "flux"), ("dppm_err", "error"),
        ("Rp/R* error", "error"), ("Rp/Rs", "flux"), ("rp_rs", "flux"), ("rp_rs_err", "error"),
        ("wave_error", "half width"), ("flux_ivar", "ivar"), ("species", None), ("wave_peak", None),
        ("Error on total transit depths (ppm)", "error"), ("min_wavelength(m)", "low"), ("mask", "bad"),
    ],
)  # fmt: skip
def test_names_tell_the_role(name, role):
    assert describe(name).role == role


def test_header_unit_is_honoured_and_air_becomes_vacuum(tmp_path):
    path = written(tmp_path, "wave_air[nm],flux\n500,1\n501,2\n")
    np.testing.assert_allclose(
        draper.read(path).grid.vacuum, units.air_to_vacuum(np.array([5000.0, 5010.0])), rtol=1e-14
    )


@pytest.mark.parametrize(("hints", "word"), [({"medium": "air"}, "unit="), ({"unit": "nm"}, "medium=")])
def test_what_is_not_declared_is_asked_for(tmp_path, hints, word):
    with pytest.raises(DraperError, match=word):
        draper.read(written(tmp_path, "500 1\n501 2\n"), **hints)


def test_bad_errors_and_values_are_bad_pixels(tmp_path):
    path = written(tmp_path, "5000 1 0.5\n5001 nan 0.5\n5002 1 0\n5003 1 nan\n5004 1 -1\n5005 inf 1\n")
    spectra = draper.read(path, **VACUUM)
    assert spectra.ivar.tolist() == [[4, 0, 0, 0, 0, 0]]
    assert np.isfinite(spectra.flux).all()


def test_empty_cells_are_missing_values(tmp_path):
    spectra = draper.read(written(tmp_path, "wave,flux,err\n5000,1,0.5\n5001,,0.5\n5002,1,\n"), **VACUUM)
    assert spectra.ivar.tolist() == [[4, 0, 0]]


def test_repeated_wavelengths_are_named(tmp_path):
    with pytest.raises(DraperError, match=r"2 wavelengths are repeated[\s\S]*5001, 5003"):
        draper.read(written(tmp_path, "5000 1\n5001 1\n5003 1\n5001 2\n5003 1\n"), **VACUUM)


def test_a_wrong_cell_is_named(tmp_path):
    with pytest.raises(DraperError, match=r"row 2 has no number in column 1"):
        draper.read(written(tmp_path, "5000 1\n5001 x\n"), **VACUUM)


def test_columns_may_be_named_by_number_or_name(tmp_path):
    path = written(tmp_path, "9 1 0.5 5000 7\n9 2 0.5 5001 7\n")
    with pytest.raises(DraperError, match="5 columns without names"):
        draper.read(path, **VACUUM)
    spectra = draper.read(path, wavelength_column="3", flux_column="1", error_column="2", **VACUUM)
    assert spectra.flux.tolist() == [[1, 2]]
    assert spectra.ivar.tolist() == [[4, 4]]
    with pytest.raises(DraperError, match="no column 'flx'"):
        draper.read(written(tmp_path, "5000 1\n5001 1\n"), flux_column="flx", **VACUUM)


def test_comments_give_labels_and_provenance(tmp_path):
    path = written(
        tmp_path, "# Teff: 5777 K\n# FeH = -0.5\n# Mg_Fe: 0.1\n# Author: A. Nother\n5000 1\n5001 1\n"
    )
    spectra = draper.read(path, **VACUUM)
    assert {name: spectra.table[name][0] for name in ("teff", "fe_h", "mg_fe")} == {
        "teff": 5777,
        "fe_h": -0.5,
        "mg_fe": 0.1,
    }
    assert spectra.meta["comments"] == {"Author": "A. Nother"}


@pytest.mark.parametrize("name", ["Rp/R*", "Rp/Rs", "rp_rs"])
def test_radius_ratios_become_depths(tmp_path, name):
    spectra = draper.read(
        written(tmp_path, f"wave_um,{name},{name} error\n1,0.1,0.01\n2,0.2,0.01\n"), medium="vacuum"
    )
    assert spectra.quantity == "transit depth"
    np.testing.assert_allclose(spectra.flux, [[0.01, 0.04]], rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar**-0.5, [[0.002, 0.004]], rtol=1e-6)


def test_ppm_become_fractions_and_flags_bad_pixels_and_half_widths_edges(tmp_path):
    path = written(
        tmp_path, "wave,wave_error,dppm,dppm_err,order,quality\n1,.1,10000,100,1,0\n2,.2,20000,100,1,1\n"
    )
    spectra = draper.read(path, unit="um", medium="vacuum")
    np.testing.assert_allclose(spectra.flux, [[0.01, 0.02]], rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar, [[1e8, 0]], rtol=1e-6)
    np.testing.assert_allclose(spectra.grid.edges, [[9000, 11000], [18000, 22000]])


def test_tables_that_are_no_spectra_are_not_claimed(tmp_path):
    for content in ("name,value\nfont,42\n", "ll\n4000\n4001\n", "just words\nand more\n"):
        with pytest.raises(DraperError, match="no reader recognises"):
            draper.read(written(tmp_path, content))


numbers = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 10**7), numbers), min_size=2, max_size=20, unique_by=lambda r: r[0]
    ),
    mark=st.sampled_from([" ", "\t", ",", ";"]),
)
def test_numbers_come_back_exactly(tmp_path_factory, rows, mark):
    path = tmp_path_factory.mktemp("text") / "s.txt"
    path.write_text("".join(f"{wave / 1000!r}{mark}{value!r}\n" for wave, value in rows))
    spectra = draper.read(path, **VACUUM)
    ordered = sorted(rows)
    np.testing.assert_array_equal(spectra.grid.vacuum, [wave / 1000 for wave, _ in ordered])
    np.testing.assert_array_equal(spectra.flux[0], np.float32([value for _, value in ordered]))


# ------------------------------------------------------------------------------------------ Turbospectrum

SPEC = "4800.0 0.9 9.0e6\n4850.0 {} 5.0e6\n4950.0 1.0 1.0e7\n"


@pytest.fixture
def grid_folder(tmp_path):
    folder = tmp_path / "spectra"
    folder.mkdir()
    for name, value in (("0", "0.5"), ("1", "nan"), ("2", "-0.1"), ("3", "0.25")):
        (folder / f"{name}.spec").write_text(SPEC.format(value))
    labels = folder / "labels.csv"
    rows = [
        "0.spec,5777,4.4,-0.5,0.1",
        "1.spec,5000,4.0,0,0",
        "2.spec,5000,4.0,0,0",
        "3.spec,4500,2.0,0.2,0.3",
    ]
    labels.write_text("\n".join(["spectrum,Teff,grav,feh,li_fe", *rows]) + "\n")
    return folder


def test_one_payne_work_flow(grid_folder):
    spectra = draper.read(
        grid_folder,
        format="turbospectrum",
        labels=grid_folder / "labels.csv",
        rename={"grav": "logg"},
        formula=["A_Li = li_fe + 1.05 + fe_h"],
        cut=[(4800, 4900)],
        reject=["nan", "negative"],
    )
    assert spectra.ids.tolist() == ["0", "3"]
    assert spectra.quantity == "normalised flux"
    np.testing.assert_allclose(spectra.grid.vacuum, units.air_to_vacuum(np.array([4800.0, 4850.0])))
    np.testing.assert_array_equal(spectra.flux, np.float32([[0.9, 0.5], [0.9, 0.25]]))
    assert spectra.table["teff"].tolist() == [5777, 4500]
    assert spectra.table["logg"].tolist() == [4.4, 2.0]
    np.testing.assert_allclose(spectra.table["A_Li"], [0.65, 1.55])
    assert [one["name"] for one in spectra.meta["rejected"]] == ["1", "2"]
    assert "negative" in spectra.meta["rejected"][1]["reason"]


def test_a_label_table_that_lacks_a_row_is_an_error(grid_folder):
    labels = grid_folder / "labels.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:3]) + "\n")
    with pytest.raises(DraperError, match="has no row for 1 of the spectra"):
        draper.read(grid_folder, format="turbospectrum", labels=labels)


def test_the_key_is_the_column_that_names_all_of_them(grid_folder):
    labels = grid_folder / "labels.csv"
    labels.write_text("flag,name,teff\n0,3.spec,4\n0,2.spec,3\n1,1.spec,2\n1,0.spec,1\n")
    spectra = draper.read(grid_folder, format="turbospectrum", labels=labels)
    assert dict(zip(spectra.ids.tolist(), spectra.table["teff"].tolist(), strict=True)) == {
        "0": 1,
        "1": 2,
        "2": 3,
        "3": 4,
    }


def test_an_unknown_rename_is_an_error(grid_folder):
    with pytest.raises(DraperError, match=r"no column 'gravv'[\s\S]*did you mean 'grav'"):
        draper.read(
            grid_folder, format="turbospectrum", labels=grid_folder / "labels.csv", rename={"gravv": "logg"}
        )


def test_absolute_flux_on_request(grid_folder):
    spectra = draper.read(grid_folder / "0.spec", format="turbospectrum", quantity="flux")
    assert spectra.flux.tolist() == [[9e6, 5e6, 1e7]]
    assert "erg" in spectra.unit


def test_text_asks_for_turbospectrum_where_the_third_column_is_no_error(grid_folder):
    with pytest.raises(DraperError, match="format='turbospectrum'"):
        draper.read(grid_folder / "0.spec", **VACUUM)


def test_a_comment_that_names_the_code_is_enough(tmp_path):
    path = written(tmp_path, "# computed by TSFitPy\n# teff: 5777\n" + SPEC.format(0.5), "a.spec")
    spectra = draper.read(path)
    assert spectra.meta["format"] == "turbospectrum"
    assert spectra.table["teff"].tolist() == [5777]


# --------------------------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("name", "hints", "count", "first", "last", "flux"),
    [
        ("one_payne/payne_synthetic_5777_4.44_0_spectrum.txt.gz",
         {"medium": "air"}, 142900, 3927.212, 6791.774, 0.56281),
        ("korg_griffith2022/2MASS_J03443498+0553014.csv.gz",
         {"unit": "nm", "medium": "air"}, 27969, 4222.238, 6318.480, 1.0484434),
        ("apogee_atlas/arct.20190830.txt.gz",
         {"unit": "angstrom", "medium": "air"}, 44445, 15004.100, 17004.624, 1.018607),
        ("apogee_atlas/solar.20190819.txt.gz",
         {"unit": "angstrom", "medium": "air"}, 82736, 15004.120, 17004.634, 0.9967533),
    ],
)  # fmt: skip
def test_real_stellar_text(real_data, name, hints, count, first, last, flux):
    spectra = draper.read(real_data / name, **hints)
    assert spectra.flux.shape == (1, count)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([first, last], abs=2e-3)
    assert spectra.flux[0, 0] == pytest.approx(flux, rel=1e-6)


def test_real_payne_text_carries_its_labels(real_data):
    path = real_data / "one_payne" / "payne_synthetic_5777_4.44_0_spectrum.txt.gz"
    table = draper.read(path, medium="air").table
    assert {name: table[name][0] for name in ("teff", "logg", "vmic", "vsini", "vmac", "rv")} == {
        "teff": 5777, "logg": 4.44, "vmic": 1.0, "vsini": 1.6, "vmac": 3.0, "rv": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "repeated", "example"),
    [
        ("uves_sun/UVES_Sun-1_cleaned_norm.txt.gz", 47, "4895"),
        ("apogee_atlas/sun_nlte_20200921.rspec.gz", 904, "15002.157"),
    ],
)
def test_real_files_with_repeated_wavelengths_are_refused(real_data, name, repeated, example):
    with pytest.raises(DraperError, match=f"{repeated} wavelengths are repeated") as error:
        draper.read(real_data / name, unit="angstrom", medium="air")
    assert example in str(error.value)


@pytest.mark.parametrize(
    ("name", "count", "first", "last", "bad"),
    [
        ("AT-WASP_39b_NIRISS_transmission_spectrum.csv", 143, 6335.0, 27720.0, 5),
        ("CMADF-WASP_39b_NIRISS_transmission_spectrum_R100.csv", 132, 6330.547, 27936.210, 3),
        ("CMADF-WASP_39b_NIRISS_transmission_spectrum_R300.csv", 331, 6309.571, 27964.892, 4),
        ("LPC-WASP_39b_NIRISS_transmission_spectrum.csv", 122, 6231.137, 27878.365, 5),
        ("MCR-WASP_39b_NIRISS_transmission_spectrum.csv", 376, 6010.567, 28235.064, 27),
        ("NE-WASP_39b_NIRISS_transmission_spectrum.csv", 166, 6026.700, 27958.500, 5),
    ],
)
def test_real_jwst_tables(real_data, name, count, first, last, bad):
    spectra = draper.read(real_data / "jwst_wasp39b" / name, unit="um", medium="vacuum")
    assert spectra.quantity == "transit depth"
    assert spectra.flux.shape == (1, count)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([first, last], abs=2e-3)
    assert (spectra.ivar == 0).sum() == bad
    assert spectra.grid.edges is not None
    assert np.median(spectra.flux) == pytest.approx(0.0213, abs=5e-4)


def test_real_hubble_and_other_planet_text(real_data):
    folder = real_data / "jwst_wasp39b"
    wakeford = draper.read(folder / "WASP-39b_Wakeford_2018_AJ.csv", medium="vacuum")
    assert wakeford.flux.shape == (1, 70)
    assert wakeford.grid.vacuum[0] == pytest.approx(3300)
    assert wakeford.flux[0, 0] == pytest.approx(0.14861**2, rel=1e-6)
    total = draper.read(folder / "catwoman_tspec_res100_priorlds.txt", medium="vacuum")
    assert total.flux[0, 0] == pytest.approx(0.02117568, rel=1e-5)
    evening = draper.read(
        folder / "catwoman_res30_priorlds.txt", medium="vacuum", flux_column="1", error_column="2"
    )
    assert evening.flux[0, 0] == pytest.approx(0.010884290, rel=1e-5)
    assert evening.ivar[0, 0] ** -0.5 == pytest.approx(6.0951e-4, rel=1e-4)
    model = draper.read(folder / "models.dat", unit="um", medium="vacuum", flux_column="morning")
    assert model.flux[0, 0] == pytest.approx(10168.8033651749, rel=1e-6)
    hd209458 = draper.read(real_data / "hst_hd209458b" / "hd209458b_transit_depths", medium="vacuum")
    assert hd209458.flux.shape == (1, 42)
    np.testing.assert_allclose(hd209458.grid.edges[0], [3020, 3470])
    assert hd209458.flux[0, 0] == pytest.approx(0.0147374084794, rel=1e-6)
    assert hd209458.ivar[0, 0] ** -0.5 == pytest.approx(4.00020135157e-05, rel=1e-5)


def test_real_tables_that_are_no_spectra(real_data):
    for name in ("korg_griffith2022/windows.tsv", "jwst_wasp39b/rcParams.txt", "exogan/wnw_grid.txt"):
        with pytest.raises(DraperError, match="no reader recognises"):
            draper.read(real_data / name)


def test_repeated_wavelengths_are_averaged_if_asked(tmp_path) -> None:
    """The mean of pixels that share a wavelength is weighted, and a bad one does not count."""
    path = tmp_path / "repeated.txt"
    path.write_text("5000 1.0 0.1\n5001 2.0 0.1\n5001 4.0 0.2\n5002 3.0 0.1\n5002 nan 0.1\n5003 nan 0.1\n")
    with pytest.raises(DraperError, match="repeated='mean'"):
        draper.read(path, unit="angstrom", medium="vacuum")
    spectra = draper.read(path, unit="angstrom", medium="vacuum", repeated="mean")
    assert spectra.grid.vacuum.tolist() == [5000, 5001, 5002, 5003]
    np.testing.assert_allclose(spectra.flux[0], [1, (200 + 100) / 125, 3, 0], rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar[0], [100, 125, 100, 0], rtol=1e-6)
    assert spectra.meta["medium"] == "vacuum"


@pytest.mark.parametrize("row", ["{wave} nan 0.1", "{wave} nan nan", "{wave} nan", "nan nan nan"])
def test_a_file_without_any_flux_says_so(tmp_path, row):
    path = tmp_path / "empty.txt"
    path.write_text("".join(row.format(wave=wave) + "\n" for wave in range(5000, 5010)))
    with pytest.raises(DraperError, match="no row has a flux"):
        draper.read(path, unit="angstrom", medium="vacuum")


def test_a_file_without_any_flux_can_be_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("5000 nan\n5001 nan\n")
    (tmp_path / "b.txt").write_text("5000 1\n5001 nan\n")
    read = draper.read([tmp_path], unit="angstrom", medium="vacuum", reject="empty")
    assert list(read.ids) == ["b"]
    assert read.meta["rejected"] == [{"name": "a", "reason": "no good pixel"}]


def test_gap_of_zeros_has_no_weight_where_there_are_no_errors(tmp_path):
    """HARPS spectra have zeros between the two detectors: no star has so deep a line."""
    flux = np.ones(60)
    flux[20:32] = flux[40:43] = 0
    wavelength = 5000 + 0.1 * np.arange(60)
    np.savetxt(tmp_path / "gap.txt", np.stack([wavelength, flux], axis=1))
    np.savetxt(tmp_path / "errors.txt", np.stack([wavelength, flux, np.full(60, 0.1)], axis=1))
    lost = draper.read(tmp_path / "gap.txt", **VACUUM).ivar[0] == 0
    assert np.flatnonzero(lost).tolist() == list(range(20, 32))
    assert (draper.read(tmp_path / "errors.txt", **VACUUM).ivar > 0).all()
