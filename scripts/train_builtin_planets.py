"""Train the retriever that draper ships as builtin:planets, and measure its coverage.

python scripts/train_builtin_planets.py [OUT [ARTIFACT]]

The same as ``draper train retriever --simulator planets --simulator.clouds --simulator.haze
--train.steps 10000 -o ARTIFACT``, which may be given if it was run before; coverage is measured on more
spectra.
"""

from __future__ import annotations

import sys
from pathlib import Path

import draper
from draper.configs.train import TrainConfig
from draper.models.retriever.calibrate import calibrated
from draper.models.retriever.model import Retriever
from draper.simulate.planets import Planets

STEPS = 10_000
SPECTRA = 4000
"""Spectra of each instrument on which coverage is measured."""


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "src/draper/models/packed/planets")
    if len(sys.argv) > 2:
        model = draper.load(sys.argv[2])
        assert isinstance(model, Retriever)
    else:
        train = TrainConfig(steps=STEPS, threads=1, progress="none")
        model = Retriever(calibration=0).fit(Planets(clouds=True, haze=True), train=train)
    model.config = model.config.replace(calibration=SPECTRA)
    model.training["calibration"] = calibrated(model, Planets().simulate(1))
    model.save(out, overwrite=True)
    for path in sorted(out.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
