"""Training files of Cycle-StarNet: HDF5 with an array for each of the parts train, val and test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.arrays import blocks_of
from draper.data.hdf5 import opened
from draper.data.parsing import matrix, payne, pixels
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text

PARTS = ("train", "val", "test")
"""The parts of a file; its arrays are called ``spectra train``, ``labels train`` and so on."""

Array = NDArray[Any]


def recognises(source: Source) -> bool:
    """Whether an HDF5 file holds an array such as ``spectra train``."""
    if source.kind != "hdf5":
        return False
    try:
        with opened(source.path, source.unpacked_limit) as file:
            return bool(_parts(file))
    except DraperError:
        return False


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra of all parts, or of the one that is selected, with the column ``part``.

    7214 pixels are those of The Payne; others need ``wavelengths=``. A spectrum without errors, or whose
    errors are all 0, has equal weights.
    """
    with opened(source.path, source.unpacked_limit) as file:
        parts = _parts(file)
        if not parts:
            raise source.error(
                "the file holds no spectra of Cycle-StarNet",
                given=", ".join(map(str, file)) or "no arrays",
                expected=" or ".join(f"'spectra {part}'" for part in PARTS),
                hint="leave out format=",
            )
        wanted = config.selected.get("part")
        # The other parts, which may be large, would be read only to be thrown away.
        chosen = [part for part in parts if part == wanted] or parts
        first = _array(source, file, f"spectra {chosen[0]}", axes=2)
        axis = _axis(source, config, first.shape[1])
        columns = _columns(source, config, file, parts)
        for part in chosen:
            yield from _rows(source, config, file, part, axis, columns)


def _parts(file: h5py.File) -> list[str]:
    return [part for part in PARTS if f"spectra {part}" in file]


def _array(source: Source, file: h5py.File, name: str, axes: int) -> h5py.Dataset:
    """Return an array of numbers, which stays on disk."""
    found = file[name]
    if (
        not isinstance(found, h5py.Dataset)
        or len(found.shape or ()) != axes
        or found.dtype.kind not in "iufb"
    ):
        what = f"{found.dtype} {found.shape}" if isinstance(found, h5py.Dataset) else "a group"
        raise source.error(f"'{name}' is no array of numbers with {axes} axes", given=what)
    return found


def _axis(source: Source, config: ReadConfig, count: int) -> pixels.Axis:
    grid = payne.apogee_grid()
    if config.wavelengths is None and count == len(grid):
        return pixels.Axis(grid)
    if config.wavelengths is None:
        raise source.error(
            "the file holds no wavelengths",
            given=f"{count} pixels",
            expected=f"the {len(grid)} of The Payne, whose wavelengths are known",
            hint=f"name a file (npz, npy or text) with the wavelengths: {option_text('read.wavelengths')}",
        )
    return matrix.axis_from(source, config, *matrix.wavelengths_elsewhere(source, config))


def _columns(source: Source, config: ReadConfig, file: h5py.File, parts: list[str]) -> tuple[str, ...]:
    """Return the names of the columns of all parts."""
    counts = [
        _array(source, file, f"labels {part}", axes=2).shape[1] for part in parts if f"labels {part}" in file
    ]
    names: tuple[str, ...] = ()
    if counts:
        numbered = tuple(f"param_{k}" for k in range(counts[0]))
        names = config.columns or (payne.LABELS if counts[0] == len(payne.LABELS) else numbered)
    return (*names, *(("snr",) if any(f"snr {part}" in file for part in parts) else ()))


def _rows(
    source: Source,
    config: ReadConfig,
    file: h5py.File,
    part: str,
    axis: pixels.Axis,
    columns: tuple[str, ...],
) -> Iterator[Spectra]:
    """Yield the spectra of one part; columns that it lacks are NaN."""
    flux = _array(source, file, f"spectra {part}", axes=2)
    n = len(flux)
    per_pixel = {
        name: _array(source, file, f"{name} {part}", axes=2)
        for name in ("spectra_err", "spectra_msk")
        if f"{name} {part}" in file
    }
    for name, values in per_pixel.items():
        if values.shape != flux.shape:
            raise source.error(
                f"'spectra {part}' and '{name} {part}' differ in shape",
                given=values.shape,
                expected=flux.shape,
            )
    table: dict[str, Array] = {"id": np.array([f"{source.name}-{part}-{row}" for row in range(n)])}
    table |= {name: np.full(n, np.nan) for name in columns}
    if f"labels {part}" in file:
        labels = _array(source, file, f"labels {part}", axes=2)[()]
        table |= matrix.label_columns(source, labels, [name for name in columns if name != "snr"], n)
    if f"snr {part}" in file:
        snr = np.asarray(file[f"snr {part}"][()])
        if snr.size != n or snr.dtype.kind not in "iuf":
            raise source.error(f"'snr {part}' does not have one number for each spectrum", given=snr.shape)
        table["snr"] = snr.reshape(n).astype(np.float64)
    table["part"] = np.full(n, part)
    for rows in blocks_of(flux):
        weights = {}
        if "spectra_err" in per_pixel:
            weights["ivar"] = _weights(per_pixel["spectra_err"][rows])
        if "spectra_msk" in per_pixel:
            weights["bad"] = ~(per_pixel["spectra_msk"][rows] > 0)
        block = {name: column[rows] for name, column in table.items()}
        yield from matrix.batches(
            source, axis, flux[rows], weights, block, quantity=config.quantity or "normalised flux"
        )


def _weights(error: Array) -> NDArray[np.float32]:
    """Return the inverse variance of errors (n, p); 1 where those of a spectrum are all 0, so unknown."""
    is_unknown = (error == 0).all(axis=1, keepdims=True)
    return np.where(is_unknown, np.float32(1), pixels.inverse_variance(error))


FORMATS = (
    Format("cycle-starnet", "Cycle-StarNet's HDF5 of 'spectra train', 'labels train', ...", recognises, read),
)
