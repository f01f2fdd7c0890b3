"""Exposures of the same stars: their data, and the sum of their chi2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.spectra import Spectra, lacks_errors
from draper.infer.least_squares import Normal, Problem
from draper.infer.pixels import PixelProblem
from draper.nn.precision import bfloat16_helps

BEST = 3000.0
"""Signal-to-noise ratio, at first, of spectra whose errors are unknown: more than any of them has."""

LARGEST = 1e19
"""Root of the largest weight of a pixel."""

CACHED = 64
"""Spectra that are processed together: few stay in the processor's cache."""


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
    lacks_errors : ndarray (n,) bool, optional
        Spectra whose errors are not known, and fitted as a jitter.
    """

    wavelength: NDArray[np.float64]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    windows: tuple[tuple[float, float], ...] = ()
    lacks_errors: NDArray[np.bool_] | None = None

    def without_errors(self) -> Tensor:
        """Return which spectra (n,) lack errors."""
        n = len(self.flux)
        return torch.zeros(n).bool() if self.lacks_errors is None else torch.from_numpy(self.lacks_errors)

    @classmethod
    def of(cls, spectra: Spectra) -> Self:
        """Return the exposure of spectra; pieces between gaps have a continuum each.

        Where no errors are known they are tiny at first: the residuals add to them.
        """
        flux, ivar, lacks = spectra.flux, spectra.ivar, lacks_errors(spectra)
        if lacks.any():
            unknown = lacks[:, None] & (ivar == 1)
            level = np.nanmedian(np.where(unknown, np.abs(flux), np.nan)[lacks], axis=1, keepdims=True)
            weight = np.zeros_like(ivar)
            # Weights of 32 bits end at 3e38, and residuals are squared: fluxes may be as small as 1e-16.
            weight[lacks] = (BEST / np.maximum(level, BEST / LARGEST)) ** 2
            ivar = np.where(unknown, weight, ivar)
        return cls(spectra.grid.vacuum, flux, ivar, piece_ranges(spectra.grid), lacks)


@dataclass(frozen=True)
class ExposureTensors:
    """An exposure as tensors.

    ``rv`` (n,) are velocities at the start of the fit; ``spread`` (n,) is the model's error over its usual
    error; ``level`` (n, q) is a rough continuum; ``precision`` (n, k, k) is the inverse covariance of the
    amplitudes of common errors in units of ``spread``, None if these are independent with variances of 1.
    """

    observed: Tensor
    flux: Tensor
    ivar: Tensor
    windows: tuple[tuple[float, float], ...]
    rv: Tensor
    spread: Tensor
    level: Tensor
    precision: Tensor | None = None


def piece_ranges(grid: Grid) -> tuple[tuple[float, float], ...]:
    """Return the first and the last wavelength of each piece of a grid."""
    pieces = (grid.vacuum[piece] for piece in grid.segments())
    return tuple((float(piece[0]), float(piece[-1])) for piece in pieces)


def row_slices(n: int) -> list[slice]:
    """Return slices of rows that are processed together, at least one."""
    return [slice(start, start + CACHED) for start in range(0, max(n, 1), CACHED)]


class JointProblem(Problem):
    """The sum of the chi2 of exposures of the same stars.

    Parameters are labels, then the velocities (one for all exposures, or one for each), then widths.

    Parameters
    ----------
    parts
        The problem of each exposure or arm.
    shared
        Whether all exposures have one velocity.
    """

    chunk = 32

    def __init__(self, parts: Sequence[PixelProblem], *, shared: bool) -> None:
        self.parts, self.rows, self.rough = parts, parts[0].rows, bfloat16_helps()
        layout = parts[0].layout
        d, velocities = layout.labels, (1 if shared else len(parts)) if layout.rv else 0
        self.size = d + velocities + len(layout.widths)
        self.names = (
            *(["rv"] if velocities == 1 else [f"rv_{number + 1}" for number in range(velocities)]),
            *layout.widths,
        )
        self.places = [
            torch.tensor(
                [
                    *range(d),
                    *([d + (0 if shared else number)] if layout.rv else []),
                    *range(d + velocities, self.size),
                ]
            )
            for number in range(len(parts))
        ]

    @property
    def each(self) -> list[tuple[PixelProblem, Tensor]]:
        """The parts, and the places (l,) of their parameters."""
        return list(zip(self.parts, self.places, strict=True))

    def freedom(self) -> Tensor:
        """Return how many pixels (n,) there are beyond the coefficients of the continuum."""
        known = sum(0 if part.continuum is None else len(part.continuum) for part in self.parts)
        return torch.stack([(part.ivar > 0).sum(1) for part in self.parts]).sum(0) - known

    def normal(self, x: Tensor, rows: Tensor, *, rough: bool = False) -> Normal:
        """Return the normal equations of some rows (k,) at parameters (k, m)."""
        k = len(x)
        chi2 = torch.zeros(k, dtype=torch.float64)
        gradient = torch.zeros(k, self.size, dtype=torch.float64)
        curvature = torch.zeros(k, self.size, self.size, dtype=torch.float64)
        for part, place in self.each:
            own = part.normal(x[:, place], rows, rough=rough)
            chi2 += own.chi2.double()
            gradient[:, place] += own.gradient.double()
            curvature[:, place[:, None], place] += own.curvature.double()
        return Normal(chi2, gradient, curvature)

    def chi2_and_gradient(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return chi2 (k,) and its gradient (k, m) alone."""
        chi2 = torch.zeros(len(x), dtype=torch.float64)
        gradient = torch.zeros(len(x), self.size, dtype=torch.float64)
        for part, place in self.each:
            own_chi2, own_gradient = part.chi2_and_gradient(x[:, place], rows)
            chi2 += own_chi2.double()
            gradient[:, place] += own_gradient.double()
        return chi2, gradient
