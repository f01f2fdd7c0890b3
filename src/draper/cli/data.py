"""Commands for files of spectra: samples, formats, info, convert."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from draper.cli.output import require_all_used, require_figure, say, say_json, two_columns
from draper.cli.parameters import Json, Output, Overwrite, SkipBad
from draper.cli.progress import progress
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.spectra import Spectra

Hints = Annotated[ReadConfig, Parameter(name="*")]


def samples(
    name: str | None = None, *, out: Output | None = None, overwrite: Overwrite = False, json: Json = False
) -> None:
    """List the built-in samples, or write one to a file.

    Example: draper samples sed-grid -o sed.h5

    Parameters
    ----------
    name
        Name of the sample; without it all samples are listed.
    out
        File to write the sample to; its suffix gives the format (see `draper convert`).
    json
        Print the result as JSON.
    """
    from draper.data import samples as built_in
    from draper.data.io import write

    if name is None:
        if json:
            say_json(built_in.descriptions())
        else:
            say(two_columns(built_in.descriptions()))
        return
    spectra = built_in.load(name)
    if out is not None:
        write(spectra, out, overwrite=overwrite)
    if json:
        say_json({"name": name, "path": out, **spectra.describe()})
    else:
        say(spectra, *([escape(f"written to {out}")] if out else []))


def formats(*, json: Json = False) -> None:
    """List the file formats that draper reads.

    Example: draper formats --json

    Parameters
    ----------
    json
        Print the list as JSON.
    """
    from draper.data.io import formats as readable

    descriptions = {
        name: format.what + (f" (extra: {format.extra})" if format.extra else "")
        for name, format in readable().items()
    }
    if json:
        say_json(descriptions)
    else:
        say(two_columns(descriptions))


def info(
    *files: Path,
    hints: Hints = ReadConfig(),  # noqa: B008
    skip_bad: SkipBad = False,
    plot: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Summarise files of spectra, each separately.

    Example: draper info star.fits --medium air

    Parameters
    ----------
    files
        Files or folders.
    hints
        Properties that the files do not declare.
    skip_bad
        Skip files that cannot be read, and list them at the end; the exit code is 4 if there are any.
    plot
        File (.png, .pdf, .svg) for a plot of the first five spectra of the first file.
    json
        Print the summary as JSON.
    """
    from draper.data.io import Log, listed, read

    if not files:
        raise DraperError("no file was given", hint="draper info FILE...")
    models = [path for path in files if (path / "model.json").is_file()]
    if models:
        raise DraperError(
            "this is a model, not a file of spectra", given=models[0], hint=f"draper show {models[0]}"
        )
    require_figure(plot, overwrite=overwrite)
    options = hints.model_dump(exclude_unset=True)
    described: dict[str, Any] = {}
    log = Log(skip_bad)
    skipped: list[dict[str, str]] = []
    for path in files:
        with log.attempt(path):
            spectra = read(path, **options, skip_bad=skip_bad)
            skipped += spectra.meta.get("skipped", [])
            if plot is not None and not described:
                from draper.plots.style import save

                save(spectra.plot(), plot)
            described[str(path)] = spectra.describe()
            if not json:
                say(f"[bold]{escape(str(path))}[/bold]", spectra)
    log.require_some(len(described))
    skipped += listed(log.skipped)
    if json:
        say_json({**described, **({"skipped": skipped} if skip_bad else {})})
    require_all_used(skipped)


def convert(
    *files: Path,
    out: Output,
    hints: Hints = ReadConfig(),  # noqa: B008
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Convert files of spectra into one file.

    The suffix of the output gives its format: .h5 (draper's own), .fits, .npz, and for one spectrum .csv or
    .dat (transit depths for ExoGAN and TauREx, with a .par file beside it).

    Example: draper convert night1/ night2/ -o stars.h5 --grid common --medium air

    Example: draper convert spectra/ -o grid.h5 --labels labels.csv --formula "a_li = li_fe + 1.05 + fe_h"

    Parameters
    ----------
    files
        Files or folders.
    out
        File to write.
    hints
        Properties that the files do not declare, and what to do with their rows.
    skip_bad
        Skip files that cannot be read or joined to the others, and list them at the end; the exit code is 4
        if there are any.
    json
        Print the result as JSON.
    """
    from draper.data.io import Log, listed, stream, write

    if not files:
        raise DraperError("no file was given", hint="draper convert FILE... -o OUT")
    written = 0
    with progress("converting") as done:
        log = Log(skip_bad, done)

        def counted() -> Iterator[Spectra]:
            nonlocal written
            for batch in stream(files, hints, log):
                written += len(batch)
                yield batch

        write(counted(), out, fill=hints.fill, overwrite=overwrite)
    reasons, skipped = listed(log.rejected), listed(log.skipped)
    if json:
        more = {"skipped": skipped} if skip_bad else {}
        say_json({"path": out, "spectra": written, "rejected": reasons, **more})
    else:
        if reasons:
            title = f"{len(reasons)} spectra were rejected"
            table = Table("spectrum", "reason", title=title, title_justify="left")
            for row in reasons:
                table.add_row(escape(row["name"]), escape(row["reason"]))
            say(table)
        say(escape(f"{written:,} spectra written to {out}"))
    require_all_used(skipped)
