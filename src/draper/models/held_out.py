"""Errors of a model on held-out objects beside those of the mean, and a warning where it is no better."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from draper.data.spectra import Spectra
from draper.errors import TrainingWarning
from draper.models import artifact
from draper.models.dataset import Dataset
from draper.models.protocol import Trainable
from draper.results.estimates import Estimates

MOST = 256
"""Held-out objects that are looked at, at most."""

LEAST = 5
"""Objects with known values without which an error says nothing."""

CHANCE = 4.0
"""R2 that chance alone exceeds in one case of twenty or so, times the number of values."""

ADVICE = (
    "train longer (more steps or epochs) or with another learning rate; if that does not help, the spectra "
    "may not depend on it"
)

Errors = dict[str, dict[str, Any]]
"""By label, or for ``spectra``: ``number`` of objects, ``rms`` error, that of the ``mean``, and whether the
first ``is_better``, beyond chance."""


def is_better(rms: float, mean: float, values: int) -> bool:
    """Return whether an rms error over some values is below that of the mean, beyond chance.

    Examples
    --------
    >>> is_better(0.9, 1.0, 10), is_better(0.9, 1.0, 100)
    (False, True)
    """
    return 1 - (rms / mean) ** 2 > CHANCE / values


def compared(estimate: ArrayLike, truth: ArrayLike, weight: ArrayLike = 1.0) -> dict[str, Any]:
    """Return the rms error of estimates, and that of the mean of the other objects' true values.

    Parameters
    ----------
    estimate, truth : array (n, k)
        Of n objects; NaN where there is none.
    weight : array (n, k)
        Weights of the values, 0 where they do not count.

    Returns
    -------
    dict
        See :data:`Errors`; empty for too few objects, or values that are all equal.

    Examples
    --------
    >>> truth = np.arange(11.0)[:, None]
    >>> compared(truth + 0.5, truth)["rms"], round(compared(truth + 0.5, truth)["mean"], 3)
    (0.5, 3.479)
    """
    made, true = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    counts = np.isfinite(made) & np.isfinite(true)
    weights = np.where(counts, np.asarray(weight, dtype=np.float64), 0.0)
    weights[:, (weights > 0).sum(axis=0) < 2] = 0.0
    counts = weights > 0
    number = int(counts.any(axis=1).sum())
    if number < LEAST:
        return {}
    total = weights.sum(axis=0)
    share = weights / np.where(total > 0, total, 1.0)
    true = np.where(counts, true, 0.0)
    # Each object is left out of its mean, which would else follow the noise of few objects.
    others = (true - (share * true).sum(axis=0)) / np.maximum(1 - share, 1e-9)
    errors = {"rms": np.where(counts, made, 0.0) - true, "mean": np.where(counts, others, 0.0)}
    found = {name: float(np.sqrt((weights * error**2).sum() / total.sum())) for name, error in errors.items()}
    if not found["mean"] > 0:
        return {}
    return {"number": number, **found, "is_better": is_better(**found, values=int(counts.sum()))}


def sample(dataset: Dataset, labels: Collection[str] = (), most: int = MOST) -> Spectra:
    """Return some held-out spectra of the last input, which verbs take; those with known labels, if any."""
    subset = list(dataset.held_out.values())[-1].subset
    rows, table = subset.rows, subset.table
    known = [np.isfinite(table[name]) for name in labels if name in table]
    if known and np.any(known):
        rows = rows[np.any(known, axis=0)]
    return subset.spectra[rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]]


def label_errors(estimates: Estimates, spectra: Spectra, labels: Collection[str]) -> Errors:
    """Return the errors of those of some labels whose truth is known."""
    return {
        name: compared(estimates[name][:, None], np.asarray(spectra.table[name])[:, None])
        for name in labels
        if name in spectra.table and name in estimates.labels.names
    }


def spectrum_errors(spectra: Spectra, made: Spectra | None) -> Errors:
    """Return the error of the spectra that a model makes of some spectra, weighted by their ivar."""
    if made is None:
        return {}
    return {"spectra": compared(made.flux, spectra.flux, np.where(made.ivar > 0, spectra.ivar, 0.0))}


def record_errors(model: Trainable, dataset: Dataset, folder: Path | None) -> None:
    """Record the held-out errors of a trained model, and warn where they are not below those of the mean."""
    if "held_out_errors" not in model.training and dataset.has_held_out:
        errors = {name: of for name, of in model.held_out_errors(dataset).items() if of}
        poor = {name: of for name, of in errors.items() if not of["is_better"]}
        model.training |= {"held_out_errors": errors, "warnings": [_warning(poor)] if poor else []}
        if folder is not None:
            artifact.write(model, folder, complete=True)
    for text in model.training.get("warnings", ()):
        warnings.warn(f"{text}: {ADVICE}", TrainingWarning, stacklevel=3)


def _warning(poor: Errors) -> str:
    """Return the warning for labels, or spectra, whose errors are not below those of the mean."""
    of = ", ".join(f"{name} {of['rms']:.3g} against {of['mean']:.3g}" for name, of in poor.items())
    number = int(max(of["number"] for of in poor.values()))
    return f"on {number} held-out objects the model is no better than the mean (rms error of {of})"
