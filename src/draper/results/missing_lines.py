"""The result of a search for lines that a line list lacks: features, and the maps they come from."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.results.table import write_table

FloatArray = NDArray[np.float64]

UNITS = {
    "wavelength": "Angstrom", "centroid": "Angstrom", "low": "Angstrom", "high": "Angstrom",
    "known_wavelength": "Angstrom", "response": "1 / dex", "response_error": "1 / dex",
}  # fmt: skip

UNKNOWN = "unknown"
"""Stands for an element where spectra do not show which one makes a line."""


@dataclass(frozen=True, eq=False, repr=False)
class LineTable:
    """Features that observed spectra have and synthetic ones lack, in order of wavelength.

    Attributes
    ----------
    grid : Grid
        The p pixels.
    elements : tuple of str
        Symbols of the e elements that were compared. "Fe" also stands for all elements without a label of
        their own, where the labels of the others are [X/Fe]. "unknown" alone: lines were found by their depth
        and not by a response; responses are then depths, and not per dex.
    first, last, peak : ndarray (m,) of int
        Pixels of each feature, ``last`` included.
    centroid : ndarray (m,)
        Vacuum wavelength weighted by the response [Angstrom].
    depth : ndarray (m,)
        Mean depth that synthetic spectra lack at the peak, in the unit of the flux.
    fraction : ndarray (m,)
        Part of the observed response that synthetic spectra lack: 1 where a line is missing, little where
        they have it with another strength (see :func:`draper.models.translator.line_strength.line_changes`).
    amplitude, amplitude_error : ndarray (m, e)
        Response to each element that synthetic spectra lack, averaged over the feature and the stars: depth
        per dex of [X/H].
    probability : ndarray (m, e)
        Probability that the response to this element is the largest.
    share : ndarray (m, e)
        Share of each element whose response is significant; more than one in blends and molecules.
    height : ndarray (m,)
        Largest response over its noise, of all elements.
    p_value, q_value : ndarray (m,)
        Probability of such a feature by chance, and the smallest false discovery rate at which it counts.
    known : ndarray (m,) of str
        Species of the nearest line of the line list, if there is one within the feature; else empty.
    known_wavelength : ndarray (m,)
        Its vacuum wavelength [Angstrom], or NaN.
    difference, noise : ndarray (e, p)
        Mean difference of the responses, observed - synthetic, per dex, smoothed by a line's width, and its
        1-sigma noise.
    flux : ndarray (2, p)
        Mean synthetic and mean observed spectrum of the stars.
    width : float
        Full width at half maximum [pixels] of a line.
    """

    grid: Grid
    elements: tuple[str, ...]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    peak: NDArray[np.int64]
    centroid: FloatArray
    depth: FloatArray
    fraction: FloatArray
    amplitude: FloatArray
    amplitude_error: FloatArray
    probability: FloatArray
    share: FloatArray
    height: FloatArray
    p_value: FloatArray
    q_value: FloatArray
    known: NDArray[np.str_]
    known_wavelength: FloatArray
    difference: FloatArray
    noise: FloatArray
    flux: FloatArray
    width: float

    def __len__(self) -> int:
        return len(self.peak)

    def __getitem__(self, rows: Any) -> LineTable:
        """Return some of the features: a slice, a mask or numbers."""
        m = len(self)
        whole = {"grid", "elements", "difference", "noise", "flux", "width"}
        chosen = np.atleast_1d(np.arange(m)[rows])
        names = [field.name for field in fields(self) if field.name not in whole]
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    @property
    def wavelength(self) -> FloatArray:
        """Vacuum wavelength (m,) of the peak of each feature [Angstrom]."""
        return self.grid.vacuum[self.peak]

    @property
    def element(self) -> NDArray[np.str_]:
        """Most likely element (m,)."""
        return np.array(self.elements, dtype=str)[self._order()[:, 0]]

    @property
    def runner_up(self) -> NDArray[np.str_]:
        """Next most likely element (m,); empty if there is only one."""
        if len(self.elements) < 2:
            return np.full(len(self), "", dtype="<U5")
        return np.array(self.elements, dtype=str)[self._order()[:, 1]]

    @property
    def blended(self) -> NDArray[np.bool_]:
        """Features (m,) a quarter or more of whose response is that to other elements."""
        blended: NDArray[np.bool_] = self.share.max(axis=1, initial=0.0) <= 0.75
        return blended

    @property
    def statistic(self) -> FloatArray:
        """Depth per dex (p,) that synthetic spectra lack, over its noise; the largest of all elements."""
        statistic: FloatArray = (-self.difference / self.noise).max(axis=0)
        return statistic

    def _order(self) -> NDArray[np.int64]:
        """Return elements (m, e), the most likely first; of equally likely ones that of larger response."""
        return np.lexsort((-self.amplitude, -self.probability), axis=1)

    def to_table(self) -> dict[str, NDArray[Any]]:
        """Return one row for each feature as columns (m,)."""
        rows, order = np.arange(len(self)), self._order()
        best, vacuum = order[:, 0], self.grid.vacuum
        second = order[:, min(1, len(self.elements) - 1)]
        return {
            "wavelength": self.wavelength,
            "centroid": self.centroid,
            "low": vacuum[self.first],
            "high": vacuum[self.last],
            "first": self.first,
            "last": self.last,
            "element": self.element,
            "probability": self.probability[rows, best],
            "share": self.share[rows, best],
            "runner_up": self.runner_up,
            "runner_up_share": np.where(second == best, 0.0, self.share[rows, second]),
            "blended": self.blended,
            "response": self.amplitude[rows, best],
            "response_error": self.amplitude_error[rows, best],
            "depth": self.depth,
            "fraction": self.fraction,
            "height": self.height,
            "p_value": self.p_value,
            "q_value": self.q_value,
            "known": self.known,
            "known_wavelength": self.known_wavelength,
        }

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write :meth:`to_table` as .csv, .ecsv, .fits or .parquet, with units where the format has them."""
        return write_table(self.to_table(), path, UNITS, overwrite=overwrite)

    def __repr__(self) -> str:
        names, numbers = np.unique(self.element, return_counts=True)
        parts = ", ".join(f"{number} {name}" for name, number in zip(names, numbers, strict=True))
        return f"LineTable({len(self)} features{': ' if parts else ''}{parts})"
