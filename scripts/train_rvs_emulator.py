"""Train the emulator of normalised RVS spectra that draper.simulate.stars ships.

python scripts/train_rvs_emulator.py FOLDER [OUT]

FOLDER holds rvs_grid.npz (see pack_samples.py). The spectra are split into train, valid and test. The warp
and the kernels are learnt on train, and the choices in this file were made on valid. Then all is learnt
again on train and valid together, and test is looked at once.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from draper.data.labels import Label, LabelSet
from draper.nn.radial import RadialNetwork
from draper.simulate.stars import NETWORK, inputs_of
from pack_samples import rvs_grid

FloatArray = NDArray[np.float64]

PRIOR = LabelSet(
    [
        Label("teff", low=4000, high=7000),
        Label("logg", low=0.5, high=5),
        Label("fe_h", low=-2.5, high=0.5),
        Label("vmic", low=0.7, high=2.5),
        *(Label(f"{name}_fe", low=-0.35, high=0.7) for name in ("mg", "si", "s", "ca", "ti")),
        Label("ni_fe", low=-0.2, high=0.2),
    ]
)
"""The box that the labels of the grid fill."""

SPLIT, SEED = (0.7, 0.15), 0
"""Fractions of train and valid; the rest is test."""
RESOLVING_POWER = 11500.0
MARGIN = 10.0
"""Angstrom at each end of the window that errors at the resolution of RVS are not measured in."""

COMPONENTS, HIDDEN, STEPS, RATE = 200, 32, 160, 0.05
START = (0.6, 0.6, 0.7, 0.3, 0.15, 0.15, 0.15, 0.15, 0.15, 0.15)
"""Inverse length of each input at the start."""


def smoothed(flux: FloatArray, wavelength: FloatArray) -> FloatArray:
    """Return spectra (n, p) as RVS resolves them: a Gaussian in ln(lambda), ends left out."""
    sigma = 1 / (RESOLVING_POWER * np.sqrt(8 * np.log(2)))
    log = np.log(wavelength)
    keep = np.flatnonzero((wavelength >= wavelength[0] + MARGIN) & (wavelength <= wavelength[-1] - MARGIN))
    reach = int(np.ceil(5 * sigma / np.diff(log).min()))
    total, result = np.zeros(len(keep)), np.zeros((len(flux), len(keep)))
    for offset in range(-reach, reach + 1):
        weight = np.exp(-0.5 * ((log[keep + offset] - log[keep]) / sigma) ** 2)
        result += weight * flux[:, keep + offset]
        total += weight
    return result / total


def rms(error: FloatArray) -> FloatArray:
    """Return the rms (n,) of each row."""
    return np.asarray(np.sqrt(np.mean(error**2, axis=1)))


def summary(error: FloatArray) -> dict[str, float]:
    """Return the median and 99th percentile of the rms of each row."""
    return {"median": float(np.median(rms(error))), "p99": float(np.quantile(rms(error), 0.99))}


class Basis:
    """Principal components of spectra (n, p), and the metric of errors in them."""

    def __init__(self, flux: FloatArray, wavelength: FloatArray) -> None:
        self.mean = flux.mean(axis=0)
        power, vectors = np.linalg.eigh((flux - self.mean) @ (flux - self.mean).T)
        size = np.sqrt(power[: -COMPONENTS - 1 : -1])
        basis = (vectors[:, : -COMPONENTS - 1 : -1].T @ (flux - self.mean)) / size[:, None]
        self.components = basis.astype(np.float16)
        seen = smoothed(basis, wavelength)
        self.metric = np.linalg.cholesky(seen @ seen.T / seen.shape[1] + 1e-12 * np.eye(COMPONENTS))

    def coefficients(self, flux: FloatArray) -> FloatArray:
        """Return the coefficients (n, k) of spectra, by least squares as the components are rounded."""
        rounded = self.components.astype(np.float64)
        return np.asarray(np.linalg.solve(rounded @ rounded.T, rounded @ (flux - self.mean).T).T)

    def flux(self, coefficients: FloatArray) -> FloatArray:
        """Return the spectra (n, p) of coefficients (n, k)."""
        return np.asarray(self.mean + coefficients @ self.components.astype(np.float64))


def learn(network: RadialNetwork, x: Tensor, targets: Tensor, metric: Tensor, pixels: int) -> None:
    """Lower the mean leave-one-out rms, native plus as RVS resolves it."""
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    start = time.perf_counter()
    for step in range(STEPS):
        error = network.left_out(x, targets)
        native = (error.square().sum(1) / pixels).sqrt()
        resolved = (error @ metric).square().sum(1).sqrt()
        loss = (native + resolved).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 20 == 0 or step == STEPS - 1:
            shown = f"native {native.detach().mean():.3%}, rvs {resolved.detach().mean():.3%}"
            print(f"{step:4d} {time.perf_counter() - start:4.0f} s  left out: {shown}", flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "src/draper/simulate/packed/rvs-emulator.safetensors")
    torch.set_num_threads(1)
    spectra = rvs_grid(folder)
    flux, wavelength = spectra.flux.astype(np.float64), spectra.grid.air
    x = inputs_of(torch.from_numpy(PRIOR.read(spectra.table)), PRIOR)
    train, valid, test = spectra.split_rows(*SPLIT, seed=SEED)

    def errors(network: RadialNetwork, basis: Basis, rows: NDArray[np.int64]) -> dict[str, Any]:
        with torch.no_grad():
            made = basis.flux(network(x[rows]).numpy())
        return {
            "native": summary(made - flux[rows]),
            "rvs": summary(smoothed(made, wavelength) - smoothed(flux[rows], wavelength)),
            "pixels": np.sqrt(np.mean((made - flux[rows]) ** 2, axis=0)),
        }

    def fitted(rows: NDArray[np.int64]) -> tuple[RadialNetwork, Basis]:
        torch.manual_seed(SEED)
        basis = Basis(flux[rows], wavelength)
        network = RadialNetwork(len(PRIOR), HIDDEN, len(rows), COMPONENTS).double()
        with torch.no_grad():
            network.scale.copy_(torch.log(torch.tensor(START)))
        targets = torch.from_numpy(basis.coefficients(flux[rows]))
        learn(network, x[rows], targets, torch.from_numpy(basis.metric), len(wavelength))
        network.solve(x[rows], targets)
        return network.float().double(), basis  # rounded, as they are kept

    def report(name: str, found: dict[str, Any]) -> None:
        for where in ("native", "rvs"):
            print(f"{name} {where}: median {found[where]['median']:.4%}, p99 {found[where]['p99']:.4%}")

    report("valid", errors(*fitted(train), valid))
    start = time.process_time()
    network, basis = fitted(np.sort(np.concatenate([train, valid])))
    seconds = time.process_time() - start
    held_out = errors(network, basis, test)
    report("test", held_out)

    meta = {
        "source": "rvs-emulator",
        "trained_on": dict(spectra.meta),
        "labels": PRIOR.to_json(),
        "split": {"fractions": SPLIT, "seed": SEED, "rows": [len(train), len(valid), len(test)]},
        "held_out_error": {
            "what": "per-spectrum rms of normalised flux, test part; rvs = at this resolving power",
            "resolving_power": RESOLVING_POWER,
            "native": held_out["native"],
            "rvs": held_out["rvs"],
        },
        "cpu_seconds": round(seconds),
        "licence": "BSD-3-Clause",
    }
    tensors = {
        "wavelength_air": torch.from_numpy(wavelength),
        "mean": torch.from_numpy(basis.mean).float(),
        "basis": torch.from_numpy(basis.components),
        "uncertainty": torch.from_numpy(held_out["pixels"]).float(),
        **{NETWORK + name: value.float() for name, value in network.state_dict().items()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, out, metadata={"meta": json.dumps(meta)})
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
