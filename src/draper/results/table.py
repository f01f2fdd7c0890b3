"""Writing tables of results: the suffix says the format, and a file appears only when it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from draper.atomic import replacing
from draper.errors import DraperError

SUFFIXES = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits"}


def writable(path: str | Path, also: tuple[str, ...] = ()) -> Path:
    """Refuse a path that no table can be written to, or none of the other formats ``also``."""
    path = Path(path)
    if path.suffix not in (*SUFFIXES, *also):
        raise DraperError("unknown table format", given=path.name, expected=", ".join([*SUFFIXES, *also]))
    if not path.parent.is_dir():
        raise DraperError("the folder does not exist", given=path.parent, hint="create it first")
    return path


def write_table(columns: Mapping[str, NDArray[Any]], path: str | Path, units: Mapping[str, str]) -> Path:
    """Write columns (n,) as .csv, .ecsv or .fits, with units where the format has them."""
    from astropy.table import Table

    path = writable(path)
    table = Table(dict(columns))
    for name, unit in units.items():
        # FITS has no unit for logarithmic quantities.
        table[name].unit = None if path.suffix == ".fits" and unit == "dex" else unit or None
    with replacing(path) as part:
        table.write(part, format=SUFFIXES[path.suffix], overwrite=True)
    return path
