"""How well the network's samples serve as proposals: before and after refinement, and against training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kstest

from draper.configs.retriever import RetrieveConfig
from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra
from draper.models.retriever.model import Retriever
from draper.models.retriever.posterior import Retrieval
from draper.simulate.planets import INSTRUMENTS, Planets
from retrieval.sheets import Array, Sheet, physics_of, short, simulator

LEVELS = (30.0, 100.0)
"""Errors of a bin [ppm]."""


FIGURES = ("before: median", "5 %", "after: median", "5 % after")
SHOWN = ("model", "simulations", "training CPU s", "error [ppm]", "spectra", *FIGURES)
"""Columns of the last table that are printed."""


class Efficiencies(NamedTuple):
    """Figures (n,) of spectra, and ranks (n, l) of their true labels.

    Attributes
    ----------
    before, after : ndarray (n,)
        Efficiency of the network's samples, and of those that are returned.
    seconds : ndarray (n,)
        CPU seconds.
    ranks : ndarray (n, l)
        Place of the true labels among the returned samples, 0 to 1.
    how : list of str
        What was needed.
    """

    before: Array
    after: Array
    seconds: Array
    ranks: Array
    how: list[str]


def efficiencies(model: Retriever, spectra: Spectra, options: RetrieveConfig) -> Efficiencies:
    """Return the efficiencies of spectra, one by one."""
    truth = model.labels.read(spectra.table)
    rows, how = [], []
    for row in range(len(spectra)):
        one = spectra[row : row + 1]
        begun = time.process_time()
        found: Retrieval
        (found,) = model.retrievals(one, model.observations(one, options), options)
        seconds = time.process_time() - begun
        below = (found.samples < truth[row]).mean(axis=0)
        rows.append([found.proposed, found.efficiency, seconds, *below])
        how.append(found.how)
    figures = np.array(rows)
    before, after, seconds = figures[:, :3].T
    return Efficiencies(before, after, seconds, figures[:, 3:], how)


def summary(found: Efficiencies) -> dict[str, Any]:
    """Return the figures of a row."""
    plain = np.array([one == "weighted" for one in found.how])
    return {
        "spectra": len(found.before),
        "before: median": float(np.median(found.before)),
        "5 %": float(np.quantile(found.before, 0.05)),
        "worst": float(found.before.min()),
        "after: median": float(np.median(found.after)),
        "5 % after": float(np.quantile(found.after, 0.05)),
        "worst after": float(found.after.min()),
        "CPU s, weighted": float(np.median(found.seconds[plain])) if plain.any() else float("nan"),
        "refined": float(np.median(found.seconds[~plain])) if (~plain).any() else float("nan"),
        "needed": ", ".join(f"{found.how.count(name)} {name}" for name in sorted(set(found.how))),
    }


def placed(labels: list[str], parts: list[Efficiencies]) -> list[dict[str, Any]]:
    """Return how the true labels lie among the returned samples: coverage, and a test of uniform ranks."""
    ranks = np.concatenate([part.ranks for part in parts])
    rows = []
    for number, name in enumerate(labels):
        off = np.abs(ranks[:, number] - 0.5)
        row: dict[str, Any] = {"label": name, "spectra": len(ranks)}
        row |= {f"{level} %": float(100 * (off < level / 200).mean()) for level in (50, 68, 90)}
        rows.append(row | {"p (KS)": float(kstest(ranks[:, number], "uniform").pvalue)})
    return rows


def trained(
    model: Retriever, steps: int, planets: Planets | None = None, calibration: int = 0
) -> tuple[Retriever, float]:
    """Return a network of the same kind after fewer steps, and the CPU seconds that it took."""
    settings = {name: getattr(model.config, name) for name in ("components", "transforms", "width", "blocks")}
    begun = time.process_time()
    made = Retriever(**settings, calibration=calibration).fit(
        planets or physics_of(model), train=TrainConfig(steps=steps, threads=1, progress="none")
    )
    return made, time.process_time() - begun


def efficiency(
    model: Retriever,
    *,
    spectra: int = 12,
    options: Mapping[str, Any] = MappingProxyType({}),
    levels: tuple[float, ...] = LEVELS,
    steps: tuple[int, ...] = (250, 1000),
    others: Mapping[str, Retriever] | None = None,
    say: Callable[[str], None] = print,
) -> list[Sheet]:
    """Return tables of efficiency by preset and error, of coverage, and of efficiency against training."""
    chosen = RetrieveConfig(**options)
    rows: list[dict[str, Any]] = []
    parts: list[Efficiencies] = []
    for instrument in INSTRUMENTS:
        for level in levels:
            # With one seed all cases would be of the same planets, and their ranks no independent ones.
            made = simulator(model, instrument, level).simulate(spectra, seed=41 + len(parts))
            parts.append(efficiencies(model, made, chosen))
            rows.append({"instrument": instrument, "error [ppm]": level, **summary(parts[-1])})
            say(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
    facts = {"draws": chosen.draws, "threads": 1}
    curve = []
    batch = int(model.training.get("config", {}).get("batch_size", 512))
    full = model.training.get("config", {}).get("steps")
    models: dict[str, tuple[Retriever, Any]] = {"the model": (model, full)}
    models |= {name: (other, name) for name, other in (others or {}).items()}
    seconds: dict[str, float] = {}
    for number in steps:
        few, seconds[f"{number} steps"] = trained(model, number)
        models[f"{number} steps"] = (few, number)
    for name, (one, count) in models.items():
        for level in levels:
            made = simulator(model, "jwst-nirspec-prism", level).simulate(spectra, seed=43)
            row = {
                "model": name,
                "steps": count,
                "simulations": batch * count if isinstance(count, int) else "",
            }
            row |= {"training CPU s": seconds.get(name, ""), "error [ppm]": level}
            curve.append(row | summary(efficiencies(one, made, chosen)))
            say(", ".join(f"{name} {value}" for name, value in curve[-1].items()))
    return [
        Sheet("Efficiency of importance sampling", rows, facts),
        Sheet("Coverage of the samples that are returned", placed(short(model.labels.names), parts), facts),
        Sheet("Efficiency against training, jwst-nirspec-prism", curve, facts, SHOWN),
    ]
