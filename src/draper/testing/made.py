"""Made spectra with known truth."""

from __future__ import annotations

import numpy as np

from draper.data.grid import Grid
from draper.data.spectra import Spectra


def made_spectra(n: int, *, pixels: int = 96, snr: float = 100.0, seed: int = 0) -> Spectra:
    """Return spectra of a few lines whose depths follow three labels, with noise of a known size.

    Examples
    --------
    >>> made_spectra(2)
    Spectra(2 x 96 px, normalised flux, 8460.000-8700.000 A vacuum, columns: id, teff, logg, fe_h)
    """
    grid = Grid.from_wavelength(np.linspace(8460, 8700, pixels), medium="vacuum", resolving_power=2000)
    lines = np.random.default_rng(7)
    centres, widths = lines.uniform(8465, 8695, 24), lines.uniform(2, 6, 24)
    pull = lines.normal(0, 1, (3, 24))
    random = np.random.default_rng([seed, n])
    unit = random.uniform(0, 1, (n, 3))
    depth = 0.35 / (1 + np.exp(-(unit - 0.5) @ pull))
    profile = np.exp(-0.5 * ((grid.vacuum - centres[:, None]) / widths[:, None]) ** 2)
    flux = np.exp(-depth @ profile) + random.normal(0, 1 / snr, (n, pixels))
    table = {
        "id": np.array([f"star-{seed}-{row}" for row in range(n)], dtype=str),
        "teff": 4000 + 3000 * unit[:, 0],
        "logg": 5 * unit[:, 1],
        "fe_h": -2 + 2.5 * unit[:, 2],
    }
    return Spectra(
        grid, flux, np.full((n, pixels), snr**2), table, "normalised flux", meta={"source": "made"}
    )
