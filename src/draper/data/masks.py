"""Line lists and pixel masks as windows to fit or to leave out: CSV of one_payne, npz of The Payne, our own.

A CSV has a column ``ll`` of wavelengths [Angstrom], and optionally ``dlam`` (half-widths), or ``Bluewidth``
and ``Redwidth`` (ends). Ours also have a column ``medium``, which one_payne ignores: its lists are in air,
but do not declare it. An npz holds an array that is true at bad pixels; it does not hold their wavelengths.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from draper.atomic_write import replacing
from draper.data.grid import Grid, merged
from draper.data.lines import Lines
from draper.data.units import MEDIA, air_to_vacuum, vacuum_to_air
from draper.errors import DraperError, option_text

Medium = Literal["air", "vacuum"]
Range = tuple[float, float]
Row = dict[str, str]

ZIP = b"PK"


def read_windows(
    path: str | Path, *, medium: Medium | None = None, half_width: float | None = None
) -> list[Range]:
    """Return the ranges [vacuum Angstrom] around the lines of a CSV; those that overlap become one.

    Parameters
    ----------
    path
        The file.
    medium
        Medium of its wavelengths; required unless the file declares it.
    half_width
        Half-width [Angstrom] of lines for which the file gives none.
    """
    path = Path(path)
    if _content(path).startswith(ZIP):
        raise DraperError(
            "an npz file is a mask of bad pixels, not a list of lines to fit",
            given=path.name,
            hint="give it as masked_files, to leave these pixels out of the fit",
        )
    rows = _rows(path)
    medium = _medium(path, rows, medium)
    low, high = np.array([_ends(path, row, half_width) for row in rows]).T
    if not ((low > 0) & (low < high) & np.isfinite(high)).all():
        raise DraperError(
            "wavelengths and half-widths of lines must be positive",
            given=path.name,
            hint="correct the columns ll and dlam, or Bluewidth < Redwidth",
        )
    ends = (air_to_vacuum(end) if medium == "air" else end for end in (low, high))
    return merged(zip(*(end.tolist() for end in ends), strict=True))


def read_masked(
    path: str | Path, grid: Grid, *, medium: Medium | None = None, half_width: float | None = None
) -> list[Range]:
    """Return the ranges [vacuum Angstrom] that a file leaves out: around its lines, or over bad pixels.

    ``grid`` holds the pixels of the mask in an npz; the other arguments are those of :func:`read_windows`.
    """
    path = Path(path)
    content = _content(path)
    if not content.startswith(ZIP):
        return read_windows(path, medium=medium, half_width=half_width)
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            contents = {name: np.asarray(arrays[name]) for name in arrays.files}
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        raise DraperError(
            "the mask cannot be read", given=path.name, expected="an npz file of a boolean array"
        ) from error
    masks = {
        name: array for name, array in contents.items() if array.dtype == bool and array.shape == (len(grid),)
    }
    if len(masks) != 1:
        raise DraperError(
            "the file holds no mask for these pixels" if not masks else "the file holds more than one mask",
            given=", ".join(f"{name} {array.dtype} {array.shape}" for name, array in contents.items()),
            expected=f"one array of bool ({len(grid)},)",
            hint="a mask must be as long as the spectra",
        )
    return ranges_of(grid, next(iter(masks.values())))


def ranges_of(grid: Grid, pixels: NDArray[np.bool_]) -> list[Range]:
    """Return the ranges covered by the chosen pixels (p,), each up to half-way to the next pixel."""
    vacuum = grid.vacuum
    middle = 0.5 * (vacuum[1:] + vacuum[:-1])
    edges = np.concatenate([[2 * vacuum[0] - middle[0]], middle, [2 * vacuum[-1] - middle[-1]]])
    steps = np.diff(np.concatenate([[False], pixels, [False]]).astype(np.int8))
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return list(zip(edges[starts].tolist(), edges[stops].tolist(), strict=True))


def write_windows(
    path: str | Path, lines: Lines, half_width: float, *, medium: Medium = "air", overwrite: bool = False
) -> Path:
    """Write lines as a CSV that declares its medium; one_payne can read it if that is air.

    Examples
    --------
    >>> from draper.data.lines import strong_lines
    >>> calcium = strong_lines().within(8498, 8670).of("Ca II")
    >>> print(write_windows("ca.csv", calcium, 0.5).read_text().splitlines()[0])
    ll,dlam,name,medium
    """
    if not half_width > 0:
        raise DraperError("the half-width of lines must be positive", given=half_width)
    path = Path(path)
    centre = vacuum_to_air(lines.wavelength) if medium == "air" else lines.wavelength
    with replacing(path, overwrite=overwrite) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["ll", "dlam", "name", "medium"])
        table.writerows(
            [f"{wavelength:.4f}", f"{half_width:g}", species, medium]
            for wavelength, species in zip(centre, lines.species, strict=True)
        )
    return path


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DraperError(
            "the file cannot be read", given=path, hint="check the name and the folder"
        ) from error


def _rows(path: Path) -> list[Row]:
    """Return the rows of a CSV that have a wavelength."""
    try:
        lines = _content(path).decode("utf-8-sig").splitlines()
        table = list(csv.DictReader(lines, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DraperError("this is not a CSV file", given=path.name, expected="a column ll") from error
    rows = [{(name or "").strip().lower(): str(cell).strip() for name, cell in row.items()} for row in table]
    if not rows or "ll" not in rows[0]:
        raise DraperError(
            "the file holds no lines",
            given=", ".join(rows[0]) if rows else path.name,
            expected="a column ll of wavelengths, and optionally dlam of half-widths",
        )
    return rows


def _medium(path: Path, rows: Sequence[Row], hint: Medium | None) -> Medium:
    """Return the medium that the file declares, or else the hint."""
    media = {row.get("medium", "") for row in rows} - {""}
    if len(media) > 1 or not media <= set(MEDIA) or (hint and media - {hint}):
        raise DraperError(
            "all wavelengths of a file must be in one medium",
            given=f"{', '.join(sorted(media))} in {path.name}",
            expected=hint or "air or vacuum",
        )
    if not media and hint is None:
        raise DraperError(
            "the file does not declare whether its wavelengths are in air or vacuum",
            given=path.name,
            hint="lists of one_payne are in air: medium='air', in a fit "
            f"{option_text('fit.mask_medium', 'air')}",
        )
    return hint or ("air" if "air" in media else "vacuum")


def _ends(path: Path, row: Row, half_width: float | None) -> Range:
    """Return the ends of a line, in the medium of the file."""
    try:
        centre = float(row["ll"])
        if row.get("dlam"):
            half_width = float(row["dlam"])
        elif half_width is None and row.get("bluewidth") and row.get("redwidth"):
            return float(row["bluewidth"]), float(row["redwidth"])
    except ValueError as error:
        raise DraperError(
            "a wavelength is not a number", given=f"{path.name}: {error}", hint="correct this row"
        ) from error
    if half_width is None:
        raise DraperError(
            "the file does not declare the width of its lines",
            given=path.name,
            hint=f"one_payne uses 0.5 Angstrom: {option_text('fit.half_width', 0.5)}",
        )
    return centre - half_width, centre + half_width
