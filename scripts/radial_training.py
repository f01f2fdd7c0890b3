"""Training of a radial network on principal components of spectra, of the SED emulator."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from draper.data.grid import Grid
from draper.data.units import vacuum_to_air
from draper.nn.radial import RadialNetwork
from draper.simulate.interpolator import NETWORK

FloatArray = NDArray[np.float64]


def rms(error: FloatArray) -> FloatArray:
    """Return the rms (n,) of each row."""
    return np.asarray(np.sqrt(np.mean(error**2, axis=1)))


def summary(error: FloatArray) -> dict[str, float]:
    """Return the median and 99th percentile of the rms of each row."""
    return {"median": float(np.median(rms(error))), "p99": float(np.quantile(rms(error), 0.99))}


class Basis:
    """Principal components (k, p) of values (n, p): exact, and rounded as stored."""

    def __init__(self, values: FloatArray, components: int) -> None:
        self.mean = values.mean(axis=0)
        power, vectors = np.linalg.eigh((values - self.mean) @ (values - self.mean).T)
        size = np.sqrt(power[: -components - 1 : -1])
        self.exact = (vectors[:, : -components - 1 : -1].T @ (values - self.mean)) / size[:, None]
        self.components = self.exact.astype(np.float16)

    def coefficients(self, values: FloatArray) -> FloatArray:
        """Return the coefficients (n, k) of values in the rounded components, by least squares."""
        rounded = self.components.astype(np.float64)
        return np.asarray(np.linalg.solve(rounded @ rounded.T, rounded @ (values - self.mean).T).T)

    def values(self, coefficients: FloatArray) -> FloatArray:
        """Return the values (n, p) of coefficients (n, k)."""
        return np.asarray(self.mean + coefficients @ self.components.astype(np.float64))


@dataclass(frozen=True)
class Learning:
    """Options for learning the warp and the kernels.

    Attributes
    ----------
    start
        Initial inverse length scale of each input.
    hidden
        Number of tanh units in the warp.
    steps, rate
        Number of steps, and the initial learning rate, which falls over them.
    seed
        Seed of the random numbers.
    """

    start: tuple[float, ...]
    hidden: int
    steps: int
    rate: float
    seed: int


def fitted(
    x: Tensor, targets: Tensor, measures: Callable[[Tensor], dict[str, Tensor]], how: Learning
) -> RadialNetwork:
    """Return a network through points (m, d) with targets (m, k), trained on leave-one-out errors.

    ``measures`` turns errors (m, k) of the targets into named errors (m,); the mean sum is minimised.
    The network is rounded to float32, as it is stored.
    """
    torch.manual_seed(how.seed)
    network = RadialNetwork(x.shape[1], how.hidden, *targets.shape).double()
    with torch.no_grad():
        network.scale.copy_(torch.log(torch.tensor(how.start)))
    optimiser = torch.optim.Adam(network.parameters(), lr=how.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, how.steps)
    begun = time.perf_counter()
    for step in range(how.steps):
        errors = measures(network.left_out(x, targets))
        loss = torch.stack(list(errors.values())).sum(0).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 20 == 0 or step == how.steps - 1:
            shown = ", ".join(f"{name} {error.detach().mean():.3%}" for name, error in errors.items())
            print(f"{step:4d} {time.perf_counter() - begun:4.0f} s  left out: {shown}", flush=True)
    network.solve(x, targets)
    return network.float().double()


def pack(
    out: Path, grid: Grid, basis: Basis, pixels: FloatArray, network: RadialNetwork, meta: dict[str, Any]
) -> None:
    """Write a file for :class:`draper.simulate.interpolator.Interpolator`; ``pixels`` (p,) is its error."""
    edges = {} if grid.edges is None else {"edges_air": torch.from_numpy(vacuum_to_air(grid.edges))}
    tensors = {
        "wavelength_air": torch.from_numpy(grid.air),
        **edges,
        "mean": torch.from_numpy(basis.mean).float(),
        "basis": torch.from_numpy(basis.components),
        "uncertainty": torch.from_numpy(pixels).float(),
        **{NETWORK + name: value.float() for name, value in network.state_dict().items()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, out, metadata={"meta": json.dumps(meta)})
    print(f"{out}: {out.stat().st_size:,} bytes")
