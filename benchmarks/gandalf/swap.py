"""The swap test of a model and, as a control, of the simulator: what is missed there, reading back misses.

Labels are read back by an emulator's fit that knows the relations by which the population was drawn, as in
the rows of Table 1 (:mod:`gandalf.fits`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.labels import ALPHA
from draper.data.spectra import Spectra
from draper.latents.swap import measure_swap
from draper.models.disentangler.model import Disentangler
from draper.models.disentangler.swap import SNR
from draper.simulate.population import microturbulence
from draper.simulate.survey import Preset, Survey
from gandalf.fits import ALIKE, fitted

Array = NDArray[np.float64]

Relabel = Callable[[Spectra, str, Array], Spectra]
"""Makes the spectra of stars of which one label is changed by something (n,)."""


def by_model(model: Disentangler) -> Relabel:
    """Return how a model relabels: from the label as it has it, whose error is no part of the change."""

    def relabel(stars: Spectra, name: str, change: Array) -> Spectra:
        return model.generate(stars, {name: model.generate(stars).column(name) + change})

    return relabel


def by_simulator(stars: Spectra, name: str, change: Array) -> Spectra:
    """Return what stars that are truly changed look like, without noise."""
    simulator = Survey(Preset(stars.grid, (0.0, 0.0), (np.inf, np.inf)))
    table = {
        label: stars.column(f"{label}_true" if f"{label}_true" in stars.table else label).astype(float)
        for label in simulator.prior.names
    }
    for label in ALPHA if name == "alpha_fe" else (name,):
        table[label] = table[label] + change
    if name in ("teff", "logg"):  # a relation that all stars of the survey follow
        table["vmic"] = microturbulence(table["teff"], table["logg"])
    return simulator.simulate(table)


def swap(
    relabel: Relabel, stars: Spectra, learnt: Spectra, names: Sequence[str], seed: int = 0
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return figures by label, and the changes asked for and read back.

    Parameters
    ----------
    relabel
        What is tested.
    stars, learnt
        Held-out stars that are relabelled, and those that give labels, with true ones.
    names
        The labels that are swapped, and those that are read back.
    """
    true, others = (part.columns([f"{name}_true" for name in names]) for part in (stars, learnt))
    before = read(relabel(stars, names[0], np.zeros(len(stars))))

    def move(rows: NDArray[np.int64], number: int, change: Array) -> Array:
        return read(relabel(stars[rows], names[number], change)) - before[rows]

    found = measure_swap(move, true, others, names, seed)
    arrays = {f"{name}_asked": asked for name, asked in zip(names, found.asked, strict=True)}
    arrays |= {f"{name}_read": moved for name, moved in zip(names, found.moved, strict=True)}
    return found.to_json(), arrays


def read(made: Spectra) -> Array:
    """Return labels (n, 4) of spectra without noise."""
    weight = np.where(made.ivar > 0, SNR**2, 0.0).astype(np.float32)
    return fitted(Spectra(made.grid, made.flux, weight, quantity=made.quantity), ALIKE)
