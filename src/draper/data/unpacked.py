"""Compressed files: the size to which they unpack is compared with a limit before memory is taken."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from draper.configs.read import UNPACKED_LIMIT
from draper.errors import DraperError, option_text

GB = 10**9

CHUNK = 2**20
"""Bytes that are unpacked at once where the size must be counted."""


def require_unpackable(path: Path, size: int, limit: float = UNPACKED_LIMIT) -> None:
    """Raise an error where a file that unpacks to ``size`` [bytes] exceeds the limit [GB].

    Examples
    --------
    >>> require_unpackable(Path("bomb.npz"), 7_700_000_000)
    Traceback (most recent call last):
    ...
    draper.errors.DraperError: the file unpacks to more than the limit
      given:    bomb.npz: 7.7 GB or more
      expected: at most 4 GB
      hint:     if you trust the file and have the memory: unpacked_limit=8
    """
    if size > limit * GB:
        enough = size // GB + 1
        raise DraperError(
            "the file unpacks to more than the limit",
            given=f"{path}: {size / GB:.3g} GB or more",
            expected=f"at most {limit:g} GB",
            hint=f"if you trust the file and have the memory: {option_text('read.unpacked_limit', enough)}",
        )


def gzip_size(path: Path, limit: float = UNPACKED_LIMIT) -> int:
    """Return the size [bytes] to which a gzip file unpacks, in constant memory; an error beyond the limit.

    The size in its last bytes says little: it is modulo 4 GiB, and of the last part alone.
    """
    size = 0
    try:
        with gzip.open(path, "rb") as handle:
            while piece := len(handle.read(CHUNK)):
                size += piece
                require_unpackable(path, size, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise DraperError("the file is damaged or truncated", given=f"{path}: {error}") from None
    return size
