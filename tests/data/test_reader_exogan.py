"""ExoGAN's files: pickled chunks of its training set, and the .dat and .par that draper writes for it."""

import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import draper
from draper.data.grid import Grid
from draper.data.parsing import parfile
from draper.data.readers.exogan_chunks import JUPITER_MASS, JUPITER_RADIUS, exogan_grid
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.simulate import planet_units
from draper.simulate.planets import LABELS

FALLING = np.linspace(0.02, 0.01, 515)
"""Depths from the longest wavelength to the shortest, as a chunk lists them."""


def entry(number: int, depth: np.ndarray = FALLING) -> dict[str, Any]:
    return {
        "param": {
            "planet_mass": JUPITER_MASS * (1 + number),
            "temperature_profile": np.full(100, 1000.0 + number),
            "ch4_mixratio": 1e-4,
            "h2o_mixratio": np.float64(1e-3),
            "co2_mixratio": 0.0,
            "planet_radius": 1.5 * JUPITER_RADIUS,
        },
        "data": {"spectrum": depth + 1e-3 * number},
    }


def chunk(path: Path, content: Any, protocol: int = 2) -> Path:
    path.write_bytes(gzip.compress(pickle.dumps(content, protocol=protocol), mtime=0))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_chunk_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    # Eleven, so that the order of text differs from that of numbers.
    content = {number: entry(number) for number in range(10, -1, -1)}
    path = chunk(tmp_path / "chunck_7.pkgz", content, protocol)
    spectra = draper.read(path)
    assert spectra.meta["format"] == "exogan-chunk"
    assert spectra.quantity == "transit depth"
    assert spectra.grid.matches(exogan_grid())
    np.testing.assert_allclose(spectra.flux[2], FALLING[::-1] + 2e-3, rtol=1e-6)
    table = {name: column[2] for name, column in spectra.table.items()}
    assert table.pop("id") == "chunck_7-2"
    assert np.isnan(table.pop("log_co2"))
    assert table == pytest.approx(
        {"planet_mass": 3.0, "temperature": 1002.0, "log_ch4": -4.0, "log_h2o": -3.0, "planet_radius": 1.5}
    )


def test_several_chunks_are_joined(tmp_path: Path) -> None:
    for number in range(2):
        chunk(tmp_path / f"chunck_{number}.pkgz", {0: entry(number), 1: entry(number + 5)})
    spectra = draper.read(tmp_path)
    assert spectra.ids.tolist() == ["chunck_0-0", "chunck_0-1", "chunck_1-0", "chunck_1-1"]
    assert spectra.table["planet_mass"] == pytest.approx([1, 6, 2, 7])


def in_python_2(value: Any) -> bytes:
    """Return opcodes of protocol 2 as Python 2 wrote them: text and bytes alike are its old strings."""
    match value:
        case dict():
            return b"}(" + b"".join(in_python_2(part) for pair in value.items() for part in pair) + b"u"
        case str():
            return b"U" + bytes([len(value)]) + value.encode()
        case float():
            return b"G" + struct.pack(">d", value)
        case int():
            return b"K" + bytes([value])
        case _:
            raw = value.astype(">f8").tobytes()
            number = (
                b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01>NNN"
                + 2 * b"J\xff\xff\xff\xff"
                + b"K\x00tb"
            )
            empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            shape = b"M" + struct.pack("<H", len(value)) + b"\x85"
            return empty + b"(K\x01" + shape + number + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"


def test_a_chunk_of_python_2(tmp_path: Path) -> None:
    content = {3: {"param": {"planet_radius": JUPITER_RADIUS}, "data": {"spectrum": FALLING}}}
    path = tmp_path / "old.pkgz"
    path.write_bytes(gzip.compress(b"\x80\x02" + in_python_2(content) + b"."))
    spectra = draper.read(path)
    np.testing.assert_array_equal(spectra.flux[0], FALLING[::-1].astype(np.float32))
    assert spectra.table["planet_radius"] == [1.0]
    assert spectra.ids == ["old-3"]


class Malicious:
    """Unpickled by Python, it runs a command."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch ran",), "system"),
        (eval, ("open('ran', 'w')",), "eval"),
        (np.fromfile, ("ran",), "fromfile"),
        (getattr, (np.ndarray, "tofile"), "getattr"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any, arguments: Any, name: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = chunk(tmp_path / "bad.pkgz", {0: entry(0), 1: Malicious(function, *arguments)}, protocol)
    with pytest.raises(DraperError, match=rf"bad\.pkgz: the pickle asks for '\w+\.{name}'"):
        draper.read(path)
    assert not Path("ran").exists()


def test_a_pickle_cannot_change_what_the_next_one_reads(tmp_path: Path) -> None:
    path = tmp_path / "sly.pkgz"
    change = b"cnumpy.core.multiarray\nscalar\n(N}X\x0c\x00\x00\x00__defaults__(K\x01K\x02tstb"
    hidden = b"}X\x05\x00\x00\x00paramX\x08\x00\x00\x00spectrums"
    path.write_bytes(b"\x80\x02" + change + hidden + b".")
    with pytest.raises(DraperError, match="not a chunk"):
        draper.read(path)
    assert draper.read(chunk(tmp_path / "good.pkgz", {0: entry(0)})).table["log_h2o"] == pytest.approx(-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({0: {"param": {}, "spectrum": 1}}, "'data'"),
        ({0: entry(0), 1: entry(1, FALLING[:-1])}, "not a chunk"),
        ({"param": "spectrum"}, "not a chunk"),
        ([{"param": {}, "data": {"spectrum": FALLING}}], "not a chunk"),
        ({0: {"param": {}, "data": {"spectrum": ["a"] * 515}}}, "not a chunk"),
        ({0: {"param": {1: 2.0}, "data": {"spectrum": FALLING}}}, "not a chunk"),
        ({0: {"param": {}, "data": {"spectrum": np.array(["a"] * 515)}}}, "other than numbers"),
        ({0: {"param": {}, "data": {"spectrum": FALLING.astype(object)}}}, "other than numbers"),
    ],
)
def test_pickles_of_something_else(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        draper.read(chunk(tmp_path / "other.pkgz", content))


def test_a_chunk_of_other_wavelengths(tmp_path: Path) -> None:
    path = chunk(tmp_path / "short.pkgz", {0: entry(0, np.array([0.02, 0.01]))})
    with pytest.raises(DraperError, match="wavelengths="):
        draper.read(path)
    np.savetxt(tmp_path / "grid.txt", [2.0, 1.0])
    spectra = draper.read(path, wavelengths=tmp_path / "grid.txt", unit="um", medium="vacuum")
    np.testing.assert_allclose(spectra.flux, [[0.01, 0.02]], rtol=1e-6)
    np.testing.assert_allclose(spectra.grid.vacuum, [1e4, 2e4])


def test_a_profile_that_is_not_isothermal_has_no_temperature(tmp_path: Path) -> None:
    planet = entry(0)
    planet["param"]["temperature_profile"] = np.linspace(1000, 900, 100)
    spectra = draper.read(chunk(tmp_path / "a.pkgz", {0: planet}))
    assert np.isnan(spectra.table["temperature"][0])


def test_the_units_are_those_of_the_simulator() -> None:
    assert (JUPITER_MASS, JUPITER_RADIUS) == (planet_units.JUPITER_MASS, planet_units.JUPITER_RADIUS)


def test_the_wavelengths_are_those_of_exogan(real_data: Path) -> None:
    published = np.loadtxt(real_data / "exogan" / "wnw_grid.txt")
    np.testing.assert_allclose(exogan_grid().vacuum[::-1], 1e4 * published, rtol=1e-13)


# ------------------------------------------------------------------------------------------------- writing

PLANET = {
    "planet_mass": 1.13, "planet_radius": 1.138, "temperature": 1191.0, "star_radius": 0.78,
    "log_h2o": -3.3, "log_co2": -5.25, "log_ch4": -8.0, "log_co": -4.7,
}  # fmt: skip


def observed(labels: dict[str, float], pixels: int = 5) -> Spectra:
    rng = np.random.default_rng(0)
    grid = exogan_grid()[:pixels]
    depth = rng.uniform(0.01, 0.02, (1, pixels))
    table = {"id": np.array(["hd189733b"]), **{name: np.array([value]) for name, value in labels.items()}}
    return Spectra(grid, depth, rng.uniform(1e8, 1e9, (1, pixels)), table, quantity="transit depth")


def test_written_and_read_again(tmp_path: Path) -> None:
    spectra = observed(PLANET, 515)
    path = draper.write(spectra, tmp_path / "hd189733b.dat")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["hd189733b.dat", "hd189733b.par"]
    again = draper.read(path)
    assert again.meta["format"] == "exogan"
    assert again.quantity == "transit depth"
    assert again.grid.matches(spectra.grid)
    np.testing.assert_array_equal(again.flux, spectra.flux)
    np.testing.assert_allclose(again.ivar, spectra.ivar, rtol=1e-6)
    assert again.ids == ["hd189733b"]
    assert {name: again.table[name][0] for name in PLANET} == pytest.approx(PLANET, rel=1e-12)
    micron, *_ = np.loadtxt(path).T
    assert micron[[0, -1]] == pytest.approx([50.173389, 0.3015])  # the order of ExoGAN's own files


def test_bad_pixels_are_left_out_and_missing_errors_stay_missing(tmp_path: Path) -> None:
    spectra = observed({})
    ivar = spectra.ivar.copy()
    ivar[0, 1] = 0
    masked = Spectra(spectra.grid, spectra.flux, ivar, quantity="transit depth")
    assert draper.read(draper.write(masked, tmp_path / "a.dat")).flux.shape == (1, 4)
    plain = Spectra(spectra.grid, spectra.flux, quantity="transit depth")
    again = draper.read(draper.write(plain, tmp_path / "b.dat"))
    assert (again.ivar == 1).all()


def test_the_planet_of_an_older_file_is_forgotten(tmp_path: Path) -> None:
    draper.write(observed(PLANET), tmp_path / "a.dat")
    path = draper.write(observed({"temperature": np.nan}), tmp_path / "a.dat", overwrite=True)
    assert set(draper.read(path).table) == {"id"}


def test_the_parameter_file_has_the_keys_of_taurex_2() -> None:
    labels = {**PLANET, "log_haze": 2.0, "log_cloud_top": -3.0, "log_na": -6.0, "log_hcn": -5.0}
    parameters = parfile.parse(parfile.content(labels, 1.1, 1.7))
    assert parameters["atmosphere/active_gases"] == "H2O, CO2, CH4, CO, Na, HCN"
    assert parameters["atmosphere/clouds"] == "True"
    assert parameters["general/wavemax"] == "1.7"
    assert "atmosphere/clouds_pressure" not in parameters
    assert parfile.parse(parfile.content({"log_cloud_top": 1.0}, 1, 2))["atmosphere/clouds"] == "False"


@pytest.mark.parametrize("rows", [0, 2])
def test_a_dat_file_holds_one_spectrum(tmp_path: Path, rows: int) -> None:
    spectra = observed({})
    with pytest.raises(DraperError, match="one spectrum"):
        draper.write(spectra[[0] * rows], tmp_path / "a.dat")
    assert not list(tmp_path.iterdir())


def test_a_dat_file_holds_transit_depths(tmp_path: Path) -> None:
    star = Spectra(Grid.linear(5000, 5003, 1, medium="vacuum"), np.ones((1, 4)))
    with pytest.raises(DraperError, match="transit depths"):
        draper.write(star, tmp_path / "a.dat")
    assert not list(tmp_path.iterdir())


def test_real_exogan_input_is_written_as_it_was(real_data: Path, tmp_path: Path) -> None:
    original = real_data / "exogan" / "input_spectrum.dat"
    path = draper.write(draper.read(original, format="exogan"), tmp_path / "again.dat")
    np.testing.assert_allclose(np.loadtxt(path), np.loadtxt(original), rtol=2e-7)


def test_labels_are_named_as_those_of_the_simulator(tmp_path: Path) -> None:
    planet = entry(0)
    planet["param"]["co_mixratio"] = 1e-4
    spectra = draper.read(chunk(tmp_path / "a.pkgz", {0: planet}))
    assert set(LABELS.names) == set(spectra.table) - {"id"}
