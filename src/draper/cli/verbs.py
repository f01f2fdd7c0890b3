"""What a trained model does: ``draper predict``, ``encode``, ``evaluate`` and ``cite``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from draper.cli.model import ModelOptions, catalogued, gathered, gathered_sets, opened
from draper.cli.output import (
    Results,
    require_all_used,
    require_figure,
    require_tables,
    results,
    say,
    say_json,
    two_columns,
)
from draper.cli.parameters import Hints, Json, Output, Overwrite, SkipBad
from draper.cli.progress import progress
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.spectra import Spectra
    from draper.results.estimates import Estimates

SHOWN = 3
"""Spectra that a plot shows."""

KINDS = ("", "-spectrum")
"""What is added to the name of a figure, and to that of one of spectra where there are two kinds."""


def predict(
    artifact: Path,
    *data: Path,
    out: Output,
    catalogue: tuple[Path, ...] = (),
    options: ModelOptions = None,
    hints: Hints = ReadConfig(),  # noqa: B008
    posterior: Path | None = None,
    group_by: str | None = None,
    jointly: bool = False,
    skip_bad: SkipBad = False,
    plot: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Predict labels of spectra, with errors and flags.

    `draper predict ARTIFACT --help` also shows the options of that model.

    Example: draper predict model/ night1/*.fits -o labels.csv --fit.rv 0 --fit.continuum 2

    Example: draper predict model/ visits.h5 -o stars.csv --group-by id

    Example: draper predict model/ blue.fits red.fits -o star.csv --jointly --fit.velocities one

    Parameters
    ----------
    artifact
        Folder of the model, or builtin:NAME.
    data
        Files of spectra.
    out
        Table of labels to write (.csv, .ecsv, .fits or .parquet); or .npz or .h5 as of --posterior.
    catalogue
        Tables of objects without spectra, such as photometry (.csv, .ecsv, .fits, .vot, .parquet), in place
        of DATA, for models that need no spectrum.
    hints
        How files of spectra are read, where they do not say it themselves; of tables of a catalogue, which
        columns are joined, renamed, computed and selected.
    posterior
        File to write, too, for what the table of labels does not hold. .npz and .h5 hold everything:
        covariances, and samples and quantiles where the model has them; Estimates.load reads them. .csv,
        .ecsv, .fits and .parquet hold the samples, with a row for each draw.
    group_by
        Column whose values name the stars: spectra that share one, of whatever files and wavelengths, are
        exposures or arms that are fitted together; the table has one row a star. Emulators can.
    jointly
        The same for files of one spectrum each, which are all of one star; or of spectra that share an id.
    skip_bad
        Skip files that cannot be read or joined to the others, and list them at the end; the exit code is 4
        if there are any. Tables of --catalogue are never skipped.
    plot
        Figure of the first spectrum that has estimates, with the model's, to write (.png, .pdf or .svg);
        NAME-2 and NAME-3 show the next two. Where the model gives samples it is their corner plot, and
        NAME-spectrum shows spectra.
    json
        Print the result as JSON.
    """
    from draper.results.arrays import SUFFIXES

    require_tables(out, posterior, also=SUFFIXES, overwrite=overwrite)
    if plot is not None:
        for row, kind in product(range(SHOWN), KINDS):
            require_figure(numbered(plot, row, kind), overwrite=overwrite)
    model = opened(artifact, "predict")
    if catalogue and data:
        raise DraperError(
            "spectra and a catalogue without spectra are predicted one after the other",
            given=f"{data[0]} and --catalogue {catalogue[0]}",
            hint="leave out one of them",
        )
    usage = f"draper predict {artifact} DATA... -o TABLE"
    sets: list[Spectra] = []
    if group_by is not None or jointly:
        flags = {"--group-by": group_by, "--jointly": jointly, "--catalogue": catalogue, "--plot": plot}
        given = [flag for flag, value in flags.items() if value]
        if len(given) > 1:
            raise DraperError(f"{given[0]} does not go with {given[1]}", hint=f"leave out {given[1]}")
        sets = exposures(model, data, hints, usage, jointly=jointly, skip_bad=skip_bad)
        spectra = sets[0]
    elif catalogue:
        spectra = catalogued(model, catalogue, hints)
    else:
        spectra = gathered(data, hints, usage, skip_bad=skip_bad)
    if plot is not None and not model.draws(spectra, options):
        raise DraperError(
            f"the model '{model.name}' has no version of these spectra to draw",
            given=f"--plot {plot}",
            hint="leave out --plot",
        )
    is_table = posterior is not None and posterior.suffix not in SUFFIXES
    if is_table and len(spectra) and model.predict(spectra[:1], options).samples is None:
        raise DraperError(
            f"the model '{model.name}' draws no samples",
            given=f"--posterior {posterior}",
            expected=", ".join(SUFFIXES),
            hint="these hold what it knows of the posterior",
        )
    estimates: Estimates
    with progress("predicting") as done:
        if sets:
            from draper.models.joint import predict_together

            estimates = predict_together(model, sets, group_by or "id", options, progress=done)
        else:
            estimates = model.predict(spectra, options, progress=done)
    drawn = []
    with results(overwrite) as files:
        written = [files.write(estimates.save if out.suffix in SUFFIXES else estimates.write, out)]
        if posterior is not None:
            written.append(files.write(estimates.write_samples if is_table else estimates.save, posterior))
        if plot is not None:
            shown = [row for row, is_empty in enumerate(estimates.flags["no_data"]) if not is_empty][:SHOWN]
            drawn = figures(model, estimates.rows(shown), spectra[shown], options, plot, files)
    flagged = {name: int(values.sum()) for name, values in estimates.flags.items()}
    skipped = spectra.meta.get("skipped", [])
    if json:
        labels = list(estimates.labels.names)
        paths = {"path": out, "posterior": posterior, "plots": drawn}
        more = {"skipped": skipped} if skip_bad else {}
        say_json({**paths, "spectra": len(estimates), "labels": labels, "flags": flagged, **more})
        require_all_used(skipped)
        return
    raised = {f"flagged {name}": f"{count:,}" for name, count in flagged.items() if count}
    what = "stars" if sets else "spectra"
    rows = {what: f"{len(estimates):,}", "labels": ", ".join(estimates.labels.names), **raised}
    say(two_columns(rows))
    say(escape(f"written to {', '.join(map(str, [*written, *drawn]))}"))
    if plot is not None and not drawn:
        say("nothing is drawn: no spectrum has an estimate")
    require_all_used(skipped)


def encode(
    artifact: Path,
    *data: Path,
    out: Output,
    options: ModelOptions = None,
    hints: Hints = ReadConfig(),  # noqa: B008
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write the latent vectors of spectra.

    `draper encode ARTIFACT --help` also shows the options of that model.

    Example: draper encode model/ stars.h5 -o latents.npz

    Parameters
    ----------
    artifact
        Folder of the model, or builtin:NAME.
    data
        Files of spectra.
    out
        File to write: arrays id and latent (.npz or .h5), or a table (.csv, .ecsv, .fits or .parquet).
    hints
        How files of spectra are read, where they do not say it themselves.
    json
        Print the result as JSON.
    """
    from draper.results.arrays import SUFFIXES, write_arrays
    from draper.results.table import write_table

    require_tables(out, also=SUFFIXES, overwrite=overwrite)
    model = opened(artifact, "encode")
    spectra = gathered(data, hints, f"draper encode {artifact} DATA... -o OUT")
    with progress("encoding") as done:
        latent = model.encode(spectra, options, progress=done)
    with results(overwrite) as files:
        if out.suffix in SUFFIXES:
            files.write(partial(write_arrays, {"id": spectra.ids, "latent": latent}), out)
        else:
            columns = {f"latent_{number}": latent[:, number] for number in range(latent.shape[1])}
            files.write(partial(write_table, {"id": spectra.ids, **columns}, units={}), out)
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
    by: tuple[str, ...] = (),
    options: ModelOptions = None,
    hints: Hints = ReadConfig(),  # noqa: B008
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Evaluate a model on spectra whose labels are known, and on which it was not trained.

    `draper evaluate ARTIFACT --help` also shows the options of that model.

    Example: draper evaluate model/ test.h5 -o report.html --snr 100

    Parameters
    ----------
    artifact
        Folder of the model, or builtin:NAME.
    data
        Files of spectra with true labels as columns.
    out
        Report to write: .html (one page), .json, or a folder for both with plots and the table of labels.
    snr
        Signal-to-noise ratio per pixel of noise that is added before labels are predicted, for computed
        spectra; no noise unless given.
    seed
        Random seed of the noise.
    by
        Columns by which figures of merit are given, too, in five groups of equal size, such as g_mag.
    hints
        How files of spectra are read, where they do not say it themselves.
    json
        Print the result as JSON.
    """
    from draper.results.report import writable

    writable(out, overwrite=overwrite)
    model = opened(artifact, "evaluate")
    spectra = gathered(data, hints, f"draper evaluate {artifact} DATA... -o REPORT.html")
    with progress("evaluating") as done:
        report = model.evaluate(spectra, options, snr=snr, seed=seed, by=by, progress=done)
    with results(overwrite) as files:
        files.write(report.write, out)
    figures = report.to_json()
    if json:
        say_json({"path": out, **figures})
        return
    rows = {
        name: f"bias {of['bias']:+.3g}, scatter {of['scatter']:.3g}; "
        f"always predicting the mean: {of['baseline']:.3g}"
        for name, of in figures["labels"].items()
        if of["number"]
    }
    if figures["spectra"] and figures["spectra"]["rms"] is not None:
        rows["spectra"] = f"rms {figures['spectra']['rms']:.3g}, made from {figures['spectra']['made_from']}"
    if figures["flags"]:
        rows["flagged"] = f"{figures['flagged']:.1%}"
    say(two_columns(rows), *(escape(note) for note in report.notes), escape(f"report written to {out}"))


def cite(artifact: Path, *, json: Json = False) -> None:
    """Print BibTeX of what to cite for a model.

    Example: draper cite model/

    Parameters
    ----------
    artifact
        Folder of the model, or builtin:NAME.
    json
        Print the result as JSON.
    """
    from draper.models.base import load

    text = load(artifact).citation()
    if json:
        say_json({"bibtex": text})
    else:
        sys.stdout.write(f"{text}\n")


def exposures(
    model: Any, data: Sequence[Path], hints: ReadConfig, usage: str, *, jointly: bool, skip_bad: bool
) -> list[Spectra]:
    """Return the spectra of each file; with ``jointly``, files of one spectrum each are of one star."""
    from draper.models.joint import require_exposures

    require_exposures(model)
    sets = gathered_sets(data, hints, usage, skip_bad=skip_bad)
    if jointly and all(len(spectra) == 1 for spectra in sets):
        star = str(sets[0].ids[0])
        return [spectra.with_columns(id=[star]) for spectra in sets]
    return sets


def figures(
    model: Any, estimates: Estimates, spectra: Spectra, options: Any, path: Path, files: Results
) -> list[Path]:
    """Draw spectra with the model's version of them, and samples where there are any; return the files."""
    drawn, kind = [], KINDS[0]
    if estimates.kind == "samples":
        rows = [row for row in range(len(spectra)) if estimates.sigma[row].any()]
        drawn = [files.save(estimates.corner(row), numbered(path, row, kind)) for row in rows]
        kind = KINDS[1]
    pictures = model.pictures(spectra, estimates, options)
    return drawn + [files.save(figure, numbered(path, row, kind)) for row, figure in enumerate(pictures)]


def numbered(path: Path, row: int, kind: str) -> Path:
    """Return the file of the figure of one of several spectra."""
    return path.with_stem(f"{path.stem}{kind}" if row == 0 else f"{path.stem}{kind}-{row + 1}")
