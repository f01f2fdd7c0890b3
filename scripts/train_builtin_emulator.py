"""Train the emulator that draper ships as builtin:rvs-emulator, on the built-in grid of RVS spectra.

python scripts/train_builtin_emulator.py [OUT]

Fifteen per cent of the stars are the test set, used once at the end; a tenth of the others is held out during
training, as by default.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from draper.configs.train import TrainConfig
from draper.data import samples
from draper.models.emulator.model import Emulator

KEPT, SEED = 0.85, 0
HIDDEN, COMPONENTS = (300, 300, 300), 150
EPOCHS = 1000


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "src/draper/models/packed/rvs-emulator")
    spectra, test = samples.load("rvs-grid").split(KEPT, seed=SEED)
    start = time.process_time()
    model = Emulator(hidden=HIDDEN, components=COMPONENTS)
    model.fit(spectra, train=TrainConfig(epochs=EPOCHS, threads=1, progress="none"))
    seconds = time.process_time() - start
    error = model.generate({name: test.table[name] for name in model.labels.names}).flux - test.flux
    rms = np.sqrt(np.mean(error.astype(np.float64) ** 2, axis=1))
    model.training["test"] = {
        "what": "rms of normalised flux of each spectrum, stars that were kept aside",
        "spectra": len(test),
        "median": float(np.median(rms)),
        "p99": float(np.quantile(rms, 0.99)),
    }
    model.training["cpu_seconds"] = round(seconds)
    model.save(out, overwrite=True)
    print(f"test: median {np.median(rms):.4%}, 99 % {np.quantile(rms, 0.99):.4%}; {seconds:.0f} CPU s")
    for path in sorted(out.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
