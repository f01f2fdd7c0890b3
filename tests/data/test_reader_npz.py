"""Arrays: npz of The Payne, one_payne and others, npy, GANDALF's folder; streamed, and never unpickled."""

import subprocess
import sys

import numpy as np
import pytest

import draper
from draper.configs.read import ReadConfig
from draper.data import units
from draper.data.parsing.numpy_files import Archive, read_npy
from draper.data.parsing.source import Source
from draper.data.readers import npz
from draper.errors import DraperError

VACUUM = {"unit": "angstrom", "medium": "vacuum"}
WAVE = np.array([5000.0, 5001.0, 5002.0])
FLUX = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)


def saved(tmp_path, save=np.savez, name="set.npz", **arrays):
    save(tmp_path / name, **arrays)
    return tmp_path / name


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back(tmp_path, save):
    arrays = {
        "a": FLUX,
        "b": np.asfortranarray(FLUX),
        "c": np.array("text"),
        "d": np.empty((0, 3)),
        "e": FLUX.astype(">f8"),
    }
    archive = Archive(saved(tmp_path, save, **arrays))
    assert list(archive) == list(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(archive[name], values)
    assert isinstance(archive["a"], np.memmap) == (save is np.savez)


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DraperError, match="never read"):
        read_npy(tmp_path / "o.npy")
    path = saved(tmp_path, flux=np.array([[1, None]], dtype=object), wavelength=WAVE)
    with pytest.raises(DraperError, match="never read"):
        draper.read(path, **VACUUM)


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    np.save(tmp_path / "big.npy", np.zeros(8))
    content = (tmp_path / "big.npy").read_bytes()
    (tmp_path / "big.npy").write_bytes(content.replace(b"(8,)", b"(9,)"))
    with pytest.raises(DraperError, match="ends early"):
        read_npy(tmp_path / "big.npy")


def test_generic_names(tmp_path):
    path = saved(
        tmp_path, wave_air_A=WAVE[::-1], flux=FLUX[:, ::-1], err=np.full((2, 3), 0.5),
        mask=[[0, 0, 1], [0, 0, 0]], name="named.npz", object=["a", "b"],
        Teff=[5000.0, 6000.0], note=np.arange(5),
    )  # fmt: skip
    spectra = draper.read(path)
    np.testing.assert_allclose(spectra.grid.vacuum, units.air_to_vacuum(WAVE), rtol=1e-14)
    np.testing.assert_array_equal(spectra.flux, FLUX)
    assert spectra.ivar.tolist() == [[0, 4, 4], [4, 4, 4]]
    assert spectra.ids.tolist() == ["a", "b"]
    assert spectra.table["teff"].tolist() == [5000, 6000]
    assert set(spectra.table) == {"id", "teff"}


@pytest.mark.parametrize("error", [0.5, np.array([0.5, 0.5, 0.25])])
def test_one_error_for_all_spectra(tmp_path, error):
    path = saved(tmp_path, wavelength=WAVE[::-1], flux=FLUX, err=error)
    expected = np.broadcast_to(error, 3)[::-1] ** -2.0
    assert draper.read(path, **VACUUM).ivar.tolist() == [expected.tolist()] * 2


def test_the_payne_training_set(tmp_path):
    labels = np.array([[5000.0, 6000.0], [4.0, 4.5], [0.0, -1.0]])
    path = saved(tmp_path, labels=labels, spectra=FLUX)
    with pytest.raises(DraperError, match="that does: wavelengths="):
        draper.read(path, **VACUUM)
    grid = saved(tmp_path, name="grid.npz", wavelength=WAVE)
    spectra = draper.read(path, wavelengths=grid, columns=("Teff", "logg", "[Fe/H]"), **VACUUM)
    assert spectra.table["teff"].tolist() == [5000, 6000]
    assert spectra.table["fe_h"].tolist() == [0, -1]
    np.testing.assert_array_equal(spectra.flux, FLUX)
    unnamed = draper.read(path, wavelengths=grid, **VACUUM)
    assert unnamed.table["param_1"].tolist() == [4, 4.5]
    with pytest.raises(DraperError, match="3 label columns and 2 names"):
        draper.read(path, wavelengths=grid, columns=("teff", "logg"), **VACUUM)


def test_the_payne_with_as_many_labels_as_spectra(tmp_path):
    labels = np.array([[5000.0, 6000.0], [4.0, 4.5]])
    np.save(tmp_path / "wave.npy", WAVE)
    spectra = draper.read(
        saved(tmp_path, labels=labels, spectra=FLUX),
        wavelengths=tmp_path / "wave.npy",
        columns=("teff", "logg"),
        **VACUUM,
    )
    assert spectra.table["teff"].tolist() == [5000, 6000]


def test_one_payne_training_set(tmp_path):
    path = saved(
        tmp_path,
        wvl=WAVE,
        flxn=FLUX.T,
        labels=np.array([[5.0, 6.0], [4.0, 4.5]]),
        label_names=["teff", "logg"],
    )
    spectra = draper.read(path, **VACUUM)
    assert spectra.quantity == "normalised flux"
    assert spectra.table["teff"].tolist() == [5000, 6000]
    assert spectra.table["logg"].tolist() == [4, 4.5]
    np.testing.assert_array_equal(spectra.flux, FLUX)


def test_a_square_one_payne_set_is_transposed(tmp_path):
    square = np.arange(9.0).reshape(3, 3)
    spectra = draper.read(saved(tmp_path, wvl=WAVE, flxn=square), **VACUUM)
    np.testing.assert_array_equal(spectra.flux, square.T)


def test_integer_coded_flux_is_scaled(tmp_path):
    path = saved(
        tmp_path, wave_air=WAVE, flux_u16=np.array([[50000, 25000, 0]], dtype=np.uint16), flux_scale=2e-5
    )
    np.testing.assert_array_equal(draper.read(path, unit="angstrom").flux, np.float32([[1, 0.5, 0]]))


def test_one_npy_array(tmp_path):
    np.save(tmp_path / "flux.npy", np.where(FLUX == 5, np.nan, FLUX))
    (tmp_path / "wave.txt").write_text("5000\n5001\n5002\n")
    spectra = draper.read(tmp_path / "flux.npy", wavelengths=tmp_path / "wave.txt", **VACUUM)
    assert spectra.ivar.tolist() == [[1, 1, 1], [1, 0, 1]]
    with pytest.raises(DraperError, match="differ in length"):
        draper.read(tmp_path / "flux.npy", wavelengths=saved(tmp_path, name="w.npz", wave=WAVE[:2]), **VACUUM)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"w_array_0": FLUX, "x_min": WAVE}, "network weights, not spectra"),
        ({"wavelength": WAVE}, "no array is recognised as spectra"),
        ({"wavelength": WAVE, "flux": FLUX[:, :2]}, "does not fit the wavelengths"),
        ({"wavelength": WAVE, "flux": FLUX[0, :2]}, "does not fit the wavelengths"),
        ({"wavelength": WAVE, "flux": 1.0}, "does not fit the wavelengths"),
        ({"wavelength": WAVE, "flux": FLUX, "labels": np.zeros((5, 4))}, "one row for each spectrum"),
        ({"wavelength": WAVE, "flux": FLUX.astype(str)}, "not numbers"),
        ({"wavelength": ["a", "b", "c"], "flux": FLUX}, "not one row of wavelengths"),
        ({"wavelength": WAVE, "flux": FLUX, "err": np.ones((3, 2, 1))}, "does not fit"),
    ],
)
def test_wrong_arrays_are_explained(tmp_path, arrays, message):
    with pytest.raises(DraperError, match=message):
        draper.read(saved(tmp_path, **arrays), **VACUUM)


def test_a_mapped_archive_is_passed_on_in_batches(tmp_path):
    flux = np.zeros((5000, 3), dtype=np.float32)
    path = saved(tmp_path, flux=flux, wavelength=WAVE)
    sizes = [len(batch) for batch in npz.read_archive(Source(path), ReadConfig(**VACUUM))]
    assert sizes == [4096, 904]


# ----------------------------------------------------------------------------------------------- GANDALF


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "apogee"
    where.mkdir()
    np.save(where / "X.npy", np.where(FLUX == 6, np.nan, FLUX).astype(np.float64))
    np.save(where / "params.npy", np.array([[4000.0, 1.0], [5000.0, 2.0]]))
    np.save(where / "ids.npy", np.array(["2M0001", "2M0002"]))
    np.save(where / "axis_labels.npy", WAVE)
    return where


def test_gandalf_folder(folder):
    spectra = draper.read(folder, columns=("TEFF", "LOGG"), **VACUUM)
    assert spectra.meta["format"] == "gandalf"
    assert spectra.ids.tolist() == ["2M0001", "2M0002"]
    assert spectra.table["teff"].tolist() == [4000, 5000]
    assert spectra.flux.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert spectra.ivar.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert draper.read(folder, **VACUUM).table["param_1"].tolist() == [1, 2]
    np.save(folder / "params_names.npy", np.array(["teff", "logg"]))
    assert draper.read(folder, **VACUUM).table["logg"].tolist() == [1, 2]
    with pytest.raises(DraperError, match="unit="):
        draper.read(folder, medium="vacuum")


def test_gandalf_folder_with_arrays_of_other_spectra(folder):
    np.save(folder / "ids.npy", np.array(["2M0001"]))
    with pytest.raises(DraperError, match="'id' does not have one value"):
        draper.read(folder, **VACUUM)


def test_gandalf_folder_with_pickled_ids(folder):
    np.save(folder / "ids.npy", np.array(["2M0001", "2M0002"], dtype=object), allow_pickle=True)
    with pytest.raises(DraperError, match="plain array"):
        draper.read(folder, **VACUUM)


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is read from /proc")
def test_a_large_folder_is_never_in_memory(tmp_path):
    rows, columns = 40_000, 800  # 256 MB as float64
    where = tmp_path / "large"
    where.mkdir()
    flux = np.lib.format.open_memmap(where / "X.npy", "w+", np.float64, (rows, columns))
    flux[::1000] = 1.0
    del flux
    np.save(where / "axis_labels.npy", 15000 + np.arange(columns))
    code = (
        "import resource, sys\n"
        "from draper.configs.read import ReadConfig\n"
        "from draper.data import io\n"
        "def anonymous():\n"
        "    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('RssAnon'))\n"
        "before, most, total = anonymous(), 0, 0\n"
        "config = ReadConfig(unit='angstrom', medium='vacuum')\n"
        "for batch in io.stream([sys.argv[1]], config):\n"
        "    total, most = total + len(batch), max(most, anonymous())\n"
        "print(total, most - before)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(where)], capture_output=True, text=True, check=True)
    total, grown = map(int, out.stdout.split())
    assert total == rows
    assert grown < 150_000  # kB; X alone is 256 MB


# --------------------------------------------------------------------------------------------- real files


def test_real_lamost_set(real_data):
    spectra = draper.read(real_data / "lamost" / "lamost_131.npz")
    assert spectra.flux.shape == (131, 3904)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([3699.985, 9088.663], abs=1e-3)
    assert spectra.ids[0] == "spec-55862-B6212_sp06-003.fits"
    assert spectra.table["teff"][0] == pytest.approx(5456.41, abs=0.01)
    assert spectra.table["fe_h"][0] == pytest.approx(-0.54)
    assert "fe_h_err" in spectra.table


def test_real_planets_of_exogan(real_data):
    spectra = draper.read(real_data / "taurex_exogan" / "train_1544.npz", medium="vacuum")
    assert spectra.quantity == "transit depth"
    assert spectra.flux.shape == (1544, 362)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([4400.47, 159777.44], abs=0.05)
    assert {"mp", "t", "rp", "h2o", "co2", "ch4", "co"} <= set(spectra.table)
    assert spectra.table["t"].max() == 2000


def test_real_apogee_visits_with_wavelengths_elsewhere(real_data):
    folder = real_data / "apogee_binspec"
    spectra = draper.read(
        folder / "visit_spectra_ap_id_2M06133561+2433362_.npz",
        wavelengths=folder / "apogee_wavelength.npz",
        **VACUUM,
    )
    assert spectra.flux.shape == (3, 7214)
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([15168.13, 16936.75], abs=5e-3)
    assert spectra.table["snrs"].max() == pytest.approx(102.327, abs=1e-3)
    assert spectra.ivar.max() == pytest.approx(0.0068206**-2, rel=1e-3)


@pytest.mark.parametrize(
    "name", ["NN_normalized_spectra", "NN_radius", "NN_Teff2_logg2", "NN_unnormalized_spectra"]
)
def test_real_networks_are_not_spectra(real_data, name):
    with pytest.raises(DraperError, match="network weights, not spectra"):
        draper.read(real_data / "apogee_binspec" / f"{name}.npz", **VACUUM)


@pytest.mark.parametrize(
    ("name", "shape", "first", "last"),
    [
        ("rvs_grid", (1847, 5241), 8452.322, 8714.393),
        ("rvs_ges", (358, 5241), 8452.322, 8714.393),
        ("sed_grid", (462, 367), 3260.940, 10582.899),
    ],
)
def test_our_grids(real_data, name, shape, first, last):
    spectra = draper.read(real_data / "ours" / f"{name}.npz", unit="angstrom")
    assert spectra.flux.shape == shape
    assert spectra.grid.vacuum[[0, -1]] == pytest.approx([first, last], abs=2e-3)
    assert ("teff" in spectra.table) == (name != "rvs_ges")
    if name == "rvs_grid":
        assert spectra.flux.max() == pytest.approx(1.0)
        assert spectra.table["teff"].max() == pytest.approx(6996.89, abs=0.01)
