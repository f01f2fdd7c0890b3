"""What one emulator says, learnt by another: a slow network taught to a fast one, or to other pixels."""

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
from draper.models.emulator.columns import completed

if TYPE_CHECKING:
    from draper.models.emulator.model import Emulator

STEPS = 5000
"""Of training, unless told otherwise."""

HELD_OUT = 10
"""There is one spectrum that the error is measured on for so many that are learnt."""


def distilled(
    teacher: Emulator,
    labels: Mapping[str, ArrayLike] | Spectra | int,
    grid: Grid | None,
    train: TrainConfig | None,
    options: Mapping[str, Any],
) -> Emulator:
    """Return a new emulator that has learnt from another; see :meth:`.Emulator.distil`."""
    train = TrainConfig(steps=STEPS) if train is None else train
    held_out = None
    if isinstance(labels, int):
        if labels < HELD_OUT:
            raise DraperError("these are too few spectra to learn from", given=labels, expected="thousands")
        held_out = lesson(teacher, drawn(teacher, labels // HELD_OUT, train.seed + 1), grid)[0]
        labels = drawn(teacher, labels, train.seed)
    spectra, error = lesson(teacher, labels, grid)
    pupil = type(teacher)(labels=teacher.labels.names, **options).fit(spectra, valid=held_out, train=train)
    own = pupil.network.uncertainty
    own.copy_(torch.hypot(own, torch.from_numpy(error).to(own)))
    told = {name: teacher.training[name] for name in ("source", "fingerprint") if name in teacher.training}
    pupil.training["distilled_from"] = {"model": teacher.name, "form": teacher.config.form, **told}
    return pupil


def drawn(teacher: Emulator, n: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return labels of n stars on lines between two training points each, so that none is outside the hull.

    The first ones are those at the ends of the ranges. Without training points it is the box that is filled.
    """
    random = np.random.default_rng([seed, n])
    points = teacher.network.points.cpu().double().numpy()
    if len(points):
        one, other = points[random.integers(len(points), size=(2, n))]
        # Mostly near one of the two: what lies between is nearer to the middle than training points are.
        x = one + random.beta(0.5, 0.5, (n, 1)) * (other - one)
        ends = points[[*points.argmin(0), *points.argmax(0)]][:n]
        x[: len(ends)] = ends
    else:
        x = random.uniform(-0.5, 0.5, (n, len(teacher.labels)))
    values = np.clip(teacher.labels.unscale(x + 0.5), teacher.labels.low, teacher.labels.high)
    return dict(zip(teacher.labels.names, values.T, strict=True))


def lesson(
    teacher: Emulator, labels: Mapping[str, ArrayLike] | Spectra, grid: Grid | None
) -> tuple[Spectra, NDArray[np.float32]]:
    """Return spectra as a teacher makes them, and its own rms error (p,), zero where it does not know it.

    Pixels that it does not reach are left out, and so are stars unlike those that it knows.
    """
    table = completed(teacher.labels, labels)
    first = {name: column[:1] for name, column in table.items()}
    reached = teacher.generate(first, grid=grid).ivar.all(axis=0)
    if not reached.any():
        raise DraperError(
            "the emulator reaches none of these pixels", given=repr(grid), expected=repr(teacher.own_grid)
        )
    made = teacher.generate(table, grid=grid, pixels=None if reached.all() else reached)
    known = ~(made.table["outside_box"] | made.table["outside_hull"])
    if not known.any():
        raise DraperError(
            "all these stars are unlike those that the emulator was trained on",
            expected=repr(teacher.labels),
        )
    made = made[known]
    is_sure = bool(torch.isfinite(teacher.network.uncertainty).all())
    error = np.sqrt(np.mean(1 / made.ivar, axis=0)) if is_sure else np.zeros(len(made.grid), np.float32)
    # To the pupil these spectra have no noise.
    return replace(made, ivar=np.ones_like(made.flux)), error
