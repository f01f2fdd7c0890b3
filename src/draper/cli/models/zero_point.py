"""``draper zero-point``: the Sun, or other known stars, as the zero point of an emulator's fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from draper.cli.labels import Values, label_columns
from draper.cli.model import gathered, opened
from draper.cli.output import say, say_json
from draper.cli.parameters import Hints, Json, Output, Overwrite
from draper.configs.fit import FitConfig
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.models.emulator.model import Emulator


def zero_point(
    artifact: Path,
    *data: Path,
    out: Output,
    sun: bool = False,
    values: Values = (),
    labels: Path | None = None,
    lines: Annotated[bool | None, Parameter(negative="--no-lines")] = None,
    fit: FitConfig = FitConfig(),  # noqa: B008
    hints: Hints = ReadConfig(),  # noqa: B008
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Take stars with known labels, the Sun first, as the zero point of all later fits of an emulator.

    Lines are corrected by what their spectra show, and labels are moved so that these stars get the known
    ones; from five stars on, errors of later fits hold what they scatter by. The result is an emulator of
    its own.

    Example: draper zero-point builtin:optical-emulator sun.fits --sun --fit.recipe harps -o harps-emulator/

    Example: draper zero-point model/ stars.h5 --labels known.csv -o differential/ --fit.recipe miles

    Parameters
    ----------
    artifact
        The folder of an emulator, or builtin:NAME.
    data
        Files of spectra of the stars.
    out
        Folder of the new emulator.
    sun
        All spectra are of the Sun (sky, moon, asteroids).
    values
        Labels that are known: NAME=VALUE, or NAME=VALUE,VALUE,... for several stars.
    labels
        A table of what is known, a row for each spectrum in the same order, without a value where nothing is
        known; columns such as teff_err are errors. By default the labels that the spectra have.
    lines
        Whether lines are corrected (--lines, --no-lines); by default if the spectra are at least half as
        sharp as the emulator.
    fit
        How spectra are fitted, as later ones will be.
    hints
        How files of spectra are read, where they do not say it themselves.
    json
        Print JSON.
    """
    model: Emulator = opened(artifact, "zero_point")
    if sun and (values or labels is not None):
        raise DraperError("the labels of the Sun are known", hint="leave out --sun, or --set and --labels")
    spectra = gathered(data, hints, f"draper zero-point {artifact} SPECTRA... -o FOLDER")
    known: Any = "sun" if sun else None
    if values or labels is not None:
        names = (*model.labels.names, *(f"{name}_err" for name in model.labels.names))
        known = label_columns(labels, values, names)
    model.zero_point(spectra, known, fit, lines=lines)
    model.save(out, overwrite=overwrite)
    facts = model.training["zero_point"]
    if json:
        say_json({"path": out, **facts})
        return
    title = f"zero point of {facts['stars']} star{'s' * (facts['stars'] > 1)}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("", "stars", "off before", "subtracted", "error", "scatter", ""):
        table.add_column(name, justify="left" if name == "" else "right")
    for name, own in facts["labels"].items():
        numbers = (f"{own[key]:.3g}" for key in ("before", "offset", "error", "scatter"))
        table.add_row(escape(name), str(own["stars"]), *numbers, model.labels[name].unit)
    say(table)
    if facts["lines"]:
        say("lines were corrected; what is subtracted is what labels are off with them")
    if facts["left_aside"]:
        say(f"left aside, as they lie outside the emulator's labels: {facts['left_aside']:,}")
    say(escape(f"written to {out}/"))
