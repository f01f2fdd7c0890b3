"""What training data of a Disentangler must have, and what they should have."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.disentangler import DisentanglerConfig
from draper.errors import DraperError, TrainingWarning
from draper.models.dataset import Part

CLASSES = 10
"""Largest number of different whole numbers that are taken for classes."""

MAX_MISSING = 0.5
"""Fraction of missing labels above which a warning says that engines which need them hardly remove them."""

FEW = 50
"""Training spectra below which a warning says so: networks of this size learn as many by heart."""


def warn_of_poor_data(spectra: Part, config: DisentanglerConfig) -> None:
    """Warn of too few spectra, and of missing labels that an engine needs."""
    texts = []
    if len(spectra) < FEW:
        texts.append(
            f"{len(spectra)} training spectra are too few for a Disentangler, which learns them by heart: "
            f"use at least {FEW}, better some thousands"
        )
    removed = [np.asarray(spectra.table[name]) for name in config.remove if name in spectra.table]
    missing = np.mean([~np.isfinite(column) for column in removed]) if removed else 0.0
    if config.engine != "bottleneck" and MAX_MISSING < missing < 1:
        texts.append(
            f"{missing:.0%} of the labels to remove are missing, and the decoder of the engine "
            f"{config.engine} needs them: spectra without labels can only be rebuilt if their latents hold "
            "what is to be removed. Use engine='bottleneck', or leave out spectra without labels"
        )
    for text in texts:
        warnings.warn(text, TrainingWarning, stacklevel=4)


def require_finite(names: Sequence[str], labels: NDArray[np.float64]) -> None:
    """Refuse infinite labels (n, l); NaN is a missing one."""
    for name, infinite in zip(names, np.isinf(labels).T, strict=True):
        if infinite.any():
            raise DraperError(
                f"the column '{name}' holds infinite values",
                expected="finite values, or NaN where a label is missing",
            )


def require_quantities(table: Mapping[str, NDArray[Any]], names: Sequence[str]) -> None:
    """Refuse labels that are classes, not quantities: few whole numbers."""
    for name in names:
        values = np.asarray(table.get(name, np.zeros(0)))
        # Of few stars, whole numbers may all differ.
        most = min(CLASSES, len(values) // 3)
        if values.dtype.kind in "biu" and 0 < len(classes := np.unique(values)) <= most:
            raise DraperError(
                f"the column '{name}' seems to hold classes, and a label is a quantity",
                given=f"{len(classes)} different whole numbers",
                hint="store it as floating-point numbers if it is one",
            )
