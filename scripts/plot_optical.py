"""Draw the figures of docs/howto/high-resolution.md: four real stars, and stars of MILES.

python scripts/plot_optical.py DATA [OUT]

DATA holds harps/, uves_sun/, mike_hd122563/ and miles/; optical-stars.png and miles.png are written to OUT
(docs/images). Files and options are those of benchmarks/optical.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

import draper
from draper.configs.fit import FitConfig
from draper.infer.prepare import as_sharp_as_the_model
from draper.models.emulator.model import Emulator
from draper.plots.style import BLACK, BLUE, RED, STYLE, new_figure, save

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from optical import AIR, ANCHORS, RANGE, SHOWN, STARS

ARTIFACT = "builtin:optical-emulator"
WINDOW = (5182.0, 5212.0)
"""What is drawn of the four stars [vacuum Angstrom]."""

FOUR = ("Sun, UVES", "18 Sco", "Procyon", "HD 122563")


def four_stars(data: Path) -> Figure:
    """Return spectra of four stars with fits, the Sun being the zero point."""
    model = cast(Emulator, draper.load(ARTIFACT))
    path, hints, options, _ = STARS[next(iter(STARS))]
    model.zero_point(draper.read(data / path, **hints), "sun", **options)
    figure = new_figure(len(FOUR), 1, width=9.0, height=8.0)
    for ax, name in zip(figure.axes, FOUR, strict=True):
        path, hints, options, truth = STARS[name]
        config = FitConfig(**options)
        (star,), config = as_sharp_as_the_model(model.own_grid, [draper.read(data / path, **hints)], config)
        found, fit = model.explain(star, config)
        shift = 1 + found["rv"][0] / 299_792.458
        near = (fit.grid.vacuum > WINDOW[0] * shift) & (fit.grid.vacuum < WINDOW[1] * shift)
        x, y = fit.grid.vacuum[near] / shift, fit.flux[0, near]
        seen = np.interp(fit.grid.vacuum[near], star.grid.vacuum, star.flux[0])
        level = np.quantile(y, 0.98)
        ax.plot(x, seen / level, color=BLACK, linewidth=0.8)
        ax.plot(x, y / level, color=RED, linewidth=0.8)
        ax.plot(x, (seen - y) / level, color=BLUE, linewidth=0.6)
        values = [
            f"{label} {found[label][0]:.{digits}f} ({true:.{digits}f})"
            for label, true, digits in zip(SHOWN, truth, (0, 2, 2), strict=True)
        ]
        ax.set_title(f"{name}: {', '.join(values)}", fontsize=9, loc="left")
        ax.set_xlim(*WINDOW)
    figure.axes[-1].set_xlabel("wavelength at rest [vacuum Å]")
    figure.supylabel("flux: observed (black), fitted (orange), difference (blue)", fontsize=9)
    return figure


def kiel(data: Path) -> Figure:
    """Return Kiel diagrams of MILES: by the catalogue, and by fits with twenty stars as zero point."""
    stars = draper.read(data / "miles/miles.npz", **AIR)
    labels = np.stack([stars.table[name] for name in SHOWN], axis=1)
    stars = stars[np.isfinite(labels).all(axis=1) & (labels[:, 0] > RANGE[0]) & (labels[:, 0] < RANGE[1])]
    model = cast(Emulator, draper.load(ARTIFACT))
    chosen = np.sort(np.random.default_rng(0).permutation(len(stars))[:ANCHORS])
    model.learn_error(stars[chosen], recipe="miles").zero_point(stars[chosen], recipe="miles")
    rest = ~np.isin(np.arange(len(stars)), chosen)
    found = model.predict(stars[rest], recipe="miles")
    sound = ~np.stack(list(found.flags.values())).any(axis=0)
    figure = new_figure(1, 2, width=9.0, height=4.2)
    truth = {name: np.asarray(stars.table[name][rest], dtype=float) for name in SHOWN}
    fitted = {name: found[name] for name in SHOWN}
    titles = ("catalogue", f"draper, {ANCHORS} other stars as zero point")
    for ax, title, one in zip(figure.axes, titles, (truth, fitted), strict=True):
        ax.scatter(one["teff"][~sound], one["logg"][~sound], s=12, color="#BBBBBB", label="flagged")
        x, y, colour = (one[name][sound] for name in SHOWN)
        drawn = ax.scatter(x, y, s=12, c=colour, vmin=-2, vmax=0.4)
        ax.set_title(title)
        ax.set_xlabel("Teff [K]")
        ax.set_xlim(7600, 3900)
        ax.set_ylim(5.4, -0.2)
    figure.axes[0].set_ylabel("log g")
    figure.axes[1].legend(loc="upper left")
    figure.colorbar(drawn, ax=figure.axes, label="[Fe/H]")
    return figure


def main(data: Path, out: Path) -> None:
    torch.set_num_threads(1)
    with rc_context(STYLE):
        for name, figure in (("optical-stars", four_stars(data)), ("miles", kiel(data))):
            figure.set_dpi(90)
            print(save(figure, out / f"{name}.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images"))
