"""Normalised spectra of stars in the window of Gaia RVS, interpolated between computed ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.labels import ALPHA
from draper.data.spectra import Spectra
from draper.simulate.base import BLOCK, LABELS, Columns, Simulator, generator
from draper.simulate.interpolator import Interpolator, beyond, evenly

ALPHA_MEAN, ALPHA_SCATTER = (-0.1, 0.45), (-0.25, 0.25)
"""Ranges [dex] of the mean of the alpha elements, which vary together in the grid, and of each about it."""

MAX_DIFFERENCE = 0.5
"""Largest difference [dex] between two of these elements in the grid."""


class Stars(Simulator):
    """The built-in emulator of the ``rvs-grid``: ten labels to normalised flux at intrinsic resolution.

    ``scripts/train_rvs_simulator.py`` makes its weights. Its spectra carry the emulator's own error as
    ``ivar``: the rms in each pixel over spectra that it was not trained on. The column ``extrapolated`` marks
    stars outside the region that the grid covers, which has no hot giants.

    Parameters
    ----------
    dtype
        Precision of the flux; coefficients are always computed in float64, since large numbers cancel.

    Attributes
    ----------
    mean, basis : Tensor (p,), (k, p)
        Mean spectrum and principal components.
    uncertainty : ndarray (p,) float32
        Rms error over held-out spectra, normalised flux.
    meta : dict
        Facts about training and test.

    Examples
    --------
    >>> stars = Stars()
    >>> stars.simulate(3, seed=1)
    Spectra(3 x 5241 px, normalised flux, 8452.322-8714.393 A vacuum, columns: 13)
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.interpolator = Interpolator("rvs-simulator", dtype)
        self.prior, self.grid = self.interpolator.prior, self.interpolator.grid
        self.mean, self.basis = self.interpolator.mean, self.interpolator.basis
        self.uncertainty, self.meta = self.interpolator.uncertainty, self.interpolator.meta

    def draw(self, n: int, seed: int, block: int) -> Columns:
        """Draw labels uniformly from the region that the grid covers, which is less than its box."""
        random = generator(seed, LABELS, block)
        table = evenly(self.prior, random)
        mean = random.uniform(*ALPHA_MEAN, size=BLOCK)
        table |= {name: mean + random.uniform(*ALPHA_SCATTER, size=BLOCK) for name in ALPHA}
        return {name: values[:n] for name, values in table.items()}

    def extrapolates(self, labels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows of labels (n, l) lie outside the region that the grid covers."""
        table = dict(zip(self.prior.names, labels.T, strict=True))
        elements = np.stack([table[name] for name in ALPHA])
        return np.asarray(beyond(self.prior, labels) | (np.ptp(elements, axis=0) > MAX_DIFFERENCE))

    def flux(self, labels: Tensor) -> Tensor:
        """Return normalised flux (n, p) for labels (n, l) in physical units; differentiable."""
        return self.interpolator.values(labels)

    def coefficients(self, labels: Tensor) -> Tensor:
        """Return the weights (n, k) of ``basis`` for labels (n, l) in physical units."""
        return self.interpolator.coefficients(labels)

    def compute(self, labels: NDArray[np.float64], seed: int, block: int) -> Spectra:
        """Return the spectra of at most ``BLOCK`` rows of labels (n, l); nothing here is random."""
        flux = self.interpolator.computed(self.flux, labels)
        ivar = np.broadcast_to(self.uncertainty**-2.0, flux.shape)
        flags = {"extrapolated": self.extrapolates(labels)}
        return Spectra(self.grid, flux, ivar, table=flags, quantity="normalised flux", meta=self.meta)
