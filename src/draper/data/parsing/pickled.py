"""Pickles of plain numbers, read without running anything that they name.

A pickle is a program, which may call any function. Here every name that it looks up is answered by a stand-in
of this file or refused, so that not even numpy's own code sees what a stranger has written.
"""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.parsing.source import Source
from draper.errors import DraperError

KINDS = "biuf"
"""Kinds of numbers that arrays may hold; never objects."""


class Number:
    """Stand-in for a numpy dtype: the type of one number, such as ``f8``."""

    def __init__(self, code: str, *flags: Any) -> None:
        self.dtype = _numeric(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order, the second item of the state of a numpy dtype."""
        self.dtype = _numeric(self.dtype.str[1:]).newbyteorder(state[1])


class Numbers:
    """Stand-in for a numpy array; ``np.asarray`` makes it one."""

    def __init__(self, *description: Any) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the state of a numpy array: version, shape, type, whether columns come first, bytes."""
        _, shape, number, by_column, raw = state
        self.values = _array(raw, number, shape, "F" if by_column else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype)


def _numeric(code: str) -> np.dtype[Any]:
    dtype = np.dtype(code)
    if dtype.kind not in KINDS:
        raise DraperError("the pickle holds arrays of something other than numbers", given=code)
    return dtype


def _array(raw: bytes | str, number: Number, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    content = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(content, dtype=number.dtype).reshape(shape, order=order)


def _scalar(number: Number, raw: bytes | str) -> Any:
    return _array(raw, number, (), "C")[()]


def _from_buffer(raw: bytes, number: Number, shape: tuple[int, ...], order: str) -> Numbers:
    numbers = Numbers()
    numbers.values = _array(raw, number, shape, order)
    return numbers


def _encoded(text: str, encoding: str) -> bytes:
    """Return bytes that Python 3 has written as text for Python 2, which is always in latin1."""
    if encoding != "latin1":
        raise DraperError("the pickle encodes text in an unexpected way", given=encoding)
    return text.encode("latin1")


STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": Numbers,
    "numpy.dtype": Number,
    "_codecs.encode": _encoded,
    **{f"numpy.{core}.multiarray._reconstruct": Numbers for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
"""What the names in a pickle of numbers stand for: those of numpy before and after its version 2."""


class NumbersOnly(pickle.Unpickler):
    """Reads containers, text and numbers, written by Python 2 or 3; refuses every other name."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the stand-in for a name."""
        full = f"{module}.{name}"
        if full not in STAND_INS:
            raise DraperError(
                f"the pickle asks for '{full}', which draper does not run",
                given=full,
                expected="containers, text, numbers and numpy arrays of numbers",
                hint="a file of spectra has no need of it: do not open it elsewhere, ask its authors",
            )
        stand_in = STAND_INS[full]
        # A pickle may set attributes of what it looks up, so each look-up gets a function of its own.
        return lambda *given: stand_in(*given)


def is_pickle(head: bytes) -> bool:
    """Whether bytes begin like a pickle, of a dictionary if its protocol is 0 or 1.

    Examples
    --------
    >>> is_pickle(pickle.dumps({})), is_pickle(b"5000 1.0")
    (True, False)
    """
    return head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(d", b"}q", b"}.")


def load(source: Source) -> Any:
    """Return the content of a pickle, compressed by gzip or not; arrays of numbers are ``Numbers``."""
    source.require_unpackable()
    try:
        with gzip.open(source.path) if source.is_gzipped else source.path.open("rb") as handle:
            return NumbersOnly(handle, encoding="latin1").load()
    except DraperError as error:
        raise source.error(error.what, given=error.given, expected=error.expected, hint=error.hint) from None
    except Exception as error:  # a damaged pickle raises anything
        raise source.error("the pickle is damaged or truncated", given=error, hint="copy it again") from error
