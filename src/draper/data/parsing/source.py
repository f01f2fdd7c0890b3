"""An input file as readers see it: recognised by its first bytes, which are read once, never by its name."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from draper.configs.read import UNPACKED_LIMIT, ReadConfig
from draper.data.spectra import Spectra
from draper.data.unpacked import gzip_size
from draper.errors import DraperError, option_text

HEAD = 65536
"""Bytes from the start of a file by which it is recognised."""

Kind = Literal["folder", "fits", "hdf5", "zip", "npy", "parquet", "xml", "text", "binary", "empty"]


class Source:
    r"""A file, and what can be learnt from its first bytes.

    Parameters
    ----------
    path
        The file, or a folder.
    unpacked_limit
        Largest size [GB] to which it may unpack.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "spectrum.dat")
    ...     _ = path.write_text("# wave flux\\n5000 1.0\n")
    ...     Source(path).kind
    'text'
    """

    def __init__(self, path: str | Path, unpacked_limit: float = UNPACKED_LIMIT) -> None:
        self.path, self.unpacked_limit = Path(path), unpacked_limit
        if not self.path.exists():
            raise DraperError("no such file", given=self.path, hint="check the name and the folder")

    @property
    def name(self) -> str:
        """The file name without folders and suffixes: the id of a spectrum that has no other."""
        return self.path.name.removesuffix(".gz").rsplit(".", 1)[0]

    @cached_property
    def raw(self) -> bytes:
        """The first bytes as they are."""
        try:
            with self.path.open("rb") as handle:
                return handle.read(HEAD)
        except OSError as error:
            raise DraperError("the file cannot be read", given=f"{self.path}: {error.strerror}") from None

    @property
    def is_gzipped(self) -> bool:
        """Whether the file is compressed by gzip."""
        return not self.path.is_dir() and self.raw[:2] == b"\x1f\x8b"

    @cached_property
    def head(self) -> bytes:
        """The first bytes, decompressed."""
        if not self.is_gzipped:
            return self.raw
        try:
            with gzip.open(self.path, "rb") as handle:
                return handle.read(HEAD)
        except (OSError, EOFError, zlib.error) as error:
            raise DraperError("the file is damaged or truncated", given=f"{self.path}: {error}") from None

    def require_unpackable(self) -> None:
        """Raise an error where the file is compressed by gzip and unpacks to more than the limit."""
        if self.is_gzipped:
            gzip_size(self.path, self.unpacked_limit)

    @cached_property
    def kind(self) -> Kind:
        """What sort of container the file is."""
        if self.path.is_dir():
            return "folder"
        head = self.head
        if not head.strip():
            return "empty"
        signatures: tuple[tuple[bytes, Kind], ...] = (
            (b"SIMPLE  =", "fits"),
            (b"\x89HDF\r\n\x1a\n", "hdf5"),
            (b"PK\x03\x04", "zip"),
            (b"\x93NUMPY", "npy"),
            (b"PAR1", "parquet"),
        )
        for signature, kind in signatures:
            if head.startswith(signature):
                return kind
        if b"\x00" in head:
            return "binary"
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
        return "xml" if start.startswith((b"<?xml", b"<VOTABLE")) else "text"

    @cached_property
    def lines(self) -> list[str]:
        """The first lines of a text file, without the last one if it may be incomplete."""
        lines = self.head.decode("utf-8", "replace").splitlines()
        return lines[:-1] if len(self.head) >= HEAD else lines

    def text(self) -> str:
        """Return the whole text of the file."""
        self.require_unpackable()
        with gzip.open(self.path) if self.is_gzipped else self.path.open("rb") as handle:
            return handle.read().decode("utf-8", "replace")

    @cached_property
    def members(self) -> tuple[str, ...]:
        """Names of the arrays in an npz file."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                return tuple(name.removesuffix(".npy") for name in archive.namelist())
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
            return ()

    @cached_property
    def headers(self) -> tuple[dict[str, Any], ...]:
        """The header of each HDU of a FITS file as a plain dictionary; empty where it is damaged."""
        if self.kind != "fits":
            return ()
        from draper.data.parsing.fits import headers

        return headers(self.path, self.unpacked_limit)

    def error(self, what: str, **details: Any) -> DraperError:
        """Return an error about this file."""
        return DraperError(f"{self.path}: {what}", **details)


@dataclass(frozen=True)
class Format:
    """A format: how it is recognised and how it is read.

    Attributes
    ----------
    name
        Its name for users (``--format NAME``).
    what
        Its description in one line.
    recognises
        Whether a source is of this format, judged by its content.
    read
        Yields one or more batches of spectra, all on one grid unless the file holds several.
    extra
        The optional extra of draper that it needs.
    """

    name: str
    what: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source, ReadConfig], Iterator[Spectra]]
    extra: str = ""


def require_unit(source: Source, config: ReadConfig, declared: str | None) -> str:
    """Return the wavelength unit given by the user, else declared by the file; else raise an error."""
    unit = config.unit or declared
    if unit is None:
        raise source.error(
            "the file does not declare the unit of its wavelengths",
            hint=f"give it: {option_text('read.unit', 'angstrom', 'nm', 'um')}",
        )
    return unit


def require_medium(source: Source, config: ReadConfig, declared: str | None) -> str:
    """Return the medium given by the user, else declared by the file; else raise an error."""
    medium = config.medium or declared
    if medium is None:
        raise source.error(
            "the file does not declare whether its wavelengths are in air or vacuum",
            hint=f"give it: {option_text('read.medium', 'air', 'vacuum')}; "
            "ground-based optical spectra are usually in air, SDSS, LAMOST, Gaia and space telescopes in "
            "vacuum",
        )
    return medium
