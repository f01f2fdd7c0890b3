"""Leakage of a model: how well fresh probes predict labels from the latents of its spectra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.latents.baselines import MAX_ROWS, Baselines
from draper.latents.leakage import Leakage, measure_leakage

MIN_HELD_OUT = 200
"""Minimum number of held-out spectra for a measurement of the leakage after training."""

MAX_PROBED = 8000
"""Maximum number of held-out spectra for the measurement of the leakage after training."""


def leakage_of(
    encode: Callable[[Spectra], NDArray[np.float32]],
    scaled_flux: Callable[[Spectra], NDArray[np.float32]],
    train: Spectra,
    test: Spectra,
    *,
    removed: Sequence[str],
    kept: Sequence[str],
    truth: str = "",
    baselines: Baselines | None = None,
    max_rows: int = MAX_ROWS,
    **options: Any,
) -> Leakage:
    """Return the leakage of the latents of spectra.

    Parameters
    ----------
    encode, scaled_flux
        Return latents (n, k) and flux without gaps (n, p) of spectra.
    train, test
        Spectra that probes are trained on, and other spectra that they are tested on.
    removed, kept
        Names of the labels.
    truth
        Suffix of the columns with true labels, such as ``_true``.
    baselines, max_rows, options
        See :func:`draper.latents.leakage.measure_leakage`.
    """
    if not (removed or kept):
        raise DraperError(
            "this model removes no label and keeps none",
            hint=f"train with {option_text('remove')} and {option_text('keep')}",
        )
    columns = {name: f"{name}{truth}" for name in (*removed, *kept)}
    for part in (train, test):
        if missing := [column for column in columns.values() if column not in part.table]:
            raise DraperError(
                "the spectra lack labels that the model removes or keeps",
                given=", ".join(missing),
                hint=f"join them from a table, or give the suffix of their columns: {option_text('truth')}",
            )
    if baselines is None:  # baselines refer to rows by number
        random = np.random.default_rng(0)
        train, test = (
            part if len(part) <= max_rows else part[np.sort(random.permutation(len(part))[:max_rows])]
            for part in (train, test)
        )
    latents, labels, flux = [], [], []
    for part in (train, test):
        z = encode(part)
        rows = np.isfinite(z).all(axis=1)
        latents.append(z[rows])
        labels.append(
            {name: np.asarray(part.table[column], np.float64)[rows] for name, column in columns.items()}
        )
        flux.append(None if baselines else scaled_flux(part)[rows])
    return measure_leakage(
        latents[0],
        latents[1],
        labels[0],
        labels[1],
        removed=removed,
        kept=kept,
        spectra_train=flux[0],
        spectra_test=flux[1],
        baselines=baselines,
        max_rows=max_rows,
        **options,
    )
