"""The native file: one HDF5 file of contiguous arrays, written as a stream and memory-mapped when read.

Contiguous datasets can be mapped by the operating system, so a random batch costs microseconds and a set
may be far larger than memory. Their length must be known before they are written; when it is not, the rows
wait in raw scratch files beside the target. The target appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from draper.atomic_write import output_errors, part_of, require_output
from draper.configs.read import UNPACKED_LIMIT
from draper.data.arrays import BLOCK, blocks_of
from draper.data.correlation import Correlation
from draper.data.grid import Grid
from draper.data.hdf5 import opened
from draper.data.spectra import Spectra
from draper.errors import DraperError

FORMAT = "draper-spectra"
VERSION = 1
PIECE, PIECES = 2**13, 2**6
"""Pixels of each piece of flux and ivar that the checksum of a file covers, and the largest number of pieces:
up to half a million pixels all are covered, and beyond them the checksum takes milliseconds, too."""


class WriteFile(io.FileIO):
    """A new file that HDF5 writes to. Errors of writing are kept here: HDF5 crashes if they reach it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write all of the content, or note why it cannot be written."""
        rest = memoryview(content).cast("B")
        size = len(rest)
        try:
            while len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """Change the size of the file, or note why it cannot be changed."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = error
            return size or 0

    def check(self) -> None:
        """Raise the last error of writing, if there was one."""
        if self.error is not None:
            raise self.error


@contextmanager
def created(path: Path) -> Iterator[h5py.File]:
    """Create an HDF5 file, which is whole when the block ends without error."""
    with WriteFile(path) as output:
        try:
            with h5py.File(output, "w") as file:
                yield file
        finally:
            output.check()


class Writer:
    """Write spectra batch by batch in constant memory; the file appears when the block ends without error.

    Parameters
    ----------
    path
        The file.
    fill
        Whether columns that a batch lacks are filled with NaN (or ""), instead of being an error.
    overwrite
        Whether a file that exists is replaced.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> grid = Grid.linear(5000, 5003, 1, medium="vacuum")
    >>> with TemporaryDirectory() as folder:
    ...     with Writer(f"{folder}/two.h5") as writer:
    ...         writer.append(Spectra(grid, np.ones((1, 4))))
    ...         writer.append(Spectra(grid, np.ones((1, 4))))
    ...     len(read(f"{folder}/two.h5"))
    2
    """

    def __init__(self, path: str | Path, *, fill: bool = False, overwrite: bool = False) -> None:
        self.path, self.fill, self.overwrite = Path(path), fill, overwrite
        self.rows = self.sets = 0
        self._first: Spectra | None = None
        self._templates: NDArray[np.float32] | None = None
        self._template_count = 0
        self._part = part_of(self.path)
        self._output: WriteFile | None = None
        self._file: h5py.File | None = None
        self._scratch: dict[str, Any] = {}

    def __enter__(self) -> Self:
        require_output(self.path, overwrite=self.overwrite)
        try:
            with output_errors(self.path):
                self._output = WriteFile(self._part)
            self._file = h5py.File(self._output, "w", libver="latest")
        except BaseException:
            self._clear()  # an interruption while the block is entered leaves it without an exit
            raise
        return self

    def append(self, spectra: Spectra) -> None:
        """Add spectra; they must be like the first ones in grid, quantity, unit and columns."""
        if self._file is None or self._output is None:
            raise DraperError("the writer is not open", hint="use it in a with statement")
        with output_errors(self.path):
            try:
                self._append(spectra, self._file)
            finally:
                self._output.check()

    def _append(self, spectra: Spectra, file: h5py.File) -> None:
        if self._first is None:
            self._first = spectra[:0]
        else:
            spectra = self._first.alike(spectra, f"set {self.sets}", fill=self.fill)
        self._spool("flux", spectra.flux)
        self._spool("ivar", spectra.ivar)
        if spectra.correlation is not None:
            self._append_correlation(spectra.correlation)
        table = file.require_group("table")
        for name, column in spectra.table.items():
            _append_column(table, name, column, self.rows)
        for name in table.attrs.get("order", []):
            if name not in spectra.table:
                dataset = table[_key(name)]
                missing: Any = "" if dataset.attrs["text"] else np.nan
                _append_column(table, name, np.full(len(spectra), missing), self.rows)
        self.rows += len(spectra)
        self.sets += 1

    def _spool(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._scratch:
            self._scratch[name] = self._part.with_name(f"{self._part.name}.{name}").open("w+b")
        for rows in blocks_of(values):
            self._scratch[name].write(np.ascontiguousarray(values[rows]).data)

    def _append_correlation(self, correlation: Correlation) -> None:
        shared = correlation.templates is self._templates
        offset = self._template_count - len(correlation.templates) if shared else self._template_count
        self._spool("correlation_index", correlation.index + offset)
        if not shared:
            self._spool("correlation", correlation.templates)
            self._templates = correlation.templates
            self._template_count += len(correlation.templates)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with output_errors(self.path):
                    self._finish()
        finally:
            # Closing flushes; what a full disk refuses has been reported by then, and everything goes.
            for handle in (self._file, self._output, *self._scratch.values()):
                if handle is not None:
                    with suppress(OSError, RuntimeError):
                        handle.close()
            self._clear()

    def _clear(self) -> None:
        """Remove the unfinished file and the scratch files."""
        for path in self._part.parent.iterdir():
            if path.name.startswith(self._part.name):
                path.unlink(missing_ok=True)

    def _finish(self) -> None:
        file, output, first = self._file, self._output, self._first
        if first is None or file is None or output is None:
            raise DraperError(
                "there are no spectra to write", given=self.path, hint="append at least one set"
            )
        file.attrs.update(
            format=FORMAT,
            version=VERSION,
            quantity=first.quantity,
            unit=first.unit,
            meta=json.dumps(dict(first.meta)),
        )
        _write_grid(file, first.grid)
        p = len(first.grid)
        pixels = {}
        for name in ("flux", "ivar"):
            values = self._spooled(name, (self.rows, p))
            dataset = file.create_dataset(name, shape=values.shape, dtype=values.dtype)
            for rows in blocks_of(values):
                # Mapped anew each time: what an old map has read would count as memory of the process.
                dataset[rows] = self._spooled(name, values.shape)[rows]
            pixels[name] = self._spooled(name, values.shape)
        file.attrs["checksum"] = _checksum(pixels["flux"], pixels["ivar"])
        if "correlation" in self._scratch:
            self._write_correlation(file, p)
        file.attrs["complete"] = True
        file.close()
        output.check()
        with self._part.open("rb") as handle:
            os.fsync(handle.fileno())
        self._part.replace(self.path)

    def _write_correlation(self, file: h5py.File, p: int) -> None:
        """Write the correlations, without the templates that no object has."""
        index = self._spooled("correlation_index", (self.rows,), np.int64)
        templates = self._spooled("correlation", (self._template_count, p, p))
        is_used = np.zeros(len(templates), dtype=bool)
        for rows in blocks_of(index):
            is_used[index[rows]] = True
        number = np.cumsum(is_used) - 1
        dataset = file.create_dataset("correlation_index", shape=index.shape, dtype=index.dtype)
        for rows in blocks_of(index):
            dataset[rows] = number[index[rows]]
        shape = (int(is_used.sum()), p, p)
        dataset = file.create_dataset("correlation", shape=shape, dtype=templates.dtype)
        for rows in blocks_of(templates):
            kept = number[rows][is_used[rows]]
            if len(kept):
                dataset[kept[0] : kept[-1] + 1] = templates[rows][is_used[rows]]

    def _spooled(self, name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return the content of a scratch file, mapped."""
        self._scratch[name].flush()
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(self._scratch[name].name, dtype=dtype, mode="r", shape=shape)


def write(
    spectra: Spectra | Iterable[Spectra], path: str | Path, *, fill: bool = False, overwrite: bool = False
) -> Path:
    """Write spectra, or a stream of batches, to a native file."""
    with Writer(path, fill=fill, overwrite=overwrite) as writer:
        for batch in [spectra] if isinstance(spectra, Spectra) else spectra:
            writer.append(batch)
    return Path(path)


def read(path: str | Path, unpacked_limit: float = UNPACKED_LIMIT) -> Spectra:
    """Map a native file: nothing but the table is read before it is used.

    Pixels that draper has not written itself are read once, and validated.
    """
    path = Path(path)
    with opened(path, unpacked_limit) as file:
        return _open(file, path)


def is_native(file: h5py.File) -> bool:
    """Whether an HDF5 file is draper's own."""
    return str(file.attrs.get("format", "")) == FORMAT


def _open(file: h5py.File, path: Path) -> Spectra:
    if not is_native(file):
        raise DraperError(
            "this HDF5 file was not written by draper",
            given=path,
            hint="draper convert FILE -o OUT reads others",
        )
    if int(file.attrs["version"]) > VERSION:
        raise DraperError(
            "the file was written by a newer draper",
            given=f"format version {file.attrs['version']}",
            expected=f"at most {VERSION}",
            hint="upgrade draper",
        )
    if not file.attrs.get("complete", False):
        raise DraperError("the file was not written to its end", given=path, hint="write it again")
    correlation = None
    if "correlation" in file:
        correlation = Correlation(_mapped(file["correlation"], path), file["correlation_index"][:])
    table = file.get("table", {})
    order = table.attrs["order"] if len(table) else []
    flux, ivar = _mapped(file["flux"], path), _mapped(file["ivar"], path)
    return Spectra(
        _read_grid(file),
        flux,
        ivar,
        table={
            name: column.asstr()[:].astype(str) if column.attrs["text"] else column[:]
            for name, column in ((str(name), table[_key(name)]) for name in order)
        },
        quantity=str(file.attrs["quantity"]),
        unit=str(file.attrs["unit"]),
        correlation=correlation,
        meta=json.loads(file.attrs["meta"]),
        validated=file.attrs.get("checksum") == _checksum(flux, ivar),
    )


def _mapped(dataset: h5py.Dataset, path: Path) -> NDArray[Any]:
    offset = dataset.id.get_offset()
    if offset is None:  # it is empty, or another program has compressed it
        return np.asarray(dataset[()])
    return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


def _checksum(flux: NDArray[Any], ivar: NDArray[Any]) -> str:
    """Return a hash of flux and ivar (n, p), of pieces at equal distances where they are large.

    A file whose checksum is another one was written or changed elsewhere, and is validated when it is opened.
    """
    digest = hashlib.sha256(f"{flux.dtype} {flux.shape} {ivar.dtype} {ivar.shape}".encode())
    for values in (flux.reshape(-1), ivar.reshape(-1)):
        count = min(-(-values.size // PIECE), PIECES)
        for start in np.linspace(0, max(0, values.size - PIECE), count, dtype=np.int64):
            digest.update(np.ascontiguousarray(values[start : start + PIECE]).data)
    return digest.hexdigest()


def _key(name: str) -> str:
    """Return what a column is called in the file, where a slash would make a group."""
    plain = name.replace("%", "%25").replace("/", "%2F")
    return {"": "%", ".": "%2E"}.get(plain, plain)


def _append_column(table: h5py.Group, name: str, column: NDArray[Any], rows: int) -> None:
    """Add values to a column, which is made (and holds missing values before them) where it is new."""
    is_text = column.dtype.kind == "U"
    if name not in table.attrs.get("order", []):
        if is_text:
            _make_column(table, name, is_text, shape=(rows,), dtype=h5py.string_dtype())
        else:
            before = np.full(rows, np.nan) if rows else np.empty(0, column.dtype)
            _make_column(table, name, is_text, data=before)
        table.attrs["order"] = [*table.attrs.get("order", []), name]
    dataset = table[_key(name)]
    if is_text != bool(dataset.attrs["text"]):
        raise DraperError(
            f"column '{name}' holds text in one set and numbers in another",
            hint="drop it, or rename it in one of them",
        )
    if not is_text:
        # A whole-number column of one file may hold NaN or fractions in the next.
        wanted = np.result_type(dataset.dtype, column.dtype)
        if wanted != dataset.dtype:
            before = dataset[:]
            del table[_key(name)]
            dataset = _make_column(table, name, is_text, data=before.astype(wanted))
        column = column.astype(wanted)
    dataset.resize((rows + len(column),))
    try:
        dataset[rows:] = column.astype(object) if is_text else column
    except (ValueError, UnicodeError) as error:
        raise DraperError(
            f"column '{name}' holds text that HDF5 cannot", given=error, hint="drop it"
        ) from None


def _make_column(table: h5py.Group, name: str, is_text: bool, **options: Any) -> h5py.Dataset:
    dataset = table.create_dataset(_key(name), maxshape=(None,), chunks=(BLOCK,), **options)
    dataset.attrs["text"] = is_text
    return dataset


def _write_grid(file: h5py.File, grid: Grid) -> None:
    if grid.wavelength is None:
        file.create_dataset("coefficients", data=list(grid.names), dtype=h5py.string_dtype())
        return
    file.create_dataset("wavelength", data=grid.wavelength)
    file["wavelength"].attrs.update(unit="Angstrom", medium="vacuum")
    if grid.edges is not None:
        file.create_dataset("edges", data=grid.edges)
    if grid.resolving_power is not None:
        file.create_dataset("resolving_power", data=grid.resolving_power)
    if grid.windows:
        file.create_dataset("windows", data=np.array(grid.windows))


def _read_grid(file: h5py.File) -> Grid:
    if "coefficients" in file:
        return Grid.coefficients(file["coefficients"].asstr()[:])
    return Grid(
        file["wavelength"][:],
        edges=file["edges"][:] if "edges" in file else None,
        resolving_power=file["resolving_power"][()] if "resolving_power" in file else None,
        windows=tuple((low, high) for low, high in file["windows"][:]) if "windows" in file else (),
    )
