"""Gaia's BP/RP low-resolution spectra: as coefficients of their basis, and sampled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.grid import Grid
from draper.data.parsing import gaia
from draper.data.parsing.pixels import Axis, spectra
from draper.data.parsing.source import Format, Source, require_medium
from draper.data.spectra import Correlation, Spectra

SAMPLED = gaia.Product(np.linspace(336, 1020, 343), "flux", "1e-17 W / (m2 nm)", 1e-17)
"""In this unit the errors of G = 3 to 21 lie between 1e-3 and 1e4, far inside single precision."""

BANDS = ("bp", "rp")

MOST_COEFFICIENTS = 200
"""Largest number of coefficients of a band that is believed. Gaia's bases have 55, and a source takes memory
with the square of their number."""

FloatArray = NDArray[np.float64]


def recognises_sampled(source: Source) -> bool:
    """Whether the table holds sampled XP spectra."""
    return source.kind in ("text", "xml", "fits") and gaia.is_sampled(source, SAMPLED)


def read_sampled(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield sampled XP spectra."""
    yield from gaia.sampled(source, SAMPLED)


def recognises_external(source: Source) -> bool:
    """Whether the table has GaiaXPy's layout for spectra of other origin."""
    wanted = {"source_id", "wl", "flux", "flux_error"}
    return source.kind in ("text", "xml", "fits") and wanted <= set(gaia.names(source))


def read_external(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield spectra whose wavelengths [nm] are in the file, but not their medium."""
    product = replace(SAMPLED, medium=require_medium(source, config, None))
    for table in gaia.tables(source, gaia.SOURCES):
        for name in ("wl", "flux", "flux_error"):
            if name not in table or table[name].ndim != 2:
                raise source.error(f"the table has no column '{name}' of arrays", hint="leave out format=")
        table["wavelength"] = table.pop("wl")
        yield from gaia.rows(source, product, table)


def recognises_continuous(source: Source) -> bool:
    """Whether the table holds coefficients."""
    wanted = {f"{band}_coefficients" for band in BANDS}
    return source.kind in ("text", "xml", "fits") and wanted <= set(gaia.names(source))


def read_continuous(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield coefficients with the correlations of each source, in batches."""
    sizes = _sizes(source)
    grid = Grid.coefficients(f"{band}_{k}" for band in BANDS for k in range(sizes[band]))
    for table in gaia.tables(source, gaia.SOURCES):
        yield _batch(source, table, sizes, grid)


def _arrays(source: Source, table: gaia.Columns, name: str, width: int) -> FloatArray:
    """Return a column as (n, width); NaN where a source, or all of them, have no array."""
    given = table.get(name, np.empty(0))
    rows = np.full((len(next(iter(table.values()))), width), np.nan)
    if given.ndim == 2:
        if given.shape[1] > width:
            raise source.error(
                f"the arrays of '{name}' differ in length",
                given=given.shape[1],
                expected=width,
                hint="split the file: one basis at a time",
            )
        rows[:, : given.shape[1]] = given
    return rows


def _sizes(source: Source) -> dict[str, int]:
    """Return how many coefficients each band has; a band that no source has is as large as the other."""
    sizes = dict.fromkeys(BANDS, 0)
    for table in gaia.tables(source, 16):
        for band in BANDS:
            given = table.get(f"{band}_coefficients", np.empty(0))
            sizes[band] = max(sizes[band], given.shape[1] if given.ndim == 2 else 0)
        if all(sizes.values()):
            break
    if not any(sizes.values()):
        raise source.error("no source has coefficients", hint=gaia.DAMAGED)
    if max(sizes.values()) > MOST_COEFFICIENTS:
        raise source.error(
            "the table has more coefficients than any basis of Gaia",
            given=max(sizes.values()),
            expected=f"at most {MOST_COEFFICIENTS} in each band",
            hint=gaia.DAMAGED,
        )
    return {band: size or max(sizes.values()) for band, size in sizes.items()}


def _batch(source: Source, table: gaia.Columns, sizes: dict[str, int], grid: Grid) -> Spectra:
    flux = np.concatenate([_arrays(source, table, f"{band}_coefficients", sizes[band]) for band in BANDS], 1)
    error = np.concatenate(
        [_arrays(source, table, f"{band}_coefficient_errors", sizes[band]) for band in BANDS], 1
    )
    templates = np.zeros((len(flux), len(grid), len(grid)), dtype=np.float32)
    first = 0
    for band in BANDS:
        block = slice(first, first + sizes[band])
        templates[:, block, block] = _correlation(source, table, band, sizes[band])
        first += sizes[band]
    return spectra(
        source,
        Axis(grid),
        flux,
        error=error,
        table=gaia.identity(source, table),
        quantity="coefficients",
        correlation=Correlation(templates, np.arange(len(flux))),
    )


def _correlation(source: Source, table: gaia.Columns, band: str, size: int) -> NDArray[np.float32]:
    """Return the correlation matrices (n, size, size) of one band; the identity where there is none.

    The archive lists the triangle above the diagonal column by column, which is the one below it row by row.
    """
    name = f"{band}_coefficient_correlations"
    with np.errstate(over="ignore"):  # what does not fit in single precision is no correlation
        given = _arrays(source, table, name, size * (size - 1) // 2).astype(np.float32)
    matrices = np.zeros((len(given), size, size), dtype=np.float32)
    rows, columns = np.tril_indices(size, k=-1)
    matrices[:, rows, columns] = np.where(np.isfinite(given), given, 0)
    matrices += matrices.transpose(0, 2, 1)
    matrices[:, np.arange(size), np.arange(size)] = 1
    return matrices


FORMATS = (
    Format(
        "gaia-xp-continuous",
        "Gaia XP coefficients: CSV, ECSV, FITS or VOTable",
        recognises_continuous,
        read_continuous,
    ),
    Format(
        "gaia-xp-sampled",
        "Gaia XP sampled spectra: CSV, ECSV, FITS or VOTable",
        recognises_sampled,
        read_sampled,
    ),
    Format(
        "gaia-xp-external",
        "GaiaXPy's table of other spectra (source_id, wl, flux, flux_error)",
        recognises_external,
        read_external,
    ),
)
