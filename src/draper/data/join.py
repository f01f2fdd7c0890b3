"""Joining label tables, computing columns from formulas, and rejecting spectra."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import UNPACKED_LIMIT, ReadConfig
from draper.data.arrays import as_column
from draper.data.formula import column_from
from draper.data.grid import Grid
from draper.data.labels import IDS, canonical
from draper.data.parsing import fits
from draper.data.parsing.source import Source
from draper.data.partitions import arrow
from draper.data.spectra import Spectra
from draper.data.unpacked import require_unpackable
from draper.errors import DraperError, did_you_mean, option_text

Columns = dict[str, NDArray[Any]]

FOR_TABLES = ("labels", "key", "rename", "formula", "select", "fill", "unpacked_limit")
"""Options of reading that mean something for tables without spectra."""


class LabelTables:
    """Tables of labels, joined to spectra by file name or id."""

    def __init__(
        self, paths: Sequence[Path], key: str | None, unpacked_limit: float = UNPACKED_LIMIT
    ) -> None:
        self.paths, self.key, self.unpacked_limit = paths, key, unpacked_limit
        self._rows: dict[Path, tuple[str, dict[str, int], set[str]]] = {}

    @cached_property
    def tables(self) -> list[tuple[Path, Columns]]:
        """The tables, read when first needed."""
        return [(path, read_table(path, self.unpacked_limit)) for path in self.paths]

    def join(self, spectra: Spectra) -> Spectra:
        """Return the spectra with the columns of every table; each spectrum must have one row in each."""
        names = [_name(name) for name in spectra.ids]
        added: Columns = {}
        for path, table in self.tables:
            if path not in self._rows:  # indexed only once: spectra may come one at a time
                key = self._key(path, table, names)
                names_in_table = [_name(value) for value in table[key]]
                rows = {name: row for row, name in enumerate(names_in_table)}
                repeated = {name for name, count in Counter(names_in_table).items() if count > 1}
                self._rows[path] = key, rows, repeated
            key, rows, repeated = self._rows[path]
            missing = [name for name in names if name not in rows]
            if missing:
                raise DraperError(
                    f"{path.name} has no row for {len(missing)} of the spectra",
                    given=", ".join(missing[:5]),
                    hint=f"its column '{key}' was compared; choose another with {option_text('read.key')}",
                )
            twice = [name for name in names if name in repeated]
            if twice:
                raise DraperError(
                    f"{path.name} has several rows for {len(twice)} of the spectra",
                    given=", ".join(twice[:5]),
                    hint=f"its column '{key}' was compared; keep one row for each spectrum, or choose "
                    f"another with {option_text('read.key')}",
                )
            order = [rows[name] for name in names]
            # The id comes from the spectra; other columns of a table replace those of the file.
            added |= {name: column[order] for name, column in table.items() if name not in (key, "id")}
        return spectra.with_columns(**added) if added else spectra

    def _key(self, path: Path, table: Columns, names: list[str]) -> str:
        if self.key is not None:
            if self.key not in table:
                raise DraperError(
                    f"{path.name} has no column '{self.key}'", hint=did_you_mean(self.key, table)
                )
            return self.key
        wanted = set(names)
        values_of = {
            name: {_name(value) for value in column}
            for name, column in table.items()
            if column.dtype.kind in "Ui"
        }
        # A column of flags may hold one name by chance; the key is the column with more different values.
        best = max(
            values_of, key=lambda name: (len(wanted & values_of[name]), len(values_of[name])), default=None
        )
        if best is None or not wanted & values_of[best]:
            raise DraperError(
                f"no column of {path.name} holds names of the spectra",
                given=f"columns {', '.join(table)}",
                expected=f"a column with names such as {', '.join(names[:3])}",
                hint=f"name the column with {option_text('read.key')}",
            )
        return best


def stem(name: str) -> str:
    """Return a file name without folder and suffix, so that ``run/0007.spec`` and ``0007`` are the same.

    Examples
    --------
    >>> stem("run/0007.spec"), stem("5095.1234"), stem("star.fits.gz")
    ('0007', '5095.1234', 'star')
    """
    name = name.strip().replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gz")
    base, dot, suffix = name.rpartition(".")
    return base if dot and suffix.isalnum() and not suffix.isdigit() else name


def _name(value: Any) -> str:
    """Return the stem by which rows are matched; tables drop the zeros before a number."""
    name = stem(str(value))
    return name.lstrip("0") or "0" if name.isdecimal() else name


TABLES = "CSV, ECSV, FITS, VOTable, Parquet or columns of text"


def read_table(path: str | Path, unpacked_limit: float = UNPACKED_LIMIT) -> Columns:
    """Read a table of any format of astropy, or Parquet, into plain columns; masked numbers become NaN."""
    from astropy.table import MaskedColumn, Table

    path = Path(path)
    if not path.is_file():
        raise DraperError("no such table", given=path, hint="check the name and the folder")
    source = Source(path, unpacked_limit)
    source.require_unpackable()
    start = source.head[:512]
    marks = {
        b"PAR1": "parquet",
        b"SIMPLE  =": "fits",
        b"<VOTABLE": "votable",
        b"%ECSV": "ascii.ecsv",
        b",": "ascii.csv",
    }
    guess = next((name for mark, name in marks.items() if mark in start), "ascii")
    if b"\0" in start and guess not in ("fits", "parquet"):
        raise DraperError("this is not a table", given=path, expected=TABLES)
    parquet = arrow("pyarrow.parquet") if guess == "parquet" else None
    try:
        if parquet is not None:
            with parquet.ParquetFile(path) as file:
                shape = file.metadata.num_rows, file.metadata.num_columns
            require_unpackable(path, 8 * math.prod(shape), unpacked_limit)
            # Missing values come as NaN, or None; lists are no columns of a table.
            read = parquet.read_table(path)
            return {
                name: as_column(column.to_numpy())
                for name, column in zip(read.column_names, read.columns, strict=True)
                if column.type.num_fields == 0
            }
        with fits.opened(path, unpacked_limit) if guess == "fits" else nullcontext(path) as content:
            table = Table.read(content, format=guess)
    except DraperError:
        raise
    except Exception as error:  # astropy's readers raise anything on a damaged file
        raise DraperError("the table cannot be read", given=f"{path}: {error}", expected=TABLES) from error
    columns: Columns = {}
    for name in table.colnames:
        column = table[name]
        if column.ndim != 1:
            continue
        columns[str(name)] = as_column(column if isinstance(column, MaskedColumn) else np.asarray(column))
    return columns


def read_catalogue(paths: Sequence[Path], grid: Grid, config: ReadConfig) -> Spectra:
    """Read tables of objects without spectra, as spectra on a grid of which no pixel is good.

    A column that is called like one of :data:`draper.data.labels.IDS` holds their ids. Label tables are
    joined, and columns renamed, computed and selected as with files of spectra.
    """
    if other := sorted(config.model_fields_set - set(FOR_TABLES)):
        raise DraperError(
            "this option of reading is for files of spectra, not for tables without any",
            given=", ".join(other),
            expected=", ".join(FOR_TABLES),
        )
    labels = LabelTables(config.labels, config.key, config.unpacked_limit)
    parts = []
    for path in paths:
        table = read_table(path, config.unpacked_limit)
        key = next((name for name in table if name.lower() in IDS), None)
        if key is not None:
            table = {"id": table.pop(key), **table}
        objects = labels.join(Spectra.from_table(grid, table))
        parts.append(derive(objects, config).select(**config.selected))
    return Spectra.concat(parts, fill=config.fill)


def derive(spectra: Spectra, config: ReadConfig) -> Spectra:
    """Rename columns as draper and the user call them, then add those defined by formulas."""
    table: Columns = {}
    unknown = set(config.rename) - set(spectra.table)
    if unknown:
        name = min(unknown)
        raise DraperError(f"there is no column '{name}' to rename", hint=did_you_mean(name, spectra.table))
    for name, column in spectra.table.items():
        new = config.rename.get(name, canonical(name))
        if name not in config.rename and (new in table or (new != name and new in spectra.table)):
            # Two catalogues' names for one label (feh and m_h, say) are kept apart under their own names.
            new = name.lower()
        if new in table:
            raise DraperError(
                "two columns would get the same name",
                given=new,
                hint=f"rename one of them with {option_text('read.rename')}",
            )
        table[new] = column
    for formula in config.formula:
        name, values = column_from(formula, table, len(spectra))
        table[name] = values
    return replace(spectra, table=table) if table else spectra


def reject(spectra: Spectra, kinds: Sequence[str]) -> tuple[Spectra, list[tuple[str, str]]]:
    """Return the spectra that are kept, and (name, reason) of those that are rejected."""
    if not kinds:
        return spectra, []
    good = spectra.ivar > 0
    tests = {
        "nan": (~good, "bad or missing pixels"),
        "negative": (good & (spectra.flux < 0), "negative pixels"),
    }
    reasons = np.full(len(spectra), "", dtype=object)
    for kind in kinds:
        if kind == "empty":
            reasons[(reasons == "") & ~good.any(axis=1)] = "no good pixel"
            continue
        where, words = tests[kind]
        for row in np.flatnonzero((reasons == "") & where.any(axis=1)):
            reasons[row] = f"{int(where[row].sum())} {words}"
    out = reasons != ""
    return spectra[~out] if out.any() else spectra, [
        (str(name), str(reason)) for name, reason in zip(spectra.ids[out], reasons[out], strict=True)
    ]
