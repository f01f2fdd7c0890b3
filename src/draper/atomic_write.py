"""Writing files that are whole or absent: nobody ever finds half a file under its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from draper.errors import OutputError, option_text
from draper.owner import Owner

PROBE = bytes(4096)
"""What is written for a trial: a full disk still takes an empty file."""


def part_of(path: Path) -> Path:
    """Return the hidden file in which this process writes what later gets the name ``path``."""
    # The suffix stays last: many writers choose the format by it.
    return path.with_name(f".{path.name}@{Owner.here()}.part{path.suffix}")


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Remove what processes that have ended left unfinished in a folder, of all files or of one."""
    for part in folder.glob(f".{'*' if name is None else escape(name)}@*.part*"):
        owner = Owner.parse(part.name.rpartition("@")[2].rpartition(".part")[0])
        if owner is not None and owner.has_ended:
            with suppress(OSError):  # it is another user's
                shutil.rmtree(part) if part.is_dir() else part.unlink()


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what the system refuses inside the block into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            "the file cannot be written",
            given=f"{path}: {error.strerror or error}",
            hint="is the disk full, or the folder read-only?",
        ) from error


def require_place(path: Path, *, overwrite: bool = True) -> None:
    """Refuse a path at which no file can be written, and with ``overwrite=False`` a file that exists."""
    with output_errors(path):
        if not path.parent.is_dir():
            raise OutputError("the folder does not exist", given=path.parent, hint="create it first")
        if path.is_dir():
            raise OutputError("a folder has this name", given=path, hint="name a file")
        if not overwrite and path.exists():
            raise OutputError(
                "the file exists already",
                given=path,
                hint=f"name another one, or replace it with {option_text('overwrite', True)}",
            )


def require_output(path: str | Path, *, overwrite: bool = False, size: int = 0) -> None:
    """Refuse a path before the work for it begins: a trial shows whether it can be written.

    Parameters
    ----------
    path
        The file.
    overwrite
        Whether it may exist.
    size
        Number of bytes that will be needed, as far as that is known.

    Examples
    --------
    >>> require_output("nowhere/labels.csv")
    Traceback (most recent call last):
    ...
    draper.errors.OutputError: the folder does not exist
      given:    nowhere
      hint:     create it first
    """
    path = Path(path)
    require_place(path, overwrite=overwrite)
    remove_stale(path.parent, path.name)
    with output_errors(path):
        free = shutil.disk_usage(path.parent).free
        part = part_of(path)
        try:
            part.write_bytes(PROBE)
        finally:
            part.unlink(missing_ok=True)
    if size > free:
        raise OutputError(
            "the disk has too little room for the file",
            given=f"{path.parent}: {free / 1e6:,.1f} MB are free",
            expected=f"{size / 1e6:,.1f} MB",
            hint="make room, or name a file on another disk",
        )


@contextmanager
def replacing(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` to write to; the file gets its name when the block ends well.

    If the block fails, the hidden file goes and an older file of the name stays as it was. What the system
    refuses (a full disk, a missing permission) becomes an :class:`~draper.errors.OutputError`; so does a file
    that exists, with ``overwrite=False``.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/labels.csv") as part:
    ...         _ = part.write_text("id,teff")
    ...     [file.name for file in Path(folder).iterdir()]
    ['labels.csv']
    """
    path = Path(path)
    require_place(path, overwrite=overwrite)
    part = part_of(path)
    try:
        with output_errors(path):
            yield part
            with part.open("rb") as handle:
                os.fsync(handle.fileno())  # the name must not reach the disk before the content
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write(path: str | Path, content: bytes | str, *, overwrite: bool = True) -> Path:
    """Write a whole file in one step, text as UTF-8.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(f"{folder}/facts.json", "{}").name
    'facts.json'
    """
    with replacing(path, overwrite=overwrite) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)
