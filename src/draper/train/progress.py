"""Display of progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from draper.train.events import Event

LINE_EVERY = 10.0
"""Minimum time [s] between plain lines."""


def _numbers(event: Event, most: int = 4) -> str:
    shown = sorted(event.metrics, key=lambda name: (not name.startswith("valid"), not name.endswith("total")))
    return "  ".join(f"{name} {event.metrics[name]:.4g}" for name in shown[:most] if name != "rate")


class Bar:
    """A progress bar."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
        )
        self.task = self.progress.add_task("training", numbers="")

    def note(self, event: Event) -> None:
        """Update the bar."""
        if event.kind == "start":
            self.progress.start()
            facts = ", ".join(f"{name} {value}" for name, value in event.facts.items())
            self.progress.console.print(facts, style="dim", highlight=False)
        self.progress.update(self.task, completed=event.step, total=event.steps)
        if event.kind == "log":
            self.progress.update(self.task, numbers=_numbers(event))

    def close(self) -> None:
        """Stop updating; the bar stays on the screen."""
        self.progress.stop()


class Lines:
    """Plain lines at intervals, for logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last = 0.0

    def note(self, event: Event) -> None:
        """Write a line if the last one was written at least ``LINE_EVERY`` ago."""
        due = time.monotonic() - self.last > LINE_EVERY or event.step == event.steps
        if event.kind in ("start", "end"):
            facts = ", ".join(f"{name} {value}" for name, value in event.facts.items())
            self._write(f"step {event.step}/{event.steps}  {facts}")
        elif event.kind == "log" and due:
            self._write(f"step {event.step}/{event.steps}  {event.seconds:.0f} s  {_numbers(event)}")

    def _write(self, line: str) -> None:
        self.last = time.monotonic()
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Do nothing: all lines are written already."""


def shown_progress(how: str) -> Bar | Lines | None:
    """Return the progress display on standard error: ``auto``, ``bar``, ``lines`` or ``none``."""
    if how == "none":
        return None
    console = Console(file=sys.stderr)
    if how == "auto":
        how = "bar" if console.is_terminal or console.is_jupyter else "lines"
    return Bar(console) if how == "bar" else Lines(console)
