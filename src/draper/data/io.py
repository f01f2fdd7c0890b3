"""Reading and writing files of spectra.

A reader yields batches, so that a file larger than memory can be converted; :func:`stream` passes on the
batches of many files with their labels on one grid, and :func:`read` does the same in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from draper.configs.read import ReadConfig
from draper.data import store
from draper.data.data_sets import join
from draper.data.export import write as write
from draper.data.grid import Grid
from draper.data.join import LabelTables, derive, reject
from draper.data.parsing.source import Format, Source
from draper.data.resample import common_grid, resample
from draper.data.spectra import Spectra
from draper.errors import DraperError, did_you_mean

READERS = (
    "native", "draper_npz", "draper_fits", "draper_parquet", "gaia_rvs", "gaia_xp", "lamost", "surveys",
    "apogee_grid", "iraf", "table_fits", "npz", "netcdf", "gandalf", "cyclestarnet", "taurex", "exogan",
    "exogan_chunks", "turbospectrum", "text",
)  # fmt: skip
"""Modules of :mod:`draper.data.readers` in the order in which they are tried, specific formats first."""

MAX_LISTED = 12
"""Largest number of grids that an error message lists."""


@dataclass(frozen=True)
class Rejection:
    """A spectrum that was rejected, and why."""

    name: str
    reason: str


@cache
def formats() -> dict[str, Format]:
    """Return every format by name, in the order in which they are tried."""
    modules = (import_module(f"draper.data.readers.{name}") for name in READERS)
    return {format.name: format for module in modules for format in module.FORMATS}


def recognise(source: Source, name: str | None = None) -> Format:
    """Return the format called ``name``, or the first whose reader recognises the content."""
    if name is not None:
        if name not in formats():
            raise DraperError("unknown format", given=name, hint=did_you_mean(name, formats()))
        return formats()[name]
    if source.kind == "empty":
        raise source.error("the file is empty", hint="copy or download it again")
    for format in formats().values():
        if format.recognises(source):
            return format
    if source.kind == "hdf5":
        with store.opened(source.path):  # where it cannot be opened, this says why no reader knows it
            pass
    raise source.error(
        f"no reader recognises this {source.kind} file",
        hint="give its format: format= (--format); `draper formats` lists them. If a folder also holds other "
        "files, name only those with spectra (FOLDER/*.fits)",
    )


def read(path: str | Path | Sequence[str | Path], format: str | None = None, **hints: Any) -> Spectra:
    r"""Read files of any known format into one set of spectra.

    Parameters
    ----------
    path
        A file, a folder of files, or several of them. A native file is mapped, not loaded.
    format
        Name of the format; by default it is recognised from the content.
    **hints
        Options of :class:`draper.configs.read.ReadConfig`, such as ``medium="air"``, ``labels="labels.csv"``,
        ``grid="common"``.

    Returns
    -------
    Spectra
        Rejected spectra, if any, are listed in ``meta["rejected"]``.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "sun.txt")
    ...     _ = path.write_text("5000 1.0\n5001 0.8\n5002 1.0\n")
    ...     read(path, unit="angstrom", medium="vacuum")
    Spectra(1 x 3 px, flux, 5000.000-5002.000 A vacuum, columns: id)
    """
    for option in ("labels", "formula", "reject", "select"):
        if isinstance(hints.get(option), (str, Path)):
            hints[option] = (hints[option],)
    config = ReadConfig(format=format, **hints)
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    if len(paths) == 1 and config == ReadConfig(format=format) and Path(paths[0]).is_file():
        source = Source(paths[0])
        reader = recognise(source, format)
        if reader.name == "draper":
            return store.read(source.path)
        if reader.name.startswith("draper-"):
            return Spectra.concat(list(reader.read(source, config)))
    rejected: list[Rejection] = []
    joined = Spectra.concat(list(stream(paths, config, rejected)), fill=config.fill)
    if rejected:
        names = [{"name": rejection.name, "reason": rejection.reason} for rejection in rejected]
        return replace(joined, meta={**joined.meta, "rejected": names})
    return joined


def stream(
    paths: Iterable[str | Path], config: ReadConfig, rejected: list[Rejection] | None = None
) -> Iterator[Spectra]:
    """Yield batches on one grid from files; spectra that are left out are appended to ``rejected``."""
    if config.together:
        # A data set may lie outside of the windows as a whole.
        apart = config.replace(together=False, cut=())
        joined = join([Spectra.concat(list(stream([path], apart, rejected))) for path in paths])
        yield joined.cut(config.cut) if config.cut else joined
        return
    tables = {table.resolve() for table in config.labels}  # they may lie among the spectra
    sources = [source for source in expand(paths) if source.path.resolve() not in tables]
    if not sources:
        raise DraperError(
            "there are no files to read", hint="name at least one file, or a folder that holds some"
        )
    target = _target(sources, config)
    labels = LabelTables(config.labels, config.key)
    first: Grid | None = None
    kept = 0
    for source in sources:
        for batch in _batches(source, config):
            batch = derive(labels.join(batch), config).select(**config.selected)
            if target is not None:
                batch = resample(batch, target)
                if len(sources) > 1:  # each may have another resolving power
                    batch = replace(batch, grid=replace(batch.grid, resolving_power=config.resolving_power))
            if config.cut:
                # Last, so that pixels at the ends of a window are averaged over their whole width.
                batch = batch.cut(config.cut)
            if target is None and first is None:
                first = batch.grid
            elif first is not None:
                if not first.matches(batch.grid):
                    raise _different_grids(sources, config)
                first.require(batch.grid, f"{source.path.name} differs from the files before it", "")
            batch, left_out = reject(batch, config.reject)
            if rejected is not None:
                rejected.extend(Rejection(name, reason) for name, reason in left_out)
            kept += len(batch)
            if len(batch):
                yield batch if first is None else replace(batch, grid=first)
    if not kept:
        raise DraperError(
            "all spectra were rejected" if config.reject or config.select else "there are no spectra",
            given=f"{len(sources)} files",
            hint="relax the conditions of reject= (--reject) or select= (--select)"
            if config.reject or config.select
            else "name files that hold some",
        )


def expand(paths: Iterable[str | Path]) -> Iterator[Source]:
    """Replace folders by their files, except folders that are one data set (GANDALF's)."""
    for path in paths:
        source = Source(path)
        if source.kind != "folder" or any(format.recognises(source) for format in formats().values()):
            yield source
            continue
        for child in sorted(source.path.iterdir()):
            if child.is_file() and not child.name.startswith("."):
                yield Source(child)


def _batches(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    format = recognise(source, config.format)
    for batch in _named(source, format.read(source, config)):
        described = {**batch.meta, "format": format.name} if format.name != "draper" else batch.meta
        batch = replace(batch, meta={"source": source.path.name, **described})
        if config.resolving_power is not None and batch.grid.is_spectral:
            batch = replace(batch, grid=replace(batch.grid, resolving_power=config.resolving_power))
        yield batch


def _named(source: Source, batches: Iterator[Spectra]) -> Iterator[Spectra]:
    """Pass batches on; an error that does not name its file gets the name."""
    try:
        yield from batches
    except DraperError as error:
        if str(source.path) in str(error):
            raise
        raise source.error(error.what, given=error.given, expected=error.expected, hint=error.hint) from None


def _grids(sources: Iterable[Source], config: ReadConfig) -> Iterator[tuple[Source, Grid]]:
    for source in sources:
        for batch in _batches(source, config):
            yield source, batch.grid.cut(config.cut) if config.cut else batch.grid


def _target(sources: Sequence[Source], config: ReadConfig) -> Grid | None:
    if config.grid is None:
        return None
    if config.grid == "common":
        return common_grid([grid for _, grid in _grids(sources, config.replace(cut=()))])
    return next(grid for _, grid in _grids([Source(config.grid)], config.replace(cut=(), format=None)))


def _different_grids(sources: Sequence[Source], config: ReadConfig) -> DraperError:
    seen: list[tuple[Source, Grid]] = []
    for source, grid in _grids(sources, config):
        if not any(grid.matches(other) for _, other in seen):
            seen.append((source, grid))
    shown = "\n            ".join(f"{source.path.name}: {grid!r}" for source, grid in seen[:MAX_LISTED])
    more = f"\n            and {len(seen) - MAX_LISTED} more" if len(seen) > MAX_LISTED else ""
    return DraperError(
        "the files are on different grids",
        given=shown + more,
        hint="resample them onto their common range (grid='common', --grid common) or onto the grid of one "
        "of them (--grid FILE)",
    )
