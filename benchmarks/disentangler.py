"""GANDALF's adversarial step in draper beside a bare torch loop, and the time to its reconstruction error.

First the step: 800 pixels, 512-256-25 and back, four discriminators 64-32-10, batches of 256 and of 50, one
thread. The bare loop is plain float32 torch, written from the published description: one forward pass, one
step of each discriminator, one step of the autoencoder, Adam. draper's trainer runs the engine ``bins`` with
all that it does besides (weights by inverse variance, unknown labels, scaling, clipping, the mode of matrix
products that it chooses). The two run in turn; the ratio of a pair is of CPU seconds, and the median counts.
GANDALF trains regressors on its latents afterwards, draper's head learns beside: it is left out of the first
rows, and trained on both sides in the last two, of which one has the default engine in place of ``bins``.

Then the time: a simulated survey, a fifth of it held out. The engine ``bins`` learns once with GANDALF's
settings (batch 50, 20 epochs, a constant rate of 1e-3), and then with draper's own. What counts is the CPU
time until each first rebuilds the held-out spectra as well as the worse of the two does at its best, in units
of flux: first crossing against first crossing, since a run may go on long after it has stopped to improve.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from draper.configs.disentangler import Engine
from draper.configs.train import TrainConfig
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.models.disentangler.model import Disentangler
from draper.nn.disentangle import Disentangling
from draper.nn.precision import fastest_mode, matmul_mode
from draper.simulate.survey import Survey
from draper.train.feed import Feed
from draper.train.trainer import Trainer
from report import arguments, report

ROWS, PIXELS, LATENT, BINS, BATCHES, PAIRS = 8192, 800, 25, 10, (256, 50), 7
LABELS = ("teff", "logg", "fe_h", "alpha_fe")
CPU = torch.device("cpu")


def model(engine: Engine = "bins") -> Disentangler:
    """Return GANDALF's architecture, which is the default."""
    return Disentangler(engine=engine, remove=LABELS[:2], keep=LABELS[2:], probe=False)


def made(model: Disentangler, spectra: Spectra, config: TrainConfig) -> tuple[Disentangling, Feed]:
    """Return a new network and its batches."""
    torch.manual_seed(0)
    data = model.gather(spectra, 0, config.seed)
    model.set_up(spectra.grid, *model.design(**data.training))
    feed = model.feed(data, data.training, config, device=CPU, world=1)
    network = model.own_module
    assert isinstance(network, Disentangling)
    with torch.no_grad():
        network.prepare(feed.sweep)
    return network, feed


# ---------------------------------------------------------------------- the step


def noise() -> Spectra:
    """Return spectra and labels of random numbers."""
    random = np.random.default_rng(0)
    table = {name: random.uniform(size=ROWS) for name in LABELS}
    return Spectra(
        Grid.linear(8460, 8700, 240 / (PIXELS - 1), medium="vacuum"), random.normal(size=(ROWS, PIXELS)),
        table=table,
    )  # fmt: skip


def by_trainer(spectra: Spectra, batch: int, steps: int, mode: str, head: bool, engine: Engine) -> float:
    """Return the CPU seconds of some steps in draper."""
    one = model(engine)
    given = {"matmul": mode, "steps": steps, "batch_size": batch, "threads": 1, "progress": "none"}
    config = TrainConfig(**{**one.config.training, **given})
    network, feed = made(one, spectra, config)
    if not head:
        network.head.requires_grad_(False)
        network.players = ("critic", "model")
    events = Trainer(network, feed, None, config, device=CPU).events()
    next(events)
    start = time.process_time()
    for _ in events:
        pass
    return time.process_time() - start


def layers(sizes: tuple[int, ...]) -> nn.Sequential:
    """Return a perceptron with ReLU between its layers."""
    parts = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def by_bare_loop(flux: Tensor, labels: Tensor, batch: int, steps: int, fused: bool, head: bool) -> float:
    """Return the CPU seconds of some steps of a plain loop."""
    torch.manual_seed(0)
    encoder, decoder = layers((PIXELS, 512, 256, LATENT)), layers((LATENT + 4, 256, 512, PIXELS))
    discriminators = [layers((LATENT, 64, 32, BINS)) for _ in LABELS]
    regressor = layers((LATENT, 200, 100, 2 * len(LABELS)))
    strengths = (0.01, 0.01, -0.01, -0.01)

    def adam(*modules: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for m in modules for p in m.parameters()], 1e-3, fused=fused)

    moves, moved, read = [adam(one) for one in discriminators], adam(encoder, decoder), adam(regressor)
    low, high = labels.amin(0), labels.amax(0)
    bins = ((labels - low) / (high - low) * BINS).long().clamp(max=BINS - 1)
    start, order, at = time.process_time(), torch.randperm(len(flux)), 0
    for _ in range(steps):
        if at + batch > len(flux):
            order, at = torch.randperm(len(flux)), 0
        rows = order[at : at + batch]
        at += batch
        x, y, target = flux[rows], labels[rows], bins[rows]
        z = torch.sigmoid(encoder(x))
        seen = z.detach()
        for number, (discriminator, move) in enumerate(zip(discriminators, moves, strict=True)):
            loss = functional.cross_entropy(discriminator(seen), target[:, number])
            move.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            move.step()
            loss.item()
        if head:
            mean, error = regressor(seen).chunk(2, dim=1)
            loss = (0.5 * ((y - mean) / error.exp()).square() + error).sum(1).mean()
            read.zero_grad()
            loss.backward()
            read.step()
            loss.item()
        loss = (decoder(torch.cat([z, y], dim=1)) - x).square().mean()
        for number, (discriminator, strength) in enumerate(zip(discriminators, strengths, strict=True)):
            loss = loss - strength * functional.cross_entropy(discriminator(z), target[:, number])
        moved.zero_grad()
        loss.backward()
        moved.step()
        loss.item()
    return time.process_time() - start


def compare_steps(samples: int) -> list[dict[str, Any]]:
    """Return a row for each pair of loops over about so many spectra."""
    spectra, found = noise(), []
    flux = torch.tensor(spectra.flux)
    labels = torch.from_numpy(np.column_stack([spectra.table[name] for name in LABELS])).float()
    labels = (labels - labels.mean(0)) / labels.std(0)
    cases: tuple[tuple[str, str, bool, bool, Engine], ...] = (
        ("as they come", "auto", False, False, "bins"),
        ("fused Adam in both", "auto", True, False, "bins"),
        ("fused Adam, same products", "highest", True, False, "bins"),
        ("as they come, with regressors", "auto", False, True, "bins"),
        ("default engine, bare loop as it comes", "auto", False, True, "bottleneck"),
    )
    for batch, (name, mode, fused, head, engine) in product(BATCHES, cases):
        steps = samples // batch
        ours, bare = [], []
        for pair in range(PAIRS + 1):
            seconds = by_trainer(spectra, batch, steps, mode, head, engine)
            with matmul_mode("highest"):
                plain = by_bare_loop(flux, labels, batch, steps, fused, head)
            if pair:  # the first pair warms up
                ours.append(seconds)
                bare.append(plain)
        ratios = [b / a for a, b in zip(ours, bare, strict=True)]
        found.append(
            {
                "loops": name,
                "batch": batch,
                "draper spectra/s": steps * batch / statistics.median(ours),
                "bare loop spectra/s": steps * batch / statistics.median(bare),
                "ratio (median)": statistics.median(ratios),
                "ratio (range)": f"{min(ratios):.2f}-{max(ratios):.2f}",
            }
        )
    return found


# ---------------------------------------------------------------------- the time


@dataclass(frozen=True)
class Curve:
    """Held-out error after CPU seconds of training: of spectra as observed, and without their noise."""

    seconds: list[float]
    observed: list[float]
    clean: list[float]

    def reaches(self, error: float, which: str = "observed") -> float:
        """Return the first CPU second at which an error is reached, NaN if never."""
        errors = getattr(self, which)
        return next((s for s, e in zip(self.seconds, errors, strict=True) if e <= error), float("nan"))


def learn(train: Spectra, measure: Callable[[Disentangler], tuple[float, float]], **options: Any) -> Curve:
    """Train, and measure on the way; the clock stands still meanwhile."""
    one = model()
    own = dict(one.config.training_for(len(train)))
    if "epochs" in options:
        del own["steps"]
    given = {"threads": 1, "progress": "none", "patience": None, **options}
    config = TrainConfig(**{**own, **given})
    network, feed = made(one, train, config)
    steps = config.total_steps(feed.rows, feed.size)
    trainer = Trainer(network, feed, None, config.replace(log_every=max(1, steps // 40)), device=CPU)
    events = trainer.events()
    next(events)
    curve, spent = Curve([], [], []), 0.0
    while True:
        start = time.process_time()
        event = next(events, None)
        spent += time.process_time() - start
        if event is None:
            return curve
        network.eval()
        observed, clean = measure(one)
        curve.seconds.append(spent)
        curve.observed.append(observed)
        curve.clean.append(clean)


def compare_times(number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row for each setting, and the curves."""
    stars = Survey("gaia-rvs-800").simulate(number, seed=1)
    clean = Survey("gaia-rvs-800", snr=(np.inf, np.inf)).simulate(number, seed=1)
    learnt, held_out = stars.split_rows(0.8, seed=1)
    test, truth = stars[held_out], clean[held_out].flux
    good = test.ivar > 0

    def measure(one: Disentangler) -> tuple[float, float]:
        residuals = [one.generate(test).flux - flux for flux in (test.flux, truth)]
        return tuple(float(np.sqrt(np.mean(np.square(r[good])))) for r in residuals)  # type: ignore[return-value]

    constant = {"schedule": "constant", "clip": None, "batch_size": 50, "epochs": 20}
    theirs, ours = learn(stars[learnt], measure, **constant), learn(stars[learnt], measure)
    rows: list[dict[str, Any]] = [{"settings": "GANDALF's settings"}, {"settings": "draper's settings"}]
    for which in ("observed", "clean"):
        # Both reach it: the best error of the one that is worse.
        goal = max(min(getattr(curve, which)) for curve in (theirs, ours))
        for row, curve in zip(rows, (theirs, ours), strict=True):
            row |= {
                f"rms to {which}, in the end": getattr(curve, which)[-1],
                f"CPU s to {goal:.5f} ({which})": curve.reaches(goal, which),
                f"times sooner ({which})": theirs.reaches(goal, which) / curve.reaches(goal, which),
            }
    curves = {
        str(row["settings"]): {key: [round(v, 6) for v in values] for key, values in vars(curve).items()}
        for row, curve in zip(rows, (theirs, ours), strict=True)
    }
    return rows, curves


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    samples = (400 if options.full else 60) * max(BATCHES)
    rows = compare_steps(samples)
    facts = {"threads": 1, "spectra": samples, "pairs": PAIRS, "figure": "spectra per CPU second"}
    chosen = {"products chosen by draper": fastest_mode()}
    report("step, 800 pixels, 512-256-25, four discriminators", rows, facts | chosen, None)
    number = 64_305 if options.full else 16_000
    times, curves = compare_times(number)
    report(
        f"time to the error of GANDALF's settings, {number:,} simulated stars", times,
        {"threads": 1, "held out": "a fifth", "curves": curves}, options.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
