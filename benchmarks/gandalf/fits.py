"""What physics allows: the emulator's fit of ten labels and a velocity to stars, and the Cramer-Rao bound.

Spectra do not tell ten labels each. What is known of all stars of the survey beforehand enters twice: as wide
priors that keep fits inside the box, and, if asked, as the relations by which the population was drawn
(:data:`ALIKE`): the alpha elements scatter little about their mean, microturbulence follows from temperature
and gravity, velocities were corrected. What regressors can learn besides, that stars lie on sequences in the
Kiel diagram, is no part of it, so they may beat this bound where the sequences tell more than the spectrum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from draper.data.labels import ALPHA
from draper.data.spectra import Spectra
from draper.models.base import load
from draper.models.emulator.model import Emulator
from draper.simulate.population import microturbulence
from draper.simulate.survey import PRESETS

Array = NDArray[np.float64]

WIDE = {"vmic": (1.4, 0.4), "ni_fe": (0.0, 0.1), **dict.fromkeys(ALPHA, (0.1, 0.3))}
"""Priors of fit and bound alike."""

CONTINUUM: int | None = None
"""Degree of the fitted continuum."""

ALIKE: Mapping[str, float] = {
    "alpha": 0.03,
    "ni_fe": 0.03,
    "vmic": 0.01,
    "rv": PRESETS["gaia-rvs-800"].rv_scatter,
}
"""Scatter of the elements about their mean, of nickel, of the microturbulence about its relation, of rv."""


@cache
def emulator() -> Emulator:
    return cast(Emulator, load("builtin:rvs-emulator"))


def fitted(stars: Spectra, alike: Mapping[str, float] | None = None) -> Array:
    """Return teff, logg, fe_h and alpha_fe (n, 4) as fits of the spectra have them."""
    found = emulator().predict(stars, priors=WIDE, continuum=CONTINUUM)
    assert found.covariance is not None
    values, covariance = found.median, found.covariance
    if alike:
        values, _ = narrowed(found.labels.names, values, covariance, alike)
    return values @ table(found.labels.names).T


def bounded(stars: Spectra, alike: Mapping[str, float] | None = None) -> Array:
    """Return the smallest errors (n, 4) of the same, at the true labels and the noise of each star."""
    truth = {name: stars.column(f"{name}_true" if f"{name}_true" in stars.table else name) for name in true()}
    rows = []
    for part in range(0, len(stars), 256):
        some = slice(part, part + 256)
        found = emulator().information(
            {name: column[some] for name, column in truth.items()},
            ivar=stars.ivar[some],
            grid=stars.grid,
            priors=WIDE,
            continuum=CONTINUUM,
        )
        covariance = found.covariance
        if alike:
            _, covariance = narrowed(found.names, found.values, covariance, alike)
        mixing = table(found.names)
        rows.append(np.sqrt(np.einsum("ij,njk,ik->ni", mixing, covariance, mixing)))
    return np.concatenate(rows)


def true() -> tuple[str, ...]:
    return (*emulator().labels.names, "rv")


def table(names: Sequence[str]) -> Array:
    """Return the matrix (4, m) that makes teff, logg, fe_h and the mean alpha element of what is fitted."""
    mixing = np.zeros((4, len(names)))
    for row, name in enumerate(("teff", "logg", "fe_h")):
        mixing[row, names.index(name)] = 1
    mixing[3, [names.index(name) for name in ALPHA]] = 1 / len(ALPHA)
    return mixing


def narrowed(
    names: Sequence[str], values: Array, covariance: Array, alike: Mapping[str, float]
) -> tuple[Array, Array]:
    """Return values (n, m) and covariance (n, m, m) once it is known by how much stars scatter.

    Gaussian, and linear about the values: each relation says that a row of numbers times the values is known
    within an error.
    """
    n, m = values.shape
    place = {name: number for number, name in enumerate(names)}
    elements = [place[name] for name in ALPHA]
    relations = np.zeros((n, len(ALPHA) + 3, m))
    relations[:, : len(ALPHA), elements] = np.eye(len(ALPHA)) - 1 / len(ALPHA)
    teff, logg, vmic = (values[:, place[name]] for name in ("teff", "logg", "vmic"))
    usual = microturbulence(teff, logg)
    relations[:, -3, place["vmic"]] = 1
    relations[:, -3, place["teff"]] = -(microturbulence(teff + 1, logg) - usual)
    relations[:, -3, place["logg"]] = -(microturbulence(teff, logg + 1e-3) - usual) / 1e-3
    relations[:, -2, place["ni_fe"]] = 1
    relations[:, -1, place["rv"]] = 1
    # What the relations miss at the values; that of vmic is not linear.
    missed = -np.einsum("nkm,nm->nk", relations, values)
    missed[:, -3] = usual - vmic
    scatter = [*[alike["alpha"]] * len(ALPHA), alike["vmic"], alike["ni_fe"], alike["rv"]]
    weighted = relations.transpose(0, 2, 1) / np.square(scatter)
    precision: Array = np.linalg.inv(covariance) + weighted @ relations
    found = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    return values + np.einsum("nij,njk,nk->ni", found, weighted, missed), found
