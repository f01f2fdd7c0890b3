"""How exactly emulators learn the same spectra in the same CPU seconds, one thread.

Two sets: the made one of ``structured.py`` (25 labels, 7,214 pixels, no noise) and the built-in ``rvs-grid``
(10 labels, 5,241 pixels). Validation spectra serve early stopping; errors are those on test spectra, which
choose nothing. The forms and recipes of the peers were written anew from what they publish:

- The Payne: 300-300, leaky ReLU, RAdam at a constant 1e-4, batches of 512, mean absolute error times 1e4,
  the best of validations every 100 epochs.
- one_payne: three layers of 1024, SiLU, a sigmoid at the end, AdamW at 1e-3 with weight decay 1e-3, batches
  of 4096, mean squared error, a cosine schedule. Its own is 200,000 steps long, and would not begin to fall;
  here it is as long as the budget. The best of ten validations.

"draper's training" is the same form with what draper does instead: Adam at 1e-2 falling to nothing; where
the output is linear, components and the last layer solved at the end; where it is bounded, a ridge start.
Models of draper are trained through the public API; their CPU seconds hold all of it. ``--spectra`` draws the
curve with the number of training spectra, of rows named by ``--rows``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import structured
from draper.configs.train import TrainConfig
from draper.data import samples
from draper.data.spectra import Spectra
from draper.models.emulator.model import Emulator
from draper.nn.precision import fastest_mode, matmul_mode
from draper.nn.readout import Ridge
from report import arguments, report

TRAIN, VALID, TEST = 5120, 880, 880
"""Spectra of the structured set."""

Array = NDArray[np.float32]
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Data:
    """Spectra for training, for choices and for the test."""

    train: Spectra
    valid: Spectra
    test: Spectra
    labels: tuple[str, ...]

    def few(self, n: int) -> Data:
        """Return the same with n training spectra."""
        return replace(self, train=self.train[:n])

    def tensors(self, part: Spectra) -> tuple[Tensor, Tensor]:
        """Return labels, scaled to -0.5 to 0.5 by the training part, and flux."""
        values = self.train.columns(self.labels)
        low, high = values.min(0), values.max(0)
        x = (part.columns(self.labels) - low) / (high - low) - 0.5
        return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(np.array(part.flux))


def structured_set() -> Data:
    x, flux = structured.make(TRAIN + VALID + TEST)
    spectra = Spectra(structured.grid(), flux, table=dict(zip(structured.NAMES, x.T, strict=True)))
    ends = (slice(0, TRAIN), slice(TRAIN, TRAIN + VALID), slice(TRAIN + VALID, None))
    train, valid, test = (spectra[rows] for rows in ends)
    return Data(train, valid, test, structured.NAMES)


def rvs_set() -> Data:
    spectra = samples.load("rvs-grid")
    train, valid, test = spectra.split(0.7, 0.15, seed=0)
    labels = tuple(name for name in spectra.table if name != "id")
    # A random order, since the curve takes the first ones.
    return Data(train[np.random.default_rng(0).permutation(len(train))], valid, test, labels)


SETS = {"structured": structured_set, "rvs-grid": rvs_set}


# ------------------------------------------------------------------- baselines


def mean_spectrum(data: Data, seconds: float) -> Predict:
    mean = data.tensors(data.train)[1].mean(0)
    return lambda x: mean.expand(len(x), -1)


def polynomial(degree: int) -> Callable[[Data, float], Predict]:
    def features(x: Tensor) -> Tensor:
        columns = [torch.ones(len(x), 1), x]
        if degree == 2:
            pairs = list(combinations_with_replacement(range(x.shape[1]), 2))
            columns.append(torch.stack([x[:, a] * x[:, b] for a, b in pairs], 1))
        return torch.cat(columns, 1).double()

    def fit(data: Data, seconds: float) -> Predict:
        x, flux = data.tensors(data.train)
        ridge = Ridge(features(x))
        chosen = ridge.strength(flux[:, ::16].double(), torch.ones(1))
        weights = ridge.weights(flux, chosen).float()
        return lambda x: features(x).float() @ weights

    return fit


# ----------------------------------------------------------------------- peers


@dataclass(frozen=True)
class Recipe:
    """A form and how its authors train it."""

    network: Callable[[int, int], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    batch: int
    loss: Callable[[Tensor, Tensor], Tensor]
    lowest: float | None = None
    """Where a cosine schedule ends, as a fraction of the learning rate; None keeps it constant."""
    epochs: int | None = None
    """Epochs between validations; ten in all unless given."""


def payne_form(d: int, p: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(d, 300), nn.LeakyReLU(), nn.Linear(300, 300), nn.LeakyReLU(), nn.Linear(300, p)
    )


def one_payne_form(d: int, p: int) -> nn.Module:
    width = 1024
    sizes = (d, width, width, width)
    hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.SiLU())]
    return nn.Sequential(*hidden, nn.Linear(width, p), nn.Sigmoid())


PAYNE = Recipe(
    payne_form, lambda net: torch.optim.RAdam(net.parameters(), lr=1e-4), 512,
    lambda made, flux: 1e4 * (made - flux).abs().mean(), epochs=100,
)  # fmt: skip
ONE_PAYNE = Recipe(
    one_payne_form, lambda net: torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-3), 4096,
    lambda made, flux: (made - flux).square().mean(), lowest=1e-4,
)  # fmt: skip


def batches(n: int, size: int) -> Iterator[tuple[Tensor | slice, bool]]:
    """Yield rows of batches, and whether an epoch ends; what does not fill a batch is left out."""
    if n <= size:
        while True:
            yield slice(None), True
    while True:
        order = torch.randperm(n)
        last = n // size - 1
        for number in range(last + 1):
            yield order[number * size : (number + 1) * size], number == last


def published(recipe: Recipe) -> Callable[[Data, float], Predict]:
    def fit(data: Data, seconds: float) -> Predict:
        torch.manual_seed(0)
        began = time.process_time()
        (x, flux), (x_valid, flux_valid) = data.tensors(data.train), data.tensors(data.valid)
        network = recipe.network(x.shape[1], flux.shape[1])
        optimizer = recipe.optimizer(network)
        rate = optimizer.param_groups[0]["lr"]
        best, state, epochs, checks = np.inf, network.state_dict(), 0, 0
        for rows, ends_epoch in batches(len(x), recipe.batch):
            used = (time.process_time() - began) / seconds
            epochs += ends_epoch
            due = epochs // recipe.epochs > checks if recipe.epochs else used > (checks + 1) / 10
            if due or used >= 1:
                checks += 1
                with torch.no_grad():
                    misfit = float(recipe.loss(network(x_valid), flux_valid))
                if misfit < best:
                    best, state = misfit, {k: v.clone() for k, v in network.state_dict().items()}
            if used >= 1:
                break
            if recipe.lowest is not None:
                fall = recipe.lowest + (1 - recipe.lowest) * (1 + np.cos(np.pi * used)) / 2
                optimizer.param_groups[0]["lr"] = rate * fall
            loss = recipe.loss(network(x[rows]), flux[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.load_state_dict(state)
        return network

    return fit


# ------------------------------------------------------------------------ ours


def ours(**options: Any) -> Callable[[Data, float], Predict]:
    training = options.pop("train", {})

    def fit(data: Data, seconds: float) -> Predict:
        def trained(steps: int) -> tuple[Emulator, float]:
            began = time.process_time()
            config = TrainConfig(
                **{**TRAINING, **training, "steps": steps, "validate_every": max(1, steps // 10)}
            )
            model = Emulator(labels=data.labels, **options).fit(data.train, data.valid, config)
            return model, time.process_time() - began

        # How many steps fill the budget follows from short runs; the last is a tenth of it.
        few, many = 20, 120
        first, second = trained(few)[1], trained(many)[1]
        while True:
            each = max((second - first) / (many - few), 1e-5)
            steps = max(few, round(0.95 * (seconds - first) / each))
            if many >= steps // 10:
                break
            # By and by: steps that cost little beside the rest of a run look cheaper still in a short one.
            many = min(8 * many, steps // 10)
            second = trained(many)[1]
        model, USED["draper"] = trained(steps)
        print(f"    {steps} steps, {USED['draper']:.0f} CPU s", flush=True)
        network = model.own_module
        low, high = model.labels.low, model.labels.high
        values = data.train.columns(data.labels)
        assert np.allclose(values.min(0), low)
        assert np.allclose(values.max(0), high)
        return network

    return fit


USED: dict[str, float] = {}
"""CPU seconds of the last model of draper, without the runs that its number of steps came from."""

TRAINING: dict[str, Any] = {"threads": 1, "progress": "none"}

ROWS: dict[str, Callable[[Data, float], Predict]] = {
    "mean spectrum": mean_spectrum,
    "linear ridge": polynomial(1),
    "quadratic ridge": polynomial(2),
    "The Payne, as published": published(PAYNE),
    "one_payne, as published": published(ONE_PAYNE),
    "The Payne form, draper's training": ours(hidden=(300, 300), activation="leaky_relu"),
    "one_payne form, draper's training": ours(hidden=(1024, 1024, 1024), output="bounded", start="ridge"),
    "draper": ours(),
}
PEERS = ("The Payne, as published", "one_payne, as published")


def measured(predict: Predict, x: Tensor, flux: Tensor) -> dict[str, float]:
    """Return errors of normalised flux."""
    with torch.no_grad():
        missed = torch.cat([predict(part) for part in torch.split(x, 256)]) - flux
    rows = missed.square().mean(1).sqrt()
    return {
        "MAE": float(missed.abs().mean()),
        "rms": float(missed.square().mean().sqrt()),
        "median": float(rows.median()),
        "99 %": float(rows.quantile(0.99)),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="CPU seconds for each row (30; 600 with --full)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which rows")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="which sets of spectra")
    parser.add_argument(
        "--spectra", nargs="+", type=int, default=[0], help="numbers of training spectra; 0: all"
    )
    options = parser.parse_args()
    seconds = options.seconds or (600.0 if options.full else 30.0)
    torch.set_num_threads(1)
    table: list[dict[str, Any]] = []
    for name in options.sets:
        whole = SETS[name]()
        for n in options.spectra:
            data = whole.few(n) if n else whole
            x, flux = data.tensors(data.test)
            found = {}
            for row in options.rows:
                print(f"  {name}, {len(data.train)} spectra: {row}", flush=True)
                began = time.process_time()
                with matmul_mode(fastest_mode()):  # what draper finds out by itself, peers are given
                    predict = ROWS[row](data, seconds)
                    used = USED.pop("draper", time.process_time() - began)
                    found[row] = {**measured(predict, x, flux), "CPU s": round(used, 1)}
                print("   ", {k: round(v, 5) for k, v in found[row].items()}, f"{used:.0f} CPU s", flush=True)
            best = min((found[row]["rms"] for row in PEERS if row in found), default=np.nan)
            table += [
                {
                    "set": name,
                    "spectra": len(data.train),
                    "row": row,
                    **errors,
                    "rms / best peer": errors["rms"] / best,
                }
                for row, errors in found.items()
            ]
    facts = {
        "CPU seconds for each": seconds,
        "threads": 1,
        "matmul": fastest_mode(),
        "unit": "normalised flux",
    }
    report("Errors on test spectra after equal CPU time", table, facts, options.json)


if __name__ == "__main__":
    main()
