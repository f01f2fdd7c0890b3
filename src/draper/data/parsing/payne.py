"""Pixels and labels of The Payne's APOGEE spectra, which the files of several codes do not name."""

from __future__ import annotations

import numpy as np

from draper.data.grid import Grid

ELEMENTS = (
    "c", "n", "o", "na", "mg", "al", "si", "p", "s", "k", "ca", "ti", "v", "cr", "mn", "fe", "co", "ni", "cu",
    "ge",
)  # fmt: skip
LABELS = ("teff", "logg", "vmic", *(f"{element}_h" for element in ELEMENTS), "c12_c13", "vmac")
"""The 25 labels of The Payne."""

CHIPS = ((322, 3241), (3648, 6047), (6412, 8305))
"""First and last pixel of APOGEE's three detectors, on its common grid of vacuum wavelengths."""


def apogee_grid() -> Grid:
    """Return the 7214 pixels of The Payne, binspec and Cycle-StarNet, in one piece for each detector.

    Examples
    --------
    >>> apogee_grid()
    Grid(7214 px, 15168.129-16936.747 A vacuum, 3 windows)
    """
    pieces = [10.0 ** (4.179 + 6e-6 * np.arange(first, last + 1)) for first, last in CHIPS]
    windows = tuple((float(piece[0]), float(piece[-1])) for piece in pieces)
    return Grid(np.concatenate(pieces), windows=windows)
