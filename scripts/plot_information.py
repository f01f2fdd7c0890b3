"""Draw the figure of docs/howto/forecast.md: the information in the RVS range of a Sun at S/N 100.

python scripts/plot_information.py [OUT]

information.png is written to OUT (docs/images); bounds are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import draper
from draper.models.emulator.model import Emulator
from draper.plots.gradients import plot_gradients
from draper.plots.style import save

COLOURS = 128
"""Resolution of the picture, low to keep the file small."""

SHOWN = ("teff", "logg", "fe_h", "ca_fe", "si_fe")


def main(out: Path) -> None:
    train, _ = draper.samples.load("rvs-grid").split(0.9, seed=1)
    quickly = draper.TrainConfig(steps=1500, threads=1, progress="none")
    model = Emulator(hidden=[128, 128]).fit(train, train=quickly)
    sun = {"teff": 5777.0, "logg": 4.44} | {
        name: 0.0 for name in model.labels.names if name.endswith(("_h", "_fe"))
    }
    grid = draper.Grid.linear(8460, 8700, 0.25, medium="vacuum", resolving_power=11_500)
    found = model.information(sun, snr=100, grid=grid, emulator_error=False)
    print(found)
    figure = plot_gradients(found, SHOWN)
    path = save(figure, out / "information.png")
    with Image.open(path) as image:
        packed = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    packed.save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
