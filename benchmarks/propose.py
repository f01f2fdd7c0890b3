"""Are proposed spectra worth more than random ones? On the RVS grid, with radial emulators.

An emulator of 300 spectra chooses 300 further ones out of the rest of the grid; one trained on all 600 is
compared with one trained on the same 300 and 300 others at random. 400 spectra that none has seen judge:
median, mean, rms and 99th percentile of the rms error of each spectrum (native resolution), and the ratio of
chosen to random. One thread.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from draper import TrainConfig, samples
from draper.data.spectra import Spectra
from draper.models.emulator.model import Emulator
from report import arguments, report

FIRST, MORE, TEST = 300, 300, 400


def trained(spectra: Spectra) -> Emulator:
    """Return an emulator of spectra, none of which are held out."""
    model = Emulator(architecture="radial")
    train = TrainConfig(threads=1, progress="none", **dict(model.config.own_training))
    return model.fit(spectra, valid=0, train=train)


def errors(model: Emulator, test: Spectra) -> dict[str, float]:
    """Return the errors of test spectra."""
    each = np.sqrt(np.mean((model.generate(test).flux - test.flux) ** 2, axis=1))
    return {
        "median": float(np.median(each)),
        "mean": float(each.mean()),
        "rms": float(np.sqrt(np.mean(each**2))),
        "p99": float(np.quantile(each, 0.99)),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, help="repetitions with other spectra (2; 5 with --full)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    spectra = samples.load("rvs-grid")
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds or (5 if options.full else 2)):
        begun = time.process_time()
        order = np.random.default_rng(seed).permutation(len(spectra))
        test, first, rest = order[:TEST], order[TEST : TEST + FIRST], order[TEST + FIRST :]
        start = trained(spectra[first])
        table = {**spectra[rest].table, "row": np.arange(len(rest))}
        picked = {"chosen": rest[start.propose(MORE, among=table)["row"]], "random": rest[:MORE]}
        found = {name: trained(spectra[np.concatenate([first, more])]) for name, more in picked.items()}
        row: dict[str, Any] = {"seed": seed}
        for name, model in (("first", start), *found.items()):
            row |= {f"{name} {what}": value for what, value in errors(model, spectra[test]).items()}
        row |= {
            what: row[f"chosen {what}"] / row[f"random {what}"] for what in ("median", "mean", "rms", "p99")
        }
        rows.append(row | {"CPU s": time.process_time() - begun})
        print(rows[-1], flush=True)
    columns = ("seed", "median", "mean", "rms", "p99", "first rms", "chosen rms", "random rms", "CPU s")
    facts = {"spectra": f"{FIRST} + {MORE}", "test": TEST, "median to p99": "chosen over random"}
    report("Proposed spectra", rows, facts, options.json, columns)


if __name__ == "__main__":
    main()
