"""Normalised spectra of stars in the window of Gaia RVS, interpolated between computed ones."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.nn.radial import RadialNetwork
from draper.simulate.base import BLOCK, LABELS, Columns, Simulator, generator

NETWORK = "network."
"""Prefix of the network's tensors in the packed file."""


HOTTEST = ((1.4, 4900.0), (3.0, 5600.0))
"""Stars with logg below the first number are in the grid up to the teff that follows: no hot giants."""

ALPHA = ("mg_fe", "si_fe", "s_fe", "ca_fe", "ti_fe")
"""Elements that the grid moves together: a mean in ``ALPHA_MEAN``, and ``ALPHA_SCATTER`` about it."""
ALPHA_MEAN, ALPHA_SCATTER = (-0.1, 0.45), (-0.25, 0.25)
MOST_APART = 0.5
"""No two of these elements differ by more in the grid."""


def inputs_of(labels: Tensor, prior: LabelSet) -> Tensor:
    """Return the network's inputs (n, l) for labels (n, l): [-1, 1] in the box, teff as 1 / teff.

    Line strengths follow the Boltzmann factor, so 1 / teff is the smoother scale.
    """
    is_teff = torch.tensor([name == "teff" for name in prior.names], device=labels.device)
    low, high = (torch.as_tensor(end, device=labels.device) for end in (prior.low, prior.high))
    values, low, high = (torch.where(is_teff, 1 / x, x) for x in (labels, low, high))
    return 2 * (values - low) / (high - low) - 1


class Stars(Simulator):
    """The built-in emulator of the ``rvs-grid``: ten labels to normalised flux at intrinsic resolution.

    ``scripts/train_rvs_emulator.py`` makes its weights. What it makes carries the emulator's own error as
    ``ivar``: the rms, pixel by pixel, over spectra that it was not trained on. The column ``extrapolated``
    marks stars unlike all of the grid, which has no hot giants.

    Parameters
    ----------
    dtype
        Precision of the flux; its coefficients, where large numbers cancel, are always computed in float64.

    Attributes
    ----------
    uncertainty : ndarray (p,) float32
        Rms error over held-out spectra, normalised flux.
    meta : dict
        How it was trained and tested.

    Examples
    --------
    >>> stars = Stars()
    >>> stars.simulate(3, seed=1)
    Spectra(3 x 5241 px, normalised flux, 8452.322-8714.393 A vacuum, columns: 13)
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        with as_file(files("draper.simulate").joinpath("packed", "rvs-emulator.safetensors")) as path:
            tensors, self.meta = _unpacked(path)
        self.prior = LabelSet.from_json(self.meta["labels"])
        self.grid = Grid.from_wavelength(tensors["wavelength_air"].numpy(), medium="air")
        self.uncertainty: NDArray[np.float32] = tensors["uncertainty"].numpy()
        self.dtype = dtype
        self.mean, self.basis = tensors["mean"].to(dtype), tensors["basis"].to(dtype)
        state = {k.removeprefix(NETWORK): v for k, v in tensors.items() if k.startswith(NETWORK)}
        self.network = RadialNetwork(
            len(self.prior), len(state["outer"]), *(int(size) for size in state["weights"].shape)
        )
        self.network.load_state_dict(state)
        self.network.double().requires_grad_(False)

    def draw(self, n: int, seed: int, block: int) -> Columns:
        """Draw labels evenly from what the grid covers, which is less than its box."""
        random = generator(seed, LABELS, block)
        unit = random.uniform(size=(BLOCK, len(self.prior)))
        table = dict(zip(self.prior.names, self.prior.unscale(unit).T, strict=True))
        mean = random.uniform(*ALPHA_MEAN, size=BLOCK)
        table |= {name: mean + random.uniform(*ALPHA_SCATTER, size=BLOCK) for name in ALPHA}
        hottest = np.full(BLOCK, self.prior["teff"].high)
        for logg, teff in reversed(HOTTEST):
            hottest[table["logg"] < logg] = teff
        coolest = self.prior["teff"].low
        table["teff"] = coolest + unit[:, self.prior.names.index("teff")] * (hottest - coolest)
        return {name: values[:n] for name, values in table.items()}

    def extrapolates(self, labels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows of labels (n, l) are unlike all stars of the grid, in the box or not."""
        table = dict(zip(self.prior.names, labels.T, strict=True))
        elements = np.stack([table[name] for name in ALPHA])
        found = ~self.prior.inside(labels) | (np.ptp(elements, axis=0) > MOST_APART)
        for logg, teff in HOTTEST:
            found |= (table["logg"] < logg) & (table["teff"] > teff)
        return np.asarray(found)

    def flux(self, labels: Tensor) -> Tensor:
        """Return normalised flux (n, p) for labels (n, l) in physical units; differentiable."""
        return self.mean + self.coefficients(labels) @ self.basis

    def coefficients(self, labels: Tensor) -> Tensor:
        """Return the weights (n, k) of ``basis`` for labels (n, l) in physical units."""
        coefficients: Tensor = self.network(inputs_of(labels.double(), self.prior))
        return coefficients.to(self.dtype)

    def compute(self, labels: NDArray[np.float64], seed: int, block: int) -> Spectra:
        """Return the spectra of at most ``BLOCK`` rows of labels (n, l); nothing here is random."""
        missing = ~np.isfinite(labels).all(axis=0)
        if missing.any():
            raise DraperError(
                "a label is missing",
                given=", ".join(np.array(self.prior.names)[missing]),
                expected="a finite value in every row",
                hint="fill the column, or leave these rows out",
            )
        # A matrix product may round otherwise for another number of rows, so that number is always the same.
        full = np.concatenate([labels, np.repeat(labels[-1:], BLOCK - len(labels), axis=0)])
        with torch.inference_mode():
            flux = self.flux(torch.from_numpy(full))[: len(labels)].float().numpy()
        ivar = np.broadcast_to(self.uncertainty**-2.0, flux.shape)
        flags = {"extrapolated": self.extrapolates(labels)}
        return Spectra(self.grid, flux, ivar, table=flags, quantity="normalised flux", meta=self.meta)


def _unpacked(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return tensors, json.loads(file.metadata()["meta"])
