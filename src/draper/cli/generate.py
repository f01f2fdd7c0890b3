"""``draper generate``: spectra that a trained model makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from draper.cli.model import Hints, Json, Output, chosen, gathered, method, opened
from draper.cli.output import say, say_json
from draper.configs.read import ReadConfig
from draper.errors import DraperError, did_you_mean

if TYPE_CHECKING:
    from draper.data.spectra import Spectra


def generate(
    artifact: Path,
    *data: Path,
    out: Output,
    labels: Path | None = None,
    values: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    vsini: float | None = None,
    vmac: float | None = None,
    resolving_power: float | None = None,
    rv: float | None = None,
    grid: Path | None = None,
    hints: Hints = ReadConfig(),  # noqa: B008
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Make spectra: of labels by an emulator, of other spectra by a model that rebuilds them.

    Example: draper generate model/ --set teff=5777 logg=4.44 fe_h=0 --vsini 5 -o sun.h5

    Example: draper generate model/ stars.h5 -o rebuilt.h5

    Example: draper generate model/ stars.h5 -o hotter.h5 --set teff=6500

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra, for a model that rebuilds them; one that knows labels gives them those that are set.
    out
        The file to write; the suffix says the format.
    labels
        A table of labels, one row for each spectrum (CSV, ECSV, FITS, VOTable).
    values
        Labels that are the same for all: NAME=VALUE, or NAME=VALUE,VALUE,... for several spectra.
    vsini
        Rotation to broaden by [km/s].
    vmac
        Macroturbulence to broaden by [km/s].
    resolving_power
        lambda / FWHM of what comes out.
    rv
        Radial velocity [km/s].
    grid
        A file of spectra on whose pixels the new ones are wanted.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw the first spectra, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    from draper.data.export import write
    from draper.data.io import read

    model = opened(artifact, "generate")
    pixels = None if grid is None else read(grid, **hints.model_dump(exclude_unset=True)).grid
    if plot is not None:
        from draper.plots.style import drawable

        drawable(plot)
    options = chosen(
        model, "generate", vsini=vsini, vmac=vmac, resolving_power=resolving_power, rv=rv, grid=pixels
    )
    if model.config.generate_from == ("labels",):
        if data:
            raise DraperError(
                "this model makes spectra of labels, not of spectra", given=", ".join(map(str, data)),
                hint="--labels TABLE, or --set teff=5777 ...",
            )  # fmt: skip
        table = label_columns(labels, values, model.labels.names, tuple(options))
        made: Spectra = method(model, "generate")(table, **options)
    elif model.config.generate_from == ("spectra", "labels"):
        table = label_columns(labels, values, model.labels.names, tuple(options)) if labels or values else {}
        table = {name: column for name, column in table.items() if name in model.labels.names}
        if labels and not table:
            raise DraperError("the table has no label of the model", given=labels,
                              expected=", ".join(model.labels.names))  # fmt: skip
        spectra = gathered(data, hints, f"draper generate {artifact} DATA... -o OUT --set teff=6500")
        made = method(model, "generate")(spectra, table, **options)
    else:
        if labels is not None or values:
            raise DraperError(
                f"a model of the kind '{model.name}' makes spectra of spectra, not of labels",
                given="--labels" if labels is not None else "--set",
                hint=f"draper generate {artifact} DATA...",
            )  # fmt: skip
        spectra = gathered(data, hints, f"draper generate {artifact} DATA... -o OUT")
        made = method(model, "generate")(spectra, **options)
    write(made, out)
    if plot is not None:
        from draper.plots.style import save

        save(made.plot(), plot)
    outside = {
        name: int(column.sum())
        for name, column in made.table.items()
        if name.startswith("outside") and column.dtype == bool
    }
    if json:
        say_json({"path": out, "spectra": len(made), "grid": repr(made.grid), **outside})
        return
    say(escape(f"{len(made):,} spectra written to {out}"))
    for name, count in outside.items():
        if count:
            say(escape(f"{count:,} lie outside of what the model has learnt ({name}): do not trust them"))


def label_columns(
    labels: Path | None, values: tuple[str, ...], names: tuple[str, ...], options: tuple[str, ...]
) -> dict[str, Any]:
    """Return columns of labels from a table, and from NAME=VALUE."""
    from draper.data.join import read_table
    from draper.data.labels import canonical

    table: dict[str, Any] = {}
    if labels is not None:
        table = {canonical(name): column for name, column in read_table(labels).items()}
        table = {name: column for name, column in table.items() if name not in options}
    for text in values:
        name, _, value = text.partition("=")
        try:
            numbers = [float(one) for one in value.split(",")]
        except ValueError:
            raise DraperError(
                "this sets no label", given=text, expected="NAME=VALUE, such as teff=5777"
            ) from None
        if canonical(name) not in names:
            raise DraperError(
                "the model has no such label",
                given=name,
                expected=", ".join(names),
                hint=did_you_mean(name, names),
            )
        table[canonical(name)] = numbers
    if not table:
        raise DraperError(
            "say which labels the spectra are to have", expected=", ".join(names),
            hint="--set " + " ".join(f"{name}=..." for name in names) + ", or --labels TABLE",
        )  # fmt: skip
    return table
