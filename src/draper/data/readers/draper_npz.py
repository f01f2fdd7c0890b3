"""draper's own npz: the arrays of a set of spectra under plain names, mapped when read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from draper.configs.read import ReadConfig
from draper.data.grid import Grid
from draper.data.parsing.numpy_files import Archive, Array
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Correlation, Spectra
from draper.errors import DraperError

MARK = "draper"
"""Name of the array that holds the version of this layout."""
VERSION = 1
TABLE = "table/"
"""Prefix of the columns of the table."""


def arrays_of(spectra: Spectra) -> dict[str, Array]:
    """Return every part of a set of spectra as an array by name."""
    grid = spectra.grid
    arrays: dict[str, Any] = {MARK: VERSION, "flux": spectra.flux, "ivar": spectra.ivar}
    if grid.wavelength is None:
        arrays["coefficients"] = np.array(grid.names)
    else:
        arrays["wavelength"] = grid.wavelength
        if grid.edges is not None:
            arrays["edges"] = grid.edges
        if grid.resolving_power is not None:
            arrays["resolving_power"] = grid.resolving_power
        if grid.windows:
            arrays["windows"] = grid.windows
    if spectra.correlation is not None:
        arrays["correlation"] = spectra.correlation.templates
        arrays["correlation_index"] = spectra.correlation.index
    arrays |= {"quantity": spectra.quantity, "unit": spectra.unit, "meta": json.dumps(dict(spectra.meta))}
    arrays |= {TABLE + name: column for name, column in spectra.table.items()}
    return {name: np.asarray(values) for name, values in arrays.items()}


def spectra_from(arrays: Mapping[str, Array]) -> Spectra:
    """Return the spectra that :func:`arrays_of` described."""
    optional: dict[str, Any] = {name: arrays[name] for name in ("edges", "resolving_power") if name in arrays}
    if "resolving_power" in optional and not optional["resolving_power"].shape:
        optional["resolving_power"] = float(optional["resolving_power"])
    windows = np.asarray(arrays["windows"]).tolist() if "windows" in arrays else ()
    grid = (
        Grid.coefficients(str(name) for name in arrays["coefficients"])
        if "coefficients" in arrays
        else Grid(arrays["wavelength"], windows=tuple((low, high) for low, high in windows), **optional)
    )
    correlation = None
    if "correlation" in arrays:
        correlation = Correlation(arrays["correlation"], np.asarray(arrays["correlation_index"]))
    return Spectra(
        grid,
        arrays["flux"],
        arrays["ivar"],
        table={
            name.removeprefix(TABLE): np.asarray(arrays[name]) for name in arrays if name.startswith(TABLE)
        },
        quantity=str(arrays["quantity"]),
        unit=str(arrays["unit"]),
        correlation=correlation,
        meta=json.loads(str(arrays["meta"])),
    )


def recognises(source: Source) -> bool:
    """Whether the arrays are marked as draper's."""
    return source.kind == "zip" and {MARK, "flux", "ivar"} <= set(source.members)


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the mapped arrays in batches."""
    arrays = Archive(source.path, source.unpacked_limit)
    try:
        version = int(arrays[MARK])
        if version > VERSION:
            raise source.error(
                "the file was written by a newer draper", given=f"layout {version}", hint="upgrade draper"
            )
        spectra = spectra_from(arrays)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise source.error("an array is missing or wrong", given=error, hint="write the file again") from None
    except ValueError as error:
        if not isinstance(error, DraperError):
            raise source.error("an array is wrong", given=error, hint="write the file again") from None
        raise
    yield from spectra.batches() if len(spectra) else [spectra]


FORMATS = (Format("draper-npz", "draper's own npz", recognises, read),)
