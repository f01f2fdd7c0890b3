"""Writing files that are whole or absent: nobody ever finds half a file under its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from draper.errors import DraperError


def part_of(path: Path) -> Path:
    """Return the hidden file in which this process writes what later gets the name ``path``."""
    # The suffix stays last: many writers choose the format by it.
    return path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")


def require_place(path: Path) -> None:
    """Refuse a path at which no file can be written."""
    if not path.parent.is_dir():
        raise DraperError("the folder does not exist", given=path.parent, hint="create it first")
    if path.is_dir():
        raise DraperError("a folder has this name", given=path, hint="name a file")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` to write to; the file gets its name when the block ends well.

    If the block fails, the hidden file goes and an older file of the name stays as it was. What the system
    refuses (a full disk, a missing permission) becomes a :class:`~draper.errors.DraperError`.

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
    require_place(path)
    part = part_of(path)
    try:
        yield part
        with part.open("rb") as handle:
            os.fsync(handle.fileno())  # the name must not reach the disk before the content
        part.replace(path)
    except OSError as error:
        raise DraperError(
            "the file cannot be written",
            given=f"{path}: {error.strerror or error}",
            hint="is the disk full, or the folder read-only?",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def write(path: str | Path, content: bytes | str) -> Path:
    """Write a whole file in one step, text as UTF-8.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(f"{folder}/facts.json", "{}").name
    'facts.json'
    """
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)
