"""After training: how spectra answer to labels, and how large the errors of changed labels are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from draper.data.spectra import Spectra
from draper.latents.swap import donors
from draper.models.dataset import Part
from draper.nn.kept_latents import MIN_ROWS
from draper.nn.module import Batch
from draper.nn.response import LEAST, Response

BLOCK = 4096
"""Spectra that are looked at together."""

MAX_BLOCKS = 25
"""Blocks of training spectra that the response is learnt from, at most."""

MAX_HELD_OUT = 2000
"""Held-out spectra whose labels are changed to measure the errors."""

FAR = 0.25
"""Fraction of changes that lead anywhere in the ranges, whether there are stars or not."""


def learn_response(model: Any, training: Part) -> Response | None:
    """Learn the response of a model's spectra to labels, and where there are stars.

    Returns the same of the regressor's estimates, by which :func:`learn_errors` judges changes; None of too
    few spectra.
    """
    network, edits, size = model.network, model.edits, len(model.labels)

    def measured(batch: Batch) -> tuple[Tensor, ...]:
        good = batch["ivar"] > 0
        own = network.decode(network.encode(batch), network.decoder_labels(batch))
        errors = batch["label_errors"] / network.spread
        weight = batch["ivar"].sum(1, keepdim=True) / good.sum(1, keepdim=True).clamp(min=1)
        estimates = network.decoder_labels(batch)
        return network.labels(batch), errors, weight, estimates, torch.where(good, batch["flux"], own)

    def blocks() -> Iterator[tuple[Tensor, ...]]:
        widths = (size, size, 1, size, len(model.own_grid))
        for spectra in islice(training.batches(BLOCK), MAX_BLOCKS):
            found = model.apply(spectra, measured, widths, model.draw_noise())
            arrays = [torch.from_numpy(array) for array in found]
            known = torch.isfinite(arrays[0]).all(1) & torch.isfinite(arrays[4]).all(1)
            yield tuple(array[known] for array in arrays)

    labels, errors, weight, estimates = (
        torch.cat(parts) for parts in zip(*(block[:4] for block in blocks()), strict=True)
    )
    edits.learn_stars(labels)
    if len(labels) < MIN_ROWS:
        return None
    if len(labels) >= LEAST:
        # The brightest stars would else outweigh all others, and what limits them is not their noise.
        unit = weight.mean()
        edits.response.fit(
            labels, errors, ((block[4], (block[2][:, 0] / unit).clamp(max=5)) for block in blocks())
        )
    judge = Response(size, size)
    judge.fit(labels, errors, [(estimates, torch.ones(len(labels)))])
    return judge


def learn_errors(model: Any, judge: Response, held_out: Spectra, seed: int) -> None:
    """Change labels of held-out spectra to those of others, and measure the errors by the regressor.

    ``judge`` is what the regressor finds on average in spectra of stars with given labels: it draws them to
    common ones.
    """
    names, edits = model.labels.names, model.edits
    if any(name not in held_out.table for name in names) or not len(held_out):
        return
    labels = held_out.columns(names).astype(np.float64)
    random = np.random.default_rng(seed)
    known = random.permutation(np.flatnonzero(np.isfinite(labels).all(1)))[:MAX_HELD_OUT]
    stars, labels = held_out[known], labels[known]
    if len(stars) <= len(names):
        return
    low, high = np.percentile(labels, (1, 99), axis=0)
    width = np.where(high > low, high - low, 1.0)
    rebuilt = model.generate(stars)
    before, own = read(model, stars, rebuilt), rebuilt.columns(names).astype(np.float64)
    for number, name in enumerate(names):
        donor = donors(labels, labels, number, width, seed)
        change = np.where(donor >= 0, labels[donor, number] - labels[:, number], np.nan)
        far = (random.random(len(stars)) < FAR) | np.isnan(change)
        target = random.uniform(low[number], high[number], len(stars))
        change = np.where(far, target - own[:, number], change)
        changed = model.generate(stars, {name: own[:, number] + change})
        new = standardised(model, changed.columns(names).astype(np.float64))
        old = standardised(model, own)
        found = read(model, stars, changed) - before
        errors = found - (judge(new) - judge(old))
        edits.learn_errors(number, (new - old)[:, number], new, errors)


def read(model: Any, stars: Spectra, made: Spectra) -> Tensor:
    """Return the labels (n, l), in units of their scatter, that the regressor finds in generated spectra."""
    network = model.network
    spectra = Spectra(
        made.grid, np.nan_to_num(made.flux), stars.ivar, stars.table, stars.quantity, stars.unit
    )
    (found,) = model.apply(
        spectra, lambda batch: (network.decoder_labels(batch),), (len(model.labels),), model.draw_noise()
    )
    return torch.from_numpy(found)


def standardised(model: Any, labels: np.ndarray) -> Tensor:
    """Return physical labels (n, l) in units of their scatter."""
    return cast(Tensor, model.network.standardise(torch.from_numpy(model.labels.scale(labels)).float()))
