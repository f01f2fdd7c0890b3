"""Mean spectra of Gaia's Radial Velocity Spectrometer, and the file of their wavelengths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from draper.configs.read import ReadConfig
from draper.data.parsing import gaia
from draper.data.parsing.fits import opened
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra
from draper.errors import DraperError

RVS = gaia.Product(np.linspace(846, 870, 2401), "normalised flux", resolving_power=11500)


def recognises(source: Source) -> bool:
    """Whether the table holds RVS spectra."""
    return source.kind in ("text", "xml", "fits") and gaia.is_sampled(source, RVS)


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra of a table of the Gaia archive."""
    yield from gaia.sampled(source, RVS)


def recognises_grid(source: Source) -> bool:
    """Whether the file is an image with nothing but the RVS wavelengths."""
    header = next(iter(source.headers), {})
    if header.get("NAXIS") != 1 or header.get("NAXIS1") != len(RVS.wavelength) or "CRVAL1" in header:
        return False
    try:
        with opened(source.path, source.unpacked_limit) as hdus:
            return bool(np.allclose(hdus[0].data, RVS.wavelength, rtol=0, atol=1e-3))
    except DraperError:
        return False


def read_grid(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield no spectrum, but the grid, for ``grid=FILE``."""
    yield Spectra(RVS.grid(), np.empty((0, len(RVS.wavelength)), dtype=np.float32), quantity=RVS.quantity)


FORMATS = (
    Format("gaia-rvs", "Gaia RVS mean spectra: CSV, ECSV, FITS or VOTable", recognises, read),
    Format("gaia-rvs-grid", "the wavelengths of Gaia RVS, for --grid", recognises_grid, read_grid),
)
