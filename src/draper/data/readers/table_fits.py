"""FITS tables of any origin: one row for each pixel, or one row for each spectrum with arrays as cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.parsing import fits_header
from draper.data.parsing.columns import Role, assign, describe, in_depths, length_unit
from draper.data.parsing.fits import opened
from draper.data.parsing.fits_header import Header
from draper.data.parsing.pixels import axis, spectra
from draper.data.parsing.rows import numbered, together
from draper.data.parsing.source import Format, Source, require_medium, require_unit
from draper.data.spectra import Spectra
from draper.data.units import FRACTIONS
from draper.errors import option_text

FloatArray = NDArray[np.float64]

ALIASES = {
    "qual": "quality",
    "and_mask": "mask",
    "andmask": "mask",
    "awav": "wave_air",
    "error_flux": "flux_error",
}
"""Names in FITS tables, and their equivalents in :mod:`draper.data.parsing.columns`."""

LOGARITHM = re.compile(r"^(?:log|log10)_?(wave|wavelength|lambda|lam)$")


def _plain_name(name: str) -> str:
    """Return the name of a column without the word for its logarithm."""
    lowered = name.strip().lower()
    match = LOGARITHM.match(lowered)
    return match[1] if match else ALIASES.get(lowered, lowered)


def _is_logarithm(name: str) -> bool:
    return LOGARITHM.match(name.strip().lower()) is not None


def _names(header: Header) -> list[str]:
    count = header.get("TFIELDS")
    return [fits_header.text(header, f"TTYPE{k + 1}") for k in range(count if isinstance(count, int) else 0)]


def _place(headers: Sequence[Header], config: ReadConfig | None = None) -> int | None:
    """Return which HDU holds the spectrum: the first with columns of wavelengths and fluxes."""
    for place, header in enumerate(headers):
        if header.get("XTENSION") not in ("BINTABLE", "TABLE"):
            continue
        if config is not None and config.wavelength_column is not None and config.flux_column is not None:
            return place
        if {"wavelength", "flux"} <= {describe(_plain_name(name)).role for name in _names(header)}:
            return place
        if config is not None and (config.wavelength_column or config.flux_column) and _names(header):
            return place
    return None


def recognises(source: Source) -> bool:
    """Whether a table of the file has columns recognised as wavelength and flux."""
    return _place(source.headers) is not None


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra of the table, together where they share a grid, else one by one."""
    place = _place(source.headers, config)
    if place is None:
        raise source.error(
            "no table of the file has columns recognised as wavelength and flux",
            hint="give their names: "
            f"{option_text('read.wavelength_column')} and {option_text('read.flux_column')}",
        )
    header = {**source.headers[0], **source.headers[place]}
    roles = _roles(source, config, _names(header))
    with opened(source.path, source.unpacked_limit) as hdus:
        data = hdus[place].data
        columns = {role: _array(data.field(position)) for role, position in roles.items()}
        scalars = _scalars(data, set(roles.values()))
    if columns["flux"].ndim == 1:  # a row for each pixel
        columns, scalars = {role: values[None] for role, values in columns.items()}, {}
    if len({values.shape for values in columns.values()}) > 1:
        raise source.error(
            "the columns of the spectrum differ in length",
            given=", ".join(f"{role} {values.shape}" for role, values in columns.items()),
            hint="choose columns of one length with wavelength_column=, flux_column= and error_column=",
        )
    yield from _spectra(source, config, header, roles, columns, scalars)


def _roles(source: Source, config: ReadConfig, names: list[str]) -> dict[Role, int]:
    """Return the position of the column for each role; names given by the user may differ in case."""
    requested = {}
    for option in ("wavelength_column", "flux_column", "error_column"):
        wanted = getattr(config, option)
        places = [str(k) for k, name in enumerate(names) if wanted and name.lower() == wanted.lower()]
        requested[option] = places[0] if places else wanted
    roles = assign(source, [_plain_name(name) for name in names], config.replace(**requested))
    for role in ("wavelength", "flux"):
        if role not in roles:
            raise source.error(
                f"no column is recognised as the {role}",
                given=", ".join(names),
                hint=f"give its name: {option_text(f'read.{role}_column')}",
            )
    return {role: at for role, at in roles.items() if role in ("wavelength", "flux", "error", "ivar", "bad")}


def _array(values: Any) -> FloatArray:
    """Return a column as numbers (rows,) or (rows, longest), padded with NaN."""
    if values.dtype.kind != "O":
        return np.asarray(values, dtype=np.float64)
    rows = np.full((len(values), max((len(cell) for cell in values), default=0)), np.nan)
    for row, cell in zip(rows, values, strict=True):
        row[: len(cell)] = cell
    return rows


def _scalars(data: Any, taken: set[int]) -> dict[str, NDArray[Any]]:
    """Return the other columns with one number or word for each row."""
    columns: dict[str, NDArray[Any]] = {}
    for position, name in enumerate(data.names):
        values = np.asarray(data.field(position))
        if position not in taken and values.ndim == 1 and values.dtype.kind in "fiubSU":
            values = np.char.strip(values.astype(str)) if values.dtype.kind in "SU" else values
            columns.setdefault(name.lower(), values)
    return columns


def _unit(header: Header, name: str, position: int) -> str | None:
    by_header = fits_header.length_unit(fits_header.text(header, f"TUNIT{position + 1}"))
    by_name = length_unit(describe(_plain_name(name)))
    return by_header or by_name or ("angstrom" if name.strip().lower() == "loglam" else None)  # SDSS's name


def _medium(header: Header, name: str, position: int) -> str | None:
    """Return the medium from the name, the UCD (ESO), the header, or SDSS's name loglam."""
    content = fits_header.text(header, f"TUCD{position + 1}").lower().replace(" ", "")
    is_eso = fits_header.text(header, "ORIGIN").upper().startswith("ESO")
    by_content = (
        "air" if "em.wl;obs.atmos" in content else "vacuum" if content == "em.wl" and is_eso else None
    )
    by_name = describe(_plain_name(name)).medium or None
    convention = "vacuum" if name.strip().lower() == "loglam" else None
    return by_name or by_content or fits_header.medium(header) or convention


def _spectra(
    source: Source,
    config: ReadConfig,
    header: Header,
    roles: dict[Role, int],
    columns: dict[Role, FloatArray],
    scalars: dict[str, NDArray[Any]],
) -> Iterator[Spectra]:
    names = _names(header)
    at = roles["wavelength"]
    unit = require_unit(source, config, _unit(header, names[at], at))
    medium = require_medium(source, config, _medium(header, names[at], at))
    factor, flux_unit = fits_header.flux_unit(fits_header.text(header, f"TUNIT{roles['flux'] + 1}"))
    scales = {"flux": factor, "error": factor, "ivar": 1 / factor**2, "bad": 1.0}
    with np.errstate(over="ignore"):  # the grid refuses what is not finite
        wavelength = 10 ** columns["wavelength"] if _is_logarithm(names[at]) else columns["wavelength"]
    n = len(wavelength)
    table = {"id": numbered(source, n), **fits_header.facts(header, rows=n), **scalars}
    flux_column = describe(_plain_name(names[roles["flux"]]))
    if (declared := fits_header.text(header, f"TUNIT{roles['flux'] + 1}").lower()) in FRACTIONS:
        flux_column = replace(flux_column, unit=declared or flux_column.unit)
    columns = in_depths(flux_column, columns)
    for rows in together(wavelength):
        valid = wavelength[rows[0]] > 0
        yield spectra(
            source,
            axis(
                source,
                wavelength[rows[0], valid],
                unit,
                medium,
                resolving_power=fits_header.number(header, "SPEC_RES"),
            ),
            **{str(role): columns[role][rows][:, valid] * scales[role] for role in columns if role in scales},
            table={name: values[rows] for name, values in table.items()},
            quantity=config.quantity or flux_column.quantity or fits_header.quantity(header),
            unit=flux_unit,
            meta=fits_header.provenance(header),
        )


FORMATS = (Format("table-fits", "FITS tables with columns of wavelength and flux", recognises, read),)
