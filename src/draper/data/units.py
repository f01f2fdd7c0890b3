"""Units of wavelength, flux and transit depth, and the refraction of air."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draper.errors import DraperError, did_you_mean

FloatArray = NDArray[np.float64]

ANGSTROM = {"angstrom": 1.0, "nm": 10.0, "um": 1e4, "mm": 1e7, "cm": 1e8, "m": 1e10}
"""Length of one unit in Angstrom."""

SYNONYMS = {
    "a": "angstrom", "aa": "angstrom", "ang": "angstrom", "angstroms": "angstrom", "0.1nm": "angstrom",
    "å": "angstrom", "ångström": "angstrom",
    "nanometer": "nm", "nanometers": "nm", "nanometre": "nm", "nanometres": "nm",
    "micron": "um", "microns": "um", "micrometer": "um", "micrometers": "um", "micrometre": "um",
    "micrometres": "um",
    "µm": "um", "μm": "um",
    "meter": "m", "metre": "m", "meters": "m", "metres": "m",
}  # fmt: skip
"""Other spellings of the units, in lower case."""

MEDIA = ("vacuum", "air")

FRACTIONS = {"": 1.0, "%": 1e-2, "percent": 1e-2, "ppm": 1e-6}
"""Size of the units of a transit depth; a depth without a unit is a fraction."""

AIR_STARTS = 2000.0
"""Below this vacuum wavelength [Angstrom] published wavelengths are vacuum wavelengths by convention."""


def unit_name(unit: str) -> str:
    """Return the canonical name of a length unit.

    Examples
    --------
    >>> unit_name("Angstroms"), unit_name("micron")
    ('angstrom', 'um')
    """
    name = unit.strip().lower()
    name = SYNONYMS.get(name, name)
    if name not in ANGSTROM:
        raise DraperError(
            "unknown wavelength unit",
            given=unit,
            expected=", ".join(ANGSTROM),
            hint=did_you_mean(name, [*ANGSTROM, *SYNONYMS]),
        )
    return name


def to_angstrom(values: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    """Convert lengths to Angstrom."""
    return np.asarray(values, dtype=np.float64) * ANGSTROM[unit_name(unit)]


def refractive_index(vacuum: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the refractive index of standard air, after Ciddor (1996), at vacuum wavelengths [Angstrom].

    Standard air: 15 C, 101325 Pa, dry, 450 ppm CO2. It is 1 below 2000 A, where tables are in vacuum.

    Examples
    --------
    >>> round(float(refractive_index(np.array([5000.0]))[0]), 8)
    1.00027897
    """
    vacuum = np.asarray(vacuum, dtype=np.float64)
    squared = (1e4 / np.maximum(vacuum, AIR_STARTS)) ** 2
    index = 1.0 + 5792105e-8 / (238.0185 - squared) + 167917e-8 / (57.362 - squared)
    return np.where(vacuum < AIR_STARTS, 1.0, index)


def vacuum_to_air(vacuum: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert vacuum wavelengths [Angstrom] to air.

    Examples
    --------
    >>> vacuum_to_air(np.array([6564.614])).round(3)
    array([6562.801])
    """
    vacuum = np.asarray(vacuum, dtype=np.float64)
    return vacuum / refractive_index(vacuum)


def air_to_vacuum(air: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert air wavelengths [Angstrom] to vacuum; the exact inverse of :func:`vacuum_to_air`.

    The convention leaves a step of 0.65 A where air starts: there, one number stands for two wavelengths,
    and the one below 2000 A is taken.

    Examples
    --------
    >>> air_to_vacuum(np.array([6562.801])).round(3)
    array([6564.614])
    """
    air = np.asarray(air, dtype=np.float64)
    vacuum = air
    # The index changes by less than 1e-7 a step, so the fixed point is exact to rounding after four.
    for _ in range(5):
        vacuum = air * refractive_index(vacuum)
    return vacuum


def flux_factor(given: str, wanted: str, vacuum: FloatArray) -> FloatArray | None:
    """Return the factors (p,) from one unit of flux density to another; None where they do not convert.

    Parameters
    ----------
    given, wanted
        Units as astropy reads them, per wavelength or per frequency.
    vacuum
        Wavelengths (p,) [Angstrom] of the pixels, by which the one follows from the other.

    Examples
    --------
    >>> wavelengths = np.array([5000.0, 10000.0])
    >>> flux_factor("W / (m2 um)", "erg / (s cm2 Angstrom)", wavelengths)
    array([0.1, 0.1])
    >>> flux_factor("Jy", "W / (m2 um)", wavelengths)
    array([1.19916983e-11, 2.99792458e-12])
    >>> flux_factor("", "Jy", wavelengths) is None
    True
    """
    from astropy import units

    try:
        old, new = units.Unit(given), units.Unit(wanted)
        along = units.spectral_density(vacuum * units.Angstrom)
        factors = old.to(new, np.ones(len(vacuum)), equivalencies=along)
    except (ValueError, TypeError):  # not a unit, or of something else
        return None
    return np.asarray(factors, dtype=np.float64)
