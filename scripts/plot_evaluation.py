"""Evaluate an emulator of the RVS grid on held-out spectra and draw the figure of docs/howto/evaluate.md.

python scripts/plot_evaluation.py [OUT]

recovery.png is written to OUT (docs/images); the figures of merit are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import draper
from draper.models.emulator.model import Emulator
from draper.plots.recovery import plot_recovery
from draper.plots.style import save

SNR = 100.0
SHOWN = ("teff", "logg", "fe_h")


def main(out: Path) -> None:
    train, test = draper.samples.load("rvs-grid").split(0.9, seed=1)
    quickly = draper.TrainConfig(steps=6000, threads=1, progress="none")
    model = Emulator(hidden=[256, 256]).fit(train, train=quickly)
    report = model.evaluate(test, snr=SNR, rv=0.0)
    assert report.estimates is not None
    for name, one in report.unflagged_labels.items():
        print(name, *(f"{what} {one[what]:.4g}" for what in ("scatter", "robust_scatter", "pull_std")))
    print(report.to_json()["spectra"], report.flags)
    figure = plot_recovery(report.estimates, test.table, SHOWN, colour="fe_h")
    figure.set_dpi(90)
    print(save(figure, out / "recovery.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
