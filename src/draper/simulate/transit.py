"""The isothermal chord model of a transit: pure functions of tensors.

A ray that passes at radius r meets the column N(r) of an isothermal atmosphere in hydrostatic equilibrium.
A bin of R = 100 holds many lines, so the optical depth of a gas follows a curve of growth,
tau = 2 t / (1 + sqrt(1 + 2 s t)) with t = abundance x opacity x N: linear for weak and a square root for
strong absorption. The saturation s falls with pressure, because pressure broadens the lines.

Lengths are in Jupiter radii, columns in 1e24 molecules per cm2, opacities in 1e-24 cm2 per molecule, so that
all numbers fit single precision.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from draper.simulate.planet_units import (
    BOTTOM,
    HELIUM_RATIO,
    JUPITER_MASS,
    JUPITER_RADIUS,
    SUN_RADIUS,
    TOP,
)

GRAVITY = 6.67408e-11
BOLTZMANN = 1.380649e-23
ATOMIC_MASS = 1.66054e-27
MOLECULAR_MASSES = (18.015, 44.0095, 16.0425, 28.0101)
HYDROGEN_MASS, HELIUM_MASS = 2.01588, 4.002602
HELIUM_COLLISIONS = 0.3
"""Absorption by a pair H2-He relative to a pair H2-H2."""

NODES = 32
"""Number of rays, 0.8 scale heights apart: 0.2 ppm rms from the integral (see the tests)."""

PRESSURE = 1e4
"""Unit of pressure [Pa] in the formulas of the opacities."""

TEMPERATURE = 1500.0
"""Temperature [K] about which opacities are expanded."""

COLUMN_UNIT = 1e28
PAIR_UNIT = 1e53
DENSITY_UNIT = 1e26
"""Units of columns [1/m2], of columns of pairs [1/m5] and of densities [1/m3]."""


class Opacities(NamedTuple):
    """Opacities of bins: natural logarithms, polynomials in 1500 K / T - 1, gases in the order of ``GASES``.

    Attributes
    ----------
    wavelength : Tensor (p,)
        Centres of the bins [um].
    collisions : Tensor (3, p)
        Absorption by pairs of H2.
    strength : Tensor (4, 3, p)
        Opacity per molecule at low pressure.
    saturation : Tensor (4, 2, p)
        Curvature s of the curve of growth at low pressure.
    onset, decay : Tensor (4, p)
        The saturation falls as (1 + e^onset P)^-(e^decay).
    rise : Tensor (4, p)
        The opacity changes as (1 + P)^rise.
    """

    wavelength: Tensor
    collisions: Tensor
    strength: Tensor
    saturation: Tensor
    onset: Tensor
    decay: Tensor
    rise: Tensor


class Chords(NamedTuple):
    """Rays through the atmospheres of b planets at L pressures.

    Attributes
    ----------
    base : Tensor (b, 1)
        Transit depth of the opaque disc below the atmosphere.
    weight : Tensor (b, L)
        Transit depth that each node adds where it is opaque.
    column, pairs : Tensor (b, L)
        Molecules, and pairs of H2 with H2 or He, along the ray.
    abundance : Tensor (b, 4)
        Volume mixing ratios of the gases.
    hydrogen, helium : Tensor (b, 1)
        Volume mixing ratios of the fill gases.
    """

    base: Tensor
    weight: Tensor
    column: Tensor
    pairs: Tensor
    abundance: Tensor
    hydrogen: Tensor
    helium: Tensor


def log_pressures(
    cloud_top: Tensor | None = None, nodes: int = NODES, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return ln of the pressures [Pa] of the rays: (1, L), or (b, L) above cloud tops (b,) [log10 bar]."""
    places = torch.linspace(0, 1, nodes, dtype=dtype)
    ends = torch.tensor([BOTTOM, TOP], dtype=torch.float64).log().to(dtype)
    bottom, top = ends[:1, None], ends[1:, None]
    if cloud_top is not None:
        bottom = torch.minimum(bottom, (cloud_top[:, None].to(dtype) + 5.0) * math.log(10.0))
    return bottom + (top - bottom) * places


def chords(
    labels: Tensor, log_pressure: Tensor, star_radius: float = 1.0, exact_weight: bool = False
) -> Chords:
    """Return the rays through planets of given labels (b, 7) at ln pressures (1 or b, L) [Pa].

    Columns are the integral of the density along the ray, to second order in scale height / radius.

    In the spectra to which the opacities were fitted, gases add to the mean molecular weight without
    displacing H2 and He: the residuals show it (2 ppm instead of 9). The same is done here unless
    ``exact_weight`` is true; the difference matters at abundances above one percent.
    """
    mass, temperature, radius = (labels[:, k, None] for k in range(3))
    abundance = 10.0 ** labels[:, 3:]
    fill = 1 - abundance.sum(1, keepdim=True)
    hydrogen = fill / (1 + HELIUM_RATIO)
    helium = fill - hydrogen
    masses = abundance @ labels.new_tensor(MOLECULAR_MASSES)[:, None]
    filling = (HYDROGEN_MASS + HELIUM_RATIO * HELIUM_MASS) / (1 + HELIUM_RATIO)
    weight = masses + filling * (fill if exact_weight else 1.0)
    scale = BOLTZMANN * JUPITER_RADIUS / (GRAVITY * JUPITER_MASS * ATOMIC_MASS)
    flatness = scale * temperature * radius / (mass * weight)  # scale height / radius at 10 bar
    swelling = 1 / (1 - flatness * (math.log(BOTTOM) - log_pressure))
    r, flat = radius * swelling, flatness * swelling
    density = log_pressure.exp() / temperature / (BOLTZMANN * DENSITY_UNIT)
    along = r * torch.sqrt(2 * torch.pi * flat)
    column = density * along * _curved(flat) * (JUPITER_RADIUS * DENSITY_UNIT / COLUMN_UNIT)
    squared = density**2 * along * _curved(flat / 2) * (JUPITER_RADIUS * DENSITY_UNIT**2 / PAIR_UNIT / 2**0.5)
    pairs = squared * hydrogen * (hydrogen + HELIUM_COLLISIONS * helium)
    step = (log_pressure[:, :1] - log_pressure[:, -1:]) / (log_pressure.shape[1] - 1)
    disc = (JUPITER_RADIUS / (SUN_RADIUS * star_radius)) ** 2
    added = 2 * disc * r**2 * flat * step * _end_weights(log_pressure)
    return Chords(disc * r[:, :1] ** 2, added, column, pairs, abundance, hydrogen, helium)


def _curved(flat: Tensor) -> Tensor:
    """Return the factor by which curvature lengthens a ray; ``flat`` is scale height / radius."""
    return 1 + flat * (9 / 8 + flat * (345 / 128))


def _end_weights(like: Tensor) -> Tensor:
    """Return the weights (L,) of a sum over equal steps, with Gregory's end correction at the bottom."""
    weights = torch.ones_like(like[0])
    ends = weights.new_tensor([251 / 720, 299 / 240, 211 / 240, 739 / 720])
    return torch.cat([ends, weights[4:-1], weights[-1:] / 2])


def rayleigh(wavelength: Tensor, hydrogen: Tensor, helium: Tensor) -> Tensor:
    """Return the opacity (b, p) by scattering on H2 and He of abundances (b, 1) at wavelengths (p,) [um]."""
    w = wavelength**-2
    on_hydrogen = w * w * (8.14e-5 + w * (1.28e-6 + w * 1.61e-8))
    on_helium = w * w * (5.484e-6 * (1 + 2.44e-3 * w))
    return hydrogen * on_hydrogen + helium * on_helium


def pressure_terms(log_pressure: Tensor, onset: Tensor, decay: Tensor, rise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors (b, 4, L, p) by which pressure changes opacity and saturation.

    ln pressures are (1 or b, L) [Pa], the coefficients (4, p) or (b, 4, p), see :class:`Opacities`.
    """
    ln = (log_pressure - math.log(PRESSURE))[:, None, :, None]
    onset, decay, rise = (part[..., None, :] for part in (onset, decay, rise))
    on_opacity = torch.exp(rise * torch.log1p(ln.exp()))
    on_saturation = torch.exp(-decay.exp() * torch.log1p((ln + onset).exp()))
    return on_opacity, on_saturation


def disc_depth(
    rays: Chords,
    scattering: Tensor,
    collisions: Tensor,
    strength: Tensor,
    saturation: Tensor,
    terms: tuple[Tensor, Tensor],
) -> Tensor:
    """Return transit depths (b, p): the disc and the rings above it, each weighted by its absorption.

    Parameters
    ----------
    rays
        Rays through the atmospheres.
    scattering, collisions
        Opacities (b, p) per molecule and per pair.
    strength, saturation
        Opacity and curvature (b, 4, p) of the gases at low pressure.
    terms
        Result of :func:`pressure_terms`.
    """
    column = rays.column[:, :, None]
    depth = column * scattering[:, None] + rays.pairs[:, :, None] * collisions[:, None]
    for gas, (on_opacity, on_saturation) in enumerate(zip(*(term.unbind(1) for term in terms), strict=True)):
        opacity = rays.abundance[:, gas, None] * strength[:, gas]
        weak = opacity[:, None] * (column * on_opacity)
        curvature = 2 * saturation[:, None, gas] * on_saturation
        depth = depth + 2 * weak / (1 + torch.sqrt(1 + curvature * weak))
    return rays.base + (rays.weight[:, None] @ -torch.expm1(-depth))[:, 0]


def transit_depth(
    labels: Tensor,
    opacities: Opacities,
    *,
    star_radius: float = 1.0,
    cloud_top: Tensor | None = None,
    haze: Tensor | None = None,
    nodes: int = NODES,
    exact_weight: bool = False,
    terms: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return transit depths (b, p) of planets with labels (b, 7).

    Parameters
    ----------
    labels
        Mass [MJ], temperature [K], radius at 10 bar [RJ], log10 of the abundances of ``GASES``. The geometry
        is computed in their precision, the rest in that of the opacities.
    opacities
        Opacities of the bins.
    star_radius
        Radius of the star [solar radii].
    cloud_top, haze
        Pressure (b,) of a grey, opaque deck [log10 bar], and enhancement (b,) of Rayleigh scattering [log10].
    nodes
        Number of rays.
    exact_weight
        See :func:`chords`.
    terms
        Result of :func:`pressure_terms`, if computed before, which requires that there are no clouds.
    """
    dtype = opacities.strength.dtype
    log_pressure = log_pressures(cloud_top, nodes, labels.dtype)
    rays = Chords(*(part.to(dtype) for part in chords(labels, log_pressure, star_radius, exact_weight)))
    if terms is None:
        terms = pressure_terms(log_pressure.to(dtype), opacities.onset, opacities.decay, opacities.rise)
    theta = (TEMPERATURE / labels[:, 1] - 1).to(dtype)[:, None]
    scattering = rayleigh(opacities.wavelength.to(dtype), rays.hydrogen, rays.helium)
    if haze is not None:
        scattering = scattering * 10.0 ** haze.to(dtype)[:, None]
    return disc_depth(
        rays,
        scattering,
        polynomial(opacities.collisions, theta).exp(),
        polynomial(opacities.strength, theta[..., None]).exp(),
        polynomial(opacities.saturation, theta[..., None]).exp(),
        terms,
    )


def polynomial(coefficients: Tensor, theta: Tensor) -> Tensor:
    """Return the value of polynomials whose coefficients (..., k, p) begin with the constant."""
    *lower, value = coefficients.unbind(-2)
    for coefficient in reversed(lower):
        value = coefficient + theta * value
    return value
