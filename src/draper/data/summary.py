"""A summary of spectra: as JSON, on the terminal and in a notebook."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from draper.data.arrays import blocks_of

if TYPE_CHECKING:
    from draper.data.spectra import Spectra

LARGE, HUGE = 1e6, 1e20
"""Numbers between them are printed whole."""


def describe(spectra: Spectra) -> dict[str, Any]:
    """Return the summary as JSON values."""
    from draper.data.spectra import has_errors

    grid, power = spectra.grid, spectra.grid.resolving_power
    bad = sum(int((spectra.ivar[rows] <= 0).sum()) for rows in blocks_of(spectra.flux))
    axis = grid.names if grid.wavelength is None else grid.wavelength.tolist()
    return {
        "spectra": len(spectra),
        "pixels": len(grid),
        "quantity": spectra.quantity,
        "unit": spectra.unit,
        "axis": "wavelength" if grid.is_spectral else "coefficients",
        "first": axis[0],
        "last": axis[-1],
        "resolving_power": None if power is None else float(np.median(power)),
        "bad_pixels": bad,
        "median_snr": float(np.nanmedian(spectra.snr)) if has_errors(spectra) else None,
        "correlation": spectra.correlation is not None,
        "columns": {name: _describe_column(name, column) for name, column in spectra.table.items()},
        "meta": dict(spectra.meta),
    }


def _describe_column(name: str, column: NDArray[Any]) -> dict[str, Any]:
    if name != "id" and column.dtype.kind in "fi" and len(column):
        finite = column[np.isfinite(column)]
        # Identifiers of surveys are integers that no float64 holds.
        span = {"low": finite.min().item(), "high": finite.max().item()} if len(finite) else {}
        return {"kind": column.dtype.name, "missing": len(column) - len(finite), **span}
    count = len(np.unique(column))
    if column.dtype.kind != "U":
        return {"kind": column.dtype.name, "values": count}
    ends = {"first": str(column[0]), "last": str(column[-1])} if count else {}
    return {"kind": "text", "values": count, **ends}


def whole(number: float) -> str:
    """Return a number with six digits, and all of those before its point.

    Examples
    --------
    >>> whole(4301.25), whole(5853498713190525696), whole(1234567.0), whole(2.5e-7), whole(1e30)
    ('4301.25', '5853498713190525696', '1234567', '2.5e-07', '1e+30')
    """
    if isinstance(number, int):
        return str(number)
    return f"{number:.0f}" if LARGE <= abs(number) < HUGE else f"{number:.6g}"


def describe_table(spectra: Spectra) -> Table:
    """Return the summary as a table for the terminal."""
    facts = spectra.describe()
    table = Table(title=f"{facts['spectra']:,} spectra x {facts['pixels']:,} pixels", title_justify="left")
    table.add_column("what")
    table.add_column("value")
    unit = f" [{facts['unit']}]" if facts["unit"] else ""
    table.add_row("quantity", escape(f"{facts['quantity']}{unit}"))
    medium = facts["meta"].get("medium")
    recorded = f" (recorded in {medium})" if medium == "air" else ""
    table.add_row("grid", escape(f"{spectra.grid.extent}{recorded}"))
    if facts["resolving_power"]:
        table.add_row("resolving power", f"{facts['resolving_power']:.0f}")
    total = max(1, facts["spectra"] * facts["pixels"])
    table.add_row("bad pixels", f"{facts['bad_pixels']:,} ({100 * facts['bad_pixels'] / total:.2f} %)")
    snr = facts["median_snr"]
    table.add_row("median S/N", "no errors given" if snr is None else f"{snr:.1f}")
    if facts["correlation"]:
        table.add_row("correlation", "between pixels")
    for name, column in facts["columns"].items():
        title = escape(f"column {name}")
        if "low" in column:
            missing = f", {column['missing']} missing" if column["missing"] else ""
            table.add_row(title, f"{whole(column['low'])} ... {whole(column['high'])}{missing}")
        elif "values" in column:
            ends = dict.fromkeys(column[end] for end in ("first", "last") if end in column)
            shown = f": {escape(' ... '.join(ends))}" if ends else ""
            table.add_row(title, f"{column['kind']}, {column['values']:,} different{shown}")
        else:
            table.add_row(title, f"{column['kind']}, all {column['missing']} missing")
    for name, value in facts["meta"].items():
        if name == "medium":
            continue
        text = str(value)
        table.add_row(escape(f"meta {name}"), escape(text if len(text) <= 100 else f"{text[:97]}..."))
    return table


def as_html(table: Table) -> str:
    """Render a rich table for a notebook."""
    console = Console(record=True, width=100, file=StringIO())
    console.print(table)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
