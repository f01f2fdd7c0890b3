"""Work that is shared among several processes, each with one thread."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from draper.errors import DraperError

Tool = TypeVar("Tool")
Task = TypeVar("Task")
Result = TypeVar("Result")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables set to 1 while processes are started, since each of them has one core."""

may_start = False
"""Whether work is shared unasked: by commands. A script may lack what new processes need (a main guard)."""

_work: Callable[[Any], Any]
"""What a worker process does with a task."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on all systems; it respects the limits of a batch queue
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes that are started inside the block have one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def side_by_side(
    make: Callable[[], Tool],
    work: Callable[[Tool, Task], Result],
    tasks: Iterable[Task],
    workers: int,
) -> Iterator[Result]:
    """Yield the result of each task in their order.

    Parameters
    ----------
    make
        Makes what each process needs once; like ``work``, tasks and results, it must be picklable.
    work
        From that and a task to a result.
    tasks
        Not many more of them than there are processes are held at a time.
    workers
        Number of processes.
    """
    try:
        made = pickle.dumps((make, work))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise DraperError(
            "this model cannot be sent to other processes",
            given=error,
            hint="define its function in a module, or use one process (workers=1)",
        ) from None
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    with one_thread_each(), ProcessPoolExecutor(workers, context, _begin, (made,)) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(_run, task))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException as error:
            # Without this the end of the block would wait until running tasks are done.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
            if not isinstance(error, BrokenProcessPool):
                raise
            raise DraperError(
                "a worker process has died, or could not start",
                hint='protect a script with `if __name__ == "__main__":`, or use one process (workers=1), '
                "which also needs less memory",
            ) from None


def _begin(made: bytes) -> None:
    global _work
    # An interruption is the parent's to report.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    make, work = pickle.loads(made)  # noqa: S301 - of the parent
    _work = partial(work, make())


def _run(task: Any) -> Any:
    return _work(task)
