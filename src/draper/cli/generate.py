"""``draper generate``: spectra that a trained model generates."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from draper.cli.labels import Values, completed, label_columns
from draper.cli.model import ModelOptions, gathered, opened
from draper.cli.output import require_figure, require_outputs, results, say, say_json
from draper.cli.parameters import Hints, Json, Output, Overwrite
from draper.cli.progress import progress
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.spectra import Spectra


def generate(
    artifact: Path,
    *data: Path,
    out: Output,
    labels: Path | None = None,
    values: Values = (),
    grid: Path | None = None,
    options: ModelOptions = None,
    hints: Hints = ReadConfig(),  # noqa: B008
    plot: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Generate spectra from labels, or reconstruct spectra, also with new labels: what the model can.

    Elements that are not given follow iron ([X/Fe] = 0), and microturbulence temperature and gravity; a note
    says so.

    `draper generate ARTIFACT --help` also shows the options of that model.

    Example: draper generate model/ --set teff=5777 logg=4.44 fe_h=0 --vsini 5 -o sun.h5

    Example: draper generate model/ stars.h5 -o reconstructed.h5

    Example: draper generate model/ stars.h5 -o hotter.h5 --set teff=6500

    Where a model needs no spectrum, labels and other columns that it knows may stand in place of DATA.

    Parameters
    ----------
    artifact
        Folder of the model, or builtin:NAME.
    data
        Files of spectra, for a model that reconstructs them.
    out
        File of spectra to write; the suffix chooses the format: .h5, .fits, .npz, .csv (one spectrum).
    labels
        Table of labels with one row a spectrum (CSV, ECSV, FITS, VOTable, Parquet).
    values
        Labels that replace those of the table: NAME=VALUE for all spectra, or NAME=VALUE,VALUE,... for each.
    grid
        File of spectra whose pixels the new spectra get; the model's own pixels unless given.
    hints
        How files of spectra are read, where they do not say it themselves.
    plot
        Figure of the first spectra to write (.png, .pdf or .svg).
    json
        Print the result as JSON.
    """
    from draper.data.export import write, written
    from draper.data.io import read

    require_outputs(*written(out), overwrite=overwrite)
    require_figure(plot, overwrite=overwrite)
    model = opened(artifact, "generate")
    more: dict[str, Any] = {}
    if grid is not None:
        if model.accepts == "own":
            raise DraperError(
                f"the model '{model.name}' generates spectra on its own pixels alone",
                given=f"--grid {grid}",
                hint=f"leave it out, and resample: draper convert {out} -o OUT --grid ...",
            )
        more["grid"] = read(grid, **hints.model_dump(exclude_unset=True)).grid
    what = arguments(model, artifact, data, labels, values, options, hints)
    ending = f"-o {out}"
    with completed(f"draper generate {artifact}", labels, values, ending), progress("generating") as done:
        made = model.generate(*what, options=options, progress=done, **more)
    assumed = assumptions(model, what[-1], made)
    with results(overwrite) as files:
        files.write(partial(write, made), out)
        if plot is not None:
            files.save(made.plot(), plot)
    outside = {
        name: int(column.sum())
        for name, column in made.table.items()
        if name.startswith("outside") and column.dtype == bool
    }
    if json:
        say_json({"path": out, "spectra": len(made), "grid": repr(made.grid), "assumed": assumed, **outside})
        return
    if assumed:
        sys.stderr.write(
            f"note: not given, and assumed: {', '.join(f'{n} = {v}' for n, v in assumed.items())}\n"
        )
    say(escape(f"{len(made):,} spectra written to {out}"))
    if "note" in made.meta:
        say(escape(made.meta["note"]))
    for name, count in outside.items():
        if count:
            say(escape(f"{count:,} lie outside the labels of the training set ({name}): do not trust them"))


def assumptions(model: Any, given: Any, made: Spectra) -> dict[str, str]:
    """Return the labels of spectra that were made of labels, but for those that were given."""
    if not isinstance(given, Mapping) or model.config.generate_from != ("labels",) or not len(made):
        return {}
    columns = {n: made.table[n] for n in model.labels.names if n in made.table and n not in given}
    ends = {name: (column.min(), column.max()) for name, column in columns.items()}
    return {n: f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}" for n, (low, high) in ends.items()}


def arguments(
    model: Any,
    artifact: Path,
    data: tuple[Path, ...],
    labels: Path | None,
    values: tuple[str, ...],
    options: Any,
    hints: ReadConfig,
) -> list[Any]:
    """Return what a model generates from: spectra, labels, or spectra and new labels."""
    takes, names = model.config.generate_from, model.labels.names
    takes_table = takes == ("spectra",) and not model.needs_pixels and not data
    flag = "--labels" if labels is not None else "--set" if values else None
    if data and "spectra" not in takes:
        raise DraperError(
            f"the model '{model.name}' generates spectra from labels, not from spectra",
            given=", ".join(map(str, data)),
            hint="--labels TABLE, or --set teff=5777 ...",
        )
    if flag is not None and takes_table:
        from draper.data.spectra import Spectra
        from draper.infer.forecast import equal_columns

        table = equal_columns(label_columns(labels, values, (*names, *model.table_columns)))
        return [Spectra.from_table(model.own_grid, table)]
    if flag is not None and "labels" not in takes:
        raise DraperError(
            f"the model '{model.name}' reconstructs spectra, and takes no labels",
            given=flag,
            hint=f"draper generate {artifact} DATA... -o OUT",
        )
    what: list[Any] = []
    if "spectra" in takes:
        what.append(gathered(data, hints, f"draper generate {artifact} DATA... -o OUT"))
    if takes == ("labels",):
        replaced = () if options is None else options.model_fields_set
        what.append(label_columns(labels, values, names, replaced))
    elif flag is not None:
        table = label_columns(labels, values, names)
        new = {name: column for name, column in table.items() if name in names}
        if not new:
            raise DraperError("the table has no label of the model", given=labels, expected=", ".join(names))
        what.append(new)
    return what
