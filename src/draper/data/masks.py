"""Lists of lines as windows to fit or to leave out: the csv of one_payne, the npz of The Payne, and our own.

A csv has a column ``ll`` of wavelengths [Angstrom], and perhaps ``dlam`` of half-widths, or ``Bluewidth`` and
``Redwidth`` of ends. Ours have a column ``medium``, too, which one_payne does not look at: its lists are in
air, but nothing in them says so. An npz is true at bad pixels; whose pixels these are is not in the file.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.lines import Lines
from draper.data.units import MEDIA, air_to_vacuum, vacuum_to_air
from draper.errors import DraperError

Medium = Literal["air", "vacuum"]
Range = tuple[float, float]
Row = dict[str, str]

ZIP = b"PK"


def read_windows(
    path: str | Path, *, medium: Medium | None = None, half_width: float | None = None
) -> list[Range]:
    """Return the ranges [vacuum Angstrom] around the lines of a csv, those that overlap as one.

    Parameters
    ----------
    path
        The file.
    medium
        Of its wavelengths; needed unless the file says it.
    half_width
        Of lines that have none in the file [Angstrom].
    """
    path = Path(path)
    if _content(path).startswith(ZIP):
        raise DraperError(
            "an npz says which pixels are bad, not which lines to fit",
            given=path.name,
            hint="masked_files leaves them out",
        )
    rows = _rows(path)
    medium = _medium(path, rows, medium)
    low, high = np.array([_ends(path, row, half_width) for row in rows]).T
    if not ((low > 0) & (low < high) & np.isfinite(high)).all():
        raise DraperError("wavelengths and half-widths of lines are positive", given=path.name)
    ends = (air_to_vacuum(one) if medium == "air" else one for one in (low, high))
    return merged(zip(*(one.tolist() for one in ends), strict=True))


def read_masked(
    path: str | Path, grid: Grid, *, medium: Medium | None = None, half_width: float | None = None
) -> list[Range]:
    """Return the ranges [vacuum Angstrom] that a file leaves out: around its lines, or over bad pixels.

    ``grid`` has the pixels that an npz is about; the others are as in :func:`read_windows`.
    """
    path = Path(path)
    content = _content(path)
    if not content.startswith(ZIP):
        return read_windows(path, medium=medium, half_width=half_width)
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name]) for name in arrays.files}
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        raise DraperError("cannot be read", given=path.name, expected="an npz of a mask") from error
    masks = {name: one for name, one in found.items() if one.dtype == bool and one.shape == (len(grid),)}
    if len(masks) != 1:
        raise DraperError(
            "no mask of these pixels" if not masks else "more than one mask",
            given=", ".join(f"{name} {one.dtype} {one.shape}" for name, one in found.items()),
            expected=f"one array of bool ({len(grid)},)",
            hint="a mask must be as long as the spectra",
        )
    return over(grid, next(iter(masks.values())))


def over(grid: Grid, pixels: NDArray[np.bool_]) -> list[Range]:
    """Return the ranges of neighbouring pixels that are true, to half-way towards the next ones."""
    vacuum = grid.vacuum
    middle = 0.5 * (vacuum[1:] + vacuum[:-1])
    edges = np.concatenate([[2 * vacuum[0] - middle[0]], middle, [2 * vacuum[-1] - middle[-1]]])
    steps = np.diff(np.concatenate([[False], pixels, [False]]).astype(np.int8))
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return list(zip(edges[starts].tolist(), edges[stops].tolist(), strict=True))


def write_windows(path: str | Path, lines: Lines, half_width: float, *, medium: Medium = "air") -> Path:
    """Write lines as a csv that says its medium, and that one_payne reads if that is air.

    Examples
    --------
    >>> from draper.data.lines import strong_lines
    >>> calcium = strong_lines().within(8498, 8670).of("Ca II")
    >>> print(write_windows("ca.csv", calcium, 0.5).read_text().splitlines()[0])
    ll,dlam,name,medium
    """
    if not half_width > 0:
        raise DraperError("half-widths of lines are positive", given=half_width)
    path = Path(path)
    centre = vacuum_to_air(lines.wavelength) if medium == "air" else lines.wavelength
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["ll", "dlam", "name", "medium"])
        table.writerows(
            [f"{one:.4f}", f"{half_width:g}", species, medium]
            for one, species in zip(centre, lines.species, strict=True)
        )
    return path


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return ranges in increasing order, those that overlap as one.

    Examples
    --------
    >>> merged([(5.0, 6.0), (1.0, 2.0), (1.5, 3.0)])
    [(1.0, 3.0), (5.0, 6.0)]
    """
    found: list[Range] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DraperError("cannot be read", given=path, hint="is the path right?") from error


def _rows(path: Path) -> list[Row]:
    """Return the rows of a csv that have a wavelength."""
    try:
        lines = _content(path).decode("utf-8-sig").splitlines()
        table = list(csv.DictReader(lines, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DraperError("this is no csv", given=path.name, expected="a column ll") from error
    rows = [{(name or "").strip().lower(): str(cell).strip() for name, cell in row.items()} for row in table]
    if not rows or "ll" not in rows[0]:
        raise DraperError(
            "no lines in this file",
            given=", ".join(rows[0]) if rows else path.name,
            expected="a column ll of wavelengths, and perhaps dlam of half-widths",
        )
    return rows


def _medium(path: Path, rows: Sequence[Row], hint: Medium | None) -> Medium:
    """Return the medium that the file says, or else the hint."""
    said = {row.get("medium", "") for row in rows} - {""}
    if len(said) > 1 or not said <= set(MEDIA) or (hint and said - {hint}):
        raise DraperError(
            "wavelengths of a file are in one medium",
            given=f"{', '.join(sorted(said))} in {path.name}",
            expected=hint or "air or vacuum",
        )
    if not said and hint is None:
        raise DraperError(
            "the file does not say whether its wavelengths are in air or vacuum",
            given=path.name,
            hint="medium='air' is that of one_payne (mask_medium='air' in a fit, --fit.mask-medium air)",
        )
    return hint or ("air" if "air" in said else "vacuum")


def _ends(path: Path, row: Row, half_width: float | None) -> Range:
    """Return the ends of a line, in the medium of the file."""
    try:
        centre = float(row["ll"])
        if row.get("dlam"):
            half_width = float(row["dlam"])
        elif half_width is None and row.get("bluewidth") and row.get("redwidth"):
            return float(row["bluewidth"]), float(row["redwidth"])
    except ValueError as error:
        raise DraperError("a wavelength is no number", given=path.name) from error
    if half_width is None:
        raise DraperError(
            "the file does not say how wide its lines are",
            given=path.name,
            hint="half_width=0.5 is that of one_payne (--fit.half-width 0.5)",
        )
    return centre - half_width, centre + half_width
