"""``draper information``: what a spectrograph can measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from draper.cli.labels import Values, completed, label_columns
from draper.cli.model import opened
from draper.cli.output import require_figure, require_tables, results, say, say_json
from draper.cli.parameters import Json, Output, Overwrite
from draper.configs.fit import FitConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.grid import Grid
    from draper.results.information import Information

MOTIONS = ("rv", "vsini", "vmac")
"""Velocity and widths that a star may have beside the labels of a model."""

SHOWN = 6
"""Largest number of stars whose bounds are printed."""


def information(
    artifact: Path,
    *,
    values: Values = (),
    labels: Path | None = None,
    snr: Annotated[tuple[float, ...], Parameter(name="--snr")] = (100.0,),
    resolving_power: float | None = None,
    grid: str | None = None,
    fit: FitConfig = FitConfig(),  # noqa: B008
    out: Output | None = None,
    plot: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compute the smallest errors that any fit of labels can have (Cramer-Rao bound).

    Example: draper information model/ --set teff=5777 logg=4.44 fe_h=0 --snr 50 100 200

    Example: draper information model/ --labels stars.csv --grid 8460,8700,0.25 --plot gradients.png

    Parameters
    ----------
    artifact
        The folder of an emulator.
    values
        Labels: NAME=VALUE, or NAME=VALUE,VALUE,... for several stars; rv, vsini and vmac are possible, too.
    labels
        A table of labels, one row for each star (CSV, ECSV, FITS, VOTable).
    snr
        Signal-to-noise ratio per pixel; several for one star, or one for each star.
    resolving_power
        lambda / FWHM of the spectrograph; that of the emulator by default.
    grid
        Pixels of the spectrograph: LOW,HIGH,STEP in vacuum Angstrom; the emulator's by default.
    fit
        How spectra will be fitted: what is fixed, free, or has a prior.
    out
        A table to write: .csv, .ecsv, .fits or .parquet.
    plot
        A figure to draw of how the first spectrum changes with its labels: .png, .pdf or .svg.
    json
        Print JSON.
    """
    require_tables(out, overwrite=overwrite)
    require_figure(plot, overwrite=overwrite)
    model = opened(artifact, "information")
    pixels = None if grid is None else grid_of(grid)
    names = (*model.labels.names, *(name for name in MOTIONS if name not in model.labels.names))
    table = label_columns(labels, values, names)
    with completed(f"draper information {artifact}", labels, values):
        result: Information = model.information(
            table, fit, snr=list(snr), resolving_power=resolving_power, grid=pixels
        )
    with results(overwrite) as files:
        if out is not None:
            files.write(result.write, out)
        if plot is not None:
            from draper.plots.gradients import plot_gradients

            files.save(plot_gradients(result), plot)
    if json:
        say_json(as_json(result))
        return
    for star in range(min(len(result), SHOWN)):
        title = f"star {star + 1}" if len(snr) == 1 else f"S/N {snr[star]:g}"
        say(bounds(result, star, title if len(result) > 1 else None))
        if result.outside[star]:
            say("outside the labels of the training spectra: do not trust this bound")
    if len(result) > SHOWN and out is None:
        say(f"and {len(result) - SHOWN:,} stars more: --out TABLE writes all")
    for path in (out, plot):
        if path is not None:
            say(escape(f"written to {path}"))


def bounds(result: Information, star: int, title: str | None) -> Table:
    """Return the table of the bounds of one star."""
    from draper.plots.names import rounded

    able = result.measurable()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("", "value", "smallest error", "all else known", ""):
        table.add_column(name)
    for number, label in enumerate(result.labels):
        errors = (result.bound[star, number], result.conditional[star, number])
        verdict = "" if label.name not in able else "measured" if able[label.name][star] else "too weak"
        table.add_row(
            escape(label.name),
            f"{result.values[star, number]:.6g}",
            *(f"{rounded(float(error), signed=False)} {label.unit}" for error in errors),
            verdict,
        )
    return table


def as_json(result: Information) -> dict[str, object]:
    """Return the bounds as plain values."""
    able = result.measurable()
    return {
        "grid": repr(result.grid),
        "outside": result.outside.tolist(),
        "labels": {
            label.name: {
                "unit": label.unit,
                "value": result.values[:, number].tolist(),
                "bound": result.bound[:, number].tolist(),
                "conditional": result.conditional[:, number].tolist(),
                **({"measurable": able[label.name].tolist()} if label.name in able else {}),
            }
            for number, label in enumerate(result.labels)
        },
    }


def grid_of(text: str) -> Grid:
    """Return the pixels of LOW,HIGH,STEP."""
    from draper.data.grid import Grid

    try:
        low, high, step = (float(part) for part in text.split(","))
    except ValueError:
        raise DraperError(
            "cannot read the grid", given=text, expected="LOW,HIGH,STEP in Angstrom, such as 8460,8700,0.25"
        ) from None
    return Grid.linear(low, high, step, medium="vacuum")
