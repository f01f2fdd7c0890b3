"""Writing and reading back: every format returns what went in, and a file is whole or absent."""

import numpy as np
import pytest
from any_spectra import assert_identical, sets
from astropy.table import Table
from hypothesis import HealthCheck, given, settings

import draper
from draper.data.grid import Grid
from draper.data.readers import draper_fits
from draper.data.spectra import Spectra
from draper.errors import DraperError

SUFFIXES = ("h5", "npz", "fits", "parquet")


@pytest.mark.parametrize("suffix", ["npz", "fits", "parquet"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spectra=sets())
def test_what_is_written_comes_back(tmp_path_factory, suffix, spectra):
    path = tmp_path_factory.getbasetemp() / f"round.{suffix}"
    assert draper.write(spectra, path, overwrite=True) == path
    assert_identical(draper.read(path), spectra)


@pytest.fixture
def two():
    return Spectra(
        Grid.linear(5000, 5003, 1, medium="vacuum", resolving_power=2000.0),
        np.float32([[1, 2, 3, 4], [5, 6, 7, 8]]),
        np.float32([[4, 0, 16, 1], [1, 1, 1, 1]]),
        table={"id": ["a", "b"], "teff": [5000.0, np.nan], "k": [1, -(2**63)], "ok": [True, False]},
        quantity="normalised flux",
        meta={"source": "here"},
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_for_sets(tmp_path, two, suffix):
    path = draper.write(two, tmp_path / f"two.{suffix}")
    assert_identical(draper.read(path), two)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert_identical(draper.read(draper.write(iter([two[:1], two[1:]]), path, overwrite=True)), two)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_hints_apply_to_our_own_files_too(tmp_path, two, suffix):
    path = draper.write(two, tmp_path / f"two.{suffix}")
    spectra = draper.read(path, cut=[(5001, 5002)], reject=["nan"])
    assert spectra.flux.tolist() == [[6, 7]]
    assert spectra.table["teff"].shape == (1,)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_awkward_text_is_kept(tmp_path, two, suffix):
    awkward = ["blank at the end ", 'é "quoted" \\ \n \x7f', "", " ", "\\u0020", "plain", "日本", "a\tb"]
    spectra = Spectra(
        two.grid, np.ones((len(awkward), 4)), table={"id": awkward, "none": [""] * len(awkward)}
    )
    found = draper.read(draper.write(spectra, tmp_path / f"words.{suffix}"))
    assert found.table["id"].tolist() == awkward
    assert found.table["none"].tolist() == [""] * len(awkward)


@pytest.mark.parametrize("suffix", ["csv", "ecsv"])
def test_one_spectrum_as_text(tmp_path, two, suffix):
    path = draper.write(two[0], tmp_path / f"one.{suffix}")
    table = Table.read(path, format="ascii.ecsv" if suffix == "ecsv" else "ascii.csv")
    assert table.colnames == ["wavelength_vacuum_angstrom", "normalised_flux", "error"]
    spectra = draper.read(path)
    assert spectra.quantity == "normalised flux"
    np.testing.assert_array_equal(spectra.grid.vacuum, two.grid.vacuum)
    assert spectra.flux.tolist() == [[1, 0, 3, 4]]
    np.testing.assert_allclose(spectra.ivar, [[4, 0, 16, 1]], rtol=1e-6)


def test_text_without_errors_marks_bad_pixels(tmp_path, two):
    plain = Spectra(two.grid, [[1, 2, 3, 4]], [[1, 0, 1, 1]])
    path = draper.write(plain, tmp_path / "one.csv")
    assert path.read_text().splitlines()[0] == "wavelength_vacuum_angstrom,flux"
    assert draper.read(path).ivar.tolist() == [[1, 0, 1, 1]]


@pytest.mark.parametrize("suffix", ["csv", "ecsv"])
def test_text_holds_one_spectrum(tmp_path, two, suffix):
    with pytest.raises(DraperError, match=r"one spectrum[\s\S]*\.fits"):
        draper.write(two, tmp_path / f"two.{suffix}")
    assert not list(tmp_path.iterdir())


def test_unknown_suffixes_list_the_choices(tmp_path, two):
    with pytest.raises(DraperError, match=r"\.h5, \.hdf5, \.npz, \.fits, \.parquet, [\s\S]*did you mean"):
        draper.write(two, tmp_path / "two.fit")
    with pytest.raises(DraperError, match="folder does not exist"):
        draper.write(two, tmp_path / "nowhere" / "two.fits")


@pytest.mark.parametrize("suffix", ["npz", "fits"])
def test_a_failed_write_leaves_the_old_file(tmp_path, two, suffix, monkeypatch):
    path = draper.write(two, tmp_path / f"two.{suffix}")

    def fails(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez", fails)
    monkeypatch.setattr(draper_fits, "hdus_of", fails)
    with pytest.raises(DraperError, match=r"cannot be written[\s\S]*full"):
        draper.write(two[:1], path, overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert_identical(draper.read(path), two)


def test_fits_is_plain_to_other_tools(tmp_path, two):
    path = draper.write(two, tmp_path / "two.fits")
    table, axis = Table.read(path, hdu="SPECTRA"), Table.read(path, hdu="AXIS")
    np.testing.assert_array_equal(table["FLUX"], two.flux)
    assert table["id"].astype(str).tolist() == ["a", "b"]
    np.testing.assert_array_equal(axis["WAVELENGTH"], two.grid.vacuum)


def test_npz_is_plain_to_other_tools(tmp_path, two):
    with np.load(draper.write(two, tmp_path / "two.npz"), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["flux"], two.flux)
        assert arrays["table/id"].tolist() == ["a", "b"]
        assert str(arrays["quantity"]) == "normalised flux"
        assert arrays["resolving_power"] == 2000
