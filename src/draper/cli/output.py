"""What commands print and write: tables for people, JSON for machines, and files that are not lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from draper.atomic_write import require_output
from draper.errors import OutputError, SkippedFilesError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


def require_tables(*paths: Path | None, also: tuple[str, ...] = (), overwrite: bool) -> None:
    """Refuse the same of tables, and suffixes of no known format but those of ``also``."""
    from draper.results.table import writable

    for path in paths:
        if path is not None:
            writable(path, also=also)
    require_outputs(*paths, overwrite=overwrite)


def require_figure(path: Path | None, *, overwrite: bool) -> None:
    """Refuse a figure that cannot be written or exists already, before anything is computed."""
    if path is None:
        return
    from draper.plots.style import drawable

    drawable(path)
    if path.parent.is_dir():  # else it is made with the figure
        require_output(path, overwrite=overwrite)


class Results:
    """Writes finished results, and keeps elsewhere what cannot be written where it should.

    Parameters
    ----------
    overwrite
        Whether files that exist are replaced.
    """

    def __init__(self, overwrite: bool) -> None:
        self.overwrite = overwrite
        self.errors: list[OutputError] = []

    def write(self, write: Callable[..., Path], path: Path) -> Path:
        """Write a result with a function of path and ``overwrite``; return where it is."""
        return self._kept(partial(write, overwrite=self.overwrite), path)

    def save(self, figure: Axes | Figure, path: Path) -> Path:
        """Write a figure; return where it is."""
        from draper.plots.style import save

        return self._kept(partial(save, figure), path)

    def _kept(self, write: Callable[[Path], Path], path: Path) -> Path:
        try:
            return write(path)
        except OutputError as error:
            failed = error
        try:
            place = write(Path(mkdtemp(prefix="draper-"), path.name))
        except (OSError, OutputError):
            raise failed from None
        self.errors.append(failed)
        # Said at once: what follows may fail, or be interrupted.
        sys.stderr.write(f"{path} is kept as {place}\n")
        return place


@contextmanager
def results(overwrite: bool) -> Iterator[Results]:
    """Yield what writes finished results; where it could not write them all, the block ends with an error.

    Computing again may take hours: such results go to a new folder for temporary files.
    """
    kept = Results(overwrite)
    yield kept
    if kept.errors:
        raise OutputError(
            f"results were written to another folder, since {kept.errors[0].what}",
            given=kept.errors[0].given,
            hint="move them from the folder named above",
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
