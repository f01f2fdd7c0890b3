"""APOGEE's grid of synthetic spectra for radial velocities: an image, and one array for each label."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.labels import canonical
from draper.data.parsing import fits_header
from draper.data.parsing.fits import opened
from draper.data.parsing.pixels import axis, spectra
from draper.data.parsing.rows import numbered
from draper.data.parsing.source import Format, Source, require_medium
from draper.data.spectra import Spectra


def recognises(source: Source) -> bool:
    """Whether the first image runs over spectrum numbers and log-linear wavelengths."""
    header = source.headers[1] if len(source.headers) > 1 else {}
    kinds = [fits_header.text(header, f"CTYPE{k}").lower() for k in (1, 2)]
    return kinds == ["spectrum number", "wavelength"] and header.get("DCLOG") == 1


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield all spectra with their labels."""
    if not recognises(source):
        raise source.error("this is not APOGEE's grid of synthetic spectra", hint="leave out format=")
    with opened(source.path, source.unpacked_limit) as hdus:
        header = hdus[1].header
        description = str(header.comments["CTYPE2"]).lower()
        flux = np.asarray(hdus[1].data, dtype=np.float64).T
        table = dict(_label(hdu) for hdu in hdus[2:] if hdu.is_image and hdu.shape == (len(flux),))
        step = header["CDELT2"] * (np.arange(1, flux.shape[1] + 1) - header.get("CRPIX2", 1))
        with np.errstate(over="ignore"):  # the grid refuses what is not finite
            wavelength = 10 ** (header["CRVAL2"] + step)
        resolving_power = fits_header.number(header, "RESOL")
        normalised = fits_header.quantity(header, fits_header.text(header, "BUNIT"))
    medium = require_medium(
        source, config, next((name for name in ("air", "vacuum") if name in description), None)
    )
    yield spectra(
        source,
        axis(source, wavelength, "angstrom", medium, resolving_power=resolving_power),
        flux,
        table={"id": numbered(source, len(flux)), **table},
        quantity=config.quantity or normalised,
    )


def _label(hdu: Any) -> tuple[str, NDArray[np.float64]]:
    """Return name and values (n,) of a label from words such as ``Metal, [Fe/H] (dex)``."""
    words = fits_header.text(hdu.header, "BUNIT")
    bracketed = re.search(r"\[[^\]]+\]", words)
    name = bracketed[0] if bracketed else (words.split() or [f"label_{hdu.name}"])[0]
    return canonical(name), np.asarray(hdu.data, dtype=np.float64)


FORMATS = (
    Format("apogee-grid", "APOGEE's grid of synthetic spectra for radial velocities", recognises, read),
)
