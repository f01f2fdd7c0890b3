"""What a trained model does: ``draper predict``, ``encode``, ``evaluate`` and ``cite``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from draper.cli.model import Fit, Hints, Json, Output, chosen, gathered, method, noted, opened, progress
from draper.cli.output import say, say_json, two_columns
from draper.configs.fit import FitConfig
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.spectra import Spectra
    from draper.models.base import Model
    from draper.results.estimates import Estimates

SHOWN = 3
"""Spectra that a plot shows."""


def predict(
    artifact: Path,
    *data: Path,
    out: Output,
    fit: Fit = FitConfig(),  # noqa: B008
    hints: Hints = ReadConfig(),  # noqa: B008
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Find the labels of spectra, with errors and flags.

    Example: draper predict model/ night1/*.fits -o labels.csv --fit.rv 0 --fit.continuum 2

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra.
    out
        The table to write: .csv, .ecsv or .fits.
    fit
        How an emulator is fitted; other models do not fit.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw the first spectra with the model's, as .png, .pdf or .svg; further ones get numbers.
    json
        Print JSON.
    """
    from draper.results.table import writable

    writable(out)
    model = opened(artifact, "predict")
    options = chosen(model, "predict", fit=fit)
    if plot is not None:
        from draper.plots.style import drawable

        drawable(plot)
        if "generate" not in model.verbs:
            raise DraperError(
                f"a model of the kind '{model.name}' makes no spectra to draw", given=f"--plot {plot}",
                hint="leave out --plot",
            )  # fmt: skip
    spectra = gathered(data, hints, f"draper predict {artifact} DATA... -o TABLE")
    with progress("predicting") as note:
        estimates: Estimates = method(model, "predict")(spectra, **options, **noted(model, "predict", note))
    estimates.write(out)
    drawn = [] if plot is None else overlays(model, estimates, spectra[:SHOWN], options, plot)
    flagged = {name: int(values.sum()) for name, values in estimates.flags.items()}
    if json:
        labels = list(estimates.labels.names)
        say_json({"path": out, "spectra": len(estimates), "labels": labels, "flags": flagged, "plots": drawn})
        return
    raised = {f"flagged {name}": f"{count:,}" for name, count in flagged.items() if count}
    rows = {"spectra": f"{len(estimates):,}", "labels": ", ".join(estimates.labels.names), **raised}
    say(two_columns(rows))
    say(escape(f"written to {', '.join(map(str, [out, *drawn]))}"))


def encode(
    artifact: Path,
    *data: Path,
    out: Output,
    hints: Hints = ReadConfig(),  # noqa: B008
    json: Json = False,
) -> None:
    """Write the latent vectors of spectra.

    Example: draper encode model/ stars.h5 -o latents.npz

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra.
    out
        The file to write: .npz (arrays id and latent), or a table (.csv, .ecsv, .fits).
    hints
        What the files do not say themselves, and what becomes of their rows.
    json
        Print JSON.
    """
    import numpy as np

    from draper.results.table import writable, write_table

    writable(out, also=(".npz",))
    model = opened(artifact, "encode")
    spectra = gathered(data, hints, f"draper encode {artifact} DATA... -o OUT")
    latent = method(model, "encode")(spectra)
    if out.suffix == ".npz":
        np.savez_compressed(out, id=spectra.ids, latent=latent)
    else:
        columns = {f"latent_{number}": latent[:, number] for number in range(latent.shape[1])}
        write_table({"id": spectra.ids, **columns}, out, units={})
    if json:
        say_json({"path": out, "spectra": len(latent), "width": latent.shape[1]})
    else:
        say(escape(f"{len(latent):,} vectors of {latent.shape[1]} numbers written to {out}"))


def evaluate(
    artifact: Path,
    *data: Path,
    out: Output,
    snr: Annotated[float | None, Parameter(name="--snr")] = None,
    seed: int = 0,
    fit: Fit = FitConfig(),  # noqa: B008
    hints: Hints = ReadConfig(),  # noqa: B008
    json: Json = False,
) -> None:
    """Judge a model by spectra whose labels are known, and which it has not seen.

    Example: draper evaluate model/ test.h5 -o report.html --snr 100

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra with true labels as columns.
    out
        The report: .html (one page), .json, or a folder for both with plots and the table of labels.
    snr
        Add noise of this signal-to-noise ratio per pixel before labels are predicted, for computed spectra.
    seed
        Of the noise.
    fit
        How an emulator is fitted; other models do not fit.
    hints
        What the files do not say themselves, and what becomes of their rows.
    json
        Print JSON.
    """
    from draper.results.report import writable

    writable(out)
    model = opened(artifact, "evaluate")
    options = chosen(model, "predict", fit=fit)
    spectra = gathered(data, hints, f"draper evaluate {artifact} DATA... -o REPORT.html")
    with progress("evaluating") as note:
        report = model.evaluate(spectra, snr=snr, seed=seed, **options, **noted(model, "predict", note))
    report.write(out)
    found = report.to_json()
    if json:
        say_json({"path": out, **found})
        return
    rows = {
        name: f"bias {one['bias']:+.3g}, scatter {one['scatter']:.3g}, the mean has {one['baseline']:.3g}"
        for name, one in found["labels"].items()
        if one["number"]
    }
    if found["spectra"]:
        rows["spectra"] = f"rms {found['spectra']['rms']:.3g}, made from {found['spectra']['made_from']}"
    if found["flags"]:
        rows["flagged"] = f"{found['flagged']:.1%}"
    say(two_columns(rows), *(escape(note) for note in report.notes), escape(f"report written to {out}"))


def cite(artifact: Path, *, json: Json = False) -> None:
    """Print BibTeX of what to cite for a model.

    Example: draper cite model/

    Parameters
    ----------
    artifact
        The folder of the model.
    json
        Print JSON.
    """
    from draper.models.base import load

    text = load(artifact).citation()
    if json:
        say_json({"bibtex": text})
    else:
        sys.stdout.write(f"{text}\n")


def overlays(
    model: Model, estimates: Estimates, spectra: Spectra, options: Mapping[str, Any], path: Path
) -> list[Path]:
    """Draw spectra with what the model makes of them, and return the files."""
    from draper.plots.overlay import found_in, plot_overlay
    from draper.plots.style import save

    _, made = model.explain(spectra, **options)
    if made is None:
        raise DraperError(
            "this model has no spectra to draw", given=f"--plot {path}", hint="leave out --plot"
        )
    velocity = made.table.get("rv", [0.0] * len(made))
    drawn = []
    for row in range(len(spectra)):
        name = path if row == 0 else path.with_stem(f"{path.stem}-{row + 1}")
        moved = float(velocity[row]) if isfinite(velocity[row]) else 0.0
        figure = plot_overlay(spectra[row], made[row], title=found_in(estimates, row), rv=moved)
        drawn.append(save(figure, name))
    return drawn
