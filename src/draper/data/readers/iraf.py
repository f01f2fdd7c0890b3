"""Spectra as FITS images with wavelengths described in the header, as IRAF, ESO and iSpec write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.parsing import fits_header, multispec
from draper.data.parsing.fits import opened
from draper.data.parsing.fits_header import Header
from draper.data.parsing.pixels import axis, spectra
from draper.data.parsing.rows import numbered, together
from draper.data.parsing.source import Format, Source, require_medium, require_unit
from draper.data.spectra import Spectra
from draper.errors import option_text

FloatArray = NDArray[np.float64]

LINEAR = {"", "LINEAR", "WAVE", "AWAV", "LAMBDA", "WAVELENGTH", "WAVELENG"}
NATURAL = {"WAVE-LOG", "AWAV-LOG"}
"""Logarithmic axes of the FITS standard: CRVAL * exp(CDELT * pixels / CRVAL)."""
DECIMAL = {"LOG-LINEAR", "LOGLAM", "LOG_LAM", "LOGLAMBD", "LOG(WAVE)"}
"""Axes of log10 of the wavelength, which IRAF declares by DC-FLAG = 1."""

MAX_ROWS = 10
"""An image of more rows is taken for a picture, unless the header lists them as apertures."""

ERRORS = {"ERRS", "ERR", "ERROR", "ERRORS", "SIGMA", "STDEV", "UNCERT"}
FLAGS = {"QUAL", "QUALITY", "MASK", "DQ"}


@dataclass(frozen=True)
class Image:
    """The rows of one image: fluxes (n, p), 1-sigma errors (n, p) or None, bad pixels (n, p) or None."""

    flux: FloatArray
    error: FloatArray | None = None
    ivar: FloatArray | None = None
    bad: NDArray[np.bool_] | None = None


def recognises(source: Source) -> bool:
    """Whether the first image in the file has an axis of wavelengths and few rows."""
    return _first(source.headers) is not None


def _first(headers: tuple[Header, ...]) -> int | None:
    for place, header in enumerate(headers):
        if header.get("NAXIS"):
            return place if _has_dispersion(header) else None
    return None


def _kind(header: Header) -> str:
    return fits_header.text(header, "CTYPE1").upper()


def _has_dispersion(header: Header) -> bool:
    axes = [header.get(f"NAXIS{k}", 1) for k in (1, 2, 3)]
    if "XTENSION" in header and fits_header.text(header, "XTENSION") != "IMAGE":
        return False
    if header.get("NAXIS") not in (1, 2, 3) or not all(isinstance(n, int) and n > 0 for n in axes):
        return False
    if axes[0] < 2 or axes[2] > MAX_ROWS or (axes[1] > MAX_ROWS and "APNUM1" not in header):
        return False
    if _kind(header) == "MULTISPE":
        return True
    is_wavelength = (
        _kind(header) in LINEAR | NATURAL | DECIMAL or fits_header.length_unit(_kind(header)) is not None
    )
    return bool(is_wavelength and fits_header.number(header, "CRVAL1") is not None and _step(header))


def _step(header: Header) -> float | None:
    return fits_header.number(header, "CDELT1", "CD1_1")


def _medium(header: Header) -> str | None:
    by_axis = {"WAVE": "vacuum", "AWAV": "air"}  # as the FITS standard defines them
    return by_axis.get(_kind(header).removesuffix("-LOG")) or fits_header.medium(header)


def _unit(header: Header) -> str | None:
    candidates = [fits_header.text(header, "CUNIT1"), _kind(header)]
    words = multispec.description(header, 1).replace("=", " ").split()
    candidates += [value for key, value in pairwise(words) if key == "units"]
    return next((unit for unit in map(fits_header.length_unit, candidates) if unit), None)


def _wavelengths(source: Source, header: Header, rows: int, pixels: int) -> FloatArray:
    """Return the wavelengths (rows, pixels) in the unit of the file."""
    if _kind(header) == "MULTISPE":
        return multispec.wavelengths(source, header, rows, pixels)
    start, step = fits_header.number(header, "CRVAL1"), _step(header)
    if start is None or not step:
        raise source.error("the header has no CRVAL1 and CDELT1", hint="leave out format=")
    reference = fits_header.number(header, "CRPIX1")
    offset = step * (np.arange(1, pixels + 1) - (1 if reference is None else reference))
    is_decimal = 1 in (header.get("DC-FLAG"), header.get("DCLOG")) or _kind(header) in DECIMAL
    is_decimal |= fits_header.text(header, "WFITTYPE").upper() == "LOG-LINEAR"
    with np.errstate(all="ignore"):  # the grid refuses what is not finite
        if is_decimal:
            values = 10 ** (start + offset)
        else:
            values = start * np.exp(offset / start) if _kind(header) in NATURAL else start + offset
    return np.broadcast_to(values, (rows, pixels))


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra of an image: all rows together where they share a grid, else one by one."""
    place = _first(source.headers)
    if place is None:
        raise source.error("no image of the file has an axis of wavelengths", hint="leave out format=")
    header = source.headers[place]
    with opened(source.path, source.unpacked_limit) as hdus:
        data = np.asarray(hdus[place].data, dtype=np.float64)
        others = {
            hdu.name.upper(): np.array(hdu.data) for hdu in hdus[place + 1 :] if hdu.is_image and hdu.size
        }
    image = _with_extensions(_rows(source, config, header, data), others)
    factor, unit = fits_header.flux_unit(fits_header.text(header, "BUNIT"))
    wavelength = _wavelengths(source, header, *image.flux.shape)
    length, medium = (
        require_unit(source, config, _unit(header)),
        require_medium(source, config, _medium(header)),
    )
    n = len(image.flux)
    both = {**source.headers[0], **header}
    table = {"id": numbered(source, n), **fits_header.facts(both, rows=n)}
    for rows in together(wavelength):
        valid = wavelength[rows[0]] > 0
        yield spectra(
            source,
            axis(
                source,
                wavelength[rows[0], valid],
                length,
                medium,
                resolving_power=fits_header.number(both, "SPEC_RES"),
            ),
            image.flux[rows][:, valid] * factor,
            **{name: values[rows][:, valid] for name, values in _quality(image, factor).items()},
            table={name: values[rows] for name, values in table.items()},
            quantity=config.quantity or fits_header.quantity(header, fits_header.text(header, "BUNIT")),
            unit=unit,
            meta=fits_header.provenance(both),
        )


def _quality(image: Image, factor: float) -> dict[str, NDArray[Any]]:
    """Return errors, weights and flags of the image, scaled like its fluxes."""
    scaled = {
        "error": None if image.error is None else image.error * factor,
        "ivar": None if image.ivar is None else image.ivar / factor**2,
        "bad": image.bad,
    }
    return {name: values for name, values in scaled.items() if values is not None}


def _rows(source: Source, config: ReadConfig, header: Header, data: FloatArray) -> Image:
    """Return fluxes and errors from an image (p,), (rows, p) or (bands, rows, p)."""
    if data.ndim == 3:
        band = _row_of_errors([fits_header.text(header, f"BANDID{k + 1}") for k in range(len(data))])
        return Image(data[0], None if band is None else data[band])
    rows = np.atleast_2d(data)
    if len(rows) == 1 or "APNUM1" in header or _kind(header) == "MULTISPE":
        return Image(rows)
    flux, error = config.flux_column or "0", config.error_column
    if error is None:
        words = (
            [fits_header.text(header, f"{key}{k + 1}") for k in range(len(rows))]
            for key in ("ARRAY", "ROW", "BANDID")
        )
        error_row = next((band for band in map(_row_of_errors, words) if band is not None), None)
        if error_row is None and config.flux_column is None:
            raise source.error(
                f"the image has {len(rows)} rows, and its header does not declare what they hold",
                hint="give the numbers, from 0, of the rows of flux and error: "
                f"{option_text('read.flux_column', 0)} and {option_text('read.error_column', 1)}",
            )
        error = None if error_row is None else str(error_row)
    for row in (flux, error):
        if row is not None and not (row.isdecimal() and int(row) < len(rows)):
            raise source.error(
                "the image has no such row",
                given=row,
                expected=f"0 to {len(rows) - 1}",
                hint="flux_column and error_column count the rows of an image from 0",
            )
    return Image(rows[[int(flux)]], None if error is None else rows[[int(error)]])


def _row_of_errors(names: list[str]) -> int | None:
    """Return the position of the first name of 1-sigma errors."""
    for place, name in enumerate(names):
        lowered = name.lower()
        if ("err" in lowered or "sigma" in lowered) and "expected" not in lowered:
            return place
    return None


def _with_extensions(image: Image, others: dict[str, Any]) -> Image:
    """Add the errors and flags of extensions of the same shape, as ESO's pipelines write them."""
    fitting = {name: np.atleast_2d(data) for name, data in others.items()}
    fitting = {name: data for name, data in fitting.items() if data.shape == image.flux.shape}
    error = next((fitting[name].astype(np.float64) for name in fitting if name in ERRORS), image.error)
    ivar = fitting.get("IVAR")
    bad = next((fitting[name] != 0 for name in fitting if name in FLAGS), None)
    return Image(image.flux, error, None if ivar is None else ivar.astype(np.float64), bad)


FORMATS = (Format("iraf", "FITS images with a wavelength axis (IRAF, ESO, iSpec)", recognises, read),)
