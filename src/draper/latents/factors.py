"""Whether single latents stand for single labels: MIG and DCI, for labels that are continuous."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

BINS = 20
"""Classes of equal count that latents and labels are divided into for the MIG."""

ROWS = 4000
"""Rows that importances are learnt from at most."""

LEAST_ROWS = 20
"""Rows with a label below which nothing is said of it."""

READABLE = 0.05
"""R2 below which a label is not in the latents, and no latent stands for it."""


@dataclass(frozen=True, eq=False)
class Factors:
    """How k latents share d labels among them.

    Attributes
    ----------
    importance : ndarray (k, d)
        How much each latent matters for each label by boosted trees; columns sum to 1.
    mig : ndarray (d,)
        Mutual information gap (Chen et al. 2018): what the best latent alone tells of a label more than the
        second-best, as a fraction of all that there is to be told; of classes of equal count.
    completeness : ndarray (d,)
        1 where one latent stands for the label, 0 where all do alike; NaN where none does (DCI, Eastwood &
        Williams 2018).
    disentanglement : float
        1 where each latent stands for one label, 0 where for all alike; latents count by their importance
        and labels by how well they can be read; NaN unless two labels can.
    """

    importance: FloatArray
    mig: FloatArray
    completeness: FloatArray
    disentanglement: float


def measure_factors(latents: ArrayLike, labels: ArrayLike, read: ArrayLike, seed: int = 0) -> Factors:
    """Return how latents (n, k) share labels (n, d), which probes read from them with R2 ``read`` (d,).

    Examples
    --------
    >>> y = np.random.default_rng(0).normal(size=(1000, 2))
    >>> found = measure_factors(y, y, [1.0, 1.0])
    >>> bool(found.disentanglement > 0.95 and found.mig.min() > 0.7)
    True
    """
    z, y = np.asarray(latents, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    told = np.nan_to_num(np.asarray(read, dtype=np.float64)).clip(0)
    told[told < READABLE] = 0
    importance = np.stack([_importance(z, column, seed) for column in y.T], axis=1)
    completeness = np.where(told > 0, 1 - _entropy(importance.T), np.nan)
    shares = np.nan_to_num(importance * told)
    sums = shares.sum(axis=1)
    disentanglement = np.nan
    if (told > 0).sum() > 1:
        # Labels that nobody can read do not count among those that a latent may be shared by.
        some = sums > 0
        parts = shares[some][:, told > 0] / sums[some, None]
        disentanglement = float(np.average(1 - _entropy(parts), weights=sums[some]))
    return Factors(importance, np.array([_gap(z, column) for column in y.T]), completeness, disentanglement)


def _importance(z: FloatArray, label: FloatArray, seed: int) -> FloatArray:
    """Return how much each latent (k,) matters for a label (n,)."""
    from sklearn.ensemble import GradientBoostingRegressor

    rows = np.flatnonzero(np.isfinite(label))[:ROWS]
    if len(rows) < LEAST_ROWS:
        return np.full(z.shape[1], np.nan)
    trees = GradientBoostingRegressor(n_estimators=60, subsample=0.5, random_state=seed)
    found: FloatArray = trees.fit(z[rows], label[rows]).feature_importances_
    return found


def _entropy(shares: FloatArray) -> FloatArray:
    """Return the entropy of each row of shares (a, b), from 0 to 1; NaN where there is but one share."""
    if shares.shape[1] < 2:
        return np.full(len(shares), np.nan)
    safe = np.where(shares > 0, shares, 1.0)
    found: FloatArray = -(shares * np.log(safe)).sum(axis=1) / np.log(shares.shape[1])
    return found


def _gap(z: FloatArray, label: FloatArray) -> float:
    """Return the mutual information gap of a label (n,)."""
    from sklearn.metrics import mutual_info_score

    known = np.isfinite(label)
    if known.sum() < LEAST_ROWS:
        return np.nan
    classes = _classes(label[known])
    told = sorted((mutual_info_score(classes, _classes(column[known])) for column in z.T), reverse=True)
    second = told[1] if len(told) > 1 else 0.0
    whole = mutual_info_score(classes, classes)
    return float((told[0] - second) / whole) if whole > 0 else np.nan


def _classes(values: FloatArray) -> NDArray[np.int64]:
    """Return numbers of classes (n,) of about equal count."""
    return np.searchsorted(np.quantile(values, np.arange(1, BINS) / BINS), values, side="right")
