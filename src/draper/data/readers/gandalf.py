"""GANDALF's folders of arrays: its training data (X.npy, ...) and its results (results/data/ID)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.parsing import matrix, pixels
from draper.data.parsing.numpy_files import read_npy
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra
from draper.errors import option_text

AXIS = "axis_labels.npy"
NAMES = ("params_names.npy", "param_names.npy")
PARTS = ("train", "test")
"""The two parts of a results folder: its files are X_train.npy, X_test.npy and so on."""
SCALER = "X_scaler.pkl"
EMPTY_PICKLE = 4
"""Size [bytes] of a pickled None, which GANDALF writes if there is no scaler."""


def _is_survey(folder: Path) -> bool:
    return (folder / "X.npy").is_file()


def _parts(folder: Path) -> list[str]:
    return [part for part in PARTS if (folder / f"X_{part}.npy").is_file()]


def _recognises_survey(source: Source) -> bool:
    return source.kind == "folder" and (source.path / AXIS).is_file() and _is_survey(source.path)


def _recognises_results(source: Source) -> bool:
    return source.kind == "folder" and (source.path / AXIS).is_file() and bool(_parts(source.path))


def _names(folder: Path) -> list[str]:
    for name in NAMES:
        if (folder / name).is_file():
            return [str(label) for label in np.atleast_1d(read_npy(folder / name))]
    return []


def _axis(source: Source, config: ReadConfig) -> pixels.Axis:
    return matrix.axis_from(source, config, "wavelength", read_npy(source.path / AXIS))


def _rows(source: Source, config: ReadConfig, axis: pixels.Axis, part: str = "") -> Iterator[Spectra]:
    """Yield the mapped spectra of one X in batches; NaN pixels are bad."""
    folder, end = source.path, f"_{part}.npy" if part else ".npy"
    flux = read_npy(folder / f"X{end}")
    if flux.ndim != 2:
        raise source.error(f"X{end} has two axes", given=flux.shape, expected="(spectra, pixels)")
    table: dict[str, NDArray[np.generic]] = {}
    if (folder / f"ids{end}").is_file():
        table["id"] = np.atleast_1d(read_npy(folder / f"ids{end}"))
    elif part:
        table["id"] = np.array([f"{source.name}-{part}-{row}" for row in range(len(flux))])
    if (folder / f"params{end}").is_file():
        labels = read_npy(folder / f"params{end}")
        table |= matrix.label_columns(source, labels, _names(folder) or config.columns, len(flux))
    if part:
        table["part"] = np.full(len(flux), part)
    for name, column in table.items():
        if column.shape != (len(flux),):
            raise source.error(
                f"'{name}' does not have one value for each spectrum",
                given=column.shape,
                expected=(len(flux),),
                hint="use arrays of the same spectra",
            )
    yield from matrix.batches(source, axis, flux, {}, table, quantity=config.quantity or "flux")


def _require(source: Source, has_spectra: bool, first: str) -> None:
    for name, present in ((first, has_spectra), (AXIS, (source.path / AXIS).is_file())):
        if not present:
            raise source.error(
                f"the folder holds no {name}", hint=f"a folder of GANDALF needs {first} and {AXIS}"
            )


def read_survey(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra that GANDALF trains on, with the columns of params.npy."""
    _require(source, _is_survey(source.path), "X.npy")
    yield from _rows(source, config, _axis(source, config))


def read_results(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra of a results folder, those of training first, with the column ``part``.

    Its pickled scalers are never opened; the size of the file tells whether the spectra were scaled.
    """
    _require(source, bool(_parts(source.path)), "X_train.npy or X_test.npy")
    scaler = source.path / SCALER
    if config.quantity is None and scaler.is_file() and scaler.stat().st_size > EMPTY_PICKLE:
        raise source.error(
            "the spectra of this run are ranks of pixels between 0 and 1, not fluxes (normalize_spectra)",
            given=f"{SCALER}, a pickle that could invert this and that is never opened",
            hint="read the folder of X.npy that the run was trained on; or read the ranks as values, with "
            f"{option_text('read.quantity', 'normalised flux')}",
        )
    axis = _axis(source, config)
    for part in _parts(source.path):
        yield from _rows(source, config, axis, part)


FORMATS = (
    Format(
        "gandalf",
        "GANDALF's folder of X.npy, params.npy, ids.npy, axis_labels.npy",
        _recognises_survey,
        read_survey,
    ),
    Format(
        "gandalf-results",
        "GANDALF's folder results/data/ID, training and test part",
        _recognises_results,
        read_results,
    ),
)
