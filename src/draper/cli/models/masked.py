"""What pre-training is worth: ``draper ledger``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter, validators

from draper.cli.model import gathered, opened
from draper.cli.output import say, say_json
from draper.cli.parameters import Hints, Json
from draper.cli.progress import progress
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.models.masked.model import MaskedAutoencoder

Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def ledger(
    artifact: Path,
    *data: Path,
    labels: tuple[str, ...],
    sizes: tuple[Count, ...] = (100, 1000, 10_000),
    seeds: Count = 3,
    hints: Hints = ReadConfig(),  # noqa: B008
    json: Json = False,
) -> None:
    """Measure what pre-training is worth: label errors with and without it, beside simple regressions.

    The result also becomes a section of the model card.

    Example: draper ledger pretrained/ labelled.h5 --labels teff logg fe_h

    Parameters
    ----------
    artifact
        The folder of a model that was pre-trained without these labels.
    data
        Files of spectra with labels. Three tenths of the stars are held out.
    labels
        Columns to predict.
    sizes
        Numbers of labelled stars; those that the data do not have are left out.
    seeds
        Number of splits of the data, 1 or more.
    hints
        What the files do not say themselves, and what becomes of their rows.
    json
        Print JSON.
    """
    from rich.table import Table

    from draper.models import artifact as folders

    model = cast("MaskedAutoencoder", opened(artifact, "ledger"))
    spectra = gathered(data, hints, f"draper ledger {artifact} DATA... --labels NAME...")
    with progress("training") as done:
        rows: list[dict[str, Any]] = model.ledger(
            spectra, labels, sizes=sizes, seeds=seeds, say=None if json else say, progress=done
        )
    if not rows:
        raise DraperError(
            "there are too few labelled stars for any of the sizes",
            given=f"{len(spectra)} stars",
            hint="give smaller ones: --sizes 50 100",
        )
    if not str(artifact).startswith(folders.BUILTIN):
        model.training["ledger"] = rows
        folders.write(model, Path(artifact), complete=True)
    if json:
        say_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    say(table)
