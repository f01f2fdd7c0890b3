"""Opening FITS files: a damaged file gives a clear error, and harmless warnings are suppressed."""

from __future__ import annotations

import gzip
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from draper.configs.read import UNPACKED_LIMIT
from draper.data.unpacked import gzip_size, require_unpackable
from draper.errors import DraperError

BLOCK = 2880
"""Headers and data begin at multiples of this number of bytes."""

MOST = 999
"""Largest number of axes, and of columns, that the FITS standard allows."""


@contextmanager
def opened(path: Path, unpacked_limit: float = UNPACKED_LIMIT) -> Iterator[Any]:
    """Open a FITS file; whatever astropy raises on a damaged one becomes a DraperError."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deviations from the standard are usual and harmless here
            _require_sizes(path, unpacked_limit)
            # Opened here, because astropy leaves its own handle open when a file is damaged.
            with path.open("rb") as file, fits.open(file, memmap=False, ignore_missing_simple=False) as hdus:
                yield hdus
    except DraperError:
        raise
    except Exception as error:  # astropy raises anything on a damaged file
        raise DraperError(
            "the FITS file is damaged, truncated or not of this format",
            given=f"{path}: {error}",
            hint="copy or download it again, or leave out format=",
        ) from error


def headers(path: Path, unpacked_limit: float = UNPACKED_LIMIT) -> tuple[dict[str, Any], ...]:
    """Return the header of each HDU as a dictionary; those that cannot be read are left out."""
    try:
        with opened(path, unpacked_limit) as hdus:
            return tuple({str(card.keyword): card.value for card in hdu.header.cards} for hdu in hdus)
    except DraperError:
        return ()


def _require_sizes(path: Path, unpacked_limit: float) -> None:
    """Refuse headers that declare more than the file holds: astropy would loop over it, or allocate it."""
    from astropy.io import fits

    with path.open("rb") as file:
        is_gzipped = file.read(2) == b"\x1f\x8b"
    end = gzip_size(path, unpacked_limit) if is_gzipped else path.stat().st_size
    start = 0
    with gzip.open(path) if is_gzipped else path.open("rb") as file:
        while start < end:
            file.seek(start)
            try:
                header = fits.Header.fromfile(file)
            except (OSError, ValueError, EOFError):
                return  # astropy reads no further either
            start = file.tell()
            size = _declared_size(header, end)
            if start + size > end:
                raise ValueError(f"its headers declare {start + size:,} bytes, but it holds {end:,}")
            if header.get("ZIMAGE"):
                axes = (header[f"ZNAXIS{k}"] for k in range(1, header["ZNAXIS"] + 1))
                require_unpackable(path, abs(header["ZBITPIX"]) // 8 * math.prod(axes), unpacked_limit)
            start += -(-size // BLOCK) * BLOCK


def _declared_size(header: Mapping[str, Any], most: int) -> int:
    """Return how many bytes of data follow a header; each axis may be ``most`` at most."""
    _count(header, "TFIELDS", MOST)
    count = _count(header, "NAXIS", MOST)
    if not count:
        return 0
    axes = [_count(header, f"NAXIS{k}", most) for k in range(1, count + 1)]
    extra, groups = _count(header, "PCOUNT", most), _count(header, "GCOUNT", most, default=1)
    return abs(int(header["BITPIX"])) // 8 * groups * (extra + math.prod(axes))


def _count(header: Mapping[str, Any], keyword: str, most: int, default: int = 0) -> int:
    """Return the whole number of a keyword, which may be ``most`` at most."""
    value = header.get(keyword, default)
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{keyword} is {value}, not a whole number up to {most}")
    return value
