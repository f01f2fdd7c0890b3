"""Joined data sets stay known wherever pixels are chosen, and are never those of other pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import draper
from draper.cli import main
from draper.data.data_sets import exposures, join, simulated
from draper.data.grid import Grid
from draper.data.partitions import Partitions, write_partitions
from draper.data.resample import resample
from draper.data.spectra import Spectra, lacks_errors
from draper.errors import DraperError


def one(start: float, ivar: float | None = 4.0, count: int = 5) -> Spectra:
    edges = start + 2.0 * np.arange(count)[:, None] + np.array([-1.0, 1.0])
    grid = Grid.from_wavelength(edges.mean(axis=1), medium="vacuum", edges=edges)
    flux = np.linspace(0.01, 0.02, count)[None]
    weights = None if ivar is None else np.full((1, count), ivar)
    return Spectra(grid, flux, weights, {"id": ["planet"]}, "transit depth")  # type: ignore[arg-type]


BOTH = join([one(5000), one(5003)])
SETS = [0, 0, 1, 0, 1, 0, 1, 0, 1, 1]


def test_chosen_pixels_keep_their_data_sets() -> None:
    assert BOTH.meta["data_sets"] == SETS
    assert BOTH.pixels(slice(1, 4)).meta["data_sets"] == SETS[1:4]
    assert BOTH.pixels(np.array([0, 2, 9])).meta["data_sets"] == [0, 1, 1]
    assert BOTH.cut([(5002.5, 5004.5)]).meta["data_sets"] == [1, 0]
    assert BOTH[0].meta["data_sets"] == SETS


def test_other_grids_have_no_data_sets() -> None:
    assert "data_sets" not in resample(BOTH, Grid.linear(5000, 5010, 5, medium="vacuum")).meta
    assert resample(BOTH, BOTH.grid).meta["data_sets"] == SETS
    with pytest.raises(DraperError, match=r"one number for each pixel[\s\S]*10 numbers[\s\S]*5"):
        replace(BOTH, grid=BOTH.grid[:5], flux=BOTH.flux[:, :5], ivar=BOTH.ivar[:, :5])


def test_other_data_sets_are_not_mixed(tmp_path: Path) -> None:
    other = replace(BOTH, meta={**BOTH.meta, "data_sets": [0] * 10})
    with pytest.raises(DraperError, match="not from the same data sets"):
        Spectra.concat([BOTH, other])
    with pytest.raises(DraperError, match="not from the same data sets"):
        draper.write(iter([BOTH, other]), tmp_path / "both.h5")
    pytest.importorskip("pyarrow")
    folder = write_partitions(BOTH, tmp_path / "parts")
    draper.write(other, folder / "part-000001.parquet")
    with pytest.raises(DraperError, match="not from the same data sets"):
        Partitions(folder)
    assert Spectra.concat([BOTH, BOTH]).meta["data_sets"] == SETS


@pytest.mark.parametrize("suffix", ["h5", "npz", "fits", "parquet", "csv", "ecsv"])
def test_files_keep_data_sets_and_their_bins(tmp_path: Path, suffix: str) -> None:
    again = draper.read(draper.write(BOTH, tmp_path / f"both.{suffix}"))
    assert again.meta["data_sets"] == SETS
    np.testing.assert_array_equal(again.grid.bounds, BOTH.grid.bounds)
    np.testing.assert_array_equal(again.flux, BOTH.flux)
    cut = draper.read(tmp_path / f"both.{suffix}", cut=[(5002.5, 5004.5)])
    assert cut.meta["data_sets"] == [1, 0]


MADE = replace(one(5003), meta={"source": "draper.simulate.planets"})


@pytest.mark.parametrize("suffix", ["h5", "npz", "fits", "parquet", "csv", "ecsv"])
def test_files_keep_what_the_simulator_of_planets_made(tmp_path: Path, suffix: str) -> None:
    both = join([MADE, one(5000)])
    own = join([MADE, replace(MADE, grid=one(5000).grid)])
    for spectra, made in (
        (MADE, 1),
        (one(5000), 0),
        (own, 1),
        (both, 1 - np.asarray(both.meta["data_sets"])),
    ):
        again = draper.read(draper.write(spectra, tmp_path / f"one.{suffix}", overwrite=True))
        assert (simulated(spectra) == made).all()
        assert (simulated(again) == made).all()
        assert (simulated(again.pixels(slice(0, 3))) == simulated(spectra)[:3]).all()


def test_joined_sets_are_from_their_own_sources() -> None:
    both = join([MADE, replace(one(5000), meta={"source": "real.csv"})])
    assert both.meta["source"] == "draper.simulate.planets, real.csv"
    assert both.meta["sources"] == ["draper.simulate.planets", "real.csv"]
    # Averaged over the sets, pixels are of none of them.
    assert not simulated(resample(both, Grid.linear(5000, 5010, 5, medium="vacuum"))).any()


def test_a_file_that_cannot_hold_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match=r"one data set[\s\S]*ecsv"):
        draper.write(BOTH, tmp_path / "both.dat")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.csv").write_text("wavelength_vacuum_angstrom,flux,data_set\n1,1,0\n2,1,0.5\n")
    with pytest.raises(DraperError, match="whole numbers"):
        draper.read(tmp_path / "a.csv")


def test_missing_errors_are_known_for_each_spectrum() -> None:
    assert lacks_errors(Spectra.concat([one(5000), one(5000, None)])).tolist() == [False, True]
    partly = np.where(np.array(SETS) == 1, 1, BOTH.ivar)
    assert lacks_errors(replace(BOTH, ivar=partly)).tolist() == [True]
    partly[:, 2] = 4
    assert lacks_errors(replace(BOTH, ivar=partly)).tolist() == [False]
    assert lacks_errors(BOTH[:0]).tolist() == []


def test_resampling_leaves_missing_errors_missing() -> None:
    mixed = Spectra.concat([one(5000, 4.0, 9), one(5000, None, 9)])
    coarse = resample(mixed, Grid.linear(5002, 5014, 4, medium="vacuum"))
    assert coarse.ivar[1].tolist() == [1, 1, 1, 1]
    assert lacks_errors(coarse).tolist() == [False, True]


def test_sets_that_cannot_be_weighed_against_each_other_are_not_joined() -> None:
    with pytest.raises(DraperError, match=r"some data sets have errors[\s\S]*set 1[\s\S]*column of errors"):
        join([one(5000), one(5003, None)])
    assert lacks_errors(join([one(5000, None), one(5003, None)])).tolist() == [True]
    assert join([one(5000), one(5003, 0.0)]).meta["data_sets"] == SETS  # all of it is masked
    lone = Spectra(Grid.from_wavelength([6000.0], medium="vacuum"), [[0.01]], [[4.0]], {}, "transit depth")
    with pytest.raises(DraperError, match="bin of set 1 is alone"):
        join([one(5000), lone])


def test_files_are_joined_by_read_and_convert_alike(tmp_path: Path) -> None:
    files = [str(draper.write(one(start), tmp_path / f"{start}.csv")) for start in (5000, 5003)]
    assert draper.read(files, together=True).meta["data_sets"] == SETS
    assert draper.read(files, together=True, cut=[(5002.5, 5004.5)]).meta["data_sets"] == [1, 0]
    # One of the sets lies outside of the window as a whole.
    assert set(draper.read(files, together=True, cut=[(5000, 5001.5)]).meta["data_sets"]) == {0}
    assert main(["convert", *files, "--together", "-o", str(tmp_path / "both.h5")]) == 0
    assert draper.read(tmp_path / "both.h5").meta["data_sets"] == SETS


def test_the_radius_of_a_star_is_one_value(tmp_path: Path) -> None:
    table = "wavelength_vacuum_angstrom,transit_depth,error,star_radius\n"
    for radii, known in (((0.8, 0.8), 0.8), (("", 0.8), 0.8), (("", ""), np.nan)):
        rows = [f"{5000 + number},0.01,1e-4,{radius}" for number, radius in enumerate(radii)]
        (tmp_path / "star.csv").write_text(table + "\n".join(rows) + "\n")
        assert draper.read(tmp_path / "star.csv").table["star_radius"] == pytest.approx([known], nan_ok=True)
    (tmp_path / "star.csv").write_text(f"{table}5000,0.01,1e-4,0.7\n5001,0.01,1e-4,0.8\n")
    with pytest.raises(DraperError, match="several radii"):
        draper.read(tmp_path / "star.csv")


def test_data_sets_in_different_units_are_joined() -> None:
    ppm = one(5003)
    ppm = replace(ppm, flux=ppm.flux * 1e6, ivar=ppm.ivar * 1e-12, unit="ppm")
    both = join([one(5000), ppm])
    np.testing.assert_allclose(both.flux, BOTH.flux, rtol=1e-6)
    np.testing.assert_allclose(both.ivar, BOTH.ivar, rtol=1e-6)
    with pytest.raises(DraperError, match=r"set 1 has another quantity[\s\S]*quantity="):
        join([one(5000), replace(one(5003), quantity="flux")])
    with pytest.raises(DraperError, match=r"set 1 has another unit[\s\S]*do not convert"):
        join([replace(one(5000), quantity="flux", unit=unit) for unit in ("Jy", "m")])


def test_exposures_share_a_value_of_a_column() -> None:
    blue = Spectra.concat([one(5000), one(5000), one(5000), one(5000)])
    blue = replace(blue, flux=blue.flux + np.arange(4)[:, None]).with_columns(id=["x", "y", "x", "z"])
    red = replace(one(5003), flux=one(5003).flux * 1e6, unit="ppm").with_columns(id=["z"])
    groups = [
        ([*numbers], [[*part.ids] for part in parts], [round(float(part.flux[0, 0]), 2) for part in parts])
        for numbers, parts in exposures([blue, red])
    ]
    assert groups == [
        ([0], [["x"], ["x"]], [0.01, 2.01]),
        ([1], [["y"]], [1.01]),
        ([2], [["z"], ["z"]], [3.01, 0.01]),
    ]
    with pytest.raises(DraperError, match=r"column 'star' has no value[\s\S]*1 of 4"):
        list(exposures([blue.with_columns(star=["a", "", "b", "c"])], by="star"))
