"""Trackers of a run: a table on disk, TensorBoard, the terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from draper import atomic_write
from draper.atomic_write import output_errors
from draper.configs.train import TrainConfig
from draper.errors import DraperError, option_text
from draper.train.events import Event
from draper.train.progress import shown_progress

Row = dict[str, float]


class Tracker(Protocol):
    """A consumer of the events of a run."""

    def note(self, event: Event) -> None:
        """Process an event."""

    def close(self) -> None:
        """Finish: no event follows."""


class History:
    """The metrics of a run as rows, also written to ``history.csv`` if a path is given."""

    def __init__(self, path: Path | None, rows: Sequence[Row] = ()) -> None:
        self.path = path
        self.rows = list(rows)
        self.columns: list[str] = list(dict.fromkeys(name for row in self.rows for name in row))
        if path is not None:
            self._rewrite()

    def note(self, event: Event) -> None:
        """Add a row for each log event."""
        if event.kind != "log":
            return
        row = {"step": event.step, "epoch": event.epoch, "seconds": event.seconds, **event.metrics}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        self.columns += new
        if self.path is None:
            return
        if new:
            self._rewrite()
        else:
            with output_errors(self.path), self.path.open("a", newline="") as handle:
                csv.DictWriter(handle, self.columns).writerow(row)

    def _rewrite(self) -> None:
        assert self.path is not None
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        atomic_write.write(self.path, text.getvalue())

    def close(self) -> None:
        """Do nothing: all rows are on disk already."""


def read_history(path: Path, up_to: float = math.inf) -> list[Row]:
    """Return the rows of a ``history.csv`` up to a step; an empty list if there is no file."""
    if not path.is_file():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]  # a full disk or a kill may have cut the last line
    rows: list[Row] = [
        {name: int(value) if name == "step" else float(value) for name, value in row.items() if value}
        for row in csv.DictReader(whole.splitlines())
    ]
    return [row for row in rows if row["step"] <= up_to]


class TensorBoard:
    """Writes every metric as a scalar."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise DraperError("TensorBoard is not installed", hint="pip install 'draper[tracking]'") from None
        self.writer = SummaryWriter(str(folder))

    def note(self, event: Event) -> None:
        """Add the scalars of a log event."""
        for name, value in event.metrics.items():
            self.writer.add_scalar(name, value, event.step)

    def close(self) -> None:
        """Flush the buffer."""
        self.writer.close()


def trackers(config: TrainConfig, folder: Path | None, history: History) -> Sequence[Tracker]:
    """Return the trackers that a config requests."""
    wanted: list[Tracker] = [history]
    if config.tensorboard:
        if folder is None:
            raise DraperError(
                "TensorBoard needs a folder", hint=f"give the artifact's folder: {option_text('out')}"
            )
        wanted.append(TensorBoard(folder / "tensorboard"))
    progress = shown_progress(config.progress)
    return wanted if progress is None else [*wanted, progress]
