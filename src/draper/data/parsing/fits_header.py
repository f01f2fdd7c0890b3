"""What a FITS header declares about its spectrum: unit, medium, flux unit and facts about the object."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data import units
from draper.errors import DraperError

Header = Mapping[str, Any]

FACTS = {
    "object": ("OBJECT",),
    "ra": ("RA",),
    "dec": ("DEC",),
    "snr": ("SNR",),
    "mjd": ("MJD-OBS", "MJD"),
    "exptime": ("EXPTIME",),
    "barycentric_velocity": ("ESO DRS BERV", "ESO QC VRAD BARYCOR"),
}
"""Table columns that most spectrographs provide, with the header keywords that hold them."""

PROVENANCE = ("TELESCOP", "INSTRUME", "ORIGIN", "DATE-OBS", "BUNIT", "SPECSYS", "PRODCATG")
"""Keywords that are copied to meta."""

FLUX_SCALES = {"erg / (s cm2 Angstrom)": "1e-17 erg / (s cm2 Angstrom)", "Jy": "Jy"}
"""Physical unit -> the unit in which such fluxes are stored, so that 1 / error^2 fits single precision."""

LARGEST = float(np.finfo(np.float64).max)
"""Whole numbers of any length can stand in a header; those beyond this one are no numbers of a spectrum."""

NO_VALUE = (-9999, -999)
"""Numbers that surveys write for missing values."""


def number(header: Header, *keywords: str) -> float | None:
    """Return the first of the keywords that holds a finite number."""
    for keyword in keywords:
        value = header.get(keyword)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST:
            return float(value)
    return None


def text(header: Header, keyword: str) -> str:
    """Return a keyword as text without surrounding blanks; empty where it is absent."""
    value = header.get(keyword)
    return "" if value is None else str(value).strip()


def length_unit(words: str) -> str | None:
    """Return the canonical name of a wavelength unit, or None where the words are not one.

    Examples
    --------
    >>> length_unit("log10(Angstroms)"), length_unit("deg")
    ('angstrom', None)
    """
    inner = re.fullmatch(r"(?:log10|log|dex)\s*[(\[](.*)[)\]]", words.strip(), re.IGNORECASE)
    try:
        return units.unit_name(inner[1] if inner else words)
    except DraperError:
        return None


def medium(header: Header) -> str | None:
    """Return the medium that a header declares outside the description of an axis."""
    vacuum = header.get("VACUUM")
    if isinstance(vacuum, (bool, int)):
        return "vacuum" if vacuum else "air"
    return {"vac": "vacuum", "vacuum": "vacuum", "air": "air"}.get(text(header, "AIRORVAC").lower())


def flux_unit(words: str) -> tuple[float, str]:
    """Return the factor and unit in which a declared flux is stored; (1, "") if it is not a physical unit.

    Examples
    --------
    >>> flux_unit("10**(-16)erg.cm**(-2).s**(-1).angstrom**(-1)")
    (10.0, '1e-17 erg / (s cm2 Angstrom)')
    >>> flux_unit("erg/s/cm2/A")
    (1e+17, '1e-17 erg / (s cm2 Angstrom)')
    >>> flux_unit("Relative Flux")
    (1.0, '')
    """
    from astropy import units as astropy_units

    words = re.sub(r"(?i)\bergs\b", "erg", words.strip())
    words = re.sub(r"(?i)\bangstroms?\b|\bang\b|(?-i:\bAA?\b)", "Angstrom", words)
    for dialect in ("generic", "fits", "ogip", "cds"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                given = astropy_units.Unit(words, format=dialect)
                for physical, kept in FLUX_SCALES.items():
                    if given.physical_type == astropy_units.Unit(physical).physical_type:
                        return float(f"{given.to(astropy_units.Unit(kept)):.12g}"), kept
        except (ValueError, TypeError, AttributeError, ZeroDivisionError, OverflowError):
            continue
    return 1.0, ""


def quantity(header: Header, words: str = "") -> str:
    """Return ``normalised flux`` if the header, or ``words`` about the flux, declare it, else ``flux``."""
    normalised = header.get("CONTNORM") is True or "norm" in words.lower()
    return "normalised flux" if normalised else "flux"


def facts(
    header: Header, wanted: Mapping[str, Sequence[str]] = FACTS, rows: int = 1
) -> dict[str, NDArray[Any]]:
    """Return the columns (rows,) of ``wanted`` (name -> keywords) for which the header has a value."""
    columns: dict[str, NDArray[Any]] = {}
    for name, keywords in wanted.items():
        value = next((header[key] for key in keywords if header.get(key) not in (None, "")), None)
        if isinstance(value, str) and name not in ("ra", "dec"):  # sexagesimal places are left out
            columns[name] = np.full(rows, value.strip())
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            whole = isinstance(value, int) and name.endswith("id")
            columns[name] = np.full(rows, value if whole else np.nan if value in NO_VALUE else float(value))
    return columns


def provenance(header: Header) -> dict[str, Any]:
    """Return the keywords that are copied to meta, under lower-case names."""
    kept = {key.lower().replace("-", "_"): text(header, key) for key in PROVENANCE}
    return {name: value for name, value in kept.items() if value}
