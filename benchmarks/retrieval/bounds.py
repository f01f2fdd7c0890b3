"""What spectra can tell at best: the Fisher matrix, detection limits, and the nearest spectrum of a model."""

from __future__ import annotations

import numpy as np
import torch

from draper.data.labels import LabelSet
from draper.simulate.planets import Planets
from draper.simulate.transit import is_bound
from retrieval.sheets import Array

STEP = 2e-3
"""Step of finite differences, as a part of the range of a label."""

TELLING = 0.5
"""Error of a log abundance [dex] below which a gas counts as detected."""


def ends(labels: LabelSet) -> tuple[Array, Array]:
    """Return the lower and upper ends (l,) of ranges."""
    return (
        np.array([label.low for label in labels], dtype=np.float64),
        np.array([label.high for label in labels], dtype=np.float64),
    )


def depths(planets: Planets, labels: Array) -> Array:
    """Return noise-free depths (n, p) of labels (n, l) on the bins of the simulator; NaN where unbound."""
    values = torch.from_numpy(labels)
    with torch.no_grad():
        fine = planets.depth(values).double().numpy()
    found = fine if planets.binning is None else (planets.binning @ fine.T).T
    bound = is_bound(values[:, :7], planets.exact_weight).numpy()
    return np.where(bound[:, None], found, np.nan)


def derivatives(planets: Planets, labels: Array) -> tuple[Array, Array]:
    """Return depths (n, p) of labels (n, l), and derivatives (n, l, p), inward at the ends of the box."""
    low, high = ends(planets.prior)
    count = labels.shape[1]
    step = STEP * (high - low)
    upper, lower = (np.clip(labels[:, None] + sign * np.diag(step), low, high) for sign in (1, -1))
    rows = np.concatenate([labels[:, None], upper, lower], axis=1)
    made = depths(planets, rows.reshape(-1, count)).reshape(len(labels), 2 * count + 1, -1)
    width = np.diagonal(upper - lower, axis1=1, axis2=2)
    # Beside the limit of bound atmospheres one side is missing.
    above, below = made[:, 1 : count + 1], made[:, count + 1 :]
    one_sided = np.isnan(above) | np.isnan(below)
    middle = np.broadcast_to(made[:, :1], above.shape)
    slope = (np.where(np.isnan(above), middle, above) - np.where(np.isnan(below), middle, below)) / width[
        ..., None
    ]
    return made[:, 0], np.where(one_sided, 2 * slope, slope)


def covariances(slopes: Array, variance: Array, labels: LabelSet) -> Array:
    """Return Cramer-Rao bounds (n, l, l) from derivatives (n, l, p), with the box as a Gaussian prior.

    ``variance`` (p,) or (n, p) is that of the data; a uniform prior counts as a Gaussian of its variance.
    """
    low, high = ends(labels)
    weight = 1 / np.broadcast_to(variance, (len(slopes), slopes.shape[2]))
    information = (slopes * weight[:, None]) @ slopes.transpose(0, 2, 1)
    scale = (high - low) / np.sqrt(12)
    unit = information * scale[:, None] * scale + np.eye(len(scale))
    return np.asarray(np.linalg.inv(unit) * scale[:, None] * scale)


def detection_limits(planets: Planets, labels: Array, variance: Array, gas: int) -> Array:
    """Return the lowest log abundance (n,) at which the error of a gas (column number) is below ``TELLING``.

    All other labels are as given; NaN where no abundance in the box is enough.
    """
    low, high = ends(planets.prior)
    found = np.full(len(labels), np.nan)
    for step in np.arange(low[gas], high[gas] + 0.25, 0.5)[::-1]:
        there = labels.copy()
        there[:, gas] = step
        slopes = derivatives(planets, there)[1]
        error = np.sqrt(covariances(slopes, variance, planets.prior)[:, gas, gas])
        found = np.where(error < TELLING, step, found)
    return found


def nearest(planets: Planets, starts: Array, depth: Array, variance: Array, steps: int = 30) -> Array:
    """Return the smallest chi2 (n,) of noise-free depths (n, p) against the model's spectra.

    Levenberg-Marquardt steps of all spectra at once from each of the labels ``starts`` (s, n, l), within the
    box; a local minimum may be taken for the nearest spectrum.
    """
    low, high = ends(planets.prior)
    best = np.full(len(depth), np.inf)
    for start in starts:
        labels, damping = np.clip(start, low, high), np.full(len(depth), 1e-2)
        made, slopes = derivatives(planets, labels)
        chi2 = ((depth - made) ** 2 / variance).sum(axis=1)
        for _ in range(steps):
            scaled = slopes * (high - low)[:, None]
            matrix = (scaled / variance) @ scaled.transpose(0, 2, 1)
            right = (scaled / variance) @ (depth - made)[..., None]
            diagonal = np.einsum("nll->nl", matrix)
            damped = matrix + np.einsum("nl,lk->nlk", damping[:, None] * diagonal + 1e-9, np.eye(len(low)))
            move = np.clip(np.linalg.solve(damped, right)[..., 0], -0.2, 0.2)
            trial = np.clip(labels + move * (high - low), low, high)
            new_made, new_slopes = derivatives(planets, trial)
            reached = ((depth - new_made) ** 2 / variance).sum(axis=1)
            better = reached < chi2  # false where the trial is not bound
            labels = np.where(better[:, None], trial, labels)
            made = np.where(better[:, None], new_made, made)
            slopes = np.where(better[:, None, None], new_slopes, slopes)
            chi2 = np.where(better, reached, chi2)
            damping = np.where(better, damping / 4, damping * 4).clip(1e-8, 1e6)
        best = np.fmin(best, chi2)
    return best
