"""Display of progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from draper.train.events import Event

LINE_EVERY = 10.0
"""Minimum time [s] between plain lines."""


def _numbers(event: Event) -> list[str]:
    """Return the metrics of an event as text, those that matter most first."""
    shown = sorted(event.metrics, key=lambda name: (not name.startswith("valid"), not name.endswith("total")))
    return [f"{name} {event.metrics[name]:.4g}" for name in shown if name != "rate"]


class _Fitting:
    """Texts side by side, of which as many are shown as there is room for."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        line = ""
        for text in self.texts:
            longer = f"{line}  {text}" if line else text
            if len(longer) > options.max_width:
                break
            line = longer
        yield Text(line, no_wrap=True, overflow="crop")


class _Numbers(ProgressColumn):
    """The numbers of a task, in the room that the other columns leave."""

    def __init__(self) -> None:
        super().__init__(Column(ratio=1, no_wrap=True))

    def render(self, task: Task) -> _Fitting:
        return _Fitting(task.fields.get("numbers", []))


def progress_bar(console: Console, *, transient: bool = False) -> Progress:
    """Return a bar with per cent, counts and time left; what a narrow terminal has no room for is dropped."""
    whole = [Column(no_wrap=True) for _ in range(4)]
    return Progress(
        TextColumn("{task.description}", table_column=whole[0]),
        BarColumn(bar_width=min(30, max(8, console.width // 4 - 4))),
        TaskProgressColumn(table_column=whole[1]),
        TimeRemainingColumn(table_column=whole[2]),
        MofNCompleteColumn(table_column=whole[3]),
        _Numbers(),
        console=console,
        expand=True,
        transient=transient,
        redirect_stdout=False,  # results go to standard output, the bar to standard error
    )


class Bar:
    """The progress bar of a run."""

    def __init__(self, console: Console) -> None:
        self.progress = progress_bar(console)
        self.task = self.progress.add_task("training")

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
    """Plain lines of a run at intervals, for logs."""

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
            numbers = "  ".join(_numbers(event)[:4])
            self._write(f"step {event.step}/{event.steps}  {event.seconds:.0f} s  {numbers}")

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
