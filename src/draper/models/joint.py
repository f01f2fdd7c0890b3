"""Labels of objects of which there are several spectra: exposures, or arms of a spectrograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from draper.config import Config
from draper.data.data_sets import exposures
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.models.base import Model, Progress
from draper.results.estimates import Estimates


def require_exposures(model: Model) -> None:
    """Refuse a model that does not fit exposures together."""
    if not model.fits_exposures:
        raise DraperError(
            f"the model '{model.name}' predicts labels of one spectrum at a time",
            expected="a model that fits exposures together, such as an emulator",
            hint="predict each spectrum by itself, or combine exposures first",
        )


def predict_together(
    model: Model,
    sets: Sequence[Spectra],
    by: str = "id",
    options: Config | None = None,
    *,
    progress: Progress | None = None,
    **changes: Any,
) -> Estimates:
    """Return labels of objects: spectra that share a value of a column are fitted together.

    Parameters
    ----------
    model
        One that fits exposures together, such as an emulator.
    sets
        Spectra on whatever grids that overlap the model's.
    by
        The column that names the object.
    options, changes
        Options of ``predict``.
    progress
        Called with the number of objects that are done, and the number of all.

    Returns
    -------
    Estimates
        One row for each object, in the order of the data; its column ``exposures`` is their number.
        Velocities are ``rv``, or ``rv_1``, ``rv_2``, ... where an object has several.

    Examples
    --------
    ``predict_together(model, [draper.read("blue.h5"), draper.read("red.h5")], velocities="one")``
    """
    require_exposures(model)
    groups = list(exposures(sets, by))
    total, done = sum(len(numbers) for numbers, _ in groups), 0
    parts: list[Estimates] = []
    for numbers, stars in groups:

        def note(some: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + some, total)

        predict: Any = model.predict  # type: ignore[attr-defined]
        parts.append(predict(stars, options, progress=note, **changes))
        done += len(numbers)
    counts = np.concatenate([np.full(len(numbers), len(stars)) for numbers, stars in groups])
    joined = Estimates.concat(parts, fill=True)
    joined = replace(joined, columns={**joined.columns, "exposures": counts})
    return joined.rows(np.argsort(np.concatenate([numbers for numbers, _ in groups])))
