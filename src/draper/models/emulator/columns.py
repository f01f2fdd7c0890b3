"""Columns of a table as an emulator takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data.labels import UNITS, LabelSet
from draper.data.spectra import Spectra, Subset
from draper.errors import DraperError
from draper.infer.forecast import equal_columns
from draper.simulate.population import microturbulence

NO_INPUT = {"rv"}
"""What the table may tell that the spectrum at rest does not follow from."""


def completed(wanted: LabelSet, labels: Mapping[str, ArrayLike] | Spectra) -> dict[str, NDArray[Any]]:
    """Return columns of equal length, with ``vmic`` from a relation where it is wanted and missing."""
    labels = labels.table if isinstance(labels, Spectra) else labels
    columns = equal_columns(labels)
    if "vmic" in wanted.names and "vmic" not in columns and {"teff", "logg"} <= set(columns):
        vmic = microturbulence(columns["teff"].astype(float), columns["logg"].astype(float))
        columns["vmic"] = np.clip(vmic, wanted["vmic"].low, wanted["vmic"].high)
    missing = ~np.isfinite(wanted.read(columns)).all(axis=0)
    if missing.any():
        raise DraperError(
            "a label is missing", given=", ".join(np.array(wanted.names)[missing]),
            expected="a finite value in every row", hint="fill the column, or leave these rows out",
        )  # fmt: skip
    return columns


def stellar_labels(train: Subset) -> tuple[str, ...]:
    """Return the columns that name stellar labels, as draper calls them, and vary."""
    table = train.table
    names = [
        name
        for name, column in table.items()
        if (name in UNITS or name.endswith(("_fe", "_h")))
        and name not in NO_INPUT
        and column.dtype.kind in "fi"
    ]
    varying = tuple(name for name in names if np.nanmin(table[name]) < np.nanmax(table[name]))
    if not varying:
        raise DraperError(
            "the data have no column that names a stellar label", given=", ".join(table) or "no columns",
            expected="teff, logg, fe_h, ..., and elements such as mg_fe",
            hint="name the columns with labels=[...] (--labels)",
        )  # fmt: skip
    return varying
