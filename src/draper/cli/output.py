"""Printing: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from draper.errors import SkippedFilesError


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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
