"""Labels: the named physical quantities that describe a spectrum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.errors import DraperError, did_you_mean

FloatArray = NDArray[np.float64]

UNITS = {
    "teff": "K", "logg": "dex", "fe_h": "dex", "alpha_fe": "dex",
    "vmic": "km/s", "vsini": "km/s", "vmac": "km/s", "rv": "km/s",
}  # fmt: skip
"""The canonical label names and their units; elements are ``mg_fe``, ``ca_fe``, ... in dex."""

NOT_AT_REST = {"rv"}
"""Of these names, those that do not change a spectrum at rest."""

ALPHA = ("mg_fe", "si_fe", "s_fe", "ca_fe", "ti_fe")
"""Elements whose mean is ``alpha_fe``."""

SYNONYMS = {
    "t_eff": "teff", "temperature_effective": "teff",
    "log_g": "logg", "loggs": "logg", "gravity": "logg",
    "feh": "fe_h", "mh": "fe_h", "m_h": "fe_h", "met": "fe_h", "metallicity": "fe_h",
    "afe": "alpha_fe", "alpha_m": "alpha_fe", "alpha": "alpha_fe", "a_fe": "alpha_fe", "alphafe": "alpha_fe",
    "alpha_m_h": "alpha_fe", "am": "alpha_fe",
    "vturb": "vmic", "xi": "vmic", "micro": "vmic", "vmicro": "vmic",
    "vrot": "vsini", "vbroad": "vsini", "v_sini": "vsini",
    "vmacro": "vmac", "macro": "vmac",
    "vrad": "rv", "radial_velocity": "rv", "vhelio": "rv",
}  # fmt: skip
"""Names that other codes and surveys use for these labels."""

IDS = ("id", "ids", "source_id", "object_id", "obj_id", "filename", "file", "file_name", "object")
"""Names of columns that say which object a row is of."""


def canonical(name: str) -> str:
    """Return draper's name for a label that another code may call differently.

    Examples
    --------
    >>> canonical("M_H"), canonical("[Fe/H]"), canonical("Mg_Fe"), canonical("parallax_error")
    ('fe_h', 'fe_h', 'mg_fe', 'parallax_err')
    """
    lowered = re.sub(r"^[\[\]\s]+|[\[\]\s]+$", "", name).lower().replace("/", "_")
    for end in ("_err", "_error"):
        if lowered.endswith(end):
            return f"{canonical(lowered.removesuffix(end))}_err"
    return SYNONYMS.get(lowered, lowered)


@dataclass(frozen=True)
class Label:
    """One label: its name, unit, the range it is scaled by and whether it scales linearly or in log10.

    Examples
    --------
    >>> Label("teff", low=4000, high=8000).unit
    'K'
    """

    name: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    scale: Literal["linear", "log10"] = "linear"

    def __post_init__(self) -> None:
        if not self.unit:
            object.__setattr__(
                self, "unit", UNITS.get(self.name, "dex" if self.name.endswith(("_fe", "_h")) else "")
            )
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if self.scale not in ("linear", "log10"):
            raise DraperError(
                f"label '{self.name}' has an unknown scale", given=self.scale, expected="linear or log10"
            )
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise DraperError(
                f"the range of label '{self.name}' is not valid",
                given=f"{self.low} to {self.high}",
                expected="low < high",
            )
        if self.scale == "log10" and self.low <= 0:
            raise DraperError(
                f"label '{self.name}' is scaled in log10, so its range must be positive",
                given=f"{self.low} to {self.high}",
                hint="use scale='linear', or a range above 0",
            )


class LabelSet(Sequence[Label]):
    """An ordered, immutable set of labels that scales values to [0, 1] and back.

    Examples
    --------
    >>> labels = LabelSet([Label("teff", low=4000, high=8000), Label("logg", low=0, high=5)])
    >>> labels.scale([[5000.0, 2.5]])
    array([[0.25, 0.5 ]])
    >>> labels.unscale([[0.25, 0.5]])
    array([[5.0e+03, 2.5e+00]])
    """

    def __init__(self, labels: Iterable[Label] = ()) -> None:
        self._labels = tuple(labels)
        if len(set(self.names)) != len(self._labels):
            raise DraperError(
                "two labels have the same name", given=", ".join(self.names), hint="leave one of them out"
            )

    @classmethod
    def from_table(
        cls, table: Mapping[str, ArrayLike], names: Iterable[str], log: Iterable[str] = ()
    ) -> Self:
        """Build labels whose ranges are those of the columns ``names``; missing values (NaN) are ignored.

        Those named in ``log`` are scaled in log10.
        """
        logarithmic = set(log)
        labels, names = [], tuple(names)
        for name, values in zip(names, columns(table, names).T, strict=True):
            finite = values[np.isfinite(values)]
            if len(finite) == 0 or finite.min() == finite.max():
                raise DraperError(
                    f"label '{name}' does not vary in these data",
                    given="no finite value" if len(finite) == 0 else f"always {finite[0]:g}",
                    hint="leave it out, or give data in which it varies",
                )
            scale: Literal["linear", "log10"] = "log10" if name in logarithmic else "linear"
            labels.append(Label(name, low=float(finite.min()), high=float(finite.max()), scale=scale))
        return cls(labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(label.name for label in self._labels)

    @property
    def low(self) -> FloatArray:
        """Lower ends of the ranges (l,)."""
        return np.array([label.low for label in self._labels])

    @property
    def high(self) -> FloatArray:
        """Upper ends of the ranges (l,)."""
        return np.array([label.high for label in self._labels])

    def _stretch(self, values: FloatArray) -> FloatArray:
        is_log = [label.scale == "log10" for label in self._labels]
        if not any(is_log):
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(is_log, np.log10(values), values)

    def scale(self, values: ArrayLike) -> FloatArray:
        """Map physical values (..., l) to the unit range; NaN stays NaN, values outside leave [0, 1]."""
        low, high = self._stretch(self.low), self._stretch(self.high)
        return (self._stretch(self._shaped(values)) - low) / (high - low)

    def unscale(self, scaled: ArrayLike) -> FloatArray:
        """Map values (..., l) of the unit range to physical ones."""
        low, high = self._stretch(self.low), self._stretch(self.high)
        values = low + self._shaped(scaled) * (high - low)
        is_log = [label.scale == "log10" for label in self._labels]
        # Only the logarithms are raised: 10 to the power of a temperature would overflow.
        return np.where(is_log, 10.0 ** np.where(is_log, values, 0.0), values)

    def scale_error(self, values: ArrayLike, sigma: ArrayLike) -> FloatArray:
        """Map 1-sigma errors (..., l) of physical values (..., l) to the unit range, to first order.

        Examples
        --------
        >>> labels = LabelSet([Label("vsini", low=1, high=100, scale="log10")])
        >>> labels.scale_error([[10.0]], [[4.605]]).round(3)
        array([[0.1]])
        """
        sizes = self._shaped(sigma)
        is_log = [label.scale == "log10" for label in self._labels]
        if any(is_log):
            sizes = np.where(is_log, sizes / (np.log(10) * self._shaped(values)), sizes)
        return sizes / (self._stretch(self.high) - self._stretch(self.low))

    def unscale_error(self, scaled: ArrayLike, sigma: ArrayLike) -> FloatArray:
        """Map 1-sigma errors (..., l) of scaled values (..., l) to physical units, to first order.

        Examples
        --------
        >>> labels = LabelSet([Label("vsini", low=1, high=100, scale="log10")])
        >>> labels.unscale_error([[0.5]], [[0.1]]).round(3)
        array([[4.605]])
        """
        widths = self._shaped(sigma) * (self._stretch(self.high) - self._stretch(self.low))
        is_log = [label.scale == "log10" for label in self._labels]
        return np.where(is_log, self.unscale(scaled) * np.log(10) * widths, widths) if any(is_log) else widths

    def inside(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return for each row (..., l) whether every label that is given lies in its range."""
        values = self._shaped(values)
        return np.asarray(~((values < self.low) | (values > self.high)).any(axis=-1))

    def read(self, table: Mapping[str, ArrayLike]) -> FloatArray:
        """Return the labels' columns of a table as (n, l); a missing column is an error."""
        return columns(table, self.names)

    def _shaped(self, values: ArrayLike) -> FloatArray:
        array = np.asarray(values, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != len(self):
            raise DraperError(
                "the last axis must run over the labels",
                given=f"shape {array.shape}",
                expected=f"(..., {len(self)}): {', '.join(self.names)}",
            )
        return array

    def __getitem__(self, key: Any) -> Any:
        """Return the label of a name or position, or a LabelSet for a slice or a list of names."""
        if isinstance(key, str):
            if key not in self.names:
                raise DraperError("unknown label", given=key, hint=did_you_mean(key, self.names))
            return self._labels[self.names.index(key)]
        if isinstance(key, slice):
            return LabelSet(self._labels[key])
        if isinstance(key, (list, tuple)):
            return LabelSet(self[item] for item in key)
        return self._labels[key]

    def __contains__(self, item: object) -> bool:
        return item in self.names if isinstance(item, str) else item in self._labels

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self._labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self._labels == other._labels

    def __hash__(self) -> int:
        return hash(self._labels)

    def __repr__(self) -> str:
        ranges = (f"{label.name} {label.low:g}..{label.high:g} {label.unit}".strip() for label in self)
        return f"LabelSet({', '.join(ranges)})"

    def to_json(self) -> list[dict[str, Any]]:
        """Return the labels as plain JSON values."""
        return [asdict(label) for label in self._labels]

    @classmethod
    def from_json(cls, state: Iterable[dict[str, Any]]) -> Self:
        """Return the labels that :meth:`to_json` described."""
        return cls(Label(**entry) for entry in state)


def columns(table: Mapping[str, ArrayLike], names: Iterable[str]) -> FloatArray:
    """Return numeric columns of a table as (n, len(names)) float64.

    Examples
    --------
    >>> columns({"teff": [5000, 6000]}, ["teff"])
    array([[5000.],
           [6000.]])
    """
    arrays, names = [], tuple(names)
    for name in names:
        if name not in table:
            raise DraperError(
                f"the data have no column '{name}'",
                given=", ".join(table) or "no columns",
                expected=", ".join(names),
                hint=did_you_mean(name, table),
            )
        values = np.asarray(table[name])
        if values.dtype.kind not in "fiub":
            raise DraperError(
                f"column '{name}' is not a number", given=f"{values.dtype}", hint="convert it to numbers"
            )
        arrays.append(values.astype(np.float64))
    return np.stack(arrays, axis=-1) if arrays else np.empty((0, 0))


def label_columns(table: Mapping[str, ArrayLike]) -> tuple[str, ...]:
    """Return the columns that vary, and have draper's names of stellar labels that change a spectrum at rest.

    Examples
    --------
    >>> label_columns({"teff": [5000.0, 6000.0], "rv": [1.0, 2.0], "fe_h": [0.0, 0.0], "id": ["a", "b"]})
    ('teff',)
    """
    found = []
    for name in table:
        if not (name in UNITS or name.endswith(("_fe", "_h"))) or name in NOT_AT_REST:
            continue
        values = np.asarray(table[name])
        finite = values[np.isfinite(values)] if values.dtype.kind in "fi" else values[:0]
        if len(finite) and finite.min() < finite.max():
            found.append(name)
    return tuple(found)
