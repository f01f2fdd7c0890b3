"""A made set of spectra that looks like APOGEE's: many labels, many saturated lines, no noise.

Each of 1200 Gaussian lines follows temperature, gravity, microturbulence and the abundance of one element,
saturates, and multiplies with its neighbours. The set is not physics, but has what makes an emulator's life
hard: 25 labels of which most move a few pixels each, and interactions of the strong ones with all others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet

Array = NDArray[np.float32]

LINES = 1200
PIXELS = 7214
LOW, HIGH = 15168.13, 16936.75
"""The range of APOGEE, Angstrom."""

NAMES = (
    "teff", "logg", "vmic", "c_fe", "n_fe", "o_fe", "na_fe", "mg_fe", "al_fe", "si_fe", "p_fe", "s_fe",
    "k_fe", "ca_fe", "ti_fe", "v_fe", "cr_fe", "mn_fe", "fe_h", "co_fe", "ni_fe", "cu_fe", "ge_fe",
    "c12_c13", "vmac",
)  # fmt: skip
"""Names for the 25 labels; the set does not know what they mean."""

LABELS = LabelSet(Label(name, "-", -0.5, 0.5) for name in NAMES)


def grid() -> Grid:
    """Return pixels even in log(lambda)."""
    return Grid.from_wavelength(np.geomspace(LOW, HIGH, PIXELS), medium="vacuum")


def windows() -> Grid:
    """Return the pixels of 4MOST at high resolution: three windows in steps of 0.05 Angstrom."""
    ranges = ((3926, 4355), (5160, 5730), (6100, 6790))
    return Grid.from_wavelength(np.concatenate([np.arange(a, b, 0.05) for a, b in ranges]), medium="vacuum")


def make(n: int, pixels: Grid | None = None, seed: int = 1, labels: int = len(NAMES)) -> tuple[Array, Array]:
    """Return labels (n, labels), the first ones, uniform in +-0.5, and flux (n, p); the others are 0."""
    random = np.random.default_rng(0)
    wavelength = (pixels or grid()).vacuum
    centre = np.exp(random.uniform(np.log(wavelength[0]), np.log(wavelength[-1]), LINES))
    strength, teff = random.normal(-1.6, 1.2, LINES), random.normal(-1, 1.2, LINES)
    logg, curve = random.normal(0, 0.6, LINES), random.normal(0, 0.8, LINES)
    turbulence, element = random.normal(0.2, 0.1, LINES), random.integers(3, len(NAMES), LINES)
    x = np.random.default_rng(seed).uniform(-0.5, 0.5, (n, len(NAMES)))
    x[:, labels:] = 0
    tau = np.exp(
        strength
        + 2 * teff * x[:, :1]
        + 2 * logg * x[:, 1:2]
        + 4 * curve * x[:, :1] ** 2
        + turbulence * x[:, 2:3]
        + 2.76 * x[:, element]
    )
    tau = (tau / (1 + 0.35 * tau)).astype(np.float32)
    width = (40e-6 * (1 + 0.35 * x[:, 2])).astype(np.float32)
    depth = np.zeros((n, len(wavelength)), dtype=np.float32)
    for line in range(LINES):
        reach = 6 * 40e-6 * 1.2 * centre[line]
        first, last = np.searchsorted(wavelength, [centre[line] - reach, centre[line] + reach])
        place = (wavelength[first:last] / centre[line] - 1).astype(np.float32)
        depth[:, first:last] += tau[:, line, None] * np.exp(-0.5 * (place / width[:, None]) ** 2)
    return x[:, :labels].astype(np.float32), np.exp(-depth)
