"""Commands about files of spectra: samples, formats, info, convert."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from draper.cli.output import say, say_json, two_columns
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.spectra import Spectra

Hints = Annotated[ReadConfig, Parameter(name="*")]
Output = Annotated[Path, Parameter(name=["--out", "-o"])]
Json = Annotated[bool, Parameter(name="--json")]


def samples(name: str | None = None, *, out: Output | None = None, json: Json = False) -> None:
    """List the built-in samples, or write one to a file.

    Example: draper samples sed-grid -o sed.h5

    Parameters
    ----------
    name
        The sample to write.
    out
        Where to write it; the suffix says the format.
    json
        Print JSON.
    """
    from draper.data import samples as held
    from draper.data.io import write

    if name is None:
        if json:
            say_json(held.descriptions())
        else:
            say(two_columns(held.descriptions()))
        return
    spectra = held.load(name)
    if out is not None:
        write(spectra, out)
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
        Print JSON.
    """
    from draper.data.io import formats as known

    found = {one.name: one.what + (f" (extra: {one.extra})" if one.extra else "") for one in known().values()}
    if json:
        say_json(found)
    else:
        say(two_columns(found))


def info(*files: Path, hints: Hints = ReadConfig(), plot: Path | None = None, json: Json = False) -> None:  # noqa: B008
    """Say what files of spectra hold, each by itself.

    Example: draper info star.fits --medium air

    Parameters
    ----------
    files
        Files or folders.
    hints
        What the files do not say themselves.
    plot
        Also draw the first five spectra of the first file, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    from draper.data.io import read

    if not files:
        raise DraperError("no file was named", hint="draper info FILE...")
    models = [path for path in files if (path / "model.json").is_file()]
    if models:
        raise DraperError("this is a model", given=models[0], hint=f"draper show {models[0]}")
    options = hints.model_dump(exclude_unset=True)
    described = {}
    for number, path in enumerate(files):
        spectra = read(path, **options)
        described[str(path)] = spectra.describe()
        if not json:
            say(f"[bold]{escape(str(path))}[/bold]", spectra)
        if plot is not None and number == 0:
            from draper.plots.style import save

            save(spectra.plot(), plot)
    if json:
        say_json(described)


def convert(*files: Path, out: Output, hints: Hints = ReadConfig(), json: Json = False) -> None:  # noqa: B008
    """Bring files of spectra into one file.

    The suffix of the output says its format: .h5 (draper's own), .fits, .npz, and for one spectrum .csv.

    Example: draper convert night1/ night2/ -o stars.h5 --grid common --medium air

    Example: draper convert spectra/ -o grid.h5 --labels labels.csv --formula "a_li = li_fe + 1.05 + fe_h"

    Parameters
    ----------
    files
        Files or folders.
    out
        The file to write.
    hints
        What the files do not say themselves, and what becomes of their rows.
    json
        Print JSON.
    """
    from draper.data.io import Rejection, stream, write

    if not files:
        raise DraperError("no file was named", hint="draper convert FILE... -o OUT")
    rejected: list[Rejection] = []
    written = 0

    def counted() -> Iterator[Spectra]:
        nonlocal written
        batches = stream(files, hints, rejected)
        quiet = not sys.stderr.isatty()  # so that logs stay clean
        for batch in track(batches, "converting", console=Console(file=sys.stderr), disable=quiet):
            written += len(batch)
            yield batch

    write(counted(), out, fill=hints.fill)
    reasons = [{"name": one.name, "reason": one.reason} for one in rejected]
    if json:
        say_json({"path": out, "spectra": written, "rejected": reasons})
        return
    if reasons:
        table = Table("rejected", "why", title=f"{len(reasons)} spectra were left out", title_justify="left")
        for one in reasons:
            table.add_row(escape(one["name"]), escape(one["reason"]))
        say(table)
    say(escape(f"{written:,} spectra written to {out}"))
