"""A population of dwarfs and giants of disc and halo, as a bright survey observes them.

The relations are deliberately simple. They reproduce the shape of the Kiel diagram (main sequence, turn-off,
red-giant branch, red clump, each shifted by metallicity as isochrones are) and of the [Fe/H]-[alpha/Fe]
diagram (the two disc sequences and the halo), not counts or ages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draper.data.labels import ALPHA, LabelSet
from draper.errors import DraperError, option_text

Array = NDArray[np.float64]
Columns = dict[str, Array]

MAX_DRAWS = 50
"""Largest number of times that stars outside the box are drawn again."""


@dataclass(frozen=True)
class Component:
    """A component of the Galaxy.

    Attributes
    ----------
    share
        Fraction of the stars that belong to it.
    fe_h, fe_h_scatter
        Mean and scatter of the metallicity [dex].
    knee
        [Fe/H] above which [alpha/Fe] falls.
    plateau
        [alpha/Fe] below the knee.
    slope
        d[alpha/Fe] / d[Fe/H] above the knee.
    scatter
        Scatter of [alpha/Fe] about the sequence [dex].
    """

    share: float
    fe_h: float
    fe_h_scatter: float
    knee: float
    plateau: float
    slope: float
    scatter: float

    def alpha_fe(self, fe_h: Array, normal: Array) -> Array:
        """Return [alpha/Fe] for metallicities, scattered by standard normal numbers."""
        return self.plateau + self.slope * np.maximum(fe_h - self.knee, 0) + self.scatter * normal


GALAXY = {
    "thin disc": Component(0.80, -0.08, 0.20, -0.70, 0.12, -0.15, 0.020),
    "thick disc": Component(0.16, -0.50, 0.25, -0.70, 0.30, -0.25, 0.025),
    "halo": Component(0.04, -1.40, 0.45, -1.80, 0.33, -0.15, 0.050),
}
"""The components by name."""

PHASES = {"main sequence": 0.48, "subgiant": 0.14, "giant branch": 0.27, "red clump": 0.11}
"""Evolutionary phases, and their fractions in a magnitude-limited sample."""


def galactic(n: int, random: np.random.Generator) -> Columns:
    """Draw stars of the Galaxy.

    Parameters
    ----------
    n
        Number of stars.
    random
        Random number generator.

    Returns
    -------
    dict
        ``component`` and ``phase`` (numbers in the order of :data:`GALAXY` and :data:`PHASES`), ``teff`` [K],
        ``logg``, ``fe_h``, ``alpha_fe``, ``vmic`` [km/s], the five alpha elements, whose mean is ``alpha_fe``
        to rounding, and ``ni_fe``.

    Examples
    --------
    >>> stars = galactic(1000, np.random.default_rng(0))
    >>> bool(stars["logg"][stars["teff"] > 6000].min() > 3)
    True
    """
    parts = list(GALAXY.values())
    component = random.choice(len(parts), size=n, p=[part.share for part in parts])
    mean = np.array([part.fe_h for part in parts])[component]
    width = np.array([part.fe_h_scatter for part in parts])[component]
    fe_h = mean + width * random.normal(size=n)
    normal = random.normal(size=n)
    alpha_fe = np.choose(component, [part.alpha_fe(fe_h, normal) for part in parts])
    phase = random.choice(len(PHASES), size=n, p=list(PHASES.values()))
    teff, logg = kiel(phase, fe_h + 0.6 * alpha_fe, random)
    elements = alpha_fe[:, None] + 0.03 * random.normal(size=(n, len(ALPHA)))
    elements += alpha_fe[:, None] - elements.mean(axis=1, keepdims=True)
    return {
        "component": component.astype(np.float64),
        "phase": phase.astype(np.float64),
        "teff": teff,
        "logg": logg,
        "fe_h": fe_h,
        "alpha_fe": alpha_fe,
        "vmic": microturbulence(teff, logg),
        **dict(zip(ALPHA, elements.T, strict=True)),
        "ni_fe": 0.03 * random.normal(size=n),
    }


def kiel(phase: NDArray[np.int64], metals: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Return Teff and logg of stars from their phase (number in :data:`PHASES`) and overall metallicity."""
    n = len(phase)
    unit, scatter = random.uniform(size=n), random.normal(size=(2, n))
    poor = np.clip(-metals, -0.5, 2.5)
    turn_off = 6050 + 330 * poor - 60 * poor**2
    turn_off_logg = 4.15 + 0.03 * poor

    # Dwarfs: more cool than hot ones, and denser towards the turn-off, as a magnitude limit sees them.
    dwarf_teff = 4300 + (turn_off + 250 - 4300) * unit**0.6
    dwarf_logg = 4.66 - 0.42 * np.clip((dwarf_teff - 4800) / (turn_off - 4800), 0, None) ** 2 + 0.03 * poor

    # Subgiants: from the turn-off to the foot of the giant branch.
    foot_teff, foot_logg = 5000 + 190 * poor, 3.55
    subgiant_teff = turn_off + (foot_teff - turn_off) * unit
    subgiant_logg = turn_off_logg - 0.25 * unit + (foot_logg - turn_off_logg + 0.25) * unit**3

    # Giants: up the branch, fewer towards its tip.
    giant_logg = foot_logg - 2.9 * unit**1.6
    giant_teff = foot_teff - 300 * (foot_logg - giant_logg) - 35 * (foot_logg - giant_logg) ** 2 - 40 * poor

    clump_teff = 4830 + 150 * poor + 60 * scatter[0]
    clump_logg = 2.45 + 0.06 * scatter[1]

    teff = np.choose(phase, [dwarf_teff, subgiant_teff, giant_teff, clump_teff])
    logg = np.choose(phase, [dwarf_logg, subgiant_logg, giant_logg, clump_logg])
    spread = np.where(phase == 3, 0.0, 1.0)
    return teff + spread * 45 * scatter[0], logg + spread * 0.04 * scatter[1]


def microturbulence(teff: Array, logg: Array) -> Array:
    """Return a typical microturbulence [km/s]: it rises with Teff in dwarfs and with luminosity in giants.

    Examples
    --------
    >>> microturbulence(np.array([5777.0, 4500.0]), np.array([4.44, 2.0])).round(2)
    array([1.05, 1.66])
    """
    dwarf = 1.05 + 2.0e-4 * (teff - 5777) - 0.25 * (logg - 4.44)
    giant = 2.30 - 0.32 * logg
    return np.clip(np.where(logg > 3.6, dwarf, giant), 0.7, 2.5)


def in_box(labels: LabelSet, n: int, random: np.random.Generator) -> Columns:
    """Draw stars of the Galaxy whose labels all lie in the box of a simulator; others are drawn again.

    Labels of the box that the population does not have (such as other elements) are an error.
    """
    kept: list[Columns] = []
    count = 0
    for _ in range(MAX_DRAWS):
        drawn = galactic(2 * n, random)
        chosen = np.flatnonzero(labels.inside(labels.read(drawn)))
        kept.append({name: column[chosen] for name, column in drawn.items()})
        count += len(chosen)
        if count >= n:
            return {name: np.concatenate([part[name] for part in kept])[:n] for name in kept[0]}
    raise DraperError(
        "almost no stars of the galactic population lie in this box",
        given=repr(labels),
        hint=f"draw labels uniformly in the box: {option_text('simulator.population', 'box')}",
    )
