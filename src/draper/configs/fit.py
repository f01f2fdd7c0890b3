"""Options of fitting labels to spectra."""

from __future__ import annotations

from itertools import chain, pairwise
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from draper.config import Config
from draper.configs.windows import in_pairs
from draper.errors import DraperError

Width = Literal["free"] | Annotated[float, Field(ge=0)] | None


class FitConfig(Config):
    """How labels are fitted to spectra. What is not said is free."""

    flags: ClassVar[str] = "fit"

    fixed: dict[str, float] = {}
    """Labels that are known, and their values."""
    priors: dict[str, tuple[float, float]] = {}
    """Labels that are known within errors: mean and 1-sigma (--fit.priors '{"logg": [4.4, 0.1]}')."""
    rv: Literal["free"] | float = "free"
    """Radial velocity [km/s]: free, or known."""
    rv_limit: Annotated[float, Field(gt=0, le=3000)] = 500.0
    """Largest radial velocity that is looked for [km/s]."""
    velocities: Literal["each", "one"] = "each"
    """Of a star that is seen in several exposures: one for each of them, or one for all."""
    vsini: Width = None
    """Rotation [km/s]: free, known, or none beyond what the emulator has."""
    vmac: Width = None
    """Macroturbulence [km/s]: free, known, or none."""
    resolving_power: Width = None
    """Resolving power of the data: known, or what their file says; or free, beyond the emulator's own."""
    continuum: Annotated[int, Field(ge=0, le=30)] | None = None
    """Degree of a polynomial continuum in each window; none unless given."""
    windows: tuple[tuple[float, float], ...] = ()
    """Ranges that are fitted [Angstrom, vacuum]; all unless given."""
    masked: tuple[tuple[float, float], ...] = ()
    """Ranges that are left out [Angstrom, vacuum]."""
    windows_files: tuple[str, ...] = ()
    """Files of lines that are fitted beside ``windows``: csv with wavelength and half-width (``ll,dlam``)."""
    masked_files: tuple[str, ...] = ()
    """The same for what is left out; or npz that are true at pixels of the spectra which are bad."""
    mask_medium: Literal["air", "vacuum"] | None = None
    """Medium of the wavelengths in these files, where they do not say it."""
    half_width: Annotated[float, Field(gt=0)] | None = None
    """Half-width [Angstrom] of lines for which the files have none."""
    robust: Literal["none", "huber", "clip"] = "none"
    """What happens to pixels that do not fit: nothing, less weight (Huber), or none (clipping)."""
    jitter: Literal["none", "fit"] | Annotated[float, Field(ge=0)] = "none"
    """Error of the model beyond its own: none, known as a share of the continuum, or fitted to each spectrum
    (in the unit of the flux)."""
    emulator_error: bool = True
    """Whether the emulator's own error counts."""
    model_error: bool = True
    """Whether the error that was learnt from residuals of real spectra counts, if there is one."""
    starts: Annotated[int, Field(ge=1, le=20)] = 1
    """From how many points of a coarse grid each fit starts; more find other minima."""
    iterations: Annotated[int, Field(ge=1)] = 60
    """Most steps of a fit."""
    tolerance: Annotated[float, Field(gt=0)] = 0.05
    """A fit ends with the step that would lower chi2 by less."""

    @field_validator("windows", "masked", mode="before")
    @classmethod
    def _in_pairs(cls, windows: Any) -> Any:
        return in_pairs(windows)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        numbers = [*self.fixed.values(), *chain.from_iterable(self.priors.values())]
        if self.rv != "free":
            numbers.append(self.rv)
        if not all(map(isfinite, numbers)):
            raise DraperError("what is known of labels must be finite", given=f"{self.fixed} {self.priors}")
        for name, (_, sigma) in self.priors.items():
            if sigma <= 0:
                raise DraperError(f"the prior of '{name}' needs an error above 0", given=sigma)
            if name in self.fixed:
                raise DraperError(f"label '{name}' is fixed and has a prior", hint="give one of the two")
        if self.rv != "free" and abs(self.rv) > self.rv_limit:
            raise DraperError("the velocity is beyond rv_limit", given=self.rv, expected=self.rv_limit)
        if self.resolving_power == 0:
            raise DraperError("the resolving power must be positive", given=0)
        for low, high in (*self.windows, *self.masked):
            if not low < high:
                raise DraperError("a range ends before it begins", given=(low, high))
        ordered = sorted(self.windows)
        if any(after[0] < before[1] for before, after in pairwise(ordered)):
            raise DraperError("windows overlap", given=ordered, hint="join those that do")
        return self
