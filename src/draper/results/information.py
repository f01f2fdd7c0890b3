"""The result of ``information``: the smallest errors of labels, and the pixels that determine them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet
from draper.errors import DraperError, did_you_mean
from draper.results.table import write_table

FloatArray = NDArray[np.float64]

ENOUGH = {"K": 100.0, "dex": 0.1, "km/s": 1.0}
"""Default largest errors at which a label counts as measurable, by unit."""


@dataclass(frozen=True, eq=False, repr=False)
class Information:
    """The Cramer-Rao bound of n stars: no unbiased fit of the same data has smaller errors.

    Attributes
    ----------
    labels : LabelSet
        The m free quantities: labels, ``rv``, and widths.
    values : ndarray (n, m)
        Values at which the bound holds.
    covariance : ndarray (n, m, m)
        Inverse Fisher matrix.
    conditional : ndarray (n, m)
        Smallest error of each quantity if all others, except the continuum, were known.
    grid : Grid
        The q pixels.
    flux, ivar : ndarray (n, q)
        Spectra, and the weights of their pixels; those that a fit leaves out have none.
    gradients : ndarray (n, q, m)
        Derivatives of the flux, per physical unit.
    outside : ndarray (n,) bool
        Stars unlike all training spectra of the model, whose bounds cannot be trusted.
    """

    labels: LabelSet
    values: FloatArray
    covariance: FloatArray
    conditional: FloatArray
    grid: Grid
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    gradients: NDArray[np.float32]
    outside: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the free quantities."""
        return self.labels.names

    @property
    def bound(self) -> FloatArray:
        """Smallest errors (n, m) if all others are free."""
        bound: FloatArray = np.sqrt(np.einsum("nii->ni", self.covariance))
        return bound

    @property
    def correlation(self) -> FloatArray:
        """Correlations (n, m, m) of the errors."""
        return self.covariance / self.bound[:, :, None] / self.bound[:, None]

    @property
    def wavelength(self) -> FloatArray:
        """Vacuum Angstrom (q,)."""
        return self.grid.vacuum

    @property
    def pixels(self) -> FloatArray:
        """Information (n, q, m) of each pixel on each quantity alone: ivar (d flux / d label)^2.

        A free continuum, and errors of the model that many pixels share, reduce the information of all pixels
        together, not of single ones: they are not counted here.
        """
        pixels: FloatArray = self.ivar[:, :, None].astype(np.float64) * self.gradients.astype(np.float64) ** 2
        return pixels

    def __getitem__(self, name: str) -> FloatArray:
        """Return the bound (n,) of one quantity."""
        return self.bound[:, self.index(name)]

    def index(self, name: str) -> int:
        """Return the column of a free quantity; an error for one that is not free."""
        if name not in self.names:
            raise DraperError(
                "this quantity is not free",
                given=name,
                expected=", ".join(self.names),
                hint=did_you_mean(name, self.names),
            )
        return self.names.index(name)

    def windows(self, windows: Iterable[tuple[float, float]]) -> FloatArray:
        """Return the information (n, w, m) in windows [vacuum Angstrom], each quantity taken alone.

        1 / sqrt of it is the smallest error from the pixels of the window if all else were known. For the
        bound with the others free, compute the information again with the option ``windows``.
        """
        pixels = self.pixels
        sums = [pixels[:, self.grid.inside([window])].sum(axis=1) for window in windows]
        return np.stack(sums, axis=1) if sums else np.zeros((len(self), 0, len(self.labels)))

    def measurable(self, within: Mapping[str, float] | None = None) -> dict[str, NDArray[np.bool_]]:
        """Return for each quantity the stars (n,) whose bound is small enough to measure it.

        Parameters
        ----------
        within
            The largest errors, by name; 100 K, 0.1 dex and 1 km/s by default.
        """
        chosen = dict(within or {})
        for name in chosen:
            self.index(name)
        limits = {label.name: chosen.get(label.name, enough(label)) for label in self.labels}
        # A bound of NaN, of a quantity without any information, is not below a limit.
        return {name: self[name] <= limit for name, limit in limits.items() if limit is not None}

    def table(self) -> dict[str, NDArray[Any]]:
        """Return values, bounds (``<label>_bound``) and errors if all else were known as columns (n,)."""
        columns: dict[str, NDArray[Any]] = {}
        for number, name in enumerate(self.names):
            columns[name] = self.values[:, number]
            columns[f"{name}_bound"] = self.bound[:, number]
            columns[f"{name}_conditional"] = self.conditional[:, number]
        return {**columns, "outside": self.outside}

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the columns as .csv, .ecsv, .fits or .parquet, with units where the format has them."""
        units = {label.name: label.unit for label in self.labels}
        more = {f"{name}_{what}": unit for name, unit in units.items() for what in ("bound", "conditional")}
        return write_table(self.table(), path, units | more, overwrite=overwrite)

    def __repr__(self) -> str:
        typical = dict(zip(self.names, np.median(self.bound, axis=0), strict=True)) if len(self) else {}
        parts = [f"{name} {typical.get(name, np.nan):.2g} {self.labels[name].unit}" for name in self.names]
        stars = "star" if len(self) == 1 else "stars"
        return f"Information({len(self)} {stars}; bounds: {', '.join(part.strip() for part in parts)})"


def enough(label: Label) -> float | None:
    """Return the largest error at which a label counts as measurable; none if its unit has no default.

    Examples
    --------
    >>> enough(Label("mg_fe"))
    0.1
    """
    return ENOUGH.get(label.unit)
