"""How far a command is, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from time import monotonic

from rich.console import Console

from draper.train.progress import LINE_EVERY, progress_bar

Done = Callable[[int, int | None], None]
"""Called with the number of what is done, and of all; None where that is not known."""


class Lines:
    """A line at intervals, so that nothing is written where the work ends before the first one is due."""

    def __init__(self, what: str, every: float) -> None:
        self.what, self.every = what, every
        self.done = 0
        self.total: int | None = None
        self.begun, self.ended = monotonic(), Event()
        self.thread = Thread(target=self._write, daemon=True)

    def note(self, done: int, total: int | None) -> None:
        """Note how much is done."""
        self.done, self.total = done, total

    def _write(self) -> None:
        while not self.ended.wait(self.every):
            sys.stderr.write(f"{self.line(monotonic() - self.begun)}\n")
            sys.stderr.flush()

    def line(self, seconds: float) -> str:
        """Return the line that is written after some time.

        Examples
        --------
        >>> lines = Lines("predicting", 10.0)
        >>> lines.note(300, 1200)
        >>> lines.line(20.0)
        'predicting: 300 of 1,200 (25 %), 0:00:20 so far, 0:01:00 left'
        """
        gone = f"{timedelta(seconds=round(seconds))} so far"
        if self.total is None:
            return f"{self.what}: {f'{self.done:,} done, ' if self.done else ''}{gone}"
        left = ""
        if 0 < self.done < self.total:
            left = f", {timedelta(seconds=round(seconds / self.done * (self.total - self.done)))} left"
        share = f"{self.done / max(self.total, 1):.0%}".replace("%", " %")
        return f"{self.what}: {self.done:,} of {self.total:,} ({share}), {gone}{left}"


@contextmanager
def progress(what: str) -> Iterator[Done]:
    """Show how far a work is while the block runs, which calls what it gets with the numbers done and in all.

    Parameters
    ----------
    what
        Such as ``predicting``.
    """
    console = Console(file=sys.stderr)
    if console.is_terminal:
        with progress_bar(console, transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    lines = Lines(what, LINE_EVERY)
    lines.thread.start()
    try:
        yield lines.note
    finally:
        lines.ended.set()
        lines.thread.join()
