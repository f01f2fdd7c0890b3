"""Arrays in npy and npz files, mapped where they are not compressed, and never unpickled."""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import UNPACKED_LIMIT
from draper.data.unpacked import require_unpackable
from draper.errors import DraperError

Array = NDArray[Any]

KINDS = "biufSU"
"""Kinds of numbers and text that are read; Python objects would have to be unpickled."""

READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

HEADER_ERRORS = (
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
)
"""What numpy raises on a damaged header, which it parses as Python text."""

LOCAL_HEADER = 30
"""Bytes of a zip member's header before its name; the lengths of name and extra field stand at its end."""


def read_npy(path: Path) -> Array:
    """Map the array of an npy file."""
    try:
        with path.open("rb") as handle:
            return _checked(path, path.name, _mapped(path, handle, path.name, path.stat().st_size))
    except OSError as error:
        raise damaged(path, error) from None


class Archive(Mapping[str, Array]):
    """The arrays of an npz file by name; each is mapped or loaded when it is asked for.

    Parameters
    ----------
    path
        The file.
    unpacked_limit
        Largest size [GB] to which its compressed arrays may unpack.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/set.npz", flux=np.ones((2, 3)))
    ...     archive = Archive(Path(folder, "set.npz"))
    ...     list(archive), archive["flux"].shape, isinstance(archive["flux"], np.memmap)
    (['flux'], (2, 3), True)
    """

    def __init__(self, path: Path, unpacked_limit: float = UNPACKED_LIMIT) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise damaged(path, error) from None
        self._members = {
            member.filename.removesuffix(".npy"): member
            for member in members
            if member.filename.endswith(".npy")
        }
        compressed = (m.file_size for m in self._members.values() if m.compress_type != zipfile.ZIP_STORED)
        require_unpackable(path, sum(compressed), unpacked_limit)

    def __getitem__(self, name: str) -> Array:
        return _checked(self.path, name, self._array(name))

    def _array(self, name: str) -> Array:
        member = self._members[name]
        try:
            if member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1:
                with self.path.open("rb") as handle:
                    handle.seek(member.header_offset)
                    header = handle.read(LOCAL_HEADER)
                    if len(header) < LOCAL_HEADER or header[:4] != b"PK\x03\x04":
                        raise damaged(self.path, f"no member at the place of '{name}'")
                    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(
                        header[28:30], "little"
                    )
                    handle.seek(lengths, 1)
                    return _mapped(self.path, handle, name, handle.tell() + member.file_size)
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as stream:
                return _loaded(self.path, stream, name, member.file_size)
        except (
            OSError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise damaged(self.path, error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def damaged(path: Path, error: object) -> DraperError:
    """Return the error for a file that ends early or does not match its header."""
    return DraperError(
        "the file is damaged or truncated", given=f"{path}: {error}", hint="copy or write it again"
    )


def _checked(path: Path, name: str, values: Array) -> Array:
    """Refuse text with invalid code points, on which Python itself fails."""
    if values.dtype.kind == "U" and values.size and values.dtype.itemsize:
        codes = np.frombuffer(values.tobytes(), np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
        if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
            raise damaged(path, f"'{name}' holds characters that do not exist")
    return values


def _header(path: Path, stream: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # files of Python 2 read as well as others
            version = np.lib.format.read_magic(stream)
            shape, fortran, dtype = READERS[version](stream)
    except HEADER_ERRORS as error:
        raise damaged(path, error) from None
    if dtype.kind not in KINDS or dtype.names or (dtype.itemsize == 0 and dtype.kind not in "SU"):
        raise DraperError(
            f"'{name}' holds neither numbers nor text",
            given=f"{path.name}: {dtype}",
            hint="save it as a plain array: what needs pickle is never read",
        )
    if any(size < 0 for size in shape):
        raise damaged(path, f"'{name}' has shape {shape}")
    return shape, fortran, dtype


def _mapped(path: Path, handle: IO[bytes], name: str, end: int) -> Array:
    shape, fortran, dtype = _header(path, handle, name)
    size = math.prod(shape) * dtype.itemsize
    if handle.tell() + size > min(end, path.stat().st_size):
        raise damaged(path, f"'{name}' of shape {shape} ends early")
    if size == 0:
        return np.empty(shape, dtype)
    if not shape:
        return np.frombuffer(handle.read(size), dtype).reshape(())
    order = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", handle.tell(), shape, order)  # type: ignore[call-overload, no-any-return]


def _loaded(path: Path, stream: IO[bytes], name: str, size: int) -> Array:
    shape, fortran, dtype = _header(path, stream, name)
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > size:
        raise damaged(path, f"'{name}' of shape {shape} ends early")
    content = stream.read(wanted)
    if len(content) < wanted:
        raise damaged(path, f"'{name}' of shape {shape} ends early")
    return (
        np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
        if wanted
        else (np.empty(shape, dtype))
    )
