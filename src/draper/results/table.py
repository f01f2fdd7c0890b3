"""Writing tables of results: the suffix says the format, and a file appears only when it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from draper.atomic_write import replacing, require_place
from draper.data.partitions import arrow
from draper.errors import DraperError, did_you_mean

PARQUET = ".parquet"
SUFFIXES = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", PARQUET: "parquet"}


def writable(path: str | Path, also: tuple[str, ...] = ()) -> Path:
    """Refuse a path that no table can be written to; ``also`` are further suffixes that the caller knows."""
    path = Path(path)
    if path.suffix not in (*SUFFIXES, *also):
        raise DraperError(
            "unknown table format",
            given=path.name,
            expected=", ".join([*SUFFIXES, *also]),
            hint=did_you_mean(path.suffix, [*SUFFIXES, *also]),
        )
    require_place(path)
    if path.suffix == PARQUET:
        arrow()  # where it is missing, this is said before anything is computed
    return path


def write_table(
    columns: Mapping[str, NDArray[Any]],
    path: str | Path,
    units: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> Path:
    """Write columns (n,) as .csv, .ecsv, .fits or .parquet, with units where the format has them.

    Parquet has units in the metadata of its fields: ``schema.field("teff").metadata[b"unit"]``.
    """
    path = writable(path)
    with replacing(path, overwrite=overwrite) as part:
        if path.suffix == PARQUET:
            _write_parquet(columns, part, units)
        else:
            _write_astropy(columns, part, units)
    return path


def _write_astropy(columns: Mapping[str, NDArray[Any]], path: Path, units: Mapping[str, str]) -> None:
    from astropy.table import Table

    table = Table(dict(columns))
    if path.suffix == ".fits":
        table.convert_unicode_to_bytestring()  # as UTF-8: FITS itself knows ASCII only
    for name, unit in units.items():
        # FITS has no unit for logarithmic quantities.
        table[name].unit = None if path.suffix == ".fits" and unit == "dex" else unit or None
    table.write(path, format=SUFFIXES[path.suffix])


def _write_parquet(columns: Mapping[str, NDArray[Any]], path: Path, units: Mapping[str, str]) -> None:
    pa, parquet = arrow(), arrow("pyarrow.parquet")
    arrays = [
        pa.array(values.tolist(), pa.string()) if values.dtype.kind == "U" else pa.array(values)
        for values in columns.values()
    ]
    fields = [
        pa.field(name, array.type, metadata={"unit": units[name]} if units.get(name) else None)
        for name, array in zip(columns, arrays, strict=True)
    ]
    parquet.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), path, compression="zstd")
