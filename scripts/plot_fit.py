"""Fit a real star with the built-in emulator and draw the figure of docs/howto/fit-labels.md.

python scripts/plot_fit.py SPECTRUM [OUT]

SPECTRUM is Kepler-93.csv of Gaia RVS; fit.png is written into OUT (docs/images), the labels are printed.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import draper
from draper.models.emulator.model import Emulator
from draper.plots.overlay import plot_overlay, title_of_estimates
from draper.plots.style import save

LITERATURE = {"teff": (5669.0, 75.0), "logg": (4.47, 0.01), "fe_h": (-0.18, 0.10)}


def main(source: Path, out: Path) -> None:
    star = draper.read(source)
    emulator = cast(Emulator, draper.load("builtin:rvs-emulator"))
    found, model = emulator.explain(star, recipe="gaia-rvs", priors="population")
    for name, (value, error) in LITERATURE.items():
        sigma = float(found.sigma[0, found.labels.names.index(name)])
        away = (found[name][0] - value) / (sigma**2 + error**2) ** 0.5
        print(f"{name} {found[name][0]:.2f} +- {sigma:.2f}, literature {value} +- {error}: {away:+.1f} sigma")
    # Residuals are drawn in units of the errors used by the fit, which include those of the model.
    jitter = float(found.columns["jitter"][0])
    taken = replace(star, ivar=star.ivar / (1 + jitter**2 * star.ivar))
    figure = plot_overlay(taken, model, title=title_of_estimates(found, 0), rv=float(found["rv"][0]))
    figure.set_dpi(90)
    print(save(figure, out / "fit.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images"))
