"""``draper propose``: which synthetic spectra to compute next."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.markup import escape
from rich.table import Table

from draper.cli.labels import label_columns
from draper.cli.model import opened
from draper.cli.output import require_tables, results, say, say_json
from draper.cli.parameters import Json, Output, Overwrite

SHOWN = 10
"""Largest number of rows that are printed."""


def propose(
    artifact: Path,
    *,
    number: Annotated[int, Parameter(name=["--number", "-n"], validator=validators.Number(gte=1))] = 100,
    out: Output | None = None,
    among: Path | None = None,
    stars: Path | None = None,
    seed: int = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Name the labels of further synthetic spectra that would lower an emulator's error most.

    The table is one that draper simulate run takes; the most useful spectrum is its first row.

    Example: draper propose model/ -n 200 -o labels.csv

    Example: draper propose model/ -n 50 -o labels.csv --among grid.csv --stars my-stars.csv

    Parameters
    ----------
    artifact
        The folder of an emulator (architecture perceptron or radial).
    number
        How many spectra; 100 by default.
    out
        A table to write: .csv, .ecsv, .fits or .parquet.
    among
        A table of labels to choose from, if not every spectrum can be computed; its other columns are
        kept. By default labels lie between those of the training spectra.
    stars
        A table of the labels of stars that will be fitted, where errors matter (elements and vmic may be left
        out); those to choose from by default.
    seed
        Seed of what is drawn.
    json
        Print JSON.
    """
    from draper.results.table import write_table

    require_tables(out, overwrite=overwrite)
    model = opened(artifact, "propose")
    names = model.labels.names
    units = {label.name: label.unit for label in model.labels}
    tables = [None if path is None else label_columns(path, (), names) for path in (among, stars)]
    found = model.propose(number, among=tables[0], stars=tables[1], seed=seed)
    if out is not None:
        with results(overwrite) as files:
            files.write(partial(write_table, found, units=units), out)
    if json:
        say_json({"path": out, "labels": {name: column.tolist() for name, column in found.items()}})
        return
    table = Table(title=f"spectra to compute: {number:,}", title_justify="left", box=None, pad_edge=False)
    shown = {name: found[name] for name in ("id", *names) if name in found}
    for name in shown:
        table.add_column(escape(name))
    for row in range(min(number, SHOWN)):
        table.add_row(
            *(escape(f"{c[row]:.5g}" if c.dtype.kind == "f" else str(c[row])) for c in shown.values())
        )
    say(table)
    if number > SHOWN and out is None:
        say(f"and {number - SHOWN:,} more: --out TABLE writes all")
    if out is not None:
        say(escape(f"written to {out}"))
