"""The folder of arrays that GANDALF trains on: X.npy, params.npy, ids.npy and axis_labels.npy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from draper.configs.read import ReadConfig
from draper.data.parsing import matrix
from draper.data.parsing.numpy_files import read_npy
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra

FLUX, AXIS, LABELS, IDS = "X.npy", "axis_labels.npy", "params.npy", "ids.npy"
NAMES = ("params_names.npy", "param_names.npy")


def recognises(source: Source) -> bool:
    """Whether a folder holds spectra and their wavelengths under GANDALF's names."""
    return source.kind == "folder" and (source.path / FLUX).is_file() and (source.path / AXIS).is_file()


def _names(folder: Path) -> list[str]:
    for name in NAMES:
        if (folder / name).is_file():
            return [str(one) for one in np.atleast_1d(read_npy(folder / name))]
    return []


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the mapped spectra in batches; NaN pixels are bad."""
    folder = source.path
    for name in (FLUX, AXIS):
        if not (folder / name).is_file():
            raise source.error(
                f"the folder holds no {name}", hint=f"GANDALF's folders hold {FLUX} and {AXIS}"
            )
    flux = read_npy(folder / FLUX)
    if flux.ndim != 2:
        raise source.error(f"{FLUX} has two axes", given=flux.shape, expected="(spectra, pixels)")
    table = {}
    if (folder / IDS).is_file():
        table["id"] = np.atleast_1d(read_npy(folder / IDS))
    if (folder / LABELS).is_file():
        labels = read_npy(folder / LABELS)
        table |= matrix.label_columns(source, labels, _names(folder) or config.columns, len(flux))
    for name, column in table.items():
        if column.shape != (len(flux),):
            raise source.error(
                f"'{name}' does not have one value for each spectrum",
                given=column.shape, expected=(len(flux),), hint="write the arrays of the same spectra",
            )  # fmt: skip
    axis = matrix.axis_from(source, config, "wavelength", read_npy(folder / AXIS))
    yield from matrix.batches(source, axis, flux, {}, table, quantity=config.quantity or "flux")


FORMATS = (
    Format("gandalf", "GANDALF's folder of X.npy, params.npy, ids.npy, axis_labels.npy", recognises, read),
)
