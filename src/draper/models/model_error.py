"""An emulator's error on real stars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from draper.configs.fit import FitConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.residuals import gap_of, residuals
from draper.models.fitting import blocks, exposure, ready
from draper.nn.precision import fastest_mode, matmul_mode

if TYPE_CHECKING:
    from draper.models.emulator import Emulator

ENOUGH = 10
"""Spectra from which an error is learnt at least."""

ROUNDS = 3
"""Of fits: the first ones bend labels to what the model lacks."""


def learn(model: Emulator, spectra: Spectra, config: FitConfig) -> None:
    """Set the gap of an emulator's network; see :meth:`draper.models.emulator.Emulator.learn_error`."""
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
    model.training["error_learnt_from"] = len(good)
