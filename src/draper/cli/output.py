"""What commands print and write: tables for people, JSON for machines, and files that are not lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from draper.atomic_write import require_output
from draper.errors import OutputError, SkippedFilesError

Keep = Callable[[Callable[[Path], Path], Path], Path]
"""Writes a result with a function, to a path, and returns where it is."""


def say(*what: RenderableType) -> None:
    """Print for people; wide tables are not cut when the output is no terminal."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for part in what:
        console.print(part)


def say_json(value: Any) -> None:
    """Print one JSON document; numbers that JSON lacks (NaN) become null."""
    sys.stdout.write(json.dumps(_plain(value), indent=1, allow_nan=False) + "\n")


def two_columns(rows: dict[str, Any], title: str | None = None) -> Table:
    """Return a plain table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(escape(name), escape(str(value)))
    return table


def require_all_used(skipped: Sequence[Mapping[str, str]]) -> None:
    """Raise an error that lists the files that were skipped, at the end of a command."""
    if skipped:
        raise SkippedFilesError(
            f"{len(skipped):,} {'file was' if len(skipped) == 1 else 'files were'} skipped; "
            "everything else is done",
            given="\n            ".join(f"{file['name']}: {file['reason']}" for file in skipped),
        )


def require_outputs(*paths: Path | None, overwrite: bool) -> None:
    """Refuse files that cannot be written or exist already, before anything is computed."""
    for path in paths:
        if path is not None:
            require_output(path, overwrite=overwrite)


def require_figure(path: Path | None, *, overwrite: bool) -> None:
    """Refuse a figure that cannot be written or exists already, before anything is computed."""
    if path is None:
        return
    from draper.plots.style import drawable

    drawable(path)
    if path.parent.is_dir():  # else it is made with the figure
        require_output(path, overwrite=overwrite)


@contextmanager
def results() -> Iterator[Keep]:
    """Yield what writes finished results; what cannot be written where it should is kept elsewhere.

    Computing again may take hours: such results go to a new folder for temporary files, and when the block
    ends an error says where they are.
    """
    moved: dict[Path, Path] = {}
    errors: list[OutputError] = []

    def keep(write: Callable[[Path], Path], path: Path) -> Path:
        try:
            return write(path)
        except OutputError as error:
            errors.append(error)
        try:
            moved[path] = write(Path(mkdtemp(prefix="draper-"), path.name))
        except (OSError, OutputError):
            raise errors[-1] from None
        return moved[path]

    yield keep
    if moved:
        raise OutputError(
            f"results were written to another folder, since {errors[0].what}",
            given=errors[0].given,
            hint="; ".join(f"{path} is kept as {place}" for path, place in moved.items()),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
