"""The swap test of a model and, as a control, of the simulator, whose errors are those of the measurement.

Labels are measured by an emulator's fit that knows the relations by which the population was drawn, as in the
rows of Table 1 (:mod:`gandalf.fits`).
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
"""Returns spectra of stars with one label changed by given amounts (n,)."""


def by_model(model: Disentangler) -> Relabel:
    """Return how a model relabels: the change starts from its own label, whose error is no part of it."""

    def relabel(stars: Spectra, name: str, change: Array) -> Spectra:
        return model.generate(stars, {name: model.generate(stars).column(name) + change})

    return relabel


def by_simulator(stars: Spectra, name: str, change: Array) -> Spectra:
    """Return true spectra of the changed stars, without noise."""
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
    """Return figures by label, and requested and measured changes.

    Parameters
    ----------
    relabel
        The model or simulator that is tested.
    stars, learnt
        Held-out stars that are relabelled, and donors of labels, with true labels.
    names
        The labels that are swapped and measured.
    """
    true, others = (part.columns([f"{name}_true" for name in names]) for part in (stars, learnt))
    before = measure(relabel(stars, names[0], np.zeros(len(stars))))

    def move(rows: NDArray[np.int64], number: int, change: Array) -> Array:
        return measure(relabel(stars[rows], names[number], change)) - before[rows]

    report = measure_swap(move, true, others, names, seed)
    arrays = {f"{name}_asked": asked for name, asked in zip(names, report.asked, strict=True)}
    arrays |= {f"{name}_read": moved for name, moved in zip(names, report.moved, strict=True)}
    return report.to_json(), arrays


def measure(made: Spectra) -> Array:
    """Return labels (n, 4) of spectra without noise."""
    weight = np.where(made.ivar > 0, SNR**2, 0.0).astype(np.float32)
    return fitted(Spectra(made.grid, made.flux, weight, quantity=made.quantity), ALIKE)
