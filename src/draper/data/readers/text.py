"""Columns of text: wavelength, flux and error, with or without names, and labels in comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.data_sets import sources_of
from draper.data.labels import UNITS, canonical
from draper.data.parsing import pixels
from draper.data.parsing.columns import (
    Role,
    assign,
    describe,
    implied_quantity,
    in_depths,
    length_unit,
    unit_in,
)
from draper.data.parsing.fits_header import flux_unit
from draper.data.parsing.source import Format, Source, require_medium, require_unit
from draper.data.spectra import Spectra
from draper.errors import option_text

FloatArray = NDArray[np.float64]

PLAIN = ("wavelength", "flux", "error")
"""Roles of two or three columns without names."""

DATA_SET, STAR_RADIUS, SIMULATED = "data_set", "star_radius", "simulated"
"""Further columns that :func:`draper.data.export.write` adds: which data set each pixel is from, a number
that is the same for all of them, and 1 where a simulator of draper has made the spectrum, else 0."""

FACTS = {*UNITS, "snr", "ra", "dec"}
"""Numbers in comments that become columns of the table, beside abundances."""

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\b")


@dataclass(frozen=True)
class Text:
    """A parsed text file: comment lines, column names (if any), rows, and the separator of their cells."""

    comments: list[str]
    names: list[str] | None
    rows: list[str]
    separator: str | None

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(_cells(self.rows[0], self.separator)) if self.rows else 0


def parse(lines: Sequence[str]) -> Text:
    """Parse the lines of a file."""
    comments, rows = [], []
    for line in lines:
        stripped = line.strip("\ufeff \t\r\n")
        if stripped.startswith("#"):
            comments.append(stripped.lstrip("# \t"))
        elif stripped:
            rows.append(stripped)
    if not rows:
        return Text(comments, None, [], None)
    sample = rows[min(1, len(rows) - 1)].split("#", 1)[0]
    separator = next((mark for mark in ";," if mark in sample), None)
    if separator == ";":
        rows = [row.replace(",", ".") for row in rows]
    if _all_numbers(_cells(rows[0], separator)):
        return Text(comments, _named_in(comments, len(_cells(rows[0], separator))), rows, separator)
    return Text(comments, _names(rows[0], separator), rows[1:], separator)


def _cells(row: str, separator: str | None) -> list[str]:
    return [cell.strip("\"' \t") for cell in row.split("#", 1)[0].split(separator)]


def _names(header: str, separator: str | None) -> list[str]:
    separator = separator or next((mark for mark in "\t,;" if mark in header), None)
    if separator is None:
        header = re.sub(r"\s+([\[(])", r"\1", header)  # a unit belongs to the name before it
    return [cell.strip().strip("\"'") for cell in header.split(separator)]


def _named_in(comments: list[str], width: int) -> list[str] | None:
    """Return names from a comment that lists them, or from comments of the form ``Column 0: NAME``."""
    numbered = [re.match(r"column\s+(\d+)\s*[:=]\s*(.+)", comment, re.IGNORECASE) for comment in comments]
    listed = {int(match[1]): match[2].strip() for match in numbered if match}
    if sorted(listed) == list(range(width)):
        return [listed[position] for position in range(width)]
    for comment in reversed(comments):
        names = _names(comment, None)
        roles = {describe(name).role for name in names}
        if len(names) == width and roles & {"wavelength", "low"}:
            return names
    return None


def _all_numbers(cells: Sequence[str]) -> bool:
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return False
    return True


def numbers(source: Source, text: Text, positions: Sequence[int]) -> FloatArray:
    """Return some columns (rows, len(positions)); empty cells are NaN."""
    if not text.rows:
        raise source.error("the file holds no numbers", hint="a spectrum has a row for each pixel")
    try:
        return np.loadtxt(text.rows, delimiter=text.separator, usecols=positions, ndmin=2, comments="#")
    except (ValueError, OverflowError, IndexError):
        return _slow_numbers(source, text, positions)


def _slow_numbers(source: Source, text: Text, positions: Sequence[int]) -> FloatArray:
    """Parse row by row, to allow empty cells and to name the wrong one in an error."""
    values = np.empty((len(text.rows), len(positions)))
    for number, row in enumerate(text.rows):
        cells = _cells(row, text.separator)
        for place, position in enumerate(positions):
            try:
                cell = cells[position]
                values[number, place] = float(cell) if cell else np.nan
            except (ValueError, IndexError):
                raise source.error(
                    f"row {number + 1} has no number in column {position}",
                    given=row[:80],
                    hint="choose the columns with wavelength_column=, flux_column= and error_column=",
                ) from None
    return values


def facts(comments: Sequence[str]) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return the labels in comments such as ``Teff: 5777 K``, and all other pairs ``KEY: VALUE``.

    Examples
    --------
    >>> facts(["Teff: 5777 K", "Author: A. Nother"])
    ({'teff': array([5777.])}, {'Author': 'A. Nother'})
    """
    table: dict[str, FloatArray] = {}
    rest: dict[str, str] = {}
    for comment in comments:
        match = re.match(r"([\w\[\]/. -]{1,40}?)\s*[:=]\s*(\S.*)", comment)
        if not match:
            continue
        name, number = canonical(match[1]), NUMBER.match(match[2])
        if number and (name in FACTS or re.fullmatch(r"[a-z]{1,5}_(fe|h)", name)):
            table[name] = np.array([float(number[0])])
        else:
            rest[match[1]] = match[2].strip()
    return table, rest


def recognises(source: Source) -> bool:
    """Whether the rows are numbers in two or more columns, or columns are named wavelength and flux."""
    if source.kind != "text":
        return False
    text = parse(source.lines[:200])
    if not text.rows or text.width < 2:
        return False
    if _all_numbers([cell or "0" for cell in _cells(text.rows[0], text.separator)]):
        return True
    return {"wavelength", "flux"} <= {describe(name).role for name in text.names or ()}


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the one spectrum of a text file."""
    text = parse(source.text().splitlines())
    names = text.names or _plain_names(source, text, config)
    roles = assign(source, names, config)
    missing = [role for role in ("wavelength", "flux") if role not in roles]
    if "low" in roles and "high" in roles:
        missing = [role for role in missing if role != "wavelength"]
    if missing:
        raise source.error(
            f"no column is recognised as the {missing[0]}",
            given=f"columns {', '.join(names)}",
            hint=f"give its name, or number from 0: {option_text(f'read.{missing[0]}_column')}",
        )
    if len(set(roles.values())) < len(roles):
        raise source.error(
            "one column has two roles",
            given=", ".join(f"{role}: {names[at]}" for role, at in roles.items()),
            hint="choose other columns with wavelength_column=, flux_column= and error_column=",
        )
    own = [name for name in (DATA_SET, STAR_RADIUS, SIMULATED) if name in names]
    values = numbers(source, text, [*roles.values(), *(names.index(name) for name in own)]).T
    columns = dict(zip(roles, values, strict=False))
    if not np.isfinite(columns["flux"]).any() and "empty" not in config.reject:
        raise source.error(
            "no row has a flux",
            given=f"nan or nothing in {names[roles['flux']]} of all {len(text.rows)} rows",
            hint=f"choose another column with {option_text('read.flux_column')}, "
            f"or leave such files out with {option_text('read.reject', 'empty')}",
        )
    if text.names is None and config.error_column is None:
        _check_error(source, columns)
    extra = dict(zip(own, values[len(roles) :], strict=True))
    yield _spectrum(source, config, text, names, roles, columns, extra)


def _one_value(source: Source, column: FloatArray) -> FloatArray:
    """Return the one value (1,) of the radius of a star, which may stand in any row of its column."""
    known = np.unique(column[np.isfinite(column)])
    if len(known) > 1:
        raise source.error(
            f"the column {STAR_RADIUS} holds several radii of one star",
            given=f"{known[0]:g} and {known[1]:g}",
            hint="write the same in each row, or rename the column",
        )
    return known if len(known) else np.array([np.nan])


def _plain_names(source: Source, text: Text, config: ReadConfig) -> list[str]:
    if config.wavelength_column is not None and config.flux_column is not None:
        return [f"column {position}" for position in range(text.width)]
    if text.width not in (2, 3):
        raise source.error(
            f"the file has {text.width} columns without names",
            expected="2 or 3: wavelength, flux, error",
            hint="give their numbers, from 0: wavelength_column=0, flux_column=1, error_column=2; "
            "format='taurex' reads wavelength, depth, error, bin width",
        )
    return list(PLAIN[: text.width])


def _check_error(source: Source, columns: dict[Role, FloatArray]) -> None:
    """Refuse a third column that cannot be an error because it is far larger than the flux everywhere."""
    if "error" not in columns:
        return
    larger = np.abs(columns["error"]) > 10 * np.abs(columns["flux"])
    if larger[np.isfinite(columns["flux"])].all():
        raise source.error(
            "the third column is far larger than the second and cannot be its 1-sigma error",
            given=f"{columns['error'][0]:.6g} beside {columns['flux'][0]:.6g}",
            hint=f"{option_text('read.format', 'turbospectrum')} reads wavelength, normalised and absolute "
            f"flux; otherwise choose the error with {option_text('read.error_column')}",
        )


def _spectrum(
    source: Source,
    config: ReadConfig,
    text: Text,
    names: Sequence[str],
    roles: dict[Role, int],
    columns: dict[Role, FloatArray],
    extra: dict[str, FloatArray],
) -> Spectra:
    axis_column = describe(names[roles.get("wavelength", roles.get("low", 0))])
    flux_column = describe(names[roles["flux"]])
    quantity = config.quantity or implied_quantity(flux_column)
    columns = in_depths(flux_column, columns)
    edges = _edges(columns, quantity)
    axis = pixels.axis(
        source,
        columns["wavelength"] if "wavelength" in columns else (columns["low"] + columns["high"]) / 2,
        require_unit(source, config, length_unit(axis_column)),
        require_medium(source, config, axis_column.medium or None),
        edges,
        merge=config.repeated == "mean",
    )
    factor, unit = flux_unit(unit_in(names[roles["flux"]])) if quantity == "flux" else (1.0, "")
    table, rest = facts(text.comments)
    meta: dict[str, Any] = {"comments": rest} if rest else {}
    header = _own_header(source)
    if header:
        table, meta = {name: np.array([value]) for name, value in header["table"].items()}, {}
    if STAR_RADIUS in extra:
        table[STAR_RADIUS] = _one_value(source, extra[STAR_RADIUS])
    data_sets = extra.get(DATA_SET)
    if data_sets is not None and not (data_sets == np.rint(data_sets)).all():
        raise source.error(f"the column {DATA_SET} must hold whole numbers", hint="number the data sets")
    sets = None if data_sets is None else data_sets.astype(np.int64)
    if SIMULATED in extra:
        meta = {**meta, **sources_of(extra[SIMULATED] == 1, sets, source.path.name)}
    return pixels.spectra(
        source,
        axis,
        columns["flux"] * factor,
        error=columns["error"] * factor if "error" in columns else None,
        ivar=columns["ivar"] / factor**2 if "ivar" in columns else None,
        bad=columns.get("bad"),
        data_sets=sets,
        table=table,
        quantity=quantity,
        unit=str(header.get("unit", unit)),
        meta=meta,
    )


def _own_header(source: Source) -> dict[str, Any]:
    """Return what :func:`draper.data.export.write` writes into the header of an ECSV file, else nothing."""
    if not source.head.startswith(b"# %ECSV"):
        return {}
    from astropy.table.meta import YamlParseError, get_header_from_yaml

    lines = source.text().splitlines()[1:]
    try:
        meta = dict(get_header_from_yaml([line[2:] for line in lines if line.startswith("# ")])["meta"])
    except (YamlParseError, KeyError, TypeError, ValueError):
        return {}  # it is another program's
    return meta if isinstance(meta.get("table"), dict) else {}


def _edges(columns: dict[Role, FloatArray], quantity: str) -> FloatArray | None:
    if "low" in columns and "high" in columns:
        return np.stack([columns["low"], columns["high"]], axis=1)
    if "half width" in columns and "wavelength" in columns and quantity == "transit depth":
        width = columns["half width"]
        return np.stack([columns["wavelength"] - width, columns["wavelength"] + width], axis=1)
    return None


FORMATS = (Format("text", "columns of text or CSV: wavelength, flux, error", recognises, read),)
