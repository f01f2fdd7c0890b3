"""Made spectra of three lines, whose depths follow two labels and one thing that no label tells."""

from __future__ import annotations

import numpy as np

from draper import Grid, Spectra, TrainConfig

GRID = Grid.linear(8500, 8529, 1.0, medium="vacuum")
CENTRES = {"teff": 8505.0, "fe_h": 8515.0, "hidden": 8525.0}
RANGES = {"teff": (4000.0, 7000.0), "fe_h": (-2.0, 0.5), "hidden": (0.0, 1.0)}
QUICK = TrainConfig(steps=20, batch_size=64, learning_rate=1e-2, threads=1, matmul="highest", progress="none")
SMALL = {"latent": 4, "encoder": (16,), "decoder": (16,), "critic": (8,)}
ENGINES = ("bottleneck", "bins", "joint", "continuous", "hsic", "none")


def window(name: str) -> slice:
    """Return the pixels of the line that follows a factor; the lines do not overlap."""
    start = int(CENTRES[name] - 8505)
    return slice(start, start + 10)


def flux_at(factors: dict[str, np.ndarray]) -> np.ndarray:
    """Return spectra (n, p) without noise."""
    flux = 1.0
    for name, (low, high) in RANGES.items():
        depth = 0.1 + 0.4 * (np.asarray(factors[name], dtype=np.float64) - low) / (high - low)
        flux = flux - depth[..., None] * np.exp(-0.5 * ((GRID.vacuum - CENTRES[name]) / 1.5) ** 2)
    return np.asarray(flux)


def stars(n: int, seed: int = 0, snr: float = 100.0) -> Spectra:
    """Return spectra of independent factors, which are columns of their table, with noise."""
    random = np.random.default_rng([seed, n])
    factors = {name: random.uniform(*ends, n) for name, ends in RANGES.items()}
    flux = flux_at(factors) + random.normal(0, 1 / snr, (n, len(GRID)))
    table = {"id": np.array([f"star-{seed}-{row}" for row in range(n)]), **factors}
    return Spectra(GRID, flux, np.full(flux.shape, snr**2), table, "normalised flux")


def labelled(spectra: Spectra, known: np.ndarray, *names: str) -> Spectra:
    """Return the spectra with labels that are unknown but for some rows."""
    return spectra.with_columns(**{name: np.where(known, spectra.table[name], np.nan) for name in names})


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
