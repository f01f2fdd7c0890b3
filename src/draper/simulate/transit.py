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
from draper.simulate.tail import tail_weights

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

OPACITY_RANGE = (1000.0, 2000.0)
"""Temperatures [K] of the spectra to which opacities were fitted; beyond, the nearer end is taken."""

LARGEST_RISE = 0.6
"""Largest (scale height / radius) x ln(pressure at the bottom / at the top) that the model computes: at 1 the
top of an isothermal atmosphere is infinitely far away."""

ROWS, BINS = 16, 362
"""Number of planets computed at once, of so many bins, so that all fit the processor's cache."""

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


def log_pressures(nodes: int = NODES, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return ln of the pressures [Pa] of the rays: (1, L), the same for all planets."""
    ends = torch.tensor([BOTTOM, TOP], dtype=torch.float64).log().to(dtype)
    return ends[None, :1] + (ends[1:] - ends[:1]) * torch.linspace(0, 1, nodes, dtype=dtype)


def mean_weight(labels: Tensor, exact_weight: bool = False) -> Tensor:
    """Return the mean molecular weight (b, 1) of planets with labels (b, 7); see :func:`chords`."""
    abundance = 10.0 ** labels[:, 3:]
    masses = _total(abundance * labels.new_tensor(MOLECULAR_MASSES))
    filling = (HYDROGEN_MASS + HELIUM_RATIO * HELIUM_MASS) / (1 + HELIUM_RATIO)
    return masses + filling * (1 - _total(abundance) if exact_weight else 1.0)


def _total(parts: Tensor) -> Tensor:
    """Return the sums (b, 1) of parts (b, 4), rounded in the same way for any number of rows."""
    one, two, three, four = torch.split(parts, 1, dim=1)
    return one + two + three + four


def relative_height(labels: Tensor, exact_weight: bool = False) -> Tensor:
    """Return the ratio (b,) of scale height to radius, at 10 bar, of planets with labels (b, 7).

    Examples
    --------
    >>> relative_height(torch.tensor([[1.0, 1500.0, 1.2, -3.0, -5.0, -5.0, -3.0]]))
    tensor([0.0035])
    """
    mass, temperature, radius = labels[:, :3].unbind(1)
    unit = BOLTZMANN * JUPITER_RADIUS / (GRAVITY * JUPITER_MASS * ATOMIC_MASS)
    return unit * temperature * radius / (mass * mean_weight(labels, exact_weight)[:, 0])


def is_bound(labels: Tensor, exact_weight: bool = False) -> Tensor:
    """Return (b,) whether the model can compute the atmospheres of planets with labels (b, 7).

    Light, hot, large planets do not hold an isothermal atmosphere, or one so extended that the expansion in
    scale height / radius fails.

    Examples
    --------
    >>> gases = [-3.0, -5.0, -5.0, -3.0]
    >>> is_bound(torch.tensor([[0.28, 1100.0, 1.27, *gases], [0.1, 2500.0, 2.0, *gases]]))
    tensor([ True, False])
    """
    return relative_height(labels, exact_weight) * math.log(BOTTOM / TOP) < LARGEST_RISE


def chords(
    labels: Tensor,
    log_pressure: Tensor,
    star_radius: float = 1.0,
    exact_weight: bool = False,
    cloud_top: Tensor | None = None,
) -> Chords:
    """Return the rays through planets of given labels (b, 7) at equally spaced ln pressures (1, L) [Pa].

    Columns are the integral of the density along the ray, to second order in scale height / radius. Below a
    cloud top (b,) [log10 bar] the disc is opaque; that changes the weights of the rays, not their places.

    In the spectra to which the opacities were fitted, gases add to the mean molecular weight without
    displacing H2 and He: the residuals show it (2 ppm instead of 9). The same is done here unless
    ``exact_weight`` is true; the difference matters at abundances above one percent.
    """
    temperature, radius = labels[:, 1, None], labels[:, 2, None]
    abundance = 10.0 ** labels[:, 3:]
    fill = 1 - _total(abundance)
    hydrogen = fill / (1 + HELIUM_RATIO)
    helium = fill - hydrogen
    flatness = relative_height(labels, exact_weight)[:, None]
    swelling = 1 / (1 - flatness * (math.log(BOTTOM) - log_pressure))
    r, flat = radius * swelling, flatness * swelling
    density = log_pressure.exp() / temperature / (BOLTZMANN * DENSITY_UNIT)
    along = r * torch.sqrt(2 * torch.pi * flat)
    column = density * along * _curved(flat) * (JUPITER_RADIUS * DENSITY_UNIT / COLUMN_UNIT)
    squared = density**2 * along * _curved(flat / 2) * (JUPITER_RADIUS * DENSITY_UNIT**2 / PAIR_UNIT / 2**0.5)
    pairs = squared * hydrogen * (hydrogen + HELIUM_COLLISIONS * helium)
    step = (log_pressure[:, :1] - log_pressure[:, -1:]) / (log_pressure.shape[1] - 1)
    disc = (JUPITER_RADIUS / (SUN_RADIUS * star_radius)) ** 2
    bottom, start = r[:, :1], torch.zeros_like(temperature[:1])
    if cloud_top is not None:
        deck = torch.minimum(log_pressure[:, :1], (cloud_top[:, None] + 5.0) * math.log(10.0))
        bottom = radius / (1 - flatness * (math.log(BOTTOM) - deck))
        start = (log_pressure[:, :1] - deck) / step
    added = 2 * disc * r**2 * flat * step * tail_weights(start, log_pressure.shape[1])
    return Chords(disc * bottom**2, added, column, pairs, abundance, hydrogen, helium)


def _curved(flat: Tensor) -> Tensor:
    """Return the factor by which curvature lengthens a ray; ``flat`` is scale height / radius."""
    return 1 + flat * (9 / 8 + flat * (345 / 128))


def rayleigh(wavelength: Tensor, hydrogen: Tensor, helium: Tensor) -> Tensor:
    """Return the opacity (b, p) by scattering on H2 and He of abundances (b, 1) at wavelengths (p,) [um]."""
    w = wavelength**-2
    on_hydrogen = w * w * (8.14e-5 + w * (1.28e-6 + w * 1.61e-8))
    on_helium = w * w * (5.484e-6 * (1 + 2.44e-3 * w))
    return hydrogen * on_hydrogen + helium * on_helium


def pressure_terms(log_pressure: Tensor, onset: Tensor, decay: Tensor, rise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors (b, 4, L, p) by which pressure changes opacity and saturation.

    ln pressures are (1, L) [Pa], the coefficients (4, p) or (b, 4, p), see :class:`Opacities`.
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


def rows_together(bins: int) -> int:
    """Return the number of planets computed at once: more of fewer bins.

    Examples
    --------
    >>> rows_together(362), rows_together(4)
    (16, 1448)
    """
    return max(ROWS, ROWS * BINS // max(1, bins))


@torch.no_grad()
def disc_depth_in_place(
    rays: Chords,
    scattering: Tensor,
    collisions: Tensor,
    strength: Tensor,
    saturation: Tensor,
    terms: tuple[Tensor, Tensor],
) -> Tensor:
    """Return what :func:`disc_depth` returns for terms (1, 4, L, p), without gradients and faster.

    Few planets at a time, with results written over each other, stay in the processor's cache.
    """
    on_opacity = terms[0][0]
    on_both = on_opacity * terms[1][0]
    weak = 2 * rays.abundance[..., None] * strength
    curvature = saturation * weak
    # Passes over memory are few with sqrt(column) drawn out of 2 t / (1 + sqrt(1 + 2 s t)); a root is faster
    # inverse.
    rarity = 1 / rays.column[..., None]
    rows = rows_together(weak.shape[-1])
    shape = (min(rows, len(weak)), *on_opacity.shape[1:])
    buffers = [weak.new_empty(shape) for _ in range(3)]
    ones = weak.new_ones(weak.shape[-1])
    found = (rays.base + rays.weight.sum(1, keepdim=True)).repeat(1, weak.shape[-1])
    for start in range(0, len(weak), rows):
        at = slice(start, start + rows)
        depth, opacity, root = (buffer[: len(weak) - start] for buffer in buffers)
        depth.zero_()
        thin = rarity[at].sqrt()
        for gas in range(len(on_opacity)):
            torch.addcmul(rarity[at], curvature[at, None, gas], on_both[gas], out=root)
            torch.addcdiv(thin, ones, root.rsqrt_(), out=root)
            torch.mul(weak[at, None, gas], on_opacity[gas], out=opacity)
            depth.addcdiv_(opacity, root)
        depth.mul_(rarity[at].rsqrt())
        depth.addcmul_(rays.column[at, :, None], scattering[at, None])
        depth.addcmul_(rays.pairs[at, :, None], collisions[at, None])
        # Ten times as fast as exp, which is slow where its result underflows.
        passed = depth.mul_(-1 / math.log(2.0)).exp2_()
        found[at] -= torch.bmm(rays.weight[at, None], passed)[:, 0]
    return found


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
    in_place: bool = False,
) -> Tensor:
    """Return transit depths (b, p) of planets with labels (b, 7).

    Parameters
    ----------
    labels
        Mass [MJ], temperature [K], radius at 10 bar [RJ], log10 of the abundances of ``GASES``. The geometry
        is computed in their precision, the rest in that of the opacities. Outside ``OPACITY_RANGE`` the
        temperature acts on the scale height alone.
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
        Result of :func:`pressure_terms`, if computed before.
    in_place
        Whether to be fast and without gradients (:func:`disc_depth_in_place`).
    """
    dtype = opacities.strength.dtype
    log_pressure = log_pressures(nodes, labels.dtype)
    rays = Chords(
        *(part.to(dtype) for part in chords(labels, log_pressure, star_radius, exact_weight, cloud_top))
    )
    if terms is None:
        terms = pressure_terms(log_pressure.to(dtype), opacities.onset, opacities.decay, opacities.rise)
    theta = (TEMPERATURE / labels[:, 1].clamp(*OPACITY_RANGE) - 1).to(dtype)[:, None]
    scattering = rayleigh(opacities.wavelength.to(dtype), rays.hydrogen, rays.helium)
    if haze is not None:
        scattering = scattering * 10.0 ** haze.to(dtype)[:, None]
    return (disc_depth_in_place if in_place else disc_depth)(
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
