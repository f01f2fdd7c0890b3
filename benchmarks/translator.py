"""The Translator on made observed spectra, whose truth is known: synthetic ones lack lines, and more.

Both kinds of spectra come from the built-in RVS emulator, interpolated to 2,401 pixels (8460-8700 A, steps of
0.1 A). Synthetic and observed stars differ; no method sees a pair but the paired regression. Levels add up:

- L0: 20 % of the strong features of each element are masked in synthetic spectra; noise, S/N 50-200;
- L1: and a Gaussian line spread (known: all methods get broadened synthetic spectra), a random cubic
  continuum of 1 %, and telluric lines of random strength;
- L2: and observed stars are 500 K hotter and 0.35 dex richer in metals;
- L3: and a saturating flux response, blends with lines that no synthetic spectrum has, and velocities of
  1 km/s (rms);
- L4 is L0 with 5 and 50 % of the features masked.

`levels`: synthetic spectra of test labels are translated, and compared with noisy observed ones of the same
labels: chi2 per degree of freedom, minus 1, with a cubic continuum (in L3 also a small velocity) fitted. Rows
"truth" are floors: the noiseless spectra without telluric lines, and with those of mean strength. `labels`:
rms errors of labels fitted to test spectra, by the network of synthetic spectra (before) and by `predict`
(after); "scaled" is that of all labels in units of their ranges; "pulls" the median over labels of the robust
scatter of error over sigma. `lines`: lines that `new_lines` finds with the trained model, beside a control in
which nothing is masked. `speed`: CPU seconds on one thread. With `--peer`, the published code of
Cycle-StarNet stands beside the cycle, trained for as many CPU seconds (:mod:`translator_peer`).
"""

from __future__ import annotations

import os

# Before numpy is loaded: its threads would count as CPU time while they wait.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from draper import TrainConfig
from draper.models.emulator.model import Emulator
from draper.models.translator.line_mask import mask_lines
from draper.models.translator.line_scores import element_attribution, false_discovery_rate, feature_precision
from draper.models.translator.model import Translator
from report import arguments, report, show
from translator_peer import Original, speeds
from translator_stars import BASELINES, DEGREE, Array, Data, Level, World, normalised

LEVELS = ("L0", "L1", "L2", "L3", "L4")
PARTS = ("levels", "labels", "lines", "speed")
FRACTIONS = (0.05, 0.5)
"""Masked features in L4."""

SHOWN = ("teff", "logg", "fe_h")
ERRORS = {"teff": 100.0, "logg": 0.2, "fe_h": 0.1}
"""Errors of the labels in a catalogue of observed stars."""

WAYS: dict[str, dict[str, Any]] = {
    "cycle": {},
    "cycle, best of 4": {"best_of": 4},
    "cycle, reweighted": {"reweight": True},
}
"""Options of the cycle; those that serve label shift are measured where there is any."""


def anchored(data: Data, count: int, options: argparse.Namespace, seed: int) -> tuple[Translator, float]:
    """Return a Translator of the method anchored, with so many stars of known labels, and CPU seconds."""
    train = TrainConfig(epochs=options.epochs, threads=1, progress="none", seed=seed)
    start = time.process_time()
    model = Translator(continuum=DEGREE, rv_error=float(data.level.number > 2))
    model.fit(synthetic=data.synthetic, observed=data.anchored(count), train=train)
    return model, time.process_time() - start


def cycle(data: Data, steps: int, seed: int, **choices: Any) -> tuple[Array, float]:
    """Return test spectra that the Cycle-GAN has translated, and the CPU seconds of its training.

    With ``reweight=True`` observed stars have labels of a catalogue, with errors of 100 K, 0.2 and 0.1 dex.
    """
    start = time.process_time()
    train = TrainConfig(
        steps=steps,
        batch_size=16,
        learning_rate=3e-3,
        warmup=min(200, steps // 5),
        ema=min(0.999, steps / (steps + 5)),
        threads=1,
        progress="none",
        seed=seed,
    )
    flat = normalised(data.observed).astype(np.float32)
    observed = replace(data.observed, flux=flat)
    if choices.get("reweight"):
        random, names = np.random.default_rng(seed), data.level.world.model.labels.names
        catalogue = {name: data.observed_labels[:, names.index(name)] for name in SHOWN}
        observed = observed.with_columns(
            **{name: v + random.normal(0, ERRORS[name], len(v)) for name, v in catalogue.items()}
        )
        choices["labels"] = SHOWN
    model = Translator(method="cycle", **choices)
    model.fit(synthetic=data.synthetic, observed=observed, train=train)
    return model.generate(data.inputs).flux.astype(np.float64), time.process_time() - start


def published_cycle(data: Data, folder: Path, seconds: float) -> tuple[Array, float, int]:
    """Return test spectra translated by the published code, and CPU seconds and steps of its training."""
    start = time.process_time()
    original = Original(folder, data.synthetic.flux.shape[1])
    flat = replace(data.observed, flux=normalised(data.observed).astype(np.float32))
    steps = original.fit(data.synthetic, flat, seconds)
    return original.translate(data.inputs), spent(start), steps


# ------------------------------------------------------------------------------ parts


def levels(data: Data, options: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """Yield excesses of chi2 of all methods, and errors of labels."""
    part = float(data.level.mask.masked.mean())
    facts = {"level": data.level.name, "masked": f"{part:.2f}", "seed": seed}
    truth = data.level.truth(data.labels)
    floors = {"truth": truth, "truth, mean telluric lines": truth * np.exp(-data.level.telluric)}
    for name, flux in floors.items():
        yield {**facts, "method": name, "excess": data.excess(flux)}
    for name, method in BASELINES.items():
        start = time.process_time()
        yield {**facts, "method": name, "excess": data.excess(method(data)), "CPU s": spent(start)}
    for name, choices in WAYS.items() if options.cycle_steps else ():
        if choices and (data.level.number < 2 or not options.full):
            continue
        flux, used = cycle(data, options.cycle_steps, seed, **choices)
        name = f"{name}, {options.cycle_steps} steps"
        yield {**facts, "method": name, "excess": data.excess(flux), "CPU s": used}
        if options.peer and not choices:
            flux, used, steps = published_cycle(data, options.peer, used)
            name = "published code of Cycle-StarNet, as long"
            yield {**facts, "method": name, "excess": data.excess(flux), "CPU s": used, "steps": steps}
    for count in options.anchors:
        model, used = anchored(data, count, options, seed)
        flux = model.generate(data.inputs).flux.astype(np.float64)
        # Without labelled stars all labels may be shifted; those that are fitted are shifted alike.
        again = data.excess(model.reconstruct(data.test).flux.astype(np.float64))
        row = {**facts, "method": f"anchored, {count} anchors", "excess": data.excess(flux), "CPU s": used}
        row["with fitted labels"] = again
        if "labels" in options.parts and 0 < data.level.number < 4:
            row |= label_errors(model, data, options.fits)
        yield row


def spent(start: float) -> float:
    """Return the CPU seconds since a time."""
    return time.process_time() - start


def label_errors(model: Translator, data: Data, count: int) -> dict[str, float]:
    """Return errors of labels of test spectra before and after the translation, and their pulls."""
    seen = data.test[:count]
    flat = normalised(seen).astype(np.float32)
    level = seen.flux / flat
    before = Emulator.from_network(model.anchored.synthetic, model.own_grid, model.labels)
    plain = replace(seen, flux=flat, ivar=seen.ivar * level**2)
    names, own = model.labels.names, data.level.world.model.labels.names
    truth = data.labels[:count][:, [own.index(name) for name in names]]
    found: dict[str, float] = {}
    fits = {"before": before.predict(plain, rv=0.0, continuum=DEGREE), "after": model.predict(seen)}
    for when, fit in fits.items():
        off = np.stack([fit[name] for name in names], axis=1) - truth
        found |= {f"{name} {when}": rms(off[:, names.index(name)]) for name in SHOWN}
        found[f"scaled {when}"] = rms(off / (model.labels.high - model.labels.low))
        found[f"pulls {when}"] = float(np.median([robust(pull) for pull in (off / fit.sigma).T]))
    return found


def rms(values: Array) -> float:
    """Return the root mean square of those that are finite."""
    return float(np.sqrt(np.nanmean(np.square(values))))


def robust(values: Array) -> float:
    """Return the standard deviation by the median absolute deviation."""
    return float(1.4826 * np.nanmedian(np.abs(values - np.nanmedian(values))))


def lines(world: World, options: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """Yield how well lines are found on L0, for each fraction of masked ones; 0 is the control."""
    for fraction in (0.0, 0.05, 0.2, 0.5):
        mask = mask_lines(world.model, fraction, seed=seed)
        data = Data.make(Level("L0", world, mask), options.spectra, 2, seed)
        model, used = anchored(data, 0, options, seed)
        drawn = world.draw(32, 10 * seed + 6, shifted=False)
        stars = dict(zip(world.model.labels.names, drawn.T, strict=True))
        everything, found = (model.new_lines(stars, q=q, seed=seed) for q in (1.0, 0.05))
        yield {
            "masked": fraction,
            "features": int(mask.masked.sum()),
            "seed": seed,
            "found": len(found),
            "average precision": feature_precision(everything, mask),
            "right element": element_attribution(found, mask),
            "false": false_discovery_rate(found, mask),
            "CPU s": used,
        }


def speed(world: World, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield CPU seconds of trainings on one thread."""
    n = 10_000 if options.full else options.speed_spectra
    data = Data.make(Level("L0", world, mask_lines(world.model, 0.2)), n, 2, 0)
    model, used = anchored(data, 0, options, 0)
    train, residual = model.training, model.training["residual"]
    yield {
        "what": f"anchored, {n} + {n} spectra, {options.epochs:g} epochs",
        "CPU s": used,
        "degree": residual.get("degree"),
        "steps": train.get("steps"),
    }
    for steps in (5, 25):
        start = time.process_time()
        cycle(replace(data, synthetic=data.synthetic[:200], observed=data.observed[:200]), steps, 0)
        if steps == 5:
            first = spent(start)
    each = (spent(start) - first) / 20
    yield {"what": "cycle, 16 + 16 spectra of 2401 px", "CPU s": each, "steps per CPU s": 1 / each}
    if options.peer:
        yield from speeds(options.peer)


def summary(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return means and standard deviations over seeds of rows that agree in some keys."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    means = []
    for key, members in groups.items():
        row = {**dict(zip(keys, key, strict=True)), "seeds": len(members)}
        for name, value in members[0].items():
            if isinstance(value, (int, float)) and name not in (*keys, "seed"):
                values = np.array([member[name] for member in members], dtype=float)
                row[name] = float(np.mean(values))
                if name == "excess":
                    row["+-"] = float(values.std())
        means.append(row)
    return means


def masks(name: str, world: World, seed: int) -> Iterator[Level]:
    """Yield the tasks of one level; L4 has several."""
    for fraction in FRACTIONS if name == "L4" else (0.2,):
        yield Level(name, world, mask_lines(world.model, fraction, seed=seed))


def parsed() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which parts")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS), help="which levels")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions with other stars and masks")
    parser.add_argument("--spectra", type=int, help="training spectra of each kind (800; 3000 with --full)")
    parser.add_argument("--fits", type=int, default=100, help="test spectra whose labels are fitted")
    parser.add_argument("--test", type=int, default=200, help="test pairs")
    parser.add_argument("--anchors", nargs="+", type=int, default=[0, 20], help="stars with known labels")
    parser.add_argument("--epochs", type=float, help="epochs of the method anchored (150; 1000 with --full)")
    parser.add_argument("--cycle-steps", type=int, help="steps of the cycle (100; 3000 with --full); 0: none")
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="a checkout of the published Cycle_SN")
    parser.add_argument("--speed-spectra", type=int, default=2000, help="spectra of `speed` without --full")
    options = parser.parse_args()
    sizes = {"spectra": (800, 3000), "epochs": (150.0, 1000.0), "cycle_steps": (100, 3_000)}
    for name, (small, large) in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, large if options.full else small)
    return options


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    world = World.make()
    facts = {
        "spectra of each kind": options.spectra,
        "epochs of anchored": options.epochs,
        "cycle steps": options.cycle_steps,
        "test pairs": options.test,
        "threads": 1,
    }
    print("Smaller than --full:" if not options.full else "Full size:", facts, flush=True)
    tables: dict[str, list[dict[str, Any]]] = {}
    if {"levels", "labels"} & set(options.parts):
        rows = tables.setdefault("levels", [])
        for name in options.levels:
            for seed in range(options.seeds):
                for level in masks(name, world, seed):
                    data = Data.make(level, options.spectra, options.test, seed)
                    rows += map(show, levels(data, options, seed))
    for seed in range(options.seeds) if "lines" in options.parts else ():
        tables.setdefault("lines", []).extend(map(show, lines(world, options, seed)))
    if "speed" in options.parts:
        tables["speed"] = list(map(show, speed(world, options)))
    published(tables, facts, options)


def published(
    tables: dict[str, list[dict[str, Any]]], facts: dict[str, Any], options: argparse.Namespace
) -> None:
    """Print the tables, and write each to a file of its own."""
    keys = {"levels": ("level", "masked", "method"), "lines": ("masked",), "speed": ("what",)}
    for part, rows in tables.items():
        path = options.json and options.json.with_name(f"{options.json.stem}-{part}{options.json.suffix}")
        means = summary(rows, keys[part])
        # Not every row has all figures.
        columns = list(dict.fromkeys(name for row in means for name in row))
        report(f"Translator: {part}", means, facts, path, columns)


if __name__ == "__main__":
    main()
