"""The native file: one HDF5 file of contiguous arrays, written as a stream and read as a map.

Contiguous datasets can be mapped by the operating system, so a random batch costs microseconds and a set
may be far larger than memory. Their length must be known before they are written; when it is not, the rows
wait in raw scratch files beside the target. The target appears under its name only when it is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.spectra import BLOCK, Correlation, Spectra
from draper.errors import DraperError

FORMAT = "draper-spectra"
VERSION = 1
ROWS = ("flux", "ivar", "correlation_index")
"""Datasets with one entry for each spectrum."""


class Writer:
    """Write spectra batch by batch in constant memory; the file appears when the block ends well.

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

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows = 0
        self._first: Spectra | None = None
        self._templates: NDArray[np.float32] | None = None
        self._template_count = 0
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._file: h5py.File | None = None
        self._scratch: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if not self.path.parent.is_dir():
            raise DraperError("the folder does not exist", given=self.path.parent, hint="create it first")
        self._file = h5py.File(self._part, "w", libver="latest")
        return self

    def append(self, spectra: Spectra) -> None:
        """Add spectra; they must be like the first ones in grid, quantity, unit and columns."""
        if self._file is None:
            raise DraperError("the writer is not open", hint="use it in a with-statement")
        if self._first is None:
            self._first = spectra[:0]
        else:
            Spectra.concat([self._first, spectra[:0]])
        self._spool("flux", spectra.flux)
        self._spool("ivar", spectra.ivar)
        if spectra.correlation is not None:
            self._append_correlation(spectra.correlation)
        for name, column in spectra.table.items():
            self._append_column(name, column)
        self.rows += len(spectra)

    def _spool(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._scratch:
            self._scratch[name] = self._part.with_name(f"{self._part.name}.{name}").open("w+b")
        for start in range(0, len(values), BLOCK):
            self._scratch[name].write(np.ascontiguousarray(values[start : start + BLOCK]).data)

    def _append_correlation(self, correlation: Correlation) -> None:
        shared = correlation.templates is self._templates
        offset = self._template_count - len(correlation.templates) if shared else self._template_count
        self._spool("correlation_index", correlation.index + offset)
        if not shared:
            self._spool("correlation", correlation.templates)
            self._templates = correlation.templates
            self._template_count += len(correlation.templates)

    def _append_column(self, name: str, column: NDArray[Any]) -> None:
        assert self._file is not None
        table = self._file.require_group("table")
        is_text = column.dtype.kind == "U"
        if name not in table:
            dtype = h5py.string_dtype() if is_text else column.dtype
            table.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(BLOCK,), dtype=dtype)
            table[name].attrs["text"] = is_text
            table.attrs["order"] = [*table.attrs.get("order", []), name]
        dataset = table[name]
        if is_text != bool(dataset.attrs["text"]):
            raise DraperError(
                f"column '{name}' holds text in one file and numbers in another",
                hint="drop it, or rename it in one of them",
            )
        if column.dtype.kind == "f" and dataset.dtype.kind == "i":
            # A whole-number column of one file may hold NaN or fractions in the next.
            held = dataset[:]
            del table[name]
            dataset = table.create_dataset(
                name, data=held.astype(np.float64), maxshape=(None,), chunks=(BLOCK,)
            )
            dataset.attrs["text"] = False
        dataset.resize((self.rows + len(column),))
        dataset[self.rows :] = column.astype(object) if is_text else column

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._file is not None:
                self._file.close()
            for handle in self._scratch.values():
                handle.close()
                Path(handle.name).unlink()
            with suppress(FileNotFoundError):
                self._part.unlink()

    def _finish(self) -> None:
        file, first = self._file, self._first
        if first is None or file is None:
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
        shapes: dict[str, tuple[int, ...]] = {"flux": (self.rows, p), "ivar": (self.rows, p)}
        if "correlation" in self._scratch:
            shapes |= {"correlation": (self._template_count, p, p), "correlation_index": (self.rows,)}
        for name, shape in shapes.items():
            dtype = np.int64 if name == "correlation_index" else np.float32
            dataset = file.create_dataset(name, shape=shape, dtype=dtype)
            self._scratch[name].flush()
            if 0 not in shape:
                values = np.memmap(self._scratch[name].name, dtype=dtype, mode="r", shape=shape)
                for start in range(0, shape[0], BLOCK):
                    dataset[start : start + BLOCK] = values[start : start + BLOCK]
        file.attrs["complete"] = True
        file.close()
        self._file = None
        with self._part.open("rb") as handle:
            os.fsync(handle.fileno())
        self._part.replace(self.path)


def write(spectra: Spectra | Iterable[Spectra], path: str | Path) -> Path:
    """Write spectra, or a stream of batches, to a native file."""
    with Writer(path) as writer:
        for batch in [spectra] if isinstance(spectra, Spectra) else spectra:
            writer.append(batch)
    return Path(path)


def read(path: str | Path) -> Spectra:
    """Map a native file: nothing but the table is read before it is used."""
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            return _open(file, path)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, DraperError):
            raise
        raise DraperError(
            "the file is damaged or truncated", given=f"{path}: {error}", hint="copy or convert it again"
        ) from None


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
    return Spectra(
        _read_grid(file),
        _mapped(file["flux"], path),
        _mapped(file["ivar"], path),
        table={
            name: table[name].asstr()[:].astype(str) if table[name].attrs["text"] else table[name][:]
            for name in order
        },
        quantity=str(file.attrs["quantity"]),
        unit=str(file.attrs["unit"]),
        correlation=correlation,
        meta=json.loads(file.attrs["meta"]),
        validated=True,
    )


def _mapped(dataset: h5py.Dataset, path: Path) -> NDArray[Any]:
    offset = dataset.id.get_offset()
    if offset is None:  # an empty dataset occupies no place in the file
        return np.empty(dataset.shape, dtype=dataset.dtype)
    if offset + dataset.size * dataset.dtype.itemsize > path.stat().st_size:
        raise DraperError("the file is truncated", given=path, hint="copy or convert it again")
    return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


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
