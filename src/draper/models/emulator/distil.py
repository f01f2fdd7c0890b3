"""Distillation: train a fast network, or one of other pixels, on the spectra of a slow one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from draper.configs.train import TrainConfig
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.models.emulator.columns import complete_columns, draw_labels

if TYPE_CHECKING:
    from draper.models.emulator.model import Emulator

STEPS = 5000
"""Default number of training steps."""

HELD_OUT = 10
"""Number of training spectra for each spectrum that the error is measured on."""


def distil(
    teacher: Emulator,
    labels: Mapping[str, ArrayLike] | Spectra | int,
    grid: Grid | None,
    train: TrainConfig | None,
    options: Mapping[str, Any],
) -> Emulator:
    """Return a new emulator that was trained on the spectra of another; see :meth:`.Emulator.distil`."""
    train = TrainConfig(steps=STEPS) if train is None else train
    held_out = None
    if isinstance(labels, int):
        if labels < HELD_OUT:
            raise DraperError("too few spectra to train on", given=labels, expected="thousands")
        valid_labels = draw_labels(teacher.network.points, teacher.labels, labels // HELD_OUT, train.seed + 1)
        held_out = training_spectra(teacher, valid_labels, grid)[0]
        labels = draw_labels(teacher.network.points, teacher.labels, labels, train.seed)
    spectra, error = training_spectra(teacher, labels, grid)
    student = type(teacher)(labels=teacher.labels.names, **options).fit(spectra, valid=held_out, train=train)
    own = student.network.uncertainty
    own.copy_(torch.hypot(own, torch.from_numpy(error).to(own)))
    origin = {name: teacher.training[name] for name in ("source", "fingerprint") if name in teacher.training}
    student.training["distilled_from"] = {
        "model": teacher.name,
        "architecture": teacher.config.architecture,
        **origin,
    }
    if "zero_point" in teacher.training:
        student.training["zero_point"] = teacher.training["zero_point"]
    return student


def training_spectra(
    teacher: Emulator, labels: Mapping[str, ArrayLike] | Spectra, grid: Grid | None
) -> tuple[Spectra, NDArray[np.float32]]:
    """Return spectra that a teacher generates, and its own rms error (p,), zero if it is unknown.

    Pixels beyond the teacher's range are left out, and so are labels outside its box and hull.
    """
    table = complete_columns(teacher.labels, labels)
    first = {name: column[:1] for name, column in table.items()}
    reached = teacher.generate(first, grid=grid).ivar.all(axis=0)
    if not reached.any():
        raise DraperError(
            "no pixel of the grid is in the emulator's wavelength range",
            given=repr(grid),
            expected=repr(teacher.own_grid),
        )
    spectra = teacher.generate(table, grid=grid, pixels=None if reached.all() else reached)
    inside = ~(spectra.table["outside_box"] | spectra.table["outside_hull"])
    if not inside.any():
        raise DraperError("all labels are outside the emulator's training set", expected=repr(teacher.labels))
    spectra = spectra[inside]
    has_error = bool(torch.isfinite(teacher.network.uncertainty).all())
    error = (
        np.sqrt(np.mean(1 / spectra.ivar, axis=0)) if has_error else np.zeros(len(spectra.grid), np.float32)
    )
    # These spectra have no noise.
    return replace(spectra, ivar=np.ones_like(spectra.flux)), error
