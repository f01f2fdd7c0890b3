"""What a part of the benchmark returns, and the spectra that several parts share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.models.retriever.model import Retriever
from draper.simulate.planets import INSTRUMENTS, Planets
from report import Sheet as Sheet

Array = NDArray[np.float64]

PPM = 1e-6

SHORT = {"planet_mass": "mass", "temperature": "T", "planet_radius": "radius"}
"""Names of labels that stand in tables; others lose their "log_"."""


def short(names: Iterable[str]) -> list[str]:
    """Return names of labels for the heads of columns."""
    return [SHORT.get(name, name.removeprefix("log_")) for name in names]


def physics_of(model: Retriever) -> Planets:
    """Return the simulator that a model was trained on."""
    assert model.physics is not None, (
        "the benchmark needs a model that was trained on the simulator of planets"
    )
    return model.physics


def simulator(model: Retriever, instrument: str | None, error: float) -> Planets:
    """Return the model's simulator with the bins of an instrument and errors [ppm]."""
    return Planets(**{**physics_of(model).settings, "instrument": instrument, "error": error})


def mixed(model: Retriever, error: float, number: int, seed: int) -> list[Spectra]:
    """Return single spectra with noise [ppm], of one instrument after the other."""
    made = {name: simulator(model, name, error).simulate(number, seed=seed) for name in INSTRUMENTS}
    names = list(INSTRUMENTS)
    return [made[names[row % len(names)]][row : row + 1] for row in range(number)]


def observed(
    grid: Grid, depth: Array, error: float, seed: int, meta: dict[str, Any] | None = None
) -> Spectra:
    """Return noise-free depths (n, p) with noise of equal errors [ppm], as of an unknown source."""
    sigma = PPM * error
    noise = np.random.default_rng(seed).standard_normal(depth.shape)
    ivar = np.full(depth.shape, 1 / sigma**2)
    return Spectra(grid, depth + sigma * noise, ivar, quantity="transit depth", meta=meta or {})


def instrument_of(spectra: Spectra) -> str:
    """Return the name of the instrument of simulated spectra."""
    return cast(str, spectra.meta["instrument"])
