"""What is fitted: exposures as they are given, and as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CACHED = 64
"""Spectra that are prepared together."""


@dataclass(frozen=True)
class Exposure:
    """Data of n stars on q pixels; those without weight may hold anything.

    Attributes
    ----------
    wavelength : ndarray (q,)
        Vacuum Angstrom.
    flux, ivar : ndarray (n, q)
    windows
        Parts of the spectrum that have a continuum of their own, unless the options name windows.
    """

    wavelength: NDArray[np.float64]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    windows: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Data:
    """An exposure as tensors.

    Velocities ``rv`` (n,) are those at the start; ``spread`` (n,) is how many times its usual error the
    emulator makes; ``level`` (n, q) is a rough continuum.
    """

    observed: Tensor
    flux: Tensor
    ivar: Tensor
    windows: tuple[tuple[float, float], ...]
    rv: Tensor
    spread: Tensor
    level: Tensor


def rows_of(n: int) -> list[slice]:
    """Return slices of rows that are looked at together, at least one; few stay in the processor's cache."""
    return [slice(start, start + CACHED) for start in range(0, max(n, 1), CACHED)]
