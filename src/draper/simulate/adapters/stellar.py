"""The base class of adapters to synthesis codes: labels of a star, abundances, and the window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from draper.data.grid import Grid
from draper.errors import DraperError
from draper.simulate.adapters.adapter import Adapter

ELEMENTS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si",
    "P", "S", "Cl", "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni",
    "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo",
    "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba",
    "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb",
    "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po",
    "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",
)  # fmt: skip
"""Symbols of the elements by atomic number, from 1."""

RAISED_BY_ALPHA = ("O", "Ne", "Mg", "Si", "S", "Ar", "Ca", "Ti")
"""Elements that ``alpha_fe`` raises unless they have a column of their own."""


@dataclass(frozen=True, eq=False)
class SyntheticStars(Adapter):
    """Normalised spectra of stars at rest, at intrinsic resolution.

    Labels are ``teff``, ``logg`` and ``fe_h``; where a table has them also ``vmic``, ``alpha_fe`` and any
    element relative to iron (``mg_fe``).

    Attributes
    ----------
    window
        First and last wavelength, in air [Angstrom].
    lines
        Line lists in the format of the code.
    atmospheres
        A grid of ATLAS9 models: a file or a folder, see ``adapters.atmospheres``.
    step
        Distance between pixels [Angstrom].
    vmic
        Microturbulence [km/s], if the table has no such column.
    """

    needed: ClassVar[tuple[str, ...]] = ("teff", "logg", "fe_h")
    optional: ClassVar[tuple[str, ...]] = (
        "vmic",
        "alpha_fe",
        *(f"{element.lower()}_fe" for element in ELEMENTS[2:] if element != "Fe"),
    )

    window: tuple[float, float]
    lines: tuple[Path, ...]
    atmospheres: Path | None = None
    step: float = 0.05
    vmic: float = 1.5

    def __post_init__(self) -> None:
        if len(self.window) != 2:
            raise DraperError(
                "the window must be two wavelengths", given=self.window, expected="(first, last) in Angstrom"
            )
        for path in (*self.lines, *([self.atmospheres] if self.atmospheres else [])):
            if not path.exists():
                raise DraperError("no such file", given=path, hint="check the name and the folder")
        if not self.lines:
            raise DraperError("there is no line list", hint="give at least one file (lines=)")
        self.grid()

    def grid(self) -> Grid:
        """Return the pixels of the window."""
        return Grid.linear(*self.window, self.step, medium="air")


def enhancements(labels: dict[str, float]) -> dict[str, float]:
    """Return [X/Fe] of all elements whose value is not 0.

    Examples
    --------
    >>> enhancements({"teff": 5000.0, "alpha_fe": 0.2, "mg_fe": 0.3, "o_fe": 0.0})["Mg"]
    0.3
    """
    alpha = labels.get("alpha_fe", 0.0)
    values = dict.fromkeys(RAISED_BY_ALPHA, alpha)
    values |= {
        element: labels[f"{element.lower()}_fe"] for element in ELEMENTS if f"{element.lower()}_fe" in labels
    }
    return {element: value for element, value in values.items() if value}
