"""Normalised spectra of stars in the window of Gaia RVS, interpolated between computed ones."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import ALPHA, Label, LabelSet
from draper.data.spectra import Spectra
from draper.nn.radial_emulator import RadialEmulator
from draper.simulate.base import BLOCK, LABELS, Columns, Simulator, generator
from draper.simulate.interpolator import beyond, computed, evenly

ALPHA_MEAN, ALPHA_SCATTER = (-0.1, 0.45), (-0.25, 0.25)
"""Ranges [dex] of the mean of the alpha elements, which vary together in the grid, and of each about it."""

PRIOR = LabelSet(
    [
        Label("teff", low=4000, high=7000),
        Label("logg", low=0.5, high=5),
        Label("fe_h", low=-2.5, high=0.5),
        Label("vmic", low=0.7, high=2.5),
        *(Label(name, low=-0.35, high=0.7) for name in ALPHA),
        Label("ni_fe", low=-0.2, high=0.2),
    ]
)
"""Ranges of the labels that the grid was drawn from; those of its spectra end a little earlier."""

MODULE = "module."
"""Prefix of the network's arrays in an artifact."""

MAX_DIFFERENCE = 0.5
"""Largest difference [dex] between two of these elements in the grid."""


class Stars(Simulator):
    """The built-in emulator of the ``rvs-grid``: ten labels to normalised flux at intrinsic resolution.

    It is ``builtin:rvs-emulator``, which fits use, too; ``scripts/train_builtin_emulator.py`` makes it. Its
    spectra carry the emulator's own error as ``ivar``: in each pixel the usual one of spectra that it was not
    trained on. The column ``extrapolated`` marks stars outside the region that the grid covers, which has no
    hot giants.

    Parameters
    ----------
    dtype
        Precision of the flux; coefficients are always computed in float64, since large numbers cancel.

    Attributes
    ----------
    mean, basis : Tensor (p,), (k, p)
        Mean spectrum and principal components.
    uncertainty : ndarray (p,) float32
        Error of unseen spectra, normalised flux.
    meta : dict
        Facts about training and cross-validation.

    Examples
    --------
    >>> stars = Stars()
    >>> stars.simulate(3, seed=1)
    Spectra(3 x 5241 px, normalised flux, 8452.322-8714.393 A vacuum, columns: 13)
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        # Read here, not by models.artifact: models stand above simulators.
        with as_file(files("draper.models").joinpath("packed", "rvs-emulator")) as folder:
            facts = json.loads((folder / "model.json").read_text())
            state = _module_state(folder / "weights.safetensors")
        learnt = LabelSet.from_json(facts["labels"])
        self.prior, self.grid = PRIOR, Grid.from_json(facts["grid"])
        self.low, self.high = torch.from_numpy(learnt.low), torch.from_numpy(learnt.high)
        config = facts["config"]
        self.network = RadialEmulator(
            len(self.prior),
            len(self.grid),
            bends=config["bends"],
            kernels=config["kernels"],
            components=len(state["basis"]),
        )
        self.network.load_state_dict(state)
        self.network.requires_grad_(False)
        self.dtype = dtype
        self.mean, self.basis = self.network.mean.to(dtype), self.network.basis.to(dtype)
        self.uncertainty: NDArray[np.float32] = self.network.uncertainty.numpy()
        training = facts["training"]
        self.meta = {
            "source": "rvs-emulator",
            "trained_on": training["trained_on"],
            "held_out_error": training["cross_validation"],
            "licence": "BSD-3-Clause",
        }

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
        return self.mean + self.coefficients(labels) @ self.basis

    def coefficients(self, labels: Tensor) -> Tensor:
        """Return the weights (n, k) of ``basis`` for labels (n, l) in physical units."""
        low, high = self.low.to(labels.device), self.high.to(labels.device)
        return self.network.hidden((labels.double() - low) / (high - low) - 0.5).to(self.dtype)

    def compute(self, labels: NDArray[np.float64], seed: int, block: int) -> Spectra:
        """Return the spectra of at most ``BLOCK`` rows of labels (n, l); nothing here is random."""
        flux = computed(self.flux, labels)
        ivar = np.broadcast_to(self.uncertainty**-2.0, flux.shape)
        flags = {"extrapolated": self.extrapolates(labels)}
        return Spectra(self.grid, flux, ivar, table=flags, quantity="normalised flux", meta=self.meta)


def _module_state(path: Path) -> dict[str, Tensor]:
    """Return the arrays of the network of an artifact."""
    from safetensors.torch import load_file

    return {
        name.removeprefix(MODULE): array for name, array in load_file(path).items() if name.startswith(MODULE)
    }
