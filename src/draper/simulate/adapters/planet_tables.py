"""Opacities of the planet model as tables of cross-sections, for comparisons with TauREx."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from draper.simulate.adapters.taurex import CrossSections
from draper.simulate.planet_units import GASES
from draper.simulate.transit import OPACITY_RANGE, TEMPERATURE, Opacities, polynomial, pressure_terms

OPACITY_UNIT = 1e-24
"""Unit [cm2] of the opacities of the planet model."""


def planet_tables(
    found: Opacities, temperature: NDArray[np.float64], pressure: NDArray[np.float64]
) -> dict[str, CrossSections]:
    """Return opacities by name of the gas, at temperatures (t,) [K] and pressures (q,) [Pa].

    Tables have no place for the saturation of lines within a bin, which is left out.

    Examples
    --------
    >>> from draper.simulate.planets import opacities
    >>> tables = planet_tables(opacities(), np.array([1000.0, 1500.0]), np.array([1.0, 1e3, 1e6]))
    >>> tables["h2o"].values.shape
    (3, 2, 362)
    """
    theta = torch.from_numpy(TEMPERATURE / np.clip(temperature, *OPACITY_RANGE) - 1)[:, None]
    on_opacity, _ = pressure_terms(
        torch.from_numpy(np.log(pressure))[None], found.onset, found.decay, found.rise
    )
    wavenumber = 1e4 / found.wavelength.double().numpy()[::-1]
    made = {}
    for gas, name in enumerate(GASES):
        strength = polynomial(found.strength[gas], theta).exp()
        values = OPACITY_UNIT * on_opacity[0, gas, :, None] * strength
        made[name] = CrossSections(
            wavenumber.copy(), temperature, pressure, values.double().numpy()[..., ::-1].copy()
        )
    return made
