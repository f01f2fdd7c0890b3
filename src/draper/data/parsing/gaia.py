"""Tables of the Gaia archive, as CSV, ECSV, FITS or VOTable: their rows, and the spectra sampled in them.

DataLink and the bulk download give a row for each pixel, or (RAW) a row for each source with arrays in its
cells; in CSV such a cell is text, ``"(1.0, 2.0)"``, in ECSV ``"[1.0,null]"``.
"""

from __future__ import annotations

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.parsing.fits import opened
from draper.data.parsing.pixels import Axis, spectra
from draper.data.parsing.source import Source
from draper.data.spectra import Spectra
from draper.errors import DraperError

Columns = dict[str, NDArray[Any]]
FloatArray = NDArray[np.float64]

SOURCES = 1024
"""Rows of a RAW table read at once."""

PIXELS = 2401 * 32
"""Rows read at once of a table with a row for each pixel."""

INTEGERS = ("source_id", "solution_id")
"""Columns of 64-bit integers, which a float would round."""

MISSING = {"", "null", "nan", "none", "--"}
"""Text of cells without a value, in lower case."""

LONGEST_LINE = 2**24
"""Characters of a line of text that are read at most; a longer one is refused as several that are wrong."""

DAMAGED = "download the file again"
"""Hint of errors about damaged files."""


# ------------------------------------------------------------------ the table


def names(source: Source) -> tuple[str, ...]:
    """Return the column names in lower case; none where the file is not such a table."""
    if source.kind == "text":
        header = next((line for line in source.lines if line.strip() and not line.startswith("#")), "")
        separator = _separator(source.lines)
        return tuple(name.strip().strip('"').lower() for name in header.split(separator))
    if source.kind == "xml":
        fields = re.findall(rb"<FIELD\b[^>]*?\sname\s*=\s*[\"']([^\"']+)[\"']", source.head)
        return tuple(field.decode("utf-8", "replace").lower() for field in fields)
    for hdu in source.headers:
        if hdu.get("XTENSION") == "BINTABLE":
            keys = (key for key in hdu if re.fullmatch(r"TTYPE\d+", key))
            return tuple(str(hdu[key]).strip().lower() for key in keys)
    return ()


def tables(source: Source, count: int) -> Iterator[Columns]:
    """Yield the table in pieces of ``count`` rows: numbers (n,), and arrays (n, longest) padded with NaN."""
    kinds = {"text": _text_tables, "fits": _fits_tables, "xml": _votable_tables}
    if source.kind not in kinds:
        raise source.error(
            f"a {source.kind} file is not a table of the Gaia archive", hint="leave out format="
        )
    yield from kinds[source.kind](source, count)


def _separator(lines: Sequence[str]) -> str:
    if not any(line.startswith("# %ECSV") for line in lines[:1]):
        return ","
    declarations = (re.match(r"#\s*delimiter:\s*'(.)'", line) for line in lines)
    return next((match[1] for match in declarations if match), " ")


def _text_tables(source: Source, count: int) -> Iterator[Columns]:
    open_text = gzip.open if source.is_gzipped else open
    try:
        with open_text(source.path, "rt", encoding="utf-8-sig", errors="replace", newline="") as handle:
            pieces = iter(lambda: handle.readline(LONGEST_LINE), "")
            lines = (line for line in pieces if not line.startswith("#"))
            reader = csv.reader(lines, delimiter=_separator(source.lines))
            header = [name.strip().lower() for name in next(reader, [])]
            while rows := list(islice((row for row in reader if row), count)):
                if any(len(row) != len(header) for row in rows):
                    raise source.error(
                        "a row of the table is cut short or too long",
                        expected=f"{len(header)} cells",
                        hint=DAMAGED,
                    )
                yield {
                    name: _parsed(source, name, cells)
                    for name, cells in zip(header, zip(*rows, strict=True), strict=True)
                }
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise source.error("the file is damaged or truncated", given=error, hint=DAMAGED) from None


def _parsed(source: Source, name: str, cells: Sequence[str]) -> NDArray[Any]:
    try:
        if any(cell.startswith(("(", "[")) for cell in cells):
            return _padded([_numbers(cell.strip("()[] ").split(",")) for cell in cells])
        return np.array(cells, dtype=np.int64) if name in INTEGERS else _numbers(cells)
    except (ValueError, OverflowError):
        if any(cell.startswith(("(", "[")) for cell in cells) or name in INTEGERS:
            raise source.error(
                f"the column '{name}' holds a value that is not a number", given=cells[0][:60], hint=DAMAGED
            ) from None
        return np.array(cells)


def _numbers(cells: Sequence[str]) -> FloatArray:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        if len(cells) == 1 and cells[0].strip() == "":
            return np.empty(0) if isinstance(cells, list) else np.array([np.nan])
        numbers = ["nan" if cell.strip().lower() in MISSING else cell for cell in cells]
        return np.array(numbers, dtype=np.float64)


def _padded(cells: Sequence[FloatArray]) -> FloatArray:
    width = max((len(cell) for cell in cells), default=0)
    rows = np.full((len(cells), width), np.nan)
    for row, cell in zip(rows, cells, strict=True):
        row[: len(cell)] = cell
    return rows


def _fits_tables(source: Source, count: int) -> Iterator[Columns]:
    with opened(source.path, source.unpacked_limit) as hdus:
        data = next((hdu.data for hdu in hdus if getattr(hdu, "columns", None) is not None), None)
        if data is None:
            raise source.error("the file holds no table", hint="leave out format=")
        for start in range(0, len(data), count):
            part = data[start : start + count]
            yield {
                column.name.lower(): _plain(column.name.lower(), part[column.name], column.null)
                for column in data.columns
            }


def _votable_tables(source: Source, count: int) -> Iterator[Columns]:
    from astropy.io.votable import parse_single_table

    source.require_unpackable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deviations from the standard are usual and harmless here
            table = parse_single_table(str(source.path), verify="ignore").array
    except Exception as error:  # astropy raises anything on a damaged file
        raise source.error("the VOTable is damaged or truncated", given=error, hint=DAMAGED) from error
    for start in range(0, len(table), count):
        part = table[start : start + count]
        yield {name.lower(): _plain(name.lower(), part[name], None) for name in table.dtype.names}


def _plain(name: str, values: Any, null: Any) -> NDArray[Any]:
    """Return a column of FITS or VOTable as float64, int64 for ids, or text; missing values become NaN."""
    if values.dtype.kind == "O":
        cells = [
            np.ma.filled(np.ma.asarray(cell, dtype=np.float64), np.nan) for cell in np.ma.getdata(values)
        ]
        return _padded([np.atleast_1d(cell) for cell in cells])
    plain = np.asarray(np.ma.getdata(values))
    if plain.dtype.kind not in "iuf":
        return plain.astype(str)
    if name in INTEGERS:
        return plain.astype(np.int64)
    numbers = plain.astype(np.float64)
    if null is not None:
        numbers[plain == null] = np.nan
    numbers[np.ma.getmaskarray(values)] = np.nan
    return numbers


def identity(source: Source, table: Columns, rows: Any = slice(None)) -> Columns:
    """Return the columns of the sources at ``rows``: ``id``, and those with one number or word for each."""
    some = {name: values[rows] for name, values in table.items() if values.ndim == 1}
    count = len(next(iter(table.values()))[rows])
    ids = some["source_id"].astype(str) if "source_id" in some else np.full(count, source.name)
    return {"id": ids, **{name: values for name, values in some.items() if name != "id"}}


# -------------------------------------------------------- spectra sampled in it


@dataclass(frozen=True, eq=False)
class Product:
    """A kind of sampled spectrum: its pixels [nm] and its flux.

    Attributes
    ----------
    wavelength : ndarray (p,)
        Pixel centres, which a RAW table does not hold.
    quantity, unit
        What the flux is, and the unit in which draper stores it.
    scale
        The size of that unit in the unit of the file.
    """

    wavelength: FloatArray
    quantity: str
    unit: str = ""
    scale: float = 1.0
    resolving_power: float | None = None
    medium: str = "vacuum"

    def grid(self, wavelength: FloatArray | None = None) -> Grid:
        """Return the grid of the given pixels [nm], by default the product's own."""
        pixels = self.wavelength if wavelength is None else wavelength
        return Grid.from_wavelength(
            pixels, unit="nm", medium=self.medium, resolving_power=self.resolving_power
        )


def is_sampled(source: Source, product: Product) -> bool:
    """Whether a table holds spectra with the pixels of ``product``."""
    columns = set(names(source))
    if not ({"flux", "flux_error"} <= columns and columns & {"source_id", "wavelength"}):
        return False
    try:
        first = next(tables(source, 2))
    except (DraperError, StopIteration):
        return False
    if "flux" not in first:  # the header that was looked at is not the one that is read
        return False
    if first["flux"].ndim == 2 and "wavelength" not in first:
        return bool(first["flux"].shape[1] == len(product.wavelength))
    pixels = first.get("wavelength", np.empty(0))
    pixels = pixels[0] if pixels.ndim == 2 else pixels
    if pixels.dtype.kind != "f" or len(pixels) < 2 or not np.isfinite(pixels[:2]).all():
        return False
    start, step = product.wavelength[0], product.wavelength[1] - product.wavelength[0]
    offset = (pixels[0] - start) / step
    starts_well = (
        0 <= round(offset) < len(product.wavelength) if "source_id" in columns else abs(offset) < 1e-3
    )
    return bool(
        starts_well and abs(offset - round(offset)) < 1e-3 and abs(pixels[1] - pixels[0] - step) < 1e-3 * step
    )


def sampled(source: Source, product: Product) -> Iterator[Spectra]:
    """Yield the spectra of a table, in batches of one grid each."""
    unfinished: Columns | None = None
    raw = next(
        ({name for name, values in table.items() if values.ndim == 2} for table in tables(source, 2)), set()
    )
    for table in tables(source, SOURCES if "flux" in raw else PIXELS):
        for name in ("flux", "flux_error"):
            if name not in table or table[name].dtype.kind != "f":
                raise source.error(f"the table has no column '{name}' of numbers", hint="leave out format=")
        if "flux" in raw:
            yield from rows(source, product, table)
            continue
        if "wavelength" not in table or table["wavelength"].dtype.kind != "f":
            raise source.error("the table has neither wavelengths nor arrays", hint="leave out format=")
        # The last source of a piece may go on in the next one.
        table = (
            table
            if unfinished is None
            else {name: np.concatenate([unfinished[name], table[name]]) for name in table}
        )
        last = _starts(table)[-1]
        unfinished = {name: values[last:] for name, values in table.items()}
        yield from _runs(source, product, {name: values[:last] for name, values in table.items()})
    if unfinished is not None:
        yield from _runs(source, product, unfinished)


def _starts(table: Columns) -> NDArray[np.int64]:
    if "source_id" not in table:
        return np.zeros(1, dtype=np.int64)
    ids = table["source_id"]
    return np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))


def _runs(source: Source, product: Product, table: Columns) -> Iterator[Spectra]:
    """Turn a row for each pixel into a row for each source; sources of equal length form one batch."""
    if not len(table["flux"]):
        return
    starts = _starts(table)
    lengths = np.diff(np.append(starts, len(table["flux"])))
    for length in dict.fromkeys(lengths.tolist()):
        these = starts[lengths == length]
        index = these[:, None] + np.arange(length)
        pixels = ("wavelength", "flux", "flux_error")
        yield from rows(
            source,
            product,
            {name: values[index] if name in pixels else values[these] for name, values in table.items()},
        )


def rows(source: Source, product: Product, table: Columns) -> Iterator[Spectra]:
    """Yield spectra from arrays (n, p), those on one grid together."""
    flux, error, pixels = table["flux"], table["flux_error"], table.get("wavelength")
    if error.shape != flux.shape or (pixels is not None and pixels.shape != flux.shape):
        raise source.error("the arrays of a source differ in length", hint=DAMAGED)
    if pixels is None and flux.shape[1] != len(product.wavelength):
        raise source.error(
            "the table has no wavelengths, and its number of pixels is not that of the Gaia archive",
            given=flux.shape[1],
            expected=len(product.wavelength),
            hint="add a column 'wavelength' in nm",
        )
    together = [np.arange(len(flux))]
    if pixels is not None and (pixels != pixels[0]).any():
        together = [np.array([row]) for row in range(len(flux))]
    for rows in together:
        yield spectra(
            source,
            Axis(product.grid(None if pixels is None else pixels[rows[0]]), product.medium),
            flux[rows] / product.scale,
            error=error[rows] / product.scale,
            table=identity(source, table, rows),
            quantity=product.quantity,
            unit=product.unit,
        )
