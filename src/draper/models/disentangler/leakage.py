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

LIVE = 0.01
"""Information [nats] from which on a latent tells something of a spectrum."""

AVERAGED = 100
"""Draws that are averaged to see what more they tell than one."""

Moments = Callable[[Spectra], tuple[NDArray[np.float32], NDArray[np.float32]]]


def leakage_of(
    encode: Callable[[Spectra], NDArray[np.float32]],
    scaled_flux: Callable[[Spectra], NDArray[np.float32]],
    train: Spectra,
    test: Spectra | None,
    *,
    removed: Sequence[str],
    kept: Sequence[str],
    kept_columns: int = 0,
    moments: Moments | None = None,
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
        Spectra that probes are trained on, and other spectra that they are tested on. Without the latter,
        probes learn one half of the former and are tested on the other, and the other way round.
    removed, kept
        Names of the labels.
    kept_columns
        How many latents, the first ones, are estimates of the kept labels.
    moments
        Returns means and variances (n, k) of latents that are drawn.
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
    sets = [part for part in (train, test) if part is not None]
    for part in sets:
        if missing := [column for column in columns.values() if column not in part.table]:
            raise DraperError(
                "the spectra lack labels that the model removes or keeps",
                given=", ".join(missing),
                hint=f"join them from a table, or give the suffix of their columns: {option_text('truth')}",
            )
    if test is not None:
        _require_others(train, test)
    if baselines is None:  # baselines refer to rows by number
        random = np.random.default_rng(0)
        sets = [
            part if len(part) <= max_rows else part[np.sort(random.permutation(len(part))[:max_rows])]
            for part in sets
        ]
    latents, labels, flux, ratio, known = [], [], [], [], []
    for part in sets:
        z = encode(part)
        rows = np.isfinite(z).all(axis=1)
        known.append(part if rows.all() else part[rows])
        latents.append(z[rows])
        labels.append(
            {name: np.asarray(part.table[column], np.float64)[rows] for name, column in columns.items()}
        )
        ratio.append(np.nan_to_num(part.snr[rows].astype(np.float64)))
        flux.append(None if baselines else scaled_flux(part)[rows])
    parts: dict[str, NDArray[np.int64]] = {}
    if kept_columns:
        parts["kept"] = np.arange(kept_columns)
    attacks: dict[str, tuple[Any, Any]] = {}
    if moments is not None:
        both = [moments(part) for part in known]
        parts |= _live(*both[0], kept_columns)
        random = np.random.default_rng([0, 5])
        averaged = [
            mean + np.sqrt(variance / AVERAGED) * random.standard_normal(mean.shape)
            for mean, variance in both
        ]
        posterior = [np.hstack([mean, np.log(variance + 1e-12)]) for mean, variance in both]
        attacks = {
            f"averages of {AVERAGED} draws": _pair(averaged),
            "the posterior's moments": _pair(posterior),
        }
    codes, found, spectra, snr = (_pair(each) for each in (latents, labels, flux, ratio))
    return measure_leakage(
        codes[0],
        codes[1],
        found[0],
        found[1],
        removed=removed,
        kept=kept,
        spectra_train=spectra[0],
        spectra_test=spectra[1],
        snr_train=snr[0],
        snr_test=snr[1],
        parts=parts,
        attacks=attacks,
        baselines=baselines,
        objects=known[0].table.get("id"),
        max_rows=max_rows,
        **options,
    )


def _pair(parts: Sequence[Any]) -> tuple[Any, Any]:
    """Return what is for training and for test; None for the latter where there is one set."""
    return (parts[0], parts[1]) if len(parts) == 2 else (parts[0], None)


def _live(
    mean: NDArray[np.float32], variance: NDArray[np.float32], kept: int
) -> dict[str, NDArray[np.int64]]:
    """Return the latents that tell something of spectra, kept labels among them, unless all do."""
    information = 0.5 * np.log1p(mean.var(axis=0) / np.maximum(variance.mean(axis=0), 1e-12))
    live = (information > LIVE) | (np.arange(len(information)) < kept)
    return {} if live.all() or not live.any() else {"live": np.flatnonzero(live)}


def _require_others(train: Spectra, test: Spectra) -> None:
    """Refuse spectra to test on that probes have learnt."""
    if train is test:
        same = len(train)
    elif "id" in train.table and "id" in test.table:
        same = int(np.isin(test.ids, train.ids).sum())
    else:
        seen = {row.tobytes() for row in train.flux}
        same = sum(row.tobytes() in seen for row in test.flux)
    if same:
        raise DraperError(
            "probes would be tested on spectra that they have learnt",
            given=f"{same} of {len(test)} spectra to test on are among those to train on",
            hint="split the spectra by star, or give one set: probes then learn halves of it in turn",
        )
