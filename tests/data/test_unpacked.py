"""Files that unpack to far more than they take on disk are refused by the size that they declare."""

import gzip
import pickle

import h5py
import numpy as np
import pytest
from astropy.table import Table

import draper
from draper.data.grid import Grid
from draper.data.partitions import Partitions
from draper.data.spectra import Spectra
from draper.errors import DraperError

PIXELS = 60_000
HINTS = {"unit": "angstrom", "medium": "vacuum"}
SMALL = 0.0004
"""A limit [GB] that 60,000 pixels exceed in every format, and their compressed files do not reach."""


def compressed_npz(folder):
    np.savez_compressed(folder / "a.npz", wave=np.arange(5000.0, 5000 + PIXELS), flux=np.ones((2, PIXELS)))
    return folder / "a.npz", HINTS


def native_that_was_packed_again(folder):
    grid = Grid(np.arange(5000.0, 5000 + PIXELS))
    draper.write(Spectra(grid, np.ones((2, PIXELS))), folder / "a.h5")
    with h5py.File(folder / "a.h5", "r+") as file:
        values = file["flux"][:]
        del file["flux"]
        file.create_dataset("flux", data=values, compression="gzip")
    return folder / "a.h5", {}


def gzipped_text(folder):
    rows = "".join(f"{wave} 1.0 0.1\n" for wave in range(5000, 5000 + PIXELS))
    (folder / "a.txt.gz").write_bytes(gzip.compress(rows.encode()))
    return folder / "a.txt.gz", HINTS


def gzipped_fits(folder):
    table = Table({"wavelength": np.arange(5000.0, 5000 + PIXELS), "flux": np.ones(PIXELS)})
    table.write(folder / "a.fits")
    (folder / "a.fits.gz").write_bytes(gzip.compress((folder / "a.fits").read_bytes()))
    return folder / "a.fits.gz", HINTS


def gzipped_pickle(folder):
    planets = {n: {"param": {"planet_radius": 7e7}, "data": {"spectrum": np.ones(515)}} for n in range(100)}
    (folder / "a.pkgz").write_bytes(gzip.compress(pickle.dumps(planets)))
    return folder / "a.pkgz", {}


def equal_values_in_parquet(folder):
    pytest.importorskip("pyarrow")
    grid = Grid(np.arange(5000.0, 5000 + PIXELS))
    return draper.write(Spectra(grid, np.ones((2, PIXELS))), folder / "a.parquet"), {}


MAKERS = (
    compressed_npz, native_that_was_packed_again, gzipped_text, gzipped_fits, gzipped_pickle,
    equal_values_in_parquet,
)  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_the_limit_is_obeyed_and_can_be_raised(tmp_path, make):
    path, hints = make(tmp_path)
    with pytest.raises(DraperError, match=r"unpacks to more than the limit[\s\S]*unpacked_limit="):
        draper.read(path, unpacked_limit=SMALL, **hints)
    assert len(draper.read(path, unpacked_limit=0.1, **hints))


def test_a_declared_size_is_refused_before_memory_is_taken(tmp_path):
    """400 GB of compressed pixels were allocated before; none of them is in the file."""
    grid = Grid(np.arange(5000.0, 5000 + PIXELS))
    path = draper.write(Spectra(grid, np.ones((2, PIXELS))), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["flux"]
        file.create_dataset("flux", (10**6, 10**5), np.float32, chunks=(1, 10**5), compression="gzip")
    with pytest.raises(DraperError, match="400 GB or more"):
        draper.read(path)


def test_an_array_that_ends_beyond_the_file_is_refused(tmp_path):
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        file.attrs["_NCProperties"] = "version=2"
        file["wavelength"], file["flux"] = np.arange(5000.0, 6000), np.ones(1000)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DraperError, match="truncated"):
        draper.read(path, **HINTS)


def test_label_tables_obey_the_limit(tmp_path):
    (tmp_path / "sun.txt").write_text("5000 1.0\n5001 0.9\n")
    rows = "".join(f"{name},5777\n" for name in ["id", "sun", *(f"x{number}" for number in range(10_000))])
    table = tmp_path / "labels.csv.gz"
    table.write_bytes(gzip.compress(rows.replace("id,5777", "id,teff").encode()))
    read = {"labels": table, **HINTS}
    with pytest.raises(DraperError, match="unpacks to more"):
        draper.read(tmp_path / "sun.txt", unpacked_limit=1e-4, **read)
    assert draper.read(tmp_path / "sun.txt", **read).table["teff"] == 5777


def test_a_folder_of_partitions_obeys_the_limit(tmp_path):
    path, _ = equal_values_in_parquet(tmp_path)
    with pytest.raises(DraperError, match="unpacks to more"):
        Partitions(path, unpacked_limit=SMALL)
