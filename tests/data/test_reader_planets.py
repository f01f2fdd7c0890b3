"""TauREx observations and output, ExoGAN's input, netCDF of published planets."""

import h5py
import numpy as np
import pytest
from scipy.io import netcdf_file

import draper
from draper.data.parsing import parfile
from draper.errors import DraperError

PAR2 = """[Star]
radius = 1
[Planet]
radius = 0.88  # Jupiter's
mass = 0.8
[Atmosphere]
tp_iso_temp = 1117
active_gases = H2O, CO
active_gases_mixratios = 1e-1, 1e-6
"""
DAT = "2.0 0.011 1e-5\n1.0 0.010 2e-5\n"


def test_parameter_files_of_both_versions():
    truths = parfile.truths(parfile.parse(PAR2))
    assert {name: value[0] for name, value in truths.items()} == pytest.approx(
        {
            "planet_radius": 0.88,
            "planet_mass": 0.8,
            "star_radius": 1,
            "temperature": 1117,
            "log_h2o": -1,
            "log_co": -6,
        }
    )
    three = parfile.parse(
        "[Chemistry]\n[[CO2]]\nmix_ratio=1e-4\n[[N2]]\nmix_ratio=x\n[Planet]\nplanet_mass = 2\n"
    )
    assert {name: value[0] for name, value in parfile.truths(three).items()} == {
        "planet_mass": 2,
        "log_co2": -4,
    }


def test_exogan_with_the_planet_beside_it(tmp_path):
    (tmp_path / "a.dat").write_text(DAT)
    (tmp_path / "a.par").write_text(PAR2)
    spectra = draper.read(tmp_path / "a.dat")
    assert spectra.meta["format"] == "exogan"
    assert spectra.quantity == "transit depth"
    np.testing.assert_array_equal(spectra.grid.vacuum, [1e4, 2e4])
    np.testing.assert_allclose(spectra.flux, [[0.010, 0.011]], rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar**-0.5, [[2e-5, 1e-5]], rtol=1e-6)
    assert spectra.table["log_co"][0] == pytest.approx(-6)


def test_planet_text_needs_its_format_unless_it_can_be_nothing_else(tmp_path):
    (tmp_path / "a.dat").write_text(DAT)
    assert draper.read(tmp_path / "a.dat").quantity == "transit depth"
    (tmp_path / "b.dat").write_text("5000 0.9 0.01\n5001 0.8 0.01\n")
    with pytest.raises(DraperError, match="unit="):
        draper.read(tmp_path / "b.dat")
    for name in ("exogan", "taurex"):
        spectra = draper.read(tmp_path / "a.dat", format=name)
        assert list(spectra.table) == ["id"]
        assert spectra.quantity == "transit depth"


def test_taurex_bin_widths_become_edges(tmp_path):
    (tmp_path / "obs.dat").write_text("2.0 0.011 1e-5 0.2\n1.0 0.010 2e-5 0.1\n")
    spectra = draper.read(tmp_path / "obs.dat", format="taurex")
    np.testing.assert_allclose(spectra.grid.edges, [[9500, 10500], [19000, 21000]])
    (tmp_path / "obs.dat").write_text("2.0 0.011 1e-5 0.2 7\n")
    with pytest.raises(DraperError, match="5 columns"):
        draper.read(tmp_path / "obs.dat", format="taurex")


def output(path, place="Output/Spectra", **arrays):
    with h5py.File(path, "w") as file:
        group = file.create_group(place)
        for name, values in arrays.items():
            group[name] = values
    return path


@pytest.mark.parametrize("place", ["Output/Spectra", "Spectrum"])
def test_taurex_output(tmp_path, place):
    path = output(
        tmp_path / "out.h5", place, native_wngrid=[5000.0, 10000.0], native_wlgrid=[2.0, 1.0],
        native_spectrum=[0.011, 0.010], binned_spectrum=[0.0105], binned_wngrid=[8000.0],
        binned_wnwidth=[2000.0], native_tau=np.zeros((2, 2)),
    )  # fmt: skip
    spectra = draper.read(path)
    assert spectra.quantity == "transit depth"
    np.testing.assert_allclose(spectra.grid.vacuum, [1e4, 2e4], rtol=1e-12)
    np.testing.assert_allclose(spectra.flux, [[0.010, 0.011]], rtol=1e-6)
    binned = draper.read(path, flux_column="binned_spectrum")
    np.testing.assert_allclose(binned.grid.vacuum, [12500.0])
    np.testing.assert_allclose(binned.grid.edges, [[1e8 / 9000, 1e8 / 7000]])
    with pytest.raises(DraperError, match="no 'other_spectrum'"):
        draper.read(path, flux_column="other")


def test_taurex_output_seen_by_an_instrument(tmp_path):
    path = output(
        tmp_path / "out.h5",
        native_wngrid=[5000.0],
        native_spectrum=[0.011],
        instrument_wngrid=[5000.0, 4000.0],
        instrument_spectrum=[0.01, 0.02],
        instrument_noise=[1e-4, 2e-4],
        instrument_wnwidth=[100.0, 100.0],
    )
    spectra = draper.read(path)
    np.testing.assert_allclose(spectra.grid.vacuum, [2e4, 2.5e4])
    np.testing.assert_allclose(spectra.ivar**-0.5, [[1e-4, 2e-4]], rtol=1e-6)


def test_taurex_output_with_its_planet(tmp_path):
    path = output(tmp_path / "out.h5", native_wngrid=[5000.0], native_spectrum=[0.011])
    with h5py.File(path, "a") as file:
        for place, value in {
            "Planet/planet_mass": 0.8,
            "Planet/planet_radius": 1.2,
            "Star/radius": 0.9,
            "Star/star_type": "BlackbodyStar",
            "Temperature/T": 1234,
            "Chemistry/H2O/mix_ratio": 1e-3,
            "Chemistry/CO/mix_ratio": np.full(10, 1e-3),
            "Chemistry/ratio": [0.17647],
            "Contributions/SimpleCloudsContribution/clouds_pressure": 1e3,
        }.items():
            file[f"ModelParameters/{place}"] = value
    table = dict(draper.read(path).table)
    assert table.pop("id") == ["out"]
    assert {name: value[0] for name, value in table.items()} == pytest.approx(
        {
            "planet_mass": 0.8,
            "planet_radius": 1.2,
            "star_radius": 0.9,
            "temperature": 1234,
            "log_h2o": -3,
            "log_cloud_top": -2,
        }
    )


def test_taurex_output_of_wrong_shape(tmp_path):
    path = output(tmp_path / "out.h5", native_wngrid=[5000.0, 4000.0], native_spectrum=[0.011])
    with pytest.raises(DraperError, match="differ in length"):
        draper.read(path)
    path = output(tmp_path / "none.h5", native_spectrum=[0.011])
    with pytest.raises(DraperError, match="no wavenumbers"):
        draper.read(path)


def netcdf(path, four):
    values = {
        "central_wavelength": ([5.0, 6.0], b"micron"),
        "bin_half_width": ([0.5, 0.5], b"micron"),
        "transit_depth": ([0.01, 0.02], b""),
        "transit_depth_error": ([1e-4, 2e-4], b""),
    }
    if four:
        with h5py.File(path, "w") as file:
            file.attrs["_NCProperties"] = "version=2"
            for name, (numbers, unit) in values.items():
                file[name] = numbers
                file[name].attrs["units"] = unit
        return path
    with netcdf_file(path, "w") as file:
        file.createDimension("x", 2)
        for name, (numbers, unit) in values.items():
            variable = file.createVariable(name, "d", ("x",))
            variable[:] = numbers
            variable.units = unit
    return path


@pytest.mark.parametrize("four", [False, True])
def test_netcdf(tmp_path, four):
    path = netcdf(tmp_path / "planet.nc", four)
    with pytest.raises(DraperError, match="medium="):
        draper.read(path)
    spectra = draper.read(path, medium="vacuum")
    assert spectra.quantity == "transit depth"
    np.testing.assert_allclose(spectra.grid.edges, [[45000, 55000], [55000, 65000]])
    np.testing.assert_allclose(spectra.flux, [[0.01, 0.02]], rtol=1e-6)
    np.testing.assert_allclose(spectra.ivar, [[1e8, 2.5e7]], rtol=1e-6)


# --------------------------------------------------------------------------------------------- real files


def test_real_exogan_input(real_data):
    spectra = draper.read(real_data / "exogan" / "input_spectrum.dat", format="exogan")
    assert spectra.flux.shape == (1, 515)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([3015.0, 501734.0], abs=0.1)
    assert spectra.flux[0, -1] == pytest.approx(8.084756036e-03, rel=1e-6)
    np.testing.assert_allclose(spectra.ivar, 2.5e9, rtol=1e-6)


def test_real_taurex_quickstart(real_data):
    spectra = draper.read(real_data / "taurex" / "quickstart.dat")
    assert spectra.meta["format"] == "taurex"
    assert spectra.flux.shape == (1, 192)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([7456.454, 49878.654], abs=1e-3)
    assert spectra.flux[0, -1] == pytest.approx(1.055643925e-02, rel=1e-6)
    assert spectra.table["temperature"][0] == pytest.approx(1265.97764826)
    assert spectra.table["log_co2"][0] == pytest.approx(np.log10(1.1185e-4))


def test_real_miri_netcdf(real_data):
    (path,) = (real_data / "jwst_wasp17b_miri").glob("*.nc")
    spectra = draper.read(path, medium="vacuum")
    assert spectra.flux.shape == (1, 28)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([51250, 118750])
    assert spectra.flux[0, 0] == pytest.approx(0.01547251, rel=1e-6)
    np.testing.assert_allclose(spectra.grid.edges[0], [50000, 52500])
