"""Train a disentangler on a simulated survey and draw the figures of docs/guides/disentangler.md.

python scripts/plot_disentangler.py [OUT]

leakage.png, relabelled.png and error-grid.png are written to OUT (docs/images); the leakage is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

import draper
from draper.models.disentangler.model import Disentangler
from draper.plots.leakage import plot_leakage
from draper.plots.relabelled import plot_error_grid, plot_relabelled
from draper.plots.style import save
from draper.simulate.population import microturbulence
from draper.simulate.survey import Preset, Survey

STARS, STEPS = 30_000, 3000
DWARFS = 4.0
"""Stars of larger log g are relabelled, since giants of 6500 K do not exist."""
CENTRES = np.arange(4600.0, 6401.0, 300.0)
EACH = 25
"""Largest number of stars of each temperature."""


def truly(stars: draper.Spectra, teff: ArrayLike) -> draper.Spectra:
    """Return the noiseless spectra of the same stars at other temperatures."""
    simulator = Survey(Preset(stars.grid, (0.0, 0.0), (np.inf, np.inf)))
    names = simulator.prior.names
    table = {name: stars.column(f"{name}_true" if f"{name}_true" in stars.table else name) for name in names}
    table["teff"] = np.broadcast_to(np.asarray(teff, dtype=np.float64), (len(stars),))
    table["vmic"] = microturbulence(table["teff"], table["logg"])
    return simulator.simulate(table)


def error_grid(model: Disentangler, stars: draper.Spectra) -> NDArray[np.float64]:
    """Return the rms error (a, b) of spectra relabelled from one temperature to another."""
    old = stars.column("teff_true")
    step = float(np.diff(CENTRES)[0])
    found = np.full((len(CENTRES), len(CENTRES)), np.nan)
    for row, centre in enumerate(CENTRES):
        some = stars[np.flatnonzero(np.abs(old - centre) < step / 2)[:EACH]]
        if len(some) == 0:
            continue
        for column, wanted in enumerate(CENTRES):
            made, truth = model.generate(some, teff=wanted), truly(some, wanted)
            found[row, column] = np.sqrt(np.mean((made.flux - truth.flux) ** 2))
    return found


def main(out: Path) -> None:
    stars = Survey("gaia-rvs-800").simulate(STARS, seed=3)
    train, test = stars.split(0.8, seed=3)
    model = Disentangler(remove=["teff", "logg"], keep=["fe_h", "alpha_fe"], probe=False)
    model.fit(train, train=draper.TrainConfig(steps=STEPS, threads=1, progress="none"))
    report = model.leakage(test, truth="_true", seeds=[0])
    print(report)
    save(plot_leakage(report), out / "leakage.png")

    dwarfs = test[(test.column("logg_true") > DWARFS) & (test.column("snr") > 50)]
    star = dwarfs[np.abs(dwarfs.column("teff_true") - 5400) < 50][:1]
    figure = plot_relabelled(
        star,
        model.generate(star, teff=6200.0),
        reconstruction=model.generate(star),
        truth=truly(star, 6200.0),
    )
    save(figure, out / "relabelled.png")

    grid = error_grid(model, dwarfs)
    print(grid.round(4))
    axes = plot_error_grid(CENTRES, CENTRES, grid, name="teff", what="rms error of normalised flux")
    save(axes, out / "error-grid.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
