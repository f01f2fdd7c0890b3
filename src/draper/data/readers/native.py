"""draper's own HDF5 file, mapped and passed on in batches."""

from __future__ import annotations

from collections.abc import Iterator

import h5py

from draper.configs.read import ReadConfig
from draper.data import store
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra


def recognises(source: Source) -> bool:
    """Whether the file is marked as draper's."""
    if source.kind != "hdf5":
        return False
    try:
        with h5py.File(source.path, "r") as file:
            return store.is_native(file)
    except store.DAMAGED:
        return False


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the mapped file in batches."""
    spectra = store.read(source.path, source.unpacked_limit)
    yield from spectra.batches() if len(spectra) else [spectra]


FORMATS = (Format("draper", "draper's own HDF5 file", recognises, read),)
