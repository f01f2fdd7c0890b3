"""Train the network of draper.simulate.stars, which interpolates normalised RVS spectra.

python scripts/train_rvs_simulator.py FOLDER [OUT]

FOLDER holds rvs_grid.npz (see pack_samples.py). The spectra are split into train, valid and test. The warp
and the kernels are learnt on train, and the settings in this file were chosen on valid. Then everything is
learnt again on train and valid together, and test is used once.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.labels import Label, LabelSet
from draper.nn.radial import RadialNetwork
from draper.simulate.interpolator import inputs_of
from pack_samples import rvs_grid
from radial_training import Basis, FloatArray, Learning, fitted, pack, summary

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
"""Ranges of the labels of the grid."""

SPLIT, SEED = (0.7, 0.15), 0
"""Fractions of train and valid; the rest is test."""
RESOLVING_POWER = 11500.0
MARGIN = 10.0
"""Margin [Angstrom] at each end of the window that is excluded from errors at the resolution of RVS."""

COMPONENTS = 200
HOW = Learning(
    start=(0.6, 0.6, 0.7, 0.3, 0.15, 0.15, 0.15, 0.15, 0.15, 0.15), hidden=32, steps=160, rate=0.05, seed=SEED
)


def smoothed(flux: FloatArray, wavelength: FloatArray) -> FloatArray:
    """Return spectra (n, p) convolved to the resolution of RVS, Gaussian in ln(lambda), without ends."""
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


def main() -> None:
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "src/draper/simulate/packed/rvs-simulator.safetensors")
    torch.set_num_threads(1)
    spectra = rvs_grid(folder)
    flux, wavelength = spectra.flux.astype(np.float64), spectra.grid.air
    x = inputs_of(torch.from_numpy(PRIOR.read(spectra.table)), PRIOR)
    train, valid, test = spectra.split_rows(*SPLIT, seed=SEED)

    def errors(network: RadialNetwork, basis: Basis, rows: NDArray[np.int64]) -> dict[str, Any]:
        with torch.no_grad():
            made = basis.values(network(x[rows]).numpy())
        return {
            "native": summary(made - flux[rows]),
            "rvs": summary(smoothed(made, wavelength) - smoothed(flux[rows], wavelength)),
            "pixels": np.sqrt(np.mean((made - flux[rows]) ** 2, axis=0)),
        }

    def learnt(rows: NDArray[np.int64]) -> tuple[RadialNetwork, Basis]:
        basis = Basis(flux[rows], COMPONENTS)
        seen = smoothed(basis.exact, wavelength)
        metric = np.linalg.cholesky(seen @ seen.T / seen.shape[1] + 1e-12 * np.eye(COMPONENTS))
        resolved = torch.from_numpy(metric)

        def measures(error: Tensor) -> dict[str, Tensor]:
            """Return the rms (n,) of errors (n, k) of coefficients: native, and at the resolution of RVS."""
            return {
                "native": (error.square().sum(1) / len(wavelength)).sqrt(),
                "rvs": (error @ resolved).square().sum(1).sqrt(),
            }

        targets = torch.from_numpy(basis.coefficients(flux[rows]))
        return fitted(x[rows], targets, measures, HOW), basis

    def report(name: str, found: dict[str, Any]) -> None:
        for where in ("native", "rvs"):
            print(f"{name} {where}: median {found[where]['median']:.4%}, p99 {found[where]['p99']:.4%}")

    report("valid", errors(*learnt(train), valid))
    start = time.process_time()
    network, basis = learnt(np.sort(np.concatenate([train, valid])))
    seconds = time.process_time() - start
    held_out = errors(network, basis, test)
    report("test", held_out)

    meta = {
        "source": "rvs-simulator",
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
    pack(out, spectra.grid, basis, held_out["pixels"], network, meta)


if __name__ == "__main__":
    main()
