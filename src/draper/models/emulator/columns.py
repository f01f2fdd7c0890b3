"""Label columns of an emulator: those of its training set, and those of spectra to generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.data.labels import LabelSet, label_columns
from draper.data.spectra import Spectra
from draper.errors import DraperError, MissingLabels, option_text
from draper.infer.forecast import equal_columns
from draper.models.dataset import Part
from draper.simulate.population import microturbulence

FOLLOWS = "_fe"
"""End of the names of abundances relative to iron."""


def complete_columns(inputs: LabelSet, labels: Mapping[str, ArrayLike] | Spectra) -> dict[str, NDArray[Any]]:
    """Return columns of equal length (n,), with those that may be left out: elements, and microturbulence.

    Without a column, an element follows iron (``mg_fe`` is 0, and so is ``alpha_fe``), and ``vmic`` a
    relation with temperature and gravity.
    """
    labels = labels.table if isinstance(labels, Spectra) else labels
    columns = equal_columns(labels)
    elements = [name for name in inputs.names if name.endswith(FOLLOWS)]
    needed = [name for name in inputs.names if name not in (*elements, "vmic")]
    if absent := [name for name in needed if name not in columns]:
        raise MissingLabels(absent, columns, needed)
    length = len(next(iter(columns.values()), ()))
    columns |= {name: np.zeros(length) for name in elements if name not in columns}
    if "vmic" in inputs.names and "vmic" not in columns and {"teff", "logg"} <= set(columns):
        vmic = microturbulence(columns["teff"].astype(float), columns["logg"].astype(float))
        columns["vmic"] = np.clip(vmic, inputs["vmic"].low, inputs["vmic"].high)
    missing = ~np.isfinite(inputs.read(columns)).all(axis=0)
    if missing.any():
        raise DraperError(
            "values of labels are missing",
            given=", ".join(np.array(inputs.names)[missing]),
            expected="a finite value in every row",
            hint="fill the columns, or leave these rows out",
        )
    return columns


def draw_labels(points: Tensor, labels: LabelSet, n: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return labels of n stars, each on the line between two training points (m, d), so inside the hull.

    The first stars are the training points at the ends of the ranges. Without training points, labels are
    drawn evenly from the ranges.
    """
    random = np.random.default_rng([seed, n])
    known = points.cpu().double().numpy()
    if len(known):
        first, second = known[random.integers(len(known), size=(2, n))]
        # Mostly near one of the two: points in between are nearer to the middle than training points are.
        x = first + random.beta(0.5, 0.5, (n, 1)) * (second - first)
        ends = known[[*known.argmin(0), *known.argmax(0)]][:n]
        x[: len(ends)] = ends
    else:
        x = random.uniform(-0.5, 0.5, (n, len(labels)))
    values = np.clip(labels.unscale(x + 0.5), labels.low, labels.high)
    return dict(zip(labels.names, values.T, strict=True))


def stellar_labels(train: Part) -> tuple[str, ...]:
    """Return the columns that vary and have draper's names of stellar labels."""
    table = train.table
    varying = label_columns(table)
    if not varying:
        raise DraperError(
            "the data have no column of a stellar label",
            given=", ".join(table) or "no columns",
            expected="teff, logg, fe_h, ..., and elements such as mg_fe",
            hint=f"name the columns with {option_text('labels')}",
        )
    return varying
