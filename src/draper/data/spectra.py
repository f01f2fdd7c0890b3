"""The container of spectra: plain columnar arrays, validated once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data import labels as label_columns
from draper.data.arrays import (
    as_column,
    as_rows,
    blocks,
    blocks_of,
    checked_flux,
    joined,
    rows_within,
)
from draper.data.correlation import Correlation as Correlation
from draper.data.grid import Grid
from draper.data.units import FRACTIONS, flux_factor
from draper.errors import DraperError, did_you_mean, option_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table as RichTable

QUANTITIES = ("flux", "normalised flux", "transit depth", "coefficients")

DATA_SETS = "data_sets"
"""Entry of the metadata that says which data set each pixel is from, where several were joined."""

SOURCE, SOURCES = "source", "sources"
"""Entries that say where spectra are from, and where each of several joined data sets is from."""


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
        Inverse variance; 0 marks a bad pixel, so mask and weight are one array. By default all pixels have
        weight 1.
    table : mapping of str to ndarray (n,)
        Per-object columns; NaN is a missing value. ``id`` names the object.
    quantity, unit : str
        What the flux is: one of flux, normalised flux, transit depth, coefficients.
    correlation : Correlation, optional
        Correlations between pixels; absent means none.
    meta : mapping
        Provenance, as JSON values. The entry ``data_sets``, if there is one, is a number for each pixel.

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
        assign = object.__setattr__
        flux = as_rows(self.flux)
        assign(self, "ivar", self._default_ivar(flux) if self.ivar is None else as_rows(self.ivar, masked=0))
        assign(self, "flux", flux)
        assign(self, "table", MappingProxyType({name: as_column(v) for name, v in self.table.items()}))
        assign(self, "meta", MappingProxyType(dict(self.meta)))
        self._check_shapes()
        if not self.validated:
            self._check_pixels()
            assign(self, "validated", True)

    def _default_ivar(self, flux: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a weight of 1, or of 0 where there is no value."""
        if self.validated or all(np.isfinite(flux[rows]).all() for rows in blocks_of(flux)):
            return np.broadcast_to(np.float32(1), flux.shape)
        if np.any(np.isinf(flux) & np.isfinite(np.asarray(self.flux, dtype=np.float64))):
            raise DraperError(
                "the flux is too large for single precision",
                given=f"{np.nanmax(np.abs(np.asarray(self.flux, dtype=np.float64))):g}",
                hint="divide it by a power of ten, and include that factor in the unit",
            )
        return np.isfinite(flux).astype(np.float32)

    def _check_shapes(self) -> None:
        """Check that the parts fit together; this costs nothing, so it is always done."""
        n, p = self.flux.shape
        if self.quantity not in QUANTITIES:
            raise DraperError(
                "unknown quantity",
                given=self.quantity,
                expected=", ".join(QUANTITIES),
                hint=did_you_mean(self.quantity, QUANTITIES),
            )
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
                    "two columns have the same name",
                    given=f"{lowered[name.lower()]} and {name}",
                    hint="rename or drop one; names that differ only in case count as equal",
                )
            lowered[name.lower()] = name
        if self.correlation is not None:
            self.correlation.require(n, p)
        if DATA_SETS in self.meta and len(self.meta[DATA_SETS]) != p:
            raise DraperError(
                f"the metadata entry '{DATA_SETS}' does not have one number for each pixel",
                given=f"{len(self.meta[DATA_SETS])} numbers",
                expected=f"{p}",
                hint="choose pixels with Spectra.pixels or cut, and leave the entry out on another grid",
            )

    def _check_pixels(self) -> None:
        """Check every pixel: good ones must have finite values; values of bad ones become finite."""
        if self.correlation is not None and not self.correlation.is_finite:
            raise DraperError("a correlation is not finite", hint="set correlations of bad pixels to 0")
        object.__setattr__(self, "flux", checked_flux(self.flux, self.ivar))

    @classmethod
    def from_table(cls, grid: Grid, table: Mapping[str, ArrayLike]) -> Self:
        """Return the objects of a table without spectra: no pixel is good.

        Examples
        --------
        >>> grid = Grid.linear(5000, 5002, 1, medium="vacuum")
        >>> Spectra.from_table(grid, {"g_mag": [12.1, 13.4]}).ivar.max()
        np.float32(0.0)
        """
        rows = len(np.atleast_1d(next(iter(table.values()), ())))
        nothing = np.broadcast_to(np.float32(0), (rows, len(grid)))
        return cls(grid, nothing, nothing, dict(table))  # type: ignore[arg-type]

    # ------------------------------------------------------------------ rows

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows: Any) -> Spectra:
        """Return some rows: an integer, a slice, a boolean mask or indices. Slices share memory."""
        if isinstance(rows, (int, np.integer)):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"there is no spectrum {rows} among {len(self)}")  # this ends iteration, too
            rows = slice(rows, rows + 1 or None)
        return replace(
            self,
            flux=self.flux[rows],
            ivar=self.ivar[rows],
            table={name: column[rows] for name, column in self.table.items()},
            correlation=None if self.correlation is None else self.correlation[rows],
        )

    def batches(self, rows: int | None = None) -> Iterator[Spectra]:
        """Iterate over consecutive batches of at most ``rows`` spectra; by default about 32 MB each."""
        for block in blocks(len(self), rows or rows_within(self.flux.shape)):
            yield self[block]

    def pixels(self, pixels: Any) -> Spectra:
        """Return some pixels: a slice, a boolean mask, increasing indices."""
        correlation = self.correlation
        if correlation is not None:
            correlation = correlation.pixels(np.arange(len(self.grid))[pixels])
        meta = dict(self.meta)
        if DATA_SETS in meta:
            meta[DATA_SETS] = np.asarray(meta[DATA_SETS])[pixels].tolist()
        return replace(
            self,
            grid=self.grid[pixels],
            flux=self.flux[:, pixels],
            ivar=self.ivar[:, pixels],
            correlation=correlation,
            meta=meta,
        )

    def cut(self, windows: Sequence[tuple[float, float]]) -> Spectra:
        """Return the pixels inside the windows (low, high) [vacuum Angstrom]."""
        grid = self.grid.cut(windows)
        return replace(self.pixels(self.grid.inside(windows)), grid=grid)

    def select(self, rows: ArrayLike | None = None, /, **ranges: Any) -> Spectra:
        """Return the rows that fulfil every condition: a boolean mask, (low, high) or a value of a column.

        Examples
        --------
        ``spectra.select(spectra.table["snr"] > 50, teff=(4000, 6000), survey="galah")``
        """
        keep = np.ones(len(self), dtype=bool) if rows is None else np.asarray(rows)
        if keep.shape != (len(self),) or keep.dtype != bool:
            raise DraperError(
                "select takes a mask",
                given=f"{keep.dtype} {keep.shape}",
                expected=f"bool ({len(self)},)",
                hint="index with square brackets to pick rows by number",
            )
        for name, wanted in ranges.items():
            column = self.column(name)
            if isinstance(wanted, tuple):
                kinds = {isinstance(end, str) for end in wanted}
                if len(wanted) != 2 or kinds != {column.dtype.kind == "U"}:
                    raise DraperError(
                        f"'{name}' cannot be selected by this range",
                        given=wanted,
                        expected=f"(low, high), of {'text' if column.dtype.kind == 'U' else 'numbers'}",
                    )
                keep = keep & (column >= wanted[0]) & (column <= wanted[1])
            elif np.ndim(wanted):
                raise DraperError(
                    f"'{name}' must be selected by one value, or by a range as a tuple",
                    given=wanted,
                    hint="for several values give a mask: np.isin(spectra.table[name], values)",
                )
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
        if not all(fraction > 0 for fraction in fractions) or sum(fractions) > 1 + 1e-9:
            raise DraperError(
                "fractions of a split must be positive and sum to at most 1",
                given=", ".join(map(str, fractions)),
            )
        objects, owner = (
            np.unique(self.column(by), return_inverse=True)
            if by in self.table or by != "id"
            else (np.arange(len(self)), np.arange(len(self)))
        )
        place = np.random.default_rng(seed).permutation(len(objects))[owner]
        bounds = [0, *np.rint(np.cumsum(fractions) * len(objects)).astype(int), len(objects)]
        return tuple(np.flatnonzero((place >= low) & (place < high)) for low, high in pairwise(bounds))

    @classmethod
    def concat(cls, parts: Sequence[Self], *, fill: bool = False) -> Self:
        """Join sets on the same grid, in the unit of the first one, into which the others are converted.

        ``fill`` fills columns that a part lacks with NaN (or "").
        """
        if not parts:
            raise DraperError("there is nothing to join", hint="give at least one set of spectra")
        first = parts[0]
        if len(parts) == 1:
            return first
        others = (first.alike(part, f"set {number}", fill=fill) for number, part in enumerate(parts[1:], 1))
        parts = [first, *others]
        names = list(dict.fromkeys(name for part in parts for name in part.table))
        correlations = [part.correlation for part in parts if part.correlation is not None]
        return replace(
            first,
            flux=np.concatenate([part.flux for part in parts]),
            ivar=np.concatenate([part.ivar for part in parts]),
            table={
                name: joined(name, [(part.table.get(name), len(part)) for part in parts]) for name in names
            },
            correlation=Correlation.concat(correlations) if correlations else None,
        )

    def alike(self, part: Self, name: str, first: str = "set 0", *, fill: bool = False) -> Self:
        """Return ``part`` as it can be joined to these spectra, in their unit; else raise an error.

        Parameters
        ----------
        part
            Other spectra.
        name, first
            What an error calls ``part`` and these spectra.
        fill
            Whether columns that one of them lacks are no error.
        """
        self.grid.require(
            part.grid,
            f"{name} is on another grid than {first}",
            "resample first: draper convert --grid common, or draper.read(..., grid='common')",
        )
        part = part.in_unit_of(self, name, first)
        if (part.correlation is None) != (self.correlation is None):
            raise DraperError(
                f"{name} and {first} do not both have correlations",
                hint="convert them into separate files",
            )
        if part.meta.get(DATA_SETS) != self.meta.get(DATA_SETS):
            raise DraperError(
                f"the pixels of {name} are not from the same data sets as those of {first}",
                hint="convert them into separate files",
            )
        if set(part.table) != set(self.table) and not fill:
            raise DraperError(
                f"{name} has other columns than {first}",
                given=", ".join(part.table) or "no columns",
                expected=", ".join(self.table) or "no columns",
                hint=f"pass {option_text('read.fill', True)} to fill what is missing with NaN",
            )
        return part

    def in_unit_of(self, other: Spectra, name: str = "this set", first: str = "the other") -> Self:
        """Return the spectra in the unit of others of the same quantity; an error where it does not convert.

        ``name`` and ``first`` are what the error calls these spectra and the others.

        Examples
        --------
        >>> grid = Grid.linear(10_000, 10_001, 1, medium="vacuum")
        >>> depths = Spectra(grid, [[1.5, 1.6]], quantity="transit depth", unit="%")
        >>> depths.in_unit_of(Spectra(grid, [[0.0, 0.0]], quantity="transit depth")).flux
        array([[0.015, 0.016]], dtype=float32)
        """
        if self.quantity != other.quantity:
            raise DraperError(
                f"{name} has another quantity than {first}",
                given=self.quantity,
                expected=other.quantity,
                hint=f"if both are the same, say what: {option_text('read.quantity')}; else keep them apart",
            )
        if self.unit == other.unit:
            return self
        factors = None
        if self.quantity == "transit depth" and {self.unit, other.unit} <= set(FRACTIONS):
            factors = np.full(len(self.grid), FRACTIONS[self.unit] / FRACTIONS[other.unit])
        elif self.unit and other.unit and self.grid.is_spectral:
            factors = flux_factor(self.unit, other.unit, self.grid.vacuum)
        if factors is not None:
            return self.scaled(factors, other.unit)
        undeclared = first if self.unit else name
        raise DraperError(
            f"{name} has another unit than {first}",
            given=repr(self.unit),
            expected=repr(other.unit),
            hint="these do not convert: keep them in separate files"
            if self.unit and other.unit
            else f"say in which unit the flux of {undeclared} is: {option_text('read.flux_unit')}",
        )

    def scaled(self, factors: ArrayLike, unit: str) -> Self:
        """Return the spectra with flux multiplied by factors () or (p,), which gives it another unit.

        Examples
        --------
        >>> grid = Grid.linear(5000, 5001, 1, medium="vacuum")
        >>> scaled = Spectra(grid, [[1.0, 2.0]], [[4.0, 4.0]], unit="Jy").scaled(1000, "mJy")
        >>> scaled.flux, scaled.ivar
        (array([[1000., 2000.]], dtype=float32), array([[4.e-06, 4.e-06]], dtype=float32))
        """
        factors = np.asarray(factors, dtype=np.float64)
        ivar = np.where(lacks_errors(self)[:, None], self.ivar, self.ivar / factors**2)
        return replace(self, flux=self.flux * factors, ivar=ivar, unit=unit, validated=False)

    def with_columns(self, **columns: ArrayLike | None) -> Spectra:
        """Return the same spectra with columns added or replaced; None drops one."""
        table: dict[str, Any] = {**self.table, **columns}
        return replace(self, table={name: v for name, v in table.items() if v is not None})

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
        for rows in blocks_of(self.flux):
            good = np.where(self.ivar[rows] > 0, np.abs(self.flux[rows]) * np.sqrt(self.ivar[rows]), np.nan)
            none_good = np.isnan(good).all(axis=1)
            good[none_good] = 0
            ratio[rows] = np.where(none_good, np.nan, np.nanmedian(good, axis=1))
        return ratio

    # --------------------------------------------------------------- display

    def plot(self, rows: Any = slice(0, 5), ax: Axes | None = None) -> Axes:
        """Plot spectra, by default the first five; bad pixels are left out, errors are bands."""
        from draper.plots.spectrum import plot_spectra

        return plot_spectra(self[rows], ax=ax)

    def __repr__(self) -> str:
        names = ", ".join(self.table) or "none"
        names = names if len(names) < 60 else f"{len(self.table)}"
        size = f"{len(self)} x {len(self.grid)} px"
        return f"Spectra({size}, {self.quantity}, {self.grid.extent}, columns: {names})"

    def describe(self) -> dict[str, Any]:
        """Return a summary as JSON values: size, grid, signal-to-noise ratio, columns."""
        from draper.data.summary import describe

        return describe(self)

    def __rich__(self) -> RichTable:
        from draper.data.summary import describe_table

        return describe_table(self)

    def _repr_html_(self) -> str:
        from draper.data.summary import as_html

        return as_html(self.__rich__())


@dataclass(frozen=True, eq=False)
class Subset:
    """A selection of rows that copies nothing, such as rows of a memory-mapped file.

    Attributes
    ----------
    spectra : Spectra
        All of them.
    rows : ndarray (m,) int64
        Row numbers in increasing order.
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

    def batches(self, rows: int | None = None) -> Iterator[Spectra]:
        """Iterate over copies of consecutive batches of at most ``rows`` spectra."""
        for block in blocks(len(self), rows or rows_within(self.spectra.flux.shape)):
            yield self.spectra[self.rows[block]]


def has_errors(spectra: Spectra) -> bool:
    """Whether ivar carries errors, and not just the default weight of 1 and the mask."""
    parts = (spectra.ivar[rows] for rows in blocks(len(spectra), 64))
    return any(bool(((ivar != 0) & (ivar != 1)).any()) for ivar in parts)


def lacks_errors(spectra: Spectra) -> NDArray[np.bool_]:
    """Return which spectra (n,) lack errors, as all good pixels of a data set have the default weight of 1.

    Examples
    --------
    >>> grid = Grid.linear(5000, 5002, 1, medium="vacuum")
    >>> lacks_errors(Spectra(grid, np.ones((3, 3)), [[4, 4, 0], [1, 1, 0], [0, 0, 0]]))
    array([False,  True, False])
    """
    sets = np.asarray(spectra.meta.get(DATA_SETS, np.zeros(len(spectra.grid))))
    lacks = np.zeros(len(spectra), dtype=bool)
    for rows in blocks_of(spectra.ivar):
        for number in np.unique(sets):
            ivar = spectra.ivar[rows, sets == number]
            lacks[rows] |= (ivar == 1).any(axis=1) & ((ivar == 0) | (ivar == 1)).all(axis=1)
    return lacks
