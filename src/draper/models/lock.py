"""A lock on the folder of a run, so that no two runs mix their files in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from draper.atomic_write import output_errors, part_of, remove_stale
from draper.errors import DraperError
from draper.owner import Owner

LOCK = "run.lock"
"""Name of the file in the folder; it holds the process that writes there, and since when."""


def is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder but its lock."""
    return not folder.exists() or (folder.is_dir() and all(file.name == LOCK for file in folder.iterdir()))


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Hold a folder, which is made if it is missing, for this process while the block runs.

    The lock of a process of this machine that has ended is taken over; what it left unfinished is removed.
    With None, as for the other processes of a run, nothing happens.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with locked(Path(folder, "model")):
    ...         print([file.name for file in Path(folder, "model").iterdir()])
    ['run.lock']
    """
    if folder is None:
        yield
        return
    was_there = folder.exists()
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / LOCK
        _take(lock)
    try:
        remove_stale(folder)
        yield
    finally:
        holder = _holder(lock)
        # The lock may have been removed by hand, and another process may have taken it.
        if holder is not None and holder[0] == Owner.here():
            lock.unlink(missing_ok=True)
        if not was_there:
            with suppress(OSError):  # something has been written
                folder.rmdir()


def _take(lock: Path) -> None:
    content = json.dumps({**asdict(Owner.here()), "since": datetime.now(UTC).isoformat(timespec="seconds")})
    while True:
        try:
            # Creation that fails if the file exists is safe on network disks, too, where flock may not be.
            with lock.open("x") as handle:
                handle.write(content)
            return
        except FileExistsError:
            _remove_stale_lock(lock)
        except OSError:
            lock.unlink(missing_ok=True)
            raise


def _remove_stale_lock(lock: Path) -> None:
    """Remove a lock whose process has ended; refuse to touch any other."""
    holder = _holder(lock)
    if holder is None and not lock.exists():
        return  # it has gone in the meantime
    if holder is None or not holder[0].has_ended:
        raise DraperError(
            "another run writes to this folder",
            given=f"{lock.parent}: process {holder[0].process} on {holder[0].host}, since {holder[1]}"
            if holder
            else f"{lock.parent}: the lock does not say which process",
            hint="wait until it ends, or name another folder; if it has ended, on another machine say, "
            f"remove {lock}",
        )
    removed = part_of(lock)
    with suppress(FileNotFoundError):  # another run has removed it
        lock.rename(removed)
        if _holder(removed) != holder:
            removed.rename(lock)  # another run was faster, and this is its lock
        removed.unlink(missing_ok=True)


def _holder(lock: Path) -> tuple[Owner, str] | None:
    """Return the process that holds a lock, and since when; None if the lock is gone or does not say it."""
    try:
        held = json.loads(lock.read_text())
        return Owner(held["host"], held["process"], held["began"]), held["since"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
