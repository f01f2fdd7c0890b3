"""Interpolation between computed spectra, shared by the emulators that draper ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.nn.radial import RadialNetwork
from draper.simulate.base import BLOCK, Columns, padded

NETWORK = "network."
"""Prefix of the network's tensors in the packed file."""

HOTTEST = ((1.4, 4900.0), (3.0, 5600.0))
"""Pairs (logg, teff): below this logg the grids end at this teff, since they have no hot giants."""


def hottest(logg: NDArray[np.float64], otherwise: float) -> NDArray[np.float64]:
    """Return the highest teff (n,) of the grids at logg (n,); ``otherwise`` where nothing is missing.

    Examples
    --------
    >>> hottest(np.array([1.0, 2.0, 4.5]), 7000.0)
    array([4900., 5600., 7000.])
    """
    return np.select([logg < end for end, _ in HOTTEST], [teff for _, teff in HOTTEST], otherwise)


def evenly(prior: LabelSet, random: np.random.Generator) -> Columns:
    """Draw a block of labels uniformly from the region that the grids cover, which is less than their box."""
    unit = random.uniform(size=(BLOCK, len(prior)))
    table = dict(zip(prior.names, prior.unscale(unit).T, strict=True))
    coolest, highest = prior["teff"].low, hottest(table["logg"], prior["teff"].high)
    table["teff"] = coolest + unit[:, prior.names.index("teff")] * (highest - coolest)
    return table


def beyond(prior: LabelSet, labels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows of labels (n, l) are not covered by the grids, in the box or not."""
    teff, logg = (labels[:, prior.names.index(name)] for name in ("teff", "logg"))
    return np.asarray(~prior.inside(labels) | (teff > hottest(logg, prior["teff"].high)))


def inputs_of(labels: Tensor, prior: LabelSet) -> Tensor:
    """Return the network's inputs (n, l) for labels (n, l): [-1, 1] in the box, teff as 1 / teff.

    Line strengths follow the Boltzmann factor, so 1 / teff is the smoother scale.
    """
    is_teff = torch.tensor([name == "teff" for name in prior.names], device=labels.device)
    low, high = (torch.as_tensor(end, device=labels.device) for end in (prior.low, prior.high))
    # The inner choice avoids 1 / 0: an abundance of exactly 0 would have a gradient of NaN.
    values, low, high = (
        torch.where(is_teff, 1 / torch.where(is_teff, x, 1.0), x) for x in (labels, low, high)
    )
    return 2 * (values - low) / (high - low) - 1


def computed(function: Callable[[Tensor], Tensor], labels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the values of a function at up to ``BLOCK`` rows of labels (n, l), as float32."""
    with torch.inference_mode():
        values: NDArray[np.float32] = (
            function(torch.from_numpy(padded(labels)))[: len(labels)].float().numpy()
        )
    return values


class Interpolator:
    """A packed network from labels to principal components of spectra, trained by ``scripts/train_*.py``.

    Parameters
    ----------
    name
        Name of the file, such as ``sed-emulator``.
    dtype
        Precision of the values; coefficients are always computed in float64, since large numbers cancel.

    Attributes
    ----------
    prior : LabelSet
        The labels, and the box that the training spectra fill.
    grid : Grid
        Pixels.
    mean, basis : Tensor (p,), (k, p)
        Mean spectrum and principal components; values are ``mean + coefficients @ basis``.
    uncertainty : ndarray (p,) float32
        Rms error over held-out spectra, in the unit of the values.
    meta : dict
        Facts about training and test.

    Examples
    --------
    >>> Interpolator("sed-emulator").values(torch.tensor([[5777.0, 4.44, 0.0, 0.0]])).shape
    torch.Size([1, 367])
    """

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        packed = files("draper.simulate").joinpath("packed", f"{name}.safetensors")
        with as_file(packed) as path:
            tensors, self.meta = _unpacked(path)
        self.prior = LabelSet.from_json(self.meta["labels"])
        edges = tensors["edges_air"].numpy() if "edges_air" in tensors else None
        self.grid = Grid.from_wavelength(tensors["wavelength_air"].numpy(), medium="air", edges=edges)
        self.uncertainty: NDArray[np.float32] = tensors["uncertainty"].numpy()
        self.dtype = dtype
        self.mean, self.basis = tensors["mean"].to(dtype), tensors["basis"].to(dtype)
        state = {k.removeprefix(NETWORK): v for k, v in tensors.items() if k.startswith(NETWORK)}
        self.network = RadialNetwork(
            len(self.prior), len(state["outer"]), *(int(size) for size in state["weights"].shape)
        )
        self.network.load_state_dict(state)
        self.network.double().requires_grad_(False)

    def coefficients(self, labels: Tensor) -> Tensor:
        """Return the weights (n, k) of ``basis`` for labels (n, l) in physical units."""
        coefficients: Tensor = self.network(inputs_of(labels.double(), self.prior))
        return coefficients.to(self.dtype)

    def values(self, labels: Tensor) -> Tensor:
        """Return interpolated values (n, p) for labels (n, l) in physical units; differentiable."""
        return self.mean + self.coefficients(labels) @ self.basis


def _unpacked(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return tensors, json.loads(file.metadata()["meta"])
