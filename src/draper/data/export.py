"""Writing spectra: the suffix chooses the format, and a file appears under its name only when it is whole."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from draper import atomic_write
from draper.atomic_write import replacing, require_output
from draper.data import store
from draper.data.data_sets import simulated
from draper.data.parsing import parfile
from draper.data.partitions import write_file, write_partitions
from draper.data.readers import draper_fits, draper_npz
from draper.data.readers.text import DATA_SET, SIMULATED, STAR_RADIUS
from draper.data.spectra import DATA_SETS, Spectra, has_errors
from draper.data.units import ANGSTROM
from draper.errors import DraperError, did_you_mean, option_text


def write(
    spectra: Spectra | Iterable[Spectra], path: str | Path, *, fill: bool = False, overwrite: bool = False
) -> Path:
    """Write spectra to a file, in the format that its suffix names.

    Parameters
    ----------
    spectra
        The spectra, or batches of them. The native file and a folder are written batch by batch; for the
        other formats all spectra are held in memory.
    path
        ``.h5`` or ``.hdf5`` (native: mapped when read), ``.npz``, ``.fits``, ``.parquet``, or for one
        spectrum ``.ecsv``, ``.csv`` (without columns, but the radius of a star) and ``.dat`` (transit depths
        as ExoGAN and TauREx read them: um, depth and error of the good pixels, with the planet in a ``.par``
        file beside it). A name without suffix is a new folder of Parquet partitions.
    fill
        Whether columns that a batch lacks are filled with NaN (or ""), instead of being an error.
    overwrite
        Whether a file that exists is replaced. A folder of Parquet partitions never is.

    Returns
    -------
    Path
        The path.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from draper.data.grid import Grid
    >>> spectra = Spectra(Grid.linear(5000, 5003, 1, medium="vacuum"), np.ones((2, 4)))
    >>> with TemporaryDirectory() as folder:
    ...     write(spectra, f"{folder}/two.fits").name
    'two.fits'
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if isinstance(spectra, Spectra) and (size := bytes_needed(len(spectra), len(spectra.grid), path)):
        require_output(path, overwrite=overwrite, size=size)
    if suffix in NATIVE:
        return store.write(spectra, path, fill=fill, overwrite=overwrite)
    if not suffix:
        return write_partitions(spectra, path, fill=fill)
    for file in written(path):
        require_output(file, overwrite=overwrite)
    joined = spectra
    if not isinstance(joined, Spectra):
        joined = Spectra.concat(list(_fitting(joined, path)), fill=fill)
    if joined.correlation is not None:
        joined = replace(joined, correlation=joined.correlation.compact())
    with replacing(path) as part:
        WRITERS[suffix](joined, part)
        if suffix == ".dat":
            # Always, because a file of this name may describe another planet.
            atomic_write.write(path.with_suffix(".par"), _parameters(joined))
    return path


def bytes_needed(spectra: int, pixels: int, path: Path) -> int:
    """Return how much room spectra need while they are written; 0 where the format decides it."""
    once = 2 * np.dtype(np.float32).itemsize * spectra * pixels
    suffix = path.suffix.lower()
    if suffix in NATIVE:
        return 2 * once  # in scratch files, and in the file
    return once if suffix in (".npz", ".fits") else 0


def written(path: Path) -> tuple[Path, ...]:
    """Return the files that :func:`write` writes, none for a folder; refuse a suffix of no known format."""
    suffix, known = path.suffix.lower(), [*NATIVE, *WRITERS]
    if suffix and suffix not in known:
        raise DraperError(
            "no format is known by this suffix",
            given=path.name,
            expected=f"{', '.join(known)}, or none for a folder of Parquet partitions",
            hint=did_you_mean(suffix, known),
        )
    files = (path,) if suffix else ()
    return (*files, path.with_suffix(".par")) if suffix == ".dat" else files


def _write_npz(spectra: Spectra, path: Path) -> None:
    np.savez(path, **draper_npz.arrays_of(spectra))  # type: ignore[arg-type]


def _write_fits(spectra: Spectra, path: Path) -> None:
    draper_fits.hdus_of(spectra).writeto(path)


def _fitting(batches: Iterable[Spectra], path: Path) -> Iterator[Spectra]:
    """Yield batches while the file can hold them: computing the others may take hours."""
    for batch in batches:
        if path.suffix.lower() in SINGLE:
            _require_single(batch, path)
        yield batch


def _require_single(spectra: Spectra, path: Path) -> None:
    if len(spectra) != 1 or not spectra.grid.is_spectral:
        raise DraperError(
            f"a {path.suffix} file holds one spectrum",
            given=repr(spectra),
            hint="choose one with square brackets, spectra[0], or write .fits, .npz or .h5",
        )


def _columns(spectra: Spectra, path: Path) -> dict[str, np.ndarray]:
    """Return the columns of one spectrum; bad pixels are NaN, in the error or else in the flux."""
    _require_single(spectra, path)
    flux, ivar = spectra.flux[0].astype(np.float64), spectra.ivar[0].astype(np.float64)
    good = ivar > 0
    columns = {
        "wavelength_vacuum_angstrom": spectra.grid.vacuum,
        spectra.quantity.replace(" ", "_"): np.where(good, flux, np.nan),
    }
    if has_errors(spectra):
        columns["error"] = np.divide(1.0, np.sqrt(ivar), where=good, out=np.full(len(flux), np.nan))
    return columns


def _all_columns(spectra: Spectra, path: Path) -> dict[str, np.ndarray]:
    """Return the columns of one spectrum with its bins, data sets and star, as the text reader knows them."""
    columns = _columns(spectra, path)
    if spectra.grid.edges is not None:
        for name, edge in zip(("min", "max"), spectra.grid.edges.T, strict=True):
            columns[f"wavelength_{name}_vacuum_angstrom"] = edge
    if DATA_SETS in spectra.meta:
        columns[DATA_SET] = np.asarray(spectra.meta[DATA_SETS])
    if STAR_RADIUS in spectra.table:
        columns[STAR_RADIUS] = np.repeat(spectra.table[STAR_RADIUS], len(spectra.grid))
    if simulated(spectra).any():
        columns[SIMULATED] = simulated(spectra).astype(int)
    return columns


def _write_csv(spectra: Spectra, path: Path) -> None:
    columns = _all_columns(spectra, path)
    with path.open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(columns)
        rows.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def _write_ecsv(spectra: Spectra, path: Path) -> None:
    from astropy.table import Table

    table = Table(_all_columns(spectra, path))
    table["wavelength_vacuum_angstrom"].unit = "Angstrom"
    row = {name: column[0].item() for name, column in spectra.table.items()}
    table.meta.update(quantity=spectra.quantity, unit=spectra.unit, medium="vacuum", table=row)
    table.write(path, format="ascii.ecsv")


def _write_dat(spectra: Spectra, path: Path) -> None:
    _require_single(spectra, path)
    if spectra.quantity != "transit depth":
        raise DraperError(
            "a .dat file holds transit depths",
            given=spectra.quantity,
            hint=f"write .csv, or say that it is one: {option_text('read.quantity', 'transit depth')}",
        )
    if DATA_SETS in spectra.meta:
        raise DraperError(
            "a .dat file holds one data set",
            given=repr(spectra),
            hint="write .csv or .ecsv, which say what set each pixel is from, or .h5",
        )
    # Other programs take a missing value for a number, so bad pixels are left out.
    columns = [column[spectra.ivar[0] > 0][::-1] for column in _columns(spectra, path).values()]
    columns[0] = columns[0] / ANGSTROM["um"]
    np.savetxt(path, np.stack(columns, axis=1))


def _parameters(spectra: Spectra) -> str:
    labels = {name: float(column[0]) for name, column in spectra.table.items() if column.dtype.kind in "iuf"}
    micron = spectra.grid.vacuum[[0, -1]] / ANGSTROM["um"]
    return parfile.content(labels, *micron.tolist())


NATIVE = (".h5", ".hdf5")
SINGLE = (".csv", ".ecsv", ".dat")
WRITERS: dict[str, Callable[[Spectra, Path], object]] = {
    ".npz": _write_npz,
    ".fits": _write_fits,
    ".parquet": write_file,
    ".csv": _write_csv,
    ".ecsv": _write_ecsv,
    ".dat": _write_dat,
}
