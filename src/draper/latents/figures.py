"""The figures of a leakage report, and their errors, from what probes have read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from draper.latents.probes import r_squared

FloatArray = NDArray[np.float64]

LEAST = 0.02
"""R2 by which the ceiling must be above the floor for a leak between them to be measured, and above 0 for a
ratio."""

DRAWS = 200
"""Bootstrap samples of seeds and rows that errors come from."""


def figures_with_errors(
    read: Mapping[str, FloatArray], truth: FloatArray, removed: int, seed: int
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return the figures of a report, and their errors by a bootstrap over seeds and rows.

    Parameters
    ----------
    read
        Labels (d, P, S, m) as read by P probes with S seeds from ``latents`` and ``spectra``, and, where any
        label is kept, the removed ones (the first) from ``known`` labels, from ``both`` of it, and from
        ``mixed``: kept labels with latents of other stars.
    truth : array (d, m)
        True labels.
    removed
        How many of the labels are removed.
    seed
        Of the bootstrap.
    """
    value = figures(_filled(_scores(read, truth, None), removed), removed)
    drawn = _filled(_scores(read, truth, _counts(truth.shape[1], seed)), removed)
    spread = figures(_drawn(drawn, seed), removed)
    return value, {key: values.std(axis=0) for key, values in spread.items()}


def figures(r2: Mapping[str, FloatArray], removed: int) -> dict[str, FloatArray]:
    """Return the figures of a report, (..., d) or (..., d, P), from R2 (..., d, P, S) of each source."""
    ceilings = r2["spectra"].max(axis=-2, keepdims=True)
    floors = np.maximum(r2["known"].max(axis=-2, keepdims=True), 0)
    spans = np.where(ceilings - floors > LEAST, ceilings - floors, np.nan)
    found = {source: np.median(values, axis=-1) for source, values in r2.items()}
    found["floor"], found["ceiling"] = (np.median(v, axis=-1)[..., 0] for v in (floors, ceilings))
    mixed = np.maximum(r2["mixed"].max(axis=-2, keepdims=True), 0)
    for name, source, start in (("leak", "latents", floors), ("conditional", "both", mixed)):
        found[name] = np.median((r2[source] - start) / spans, axis=-1)
        found[f"best_{name}"] = found[name].max(axis=-1)
    readable = np.where(r2["spectra"] > LEAST, r2["spectra"], np.nan)
    found["ratio"] = np.median(r2["latents"] / readable, axis=-1)
    found["ratio"][..., :removed, :] = np.nan
    best = found["spectra"].argmax(axis=-1)[..., None]
    found["kept_ratio"] = np.take_along_axis(found["ratio"], best, axis=-1)[..., 0]
    return found


def _scores(
    read: Mapping[str, FloatArray], truth: FloatArray, counts: FloatArray | None
) -> dict[str, FloatArray]:
    """Return R2 (d, P, S), or (B, d, P, S) for counts (B, m), of readings (d, P, S, m)."""
    found = {}
    for source, values in read.items():
        columns = [
            r_squared(one.reshape(-1, one.shape[-1]), y, counts)
            for one, y in zip(values, truth, strict=False)
        ]
        shape = (len(values), *values.shape[1:-1])
        found[source] = np.stack(columns, axis=-2).reshape(*columns[0].shape[:-1], *shape)
    return found


def _filled(r2: dict[str, FloatArray], removed: int) -> dict[str, FloatArray]:
    """Return R2 (..., d, P, S) from all sources: kept labels have no floor, and if none is kept it is 0."""
    latents = r2["latents"]
    whole = {
        "latents": latents,
        "known": np.zeros_like(latents),
        "both": latents.copy(),
        "mixed": np.zeros_like(latents),
        "spectra": r2["spectra"],
    }
    for source in ("known", "both", "mixed"):
        if source in r2:
            whole[source][..., :removed, :, :] = r2[source]
        whole[source][..., removed:, :, :] = np.nan
    return whole


def _counts(rows: int, seed: int) -> FloatArray:
    """Return how often each row (m,) is drawn, in each bootstrap sample."""
    random = np.random.default_rng(seed)
    return random.multinomial(rows, np.full(rows, 1 / rows), size=DRAWS).astype(np.float64)


def _drawn(r2: dict[str, FloatArray], seed: int) -> dict[str, FloatArray]:
    """Return R2 (B, d, P, S) with seeds drawn, too; all sources and probes by the same draw."""
    one = next(iter(r2.values()))
    draw = np.random.default_rng([seed, 1]).integers(0, one.shape[-1], (len(one), 1, 1, one.shape[-1]))
    return {source: np.take_along_axis(values, draw, axis=-1) for source, values in r2.items()}
