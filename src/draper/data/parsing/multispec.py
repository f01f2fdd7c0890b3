"""IRAF's "multispec" format: the dispersion of each row of an image, described by WAT2 keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev, legendre
from numpy.typing import NDArray

from draper.data.parsing.source import Source

FloatArray = NDArray[np.float64]

CARD = 68
"""Characters of text in a FITS card; trailing blanks belong to the joined text."""

EVALUATE = {1: chebyshev.chebval, 2: legendre.legval}
"""The supported functions, by IRAF's number."""


def description(header: Mapping[str, Any], axis: int) -> str:
    """Return the joined text of the keywords ``WATn_001``, ``WATn_002``, ..."""
    keys = sorted(key for key in header if re.fullmatch(rf"WAT{axis}_\d+", key))
    return "".join(str(header[key]).ljust(CARD) for key in keys)


def wavelengths(source: Source, header: Mapping[str, Any], rows: int, pixels: int) -> FloatArray:
    """Return the wavelength of every pixel (rows, pixels); NaN beyond the valid ones of a row."""
    specs = {
        int(row): text.split()
        for row, text in re.findall(r'spec(\d+)\s*=\s*"([^"]*)"', description(header, 2))
    }
    missing = [row for row in range(1, rows + 1) if row not in specs]
    if missing:
        raise source.error(
            "the header does not describe the wavelengths of every row",
            given=f"no spec{missing[0]} in WAT2",
            hint="write the spectra again with IRAF's dispcor, or as text",
        )
    result = np.full((rows, pixels), np.nan)
    for row in range(rows):
        try:
            values = _row([float(word) for word in specs[row + 1]], pixels)
        except (ValueError, IndexError, OverflowError):
            raise source.error(
                f"the dispersion of row {row + 1} cannot be read",
                given=" ".join(specs[row + 1])[:80],
                expected="a linear, log-linear, Chebyshev or Legendre dispersion",
                hint="make it linear with IRAF's dispcor first",
            ) from None
        result[row, : len(values)] = values
    return result


def _row(numbers: list[float], pixels: int) -> FloatArray:
    """Return the wavelengths of one row from its numbers: aperture, beam, type, w1, dw, nw, z, ..."""
    start, step, redshift = numbers[3], numbers[4], numbers[6]
    kind, count = int(numbers[2]), int(numbers[5])
    index = np.arange(min(max(count, 0), pixels), dtype=np.float64)
    with np.errstate(all="ignore"):  # the grid refuses what is not finite
        if kind in (0, 1):
            linear = start + step * index
            return (10**linear if kind == 1 else linear) / (1 + redshift)
        if kind != 2:
            raise ValueError
        total, rest = np.zeros_like(index), numbers[9:]
        while rest:
            weight, shift, low, high = rest[0], rest[1], rest[4], rest[5]
            function, order = int(rest[2]), int(rest[3])
            if function not in EVALUATE or order < 1 or len(rest) < 6 + order:
                raise ValueError
            place = (2 * (index + 1) - (high + low)) / (high - low)
            total += weight * (shift + EVALUATE[function](place, rest[6 : 6 + order]))
            rest = rest[6 + order :]
        return total / (1 + redshift)
