"""Compare the radiative transfer and the geometry of the planet model with TauREx 3, over the wide box.

python scripts/check_planets.py [PLANETS]

Both have the same opacities: TauREx as tables in memory. What tables cannot hold, or TauREx needs files for,
is left out of both: saturation within a bin, absorption by pairs, hazes; so is the change of opacities with
pressure, since those of the planet model are means along a ray. Scattering is TauREx's. TauREx's sums over
layers are extrapolated to infinitely thin ones. Errors are those in front of a star of one solar radius; in
front of another they are divided by its radius squared, as the depths are.

Without saturation strong lines of extended planets are opaque up to the top of the atmosphere, where both
models stop, each in its way: errors are also listed without these bins.
"""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from draper.simulate.adapters.planet_tables import OPACITY_UNIT, planet_tables
from draper.simulate.adapters.taurex import CrossSections, TaurexPlanets, bin_means
from draper.simulate.planet_units import BOTTOM, GASES, TOP
from draper.simulate.planets import WIDE, native_edges, opacities
from draper.simulate.transit import (
    LARGEST_RISE,
    OPACITY_RANGE,
    TEMPERATURE,
    Opacities,
    chords,
    disc_depth,
    is_bound,
    log_pressures,
    polynomial,
    pressure_terms,
    relative_height,
)

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

SEED, PLANETS, EXTENDED = 0, 200, 100
RISE = (0.4, 0.8)
"""Range of (scale height / radius) x ln(pressure at the bottom / at the top) of extended planets."""

LAYERS = (150, 300)
"""The error of TauREx's sums is proportional to the thickness of a layer: two numbers tell its limit."""

THIN = 0.01
"""Largest optical depth at the top of bins that it does not touch."""

HEIGHTS = (0.0, 0.002, 0.005, 0.01, 0.015, 0.02, LARGEST_RISE / math.log(BOTTOM / TOP), 0.028, 0.032)
"""Limits of scale height / radius between which errors are listed."""

GAS = (-3.3, -4.3, -6.0, -4.0)
KNOWN = {
    "HD 209458 b": (0.69, 1450.0, 1.36),
    "WASP-39 b": (0.28, 1100.0, 1.27),
    "WASP-17 b": (0.51, 1700.0, 1.99),
    "WASP-107 b, 0.1 MJ": (0.1, 740.0, 0.94),
    "HD 189733 b": (1.13, 1200.0, 1.13),
    "WASP-127 b": (0.165, 1400.0, 1.31),
    "KELT-11 b": (0.171, 1710.0, 1.35),
}
"""Mass [MJ], temperature [K] and radius [RJ] of planets with well-known spectra."""


def flat() -> Opacities:
    """Return the opacities without their change with pressure."""
    found = opacities(torch.float64)
    return found._replace(rise=torch.zeros_like(found.rise))


def tables() -> dict[str, CrossSections]:
    """Return the opacities in so fine steps that it does not matter how TauREx interpolates."""
    inside = np.linspace(*OPACITY_RANGE, 41)
    temperature = np.concatenate([[WIDE["temperature"].low], inside, [WIDE["temperature"].high]])
    return planet_tables(flat(), temperature, np.geomspace(TOP, BOTTOM, 150))


EDGES = native_edges()[1:-1]
"""Bins that lie between the first and the last point of the tables."""


def theirs(labels: Array, found: dict[str, CrossSections]) -> Array:
    """Return TauREx's depths (n, p) of planets with labels (n, 7), extrapolated to thin layers."""
    coarse, fine = (
        np.stack([adapter.spectrum(dict(zip(WIDE.names, row.tolist(), strict=True))) for row in labels])
        for adapter in (TaurexPlanets(found, edges=EDGES, layers=layers) for layers in LAYERS)
    )
    return fine + (fine - coarse) * LAYERS[0] / (LAYERS[1] - LAYERS[0])


def scattering(labels: Array, wavelength: Array) -> Array:
    """Return TauREx's opacity by scattering (n, p) [1e-24 cm2] of mixtures with labels (n, 7)."""
    from taurex.util.scattering import rayleigh_sigma_from_name

    rays = chords(torch.from_numpy(labels), log_pressures(), exact_weight=True)
    parts = dict(zip([gas.upper() for gas in GASES], rays.abundance.numpy().T, strict=True))
    parts |= {"H2": rays.hydrogen.numpy()[:, 0], "He": rays.helium.numpy()[:, 0]}
    total = np.zeros((len(labels), len(wavelength)))
    for name, part in parts.items():
        sigma = rayleigh_sigma_from_name(name, 1e4 / wavelength)
        if sigma is not None:
            total += part[:, None] * sigma * (1e4 / OPACITY_UNIT)
    return total


def ours(labels: Array) -> tuple[Array, Flags]:
    """Return the depths (n, p) of the planet model, from the same physics, and which have a thin top."""
    found, values = flat(), torch.from_numpy(labels)
    wavelength = found.wavelength.numpy()
    theta = (TEMPERATURE / values[:, 1].clamp(*OPACITY_RANGE) - 1)[:, None, None]
    strength = polynomial(found.strength, theta).exp()
    rays = chords(values, log_pressures(), exact_weight=True)
    depth = disc_depth(
        rays,
        torch.from_numpy(scattering(labels, wavelength)),
        torch.zeros(len(labels), len(wavelength), dtype=torch.float64),
        strength,
        torch.zeros_like(strength),
        pressure_terms(log_pressures(), found.onset, found.decay, found.rise),
    )
    top = rays.column[:, -1:] * (rays.abundance[:, :, None] * strength).sum(1)
    binned = np.stack([bin_means(wavelength, row, EDGES) for row in depth.numpy()])
    return binned, top.numpy()[:, 1:-1] < THIN


def draw(count: int, extended: int) -> Array:
    """Draw labels (n, 7) in the wide box, and further ones of extended planets, bound or not."""
    random = np.random.default_rng(SEED)
    labels = WIDE.unscale(random.uniform(size=(100 * (count + extended), len(WIDE))))
    rise = relative_height(torch.from_numpy(labels), exact_weight=True).numpy() * math.log(BOTTOM / TOP)
    bound = is_bound(torch.from_numpy(labels), exact_weight=True).numpy()
    far = np.flatnonzero((rise > RISE[0]) & (rise < RISE[1]))
    return np.concatenate([labels[bound][:count], labels[far[:extended]]])


def line(name: str, error: Array, size: Array, thin: Flags) -> str:
    """Return errors (n, p) as numbers, also relative to sizes (n,) of features, and where tops are thin."""
    rms = np.sqrt(np.mean(error**2, axis=1))
    below = np.sqrt(np.sum(error**2 * thin, axis=1) / thin.sum(1)) / size
    return (
        f"{name:27} {len(error):3d}  {1e6 * np.sqrt(np.mean(error**2)):7.2f} {1e6 * np.median(rms):7.2f} "
        f"{1e6 * np.abs(error).max():7.1f}  {1e6 * np.median(size):6.0f}  {np.median(rms / size):.3%} "
        f"{(rms / size).max():.3%}  {np.median(below):.3%} {below.max():.3%}"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PLANETS
    torch.set_num_threads(1)
    known = np.array([[*planet, *GAS] for planet in KNOWN.values()])
    labels = np.concatenate([draw(count, EXTENDED), known])
    expected, (found, thin) = theirs(labels, tables()), ours(labels)
    error, size = found - expected, np.ptp(expected, axis=1)
    height = relative_height(torch.from_numpy(labels), exact_weight=True).numpy()
    bound = is_bound(torch.from_numpy(labels), exact_weight=True).numpy()

    def show(name: str, rows: slice | Flags) -> None:
        note = "" if bound[rows].any() else ", not bound"
        print(line(name + note, error[rows], size[rows], thin[rows]))

    print(
        "error [ppm]: rms, median of rms, max; size of the features [ppm]; rms relative to it: median, max; "
        "the same where the top is thin"
    )
    show("the box", slice(0, count))
    for low, high in pairwise(HEIGHTS):
        chosen = (height >= low) & (height < high)
        if chosen.any():
            show(f"height {low:.4f}-{high:.4f}", chosen)
    for row, name in enumerate(KNOWN, start=len(labels) - len(KNOWN)):
        show(f"{name} {height[row]:.4f}", slice(row, row + 1))


if __name__ == "__main__":
    main()
