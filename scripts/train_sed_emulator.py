"""Train the emulator of spectral energy distributions that draper.simulate.seds ships.

python scripts/train_sed_emulator.py [OUT]

The spectra are those of the built-in sample sed-grid. A fifth of them is the test set, used once. Settings in
this file were chosen on the rest: by five-fold cross-validation, and on the part called valid.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from draper.data import samples
from draper.data.labels import Label, LabelSet
from draper.nn.radial import RadialNetwork
from draper.simulate.interpolator import inputs_of
from radial_training import Basis, FloatArray, Learning, fitted, pack, rms, summary

PRIOR = LabelSet(
    [
        Label("teff", low=4300, high=7500),
        Label("logg", low=0.5, high=5),
        Label("fe_h", low=-2.5, high=0.5),
        Label("alpha_fe", low=-0.1, high=0.45),
    ]
)
"""Ranges of the labels of the grid."""

SPLIT, SEED = (0.6, 0.2), 0
"""Fractions of train and valid; the rest is test."""

COMPONENTS = 60
HOW = Learning(start=(0.6, 0.4, 0.5, 0.2), hidden=8, steps=300, rate=0.05, seed=SEED)

REGIONS = {
    "teff": (4300, 4600, 5000, 5500, 6000, 6500, 7500),
    "logg": (0.5, 1.5, 3, 4, 5),
    "fe_h": (-2.5, -1.5, -0.5, 0, 0.25, 0.5),
}
"""Subsets of the test set that are printed separately."""

Model = Callable[[Tensor], FloatArray]
"""A function from inputs (n, l) to ln(flux) (n, p)."""


def miss(error: Tensor, pixels: int) -> Tensor:
    """Return the rms (n,) over pixels of errors (n, k) of the coefficients."""
    return (error.square().sum(1) / pixels).sqrt()


def radial(x: Tensor, y: FloatArray, how: Learning = HOW) -> tuple[RadialNetwork, Basis]:
    """Return the network from inputs (n, l) to components of ln(flux) (n, p), and the components."""
    basis = Basis(y, COMPONENTS)
    targets = torch.from_numpy(basis.coefficients(y))
    return fitted(x, targets, lambda error: {"relative flux": miss(error, y.shape[1])}, how), basis


def model_of(network: nn.Module, basis: Basis) -> Model:
    """Return the model of a network that predicts the coefficients of a basis."""

    def model(x: Tensor) -> FloatArray:
        with torch.no_grad():
            return basis.values(network(x).numpy())

    return model


def polynomial(x: Tensor, y: FloatArray, degree: int) -> Model:
    """Return the least-squares polynomial of all inputs for ln(flux)."""

    def terms(inputs: Tensor) -> FloatArray:
        orders = range(degree + 1)
        powers = [c for order in orders for c in combinations_with_replacement(range(inputs.shape[1]), order)]
        return np.stack([np.prod(inputs.numpy()[:, list(power)], axis=1) for power in powers], axis=1)

    weights = np.linalg.lstsq(terms(x), y, rcond=None)[0]
    return lambda inputs: np.asarray(terms(inputs) @ weights)


def perceptron(x: Tensor, y: FloatArray, units: int = 64, steps: int = 3000) -> Model:
    """Return a network of two hidden layers for the same components, trained by gradient descent."""
    torch.manual_seed(SEED)
    basis = Basis(y, COMPONENTS)
    targets = torch.from_numpy(basis.coefficients(y))
    size = targets.std(0)
    last = nn.Linear(units, COMPONENTS)
    network = nn.Sequential(nn.Linear(x.shape[1], units), nn.SiLU(), nn.Linear(units, units), nn.SiLU(), last)
    network.double()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        loss = miss(network(x) * size - targets, y.shape[1]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        last.weight.mul_(size[:, None])
        last.bias.mul_(size)
    return model_of(network, basis)


def baselines(x: Tensor, y: FloatArray) -> dict[str, Model]:
    """Return the baselines that the emulator must improve on."""
    plain = replace(HOW, steps=0)
    return {
        **{f"polynomial, degree {degree}": polynomial(x, y, degree) for degree in (2, 3, 4, 5)},
        "perceptron": perceptron(x, y),
        "radial, nothing learnt": model_of(*radial(x, y, plain)),
    }


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "src/draper/simulate/packed/sed-emulator.safetensors")
    torch.set_num_threads(1)
    spectra = samples.load("sed-grid")
    labels, y = PRIOR.read(spectra.table), np.log(spectra.flux.astype(np.float64))
    x = inputs_of(torch.from_numpy(labels), PRIOR)
    train, valid, test = spectra.split_rows(*SPLIT, seed=SEED)
    rest = np.sort(np.concatenate([train, valid]))

    def error(model: Model, rows: NDArray[np.int64]) -> FloatArray:
        """Return the relative error (n, p) of the flux."""
        return np.asarray(np.expm1(model(x[rows]) - y[rows]))

    def show(name: str, found: FloatArray) -> None:
        row = summary(found)
        print(f"{name:30s} n {len(found):3d}  median {row['median']:.3%}  p99 {row['p99']:.3%}", flush=True)

    show("valid: emulator", error(model_of(*radial(x[train], y[train])), valid))
    for name, model in baselines(x[train], y[train]).items():
        show(f"valid: {name}", error(model, valid))

    network, basis = radial(x[rest], y[rest])
    missed = error(model_of(network, basis), test)
    show("test: emulator", missed)
    for name, model in baselines(x[rest], y[rest]).items():
        show(f"test: {name}", error(model, test))
    for name, ends in REGIONS.items():
        values = labels[test, PRIOR.names.index(name)]
        for low, high in pairwise(ends):
            show(f"test: {name} {low:g} to {high:g}", missed[(values >= low) & (values < high)])

    what = "per-spectrum rms of the relative error of flux, test part"
    meta = {
        "source": "sed-emulator",
        "trained_on": dict(spectra.meta),
        "labels": PRIOR.to_json(),
        "unit": spectra.unit,
        "split": {"fractions": SPLIT, "seed": SEED, "rows": [len(train), len(valid), len(test)]},
        "held_out_error": {"what": what, **summary(missed)},
        "licence": "BSD-3-Clause",
    }
    pack(out, spectra.grid, basis, rms(missed.T), network, meta)


if __name__ == "__main__":
    main()
