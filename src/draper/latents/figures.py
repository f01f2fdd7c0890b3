"""The figures of a leakage report and their errors, from the predictions of probes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from draper.latents.probes import r_squared

FloatArray = NDArray[np.float64]

MIN_SPAN = 0.02
"""Minimum difference of R2 between ceiling and floor for a leak, and minimum R2 of a spectrum for a ratio."""

DRAWS = 200
"""Number of bootstrap samples of seeds and rows for the errors."""


def figures_with_errors(
    predicted: Mapping[str, FloatArray], truth: FloatArray, removed: int, seed: int
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return the figures of a report, and their errors by a bootstrap over seeds and rows.

    Parameters
    ----------
    predicted
        Labels (d, P, S, m) predicted by P probes with S seeds from ``latents`` and ``spectra``, and, where
        any label is kept, the removed ones (the first) from ``known``: kept labels with borrowed errors,
        ``exact``: true kept labels, ``both``: latents and true kept labels, and ``mixed``: true kept labels
        with latents of other stars.
    truth : array (d, m)
        True labels.
    removed
        Number of removed labels.
    seed
        Seed of the bootstrap.
    """
    value = figures(_completed(_scores(predicted, truth, None), removed), removed)
    drawn = _completed(_scores(predicted, truth, _counts(truth.shape[1], seed)), removed)
    samples = figures(_drawn(drawn, seed), removed)
    return value, {key: values.std(axis=0) for key, values in samples.items()}


def figures(r2: Mapping[str, FloatArray], removed: int) -> dict[str, FloatArray]:
    """Return the figures of a report, (..., d) or (..., d, P), from R2 (..., d, P, S) of each source."""
    ceilings = r2["spectra"].max(axis=-2, keepdims=True)
    floors = np.maximum(r2["known"].max(axis=-2, keepdims=True), 0)
    spans = np.where(ceilings - floors > MIN_SPAN, ceilings - floors, np.nan)
    result = {source: np.median(values, axis=-1) for source, values in r2.items()}
    result["floor"], result["ceiling"] = (np.median(v, axis=-1)[..., 0] for v in (floors, ceilings))
    mixed = np.maximum(r2["mixed"].max(axis=-2, keepdims=True), 0)
    exact = np.maximum(r2["exact"].max(axis=-2, keepdims=True), 0)
    beyond = np.where(ceilings - exact > MIN_SPAN, ceilings - exact, np.nan)
    ranges = (("leak", "latents", floors, spans), ("conditional", "both", mixed, beyond))
    for name, source, start, span in ranges:
        result[name] = np.median((r2[source] - start) / span, axis=-1)
        result[f"best_{name}"] = result[name].max(axis=-1)
    result["worst"] = np.fmax(result["best_leak"], result["best_conditional"])
    measurable = np.where(r2["spectra"] > MIN_SPAN, r2["spectra"], np.nan)
    result["ratio"] = np.median(r2["latents"] / measurable, axis=-1)
    result["ratio"][..., :removed, :] = np.nan
    best = result["spectra"].argmax(axis=-1)[..., None]
    result["kept_ratio"] = np.take_along_axis(result["ratio"], best, axis=-1)[..., 0]
    return result


def _scores(
    predicted: Mapping[str, FloatArray], truth: FloatArray, counts: FloatArray | None
) -> dict[str, FloatArray]:
    """Return R2 (d, P, S), or (B, d, P, S) for counts (B, m), of predictions (d, P, S, m)."""
    r2 = {}
    for source, values in predicted.items():
        columns = [
            r_squared(label.reshape(-1, label.shape[-1]), y, counts)
            for label, y in zip(values, truth, strict=False)
        ]
        r2[source] = np.stack(columns, axis=-2).reshape(*columns[0].shape[:-1], *values.shape[:-1])
    return r2


def _completed(r2: dict[str, FloatArray], removed: int) -> dict[str, FloatArray]:
    """Return R2 (..., d, P, S) of all sources: kept labels have no floor, and without them the floor is 0."""
    latents = r2["latents"]
    whole = {
        "latents": latents,
        "known": np.zeros_like(latents),
        "both": latents.copy(),
        "mixed": np.zeros_like(latents),
        "exact": np.zeros_like(latents),
        "spectra": r2["spectra"],
    }
    for source in ("known", "both", "mixed", "exact"):
        if source in r2:
            whole[source][..., :removed, :, :] = r2[source]
        whole[source][..., removed:, :, :] = np.nan
    return whole


def _counts(rows: int, seed: int) -> FloatArray:
    """Return how often each row is drawn in each bootstrap sample (DRAWS, m)."""
    random = np.random.default_rng(seed)
    return random.multinomial(rows, np.full(rows, 1 / rows), size=DRAWS).astype(np.float64)


def _drawn(r2: dict[str, FloatArray], seed: int) -> dict[str, FloatArray]:
    """Return R2 (B, d, P, S) with seeds drawn as well, the same for all sources and probes."""
    samples, seeds = r2["latents"].shape[0], r2["latents"].shape[-1]
    draw = np.random.default_rng([seed, 1]).integers(0, seeds, (samples, 1, 1, seeds))
    return {source: np.take_along_axis(values, draw, axis=-1) for source, values in r2.items()}
