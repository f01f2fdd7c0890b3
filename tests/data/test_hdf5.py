"""Damaged HDF5 files are refused before libhdf5 looks for what is not there."""

import h5py
import numpy as np
import pytest

import draper
from draper.data.grid import Grid
from draper.data.hdf5 import HEAP, opened
from draper.data.spectra import Spectra
from draper.errors import DraperError


@pytest.fixture
def path(tmp_path):
    grid = Grid.linear(5000, 5007, 1, medium="vacuum")
    table = {"id": ["a", "b"], "survey": ["galah", "apogee"]}
    return draper.write(Spectra(grid, np.ones((2, 8)), table=table), tmp_path / "a.h5")


@pytest.mark.parametrize("size", [0, 8, 2**63, 2**64 - 1])
def test_heaps_of_text_that_do_not_end_are_refused(path, size):
    """The free space of a heap has no size: libhdf5 would read the same place for ever."""
    content = bytearray(path.read_bytes())
    heap = content.index(HEAP)
    content[heap + 16 : heap + 18] = bytes(2)
    content[heap + 24 : heap + 32] = size.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(DraperError, match="damaged"):
        draper.read(path)


def test_heaps_that_are_larger_than_the_file_are_refused(path):
    content = bytearray(path.read_bytes())
    start = content.index(HEAP) + len(HEAP)
    content[start : start + 8] = (2**62).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(DraperError, match="damaged"):
        draper.read(path)


def test_pixels_that_look_like_a_heap_are_pixels(path):
    """Neither contiguous nor compressed data are searched for heaps."""
    heap = np.frombuffer(HEAP + bytes(24), np.float32)
    with h5py.File(path, "r+") as file:
        file["flux"][0] = heap
        file["more"] = np.tile(heap, 100)
        file.create_dataset("chunked", data=np.tile(heap, 100), chunks=(80,))
    with opened(path) as file:
        assert len(file["more"]) == len(file["chunked"]) == 800


def test_files_with_and_without_text_are_opened(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["x"] = np.arange(3)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = [f"a text of {length} letters " + "x" * length for length in range(1000)]
        file["nothing"] = h5py.Empty("f4")
    for name in ("a", "b"):
        with opened(tmp_path / f"{name}.h5") as file:
            assert len(file["x"][()])
