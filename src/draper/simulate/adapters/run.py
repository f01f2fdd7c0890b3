"""Computing a table of labels with an adapter: on all cores, row by row, and onwards from where it stopped.

Every finished spectrum is a small file in the folder ``OUT.rows``, under the number of its row and a hash of
its labels, the settings and the version of the code. What was computed with others is therefore never taken.
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

from draper.data.arrays import as_column, blocks_of
from draper.data.export import NATIVE, write
from draper.data.labels import canonical, columns
from draper.data.spectra import Spectra
from draper.errors import DraperError, Interrupted
from draper.simulate.adapters.adapter import Adapter
from draper.simulate.adapters.pool import Task, settled
from draper.train.signals import stop_request

Columns = dict[str, NDArray[Any]]


class InterruptedRun(Interrupted):
    """A signal came while rows were computed; those that were finished are on disk."""


@dataclass(frozen=True)
class Row:
    """What became of one row.

    Attributes
    ----------
    number
        Of the row, from 0.
    done, rows
        How many rows are settled by now, and in all.
    state
        ``kept`` from an earlier run, ``computed`` or ``failed``.
    reason
        Why it failed.
    """

    number: int
    done: int
    rows: int
    state: Literal["kept", "computed", "failed"]
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run has made.

    Attributes
    ----------
    spectra
        In the order of the table, without the rows that failed; mapped from the file where there is one.
    failures
        The rows that failed.
    kept, computed
        How many spectra were there already, and how many were computed.
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
) -> Outcome:
    """Compute a spectrum for every row of a table.

    Parameters
    ----------
    adapter
        The code and its settings.
    labels
        Columns of equal length; those that are no labels are passed on to the table of the spectra.
    out
        The native file to write. Beside it lie ``OUT.rows`` while the run is not complete, and
        ``OUT.failures.csv`` where rows failed. Without it all is computed in memory, and lost if interrupted.
    workers
        Processes; as many as there are cores unless given. With 1 this process computes, and a code that
        crashes takes it along. A script that does not say 1 must be guarded by
        ``if __name__ == "__main__":``, since each process imports it.
    note
        Called with every row that is settled.

    Raises
    ------
    InterruptedRun
        A signal came. The rows that were finished are kept; the same call goes on from there.
    """
    if workers is not None and workers < 1:
        raise DraperError("there must be at least one process", given=f"workers={workers}")
    path = None if out is None else _writable(Path(out))
    adapter.require()
    table = _table(labels)
    names = [*adapter.needed, *(name for name in adapter.optional if name in table)]
    values = columns(table, names)
    if len(values) == 0:
        raise DraperError("there is nothing to compute", given="a table without rows")
    if path is not None:
        return _compute(
            adapter, table, names, values, path, path.with_name(f"{path.name}.rows"), workers, note
        )
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
    tasks: list[Task] = []
    for number, row in enumerate(values.tolist()):
        given = dict(zip(names, row, strict=True))
        key = hashlib.sha256(f"{identity} {given}".encode()).hexdigest()[:16]
        tasks.append((number, given, folder / f"{number:08d}-{key}.npy"))
    left = [task for task in tasks if not task[2].exists()]
    reasons: dict[int, str] = {}
    left_numbers = {number for number, _, _ in left}
    for done, (number, _, _) in enumerate((task for task in tasks if task[0] not in left_numbers), start=1):
        if note is not None:
            note(Row(number, done, total, "kept"))
    kept = done = total - len(left)
    with stop_request() as request:
        for number, reason in settled(adapter, len(grid), left, workers, lambda: request.number != 0):
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
            hint="correct the settings or the labels, and run it again",
        )
    good = [task for task in tasks if task[0] not in reasons]
    meta = {"source": adapter.version, "adapter": type(adapter).__name__, "settings": adapter.settings()}

    def batches() -> Iterator[Spectra]:
        for rows in blocks_of(np.broadcast_to(np.float32(0), (len(good), len(grid)))):
            numbers = [number for number, _, _ in good[rows]]
            flux = np.stack([np.load(file, allow_pickle=False) for _, _, file in good[rows]])
            held = {name: column[numbers] for name, column in table.items()}
            yield Spectra(grid, flux, table=held, quantity=adapter.quantity, unit=adapter.unit, meta=meta)

    if path is None:
        spectra = Spectra.concat(list(batches()))
    else:
        from draper.data.store import read

        spectra = read(write(batches(), path))
        if not failures:
            _clear(folder)
    return Outcome(spectra, failures, kept, total - kept - len(failures))


def _table(labels: Mapping[str, ArrayLike]) -> Columns:
    """Return the columns under draper's names, all of one length."""
    table: Columns = {}
    for name, values in labels.items():
        known = canonical(name)
        table[name.lower() if known in table else known] = as_column(np.atleast_1d(np.asarray(values)))
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


def _writable(path: Path) -> Path:
    """Refuse early what would be refused after hours."""
    if path.suffix.lower() not in NATIVE:
        raise DraperError(
            "computed spectra are written to the native file",
            given=path.name,
            expected=" or ".join(NATIVE),
            hint="draper convert makes other formats of it",
        )
    if not path.parent.is_dir():
        raise DraperError("the folder does not exist", given=path.parent, hint="create it first")
    return path


def _interrupted(signal_number: int, made: int, total: int, folder: Path | None) -> InterruptedRun:
    if folder is None:
        return InterruptedRun(signal_number, f"interrupted after {made} of {total} spectra")
    return InterruptedRun(
        signal_number,
        f"interrupted: {made} of {total} spectra are finished and kept in {folder}",
        hint="run the same again to go on from there",
    )


def _list_failures(path: Path, failures: Iterable[Row], tasks: list[Task]) -> None:
    rows = [{"row": row.number, **tasks[row.number][1], "error": row.reason} for row in failures]
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _clear(folder: Path) -> None:
    """Remove the rows, those of other settings too, and the folder if nothing else lies in it."""
    for file in [*folder.glob("*.npy"), *folder.glob(".*.part*")]:
        file.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
