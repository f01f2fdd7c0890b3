"""Several spectra in one file: their ids, and which of them share a grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from draper.data.parsing.source import Source


def numbered(source: Source, count: int) -> NDArray[np.str_]:
    """Return the ids (count,): the name of the file, with a number from 1 where there are several."""
    return np.array([source.name] if count == 1 else [f"{source.name}-{row + 1}" for row in range(count)])


def together(wavelength: NDArray[np.float64]) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of wavelengths (n, p) that share a grid: all if they are equal, else one by one."""
    rows = np.arange(len(wavelength))
    if len(rows) and all(np.array_equal(wavelength[0], row, equal_nan=True) for row in wavelength):
        yield rows
    else:
        yield from rows[:, None]
