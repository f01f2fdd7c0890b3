"""LAMOST spectra: the images of DR1 to DR7, and the tables of later releases.

A pixel is bad where its and-mask declares it bad in every exposure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.parsing import fits_header
from draper.data.parsing.fits import opened
from draper.data.parsing.pixels import axis, spectra
from draper.data.parsing.source import Format, Source, require_medium
from draper.data.spectra import Spectra

FACTS = {
    "obsid": ("OBSID",),
    "designation": ("DESIG",),
    "ra": ("RA",),
    "dec": ("DEC",),
    "z": ("Z",),
    "z_err": ("Z_ERR",),
    **{f"snr_{band}": (f"SNR{band.upper()}", f"SN_{band.upper()}") for band in "ugriz"},
    "class": ("CLASS",),
    "subclass": ("SUBCLASS",),
    "lmjd": ("LMJD",),
    "planid": ("PLANID",),
    "spid": ("SPID",),
    "fiberid": ("FIBERID",),
}

ROWS = {
    5: ("flux", "inverse", "wavelength", "andmask", "ormask"),
    3: ("flux", "inverse", "wavelength"),
}
"""Contents of the rows of an image, by their number, if the header does not declare them."""

Arrays = dict[str, NDArray[Any]]


def recognises(source: Source) -> bool:
    """Whether the file comes from LAMOST and holds an image of rows or a table of arrays."""
    header = next(iter(source.headers), {})
    if not any("LAMOST" in fits_header.text(header, key).upper() for key in ("TELESCOP", "ORIGIN")):
        return False
    return _is_image(header) or any(_is_table(hdu) for hdu in source.headers[1:])


def _is_image(header: fits_header.Header) -> bool:
    return header.get("NAXIS") == 2 and header.get("NAXIS2") in ROWS


def _is_table(header: fits_header.Header) -> bool:
    names = {str(value).strip().upper() for key, value in header.items() if key.startswith("TTYPE")}
    return {"FLUX", "IVAR"} <= names and bool({"WAVELENGTH", "LOGLAM"} & names)


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the coadded spectrum; the two arms of a medium-resolution one are two windows of a grid."""
    with opened(source.path, source.unpacked_limit) as hdus:
        header = dict(hdus[0].header)
        if _is_image(header):
            arms = [_image(header, np.asarray(hdus[0].data, dtype=np.float64))]
        else:
            tables = [hdu for hdu in hdus[1:] if _is_table(hdu.header)]
            coadded = [hdu for hdu in tables if hdu.name.startswith("COADD")] or tables[:1]
            arms = [_table(hdu.data) for hdu in coadded]
    if not arms:
        raise source.error("the file holds no spectrum", hint="leave out format=")
    medium = require_medium(source, config, fits_header.medium(header))
    arms = [{name: values[_known(arm)] for name, values in arm.items()} for arm in arms]
    joined = {name: np.concatenate([arm[name] for arm in arms]) for name in arms[0]}
    pixel_axis = axis(source, joined.pop("wavelength"), "angstrom", medium)
    if len(arms) > 1:
        ends = [axis(source, arm["wavelength"], "angstrom", medium).grid.vacuum[[0, -1]] for arm in arms]
        windows = tuple(sorted((low, high) for low, high in ends))
        pixel_axis = replace(pixel_axis, grid=replace(pixel_axis.grid, windows=windows))
    yield spectra(
        source,
        pixel_axis,
        **joined,
        table={"id": np.array([source.name]), **_facts(header)},
        meta=fits_header.provenance(header),
    )


def _known(arm: Arrays) -> NDArray[np.bool_]:
    return np.isfinite(arm["wavelength"]) & (arm["wavelength"] > 0)


def _facts(header: fits_header.Header) -> Arrays:
    columns = fits_header.facts(header, FACTS)
    if "designation" in columns:
        columns["designation"] = np.char.replace(columns["designation"].astype(str), "LAMOST ", "")
    return columns


def _image(header: fits_header.Header, rows: NDArray[np.float64]) -> Arrays:
    declared_names = tuple(fits_header.text(header, "EXTEN0").lower().split())
    names = declared_names if len(declared_names) == len(rows) else ROWS[len(rows)]
    arrays = dict(zip(names, rows, strict=True))
    start = fits_header.number(header, "COEFF0", "CRVAL1")
    step = fits_header.number(header, "COEFF1", "CD1_1")
    if start is not None and step is not None:
        with np.errstate(over="ignore"):  # the grid refuses what is not finite
            # Exact, whereas the row of wavelengths is rounded to single precision.
            arrays["wavelength"] = 10 ** (start + step * np.arange(rows.shape[1]))
    bad = arrays.get("andmask", np.zeros(rows.shape[1]))
    return {"wavelength": arrays["wavelength"], "flux": arrays["flux"], "ivar": arrays["inverse"], "bad": bad}


def _table(data: Any) -> Arrays:
    names = {name.upper(): name for name in data.names}

    def column(name: str) -> NDArray[np.float64]:
        return np.asarray(data[names[name]], dtype=np.float64).ravel()

    with np.errstate(over="ignore"):
        wavelength = column("WAVELENGTH") if "WAVELENGTH" in names else 10 ** column("LOGLAM")
    masks = (column(name) for name in ("ANDMASK", "PIXMASK") if name in names)
    return {
        "wavelength": wavelength,
        "flux": column("FLUX"),
        "ivar": column("IVAR"),
        "bad": next(masks, np.zeros(len(wavelength))),
    }


FORMATS = (Format("lamost", "LAMOST spectra of all releases (FITS)", recognises, read),)
