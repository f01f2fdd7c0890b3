"""What every benchmark prints beside its figures: the machine, the versions and a table, also as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table


class Sheet(NamedTuple):
    """A table of figures, the facts that they depend on, and the columns that are printed; all by default."""

    title: str
    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    columns: tuple[str, ...] = ()


def arguments(what: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the full size; takes longer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    return parser


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def show(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row, and return it."""
    print(
        "  ",
        ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
        flush=True,
    )
    return row


def report(
    title: str,
    rows: list[dict[str, Any]],
    facts: dict[str, Any],
    path: Path | None,
    columns: Sequence[str] = (),
) -> None:
    """Print a table of figures with the facts that they depend on, and write both as JSON if asked.

    ``columns`` are those that are printed, all by default.
    """
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        **{name: version(name) for name in ("draper", "torch", "numpy", "h5py")},
    }
    shown = columns or list(rows[0])
    table = Table(*shown, title=title, title_justify="left")
    for row in rows:
        values = (row.get(name, "") for name in shown)
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
    console = Console(width=120, highlight=False, markup=False)
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in {**facts, **machine}.items()))
    if path is not None:
        path.write_text(
            json.dumps({"title": title, "rows": rows, "facts": facts, "machine": machine}, indent=1)
        )
