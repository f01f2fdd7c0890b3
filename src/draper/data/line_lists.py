"""Reading line lists: tables with a column of wavelengths, and lists of VALD."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.join import read_table
from draper.data.lines import Lines
from draper.data.masks import Medium
from draper.data.parsing.columns import describe
from draper.data.units import MEDIA, air_to_vacuum, to_angstrom
from draper.errors import DraperError, option_text

FloatArray = NDArray[np.float64]

THETA = 5040 / 5000
"""By how much log gf counts less per eV of excitation, at 5000 K."""

ROMAN = ("I", "II", "III", "IV", "V", "VI")

UNNAMED = "unknown"
"""Species of lines of which a list does not say any."""

SPECIES = ("species", "specie", "name", "line", "molecule", "mol")
ELEMENT = ("element", "elem", "elm", "el")
ION = ("ion", "ionization", "ionisation", "stage")
GF = ("loggf", "log_gf", "gflog", "lgf")
EXCITATION = ("e_low_ev", "elow", "e_low", "excit", "ep", "chi", "exc_pot", "lowexcpot", "eexc")
"""Names of columns, in lower case."""

STRENGTH = ("strength", "strength_sun", "strength_k_giant")
"""Names of columns of logarithms of strengths, the first of which is used."""

VACUUM = ("wavelength", "centroid")
"""Names of wavelengths in draper's own tables, which are in vacuum."""

VALD_NAME = re.compile(r"^\s*'([A-Z][A-Za-z]*)\s+(\d)'\s*,")
"""How the line of a spectral line starts in a list of VALD: 'Fe 1',"""


def read_lines(path: str | Path, medium: Medium | None = None) -> Lines:
    """Read a line list.

    Tables (CSV, ECSV, FITS, VOTable) need a column of wavelengths, such as ``wave_air_A`` or ``lambda``.
    Species are in a column such as ``species`` (Fe I, Fe 1), or in ``element`` and ``ion`` (1 is neutral).
    The strength is that of a column ``strength`` (logarithm), or log gf less 1.008 times the excitation
    energy [eV] (``loggf``, ``E_low``), or else 0 for all. Lists of one_payne (``ll,dlam``) do not state
    their medium, which is air; lists of VALD (short or long format) do.

    Parameters
    ----------
    path
        The file.
    medium
        Medium of the wavelengths, if the file does not state it.

    Returns
    -------
    Lines
        m lines in increasing wavelength.

    Examples
    --------
    >>> rows = "element,ion,wave_air_A,loggf,E_low_eV", "Fe,1,8468.407,-2.04,2.22"
    >>> _ = Path("lines.csv").write_text(chr(10).join(rows))
    >>> lines = read_lines("lines.csv")
    >>> lines.species.tolist(), lines.wavelength.round(2), lines.strength.round(2)
    (['Fe I'], array([8470.73]), array([-4.28]))
    """
    path = Path(path)
    parsed = _vald(path) if path.is_file() else None
    species, wavelength, stated, strength = parsed or _table(path)
    if stated and medium and stated != medium:
        raise DraperError("the line list states another medium", given=f"{medium}; {path.name}: {stated}")
    if not (stated or medium):
        raise DraperError(
            "the line list does not say whether wavelengths are in air or in vacuum",
            given=path.name,
            hint=f"give it ({option_text('medium', 'air')}), or name the column wave_air or wave_vac",
        )
    good = np.isfinite(wavelength) & (wavelength > 0)
    if not good.any():
        raise DraperError("the line list holds no lines", given=path.name)
    species, wavelength, strength = species[good], wavelength[good], strength[good]
    vacuum = air_to_vacuum(wavelength) if (stated or medium) == "air" else wavelength
    order = np.argsort(vacuum, kind="stable")
    return Lines(
        species[order], vacuum[order], np.nan_to_num(strength[order], nan=float(np.nanmin(strength)))
    )


Parsed = tuple[NDArray[np.str_], FloatArray, str, FloatArray]
"""Species (m,), wavelengths (m,) [Angstrom], their medium (empty if it is not stated), and strengths (m,)."""


def _table(path: Path) -> Parsed:
    """Return the lines of a table."""
    table = read_table(path)
    lower = {name.strip().lower(): column for name, column in table.items()}
    named = {name: describe(name) for name in table}
    waves = [name for name, column in named.items() if column.role == "wavelength"]
    # Of several columns that in vacuum is right as it is.
    waves.sort(key=lambda name: named[name].medium != "vacuum")
    if not waves and "ll" not in lower:
        raise DraperError(
            "the line list has no column of wavelengths",
            given=", ".join(table) or path.name,
            expected="wave_air_A, wave_vac_A, wavelength, lambda, ll, ...",
        )
    name = waves[0] if waves else "ll"
    of, column = describe(name), table[name] if waves else lower["ll"]
    try:
        wavelength = to_angstrom(np.asarray(column, dtype=np.float64), of.unit or "angstrom")
    except ValueError as error:
        raise DraperError("a wavelength is no number", given=f"column {name}: {error}") from None
    medium = of.medium or ("vacuum" if name.lower() in VACUUM else "")
    # A column of that name, as draper's own lists of windows have it, counts more.
    stated = {str(one) for one in lower.get("medium", ())}
    if len(stated) > 1 or not stated <= set(MEDIA):
        raise DraperError(
            "all wavelengths of a file must be in one medium",
            given=", ".join(sorted(stated)),
            expected="air or vacuum",
        )
    medium = stated.pop() if stated else medium
    return _species(lower, len(wavelength)), wavelength, medium, _strength(lower, len(wavelength))


def _species(lower: Mapping[str, NDArray[Any]], number: int) -> NDArray[np.str_]:
    """Return the species (m,) of the columns of a table."""
    element, ion = _first(lower, ELEMENT), _first(lower, ION)
    if element is not None:
        stages = [""] * number if ion is None else [str(one) for one in ion]
        names = [f"{symbol} {stage}" for symbol, stage in zip(element, stages, strict=True)]
    else:
        column = _first(lower, SPECIES)
        names = [UNNAMED] * number if column is None else [str(name) for name in column]
    return np.array([_spelt(name) for name in names], dtype=str)


def _spelt(name: str) -> str:
    """Return a species such as Fe I of Fe 1, Fe1 or Fe I.

    Examples
    --------
    >>> [_spelt(name) for name in ("Fe 1", "Ca2", "Ca II", "CN", "Ti 1.0")]
    ['Fe I', 'Ca II', 'Ca II', 'CN', 'Ti I']
    """
    match = re.fullmatch(r"([A-Z][a-z]?)[\s_]*([1-6])(?:\.0*)?", name.strip())
    return f"{match[1]} {ROMAN[int(match[2]) - 1]}" if match else name.strip() or UNNAMED


def _strength(lower: Mapping[str, NDArray[Any]], number: int) -> FloatArray:
    """Return the logarithms of strengths (m,)."""
    strength, gf, excitation = (_first(lower, names) for names in (STRENGTH, GF, EXCITATION))
    if strength is not None:
        return np.asarray(strength, dtype=np.float64)
    if gf is None:
        return np.zeros(number)
    energy = np.zeros(number) if excitation is None else np.asarray(excitation, dtype=np.float64)
    return np.asarray(gf, dtype=np.float64) - THETA * np.nan_to_num(energy)


def _first(lower: Mapping[str, NDArray[Any]], names: Sequence[str]) -> NDArray[Any] | None:
    return next((lower[name] for name in names if name in lower), None)


def _vald(path: Path) -> Parsed | None:
    """Return the lines of a list of VALD, or None if a file is none."""
    with path.open("rb") as file:
        if b"\0" in file.read(512):
            return None
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [line for line in text if VALD_NAME.match(line)]
    if not rows:
        return None
    head = next((line for line in text if "WL_" in line), "")
    unit = re.search(r"WL_(air|vac)\((\w+)\)", head)
    if unit is None:
        raise DraperError(
            "the head of this list of VALD does not name its wavelengths",
            given=path.name,
            expected="WL_air(A), WL_vac(A) or the like",
            hint="keep the head of the file; wave numbers are not read",
        )
    # Short lists have the excitation energy before log gf, and a microturbulence between them.
    gf, excitation = (2, 3) if "E_low" in head else (4, 2)
    parts = [next(csv.reader([line], quotechar="'", skipinitialspace=True)) for line in rows]
    try:
        numbers = np.array([[float(row[at]) for at in (1, gf, excitation)] for row in parts])
    except (ValueError, IndexError) as error:
        raise DraperError(
            "a line of this list of VALD cannot be read", given=f"{path.name}: {error}"
        ) from error
    species = np.array([_spelt(" ".join(row[0].split())) for row in parts], dtype=str)
    medium = "air" if unit[1] == "air" else "vacuum"
    wavelength = to_angstrom(numbers[:, 0], unit[2].lower())
    return species, wavelength, medium, numbers[:, 1] - THETA * numbers[:, 2]
