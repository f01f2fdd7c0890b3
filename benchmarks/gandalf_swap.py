"""The swap test: stars get a label of others like them, and an emulator's fit reads it back.

A star's donor is a star of the training set that is like it in the three other labels, so that the new
combination of labels is one that training stars have; how far it differs in the one that is swapped is
left to chance. Changes are those between the fits of the relabelled and of the rebuilt spectrum, so that
what a fit makes of any reconstruction drops out. The same is done with the simulator in place of the
model: what is missed then, reading back misses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.spectra import Spectra
from draper.models.disentangler import Disentangler
from draper.simulate.population import ALPHA, microturbulence
from draper.simulate.survey import Preset, Survey
from gandalf_fits import ALIKE, fitted

Array = NDArray[np.float64]

NEAR = 0.07
"""How much another label of the donor differs at most, in units of the range."""

FAR = 0.15
"""How much the swapped label differs at least."""

RATIO = 200.0
"""S/N that the spectra of models, which have no noise, are fitted with."""


def ranges(labels: Array) -> Array:
    """Return the widths (d,) that hold 98 % of labels (n, d)."""
    low, high = np.percentile(labels, (1, 99), axis=0)
    return np.asarray(high - low, dtype=np.float64)


def donors(labels: Array, others: Array, swapped: int, seed: int) -> NDArray[np.int64]:
    """Return for each star (n, d) a row of the others (m, d) that gives its label, -1 where none is alike."""
    random = np.random.default_rng(seed)
    width = ranges(others)
    rest = np.arange(labels.shape[1]) != swapped
    found = np.full(len(labels), -1)
    for row, star in enumerate(labels):
        apart = np.abs(others - star) / width
        alike = np.flatnonzero((apart[:, rest] < NEAR).all(axis=1) & (apart[:, swapped] > FAR))
        if len(alike):
            # Even in the new label, not in the stars: most of these are near.
            wanted = random.uniform(others[alike, swapped].min(), others[alike, swapped].max())
            found[row] = alike[np.abs(others[alike, swapped] - wanted).argmin()]
    return found


Relabel = Callable[[Spectra, str, Array], Spectra]
"""Makes the spectra of stars of which one label is changed by something (n,)."""


def by_model(model: Disentangler) -> Relabel:
    """Return how a model relabels: from the label as it has it, whose error is no part of the change."""

    def relabel(stars: Spectra, name: str, change: Array) -> Spectra:
        return model.generate(stars, changes={name: model.generate(stars).column(name) + change})

    return relabel


def by_simulator(stars: Spectra, name: str, change: Array) -> Spectra:
    """Return what stars that are truly changed look like, without noise."""
    simulator = Survey(Preset(stars.grid, (0.0, 0.0), (np.inf, np.inf)))
    table = {label: stars.column(f"{label}_true" if f"{label}_true" in stars.table else label).astype(float)
             for label in simulator.prior.names}  # fmt: skip
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
    width = ranges(others)
    before = read(relabel(stars, names[0], np.zeros(len(stars))))
    figures: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for number, name in enumerate(names):
        donor = donors(true, others, number, seed)
        rows = np.flatnonzero(donor >= 0)
        asked = others[donor[rows], number] - true[rows, number]
        moved = read(relabel(stars[rows], name, asked)) - before[rows]
        figures[name] = {"stars": len(rows), **summary(asked, moved, number, width, names)}
        arrays |= {f"{name}_asked": asked, f"{name}_read": moved}
    return figures, arrays


def read(made: Spectra) -> Array:
    """Return labels (n, 4) of spectra without noise."""
    weight = np.where(made.ivar > 0, RATIO**2, 0.0).astype(np.float32)
    return fitted(Spectra(made.grid, made.flux, weight, quantity=made.quantity), ALIKE)


def summary(asked: Array, moved: Array, number: int, width: Array, names: Sequence[str]) -> dict[str, Any]:
    """Return how much of changes (n,) is read back, and how much others move, in units of their ranges.

    Examples
    --------
    >>> asked = np.array([1.0, -2.0])
    >>> summary(asked, np.outer(asked, [0.9, 0.1]), 0, np.array([1.0, 2.0]), ["a", "b"])["slope"]
    0.9
    """
    own = moved[:, number]
    slope = float(asked @ own / (asked @ asked))
    share = asked / width[number]
    side = {
        name: {
            "slope": float(share @ (moved[:, k] / width[k]) / (share @ share)),
            "median": float(np.median(np.abs(moved[:, k] / width[k] / share))),
        }
        for k, name in enumerate(names)
        if k != number
    }
    return {
        "slope": round(slope, 10),
        "median_error": float(np.median(np.abs(own / asked - 1))),
        "within_10_percent": float(np.mean(np.abs(own / asked - 1) <= 0.1)),
        "others": side,
    }
