"""draper's own Parquet: one file or one partition, passed on in batches."""

from __future__ import annotations

from collections.abc import Iterator

from draper.configs.read import ReadConfig
from draper.data.parsing.source import Format, Source
from draper.data.partitions import Partitions
from draper.data.spectra import Spectra


def recognises(source: Source) -> bool:
    """Whether the file is Parquet; only pyarrow can say what it holds."""
    return source.kind == "parquet"


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra in batches."""
    yield from Partitions(source.path, source.unpacked_limit).batches()


FORMATS = (Format("draper-parquet", "draper's own Parquet", recognises, read, extra="parquet"),)
