"""Correlations between the pixels of spectra."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.arrays import blocks, read_only
from draper.errors import DraperError

TEMPLATES = 256
"""Number of matrices processed at once."""


@dataclass(frozen=True, eq=False)
class Correlation:
    """Correlations between the pixels of a spectrum, shared by index or one for each object.

    Attributes
    ----------
    templates : ndarray (k, p, p) float32
        Correlation matrices.
    index : ndarray (n,) int64
        Which template each object has.
    """

    templates: NDArray[np.float32]
    index: NDArray[np.int64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", read_only(self.templates, np.float32))
        object.__setattr__(self, "index", read_only(self.index, np.int64))

    def __getitem__(self, rows: Any) -> Correlation:
        return Correlation(self.templates, self.index[rows])

    def of(self, rows: Any) -> NDArray[np.float32]:
        """Return the matrices (..., p, p) of some objects."""
        matrices: NDArray[np.float32] = self.templates[self.index[rows]]
        return matrices

    def pixels(self, index: NDArray[Any]) -> Correlation:
        """Return the correlations between some pixels."""
        return Correlation(self.templates[:, index[:, None], index], self.index)

    def among(self, pixels: NDArray[np.bool_]) -> Correlation:
        """Return the same with some pixels (n, p) of each object; all others become independent."""
        keys = np.concatenate([self.index[:, None], np.packbits(pixels, axis=1)], axis=1)
        _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        both = pixels[first][:, :, None] & pixels[first][:, None]
        unit = np.eye(pixels.shape[1], dtype=np.float32)
        return Correlation(np.where(both, self.of(first), unit), index.reshape(-1))

    def require(self, n: int, p: int) -> None:
        """Raise an error unless this fits n spectra of p pixels."""
        shape, index = self.templates.shape, self.index
        fits = shape[1:] == (p, p) and index.shape == (n,)
        if not fits or (n and not (index.min() >= 0 and index.max() < shape[0])):
            raise DraperError(
                "the correlation does not fit the spectra",
                given=f"templates {shape}, index {index.shape}",
                expected=f"templates (k, {p}, {p}), index ({n},) from 0 to below k",
            )

    def compact(self) -> Correlation:
        """Return the same without unused templates."""
        used, index = np.unique(self.index, return_inverse=True)
        return self if len(used) == len(self.templates) else Correlation(self.templates[used], index)

    @property
    def is_finite(self) -> bool:
        """Whether every correlation is finite."""
        some = blocks(len(self.templates), TEMPLATES)
        return all(bool(np.isfinite(self.templates[block]).all()) for block in some)

    @classmethod
    def concat(cls, parts: Sequence[Correlation]) -> Correlation:
        """Return the correlations of joined sets; equal templates of several sets are stored once."""
        first = parts[0].templates
        if all(part.templates is first for part in parts):
            return cls(first, np.concatenate([part.index for part in parts]))
        # Each partition of a stream brings its own copy of templates that all of them share.
        known: dict[bytes, int] = {}
        templates, index = [], []
        for part in parts:
            keys = [hashlib.sha256(template.tobytes()).digest() for template in part.templates]
            for key, template in zip(keys, part.templates, strict=True):
                if key not in known:
                    known[key] = len(known)
                    templates.append(template)
            numbers = np.array([known[key] for key in keys], dtype=np.int64)
            index.append(numbers[part.index])
        return cls(np.array(templates, dtype=np.float32).reshape(-1, *first.shape[1:]), np.concatenate(index))
