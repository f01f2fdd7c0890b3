"""How spectra that a model is evaluated on relate to its training, and noise for computed ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from draper.data.spectra import Spectra, Subset, has_errors, lacks_errors
from draper.errors import DraperError, option_text
from draper.instrument.noise import add_noise, ivar_from_snr
from draper.models.dataset import divide, fingerprint, hashed, with_good_pixels

IN_TRAINING = (
    "These are the spectra that the model was trained on. The figures say how well it remembers, not how "
    "good it is on others: judge it by spectra that it has not seen."
)
WITH_TRAINING = (
    "These are the spectra that the model was trained on, with those that were held out. The figures say how "
    "well it remembers, not how good it is on others: judge it by spectra that it has not seen."
)
HELD_OUT = (
    "These are the spectra that were held out in training. They moved no weight, but the quoted errors were "
    "measured on them, and they may have chosen when to stop."
)
NO_ERRORS = (
    "The spectra carry no errors, so that errors of labels that follow from theirs mean nothing. Ask for a "
    "signal-to-noise ratio (snr=100, --snr 100) to see what labels real spectra would give."
)
NOTES = {"training": IN_TRAINING, "both": WITH_TRAINING, "held out": HELD_OUT}
UNKNOWN = {
    "other": "other spectra than in training, by their fingerprint",
    "unknown": "whether the model has seen them is not known",
}
SEEN = {
    "training": "the training set",
    "both": "the training set",
    "held out": "held out in training",
    **UNKNOWN,
}


def relation(training: Mapping[str, Any], spectra: Spectra, needs_pixels: bool = True) -> str:
    """Return what spectra were in a training: training, held out, both, other, or unknown.

    Whole files are recognised, and the two parts that a training divides them into; single spectra are not.
    An input that is ``all_used`` has no held-out part: something was learnt from that, too.
    """
    seed = training.get("config", {}).get("seed", 0)
    inputs = training.get("inputs", {"": training}).values()
    relations = [
        "training" if facts.get("all_used") and found in ("held out", "both") else found
        for facts in inputs
        for found in [_relation(facts, spectra, seed, needs_pixels)]
    ]
    return next((one for one in ("training", "both", "held out", "other") if one in relations), "unknown")


def _relation(facts: Mapping[str, Any], spectra: Spectra, seed: int, needs_pixels: bool) -> str:
    if str(facts.get("fingerprint", "")).count("-") != 1:
        return "unknown"
    training, held_out = facts["fingerprint"].split("-")

    def mark_of(subset: Subset) -> str:
        return fingerprint(with_good_pixels(subset) if needs_pixels else subset)

    mark = mark_of(Subset.whole(spectra))
    if mark in (training, held_out):
        return "training" if mark == training else "held out"
    if share := facts.get("hashed_share"):
        rest = Subset(spectra, np.flatnonzero(~hashed(spectra, share, seed)))
        return "both" if mark_of(rest) == training else "other"
    total = facts["spectra"] + facts["held_out"]
    if total == len(spectra) and facts["held_out"]:
        parts = divide(spectra, facts["held_out"] / total, seed)
        if mark_of(parts[0]) == training:
            return "both"
    return "other"


def with_noise(spectra: Spectra, snr: float, seed: int) -> Spectra:
    """Return spectra with white noise of a signal-to-noise ratio per pixel at their median flux."""
    if not snr > 0:
        raise DraperError("the signal-to-noise ratio is positive", given=snr)
    if has_errors(spectra):
        plain = int(lacks_errors(spectra).sum())
        raise DraperError(
            f"{len(spectra) - plain} of {len(spectra)} spectra have errors, and noise already"
            if plain
            else "the spectra have noise already",
            given=f"snr={snr:g}",
            hint="evaluate those without errors apart: noise is added to all spectra or none"
            if plain
            else f"leave out {option_text('snr')}",
        )
    flux = torch.from_numpy(np.array(spectra.flux))
    ivar = ivar_from_snr(flux, torch.full((len(flux),), float(snr)))
    ivar = torch.where(torch.from_numpy(np.array(spectra.ivar)) > 0, ivar, 0.0)
    normal = torch.randn(flux.shape, generator=torch.Generator().manual_seed(seed))
    return Spectra(
        spectra.grid, add_noise(flux, ivar, normal).numpy(), ivar.numpy(), spectra.table, spectra.quantity,
        spectra.unit, meta=spectra.meta,
    )  # fmt: skip
