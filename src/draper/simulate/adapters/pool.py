"""Computing rows on all cores: a crash loses the row that caused it, a signal at most the running rows."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from draper.errors import DraperError
from draper.processes import cores, one_thread_each
from draper.simulate.adapters.adapter import Adapter
from draper.simulate.adapters.worker import begin, begin_process, compute_row

Task = tuple[int, dict[str, float], Path]
"""Number of a row, its labels, and the file for its spectrum."""

POLL_INTERVAL = 0.5
"""Time [s] between checks for a signal."""


def completed(
    adapter: Adapter, pixels: int, tasks: list[Task], workers: int | None, stopped: Callable[[], bool]
) -> Iterator[tuple[int, str]]:
    """Yield (row number, error message or "") for each finished row, until all are done or ``stopped()``."""
    if not tasks:
        return
    if workers == 1:
        begin(adapter, pixels)
        for number, given, file in tasks:
            if stopped():
                return
            yield number, compute_row(given, file)
        return
    workers = min(workers or cores(), len(tasks))
    waiting = iter(tasks)
    while True:
        suspects: list[Task] = []
        yield from _pooled(adapter, pixels, waiting, workers, stopped, suspects)
        if not suspects or stopped():
            return
        # A process has died, but on which row is unknown: each candidate gets its own process.
        for task in suspects:
            alone: list[Task] = []
            yield from _pooled(adapter, pixels, iter([task]), 1, stopped, alone)
            if alone and not stopped():
                yield task[0], "the process died (a crash of the code, or out of memory)"


def _pooled(
    adapter: Adapter,
    pixels: int,
    tasks: Iterator[Task],
    workers: int,
    stopped: Callable[[], bool],
    lost: list[Task],
) -> Iterator[tuple[int, str]]:
    """Yield rows that a pool of processes finishes; if a process dies, running rows are added to ``lost``."""
    spawn = multiprocessing.get_context("spawn")
    # No more rows than processes are running, so that a signal or a crash affects few.
    running: dict[Future[str], Task] = {}
    others = set(multiprocessing.active_children())
    with (
        one_thread_each(),
        ProcessPoolExecutor(workers, spawn, initializer=begin_process, initargs=(adapter, pixels)) as pool,
    ):
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool:
            raise DraperError(
                "the worker processes cannot start",
                hint='protect a script with `if __name__ == "__main__":`, or use one process (workers=1)',
            ) from None
        try:
            for _ in range(workers):
                _start_next(pool, tasks, running, lost)
            while running:
                finished, _ = wait(running, timeout=POLL_INTERVAL, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running[future][0], future.result()
                    del running[future]
                    if not stopped():
                        _start_next(pool, tasks, running, lost)
        except BrokenProcessPool:
            lost.extend(running.values())
            # The pool loses track of a process that was being started when another died, and would wait for
            # it forever.
            for child in set(multiprocessing.active_children()) - others:
                child.kill()


def _start_next(
    pool: ProcessPoolExecutor, tasks: Iterator[Task], running: dict[Future[str], Task], lost: list[Task]
) -> None:
    for task in islice(tasks, 1):
        try:
            running[pool.submit(compute_row, *task[1:])] = task
        except (BrokenProcessPool, OSError) as error:
            # A process that dies while a task is handed over closes the pipe, which is an OSError.
            lost.append(task)
            raise BrokenProcessPool(str(error)) from error
