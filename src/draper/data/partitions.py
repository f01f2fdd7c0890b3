"""Parquet: spectra as one file, or as a folder of files (partitions) that together are larger than memory.

Flux and inverse variance are columns of fixed-size lists of float32, the table's columns are plain columns,
and grid, quantity, unit and provenance are JSON in the metadata of the schema. Other tools (DuckDB, Polars,
pandas) read the columns as they are; draper brings everything back bit for bit.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.atomic_write import output_errors, part_of, remove_stale, replacing
from draper.configs.read import UNPACKED_LIMIT
from draper.data.arrays import as_column, blocks, rows_within
from draper.data.correlation import Correlation
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.data.unpacked import require_unpackable
from draper.errors import DraperError, OutputError, did_you_mean

KEY = b"draper"
"""Name under which the metadata of a schema hold what draper says of the spectra."""
GRID_KEY = b"draper.grid"
"""Name under which they hold the grid, by itself: it is long, and mostly the same in all files."""
VERSION = 1
PARTITION_BYTES = 2**25
"""Size of one partition, unless its number of rows is given: several fit into any memory."""
SPECTRAL = ("flux", "ivar", "correlation", "correlation_index")
PREFIX = "table/"
"""Stands before the name of a table column that is called like one of the above."""


def arrow(module: str = "pyarrow") -> Any:
    """Return a module of pyarrow, which is optional."""
    try:
        return import_module(module)
    except ImportError:
        raise DraperError(
            "Parquet files need pyarrow, which is not installed", hint="pip install 'draper[parquet]'"
        ) from None


def write_partitions(
    spectra: Spectra | Iterable[Spectra], folder: str | Path, *, rows: int | None = None, fill: bool = False
) -> Path:
    """Write spectra as a new folder of Parquet files, holding no more than one of them in memory.

    Parameters
    ----------
    spectra
        Spectra, or batches of them of any size.
    folder
        The folder; it appears when all of it is written. It must not exist, or be empty.
    rows
        Spectra in each file; by default as many as have 64 MB of flux.
    fill
        Whether batches may lack columns of others; these are then missing (NaN or "") where they are read.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> grid = Grid.linear(5000, 5003, 1, medium="vacuum")
    >>> spectra = Spectra(grid, np.ones((5, 4)), table={"teff": np.arange(5.0)})
    >>> with TemporaryDirectory() as folder:
    ...     partitions = Partitions(write_partitions(spectra, f"{folder}/stars", rows=2))
    ...     print(partitions.counts, partitions.read(2).table["teff"], partitions.column("teff"))
    [2 2 1] [4.] [0. 1. 2. 3. 4.]
    """
    folder = Path(folder)
    if rows is not None and rows < 1:
        raise DraperError("a partition holds at least one spectrum", given=f"rows={rows}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(
            "partitions are written to a new folder",
            given=f"{folder}, which is not empty",
            hint="name another folder, or remove this one first",
        )
    if not folder.parent.is_dir():
        raise OutputError("the folder does not exist", given=folder.parent, hint="create it first")
    arrow()
    remove_stale(folder.parent, folder.name)
    part = part_of(folder)
    with output_errors(folder):
        part.mkdir()
    try:
        for number, partition in enumerate(_regrouped(spectra, rows, fill)):
            write_file(partition, part / f"part-{number:06d}.parquet")
        if not any(part.iterdir()):
            raise DraperError("there are no spectra to write", given=folder, hint="give at least one set")
        with output_errors(folder):
            part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # gone already where all went well
    return folder


def _regrouped(spectra: Spectra | Iterable[Spectra], rows: int | None, fill: bool) -> Iterator[Spectra]:
    """Yield the spectra of batches in sets of equal numbers of rows; the last one may be smaller."""
    first: Spectra | None = None
    held: list[Spectra] = []
    count, most = 0, rows or 0
    for number, batch in enumerate([spectra] if isinstance(spectra, Spectra) else spectra):
        if first is None:
            first, most = batch[:0], rows or max(1, PARTITION_BYTES // _row_bytes(batch))
        batch = first.alike(batch, f"set {number}", fill=fill)
        while count + len(batch) > most:
            yield Spectra.concat([*held, batch[: most - count]], fill=fill)
            batch, held, count = batch[most - count :], [], 0
        held.append(batch)
        count += len(batch)
    if held:
        yield Spectra.concat(held, fill=fill)


def _row_bytes(spectra: Spectra) -> int:
    """Return the size of a row: flux and weights in single precision, and the columns."""
    return 8 * len(spectra.grid) + sum(column.itemsize for column in spectra.table.values())


def write_file(spectra: Spectra, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write spectra as one Parquet file."""
    pa, parquet = arrow(), arrow("pyarrow.parquet")
    path = Path(path)
    fields, arrays = [], []
    for name in ("flux", "ivar"):
        kind = pa.list_(pa.field("element", pa.float32(), nullable=False), len(spectra.grid))
        values = pa.array(np.ascontiguousarray(getattr(spectra, name)).reshape(-1))
        fields.append(pa.field(name, kind, nullable=False))
        arrays.append(pa.FixedSizeListArray.from_arrays(values, type=kind))
    if spectra.correlation is not None:
        correlation = spectra.correlation.compact()
        # Each matrix stands in the row of the first object that has it.
        used, rows = np.unique(correlation.index, return_index=True)
        matrices = dict(zip(rows.tolist(), correlation.templates[used], strict=True))
        held = [matrices[row].ravel() if row in matrices else None for row in range(len(spectra))]
        number = np.argsort(np.argsort(rows))  # numbers in the order of these rows
        arrays += [pa.array(held, pa.large_list(pa.float32())), pa.array(number[correlation.index])]
        fields += [pa.field("correlation", arrays[-2].type), pa.field("correlation_index", pa.int64())]
    for name, column in spectra.table.items():
        is_text = column.dtype.kind == "U"
        arrays.append(pa.array(column.tolist(), pa.string()) if is_text else pa.array(column))
        fields.append(pa.field(_stored(name), arrays[-1].type))
    facts = {
        "version": VERSION,
        "quantity": spectra.quantity,
        "unit": spectra.unit,
        "meta": dict(spectra.meta),
        "sha256": _digest(spectra),
    }
    metadata = {KEY: json.dumps(facts), GRID_KEY: json.dumps(spectra.grid.to_json())}
    plain = [_stored(name) for name in spectra.table]
    with replacing(path, overwrite=overwrite) as part:
        parquet.write_table(
            pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata)),
            part,
            compression="zstd",
            row_group_size=rows_within(spectra.flux.shape),
            # Bytes of equal significance side by side: noise compresses badly, signs and exponents well.
            column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in ("flux", "ivar")},
            use_dictionary=plain,
            write_statistics=plain,
        )
    return path


class Partitions:
    """Spectra in a folder of Parquet files on one grid, of which one at a time is read.

    Parameters
    ----------
    path
        The folder, whose files (``*.parquet``) are taken in the order of their names; or a single file.
    unpacked_limit
        Largest size [GB] to which a row group, which is read at once, may unpack.

    Attributes
    ----------
    files : tuple of Path
        One for each partition.
    grid, quantity, unit
        Of all spectra.
    columns : tuple of str
        Names of the table's columns. A column that a partition lacks is missing there (NaN or "").
    counts : ndarray (partitions,) int64
        Number of spectra in each partition.
    fingerprint : str
        A short hash of the content of all files in their order.
    """

    def __init__(self, path: str | Path, unpacked_limit: float = UNPACKED_LIMIT) -> None:
        self.path = Path(path)
        self.files = self._found()
        grids: dict[bytes, Grid] = {}
        headers = [_header(file, grids, unpacked_limit) for file in self.files]
        first = headers[0].spectra
        for number, header in enumerate(headers[1:], start=1):
            try:
                first.alike(header.spectra, f"partition {number}", "the first", fill=True)
                if header.spectra.unit != first.unit:  # pixels are read later, as they are
                    raise DraperError("another unit", given=header.spectra.unit, expected=first.unit)
            except DraperError as error:
                raise DraperError(
                    f"{header.file}: {error.what}",
                    given=error.given,
                    expected=error.expected,
                    hint="partitions of one folder are alike: move this one, or convert the originals again",
                ) from None
        self.grid, self.quantity, self.unit = first.grid, first.quantity, first.unit
        # One kind for each column, as if all spectra were in one set.
        self._table = Spectra.concat([header.spectra for header in headers], fill=True).table
        self.columns = tuple(self._table)
        self.counts = np.array([header.count for header in headers], dtype=np.int64)
        digest = hashlib.sha256("".join(header.sha256 for header in headers).encode())
        self.fingerprint = digest.hexdigest()[:16]

    def _found(self) -> tuple[Path, ...]:
        if self.path.is_file():
            return (self.path,)
        files = sorted(file for file in self.path.glob("*.parquet") if not file.name.startswith("."))
        if not files:
            raise DraperError(
                "there are no Parquet files here" if self.path.is_dir() else "no such file or folder",
                given=self.path,
                hint="draper convert FILE... -o FOLDER writes spectra as Parquet partitions",
            )
        return tuple(files)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def __repr__(self) -> str:
        size = f"{len(self):,} x {len(self.grid)} px in {len(self.files)} files"
        columns = ", ".join(self.columns) or "none"
        return f"Partitions({size}, {self.quantity}, {self.grid.extent}, columns: {columns})"

    def read(self, number: int, rows: Any = None) -> Spectra:
        """Return the spectra of one partition, or some of its rows: a slice, a boolean mask or indices.

        Only the row groups (32 MB of flux) that hold these rows are read.
        """
        if not 0 <= number < len(self.files):
            raise DraperError(
                "there is no such partition", given=number, expected=f"0 to {len(self.files) - 1}"
            )
        file, p = self.files[number], len(self.grid)
        with _opened(file) as opened:
            sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            ends = np.cumsum(sizes)
            chosen = np.arange(self.counts[number])
            chosen = chosen if rows is None else np.atleast_1d(chosen[rows])
            groups = np.searchsorted(ends, chosen, side="right")
            flux, ivar = (np.empty((len(chosen), p), dtype=np.float32) for _ in range(2))
            index = np.empty(len(chosen), dtype=np.int64)
            columns = {name: [self._table[name]] for name in self.columns}
            # What is read and not yet unpacked is never more than one row group.
            for group in np.unique(groups):
                held, n = opened.read_row_group(group), sizes[group]
                places = np.flatnonzero(groups == group)
                own = chosen[places] - (ends[group] - n)
                flux[places], ivar[places] = (_rows(held[name], n, p)[own] for name in ("flux", "ivar"))
                for name in self.columns:
                    columns[name].append(self._column(name, held, n)[own])
                if "correlation" in held.schema.names:
                    index[places] = held["correlation_index"].to_numpy()[own]
                del held
            correlation = None
            if "correlation" in opened.schema_arrow.names:
                templates = opened.read(["correlation"])["correlation"].drop_null()
                matrices = _rows(templates, len(templates), p * p).reshape(-1, p, p)
                correlation = Correlation(matrices, index)
            meta = _facts(file, opened.schema_arrow)["meta"]
        _release_freed()
        place = np.argsort(np.argsort(groups, kind="stable"))
        return Spectra(
            self.grid,
            flux,
            ivar,
            table={name: np.concatenate(parts)[place] for name, parts in columns.items()},
            quantity=self.quantity,
            unit=self.unit,
            correlation=correlation,
            meta=meta,
        )

    def batches(self) -> Iterator[Spectra]:
        """Iterate over all spectra in order, in batches of at most 32 MB of flux."""
        for number, count in enumerate(self.counts.tolist()):
            for rows in blocks(count, rows_within((count, len(self.grid)))) if count else [slice(0)]:
                yield self.read(number, rows)

    def column(self, name: str) -> NDArray[Any]:
        """Return one column (n,) of the tables of all partitions, without reading the spectra."""
        return self.table([name])[name]

    def table(self, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Return columns (n,) of the tables of all partitions (all by default), not the spectra."""
        names = self.columns if names is None else names
        for name in names:
            if name not in self.columns:
                raise DraperError(
                    f"the spectra have no column '{name}'",
                    given=", ".join(self.columns) or "no columns",
                    hint=did_you_mean(name, self.columns),
                )
        parts: dict[str, list[NDArray[Any]]] = {name: [self._table[name]] for name in names}
        for file, count in zip(self.files, self.counts.tolist(), strict=True):
            with _opened(file) as opened:
                stored = {_stored(name) for name in names} & set(opened.schema_arrow.names)
                held = opened.read(sorted(stored))
                for name in names:
                    parts[name].append(self._column(name, held, count))
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _column(self, name: str, held: Any, count: int) -> NDArray[Any]:
        """Return a column of some rows of one file, of the kind that it has in all files."""
        kind = self._table[name].dtype
        if _stored(name) not in held.schema.names:
            return np.full(count, "" if kind.kind == "U" else np.nan)
        column = as_column(held[_stored(name)].to_numpy())
        return column if kind.kind == "U" else column.astype(kind)


@dataclass(frozen=True)
class _Header:
    """What the end of a file says of it: spectra without rows, their number and their hash."""

    file: Path
    spectra: Spectra
    count: int
    sha256: str


def _header(file: Path, grids: dict[bytes, Grid], unpacked_limit: float) -> _Header:
    """Read the end of a file; grids that are written alike are parsed once."""
    with _opened(file) as opened:
        schema = opened.schema_arrow
        facts, text = _facts(file, schema), schema.metadata[GRID_KEY]
        grid = grids[text] if text in grids else grids.setdefault(text, Grid.from_json(json.loads(text)))
        groups = [opened.metadata.row_group(number) for number in range(opened.num_row_groups)]
        # Equal values take little of the size that is declared, but none of the room of flux and ivar.
        sizes = [max(group.total_byte_size, 8 * group.num_rows * len(grid)) for group in groups]
        require_unpackable(file, max(sizes, default=0), unpacked_limit)
        nothing = np.empty((0, len(grid)), dtype=np.float32)
        square = np.empty((0, len(grid), len(grid)), dtype=np.float32)
        return _Header(
            file,
            Spectra(
                grid,
                nothing,
                nothing,
                table={
                    field.name.removeprefix(PREFIX): np.empty(0, _kind(file, field))
                    for field in schema
                    if field.name not in SPECTRAL
                },
                quantity=facts["quantity"],
                unit=facts["unit"],
                correlation=Correlation(square, np.empty(0, np.int64))
                if "correlation" in schema.names
                else None,
                meta=facts["meta"],
            ),
            opened.metadata.num_rows,
            facts["sha256"],
        )


def _release_freed() -> None:
    """Give memory that is free back to the system: what Arrow and glibc keep adds up over partitions."""
    arrow().default_memory_pool().release_unused()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open a Parquet file; what pyarrow raises on a damaged one becomes a DraperError."""
    pa, parquet = arrow(), arrow("pyarrow.parquet")
    try:
        with parquet.ParquetFile(file) as opened:
            yield opened
    except DraperError:
        raise
    except (pa.ArrowException, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise DraperError(
            "the Parquet file is damaged or truncated", given=f"{file}: {error}", hint="write it again"
        ) from error


def _facts(file: Path, schema: Any) -> dict[str, Any]:
    """Return what the schema of a file says of its spectra."""
    metadata = schema.metadata or {}
    if KEY not in metadata:
        raise DraperError(
            "this Parquet file holds no spectra that draper has written",
            given=file,
            hint="read it with its own tool, make Spectra of its arrays, and write them with draper.write",
        )
    facts: dict[str, Any] = json.loads(metadata[KEY])
    if facts["version"] > VERSION:
        raise DraperError(
            "the file was written by a newer draper",
            given=f"{file}: version {facts['version']}",
            expected=f"at most {VERSION}",
            hint="upgrade draper",
        )
    return facts


def _rows(column: Any, n: int, pixels: int) -> NDArray[np.float32]:
    """Return a column of lists as (n, pixels)."""
    parts = [chunk.flatten().to_numpy() for chunk in column.chunks]
    values = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    return values.reshape(n, pixels)


def _kind(file: Path, field: Any) -> type:
    """Return the kind that a column of the table has in draper."""
    types = arrow("pyarrow.types")
    kinds: tuple[tuple[Any, type], ...] = (
        (types.is_boolean, np.bool_),
        (types.is_integer, np.int64),
        (types.is_floating, np.float64),
        (types.is_string, np.str_),
        (types.is_large_string, np.str_),
    )
    for is_kind, kind in kinds:
        if is_kind(field.type):
            return kind
    raise DraperError(
        "a column holds numbers, truth values or text", given=f"{field.name} of {file}: {field.type}"
    )


def _stored(name: str) -> str:
    """Return what a column of the table is called in the file, where names of the spectra are taken."""
    return f"{PREFIX}{name}" if name.lower() in SPECTRAL or name.startswith(PREFIX) else name


def _digest(spectra: Spectra) -> str:
    """Return a hash of everything but the provenance."""
    digest = hashlib.sha256(f"{spectra.grid.fingerprint} {spectra.quantity} {spectra.unit}".encode())
    arrays = [spectra.flux, spectra.ivar]
    if spectra.correlation is not None:
        arrays += [spectra.correlation.templates, spectra.correlation.index]
    for values in arrays:
        digest.update(np.ascontiguousarray(values).data)
    for name, column in spectra.table.items():
        content = json.dumps(column.tolist()).encode() if column.dtype.kind == "U" else column.tobytes()
        digest.update(name.encode() + content)
    return digest.hexdigest()
