"""What plots read of estimates, so that estimates may have methods that plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from draper.data.labels import LabelSet

FloatArray = NDArray[np.float64]


class LabelEstimates(Protocol):
    """The part of :class:`draper.results.estimates.Estimates` that plots need."""

    @property
    def labels(self) -> LabelSet:
        """The l labels."""

    @property
    def median(self) -> FloatArray:
        """Values (n, l)."""

    @property
    def sigma(self) -> FloatArray:
        """1-sigma errors (n, l)."""

    @property
    def ids(self) -> NDArray[Any]:
        """Names of the objects (n,)."""

    @property
    def flags(self) -> Mapping[str, NDArray[np.bool_]]:
        """Flags of the objects (n,)."""

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Further columns of the table (n,)."""

    @property
    def covariance(self) -> FloatArray | None:
        """Covariances (n, l, l)."""

    @property
    def samples(self) -> NDArray[Any] | None:
        """Posterior samples (n, draws, l)."""

    def __len__(self) -> int:
        """Return the number of objects."""

    def rows(self, index: Any) -> LabelEstimates:
        """Return some objects."""

    def quantile(self, q: float) -> FloatArray:
        """Return quantiles (n, l)."""

    def interval(self, probability: float = 0.68) -> tuple[FloatArray, FloatArray]:
        """Return the ends (n, l) of central intervals."""
