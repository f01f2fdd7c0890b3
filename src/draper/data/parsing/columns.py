"""Names of columns in files of other origin: their role (wavelength, flux, error ...), unit and medium."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data import units
from draper.data.parsing.source import Source
from draper.errors import DraperError, did_you_mean

FloatArray = NDArray[Any]
Role = Literal["wavelength", "flux", "error", "ivar", "half width", "low", "high", "bad"]

WAVELENGTH = {
    "wave", "wavelength", "lambda", "lam", "wl", "wlen", "waveob", "wavelen", "wvl", "wav",
    "central_wavelength", "wavelength_centre", "wavelength_center", "bin_centre", "bin_center",
}  # fmt: skip
LOW = {"min_wavelength", "wavelength_min", "low_wavelength", "wavelength_low", "wave_low", "wave_min"}
HIGH = {"max_wavelength", "wavelength_max", "high_wavelength", "wavelength_high", "wave_high", "wave_max"}
HALF_WIDTH = {"bin_half_width", "half_width", "wavelength_half_width"}
FLUX = {
    "flux": "", "f": "", "flam": "", "f_lambda": "", "spectrum": "", "spectra": "", "spec": "",
    "intensity": "", "count": "", "surface_flux": "", "flux_u16": "",
    "normalised_flux": "normalised flux", "normalized_flux": "normalised flux",
    "norm_flux": "normalised flux", "flux_norm": "normalised flux",
    "flxn": "normalised flux", "nflux": "normalised flux",
    "transit_depth": "transit depth", "depth": "transit depth", "dppm": "transit depth",
    "rp/r*": "transit depth", "rp/r": "transit depth", "rp_r": "transit depth",
}  # fmt: skip
"""Names of flux columns, and the quantity that the name implies ("" where it implies none)."""
ERROR_WORDS = {"err", "error", "sigma", "unc", "uncertainty", "std", "stdev", "noise", "e"}
ERROR = {"fluxerr", "flxerr", "eflux"}
IVAR = {"ivar", "inverse_variance", "invvar", "flux_ivar"}
BAD = {"mask", "quality", "flag", "dq", "bad", "badpix"}
"""Flags: a pixel is bad where they are not zero."""

RATIOS = {"rp/r*", "rp/r", "rp_r"}
"""Radius ratios, Rp/R*, Rp/Rs and rp_rs (names have lost their plural); the depth is their square."""

SPELT_UNITS = ({*units.ANGSTROM, *units.SYNONYMS} - {"m", "mm", "cm"}) | {"ppm", "percent"}
"""Units that may be the last word of a name without brackets."""

BRACKETED = re.compile(r"(.+?)[\s_]*[\[(]([^\[\]()]*)[\])]")
"""A name that ends with its unit in brackets."""


@dataclass(frozen=True)
class Column:
    """The meaning of a column's name.

    Attributes
    ----------
    role
        What the column holds; None if the name is unknown.
    name
        The name without unit and medium.
    unit, medium, quantity
        As given in the name; empty if not given.
    """

    role: Role | None
    name: str
    unit: str = ""
    medium: str = ""
    quantity: str = ""


def describe(name: str) -> Column:
    """Interpret the name of a column.

    Examples
    --------
    >>> describe("wave_vac_A")
    Column(role='wavelength', name='wave', unit='a', medium='vacuum', quantity='')
    >>> describe("Error on transit depths (ppm)").role
    'error'
    """
    text = name.strip().strip("\"'").lower()
    unit = medium = ""
    bracketed = BRACKETED.fullmatch(text)
    if bracketed:
        text, unit = bracketed[1].strip(), bracketed[2].strip()
    words = [word for word in re.split(r"[\s_.-]+", text) if word not in ("", "on", "of", "the", "total")]
    if len(words) > 1 and words[-1] in SPELT_UNITS and not unit:
        unit = words.pop()
    for word, meaning in (("vac", "vacuum"), ("vacuum", "vacuum"), ("air", "air")):
        if word in words and len(words) > 1:
            words.remove(word)
            medium = meaning
    words = ["flux" if word == "fluxes" else word.removesuffix("s") or word for word in words]
    base = "_".join(words)
    role, quantity = _role(base, words)
    if quantity == "transit depth" and "dppm" in base:
        unit = "ppm"
    return Column(role, base, unit, medium, quantity)


def _role(base: str, words: list[str]) -> tuple[Role | None, str]:
    named: dict[Role, set[str]] = {
        "wavelength": WAVELENGTH,
        "low": LOW,
        "high": HIGH,
        "half width": HALF_WIDTH,
        "error": ERROR,
        "ivar": IVAR,
        "bad": BAD,
    }
    for role, names in named.items():
        if base in names:
            return role, ""
    if base in FLUX:
        return "flux", FLUX[base]
    rest = [word for word in words if word not in ERROR_WORDS]
    if len(rest) == len(words) - 1:
        if not rest or "_".join(rest) in FLUX:
            return "error", FLUX.get("_".join(rest), "")
        if "_".join(rest) in WAVELENGTH:
            return "half width", ""
    return None, ""


def length_unit(column: Column) -> str | None:
    """Return the canonical length unit in a column's name, or None."""
    try:
        return units.unit_name(column.unit) if column.unit else None
    except DraperError:
        return None


def unit_in(name: str) -> str:
    """Return the unit in brackets at the end of a column's name as it is written; empty if there is none.

    Examples
    --------
    >>> unit_in("Flux [W/m2/um]"), unit_in("flux")
    ('W/m2/um', '')
    """
    bracketed = BRACKETED.fullmatch(name.strip().strip("\"'"))
    return bracketed[2].strip() if bracketed else ""


def implied_quantity(column: Column) -> str:
    """Return the quantity that the name of a flux column implies; flux if it implies none."""
    return column.quantity or ("transit depth" if column.unit == "ppm" else "flux")


def in_depths(column: Column, columns: Mapping[Role, FloatArray]) -> dict[Role, FloatArray]:
    """Return columns with radius ratios squared, ppm and per cent as fractions, and their errors likewise.

    Parameters
    ----------
    column
        What the name of the flux column means.
    columns
        Columns of equal shape by role.

    Examples
    --------
    >>> columns = in_depths(describe("Rp/Rs"), {"flux": np.array([0.1]), "error": np.array([0.01])})
    >>> columns["flux"].round(4), columns["error"].round(4)
    (array([0.01]), array([0.002]))
    """
    depths, slope = dict(columns), np.ones(1)
    with np.errstate(all="ignore"):  # what does not fit is a bad pixel
        if column.name in RATIOS:
            depths["flux"], slope = columns["flux"] ** 2, 2 * np.abs(columns["flux"])
        if column.unit and column.unit in units.FRACTIONS:
            size = units.FRACTIONS[column.unit]
            depths["flux"], slope = depths["flux"] * size, slope * size
        if "error" in columns:
            depths["error"] = columns["error"] * slope
        if "ivar" in columns:
            depths["ivar"] = columns["ivar"] / slope**2
    return depths


def assign(source: Source, names: Sequence[str], config: ReadConfig) -> dict[Role, int]:
    """Return the position of the column for each role: named by the user, else recognised by its name."""
    requested: dict[Role, str | None] = {
        "wavelength": config.wavelength_column,
        "flux": config.flux_column,
        "error": config.error_column,
    }
    roles: dict[Role, int] = {
        role: _position(source, names, wanted) for role, wanted in requested.items() if wanted is not None
    }
    columns = [describe(name) for name in names]
    if "flux" not in roles:
        by_quantity = [
            k
            for k, column in enumerate(columns)
            if column.role == "flux" and column.quantity == config.quantity
        ]
        if by_quantity:
            roles["flux"] = by_quantity[0]
    taken = set(roles.values())
    for position, column in enumerate(columns):
        if column.role is not None and position not in taken:
            roles.setdefault(column.role, position)
    if "error" in roles and config.error_column is not None:
        roles.pop("ivar", None)
    return roles


def _position(source: Source, names: Sequence[str], wanted: str) -> int:
    if wanted in names:
        return list(names).index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    raise source.error(
        f"there is no column '{wanted}'", given=", ".join(names), hint=did_you_mean(wanted, names)
    )
