"""Lines that a line list lacks, as a trained translator shows them: ``draper lines``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from cyclopts import Parameter, validators
from rich.markup import escape
from rich.table import Table

from draper.cli.model import gathered, opened
from draper.cli.output import require_figure, require_tables, results, say, say_json
from draper.cli.parameters import Hints, Json, Output, Overwrite
from draper.cli.progress import progress
from draper.configs.read import ReadConfig

if TYPE_CHECKING:
    from draper.models.translator.model import Translator
    from draper.results.missing_lines import LineTable

SHOWN = 20
"""Largest number of lines that are printed."""


def lines(
    artifact: Path,
    *data: Path,
    out: Output | None = None,
    lines: Path | None = None,
    medium: Literal["air", "vacuum"] | None = None,
    changes: Path | None = None,
    q: Annotated[float, Parameter(name=["--false-discovery-rate", "--q"])] = 0.05,
    number: Annotated[int, Parameter(name=["--number", "-n"], validator=validators.Number(gte=2))] = 64,
    by_depth: bool = False,
    seed: int = 0,
    hints: Hints = ReadConfig(),  # noqa: B008
    plot: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find lines that observed spectra have and synthetic ones lack, with a translator.

    Example: draper lines model/ -o lines.csv --plot lines.png

    Example: draper lines model/ stars.h5 --lines my-list.csv --changes log-gf.csv

    Parameters
    ----------
    artifact
        The folder of a translator (method anchored).
    data
        Files of observed spectra over whose stars to average; their labels are fitted unless columns hold
        them. By default stars are drawn from the synthetic set.
    out
        Table of missing lines to write (.csv, .ecsv, .fits or .parquet).
    lines
        Line list with which to compare: a table (CSV, ECSV, FITS, VOTable), or a list of VALD. By default a
        small list of strong lines.
    medium
        Medium (air or vacuum) of the list's wavelengths, if the file does not state it.
    changes
        Table to write (.csv, .ecsv, .fits or .parquet) of known lines whose log gf should change.
    q
        Largest expected fraction of false lines in the tables (0 to 1); 0.05 by default.
    number
        Number of stars that are drawn if no data are given; 64 by default.
    by_depth
        Find lines by their mean depth: less noisy than by their response to elements, but it names none.
    seed
        Seed of what is drawn.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw mean spectra and what synthetic ones lack, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    from draper.data.line_lists import read_lines
    from draper.data.lines import strong_lines
    from draper.results.missing_lines import UNKNOWN

    require_tables(out, changes, overwrite=overwrite)
    require_figure(plot, overwrite=overwrite)
    model = cast("Translator", opened(artifact, "new_lines"))
    known = strong_lines() if lines is None else read_lines(lines, medium)
    stars = gathered(data, hints, "") if data else number
    with progress("finding lines"):
        found = model.new_lines(stars, q=q, lines=known, seed=seed, by_depth=by_depth)
    changed = None
    with results(overwrite) as files:
        if out is not None:
            files.write(found.write, out)
        if changes is not None:
            changed = model.line_changes(known, stars, q=q, seed=seed)
            files.write(changed.write, changes)
        if plot is not None:
            from draper.plots.missing_lines import plot_missing_lines

            files.save(plot_missing_lines(found), plot)
    if json:
        tables = {"lines": found.to_table()} | ({} if changed is None else {"changes": changed.to_table()})
        columns = {
            title: {name: column.tolist() for name, column in table.items()}
            for title, table in tables.items()
        }
        say_json({"path": out, **columns})
        return
    say(shown(found))
    if found.elements == (UNKNOWN,):
        say("found by their mean depth, which names no element")
    if len(found) > SHOWN and out is None:
        say(f"and {len(found) - SHOWN:,} lines more: --out TABLE writes all")
    if changed is not None:
        say(escape(repr(changed)))
    for path in (out, changes, plot):
        if path is not None:
            say(escape(f"written to {path}"))


def shown(found: LineTable) -> Table:
    """Return the table of the first lines, as it is printed."""
    from draper.results.missing_lines import UNKNOWN

    table = Table(
        title=f"lines that synthetic spectra lack: {len(found):,}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("vacuum Angstrom", "element", "probability", "depth", "sigma", "nearest known line"):
        table.add_column(name)
    for row in range(min(len(found), SHOWN)):
        name = str(found.element[row])
        sure = found.probability[row, found.elements.index(name)]
        near = f"{found.known[row]} {found.known_wavelength[row]:.2f}" if found.known[row] else ""
        table.add_row(
            f"{found.wavelength[row]:.2f}",
            name,
            "" if name == UNKNOWN else f"{sure:.2f}",
            f"{found.depth[row]:.3f}",
            f"{found.height[row]:.1f}",
            near,
        )
    return table
