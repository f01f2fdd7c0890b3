"""draper's own HDF5 file, mapped and passed on in batches."""

from __future__ import annotations

from collections.abc import Iterator

from draper.configs.read import ReadConfig
from draper.data import store
from draper.data.hdf5 import opened
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra
from draper.errors import DraperError


def recognises(source: Source) -> bool:
    """Whether the file is marked as draper's."""
    if source.kind != "hdf5":
        return False
    try:
        with opened(source.path, source.unpacked_limit) as file:
            return store.is_native(file)
    except DraperError:
        return False


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the mapped file in batches."""
    spectra = store.read(source.path, source.unpacked_limit)
    yield from spectra.batches() if len(spectra) else [spectra]


FORMATS = (Format("draper", "draper's own HDF5 file", recognises, read),)
