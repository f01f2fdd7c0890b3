"""The spectral axis."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data import units
from draper.errors import DraperError, option_text

FloatArray = NDArray[np.float64]

POWER_TOLERANCE = 0.05
"""Resolving powers that differ by more than this fraction belong to different sets."""

PIXEL_TOLERANCE = 1e-3
"""Two grids are the same when no pixel differs by more than this fraction of a pixel."""

GAP = 1.75
"""A neighbour that is farther by more than this factor than those on the other side lies beyond a gap, which
may be a single missing pixel; bins that differ in width by up to a factor of 2.5 touch without one."""

MAX_PIXELS = 1e8
"""A grid of more pixels has a wrong step."""


def frozen(values: ArrayLike) -> FloatArray:
    """Return a float64 copy that cannot be written to."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DraperError("a grid must consist of numbers", given=str(error)) from None
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """An immutable spectral axis: vacuum wavelengths in Angstrom, or the named coefficients of a basis.

    Build one with :meth:`from_wavelength`, :meth:`linear`, :meth:`log` or :meth:`coefficients`.

    Attributes
    ----------
    wavelength : ndarray (p,) or None
        Pixel centres, vacuum Angstrom, strictly increasing; None for coefficients.
    names : tuple of str
        Names of the coefficients; empty for wavelengths.
    edges : ndarray (p, 2) or None
        Lower and upper edge of each pixel, where the pixels are bins.
    resolving_power : float, ndarray (p,) or None
        lambda / FWHM of the line-spread function.
    windows : tuple of (low, high)
        The contiguous pieces [Angstrom], where the grid has gaps.

    Examples
    --------
    >>> grid = Grid.linear(846, 870, 0.03, unit="nm", medium="vacuum", resolving_power=11500)
    >>> grid
    Grid(801 px, 8460.000-8700.000 A vacuum, R=11500)
    >>> len(grid[:100])
    100
    """

    wavelength: FloatArray | None = None
    names: tuple[str, ...] = ()
    edges: FloatArray | None = None
    resolving_power: float | FloatArray | None = None
    windows: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if (self.wavelength is None) == (not self.names):
            raise DraperError(
                "a grid must have either wavelengths or named coefficients",
                hint="build it with Grid.from_wavelength, linear, log or coefficients",
            )
        if self.wavelength is None:
            if len(set(self.names)) != len(self.names):
                raise DraperError(
                    "two coefficients of a grid have the same name", given=", ".join(self.names[:20])
                )
            return
        wavelength = frozen(self.wavelength)
        if wavelength.ndim != 1 or len(wavelength) == 0:
            raise DraperError(
                "wavelengths must be one row of numbers", given=f"shape {wavelength.shape}", expected="(p,)"
            )
        if not np.all(np.isfinite(wavelength)) or wavelength[0] <= 0:
            raise DraperError(
                "wavelengths must be finite and positive",
                given=f"{wavelength.min():g} to {wavelength.max():g}",
                hint="drop the pixels without a wavelength",
            )
        if np.any(np.diff(wavelength) <= 0):
            at = int(np.argmax(np.diff(wavelength) <= 0))
            raise DraperError(
                "wavelengths must increase strictly",
                given=f"{wavelength[at]:.6g} is followed by {wavelength[at + 1]:.6g} (pixel {at + 1})",
                hint="sort the pixels by wavelength and drop repeated ones",
            )
        object.__setattr__(self, "wavelength", wavelength)
        if self.edges is not None:
            edges = frozen(self.edges)
            if edges.shape != (len(wavelength), 2) or not _enclose(edges, wavelength):
                raise DraperError(
                    "bin edges must be (lower, upper) for each pixel",
                    given=f"shape {edges.shape}",
                    expected=f"({len(wavelength)}, 2) with lower <= centre <= upper and lower < upper",
                )
            object.__setattr__(self, "edges", edges)
        if self.resolving_power is not None:
            power = np.asarray(self.resolving_power, dtype=np.float64)
            if power.shape not in ((), wavelength.shape) or not np.all((power > 0) & np.isfinite(power)):
                raise DraperError(
                    "the resolving power must be one positive number, or one for each pixel",
                    given=f"shape {power.shape}",
                    expected=f"() or {wavelength.shape}",
                )
            object.__setattr__(self, "resolving_power", frozen(power) if power.ndim else float(power))
        object.__setattr__(self, "windows", self._pieces())

    def _pieces(self) -> tuple[tuple[float, float], ...]:
        """Return the windows that hold pixels; raise an error if they cannot be windows of this grid."""
        windows = tuple((float(low), float(high)) for low, high in self.windows)
        ends = np.array(windows).reshape(-1, 2)
        apart = np.all(ends[:, 0] <= ends[:, 1]) and np.all(ends[1:, 0] > ends[:-1, 1])
        if windows and not (np.isfinite(ends).all() and apart and self.inside(windows).all()):
            raise DraperError(
                "windows must be ranges (low, high) that increase, do not overlap and hold all pixels",
                given=windows,
                expected=self.extent,
                hint="make them with Grid.cut",
            )
        return tuple(window for window in windows if self.inside([window]).any())

    @classmethod
    def from_wavelength(
        cls,
        values: ArrayLike,
        *,
        unit: str = "angstrom",
        medium: str,
        resolving_power: float | ArrayLike | None = None,
        edges: ArrayLike | None = None,
    ) -> Self:
        """Build a grid from pixel centres (p,), and optionally bin edges (p, 2), in any unit and medium."""
        if medium not in units.MEDIA:
            raise DraperError("unknown medium", given=medium, expected=" or ".join(units.MEDIA))

        def to_vacuum(lengths: ArrayLike) -> FloatArray:
            angstrom = units.to_angstrom(frozen(lengths), unit)
            return units.air_to_vacuum(angstrom) if medium == "air" else angstrom

        power = None if resolving_power is None else frozen(resolving_power)
        return cls(
            to_vacuum(values), resolving_power=power, edges=None if edges is None else to_vacuum(edges)
        )

    @classmethod
    def linear(
        cls,
        start: float,
        stop: float,
        step: float,
        *,
        unit: str = "angstrom",
        medium: str,
        resolving_power: float | None = None,
    ) -> Self:
        """Build pixels of equal width from ``start`` to ``stop``, both included when the step fits."""
        count = _count(stop - start, step)
        return cls.from_wavelength(
            start + step * np.arange(count), unit=unit, medium=medium, resolving_power=resolving_power
        )

    @classmethod
    def log(
        cls,
        start: float,
        stop: float,
        step: float,
        *,
        unit: str = "angstrom",
        medium: str,
        resolving_power: float | None = None,
    ) -> Self:
        """Build pixels equally spaced in log10(wavelength) by ``step`` dex, as SDSS and APOGEE use."""
        count = _count(np.log10(stop / start) if min(start, stop) > 0 else 0.0, step)
        return cls.from_wavelength(
            start * 10 ** (step * np.arange(count)), unit=unit, medium=medium, resolving_power=resolving_power
        )

    @classmethod
    def coefficients(cls, names: Iterable[str]) -> Self:
        """Build the axis of a basis, such as the 55 + 55 coefficients of Gaia XP.

        Examples
        --------
        >>> Grid.coefficients(f"bp_{k}" for k in range(55))
        Grid(55 coefficients, bp_0 ... bp_54)
        """
        return cls(names=tuple(names))

    @property
    def is_spectral(self) -> bool:
        """Whether the axis is wavelength (and not the coefficients of a basis)."""
        return self.wavelength is not None

    @property
    def vacuum(self) -> FloatArray:
        """Vacuum wavelengths (p,) in Angstrom; an error for a grid of coefficients."""
        if self.wavelength is None:
            raise DraperError(
                "coefficients have no wavelengths", given=repr(self), hint="use a sampled spectrum instead"
            )
        return self.wavelength

    @property
    def air(self) -> FloatArray:
        """Wavelengths in air (p,), Angstrom."""
        return units.vacuum_to_air(self.vacuum)

    def to(self, unit: str = "angstrom", medium: str = "vacuum") -> FloatArray:
        """Return the wavelengths (p,) in another unit and medium."""
        if medium not in units.MEDIA:
            raise DraperError("unknown medium", given=medium, expected=" or ".join(units.MEDIA))
        values = self.air if medium == "air" else self.vacuum
        return values / units.ANGSTROM[units.unit_name(unit)]

    @property
    def step(self) -> FloatArray:
        """Width of each pixel (p,) in Angstrom: that of its bin, else half the way to both neighbours.

        Gaps do not count, as in ``bounds``; a pixel alone in its window has no width (NaN).
        """
        if self.edges is not None:
            return self.edges[:, 1] - self.edges[:, 0]
        pieces = [self.vacuum[piece] for piece in self.segments()]
        widths = np.concatenate([np.gradient(piece) if len(piece) > 1 else [np.nan] for piece in pieces])
        lower, upper = self.bounds.T
        return np.where(upper - lower < 0.9 * widths, upper - lower, widths)  # the others to the last digit

    @property
    def bounds(self) -> FloatArray:
        """Edges (p, 2) of each pixel: those of its bin, else half the way to its neighbours.

        A neighbour beyond a gap, farther by more than a factor ``GAP`` than those on the other side, does not
        count: the pixel reaches as far to it as to the other side. A pixel alone in its window has no width.

        Examples
        --------
        >>> Grid.from_wavelength([10, 11, 12, 20, 22, 24], medium="vacuum").bounds[2:4]
        array([[11.5, 12.5],
               [19. , 21. ]])
        """
        if self.edges is not None:
            return self.edges
        bounds = np.empty((len(self), 2))
        for piece in self.segments():
            centre = self.vacuum[piece]
            middle = (centre[1:] + centre[:-1]) / 2
            if len(middle) == 0:
                bounds[piece] = centre[:, None]
                continue
            lower = np.concatenate([[2 * centre[0] - middle[0]], middle])
            upper = np.concatenate([middle, [2 * centre[-1] - middle[-1]]])
            # Two steps tell the size of pixels: in overlapping orders every other one may be tiny.
            step = np.diff(centre)
            above = np.maximum(step[1:], np.append(step[2:], 0))
            below = np.maximum(step[:-1], np.append(0, step[:-2]))
            inner = centre[1:-1]
            lower[1:-1] = np.where(step[:-1] > GAP * above, inner - above / 2, lower[1:-1])
            upper[1:-1] = np.where(step[1:] > GAP * below, inner + below / 2, upper[1:-1])
            bounds[piece] = np.stack([lower, upper], axis=1)
        return bounds

    def __len__(self) -> int:
        return len(self.names) if self.wavelength is None else len(self.wavelength)

    def __getitem__(self, pixels: slice | NDArray[Any] | Sequence[int]) -> Grid:
        """Return the grid of some pixels: a slice, a boolean mask or increasing indices."""
        index = np.arange(len(self))[pixels]
        if self.wavelength is None:
            return Grid(names=tuple(self.names[i] for i in index))
        power = self.resolving_power
        return replace(
            self,
            wavelength=self.wavelength[index],
            edges=None if self.edges is None else self.edges[index],
            resolving_power=power[index] if isinstance(power, np.ndarray) else power,
        )

    def inside(self, windows: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
        """Return which pixels (p,) lie in any of the windows (low, high) [vacuum Angstrom]."""
        mask = np.zeros(len(self.vacuum), dtype=bool)
        for low, high in windows:
            mask |= (self.vacuum >= low) & (self.vacuum <= high)
        return mask

    def cut(self, windows: Iterable[tuple[float, float]]) -> Grid:
        """Return the grid of the pixels inside the windows, and keep these as its contiguous pieces."""
        wanted = merged(windows)
        keep = self.inside(wanted)
        if not keep.any():
            raise DraperError("no pixel lies in these windows", given=wanted, expected=self.extent)
        pieces = [
            (max(low, first), min(high, last))
            for first, last in self.windows or ((float(self.vacuum[0]), float(self.vacuum[-1])),)
            for low, high in wanted
        ]
        return replace(self[keep], windows=tuple((low, high) for low, high in pieces if low <= high))

    def segments(self) -> list[slice]:
        """Return one slice of pixels for each window, or a single one for a grid without gaps."""
        if not self.windows:
            return [slice(0, len(self))]
        low, high = np.array(self.windows).T
        starts = np.searchsorted(self.vacuum, low, side="left")
        stops = np.searchsorted(self.vacuum, high, side="right")
        return [slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]

    @property
    def extent(self) -> str:
        """The range as text, such as ``8460.000-8700.000 A vacuum``."""
        if self.wavelength is None:
            return f"{self.names[0]} ... {self.names[-1]}"
        return f"{self.wavelength[0]:.3f}-{self.wavelength[-1]:.3f} A vacuum"

    def matches(self, other: Grid) -> bool:
        """Return whether both grids are the same to a thousandth of a pixel."""
        if self is other:
            return True
        if self.names != other.names or len(self) != len(other):
            return False
        if self.wavelength is None or len(self) == 1:
            return self.wavelength is None or bool(np.allclose(self.vacuum, other.vacuum, rtol=1e-7))
        steps = np.diff(self.vacuum)
        # The nearer neighbour gives the size of a pixel; the other one may lie beyond a gap.
        nearest = np.minimum(np.append(steps, np.inf), np.insert(steps, 0, np.inf))
        return bool(np.all(np.abs(self.vacuum - other.vacuum) <= PIXEL_TOLERANCE * nearest))

    def require(self, other: Grid, what: str, hint: str) -> None:
        """Raise an error that shows both grids unless ``other`` is the same."""
        if not self.matches(other):
            raise DraperError(what, given=repr(other), expected=repr(self), hint=hint)
        own_power, other_power = self.resolving_power, other.resolving_power
        if (
            own_power is not None
            and other_power is not None
            and not np.allclose(other_power, own_power, rtol=POWER_TOLERANCE)
        ):
            raise DraperError(
                f"{what}: the pixels agree, the resolving power does not",
                given=repr(other),
                expected=repr(self),
                hint=f"give the right value when reading the files: {option_text('read.resolving_power')}",
            )

    def require_several_pixels(self) -> None:
        """Raise an error where there is a single pixel: neither a line nor a shift can be seen in it."""
        if self.is_spectral and len(self) < 2:
            raise DraperError(
                "the spectra have a single pixel",
                given=repr(self),
                expected="at least 2 pixels",
                hint="keep a wider range: look at the options cut and grid of reading",
            )

    @property
    def fingerprint(self) -> str:
        """A short hash of the axis, equal for equal axes."""
        axis = "\n".join(self.names).encode() if self.wavelength is None else self.wavelength.tobytes()
        return hashlib.sha256(axis).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values, exact to the last digit."""
        if self.wavelength is None:
            return {"coefficients": list(self.names)}
        state: dict[str, Any] = {"wavelength": self.wavelength.tolist()}
        if self.edges is not None:
            state["edges"] = self.edges.tolist()
        if self.resolving_power is not None:
            state["resolving_power"] = np.asarray(self.resolving_power).tolist()
        if self.windows:
            state["windows"] = [list(window) for window in self.windows]
        return state

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return the grid that :meth:`to_json` described."""
        if "coefficients" in state:
            return cls.coefficients(state["coefficients"])
        return cls(
            np.asarray(state["wavelength"]),
            edges=np.asarray(state["edges"]) if "edges" in state else None,
            resolving_power=np.asarray(state["resolving_power"]) if "resolving_power" in state else None,
            windows=tuple((low, high) for low, high in state.get("windows", ())),
        )

    def __repr__(self) -> str:
        if self.wavelength is None:
            return f"Grid({len(self)} coefficients, {self.extent})"
        power = self.resolving_power
        resolution = "" if power is None else f", R={np.median(power):.0f}"
        pieces = f", {len(self.windows)} windows" if len(self.windows) > 1 else ""
        return f"Grid({len(self)} px, {self.extent}{resolution}{pieces})"


def _enclose(edges: FloatArray, centres: FloatArray) -> bool:
    lower, upper = edges.T
    encloses = (lower <= centres) & (centres <= upper) & (lower < upper)
    return bool(np.isfinite(edges).all() and encloses.all())


def merged(windows: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return windows (low, high) in increasing order; those that touch or overlap become one.

    Examples
    --------
    >>> merged([(5.0, 6.0), (1.0, 2.0), (1.5, 3.0)])
    [(1.0, 3.0), (5.0, 6.0)]
    """
    result: list[tuple[float, float]] = []
    for low, high in sorted(windows):
        if not low <= high:
            raise DraperError(
                "a window must be a range (low, high)", given=f"({low}, {high})", expected="low <= high"
            )
        if result and low <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], high)
        else:
            result.append((low, high))
    return result


def _count(span: float, step: float) -> int:
    """Return how many pixels fit, forgiving the rounding of span / step."""
    steps = span / step if step > 0 else 0.0
    if not 0 < steps < MAX_PIXELS:
        raise DraperError(
            "the grid would have no pixels, or too many",
            given=f"{steps:g} steps",
            expected=f"above 0 and below {MAX_PIXELS:g}",
            hint="stop must exceed start, and step must be positive",
        )
    return int(np.floor(steps + 1e-6)) + 1
