"""Real stars: Gaia XP sampled spectra with weak labels, and the MILES library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from draper.configs.train import TrainConfig
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.models.masked.ledger import ledger
from draper.models.masked.model import MaskedAutoencoder
from draper.results.estimates import Estimates
from draper.simulate.xp import LowResolution
from report import Sheet

Say = Callable[[str], None]


HOT = 8000.0
"""Temperature [K] above which weak labels are worth nothing."""


def read_xp(folder: Path) -> Spectra:
    """Return the real XP sampled spectra with their weak labels."""
    with np.load(folder / "gaia_xp_sampled" / "gaia_xp_sampled.npz", allow_pickle=False) as arrays:
        grid = Grid.from_wavelength(arrays["wavelength"], unit="nm", medium="vacuum")
        # Teff, log g and [M/H] of GSP-Phot come first.
        table = dict(zip(("teff", "logg", "fe_h"), arrays["labels"].T[:3].astype(np.float64), strict=True))
        return Spectra(grid, arrays["flux"], arrays["ivar"], {"id": arrays["ids"], **table})


def simulated(grid: Grid, number: int) -> Spectra:
    """Return simulated XP sampled spectra as the real ones are published: without correlations."""
    made = LowResolution("gaia-xp-sampled").simulate(number, seed=4)
    kept = {name: made.table[name] for name in ("teff", "logg", "fe_h")}
    # Real ones come in units ten times as large.
    return Spectra(grid, made.flux / 10, 100 * made.ivar, kept)


def xp_sampled(folder: Path, seeds: int, steps: int, say: Say) -> list[Sheet]:
    """Pre-train on simulations, fine-tune on a part of the real stars, and test on the rest."""
    real = read_xp(folder)
    real = real[real.table["teff"] < HOT]
    made = simulated(real.grid, 20_480)
    model = MaskedAutoencoder(columns=(), components=32)
    model.fit(made, train=TrainConfig(steps=steps, threads=1, progress="none"))
    labels = ("teff", "logg", "fe_h")
    rows = ledger(model, real, labels, sizes=(100, int(0.7 * len(real))), seeds=max(seeds, 3), say=say)
    shares = coverage(model, real, labels, max(seeds, 3))
    facts = {"real stars": len(real), "below [K]": HOT, "labels": "GSP-Phot, themselves from XP: weak"}
    facts |= {"pre-trained on": f"{len(made)} simulated stars", "held out": "30 %"}
    return [Sheet("Real XP sampled spectra", rows, facts), Sheet("Coverage on real XP", shares, facts)]


def coverage(
    model: MaskedAutoencoder, real: Spectra, labels: tuple[str, ...], seeds: int
) -> list[dict[str, Any]]:
    """Return the coverage of intervals on held-out stars."""
    from copy import deepcopy

    inside: dict[float, list[Any]] = {0.5: [], 0.68: [], 0.9: []}
    for seed in range(seeds):
        test, pool = real.split(0.3, seed=seed)
        tuned = deepcopy(model)
        train = TrainConfig(
            steps=600, batch_size=128, learning_rate=7e-4, threads=1, progress="none", seed=seed
        )
        tuned.fit(pool, valid=0.3, labels=labels, train=train)
        estimates: Estimates = tuned.predict(test)
        truth = test.columns(labels)
        for level, found in inside.items():
            low, high = estimates.interval(level)
            found.append(((truth >= low) & (truth <= high)).mean(axis=0))
    return [
        {
            "interval": f"{100 * level:g} %",
            **dict(zip(labels, (100 * np.mean(found, axis=0)).tolist(), strict=True)),
        }
        for level, found in inside.items()
    ]


def read_miles(folder: Path) -> Spectra:
    """Return MILES with the labels that are published."""
    with np.load(folder / "miles" / "miles.npz", allow_pickle=False) as arrays:
        grid = Grid.from_wavelength(arrays["wavelength"], unit="angstrom", medium="air")
        names = arrays["label_names"].tolist()
        table = dict(zip(names, arrays["labels"].T.astype(np.float64), strict=True))
        ivar = arrays["valid"].astype(np.float32)
        flux = np.where(arrays["valid"], arrays["flux"], 0)
        good = (ivar > 0).any(axis=1) & np.isfinite(arrays["labels"]).all(axis=1)
        good &= (table["teff"] > 3500) & (table["teff"] < HOT)
        spectra = Spectra(grid, flux, ivar, {"id": arrays["ids"], **table})
    return spectra[good]


def miles(folder: Path, seeds: int, say: Say) -> list[Sheet]:
    """Pre-train on MILES without labels, and fine-tune with few of them."""
    spectra = read_miles(folder)
    labels = ("teff", "logg", "fe_h")
    model = MaskedAutoencoder(columns=(), components=32)
    model.fit(spectra.with_columns(teff=None, logg=None, fe_h=None), valid=0.1,
              train=TrainConfig(steps=1500, batch_size=128, threads=1, progress="none"))  # fmt: skip
    sizes = (20, 100, min(400, int(0.7 * len(spectra))))
    rows = ledger(model, spectra, labels, sizes=sizes, seeds=max(seeds, 3), say=say)
    facts = {
        "stars": len(spectra),
        "Teff [K]": f"3500 to {HOT:g}",
        "held out": "30 %, also seen without labels",
    }
    return [Sheet("MILES", rows, facts)]
