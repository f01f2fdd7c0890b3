"""Reading and writing files of spectra.

A reader yields batches, so that a file larger than memory can be converted; :func:`stream` passes on the
batches of many files with their labels on one grid, and :func:`read` does the same in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from draper.configs.read import UNPACKED_LIMIT, ReadConfig
from draper.data import hdf5, store
from draper.data.data_sets import join
from draper.data.export import write as write
from draper.data.grid import Grid
from draper.data.join import LabelTables, derive, reject
from draper.data.parsing import fits
from draper.data.parsing.fits_header import flux_unit
from draper.data.parsing.source import Format, Source
from draper.data.resample import common_grid, resample
from draper.data.spectra import Spectra
from draper.errors import DraperError, did_you_mean, option_text

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
    """A spectrum that was rejected, or a file that was skipped, and why."""

    name: str
    reason: str


@dataclass
class Log:
    """What becomes of files while they are read.

    Attributes
    ----------
    skip_bad
        Whether files that cannot be used are skipped, instead of being an error.
    progress
        Called with the number of files that are done, and of all.
    rejected, skipped
        Spectra that were rejected, and files that were skipped.
    error
        That of the first file that was skipped.
    """

    skip_bad: bool = False
    progress: Callable[[int, int], None] | None = None
    rejected: list[Rejection] = field(default_factory=list)
    skipped: list[Rejection] = field(default_factory=list)
    error: DraperError | None = None

    @contextmanager
    def attempt(self, path: str | Path) -> Iterator[None]:
        """Note an error of the block, which reads a file, as the reason to skip it; or let it pass."""
        try:
            yield
        except DraperError as error:
            if not self.skip_bad:
                raise
            self.error = self.error or error
            what = error.what.removeprefix(f"{path}: ")
            reason = what if str(error.given) in ("None", str(path)) else f"{what} ({error.given})"
            self.skipped.append(Rejection(str(path), reason))

    def require_some(self, left: int) -> None:
        """Raise the error of the first file that was skipped if none is left."""
        if (error := self.error) is not None and not left:
            files = len(self.skipped)
            what = error.what if files == 1 else f"none of the {files:,} files can be used; {error.what}"
            raise DraperError(what, given=error.given, expected=error.expected, hint=error.hint)


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
    openers = {"hdf5": hdf5.opened, "fits": fits.opened}
    if source.kind in openers:  # where it cannot be opened, this says why no reader knows it
        with openers[source.kind](source.path, source.unpacked_limit):
            pass
    raise source.error(
        f"no reader recognises this {source.kind} file",
        hint=f"give its format: {option_text('read.format')}; `draper formats` lists them. If a folder also "
        "holds other files, name only those with spectra (FOLDER/*.fits)",
    )


def read(
    path: str | Path | Sequence[str | Path],
    format: str | None = None,
    *,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **hints: Any,
) -> Spectra:
    r"""Read files of any known format into one set of spectra.

    Parameters
    ----------
    path
        A file, a folder of files, or several of them. A native file is mapped, not loaded.
    format
        Name of the format; by default it is recognised from the content.
    skip_bad
        Whether files that cannot be read, or not be joined to the others, are skipped, instead of being an
        error; it is one all the same if none is left.
    progress
        Called with the number of files that are done, and of all.
    **hints
        Options of :class:`draper.configs.read.ReadConfig`, such as ``medium="air"``, ``labels="labels.csv"``,
        ``grid="common"``.

    Returns
    -------
    Spectra
        Files are joined in the unit of the first one. Rejected spectra and skipped files, if any, are listed
        in ``meta["rejected"]`` and ``meta["skipped"]``.

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
    plain = ReadConfig(format=format, unpacked_limit=config.unpacked_limit)
    if len(paths) == 1 and config == plain and Path(paths[0]).is_file():
        source = Source(paths[0], config.unpacked_limit)
        reader = recognise(source, format)
        if reader.name == "draper":
            return store.read(source.path, config.unpacked_limit)
        if reader.name.startswith("draper-"):
            return Spectra.concat(list(reader.read(source, config)))
    log = Log(skip_bad, progress)
    joined = Spectra.concat(list(stream(paths, config, log)), fill=config.fill)
    notes = {"rejected": listed(log.rejected), "skipped": listed(log.skipped)}
    notes = {title: rows for title, rows in notes.items() if rows}
    return replace(joined, meta={**joined.meta, **notes}) if notes else joined


def listed(rejections: Iterable[Rejection]) -> list[dict[str, str]]:
    """Return rejections as JSON values."""
    return [{"name": one.name, "reason": one.reason} for one in rejections]


def stream(
    paths: Iterable[str | Path], config: ReadConfig, log: Log | None = None, *, one_grid: bool = True
) -> Iterator[Spectra]:
    """Yield batches on one grid and in one unit from files; what becomes of these is noted in ``log``.

    Where bad files are skipped, a file is read as a whole before its first batch is passed on. Without
    ``one_grid`` each file keeps its own grid and unit.
    """
    log = log or Log()
    if config.together:
        if log.skip_bad:
            raise DraperError(
                "the data sets of an object are all needed: a bad one cannot be skipped",
                hint=f"leave out {option_text('skip_bad', True)}, or {option_text('read.together', True)}",
            )
        # A data set may lie outside of the windows as a whole.
        apart = config.replace(together=False, cut=())
        joined = join([Spectra.concat(list(stream([path], apart, log))) for path in paths])
        yield joined.cut(config.cut) if config.cut else joined
        return
    tables = {table.resolve() for table in config.labels}  # they may lie among the spectra
    sources: Sequence[Source]
    files = expand(paths, log, config.unpacked_limit)
    sources = [source for source in files if source.path.resolve() not in tables]
    log.require_some(len(sources))
    if not sources:
        raise DraperError(
            "there are no files to read", hint="name at least one file, or a folder that holds some"
        )
    target, sources = _target(sources, config, log)
    labels = LabelTables(config.labels, config.key, config.unpacked_limit)
    first: tuple[str, Spectra] | None = None
    files_read = kept = 0
    for number, source in enumerate(sources, start=1):
        with log.attempt(source.path):
            batches: Iterable[Spectra] = _joinable(source, sources, config, labels, target, first, log)
            for batch in list(batches) if log.skip_bad else batches:
                if first is None and one_grid:
                    first = source.path.name, batch[:0]
                batch, left_out = reject(batch, config.reject)
                log.rejected.extend(Rejection(name, reason) for name, reason in left_out)
                kept += len(batch)
                if len(batch):
                    yield batch
            files_read += 1
        if log.progress is not None:
            log.progress(number, len(sources))
    log.require_some(files_read)
    if not kept:
        raise DraperError(
            "all spectra were rejected" if config.reject or config.select else "there are no spectra",
            given=f"{len(sources)} files",
            hint=f"relax the conditions of {option_text('read.reject')} or {option_text('read.select')}"
            if config.reject or config.select
            else "name files that hold some",
        )


def _joinable(
    source: Source,
    sources: Sequence[Source],
    config: ReadConfig,
    labels: LabelTables,
    target: Grid | None,
    first: tuple[str, Spectra] | None,
    log: Log,
) -> Iterator[Spectra]:
    """Yield the batches of a file with labels, on the grid and in the unit of the first file."""
    for batch in _batches(source, config):
        batch = derive(labels.join(batch), config).select(**config.selected)
        if target is not None:
            batch = resample(batch, target)
            if len(sources) > 1:  # each may have another resolving power
                batch = replace(batch, grid=replace(batch.grid, resolving_power=config.resolving_power))
        if config.cut:
            # Last, so that pixels at the ends of a window are averaged over their whole width.
            batch = batch.cut(config.cut)
        if first is None:
            first = source.path.name, batch[:0]
        name, like = first
        if not (log.skip_bad or like.grid.matches(batch.grid)):
            raise _different_grids(sources, config)
        yield replace(like.alike(batch, source.path.name, name, fill=config.fill), grid=like.grid)


def expand(
    paths: Iterable[str | Path], log: Log | None = None, unpacked_limit: float = UNPACKED_LIMIT
) -> Iterator[Source]:
    """Replace folders by their files, except folders that are one data set (GANDALF's)."""
    log = log or Log()
    for path in paths:
        with log.attempt(path):
            source = Source(path, unpacked_limit)
            if source.kind != "folder" or any(format.recognises(source) for format in formats().values()):
                yield source
                continue
            for child in sorted(source.path.iterdir()):
                if child.is_file() and not child.name.startswith("."):
                    yield Source(child, unpacked_limit)


def _batches(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    format = recognise(source, config.format)
    for batch in _named(source, format.read(source, config)):
        described = {**batch.meta, "format": format.name} if format.name != "draper" else batch.meta
        batch = replace(batch, meta={"source": source.path.name, **described})
        if config.flux_unit is not None and batch.quantity == "flux" and not batch.unit:
            batch = batch.scaled(*_flux_unit(config.flux_unit))
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


def _flux_unit(words: str) -> tuple[float, str]:
    """Return the factor and the unit in which a flux is stored whose unit the user names."""
    factor, unit = flux_unit(words)
    if not unit:
        raise DraperError(
            "this is not a unit of flux per wavelength or frequency",
            given=f"flux_unit={words}",
            expected="such as 'erg / (s cm2 Angstrom)', 'W / (m2 um)' or Jy",
        )
    return factor, unit


def _target(sources: Sequence[Source], config: ReadConfig, log: Log) -> tuple[Grid | None, Sequence[Source]]:
    """Return the grid that is requested, if any, and the files whose grids could be read."""
    if config.grid is None:
        return None, sources
    whole = config.replace(cut=())
    if config.grid != "common":
        source = Source(config.grid, config.unpacked_limit)
        return next(grid for _, grid in _grids([source], whole.replace(format=None))), sources
    grids: list[Grid] = []
    good = []
    for source in sources:
        with log.attempt(source.path):
            grids += [grid for _, grid in _grids([source], whole)]
            good.append(source)
    log.require_some(len(good))
    return common_grid(grids), good


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
        hint=f"resample them onto their common range ({option_text('read.grid', 'common')}) or onto the grid "
        "of one of them, by naming its file",
    )
