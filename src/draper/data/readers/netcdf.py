"""NetCDF files of variables with recognisable names, as retrieval papers publish their spectra."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.hdf5 import opened
from draper.data.parsing import pixels
from draper.data.parsing.columns import assign, describe, implied_quantity, in_depths, length_unit
from draper.data.parsing.source import Format, Source, require_medium, require_unit
from draper.data.spectra import Spectra
from draper.data.units import FRACTIONS
from draper.errors import DraperError, option_text

CLASSIC = (b"CDF\x01", b"CDF\x02")
MARK = "_NCProperties"
"""Attribute by which netCDF 4 marks its HDF5 files."""

Variables = dict[str, tuple[NDArray[Any], str]]


def recognises(source: Source) -> bool:
    """Whether the file is netCDF, classic or 4."""
    if source.kind == "binary":
        return source.head[:4] in CLASSIC
    if source.kind != "hdf5":
        return False
    try:
        with opened(source.path, source.unpacked_limit) as file:
            return MARK in file.attrs
    except DraperError:
        return False


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the one spectrum of a file."""
    variables = _variables(source)
    names = list(variables)
    roles = assign(source, names, config)
    for role in ("wavelength", "flux"):
        if role not in roles:
            raise source.error(
                f"no variable is recognised as the {role}",
                given=", ".join(names) or "no variables",
                hint=f"give its name: {option_text(f'read.{role}_column')}",
            )
    columns = {role: variables[names[place]][0] for role, place in roles.items()}
    wavelength = columns["wavelength"]
    for role, values in columns.items():
        if values.ndim != 1 or values.shape != wavelength.shape:
            raise source.error(
                f"the {role} is not one row like the wavelengths",
                given=values.shape,
                expected=wavelength.shape,
                hint="choose other variables with wavelength_column=, flux_column= and error_column=",
            )
    name = names[roles["wavelength"]]
    axis_column = replace(describe(name), unit=variables[name][1].lower())
    flux_name = names[roles["flux"]]
    flux_column = describe(flux_name)
    if (declared := variables[flux_name][1].lower()) in FRACTIONS:
        flux_column = replace(flux_column, unit=declared or flux_column.unit)
    columns = in_depths(flux_column, columns)
    width = columns.get("half width")
    edges = None if width is None else np.stack([wavelength - width, wavelength + width], axis=1)
    yield pixels.spectra(
        source,
        pixels.axis(
            source,
            wavelength,
            require_unit(source, config, length_unit(axis_column)),
            require_medium(source, config, axis_column.medium or None),
            edges,
        ),
        columns["flux"],
        error=columns.get("error"),
        ivar=columns.get("ivar"),
        bad=columns.get("bad"),
        quantity=config.quantity or implied_quantity(flux_column),
    )


def _variables(source: Source) -> Variables:
    """Return the numeric variables and their units."""
    try:
        variables = _classic(source) if source.head[:3] == b"CDF" else _four(source)
    except DraperError:
        raise
    except Exception as error:  # scipy's reader raises anything on a damaged file
        raise source.error("the file is damaged or truncated", given=error, hint="copy it again") from error
    return {name: pair for name, pair in variables.items() if pair[0].dtype.kind == "f"}


def _classic(source: Source) -> Variables:
    from scipy.io import netcdf_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with netcdf_file(source.path, mmap=False) as file:
            return {
                name: (_native(variable[:]), _text(getattr(variable, "units", "")))
                for name, variable in file.variables.items()
                if variable.shape
            }


def _four(source: Source) -> Variables:
    with opened(source.path, source.unpacked_limit) as file:
        return {
            name: (_native(item[()]), _text(item.attrs.get("units", "")))
            for name, item in file.items()
            if isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in "iuf"
        }


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float64) if values.dtype.kind in "iuf" else np.asarray(values)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


FORMATS = (Format("netcdf", "netCDF with named variables: wavelength, flux, error", recognises, read),)
