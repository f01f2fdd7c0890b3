"""The swap test of a model that relabels spectra: an emulator's fit reads the changed labels back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from draper.config import Config
from draper.data.labels import ALPHA
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.latents.swap import Swap, measure_swap

if TYPE_CHECKING:
    from draper.models.base import Model
    from draper.models.disentangler.model import Disentangler

FloatArray = NDArray[np.float64]

RATIO = 200.0
"""S/N that spectra of models, which have no noise, are fitted with."""


def swap_of(
    model: Disentangler,
    stars: Spectra,
    others: Spectra,
    emulator: Model,
    truth: str,
    seed: int,
    options: Config,
) -> Swap:
    """Return the swap test; see :meth:`draper.models.disentangler.model.Disentangler.swap`."""
    names = tuple(name for name in model.labels.names if readable(emulator, name))
    if not names:
        raise DraperError(
            "the emulator knows none of the model's labels", given=", ".join(emulator.labels.names),
            expected=", ".join(model.labels.names),
        )  # fmt: skip
    for part in (stars, others):
        if missing := [f"{name}{truth}" for name in names if f"{name}{truth}" not in part.table]:
            raise DraperError(
                "the spectra lack labels that are to be swapped", given=", ".join(missing),
                hint="join them from a table, or say how their columns end with truth (--truth)",
            )  # fmt: skip
    true, given = (part.columns([f"{name}{truth}" for name in names]) for part in (stars, others))
    rebuilt = model.generate(stars)
    before = read_back(emulator, rebuilt, names, options)

    def move(rows: NDArray[np.int64], number: int, change: FloatArray) -> FloatArray:
        # From the label as the model has it: what it is wrong by is no part of the change.
        new = rebuilt.column(names[number])[rows] + change
        made = model.generate(stars[rows], {names[number]: new})
        return read_back(emulator, made, names, options) - before[rows]

    return measure_swap(move, true, given, names, seed)


def readable(emulator: Model, name: str) -> bool:
    """Return whether a fit says something of a label."""
    known = emulator.labels.names
    return name in known or (name == "alpha_fe" and all(element in known for element in ALPHA))


def read_back(emulator: Model, made: Spectra, names: tuple[str, ...], options: Config) -> FloatArray:
    """Return labels (n, d) of spectra without noise, as an emulator's fit has them."""
    level = np.abs(np.median(made.flux, axis=1, keepdims=True))
    weight = np.where(made.ivar > 0, (RATIO / np.maximum(level, 1e-30)) ** 2, 0.0).astype(np.float32)
    weighted = Spectra(made.grid, made.flux, weight, quantity=made.quantity)
    found = emulator.predict(weighted, options)  # type: ignore[attr-defined]
    known = found.labels.names
    return np.stack(
        [
            found[name] if name in known else np.mean([found[element] for element in ALPHA], axis=0)
            for name in names
        ],
        axis=1,
    )
