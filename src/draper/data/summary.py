"""Spectra as a small table for the terminal and the notebook."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from draper.data.spectra import Spectra


def describe_table(spectra: Spectra) -> Table:
    """Lay out what :meth:`Spectra.describe` says."""
    facts = spectra.describe()
    table = Table(title=f"{facts['spectra']:,} spectra x {facts['pixels']:,} pixels", title_justify="left")
    table.add_column("what")
    table.add_column("value")
    unit = f" [{facts['unit']}]" if facts["unit"] else ""
    table.add_row("quantity", f"{facts['quantity']}{unit}".replace("[", r"\["))
    table.add_row("grid", spectra.grid.extent)
    if facts["resolving_power"]:
        table.add_row("resolving power", f"{facts['resolving_power']:.0f}")
    total = max(1, facts["spectra"] * facts["pixels"])
    table.add_row("bad pixels", f"{facts['bad_pixels']:,} ({100 * facts['bad_pixels'] / total:.2f} %)")
    table.add_row("median S/N", f"{facts['median_snr']:.1f}" if facts["median_snr"] else "no errors given")
    if facts["correlation"]:
        table.add_row("correlation", "between pixels")
    for name, column in facts["columns"].items():
        if "low" in column:
            missing = f", {column['missing']} missing" if column["missing"] else ""
            table.add_row(f"column {name}", f"{column['low']:.6g} ... {column['high']:.6g}{missing}")
        elif "values" in column:
            table.add_row(f"column {name}", f"{column['kind']}, {column['values']} different")
        else:
            table.add_row(f"column {name}", f"{column['kind']}, all {column['missing']} missing")
    for name, value in facts["meta"].items():
        text = str(value).replace("[", r"\[")
        table.add_row(f"meta {name}", text if len(text) <= 100 else f"{text[:97]}...")
    return table


def as_html(table: Table) -> str:
    """Render a rich table for a notebook."""
    console = Console(record=True, width=100, file=StringIO())
    console.print(table)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
