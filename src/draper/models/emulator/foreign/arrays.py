"""Named arrays of untrusted files: numbers and text, whose size is limited by that of the file."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from draper.data.hdf5 import opened
from draper.data.parsing.numpy_files import KINDS, Archive, Array, damaged
from draper.data.parsing.source import Source
from draper.errors import option_text

Arrays = Mapping[str, Array]

DEPTH = 3
"""Depth of groups to which an HDF5 file is searched."""

MOST_NAMES = 10_000
"""Largest number of names that are read of each group."""

RATIO, SLACK = 50, 2**20
"""Arrays may be this many times as large as the file, plus some bytes: weights hardly compress, so larger
ones are decompression bombs."""


def named_arrays(source: Source) -> Arrays:
    """Return the arrays of an npz or HDF5 file by name; each is read on access."""
    if source.kind == "zip":
        _refuse_bombs(source.path)
        return Archive(source.path)
    if source.kind == "hdf5":
        return Datasets(source.path)
    raise source.error(
        "weights of networks are read from npz and HDF5 files",
        given=f"a file of kind {source.kind}",
        hint="a checkpoint of torch (.pt) needs pickle: let the code that wrote it write npz",
    )


class Datasets(Mapping[str, Array]):
    """The data sets of an HDF5 file as ``group/name``, without links to other files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path, math.inf) as file:  # each array that is read has a stricter limit
            self._names = list(_names(file, "", DEPTH))

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        with opened(self.path, math.inf) as file:
            dataset = file[name]
            if dataset.nbytes > RATIO * self.path.stat().st_size + SLACK:
                raise damaged(self.path, f"'{name}' of shape {dataset.shape} cannot be in so small a file")
            if dataset.external or dataset.is_virtual:
                raise damaged(self.path, f"'{name}' lies in another file")
            if h5py.check_string_dtype(dataset.dtype) is not None:
                return np.array(dataset.asstr("utf-8", "replace")[()], dtype=np.str_)
            if dataset.dtype.kind not in KINDS:
                raise damaged(self.path, f"'{name}' holds neither numbers nor text")
            return np.asarray(dataset[()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def numbers(source: Source, arrays: Arrays, name: str, axes: int) -> NDArray[np.float64]:
    """Return a finite array with this number of axes, none of them empty."""
    if name not in arrays:
        raise source.error(
            f"the file holds no '{name}'", given=list_names(arrays), hint="write it again, whole"
        )
    values = arrays[name]
    if values.ndim != axes or values.dtype.kind not in "iuf" or not values.size:
        raise source.error(
            f"'{name}' is not an array of numbers with {axes} axes",
            given=f"{values.dtype} {values.shape}",
            hint=f"if the file is of another code, name its format: {option_text('format')}",
        )
    if not np.isfinite(values).all():
        raise source.error(f"'{name}' has values that are not finite", hint="train the network again")
    return np.asarray(values, dtype=np.float64)


def words(arrays: Arrays, name: str) -> tuple[str, ...]:
    """Return the strings of an array of text; none if there is no such array."""
    if name not in arrays or arrays[name].dtype.kind not in "SU":
        return ()
    values = arrays[name].reshape(-1)
    return tuple(
        word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in values.tolist()
    )


def list_names(arrays: Arrays) -> str:
    """Return the names of the first arrays."""
    return ", ".join(list(arrays)[:20]) or "no arrays"


def _names(group: h5py.Group, prefix: str, depth: int) -> Iterator[str]:
    for count, name in enumerate(group):
        if count > MOST_NAMES:
            return
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            yield prefix + name
        elif isinstance(item, h5py.Group) and depth > 1:
            yield from _names(item, f"{prefix}{name}/", depth - 1)


def _refuse_bombs(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            largest = max((member.file_size for member in archive.infolist()), default=0)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise damaged(path, error) from None
    if largest > RATIO * path.stat().st_size + SLACK:
        raise damaged(path, f"an array of {largest:,} bytes cannot be in so small a file")
