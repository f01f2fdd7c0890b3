"""Options of fitting labels to spectra."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from itertools import chain, pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from draper.config import Config
from draper.configs.windows import in_pairs
from draper.errors import DraperError, did_you_mean

SUFFIX = ".toml"

PRIORS = ("population", "training")
"""Priors by name."""

Width = Literal["free"] | Annotated[float, Field(ge=0)] | None


def recipes() -> list[str]:
    """Return the names of the recipes that draper has.

    Examples
    --------
    >>> recipes()
    ['apogee', 'gaia-rvs', 'harps', 'lamost', 'miles', 'uves']
    """
    folder = files("draper.configs").joinpath("recipes")
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.iterdir())


def read_recipe(name: str) -> dict[str, Any]:
    """Return the options of a recipe, by its name or as a file."""
    known = recipes()
    if name not in known and not Path(name).is_file():
        raise DraperError(
            "no such recipe",
            given=name,
            expected=f"{', '.join(known)}, or a TOML file",
            hint=did_you_mean(name, known),
        )
    source = files("draper.configs").joinpath("recipes", name + SUFFIX) if name in known else Path(name)
    try:
        options = tomllib.loads(source.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DraperError("the recipe is no TOML file", given=f"{name}: {error}") from error
    if "recipe" in options:
        raise DraperError("a recipe cannot name another one", given=name)
    return options


class FitConfig(Config):
    """How labels are fitted to spectra. Labels are free unless they are fixed."""

    flags: ClassVar[str] = "fit"

    recipe: str | None = None
    """Options that suit an instrument: gaia-rvs, apogee, lamost, harps, uves, miles, or a TOML file of your
    own; options that are given replace those of the recipe. None by default."""
    fixed: dict[str, float] = {}
    """Labels that are not fitted, and their values (``--fit.fixed '{"logg": 4.4}'``); none by default."""
    priors: str | dict[str, tuple[float, float]] = {}
    """What is known of labels beforehand; nothing by default: flat between their ends. Gaussians, as mean and
    1-sigma (``--fit.priors '{"logg": [4.4, 0.1]}'``); ``population``, the relations of simulated stars of the
    Galaxy; ``training``, the density of the training spectra; or a table of stars whose labels are like those
    that are fitted."""
    rv: Literal["free"] | float = "free"
    """Radial velocity [km/s]: fitted (free, the default), or fixed at a value."""
    rv_limit: Annotated[float, Field(gt=0, le=3000)] = 500.0
    """Largest absolute radial velocity of the search [km/s], up to 3000; 500 by default."""
    velocities: Literal["each", "one"] = "each"
    """Velocities of a star with several exposures: one for each exposure (default), or one for all."""
    vsini: Width = None
    """Rotation [km/s]: fitted (free, 0 to 300), fixed at a value, or no broadening (default)."""
    vmac: Width = None
    """Macroturbulence [km/s]: fitted (free, 0 to 60), fixed at a value, or no broadening (default)."""
    resolving_power: Width = None
    """lambda / FWHM of the data: a value, that of their file (default), or fitted (free, 500 to 300,000) as
    further broadening of the model's spectra."""
    continuum: Annotated[int, Field(ge=0, le=30)] | None = None
    """Degree (0 to 30) of the polynomial continuum that is fitted in each window; no continuum by default."""
    windows: tuple[tuple[float, float], ...] = ()
    """Wavelength ranges (low, high) that are fitted [vacuum Angstrom]; all pixels by default."""
    masked: tuple[tuple[float, float], ...] = ()
    """Wavelength ranges (low, high) that are left out [vacuum Angstrom]; none by default."""
    windows_files: tuple[str, ...] = ()
    """Files of further ranges to fit: csv of lines with wavelength and half-width (columns ``ll,dlam``)."""
    masked_files: tuple[str, ...] = ()
    """Files of further ranges to leave out: csv as above, or npz masks that are true at bad pixels."""
    mask_medium: Literal["air", "vacuum"] | None = None
    """Medium (air or vacuum) of the wavelengths in these files, if they do not state it."""
    half_width: Annotated[float, Field(gt=0)] | None = None
    """Half-width [Angstrom] of lines that have none in the files."""
    robust: Literal["none", "huber", "clip"] = "none"
    """Weight of outlying pixels: unchanged (none, the default), reduced (huber), or 0 (clip)."""
    jitter: Literal["none", "fit"] | Annotated[float, Field(ge=0)] = "none"
    """Further error of each pixel: none (default), a share of the continuum (number), or fitted for each
    spectrum so that the reduced chi2 is 1 (fit)."""
    emulator_error: bool = True
    """Whether the model's own error is added to that of the data; true by default."""
    model_error: bool = True
    """Whether the error learnt from residuals of real spectra is added, if there is one; true by default."""
    starts: Annotated[int, Field(ge=1, le=20)] = 1
    """Number of points (1 to 20) of a coarse grid that each fit starts from; more find other minima."""
    iterations: Annotated[int, Field(ge=1)] = 60
    """Maximum number of iterations; 60 by default."""
    tolerance: Annotated[float, Field(gt=0)] = 0.05
    """A fit has converged when the next step would lower chi2 by less than this; 0.05 by default."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Processes, 1 or more, that share blocks of 1,024 spectra; the results are the same. By default commands
    use all cores where more than half a minute of work is left after the first block, and Python uses one."""

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, options: Any) -> Any:
        if isinstance(options, dict) and options.get("recipe") is not None:
            return {**read_recipe(options["recipe"]), **options}
        return options

    @field_validator("priors", mode="before")
    @classmethod
    def _are_pairs(cls, priors: Any) -> Any:
        for name, pair in priors.items() if isinstance(priors, dict) else ():
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
                raise DraperError(
                    f"the prior of '{name}' is not a mean and its 1-sigma error",
                    given=pair,
                    expected="two numbers, such as [4.4, 0.1]",
                )
        return priors

    @field_validator("windows", "masked", mode="before")
    @classmethod
    def _in_pairs(cls, windows: Any) -> Any:
        return in_pairs(windows)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if isinstance(self.priors, str) and self.priors not in PRIORS and not Path(self.priors).is_file():
            raise DraperError(
                "no such prior",
                given=self.priors,
                expected=f"{', '.join(PRIORS)}, or a table of stars",
                hint=did_you_mean(self.priors, PRIORS),
            )
        gaussians = self.priors if isinstance(self.priors, dict) else {}
        numbers = [*self.fixed.values(), *chain.from_iterable(gaussians.values())]
        if self.rv != "free":
            numbers.append(self.rv)
        if not all(map(isfinite, numbers)):
            raise DraperError(
                "values of fixed, priors and rv must be finite",
                given=f"fixed={self.fixed}, priors={self.priors}, rv={self.rv}",
            )
        for name, (_, sigma) in gaussians.items():
            if sigma <= 0:
                raise DraperError(f"the 1-sigma error of the prior of '{name}' must be above 0", given=sigma)
            if name in self.fixed:
                raise DraperError(f"label '{name}' is fixed and has a prior", hint="give one of the two")
        if self.rv != "free" and abs(self.rv) > self.rv_limit:
            raise DraperError("the velocity is beyond rv_limit", given=self.rv, expected=self.rv_limit)
        if self.resolving_power == 0:
            raise DraperError("the resolving power must be positive", given=0)
        for low, high in (*self.windows, *self.masked):
            if not low < high:
                raise DraperError("a range must be (low, high)", given=(low, high))
        ordered = sorted(self.windows)
        if any(after[0] < before[1] for before, after in pairwise(ordered)):
            raise DraperError("windows overlap", given=ordered, hint="join those that do")
        return self
