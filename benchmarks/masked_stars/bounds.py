"""The least errors that Gaia's data allow: the Cramer-Rao bound, with the population as a Gaussian prior."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from draper.data.spectra import Spectra
from draper.simulate.photometry import BANDS
from draper.simulate.xp import LowResolution

Array = NDArray[np.float64]

LABELS = ("teff", "logg", "fe_h", "alpha_fe", "a_v")

STEPS = np.array([4.0, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005])
"""Steps of finite differences in all labels of the simulator."""

ROWS = 1024


def observables(simulator: LowResolution, labels: Array) -> tuple[Array, Array]:
    """Return noise-free coefficients (n, 110), and columns (n, c): magnitudes and parallax."""
    values = torch.from_numpy(labels)
    xp = simulator.xp
    with torch.inference_mode():
        near = simulator.flux(values[:, :-1])
        at_10_pc = simulator.project(near)
        farther = labels[:, -1] - xp.magnitude(at_10_pc, "g").numpy()
        true = at_10_pc * torch.from_numpy(10 ** (-0.4 * farther))[:, None]
        columns = [xp.magnitude(true, name).numpy() for name in xp.passbands]
    columns += [band.magnitude(simulator.wavelength, near.numpy()) + farther for band in BANDS.values()]
    return true.numpy(), np.column_stack([*columns, 100 * 10 ** (-0.2 * farther)])


def column_names(simulator: LowResolution) -> tuple[str, ...]:
    """Return the names of the columns of :func:`observables`."""
    return (*(f"{name}_mag" for name in (*simulator.xp.passbands, *BANDS)), "parallax")


def bounds(simulator: LowResolution, spectra: Spectra, population: Spectra) -> tuple[Array, Array]:
    """Return the smallest errors (n, 5) of labels with spectrum, and without it."""
    labels = simulator.prior.read(spectra.table)
    low, high = simulator.prior.low, simulator.prior.high
    prior = np.linalg.inv(np.cov(simulator.prior.read(population.table).T))
    names = column_names(simulator)
    errors = spectra.columns([f"{name}_err" for name in names])
    assert spectra.correlation is not None
    found = []
    for start in range(0, len(labels), ROWS):
        rows = slice(start, start + ROWS)
        part = labels[rows]
        slopes, columns = [], []
        for number, step in enumerate(STEPS):
            move = step * (np.arange(len(STEPS)) == number)
            above, below = np.minimum(part + move, high), np.maximum(part - move, low)
            width = (above - below)[:, number, None]
            pairs = zip(observables(simulator, above), observables(simulator, below), strict=True)
            spectrum, column = ((a - b) / width for a, b in pairs)
            slopes.append(spectrum)
            columns.append(column)
        slope, column = np.stack(slopes, axis=2), np.stack(columns, axis=2)
        sigma = 1 / np.sqrt(spectra.ivar[rows].astype(float))
        covariance = spectra.correlation.of(np.arange(start, start + len(part))).astype(float)
        covariance *= sigma[:, :, None] * sigma[:, None]
        scaled = column / errors[rows][..., None]
        without = scaled.transpose(0, 2, 1) @ scaled + prior
        information = without + slope.transpose(0, 2, 1) @ np.linalg.solve(covariance, slope)
        places = [simulator.prior.names.index(name) for name in LABELS]
        pair = [
            np.sqrt(np.diagonal(np.linalg.inv(m), axis1=1, axis2=2))[:, places]
            for m in (information, without)
        ]
        found.append(pair)
    return tuple(np.concatenate([pair[number] for pair in found]) for number in (0, 1))  # type: ignore[return-value]
