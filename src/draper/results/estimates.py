"""What ``predict`` returns: labels with errors and flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from draper.data.labels import LabelSet
from draper.errors import DraperError
from draper.results.table import write_table

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Estimates:
    """Labels of n spectra with their uncertainty.

    Attributes
    ----------
    labels : LabelSet
        The l labels, in order.
    median : ndarray (n, l)
        Physical values.
    sigma : ndarray (n, l)
        1-sigma errors; NaN where the model was never measured on held-out spectra.
    ids : ndarray (n,)
        Names of the spectra.
    flags : mapping of str to bool ndarray (n,)
        ``outside`` marks spectra unlike those the model has learnt from; a model may add others. ``no_data``
        is always there: spectra without a good pixel, whose labels are NaN.
    covariance : ndarray (n, l, l), optional
        Where the model knows how the errors are correlated.
    columns : mapping of str to ndarray (n,)
        What else there is to say of each spectrum, such as chi2.
    """

    labels: LabelSet
    median: FloatArray
    sigma: FloatArray
    ids: NDArray[Any]
    flags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    covariance: FloatArray | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, width = len(self.ids), len(self.labels)
        shapes = {"median": (n, width), "sigma": (n, width), "covariance": (n, width, width)}
        for name, shape in shapes.items():
            found = getattr(self, name)
            if found is not None and found.shape != shape:
                raise DraperError(f"{name} has the wrong shape", given=found.shape, expected=shape)
        flags = {**self.flags, "no_data": np.isnan(self.median).all(axis=1)}
        for name, values in flags.items():
            if values.shape != (n,) or values.dtype != bool:
                raise DraperError(
                    f"the flag '{name}' is not one truth value for each spectrum",
                    given=f"{values.dtype} {values.shape}",
                    expected=f"bool ({n},)",
                )
        object.__setattr__(self, "flags", flags)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> FloatArray:
        """Return the values (n,) of one label."""
        label = self.labels[name]
        return self.median[:, self.labels.names.index(label.name)]

    def quantile(self, q: float) -> FloatArray:
        """Return a quantile (n, l) of each label, the errors taken as Gaussian."""
        return self.median + float(ndtri(q)) * self.sigma

    def table(self) -> dict[str, NDArray[Any]]:
        """Return ids, labels, their errors (``<label>_err``) and flags as columns (n,)."""
        found: dict[str, NDArray[Any]] = {"id": self.ids}
        for number, name in enumerate(self.labels.names):
            found[name] = self.median[:, number]
            found[f"{name}_err"] = self.sigma[:, number]
        return {**found, **self.columns, **{f"flag_{name}": values for name, values in self.flags.items()}}

    def write(self, path: str | Path) -> Path:
        """Write the columns as .csv, .ecsv or .fits, with units where the format has them."""
        units = {label.name: label.unit for label in self.labels}
        return write_table(self.table(), path, units | {f"{name}_err": unit for name, unit in units.items()})

    def __repr__(self) -> str:
        flagged = {name: int(values.sum()) for name, values in self.flags.items()}
        flags = ", ".join(f"{count} {name}" for name, count in flagged.items())
        return f"Estimates({len(self)} x {', '.join(self.labels.names)}; flagged: {flags or 'none'})"
