"""Errors turned into weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.errors import DraperError


def inverse_variance(error: ArrayLike) -> NDArray[np.float32]:
    """Return 1 / error^2 in the shape of ``error``; 0 where the error is missing, infinite or not positive.

    Examples
    --------
    >>> inverse_variance([0.5, 0.0, -1.0, np.nan, np.inf])
    array([4., 0., 0., 0., 0.], dtype=float32)
    """
    error = np.asarray(error, dtype=np.float64)
    known = np.isfinite(error) & (error > 0)
    with np.errstate(all="ignore"):
        ivar = np.where(known, 1 / error**2, 0).astype(np.float32)
    wild = ~np.isfinite(ivar)
    if 2 * wild.sum() > known.sum():  # a few are bad pixels, but most are the scale of the data
        raise DraperError(
            "the errors are too small for single precision",
            given=f"a median of {np.median(error[known]):.3g}",
            expected="above 1e-19",
            hint="multiply flux and error by a power of ten first",
        )
    ivar[wild] = 0
    return ivar
