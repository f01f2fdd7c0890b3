"""Kept labels with the errors that latents have: what these tell of removed labels is the floor of a leak."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

FloatArray = NDArray[np.float64]

NEIGHBOURS = 10
"""Stars like a star in kept labels and S/N, one of which lends it its errors."""


def with_borrowed_errors(
    labels: FloatArray, others: FloatArray, errors: FloatArray, *, same: bool, seed: int = 0
) -> FloatArray:
    """Return labels with errors of other stars that are like each one in these labels and in S/N.

    Estimates of kept labels are noisy, and tell less of removed labels than the true ones do. The errors of a
    star itself may be correlated with its removed labels, which is a leak; those of a star that is like it in
    all else are not.

    Parameters
    ----------
    labels : array (n, k + 1)
        Kept labels, and ln(S/N) in the last column.
    others : array (m, k + 1)
        The same of the stars that lend errors.
    errors : array (m, k)
        Their errors.
    same
        Whether both are the same stars, which must not borrow from themselves.
    seed
        Decides which of the ``NEIGHBOURS`` nearest stars lends.

    Examples
    --------
    >>> labels = np.array([[0.0, 3.0], [0.1, 3.0], [5.0, 3.0]])
    >>> with_borrowed_errors(labels, labels, np.array([[0.5], [-0.5], [2.0]]), same=True).shape
    (3, 1)
    """
    scale = others.std(axis=0)
    scale[scale == 0] = 1
    count = min(NEIGHBOURS + same, len(others))
    _, near = cKDTree(others / scale).query(labels / scale, k=count)
    near = near.reshape(len(labels), count)
    random = np.random.default_rng([seed, 3])
    if same and count > 1:
        # Duplicates of a star may stand before it among its neighbours.
        own = near == np.arange(len(labels))[:, None]
        own[~own.any(axis=1), -1] = True
        near = near[~own].reshape(len(labels), count - 1)
    chosen = near[np.arange(len(labels)), random.integers(0, near.shape[1], len(labels))]
    borrowed: FloatArray = labels[:, :-1] + errors[chosen]
    return borrowed
