"""The one container of spectra: plain columnar arrays, validated once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data import labels as label_columns
from draper.data.grid import Grid
from draper.errors import DraperError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table as RichTable

QUANTITIES = ("flux", "normalised flux", "transit depth", "coefficients")

BLOCK = 4096
"""Rows that are looked at together, so that a mapped file is never in memory as a whole."""


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

    def __getitem__(self, rows: Any) -> Correlation:
        return Correlation(self.templates, self.index[rows])

    def of(self, rows: Any) -> NDArray[np.float32]:
        """Return the matrices (..., p, p) of some objects."""
        matrices: NDArray[np.float32] = self.templates[self.index[rows]]
        return matrices


@dataclass(frozen=True, eq=False, repr=False)
class Spectra:
    """A frozen batch of spectra on one grid, with one row of a table for each.

    Attributes
    ----------
    grid : Grid
        The spectral axis, of p pixels.
    flux : ndarray (n, p) float32
        Values of ``quantity`` in ``unit``.
    ivar : ndarray (n, p) float32
        Inverse variance; 0 marks a bad pixel, so mask and weight are one array. Left out, all pixels have
        weight 1.
    table : mapping of str to ndarray (n,)
        Per-object columns; NaN is a missing value. ``id`` names the object.
    quantity, unit : str
        What the flux is: one of flux, normalised flux, transit depth, coefficients.
    correlation : Correlation, optional
        Correlations between pixels; absent means none.
    meta : mapping
        Provenance, as JSON values.

    Examples
    --------
    >>> grid = Grid.linear(5000, 5002, 1, medium="vacuum")
    >>> spectra = Spectra(grid, [[1.0, 0.9, 1.0], [1.0, 0.5, 1.0]], table={"teff": [5800.0, 4500.0]})
    >>> spectra
    Spectra(2 x 3 px, flux, 5000.000-5002.000 A vacuum, columns: teff)
    >>> spectra.select(teff=(5000, 6000)).flux
    array([[1. , 0.9, 1. ]], dtype=float32)
    """

    grid: Grid
    flux: NDArray[Any]
    ivar: NDArray[Any] = None  # type: ignore[assignment]
    table: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    quantity: str = "flux"
    unit: str = ""
    correlation: Correlation | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    validated: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        settle = object.__setattr__
        flux = as_rows(self.flux)
        if self.ivar is None:
            ivar = np.broadcast_to(np.float32(1), flux.shape)
            if not self.validated and not all(np.isfinite(flux[rows]).all() for rows in blocks(len(flux))):
                ivar = np.isfinite(flux).astype(np.float32)
        else:
            ivar = as_rows(self.ivar)
        settle(self, "ivar", ivar)
        settle(self, "flux", flux)
        settle(self, "table", MappingProxyType({name: as_column(v) for name, v in self.table.items()}))
        settle(self, "meta", MappingProxyType(dict(self.meta)))
        if not self.validated:
            self._validate()
            settle(self, "validated", True)

    def _validate(self) -> None:
        n, p = self.flux.shape
        if self.quantity not in QUANTITIES:
            raise DraperError(
                "unknown quantity", given=self.quantity, expected=", ".join(QUANTITIES),
                hint=did_you_mean(self.quantity, QUANTITIES),
            )  # fmt: skip
        if p != len(self.grid):
            raise DraperError(
                "flux and grid differ in length",
                given=f"flux {self.flux.shape}",
                expected=f"(n, {len(self.grid)})",
            )
        if self.ivar.shape != self.flux.shape:
            raise DraperError(
                "flux and ivar differ in shape",
                given=f"ivar {self.ivar.shape}",
                expected=f"{self.flux.shape}",
            )
        for name, column in self.table.items():
            if column.shape != (n,):
                raise DraperError(
                    f"column '{name}' does not have one value for each spectrum",
                    given=f"shape {column.shape}",
                    expected=f"({n},)",
                )
        lowered: dict[str, str] = {}
        for name in self.table:
            if name.lower() in lowered:
                raise DraperError(
                    "two columns have the same name", given=f"{lowered[name.lower()]} and {name}",
                    hint="rename or drop one; names that differ only in case count as equal",
                )  # fmt: skip
            lowered[name.lower()] = name
        if self.correlation is not None:
            shape, index = self.correlation.templates.shape, self.correlation.index
            if shape[1:] != (p, p) or index.shape != (n,) or (n and index.max() >= shape[0]):
                raise DraperError(
                    "the correlation does not fit the spectra",
                    given=f"templates {shape}, index {index.shape}",
                    expected=f"templates (k, {p}, {p}), index ({n},) below k",
                )
        repaired = None
        for rows in blocks(n):
            flux, ivar = self.flux[rows], self.ivar[rows]
            if not (np.isfinite(ivar).all() and (ivar >= 0).all()):
                raise _bad_pixel(
                    "ivar must be finite and not negative", rows, ~(np.isfinite(ivar) & (ivar >= 0)), ivar
                )
            wild = ~np.isfinite(flux)
            if (wild & (ivar > 0)).any():
                raise _bad_pixel("flux is not finite where ivar is positive", rows, wild & (ivar > 0), flux)
            if wild.any():
                # A bad pixel has no value; 0 keeps NaN out of every product with its weight of 0.
                repaired = np.array(self.flux) if repaired is None else repaired
                repaired[rows][wild] = 0.0
        if repaired is not None:
            object.__setattr__(self, "flux", repaired)

    # ------------------------------------------------------------------ rows

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows: Any) -> Spectra:
        """Return some rows: an integer, a slice, a boolean mask or indices. Slices share memory."""
        if isinstance(rows, (int, np.integer)):
            rows = slice(rows, rows + 1 or None)
        return replace(
            self,
            flux=self.flux[rows],
            ivar=self.ivar[rows],
            table={name: column[rows] for name, column in self.table.items()},
            correlation=None if self.correlation is None else self.correlation[rows],
        )

    def batches(self, rows: int = BLOCK) -> Iterator[Spectra]:
        """Iterate over consecutive batches of at most ``rows`` spectra."""
        for block in blocks(len(self), rows):
            yield self[block]

    def pixels(self, pixels: Any) -> Spectra:
        """Return some pixels: a slice, a boolean mask, increasing indices."""
        correlation = self.correlation
        if correlation is not None:
            index = np.arange(len(self.grid))[pixels]
            correlation = replace(correlation, templates=correlation.templates[:, index[:, None], index])
        return replace(
            self,
            grid=self.grid[pixels],
            flux=self.flux[:, pixels],
            ivar=self.ivar[:, pixels],
            correlation=correlation,
        )

    def cut(self, windows: Sequence[tuple[float, float]]) -> Spectra:
        """Return the pixels inside the windows (low, high) [vacuum Angstrom]."""
        return replace(self.pixels(self.grid.inside(windows)), grid=self.grid.cut(windows))

    def select(self, rows: ArrayLike | None = None, /, **ranges: Any) -> Spectra:
        """Return the rows that pass: a boolean mask, and for named columns a (low, high) range or a value.

        Examples
        --------
        ``spectra.select(spectra.table["snr"] > 50, teff=(4000, 6000), survey="galah")``
        """
        keep = np.ones(len(self), dtype=bool) if rows is None else np.asarray(rows)
        if keep.shape != (len(self),) or keep.dtype != bool:
            raise DraperError(
                "select takes a mask", given=f"{keep.dtype} {keep.shape}", expected=f"bool ({len(self)},)",
                hint="index with square brackets to pick rows by number",
            )  # fmt: skip
        for name, wanted in ranges.items():
            column = self.column(name)
            if isinstance(wanted, tuple):
                low, high = wanted
                keep = keep & (column >= low) & (column <= high)
            else:
                keep = keep & (column == wanted)
        return self[keep]

    def split(self, *fractions: float, seed: int = 0, by: str = "id") -> tuple[Spectra, ...]:
        """Split at random into parts of the given fractions, and the rest; an object is never divided.

        Rows with the same value of the column ``by`` (visits of one star) stay together. The split depends on
        the seed and the set of objects alone, not on the order of the rows.

        Examples
        --------
        ``train, valid, test = spectra.split(0.8, 0.1, seed=1)``
        """
        return tuple(self[rows] for rows in self.split_rows(*fractions, seed=seed, by=by))

    def split_rows(self, *fractions: float, seed: int = 0, by: str = "id") -> tuple[NDArray[np.int64], ...]:
        """Return the row numbers of each part of :meth:`split`, and copy nothing."""
        fractions = fractions or (0.8,)
        if min(fractions) <= 0 or sum(fractions) > 1:
            raise DraperError(
                "fractions of a split are positive and sum to at most 1", given=", ".join(map(str, fractions))
            )
        objects, owner = (
            np.unique(self.table[by], return_inverse=True)
            if by in self.table
            else (np.arange(len(self)), np.arange(len(self)))
        )
        place = np.random.default_rng(seed).permutation(len(objects))[owner]
        bounds = [0, *np.rint(np.cumsum(fractions) * len(objects)).astype(int), len(objects)]
        return tuple(np.flatnonzero((place >= low) & (place < high)) for low, high in pairwise(bounds))

    @classmethod
    def concat(cls, parts: Sequence[Self], *, fill: bool = False) -> Self:
        """Join sets on the same grid; ``fill`` fills columns that a part lacks with NaN (or "")."""
        if not parts:
            raise DraperError("there is nothing to join", hint="give at least one set of spectra")
        first = parts[0]
        for number, part in enumerate(parts[1:], start=1):
            first.grid.require(
                part.grid,
                f"set {number} is on another grid than set 0",
                "resample first: draper convert --grid common, or draper.read(..., grid='common')",
            )
            for name in ("quantity", "unit"):
                if getattr(part, name) != getattr(first, name):
                    raise DraperError(
                        f"set {number} has another {name} than set 0",
                        given=repr(getattr(part, name)),
                        expected=repr(getattr(first, name)),
                    )
            if (part.correlation is None) != (first.correlation is None):
                raise DraperError(f"set {number} and set 0 do not both have correlations")
            if set(part.table) != set(first.table) and not fill:
                raise DraperError(
                    f"set {number} has other columns than set 0",
                    given=", ".join(part.table) or "no columns",
                    expected=", ".join(first.table) or "no columns",
                    hint="pass fill=True to fill what is missing with NaN",
                )
        if len(parts) == 1:
            return first
        names = list(dict.fromkeys(name for part in parts for name in part.table))
        return replace(
            first,
            flux=np.concatenate([part.flux for part in parts]),
            ivar=np.concatenate([part.ivar for part in parts]),
            table={name: _joined([(part.table.get(name), len(part)) for part in parts]) for name in names},
            correlation=_joined_correlation(parts),
        )

    def with_columns(self, **columns: ArrayLike | None) -> Spectra:
        """Return the same spectra with columns added or replaced; None drops one."""
        table: dict[str, Any] = {**self.table, **columns}
        return replace(self, table={name: v for name, v in table.items() if v is not None}, validated=False)

    # --------------------------------------------------------------- columns

    def column(self, name: str) -> NDArray[Any]:
        """Return one column of the table (n,)."""
        if name not in self.table:
            raise DraperError(
                f"the spectra have no column '{name}'",
                given=", ".join(self.table) or "no columns",
                hint=did_you_mean(name, self.table),
            )
        return self.table[name]

    def columns(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return numeric columns as (n, len(names))."""
        return label_columns.columns(self.table, names) if names else np.empty((len(self), 0))

    @property
    def ids(self) -> NDArray[Any]:
        """The column ``id``, or row numbers."""
        return self.table.get("id", np.arange(len(self)))

    @property
    def snr(self) -> NDArray[np.float32]:
        """Median signal-to-noise ratio of the good pixels of each spectrum (n,); NaN where all are bad."""
        ratio = np.empty(len(self), dtype=np.float32)
        for rows in blocks(len(self)):
            good = np.where(self.ivar[rows] > 0, np.abs(self.flux[rows]) * np.sqrt(self.ivar[rows]), np.nan)
            none_good = np.isnan(good).all(axis=1)
            good[none_good] = 0
            ratio[rows] = np.where(none_good, np.nan, np.nanmedian(good, axis=1))
        return ratio

    # ----------------------------------------------------------- seeing them

    def plot(self, rows: Any = slice(0, 5), ax: Axes | None = None) -> Axes:
        """Plot some spectra, five unless told, with bad pixels left out and the error as a band."""
        from draper.plots.spectrum import plot_spectra

        return plot_spectra(self[rows], ax=ax)

    def __repr__(self) -> str:
        names = ", ".join(self.table) or "none"
        names = names if len(names) < 60 else f"{len(self.table)}"
        size = f"{len(self)} x {len(self.grid)} px"
        return f"Spectra({size}, {self.quantity}, {self.grid.extent}, columns: {names})"

    def describe(self) -> dict[str, Any]:
        """Return what there is to know at a glance, as JSON values."""
        bad = sum(int((self.ivar[rows] <= 0).sum()) for rows in blocks(len(self)))
        power = self.grid.resolving_power
        return {
            "spectra": len(self),
            "pixels": len(self.grid),
            "quantity": self.quantity,
            "unit": self.unit,
            "axis": "wavelength" if self.grid.is_spectral else "coefficients",
            "first": float(self.grid.vacuum[0]) if self.grid.is_spectral else self.grid.names[0],
            "last": float(self.grid.vacuum[-1]) if self.grid.is_spectral else self.grid.names[-1],
            "resolving_power": None if power is None else float(np.median(power)),
            "bad_pixels": bad,
            "median_snr": _or_none(np.nanmedian(self.snr)) if len(self) and has_errors(self) else None,
            "correlation": self.correlation is not None,
            "columns": {name: _describe_column(column) for name, column in self.table.items()},
            "meta": dict(self.meta),
        }

    def __rich__(self) -> RichTable:
        from draper.data.summary import describe_table

        return describe_table(self)

    def _repr_html_(self) -> str:
        from draper.data.summary import as_html

        return as_html(self.__rich__())


@dataclass(frozen=True, eq=False)
class Subset:
    """Some rows of spectra that stay where they are, such as in a mapped file.

    Attributes
    ----------
    spectra : Spectra
        All of them.
    rows : ndarray (m,) int64
        Which rows, in increasing order.
    """

    spectra: Spectra
    rows: NDArray[np.int64]

    @classmethod
    def whole(cls, spectra: Spectra) -> Subset:
        """Return all rows."""
        return cls(spectra, np.arange(len(spectra)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def grid(self) -> Grid:
        """The grid of the spectra."""
        return self.spectra.grid

    @property
    def table(self) -> dict[str, NDArray[Any]]:
        """The columns (m,) of these rows."""
        return {name: column[self.rows] for name, column in self.spectra.table.items()}

    def batches(self, rows: int = BLOCK) -> Iterator[Spectra]:
        """Iterate over copies of consecutive batches of at most ``rows`` spectra."""
        for block in blocks(len(self), rows):
            yield self.spectra[self.rows[block]]


def has_errors(spectra: Spectra) -> bool:
    """Whether ivar carries errors, and not just the default weight of 1 and the mask."""
    sample = spectra.ivar[:: max(1, len(spectra) // 64)]
    return bool(((sample != 0) & (sample != 1)).any())


def blocks(n: int, rows: int = BLOCK) -> Iterator[slice]:
    """Iterate over slices that cover ``range(n)``."""
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def as_rows(values: ArrayLike) -> NDArray[np.float32]:
    """Return a read-only float32 view of (n, p) values, without a copy where there is no need."""
    try:
        array = np.asanyarray(values)
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and validation names the pixel
            rows = array if array.dtype == np.float32 else array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DraperError("flux and ivar are rows of numbers", given=str(error)) from None
    if rows.ndim != 2:
        raise DraperError(
            "flux and ivar have two axes", given=f"shape {rows.shape}", expected="(spectra, pixels)"
        )
    view = rows.view()
    view.setflags(write=False)
    return view


def as_column(values: ArrayLike) -> NDArray[Any]:
    """Return a read-only column of one of the four kinds: float64, int64, bool or str."""
    array = np.asarray(values)
    kinds = {
        "f": np.float64,
        "i": np.int64,
        "u": np.int64,
        "b": np.bool_,
        "U": np.str_,
        "S": np.str_,
        "O": np.str_,
    }
    if array.dtype.kind not in kinds:
        raise DraperError("a column holds numbers, truth values or text", given=f"{array.dtype}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise DraperError(
            "a whole number exceeds 64 bits", given=array.max(), hint="keep such identifiers as text"
        )
    target = kinds[array.dtype.kind]
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    column = array if array.dtype == target else array.astype(target)
    view = column.view()
    view.setflags(write=False)
    return view


def _bad_pixel(what: str, rows: slice, where: NDArray[np.bool_], values: NDArray[np.float32]) -> DraperError:
    row, pixel = (int(index[0]) for index in np.nonzero(where))
    return DraperError(
        what,
        given=f"{values[row, pixel]} in spectrum {rows.start + row}, pixel {pixel}",
        hint="mark bad pixels by ivar = 0",
    )


def _joined(parts: list[tuple[NDArray[Any] | None, int]]) -> NDArray[Any]:
    present = next(column for column, _ in parts if column is not None)
    missing: Any = "" if present.dtype.kind == "U" else np.nan
    return np.concatenate([np.full(n, missing) if column is None else column for column, n in parts])


def _joined_correlation(parts: Sequence[Spectra]) -> Correlation | None:
    held = [part.correlation for part in parts if part.correlation is not None]
    if not held:
        return None
    if all(one.templates is held[0].templates for one in held):
        return Correlation(held[0].templates, np.concatenate([one.index for one in held]))
    offsets = np.cumsum([0, *(len(one.templates) for one in held[:-1])])
    return Correlation(
        np.concatenate([one.templates for one in held]),
        np.concatenate([one.index + offset for one, offset in zip(held, offsets, strict=True)]),
    )


def _or_none(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _describe_column(column: NDArray[Any]) -> dict[str, Any]:
    if column.dtype.kind in "fi" and len(column):
        finite = column[np.isfinite(column)]
        span = {"low": float(finite.min()), "high": float(finite.max())} if len(finite) else {}
        return {"kind": column.dtype.name, "missing": len(column) - len(finite), **span}
    return {
        "kind": "text" if column.dtype.kind == "U" else column.dtype.name,
        "values": len(np.unique(column)),
    }
