"""Made spectra of a few lines with known truth: small data for examples, checks and tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet
from draper.data.spectra import Spectra
from draper.simulate.base import BLOCK, NOISE, Simulator, generator

LABELS = LabelSet([Label("teff", "K", 4000, 7000), Label("logg", "dex", 0, 5), Label("fe_h", "dex", -2, 0.5)])

FloatArray = NDArray[np.float64]


def made_spectra(n: int, *, pixels: int = 96, snr: float = 100.0, seed: int = 0) -> Spectra:
    """Return spectra of a few lines whose depths follow three labels, with noise of a known size.

    Examples
    --------
    >>> made_spectra(2)
    Spectra(2 x 96 px, normalised flux, 8460.000-8700.000 A vacuum, columns: id, teff, logg, fe_h)
    """
    grid = made_grid(pixels)
    random = np.random.default_rng([seed, n])
    unit = random.uniform(0, 1, (n, 3))
    flux = lines(unit, grid) + random.normal(0, 1 / snr, (n, pixels))
    table = {
        "id": np.array([f"star-{seed}-{row}" for row in range(n)], dtype=str),
        "teff": 4000 + 3000 * unit[:, 0],
        "logg": 5 * unit[:, 1],
        "fe_h": -2 + 2.5 * unit[:, 2],
    }
    return Spectra(
        grid, flux, np.full((n, pixels), snr**2), table, "normalised flux", meta={"source": "made"}
    )


def made_observed(n: int, *, seed: int = 0) -> Spectra:
    """Return :func:`made_spectra` with a line at 8600 Angstrom, which synthetic ones lack.

    Examples
    --------
    >>> (made_spectra(1).flux - made_observed(1).flux).argmax()
    np.int64(55)
    """
    spectra = made_spectra(n, seed=seed)
    line = 0.2 * np.exp(-0.5 * ((spectra.grid.vacuum - 8600) / 3) ** 2)
    return Spectra(spectra.grid, spectra.flux - line, spectra.ivar, spectra.table, spectra.quantity)


class MadeStars(Simulator):
    """The same stars, drawn without end.

    Examples
    --------
    >>> len(MadeStars().simulate(2, seed=1).grid)
    96
    """

    prior = LABELS

    def __init__(self, pixels: int = 96, snr: float = 100.0) -> None:
        self.grid, self.snr = made_grid(pixels), snr

    def compute(self, labels: FloatArray, seed: int, block: int) -> Spectra:
        """Return the spectra of at most ``BLOCK`` rows of labels (n, 3)."""
        noise = generator(seed, NOISE, block).normal(0, 1 / self.snr, (BLOCK, len(self.grid)))
        flux = lines(self.prior.scale(labels), self.grid) + noise[: len(labels)]
        ivar = np.full(flux.shape, self.snr**2)
        return Spectra(self.grid, flux, ivar, quantity="normalised flux", meta={"source": "made"})


def made_grid(pixels: int) -> Grid:
    """Return the pixels of made spectra."""
    return Grid.from_wavelength(np.linspace(8460, 8700, pixels), medium="vacuum", resolving_power=2000)


def lines(unit: FloatArray, grid: Grid) -> FloatArray:
    """Return spectra (n, p) of 24 lines whose depths follow labels (n, 3), scaled to 0 to 1."""
    random = np.random.default_rng(7)
    centres, widths = random.uniform(8465, 8695, 24), random.uniform(2, 6, 24)
    strength = random.normal(0, 1, (3, 24))
    depth = 0.35 / (1 + np.exp(-(unit - 0.5) @ strength))
    profile = np.exp(-0.5 * ((grid.vacuum - centres[:, None]) / widths[:, None]) ** 2)
    flux: FloatArray = np.exp(-depth @ profile)
    return flux
