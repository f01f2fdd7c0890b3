"""draper's own FITS: a table with a row for each spectrum, a table of the axis, and the rest as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.grid import Grid
from draper.data.parsing import fits
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Correlation, Spectra

MARK = "DRAPER"
"""Keyword of the primary header that holds the version of this layout."""
VERSION = 1
SPECTRA, AXIS, STATE, CORRELATION = "SPECTRA", "AXIS", "STATE", "CORRELATION"
OWN = ("FLUX", "IVAR", "CORRELATION_INDEX")
"""Columns of the table of spectra that are not columns of its ``table``."""


def hdus_of(spectra: Spectra) -> Any:
    """Return the HDU list that holds a set of spectra."""
    from astropy.io import fits as astropy_fits

    n, p = spectra.flux.shape
    names = {name: _column_name(name, k) for k, name in enumerate(spectra.table)}
    columns = [_column(names[name], values) for name, values in spectra.table.items()]
    columns += [
        astropy_fits.Column(name, format=f"{p}E", array=values)
        for name, values in (("FLUX", spectra.flux), ("IVAR", spectra.ivar))
    ]
    if spectra.correlation is not None:
        columns.append(astropy_fits.Column(OWN[2], format="K", array=spectra.correlation.index))
    power = spectra.grid.resolving_power
    state = {
        "quantity": spectra.quantity,
        "unit": spectra.unit,
        "meta": dict(spectra.meta),
        "columns": names,
        "windows": spectra.grid.windows,
        "resolving_power": power if isinstance(power, float) else None,
    }
    primary = astropy_fits.PrimaryHDU()
    primary.header[MARK] = (VERSION, "version of the layout of draper's FITS files")
    primary.header["QUANTITY"] = (spectra.quantity, "what FLUX holds")
    if re.fullmatch(r"[ -~]{1,60}", spectra.unit):
        primary.header["FLUXUNIT"] = spectra.unit
    primary.header["NSPECTRA"], primary.header["NPIXELS"] = n, p
    text = json.dumps(state)
    hdus = [
        primary,
        astropy_fits.BinTableHDU.from_columns(columns, nrows=n, name=SPECTRA),
        _axis_hdu(spectra.grid),
        astropy_fits.BinTableHDU.from_columns(
            [astropy_fits.Column("JSON", format=f"{len(text)}A", array=np.array([text]))], name=STATE
        ),
    ]
    if spectra.correlation is not None:
        hdus.append(astropy_fits.ImageHDU(np.asarray(spectra.correlation.templates), name=CORRELATION))
    return astropy_fits.HDUList(hdus)


def _column_name(name: str, position: int) -> str:
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,59}", name) and name.upper() not in OWN
    return name if plain else f"COLUMN_{position}_"


def _column(name: str, values: NDArray[Any]) -> Any:
    from astropy.io import fits as astropy_fits

    if values.dtype.kind == "U":
        values = np.array([_escaped(value) for value in values.tolist()], dtype="S")
        return astropy_fits.Column(name, format=f"{max(values.dtype.itemsize, 1)}A", array=values)
    return astropy_fits.Column(name, format={"f": "D", "i": "K", "b": "L"}[values.dtype.kind], array=values)


def _escaped(value: str) -> str:
    """Return text as ASCII, with a trailing blank escaped, since FITS would drop it."""
    plain = json.dumps(value)[1:-1].replace('\\"', '"').replace("\x7f", "\\u007f")
    return plain[:-1] + "\\u0020" if plain.endswith(" ") else plain


def _unescaped(value: str) -> str:
    return str(json.loads('"' + value.replace('"', '\\"') + '"')) if "\\" in value else value


def _axis_hdu(grid: Grid) -> Any:
    from astropy.io import fits as astropy_fits

    if grid.wavelength is None:
        names = np.array([name.encode() for name in grid.names])
        columns = [astropy_fits.Column("COEFFICIENT", format=f"{names.dtype.itemsize}A", array=names)]
        return astropy_fits.BinTableHDU.from_columns(columns, name=AXIS)
    columns = [astropy_fits.Column("WAVELENGTH", format="D", unit="Angstrom", array=grid.wavelength)]
    if grid.edges is not None:
        columns.append(astropy_fits.Column("EDGES", format="2D", unit="Angstrom", array=grid.edges))
    if isinstance(grid.resolving_power, np.ndarray):
        columns.append(astropy_fits.Column("RESOLVING_POWER", format="D", array=grid.resolving_power))
    hdu = astropy_fits.BinTableHDU.from_columns(columns, name=AXIS)
    hdu.header["MEDIUM"] = "vacuum"
    return hdu


def recognises(source: Source) -> bool:
    """Whether the primary header carries draper's mark."""
    return source.kind == "fits" and bool(source.headers) and MARK in source.headers[0]


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra in batches."""
    with fits.opened(source.path, source.unpacked_limit) as hdus:
        if int(hdus[0].header[MARK]) > VERSION:
            raise source.error(
                "the file was written by a newer draper",
                given=f"layout {hdus[0].header[MARK]}",
                hint="upgrade draper",
            )
        spectra = _spectra_from(hdus)
    yield from spectra.batches() if len(spectra) else [spectra]


def _spectra_from(hdus: Any) -> Spectra:
    state = json.loads(str(hdus[STATE].data["JSON"][0]))
    grid = _grid_from(hdus[AXIS].data, state)
    rows = hdus[SPECTRA].data
    shape = (len(rows), len(grid))
    table = {}
    for name, column in state["columns"].items():
        values = np.asarray(rows[column])
        if values.dtype.kind in "US":
            values = np.array([_unescaped(value) for value in values.astype(str).tolist()], dtype=np.str_)
        table[name] = values.astype(values.dtype.newbyteorder("="))
    correlation = None
    if CORRELATION in hdus:
        correlation = Correlation(
            hdus[CORRELATION].data.astype(np.float32), np.asarray(rows[OWN[2]]).astype(np.int64)
        )
    return Spectra(
        grid,
        np.asarray(rows["FLUX"]).astype(np.float32).reshape(shape),
        np.asarray(rows["IVAR"]).astype(np.float32).reshape(shape),
        table=table,
        quantity=state["quantity"],
        unit=state["unit"],
        correlation=correlation,
        meta=state["meta"],
    )


def _grid_from(axis: Any, state: dict[str, Any]) -> Grid:
    names = axis.columns.names
    if "COEFFICIENT" in names:
        return Grid.coefficients(str(name) for name in axis["COEFFICIENT"])
    return Grid(
        axis["WAVELENGTH"],
        edges=axis["EDGES"] if "EDGES" in names else None,
        resolving_power=axis["RESOLVING_POWER"] if "RESOLVING_POWER" in names else state["resolving_power"],
        windows=tuple((low, high) for low, high in state["windows"]),
    )


FORMATS = (Format("draper-fits", "draper's own FITS", recognises, read),)
