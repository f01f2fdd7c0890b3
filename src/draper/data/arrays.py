"""The arrays that make up spectra: rows of float32, and table columns of four types."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from draper.errors import DraperError

BLOCK = 4096
"""Largest number of rows processed at once, so that a mapped file is never in memory as a whole."""

BLOCK_BYTES = 2**25
"""Largest size [bytes] of the rows processed at once, whatever their length."""

KINDS = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.bool_}
"""Type to which a column is converted, by its kind of number."""

EXACT = 2**53
"""Whole numbers up to this are exact as float64."""


def blocks(n: int, rows: int = BLOCK) -> Iterator[slice]:
    """Iterate over slices that cover ``range(n)``."""
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def rows_within(shape: tuple[int, ...]) -> int:
    """Return how many rows of a float32 array of this shape are processed at once.

    Examples
    --------
    >>> rows_within((50_000, 800)), rows_within((100, 1_000_000))
    (4096, 8)
    """
    return max(1, min(BLOCK, BLOCK_BYTES // (4 * max(1, math.prod(shape[1:])))))


def blocks_of(values: NDArray[Any]) -> Iterator[slice]:
    """Iterate over slices that cover the rows of an array."""
    return blocks(len(values), rows_within(values.shape))


def has_good_pixel(ivar: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each row (n, p) whether any of its pixels has a weight."""
    return np.asarray((ivar > 0).any(axis=1))


def read_only(values: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
    """Return a read-only array, without a copy where there is no need; a map stays a map."""
    array = values if isinstance(values, np.memmap) else np.asarray(values)
    array = array if array.dtype == dtype else array.astype(dtype)
    if array is values and not array.flags.writeable:
        return array
    view = array.view()
    view.setflags(write=False)
    return view


def as_rows(values: ArrayLike, masked: float = np.nan) -> NDArray[np.float32]:
    """Return a read-only float32 view of (n, p) values, without a copy where there is no need."""
    try:
        if isinstance(values, np.ma.MaskedArray):
            values = np.ma.filled(values.astype(np.float64), masked)
        array = values if isinstance(values, np.memmap) else np.asarray(values)
        if array.dtype.kind not in "fiubO":
            raise TypeError(f"{array.dtype}")
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and validation names the pixel
            rows = read_only(array, np.float32)
    except (TypeError, ValueError) as error:
        raise DraperError(
            "flux and ivar must be numbers", given=str(error), expected="an array (spectra, pixels)"
        ) from None
    if rows.ndim != 2:
        raise DraperError(
            "flux and ivar must have two axes", given=f"shape {rows.shape}", expected="(spectra, pixels)"
        )
    if array.dtype == np.float64:
        largest = np.fmax.reduce(np.abs(array), axis=None, initial=0.0)
        if 0 < largest < np.finfo(np.float32).tiny:
            raise DraperError(
                "the values are too small for single precision",
                given=f"{largest:g} at most",
                hint="multiply them by a power of ten, and include that factor in the unit",
            )
    return rows


def checked_flux(flux: NDArray[np.float32], ivar: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return flux (n, p) whose bad pixels are finite; raise an error where good values or weights are not."""
    repaired = None
    for rows in blocks_of(flux):
        values, weights = flux[rows], ivar[rows]
        wrong = ~(np.isfinite(weights) & (weights >= 0))
        if wrong.any():
            raise _bad_pixel("ivar must be finite and not negative", rows, wrong, weights)
        wild = ~np.isfinite(values)
        if not wild.any():
            continue
        if (wild & (weights > 0)).any():
            raise _bad_pixel("flux is not finite where ivar is positive", rows, wild & (weights > 0), values)
        # A bad pixel has no value; 0 keeps NaN out of every product with its weight of 0.
        repaired = np.array(flux) if repaired is None else repaired
        repaired[rows][wild] = 0.0
    return flux if repaired is None else read_only(repaired, np.float32)


def _bad_pixel(what: str, rows: slice, where: NDArray[np.bool_], values: NDArray[np.float32]) -> DraperError:
    row, pixel = (int(index[0]) for index in np.nonzero(where))
    return DraperError(
        what,
        given=f"{values[row, pixel]} in spectrum {rows.start + row}, pixel {pixel}",
        hint="mark bad pixels with ivar = 0; rescale numbers beyond 3e38",
    )


def as_column(values: ArrayLike) -> NDArray[Any]:
    """Return a read-only column of float64, int64, bool or str.

    Masked values, and None among Python objects, become NaN, or empty text.

    Examples
    --------
    >>> as_column([5800, None])
    array([5800.,   nan])
    >>> as_column(["a", None])
    array(['a', ''], dtype='<U1')
    """
    array = _unmasked(values) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.dtype.kind == "O":
        array = _unboxed(array)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U":
        return read_only(array, array.dtype)
    if array.dtype.kind not in KINDS:
        raise DraperError(
            "a column must hold numbers, booleans or text", given=f"{array.dtype}", hint="convert or drop it"
        )
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise DraperError(
            "an integer exceeds 64 bits", given=array.max(), hint="store such identifiers as text"
        )
    return read_only(array, KINDS[array.dtype.kind])


def _unmasked(values: np.ma.MaskedArray[Any, Any]) -> NDArray[Any]:
    if not np.any(values.mask):
        return np.asarray(values.data)
    missing = {"S": b"", "U": "", "O": None}
    if values.dtype.kind in missing:
        return np.asarray(values.filled(missing[values.dtype.kind]))
    return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))


def _unboxed(values: NDArray[Any]) -> NDArray[Any]:
    """Convert Python objects to float64 if all are numbers that it holds exactly, else to text."""
    objects = values.ravel().tolist()
    missing = [value is None or (isinstance(value, float) and value != value) for value in objects]
    numbers = [
        isinstance(value, float) or (isinstance(value, int) and abs(value) <= EXACT)
        for value, absent in zip(objects, missing, strict=True)
        if not absent
    ]
    if all(numbers) and objects:
        plain: list[Any] = [
            np.nan if absent else value for value, absent in zip(objects, missing, strict=True)
        ]
        return np.array(plain, dtype=np.float64).reshape(values.shape)
    texts = ["" if absent else _text(value) for value, absent in zip(objects, missing, strict=True)]
    return np.array(texts, dtype=np.str_).reshape(values.shape)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def joined(name: str, parts: list[tuple[NDArray[Any] | None, int]]) -> NDArray[Any]:
    """Join the columns of several sets (column or None, length); None is filled with missing values."""
    present = [column for column, _ in parts if column is not None]
    is_text = {column.dtype.kind == "U" for column in present}
    if len(is_text) > 1:
        raise DraperError(
            f"column '{name}' holds text in one set and numbers in another",
            hint="drop it, or rename it in one of them",
        )
    missing: Any = "" if True in is_text else np.nan
    return np.concatenate([np.full(n, missing) if column is None else column for column, n in parts])
