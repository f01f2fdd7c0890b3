"""A small table of strong stellar lines, for annotating spectra.

1,354 atomic lines between 3250 and 17000 A, densest in 5160-5730, 6100-6790, 8455-8705 and 15100-17000 A;
``scripts/pack_lines.py`` makes the file. Positions and strengths follow VALD3 (Ryabchikova et al. 2015),
Kurucz, linemake (Placco et al. 2021) and the Gaia-ESO list (Heiter et al. 2021).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Lines:
    """Strong lines, in increasing wavelength.

    Attributes
    ----------
    species : ndarray (m,) of str
        Such as "Fe I".
    wavelength : ndarray (m,)
        Vacuum Angstrom.
    strength : ndarray (m,)
        log10 of the relative strength at 5000 K and solar abundances; for ranking.
    """

    species: NDArray[np.str_]
    wavelength: NDArray[np.float64]
    strength: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.wavelength)

    def within(self, low: float, high: float) -> Lines:
        """Return the lines between two vacuum wavelengths [Angstrom]."""
        kept = (self.wavelength >= low) & (self.wavelength <= high)
        return Lines(self.species[kept], self.wavelength[kept], self.strength[kept])

    def of(self, *elements: str) -> Lines:
        """Return the lines of some elements, such as "Ca", or of ions, such as "Ca II".

        Examples
        --------
        >>> sorted(set(strong_lines().of("Ca").species.tolist()))
        ['Ca I', 'Ca II']
        """
        kept = np.isin(self.species, elements)
        kept |= np.isin([name.split(" ")[0] for name in self.species], elements)
        return Lines(self.species[kept], self.wavelength[kept], self.strength[kept])


@cache
def strong_lines() -> Lines:
    """Return all lines of the table.

    Examples
    --------
    >>> calcium = strong_lines().within(8498, 8670)
    >>> calcium.species[np.argmax(calcium.strength)]
    np.str_('Ca II')
    """
    text = files("draper.data").joinpath("packed", "lines.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    return Lines(
        np.array([row["species"] for row in rows], dtype=str),
        np.array([float(row["wavelength"]) for row in rows]),
        np.array([float(row["strength"]) for row in rows]),
    )
