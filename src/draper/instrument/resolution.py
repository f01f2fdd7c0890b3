"""Resolving powers: whether two are the same, and the Gaussian that broadens from one to the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data.grid import Grid
from draper.errors import DraperError

SAME = 0.01
"""Resolving powers that differ by at most this fraction are the same: files round them, and nothing shows."""


def resolving_power_of(grid: Grid) -> float | None:
    """Return the resolving power of a grid, its median where it varies; none if it is unknown."""
    return None if grid.resolving_power is None else float(np.median(grid.resolving_power))


def is_higher(power: ArrayLike, other: float) -> NDArray[np.bool_]:
    """Return whether a resolving power is higher than another one, and not the same within ``SAME``.

    Examples
    --------
    >>> is_higher([11_550, 11_650], 11_500)
    array([False,  True])
    """
    return np.asarray(power) > other * (1 + SAME)


def is_lower(power: ArrayLike, other: float) -> NDArray[np.bool_]:
    """Return whether a resolving power is lower than another one, and not the same within ``SAME``."""
    return np.asarray(power) < other * (1 - SAME)


def require_reachable(power: float | None, own: float | None) -> None:
    """Raise an error if spectra of a resolving power would be sharper than those a model was trained on."""
    if power is not None and own is not None and is_higher(power, own):
        raise DraperError(
            "spectra cannot be sharper than those that the model was trained on",
            given=f"R = {power:g}",
            expected=f"at most {own:g}",
            hint="broaden the spectra, or train on spectra of a higher resolving power",
        )
