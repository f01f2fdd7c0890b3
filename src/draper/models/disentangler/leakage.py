"""What a model's latents tell of the labels that they are to be free of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from draper.data.spectra import Spectra, Subset
from draper.errors import DraperError
from draper.latents.baselines import MOST_ROWS
from draper.latents.leakage import Leakage, measure_leakage
from draper.models import artifact
from draper.train.distributed import World

if TYPE_CHECKING:
    from draper.models.base import Model
    from draper.models.disentangler.model import Disentangler

PROBED = 8000
"""Held-out spectra that are probed after training, at most."""

FEWEST = 200
"""Held-out spectra that are worth probing."""


def leakage_of(
    model: Disentangler, train: Spectra, test: Spectra, truth: str, options: Mapping[str, Any]
) -> Leakage:
    """Return the leakage of a model; see :meth:`draper.models.disentangler.model.Disentangler.leakage`."""
    removed, kept = model.config.remove, model.config.keep
    if not (removed or kept):
        raise DraperError(
            "this model was asked to remove no label and to keep none",
            hint="train with remove=[...] and keep=[...] (--remove, --keep)",
        )
    named = {name: f"{name}{truth}" for name in (*removed, *kept)}
    for part in (train, test):
        if missing := [column for column in named.values() if column not in part.table]:
            raise DraperError(
                "the spectra lack labels that the model removes or keeps", given=", ".join(missing),
                hint="join them from a table, or say how their columns end with truth (--truth)",
            )  # fmt: skip
    baselines = options.get("baselines")
    if baselines is None:  # which know rows by their numbers
        random, most = np.random.default_rng(0), options.get("max_rows", MOST_ROWS)
        train, test = (
            part if len(part) <= most else part[np.sort(random.permutation(len(part))[:most])]
            for part in (train, test)
        )
    labels = [
        {name: np.asarray(part.table[column], dtype=np.float64) for name, column in named.items()}
        for part in (train, test)
    ]
    latents = [model.encode(part) for part in (train, test)]
    known = [np.isfinite(z).all(axis=1) for z in latents]
    learnt, judged = known
    return measure_leakage(
        latents[0][learnt],
        latents[1][judged],
        {name: values[learnt] for name, values in labels[0].items()},
        {name: values[judged] for name, values in labels[1].items()},
        removed=removed, kept=kept,
        spectra_train=None if baselines else filled(model, train)[learnt],
        spectra_test=None if baselines else filled(model, test)[judged],
        **options,
    )  # fmt: skip


def probe_held_out(model: Disentangler, held_out: Subset, out: Path | None) -> None:
    """Probe the spectra that were held out of the training, halves of them, and say so in the artifact."""
    seed = int(model.training["config"]["seed"])
    labels = (*model.config.remove, *model.config.keep)
    if not labels or any(name not in held_out.table for name in labels):
        return
    known = np.isfinite(np.column_stack([held_out.table[name] for name in labels])).all(axis=1)
    rows = np.sort(np.random.default_rng(seed).permutation(held_out.rows[known])[:PROBED])
    if len(rows) < FEWEST or not World.join(next(iter(model.state().values())).device).is_first:
        return
    spectra = held_out.spectra[rows]
    train, test = spectra.split(0.6, seed=seed)
    report = leakage_of(model, train, test, "", {"seeds": (seed,), "probes": ("ridge", "mlp")})
    model.training["leakage"] = {"summary": report.summary(), **report.to_json()}
    if out is not None:
        artifact.write(model, out, complete=True)


def filled(model: Model, spectra: Spectra) -> NDArray[np.float32]:
    """Return the flux (n, p) in units of the model, with gaps at the mean."""
    flux: NDArray[np.float32]
    (flux,) = model.apply(spectra, lambda batch: (batch["flux"],), (len(model.own_grid),))
    return np.nan_to_num(flux)
