"""Matrices of spectra on one grid: passed on in batches, with their labels as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.arrays import blocks_of
from draper.data.parsing import pixels
from draper.data.parsing.columns import RATIOS, Column, describe, implied_quantity, length_unit
from draper.data.parsing.numpy_files import Archive, read_npy
from draper.data.parsing.source import Source, require_medium, require_unit
from draper.data.readers import text
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text

Array = NDArray[Any]

PER_PIXEL = ("error", "ivar", "bad")


def label_columns(source: Source, values: Array, names: Sequence[str], count: int) -> dict[str, Array]:
    """Return labels (n, l), or (l, n), as columns; those without names are ``param_0``, ``param_1``, ..."""
    values = np.asarray(values)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim == 2 and values.shape[0] != count:
        values = values.T
    if values.ndim != 2 or values.shape[0] != count:
        raise source.error(
            "the labels do not have one row for each spectrum",
            given=f"labels {values.shape}",
            expected=f"({count}, l)",
            hint="use the labels of the same spectra",
        )
    names = [str(name) for name in names] or [f"param_{k}" for k in range(values.shape[1])]
    if len(names) != values.shape[1]:
        raise source.error(
            f"there are {values.shape[1]} label columns and {len(names)} names",
            given=", ".join(names),
            hint=f"name all of them, in order: {option_text('read.columns')}",
        )
    return dict(zip(names, values.T, strict=True))


def axis_from(source: Source, config: ReadConfig, name: str, values: Array) -> pixels.Axis:
    """Return the axis of wavelengths (p,), whose name may contain unit and medium."""
    values = np.asarray(values)
    if values.ndim == 2 and len(values) and (values == values[0]).all():
        values = values[0]
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise source.error(
            f"'{name}' is not one row of wavelengths",
            given=f"{values.dtype} {values.shape}",
            expected="(p,)",
            hint="if each spectrum has its own wavelengths, write one file for each",
        )
    column = describe(name)
    return pixels.axis(
        source,
        values,
        require_unit(source, config, length_unit(column)),
        require_medium(source, config, column.medium or None),
    )


def wavelengths_elsewhere(source: Source, config: ReadConfig) -> tuple[str, Array]:
    """Return name and values of the wavelengths in the file that ``wavelengths=`` names."""
    if config.wavelengths is None:
        raise source.error(
            "the file holds no wavelengths",
            hint=f"name a file (npz, npy or text) that does: {option_text('read.wavelengths')}",
        )
    other = Source(config.wavelengths, config.unpacked_limit)
    if other.kind == "npy":
        return other.name, read_npy(other.path)
    if other.kind == "zip":
        archive = Archive(other.path, other.unpacked_limit)
        named = [name for name in archive if describe(name).role == "wavelength"]
        chosen = named or (list(archive) if len(archive) == 1 else [])
        if not chosen:
            raise other.error(
                "no array is recognised as wavelengths",
                given=", ".join(archive) or "no arrays",
                hint="rename it to 'wavelength', or write it to a separate file",
            )
        return chosen[0], archive[chosen[0]]
    if other.kind != "text":
        raise other.error(f"wavelengths are not read from a {other.kind} file", expected="npz, npy or text")
    parsed = text.parse(other.text().splitlines())
    roles = {describe(name).role: place for place, name in reversed(list(enumerate(parsed.names or ())))}
    place = roles.get("wavelength", 0)
    return parsed.names[place] if parsed.names else "wavelength", text.numbers(other, parsed, [place])[:, 0]


def batches(
    source: Source,
    axis: pixels.Axis,
    flux: Array,
    per_pixel: Mapping[str, Array],
    table: Mapping[str, Array],
    *,
    scale: float = 1.0,
    **facts: Any,
) -> Iterator[Spectra]:
    """Yield the rows of a matrix (n, p) as batches; ``per_pixel`` holds errors, weights or flags like it."""
    for name, values in {"flux": flux, **per_pixel}.items():
        if values.dtype.kind not in "iufb":
            raise source.error(f"the {name} are not numbers", given=values.dtype, hint="write plain numbers")
        if name != "flux" and values.shape not in ((), flux.shape[1:], flux.shape):
            raise source.error(
                f"flux and {name} differ in shape",
                given=f"{values.shape}",
                expected=f"{flux.shape}",
                hint="write one for each pixel of each spectrum",
            )
    if flux.shape[1] != len(axis.grid):
        raise source.error(
            "flux and wavelengths differ in length",
            given=f"flux {flux.shape}",
            expected=f"(n, {len(axis.grid)})",
            hint="give the wavelengths of these pixels",
        )
    if "id" not in table and len(flux) > 1:
        table = {"id": np.array([f"{source.name}-{row}" for row in range(len(flux))]), **table}
    for rows in blocks_of(flux):
        with np.errstate(all="ignore"):  # what becomes infinite is a bad pixel
            part = flux[rows] if scale == 1.0 else flux[rows] * np.float64(scale)
        weights = {
            name: values[rows] if values.ndim == 2 else np.broadcast_to(values, flux.shape[1:])
            for name, values in per_pixel.items()
        }
        columns = {name: column[rows] for name, column in table.items()}
        yield pixels.spectra(source, axis, part, **weights, table=columns, **facts)


def quantity_of(config: ReadConfig, column: Column) -> str:
    """Return the quantity: given by the user, else implied by the name, else flux."""
    if column.name in RATIOS:
        raise DraperError(
            "radius ratios are converted to depths in tables only",
            given=column.name,
            hint="store their squares, called transit_depth",
        )
    return config.quantity or implied_quantity(column)
