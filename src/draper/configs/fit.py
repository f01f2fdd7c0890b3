"""Options of fitting labels to spectra."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from draper.config import Config
from draper.configs.windows import in_pairs

Width = Literal["free"] | Annotated[float, Field(ge=0)] | None


class FitConfig(Config):
    """How labels are fitted to spectra. What is not said is free."""

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
    robust: Literal["none", "huber", "clip"] = "none"
    """What happens to pixels that do not fit: nothing, less weight (Huber), or none (clipping)."""
    jitter: Literal["none", "fit"] | Annotated[float, Field(ge=0)] = "none"
    """Error of the model beyond its own, in units of the flux: none, fitted to each spectrum, or known."""
    emulator_error: bool = True
    """Whether the emulator's own error counts."""
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
