"""Computing the spectra of a table of labels with an adapter: on all cores, row by row, resumable.

Every finished spectrum is a small file in the folder ``OUT.rows``, named by the number of its row and a hash
of its labels, the settings and the version of the code. Spectra of other settings are therefore never reused.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.atomic_write import replacing, require_output
from draper.data.arrays import as_column, blocks_of
from draper.data.export import NATIVE, write
from draper.data.labels import canonical, columns
from draper.data.spectra import Spectra
from draper.errors import DraperError, Interrupted
from draper.simulate.adapters.adapter import Adapter
from draper.simulate.adapters.pool import Task, completed
from draper.train.signals import stop_request

Columns = dict[str, NDArray[Any]]


class InterruptedRun(Interrupted):
    """A signal stopped the computation; finished rows are on disk."""


@dataclass(frozen=True)
class Row:
    """The result of one row.

    Attributes
    ----------
    number
        Number of the row, from 0.
    done, rows
        Number of rows finished so far, and in total.
    state
        ``kept`` from an earlier run, ``computed`` or ``failed``.
    reason
        Reason of the failure.
    """

    number: int
    done: int
    rows: int
    state: Literal["kept", "computed", "failed"]
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Attributes
    ----------
    spectra
        Spectra in the order of the table, without failed rows; mapped from the file if there is one.
    failures
        Rows that failed.
    kept, computed
        Number of spectra kept from an earlier run, and number of computed ones.
    """

    spectra: Spectra
    failures: tuple[Row, ...]
    kept: int
    computed: int


def compute(
    adapter: Adapter,
    labels: Mapping[str, ArrayLike],
    out: str | Path | None = None,
    workers: int | None = None,
    note: Callable[[Row], None] | None = None,
    *,
    overwrite: bool = False,
) -> Outcome:
    """Compute a spectrum for every row of a table.

    Parameters
    ----------
    adapter
        The code and its settings.
    labels
        Columns of equal length; those that are not labels are copied to the table of the spectra.
    out
        The native file to write. Beside it lie ``OUT.rows`` while the run is not complete, and
        ``OUT.failures.csv`` if rows failed. Without it everything is computed in memory, and lost if
        interrupted.
    workers
        Number of processes; by default the number of cores. With 1 this process computes, and a crash of the
        code ends it. With more, protect a script with ``if __name__ == "__main__":``, since each process
        imports it.
    note
        Function that is called with every finished row.
    overwrite
        Whether a file ``out`` that exists is replaced; that of an earlier run that is not complete always is.

    Raises
    ------
    InterruptedRun
        If a signal arrives. Finished rows are kept; the same call continues from there.
    """
    if workers is not None and workers < 1:
        raise DraperError(
            "the number of processes must be at least 1", given=f"workers={workers}", expected="1 or more"
        )
    path = None if out is None else Path(out)
    rows = None if path is None else path.with_name(f"{path.name}.rows")
    if path is not None and rows is not None:
        _require_writable(path, overwrite or rows.is_dir())  # a run that goes on replaces its own file
    adapter.require()
    table = _table(labels)
    names = [*adapter.needed, *(name for name in adapter.optional if name in table)]
    values = columns(table, names)
    if len(values) == 0:
        raise DraperError(
            "there is nothing to compute", given="a table without rows", expected="at least 1 row"
        )
    if path is not None and rows is not None:
        return _compute(adapter, table, names, values, path, rows, workers, note)
    with TemporaryDirectory() as folder:
        return _compute(adapter, table, names, values, None, Path(folder), workers, note)


def _compute(
    adapter: Adapter,
    table: Columns,
    names: list[str],
    values: NDArray[np.float64],
    path: Path | None,
    folder: Path,
    workers: int | None,
    note: Callable[[Row], None] | None,
) -> Outcome:
    folder.mkdir(exist_ok=True)
    grid, identity, total = adapter.grid(), adapter.identity, len(values)
    table = table | {name: np.full(total, getattr(adapter, name)) for name in adapter.recorded}
    tasks: list[Task] = []
    for number, row in enumerate(values.tolist()):
        given = dict(zip(names, row, strict=True))
        key = hashlib.sha256(f"{identity} {given}".encode()).hexdigest()[:16]
        tasks.append((number, given, folder / f"{number:08d}-{key}.npy"))
    remaining = [task for task in tasks if not task[2].exists()]
    reasons: dict[int, str] = {}
    remaining_numbers = {number for number, _, _ in remaining}
    for done, (number, _, _) in enumerate(
        (task for task in tasks if task[0] not in remaining_numbers), start=1
    ):
        if note is not None:
            note(Row(number, done, total, "kept"))
    kept = done = total - len(remaining)
    with stop_request() as request:
        for number, reason in completed(adapter, len(grid), remaining, workers, lambda: request.number != 0):
            done += 1
            if reason:
                reasons[number] = reason
            if note is not None:
                note(Row(number, done, total, "failed" if reason else "computed", reason))
        if request.number:
            raise _interrupted(request.number, done - len(reasons), total, folder if path else None)
    failures = tuple(Row(number, total, total, "failed", reasons[number]) for number in sorted(reasons))
    if path is not None:
        _list_failures(path.with_name(f"{path.name}.failures.csv"), failures, tasks)
    if len(failures) == total:
        raise DraperError(
            f"none of the {total} rows could be computed",
            given=failures[0].reason,
            hint="correct the settings or the labels, and run again",
        )
    good = [task for task in tasks if task[0] not in reasons]
    meta = {"source": adapter.version, "adapter": type(adapter).__name__, "settings": adapter.settings()}

    def batches() -> Iterator[Spectra]:
        for rows in blocks_of(np.broadcast_to(np.float32(0), (len(good), len(grid)))):
            numbers = [number for number, _, _ in good[rows]]
            flux = np.stack([np.load(file, allow_pickle=False) for _, _, file in good[rows]])
            columns = {name: column[numbers] for name, column in table.items()}
            yield Spectra(grid, flux, table=columns, quantity=adapter.quantity, unit=adapter.unit, meta=meta)

    if path is None:
        spectra = Spectra.concat(list(batches()))
    else:
        from draper.data.store import read

        spectra = read(write(batches(), path, overwrite=True))
        if not failures:
            _clear(folder)
    return Outcome(spectra, failures, kept, total - kept - len(failures))


def _table(labels: Mapping[str, ArrayLike]) -> Columns:
    """Return the columns under draper's names, all of one length."""
    table: Columns = {}
    for name, values in labels.items():
        name_here = canonical(name)
        table[name.lower() if name_here in table else name_here] = as_column(
            np.atleast_1d(np.asarray(values))
        )
    table.setdefault("id", _row_names(table))
    if len({len(column) for column in table.values()}) > 1:
        raise DraperError(
            "the columns differ in length",
            given=", ".join(f"{name}: {len(column)}" for name, column in table.items()),
            hint="give one value for each spectrum",
        )
    return table


def _row_names(table: Columns) -> NDArray[Any]:
    rows = max((len(column) for column in table.values()), default=0)
    return np.array([f"row-{number:07d}" for number in range(rows)], dtype=np.str_)


def _require_writable(path: Path, overwrite: bool) -> None:
    """Refuse a path to which nothing can be written now rather than after hours of computing."""
    if path.suffix.lower() not in NATIVE:
        raise DraperError(
            "computed spectra can only be written to a native file",
            given=path.name,
            expected=" or ".join(NATIVE),
            hint="use `draper convert` afterwards for other formats",
        )
    require_output(path, overwrite=overwrite)


def _interrupted(signal_number: int, finished: int, total: int, folder: Path | None) -> InterruptedRun:
    if folder is None:
        return InterruptedRun(signal_number, f"interrupted after {finished} of {total} spectra")
    return InterruptedRun(
        signal_number,
        f"interrupted: {finished} of {total} spectra are finished and kept in {folder}",
        hint="run the same command again to continue",
    )


def _list_failures(path: Path, failures: Iterable[Row], tasks: list[Task]) -> None:
    rows = [{"row": row.number, **tasks[row.number][1], "error": row.reason} for row in failures]
    if not rows:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _clear(folder: Path) -> None:
    """Remove all rows, including those of other settings, and the folder if it is then empty."""
    for file in [*folder.glob("*.npy"), *folder.glob(".*.part*")]:
        file.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
