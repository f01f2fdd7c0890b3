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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor

import draper
from draper import Grid, Spectra, TrainConfig
from draper.infer.forward import ForwardModel
from draper.instrument.doppler import SPEED_OF_LIGHT
from draper.instrument.observed import at_resolving_power
from draper.models.emulator.model import Emulator
from draper.models.translator.fitted import level_of
from draper.models.translator.line_mask import LineMask, mask_lines
from draper.models.translator.line_scores import element_attribution, false_discovery_rate, feature_precision
from draper.models.translator.model import Translator
from report import arguments, report, show
from translator_peer import Original, speeds

Array = NDArray[np.float64]

DEGREE = 3
"""Degree of the continuum."""

POWER = 24_000.0
"""Resolving power of the line spread: a Gaussian of 1.5 pixels (1 sigma) in the middle."""

SNR = (50.0, 200.0)
"""Range of the S/N per pixel of stars."""

CENTRES = {"teff": 5000.0, "logg": 3.0, "fe_h": -0.5, "vmic": 1.5}
WIDTHS = {"teff": 500.0, "logg": 0.9, "fe_h": 0.4, "vmic": 0.3, "ni_fe": 0.07}
OTHERS = (0.1, 0.15)
"""Mean and standard deviation of labels; those of [X/Fe] that are not named."""

SHIFT = {"teff": 500.0, "fe_h": 0.35}
"""By how much observed stars differ from synthetic ones in L2 and L3."""

LEVELS = ("L0", "L1", "L2", "L3", "L4")
PARTS = ("levels", "labels", "lines", "speed")
FRACTIONS = (0.05, 0.5)
"""Masked features in L4."""

TELLURIC, BLENDS = 40, 30
"""Telluric lines, and lines that blend."""

SHOWN = ("teff", "logg", "fe_h")


@dataclass(frozen=True)
class World:
    """The emulator on 2,401 pixels.

    Attributes
    ----------
    model
        From labels to flux.
    """

    model: ForwardModel

    @classmethod
    def make(cls) -> World:
        """Return the built-in emulator, linearly interpolated."""
        own = draper.load("builtin:rvs-emulator")
        assert isinstance(own, Emulator)
        grid = Grid.linear(8460, 8700, 0.1, medium="vacuum")
        place = np.interp(grid.vacuum, own.own_grid.vacuum, np.arange(len(own.own_grid)))
        first = torch.from_numpy(place.astype(np.int64))
        share = torch.from_numpy((place - place.astype(np.int64)).astype(np.float32))
        low, high = torch.from_numpy(own.labels.low), torch.from_numpy(own.labels.high)

        def function(values: Tensor) -> Tensor:
            flux = own.network(((values - low) / (high - low) - 0.5).float())
            result: Tensor = flux[:, first] * (1 - share) + flux[:, first + 1] * share
            return result

        return cls(ForwardModel.from_function(function, grid, own.labels))

    def draw(self, n: int, seed: int, *, shifted: bool) -> Array:
        """Return labels (n, d) of random stars, inside the emulator's range."""
        random, labels = np.random.default_rng(seed), self.model.labels
        names = labels.names
        middle = [CENTRES.get(name, OTHERS[0] * (name != "ni_fe")) for name in names]
        width = [WIDTHS.get(name, OTHERS[1]) for name in names]
        values = np.array(middle) + np.array(width) * random.normal(size=(n, len(names)))
        values += [SHIFT.get(name, 0.0) * shifted for name in names]
        edge = 0.02 * (labels.high - labels.low)
        return np.asarray(np.clip(values, labels.low + edge, labels.high - edge), dtype=np.float64)

    def spectra(self, values: Array) -> Spectra:
        """Return noiseless spectra of labels (n, d), with them in the table."""
        x = torch.from_numpy((self.model.labels.scale(values) - 0.5).astype(np.float32))
        with torch.no_grad():
            flux = torch.cat([self.model.function(rows) for rows in torch.split(x, 256)]).numpy()
        table = dict(zip(self.model.labels.names, values.T, strict=True))
        return Spectra(self.model.grid, flux, np.ones_like(flux), table, "normalised flux")


# ------------------------------------------------------------------ made observed spectra


@dataclass(frozen=True)
class Level:
    """How observed spectra of one level differ from synthetic ones.

    Attributes
    ----------
    name
        L0 to L4.
    world, mask
        Spectra, and the features that synthetic ones lack.
    """

    name: str
    world: World
    mask: LineMask

    @property
    def number(self) -> int:
        """What has been added: 0 (nothing; also L4) to 3."""
        return 0 if self.name == "L4" else int(self.name[1])

    def synthetic(self, values: Array) -> Spectra:
        """Return synthetic spectra of labels (n, d), with the line spread of the instrument."""
        return self._spread(self.mask.apply(self.world.spectra(values)))

    def _spread(self, spectra: Spectra) -> Spectra:
        return at_resolving_power(spectra, POWER) if self.number else spectra

    def truth(self, values: Array, velocity: Array | float = 0.0) -> Array:
        """Return noiseless spectra (n, p) without continuum and telluric lines."""
        flux = self._spread(self._blended(values)).flux.astype(np.float64)
        if self.number < 3:
            return np.asarray(flux, dtype=np.float64)
        wavelength = self.world.model.grid.vacuum
        factor = np.broadcast_to(1 + np.asarray(velocity) / SPEED_OF_LIGHT, len(flux))
        moved = [np.interp(wavelength, wavelength * f, row) for f, row in zip(factor, flux, strict=True)]
        response = 0.1  # A saturating detector: deep lines are seen less deep.
        return (1 + response) * np.array(moved) / (1 + response * np.array(moved))

    def _blended(self, values: Array) -> Spectra:
        """Return spectra with the lines of L3 that no synthetic spectrum has."""
        spectra = self.world.spectra(values)
        if self.number < 3:
            return spectra
        names = self.world.model.labels.names
        growth = 10 ** (0.5 * (values[:, names.index("fe_h")] + 0.5))
        growth *= np.exp(-(values[:, names.index("teff")] - 5000) / 1500)
        depth = self._lines(BLENDS, 0.06, seed=11)
        return replace(spectra, flux=(spectra.flux * np.exp(-growth[:, None] * depth)).astype(np.float32))

    def _lines(self, count: int, deepest: float, seed: int) -> Array:
        """Return optical depths (p,) of lines at random places, always the same."""
        random, wavelength = np.random.default_rng(seed), self.world.model.grid.vacuum
        centres = random.uniform(wavelength[0], wavelength[-1], count)
        profile = np.exp(-0.5 * ((wavelength[:, None] - centres) / 0.2) ** 2)
        return np.asarray(profile @ (deepest * random.random(count)), dtype=np.float64)

    @property
    def telluric(self) -> Array:
        """Return optical depths (p,) of telluric lines of mean strength."""
        return self._lines(TELLURIC, 0.015, seed=12) * (self.number > 0)

    def observed(self, values: Array, seed: int) -> Spectra:
        """Return noisy observed spectra of labels (n, d), without a table."""
        random, n = np.random.default_rng(seed), len(values)
        flux = self.truth(values, random.normal(size=n) * (self.number > 2))
        flux *= np.exp(-random.uniform(0.5, 1.5, (n, 1)) * self.telluric)
        if self.number:
            x = np.linspace(-1, 1, flux.shape[1])
            flux *= 1 + 0.01 * random.normal(size=(n, 4)) @ np.polynomial.legendre.legvander(x, 3).T
        snr = random.uniform(*SNR, (n, 1))
        noisy = flux + random.normal(size=flux.shape) / snr
        ivar = np.broadcast_to(snr**2, flux.shape).astype(np.float32)
        return Spectra(self.grid, noisy.astype(np.float32), ivar.copy(), {}, "normalised flux")

    @property
    def grid(self) -> Grid:
        """Pixels, with the resolving power if there is a line spread."""
        grid = self.world.model.grid
        return replace(grid, resolving_power=POWER) if self.number else grid


@dataclass(frozen=True)
class Data:
    """Training sets of different stars, and test pairs.

    Attributes
    ----------
    level
        Where they are from.
    synthetic, observed
        Training spectra; ``observed_labels`` (n, d) are those of the latter, which methods do not see.
    inputs, test
        Synthetic and observed spectra with ``labels`` (m, d).
    """

    level: Level
    synthetic: Spectra
    observed: Spectra
    observed_labels: Array
    inputs: Spectra
    test: Spectra
    labels: Array

    @classmethod
    def make(cls, level: Level, n: int, m: int, seed: int) -> Data:
        """Return n training spectra of each kind, and m test pairs."""
        shifted = level.number > 1
        first = level.world.draw(n, 10 * seed + 1, shifted=False)
        second = level.world.draw(n, 10 * seed + 2, shifted=shifted)
        third = level.world.draw(m, 10 * seed + 3, shifted=shifted)
        return cls(
            level,
            level.synthetic(first),
            level.observed(second, 10 * seed + 4),
            second,
            level.synthetic(third),
            level.observed(third, 10 * seed + 5),
            third,
        )

    def anchored(self, count: int) -> Spectra:
        """Return the observed spectra, some of which have labels."""
        if not count:
            return self.observed
        known = np.arange(len(self.observed)) < count
        names = self.level.world.model.labels.names
        columns = zip(names, self.observed_labels.T, strict=True)
        return self.observed.with_columns(
            **{name: np.where(known, column, np.nan) for name, column in columns}
        )

    def excess(self, flux: Array) -> float:
        """Return chi2 per degree of freedom, minus 1, of spectra (m, p) against the observed test spectra."""
        x = np.linspace(-1, 1, flux.shape[1])
        basis = np.polynomial.legendre.legvander(x, DEGREE)
        total = 0.0
        for model, seen, ivar in zip(flux, self.test.flux, self.test.ivar, strict=True):
            columns = model[:, None] * basis
            if self.level.number > 2:
                columns = np.column_stack([columns, np.gradient(model)])
            root = np.sqrt(ivar.astype(np.float64))
            best = np.linalg.lstsq(columns * root[:, None], seen * root, rcond=None)[0]
            total += np.sum(ivar * (seen - columns @ best) ** 2) / (len(seen) - columns.shape[1])
        return float(total / len(flux) - 1)


# --------------------------------------------------------------------------- methods


def normalised(spectra: Spectra) -> Array:
    """Return flux (n, p) over a cubic continuum."""
    level = level_of(spectra.flux, spectra.ivar, DEGREE)
    return np.asarray(spectra.flux / level, dtype=np.float64)


def mean_shift(data: Data) -> Array:
    """Return test spectra plus the difference of the mean spectra."""
    shift = normalised(data.observed).mean(0) - normalised(data.synthetic).mean(0)
    return np.asarray(normalised(data.inputs) + shift, dtype=np.float64)


def inpainted(data: Data, components: int = 30) -> Array:
    """Return test spectra whose pixels that differ (t test of the means) are predicted by those that do not.

    Probabilistic PCA (Tipping & Bishop 1999) of observed spectra; at most half of the pixels are replaced.
    """
    seen, made, result = normalised(data.observed), normalised(data.synthetic), normalised(data.inputs)
    error = np.sqrt(seen.var(0) / len(seen) + made.var(0) / len(made)).clip(1e-9)
    height = np.abs(seen.mean(0) - made.mean(0)) / error
    differ = height > max(5.0, float(np.median(height)))
    mean = seen.mean(0)
    _, size, direction = np.linalg.svd(seen - mean, full_matrices=False)
    variance = size**2 / len(seen)
    noise = variance[components:].sum() / (seen.shape[1] - components)
    loadings = np.sqrt((variance[:components] - noise).clip(0))[:, None] * direction[:components]
    same = loadings[:, ~differ]
    precision = same @ same.T + noise * np.eye(components)
    scores = np.linalg.solve(precision, same @ (result - mean)[:, ~differ].T).T
    result[:, differ] = (mean + scores @ loadings)[:, differ]
    return result


def transported(data: Data, components: int = 40) -> Array:
    """Return test spectra moved by optimal transport between Gaussians, in principal components of both."""
    seen, made, given = normalised(data.observed), normalised(data.synthetic), normalised(data.inputs)
    both = np.concatenate([seen - seen.mean(0), made - made.mean(0)])
    basis = np.linalg.svd(both, full_matrices=False)[2][:components]
    variance = np.mean(1 / data.observed.ivar.astype(np.float64))
    first = np.cov((made - made.mean(0)) @ basis.T, rowvar=False) + 1e-9 * np.eye(components)
    second = np.cov((seen - seen.mean(0)) @ basis.T, rowvar=False) - variance * np.eye(components)
    values, vectors = np.linalg.eigh(second)
    second = (vectors * values.clip(1e-9)) @ vectors.T
    root = np.real(sqrtm(first))
    inverse = np.linalg.inv(root)
    matrix = inverse @ np.real(sqrtm(root @ second @ root)) @ inverse
    scores = (given - made.mean(0)) @ basis.T
    # What components do not hold stays that of the synthetic spectrum.
    rest = given - made.mean(0) - scores @ basis
    return np.asarray(seen.mean(0) + scores @ matrix @ basis + rest, dtype=np.float64)


def paired_regression(data: Data, components: int = 60) -> Array:
    """Return what a ridge regression makes of test spectra that was trained on pairs: an upper bound."""
    pairs = normalised(data.level.synthetic(data.observed_labels))
    seen, given, mean = normalised(data.observed), normalised(data.inputs), pairs.mean(0)
    basis = np.linalg.svd(pairs - mean, full_matrices=False)[2][:components]
    x = np.column_stack([np.ones(len(pairs)), (pairs - mean) @ basis.T])
    weight = np.linalg.solve(x.T @ x + 1e-4 * np.eye(x.shape[1]), x.T @ seen)
    return np.asarray(np.column_stack([np.ones(len(given)), (given - mean) @ basis.T]) @ weight)


def identity(data: Data) -> Array:
    """Return the synthetic test spectra."""
    return np.asarray(data.inputs.flux.astype(np.float64), dtype=np.float64)


BASELINES: dict[str, Callable[[Data], Array]] = {
    "identity": identity,
    "mean shift": mean_shift,
    "PPCA inpainting": inpainted,
    "Gaussian optimal transport": transported,
    "paired regression (sees pairs)": paired_regression,
}


def anchored(data: Data, count: int, options: argparse.Namespace, seed: int) -> tuple[Translator, float]:
    """Return a Translator of the method anchored, with so many stars of known labels, and CPU seconds."""
    train = TrainConfig(epochs=options.epochs, threads=1, progress="none", seed=seed)
    start = time.process_time()
    model = Translator(continuum=DEGREE, rv_error=float(data.level.number > 2))
    model.fit(synthetic=data.synthetic, observed=data.anchored(count), train=train)
    return model, time.process_time() - start


def cycle(data: Data, steps: int, seed: int) -> tuple[Array, float]:
    """Return test spectra that the Cycle-GAN has translated, and the CPU seconds of its training."""
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
    model = Translator(method="cycle")
    model.fit(synthetic=data.synthetic, observed=replace(data.observed, flux=flat), train=train)
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
    if options.cycle_steps:
        flux, used = cycle(data, options.cycle_steps, seed)
        name = f"cycle, {options.cycle_steps} steps"
        yield {**facts, "method": name, "excess": data.excess(flux), "CPU s": used}
        if options.peer:
            flux, used, steps = published_cycle(data, options.peer, used)
            name = "published code of Cycle-StarNet, as long"
            yield {**facts, "method": name, "excess": data.excess(flux), "CPU s": used, "steps": steps}
    for count in options.anchors:
        model, used = anchored(data, count, options, seed)
        flux = model.generate(data.inputs).flux.astype(np.float64)
        row = {**facts, "method": f"anchored, {count} anchors", "excess": data.excess(flux), "CPU s": used}
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
