"""An emulator's error on real stars."""

from __future__ import annotations

import torch

from draper.configs.fit import FitConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.infer.label_fit import blocks, exposure, ready
from draper.infer.residuals import gap_of, residuals
from draper.nn.precision import fastest_mode, matmul_mode

ENOUGH = 10
"""Spectra from which an error is learnt at least."""

ROUNDS = 3
"""Of fits: the first ones bend labels to what the model lacks."""


def learn_error(model: ForwardModel, spectra: Spectra, config: FitConfig) -> int:
    """Set the ``gap`` of a network from the residuals of real spectra; returns how many were used."""
    good = spectra[(spectra.ivar > 0).any(axis=1)]
    if len(good) < ENOUGH:
        raise DraperError(
            "an error is learnt from more spectra", given=f"{len(good)} with good pixels",
            expected=f"at least {ENOUGH}", hint="jitter='fit' needs only one",
        )  # fmt: skip
    exposures, fitter, _ = ready(model, good, config.replace(jitter="none", model_error=False))
    with matmul_mode(fastest_mode()):
        for _ in range(ROUNDS):
            parts = [
                residuals(fitter, [exposure(one[rows]) for one in exposures]) for rows in blocks(len(good))
            ]
            fitter.gap = gap_of(*(torch.cat(part) for part in zip(*parts, strict=True)))
    model.network.gap = fitter.gap
    return len(good)
