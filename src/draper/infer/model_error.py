"""The error of a model on real stars, measured from the residuals of their fits."""

from __future__ import annotations

import torch

from draper.configs.fit import FitConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.exposures import Exposure
from draper.infer.forward import ForwardModel
from draper.infer.prepare import prepare, row_blocks
from draper.infer.residuals import excess_error, residuals
from draper.nn.precision import fit_mode

ENOUGH = 10
"""Least number of spectra that an error is learnt from."""

ROUNDS = 3
"""Rounds of fits: in the first ones, labels absorb part of the model's error."""


def learn_error(model: ForwardModel, spectra: Spectra, config: FitConfig) -> int:
    """Set the ``gap`` of a function from the residuals of real spectra; returns how many were used."""
    good = spectra[(spectra.ivar > 0).any(axis=1)]
    if len(good) < ENOUGH:
        raise DraperError(
            "too few spectra to learn an error from",
            given=f"{len(good)} with good pixels",
            expected=f"at least {ENOUGH}",
            hint="jitter='fit' needs only one",
        )
    (seen,), fitter, _ = prepare(model, good, config.replace(jitter="none", model_error=False))
    with fit_mode():
        for _ in range(ROUNDS):
            parts = [residuals(fitter, [Exposure.of(seen[rows])]) for rows in row_blocks(len(seen))]
            fitter.gap = excess_error(*(torch.cat(part) for part in zip(*parts, strict=True)))
    model.function.gap = fitter.gap
    return len(good)
