"""Opening FITS files: a damaged file gives a clear error, and harmless warnings are suppressed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from draper.errors import DraperError


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a FITS file; whatever astropy raises on a damaged one becomes a DraperError."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deviations from the standard are usual and harmless here
            # Opened here, because astropy leaves its own handle open when a file is damaged.
            with path.open("rb") as file, fits.open(file, memmap=False, ignore_missing_simple=False) as hdus:
                yield hdus
    except DraperError:
        raise
    except Exception as error:  # noqa: BLE001 - astropy raises anything on a damaged file
        raise DraperError(
            "the FITS file is damaged, truncated or not of this format",
            given=f"{path}: {error}",
            hint="copy or download it again, or leave out format=",
        ) from None


def headers(path: Path) -> tuple[dict[str, Any], ...]:
    """Return the header of each HDU as a dictionary; those that cannot be read are left out."""
    try:
        with opened(path) as hdus:
            return tuple({str(card.keyword): card.value for card in hdu.header.cards} for hdu in hdus)
    except DraperError:
        return ()
