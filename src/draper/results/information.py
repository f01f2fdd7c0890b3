"""What ``information`` returns: how well labels can be known from spectra, and where in them that stands."""

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
"""Errors up to which a label counts as measured unless told otherwise, by unit."""


@dataclass(frozen=True, eq=False, repr=False)
class Information:
    """The Cramer-Rao bound of n stars: no unbiased fit of the same data has smaller errors.

    Attributes
    ----------
    labels : LabelSet
        The m quantities that are free: labels, ``rv``, and widths.
    values : ndarray (n, m)
        Where the bound holds.
    covariance : ndarray (n, m, m)
        Inverse Fisher matrix.
    conditional : ndarray (n, m)
        Smallest error of each quantity if all others were known, but for the continuum.
    grid : Grid
        The q pixels.
    flux, ivar : ndarray (n, q)
        Spectra, and the weights of their pixels; what a fit leaves out has none.
    gradients : ndarray (n, q, m)
        Derivatives of the flux, per physical unit.
    outside : ndarray (n,) bool
        Stars unlike those that the model has learnt from, whose bounds are not to be trusted.
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
        """What is free, by name."""
        return self.labels.names

    @property
    def bound(self) -> FloatArray:
        """Smallest errors (n, m), all others being free."""
        found: FloatArray = np.sqrt(np.einsum("nii->ni", self.covariance))
        return found

    @property
    def correlation(self) -> FloatArray:
        """How the errors are correlated (n, m, m)."""
        return self.covariance / self.bound[:, :, None] / self.bound[:, None]

    @property
    def wavelength(self) -> FloatArray:
        """Vacuum Angstrom (q,)."""
        return self.grid.vacuum

    @property
    def pixels(self) -> FloatArray:
        """Information (n, q, m) of each pixel on each quantity alone: ivar (d flux / d label)^2.

        What a free continuum, and errors that the emulator makes in many pixels at once, take away is no
        matter of single pixels, and not taken into account.
        """
        found: FloatArray = self.ivar[:, :, None].astype(np.float64) * self.gradients.astype(np.float64) ** 2
        return found

    def __getitem__(self, name: str) -> FloatArray:
        """Return the bound (n,) of one quantity."""
        label = self.labels[name]
        return self.bound[:, self.names.index(label.name)]

    def windows(self, windows: Iterable[tuple[float, float]]) -> FloatArray:
        """Return the information (n, w, m) in windows [vacuum Angstrom], each quantity taken alone.

        1 / sqrt of it is the smallest error from the pixels of the window, if all else were known. For the
        bound with the others free, ask for the information anew with these ``windows``.
        """
        pixels = self.pixels
        sums = [pixels[:, self.grid.inside([window])].sum(axis=1) for window in windows]
        return np.stack(sums, axis=1) if sums else np.zeros((len(self), 0, len(self.labels)))

    def measurable(self, within: Mapping[str, float] | None = None) -> dict[str, NDArray[np.bool_]]:
        """Return for each quantity which stars (n,) allow to measure it.

        Parameters
        ----------
        within
            The largest error that still counts, by name; of what is not named 100 K, 0.1 dex, 1 km/s.
        """
        wanted = dict(within or {})
        for name in wanted:
            if name not in self.names:
                raise DraperError(
                    "this is not among what is free", given=name, expected=", ".join(self.names),
                    hint=did_you_mean(name, self.names),
                )  # fmt: skip
        limits = {label.name: wanted.get(label.name, enough(label)) for label in self.labels}
        # What is not known at all (NaN) is not measured.
        return {name: self[name] <= limit for name, limit in limits.items() if limit is not None}

    def table(self) -> dict[str, NDArray[Any]]:
        """Return values, bounds (``<label>_bound``) and errors with all else known as columns (n,)."""
        found: dict[str, NDArray[Any]] = {}
        for number, name in enumerate(self.names):
            found[name] = self.values[:, number]
            found[f"{name}_bound"] = self.bound[:, number]
            found[f"{name}_conditional"] = self.conditional[:, number]
        return {**found, "outside": self.outside}

    def write(self, path: str | Path) -> Path:
        """Write the columns as .csv, .ecsv or .fits, with units where the format has them."""
        units = {label.name: label.unit for label in self.labels}
        more = {f"{name}_{what}": unit for name, unit in units.items() for what in ("bound", "conditional")}
        return write_table(self.table(), path, units | more)

    def __repr__(self) -> str:
        typical = dict(zip(self.names, np.median(self.bound, axis=0), strict=True)) if len(self) else {}
        parts = [f"{name} {typical.get(name, np.nan):.2g} {self.labels[name].unit}" for name in self.names]
        stars = "star" if len(self) == 1 else "stars"
        return f"Information({len(self)} {stars}; bounds: {', '.join(part.strip() for part in parts)})"


def enough(label: Label) -> float | None:
    """Return the largest error of a label that counts as measured; none where its unit has none.

    Examples
    --------
    >>> enough(Label("mg_fe"))
    0.1
    """
    return ENOUGH.get(label.unit)
