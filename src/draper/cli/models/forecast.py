"""``draper information``: what a spectrograph can measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from draper.cli.labels import Values, label_columns
from draper.cli.model import opened
from draper.cli.output import say, say_json
from draper.cli.parameters import Json, Output
from draper.configs.fit import FitConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.grid import Grid
    from draper.results.information import Information

MOTIONS = ("rv", "vsini", "vmac")
"""What a star may have beside the labels of a model."""

SHOWN = 6
"""Stars whose bounds are printed."""


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
    json: Json = False,
) -> None:
    """Say how well labels can be known from spectra: the smallest errors that any fit can have.

    Example: draper information model/ --set teff=5777 logg=4.44 fe_h=0 --snr 50 100 200

    Example: draper information model/ --labels stars.csv --grid 8460,8700,0.25 --plot gradients.png

    Parameters
    ----------
    artifact
        The folder of an emulator.
    values
        Labels: NAME=VALUE, or NAME=VALUE,VALUE,... for several stars; rv, vsini and vmac are known, too.
    labels
        A table of labels, one row for each star (CSV, ECSV, FITS, VOTable).
    snr
        Signal-to-noise ratio per pixel; several for one star, or one for each star.
    resolving_power
        lambda / FWHM of the spectrograph; that of the emulator unless given.
    grid
        Its pixels: LOW,HIGH,STEP in Angstrom, vacuum; the emulator's unless given.
    fit
        How spectra will be fitted: what is fixed, free, or known within priors.
    out
        A table to write: .csv, .ecsv or .fits.
    plot
        Draw how the first spectrum changes with its labels, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    if out is not None:
        from draper.results.table import writable

        writable(out)
    model = opened(artifact, "information")
    if plot is not None:
        from draper.plots.style import drawable

        drawable(plot)
    pixels = None if grid is None else grid_of(grid)
    names = (*model.labels.names, *(name for name in MOTIONS if name not in model.labels.names))
    table = label_columns(labels, values, names)
    found: Information = model.information(
        table, fit, snr=list(snr), resolving_power=resolving_power, grid=pixels
    )
    if out is not None:
        found.write(out)
    if plot is not None:
        from draper.plots.gradients import plot_gradients
        from draper.plots.style import save

        save(plot_gradients(found), plot)
    if json:
        say_json(as_json(found))
        return
    for star in range(min(len(found), SHOWN)):
        title = f"star {star + 1}" if len(snr) == 1 else f"S/N {snr[star]:g}"
        say(bounds(found, star, title if len(found) > 1 else None))
        if found.outside[star]:
            say("outside of what the model has learnt: do not trust it")
    if len(found) > SHOWN and out is None:
        say(f"and {len(found) - SHOWN:,} stars more: --out TABLE writes all")
    for path in (out, plot):
        if path is not None:
            say(escape(f"written to {path}"))


def bounds(found: Information, star: int, title: str | None) -> Table:
    """Return what can be known of one star."""
    from draper.plots.recovery import rounded

    able = found.measurable()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("", "value", "smallest error", "all else known", ""):
        table.add_column(name)
    for number, label in enumerate(found.labels):
        errors = (found.bound[star, number], found.conditional[star, number])
        seen = "" if label.name not in able else "measured" if able[label.name][star] else "too weak"
        table.add_row(
            escape(label.name),
            f"{found.values[star, number]:.6g}",
            *(f"{rounded(float(error), signed=False)} {label.unit}" for error in errors),
            seen,
        )
    return table


def as_json(found: Information) -> dict[str, object]:
    """Return the bounds as plain values."""
    able = found.measurable()
    return {
        "grid": repr(found.grid),
        "outside": found.outside.tolist(),
        "labels": {
            label.name: {
                "unit": label.unit,
                "value": found.values[:, number].tolist(),
                "bound": found.bound[:, number].tolist(),
                "conditional": found.conditional[:, number].tolist(),
                **({"measurable": able[label.name].tolist()} if label.name in able else {}),
            }
            for number, label in enumerate(found.labels)
        },
    }


def grid_of(text: str) -> Grid:
    """Return the pixels that LOW,HIGH,STEP names."""
    from draper.data.grid import Grid

    try:
        low, high, step = (float(part) for part in text.split(","))
    except ValueError:
        raise DraperError(
            "this names no pixels", given=text, expected="LOW,HIGH,STEP in Angstrom, such as 8460,8700,0.25"
        ) from None
    return Grid.linear(low, high, step, medium="vacuum")
