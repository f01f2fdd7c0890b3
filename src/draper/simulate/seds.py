"""Spectral energy distributions of stars, interpolated between computed ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.spectra import Spectra
from draper.simulate.base import LABELS, Columns, Simulator, generator
from draper.simulate.interpolator import Interpolator, beyond, computed, evenly


class Seds(Simulator):
    """The built-in emulator of the ``sed-grid``: four labels to the flux that leaves a star's surface.

    ``scripts/train_sed_emulator.py`` makes its weights. It interpolates ln(flux), so no flux is negative.
    Its spectra carry the emulator's own error as ``ivar``: the rms in each pixel, relative to the flux, over
    spectra that it was not trained on. The column ``extrapolated`` marks stars outside the region that the
    grid covers, which has no hot giants. Pixels are bins with known edges (``grid.edges``).

    Parameters
    ----------
    dtype
        Precision of the flux; coefficients are always computed in float64, since large numbers cancel.

    Attributes
    ----------
    uncertainty : ndarray (p,) float32
        Rms of the relative error over held-out spectra.
    unit : str
        Unit of the flux.
    meta : dict
        Facts about training and test.

    Examples
    --------
    >>> seds = Seds()
    >>> seds.simulate(3, seed=1).flux.shape
    (3, 367)
    >>> seds.grid.edges[0].round(2)
    array([3250.94, 3270.94])
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.interpolator = Interpolator("sed-emulator", dtype)
        self.prior, self.grid = self.interpolator.prior, self.interpolator.grid
        self.uncertainty, self.meta = self.interpolator.uncertainty, self.interpolator.meta
        self.unit: str = self.meta["unit"]

    def draw(self, n: int, seed: int, block: int) -> Columns:
        """Draw labels uniformly from the region that the grid covers, which is less than its box."""
        table = evenly(self.prior, generator(seed, LABELS, block))
        return {name: values[:n] for name, values in table.items()}

    def extrapolates(self, labels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows of labels (n, l) lie outside the region that the grid covers."""
        return beyond(self.prior, labels)

    def flux(self, labels: Tensor) -> Tensor:
        """Return surface flux (n, p) for labels (n, l) in physical units; differentiable."""
        return self.interpolator.values(labels).exp()

    def compute(self, labels: NDArray[np.float64], seed: int, block: int) -> Spectra:
        """Return the spectra of at most ``BLOCK`` rows of labels (n, l); nothing here is random."""
        flux = computed(self.flux, labels)
        ivar = (self.uncertainty * flux) ** -2.0
        flags = {"extrapolated": self.extrapolates(labels)}
        return Spectra(self.grid, flux, ivar, table=flags, quantity="flux", unit=self.unit, meta=self.meta)
