"""Leakage and swap test of latents: ``draper leakage`` and ``draper swap``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators
from rich.markup import escape

from draper.cli.model import gathered, opened
from draper.cli.output import require_figure, require_tables, results, say, say_json
from draper.cli.parameters import Hints, Json, Output, Overwrite
from draper.cli.progress import progress
from draper.configs.fit import FitConfig
from draper.configs.read import ReadConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from draper.latents.leakage import Leakage
    from draper.latents.swap import Swap


def leakage(
    artifact: Path,
    *data: Path,
    out: Output,
    truth: str = "",
    probes: tuple[str, ...] = ("ridge", "boosting", "mlp"),
    seeds: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 3,
    seed: int = 0,
    hints: Hints = ReadConfig(),  # noqa: B008
    plot: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure the leakage: how well fresh probes predict removed and kept labels from the latents.

    Example: draper leakage model/ test.h5 -o leakage.json --plot leakage.png

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra with labels, which the model has not seen. Probes learn one half of the stars and are
        tested on the other, and the other way round.
    out
        All figures as .json, or the table as .csv, .ecsv, .fits or .parquet.
    truth
        Suffix of the columns with true labels, such as _true.
    probes
        Kinds of probes: ridge, boosting, mlp.
    seeds
        Number of trainings of each probe, with different random numbers.
    seed
        First seed; it also decides which stars are in which half.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw floor, ceiling and R2 of each probe, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    _check_paths(out, plot, overwrite)
    model = opened(artifact, "leakage")
    spectra = gathered(data, hints, f"draper leakage {artifact} DATA... -o REPORT.json")
    numbers = tuple(range(seed, seed + seeds))
    with progress("training probes") as done:
        report: Leakage = model.leakage(spectra, truth=truth, probes=probes, seeds=numbers, progress=done)

    def draw() -> Figure:
        from draper.plots.leakage import plot_leakage

        return plot_leakage(report)

    _write(report, draw, out, plot, overwrite, json)


def swap(
    artifact: Path,
    *data: Path,
    out: Output,
    emulator: Path = Path("builtin:rvs-emulator"),
    number: Annotated[int, Parameter(name=["--number", "-n"])] = 400,
    truth: str = "",
    seed: int = 0,
    fit: FitConfig = FitConfig(),  # noqa: B008
    hints: Hints = ReadConfig(),  # noqa: B008
    plot: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Swap test: change labels of stars to those of similar stars, and measure them by an emulator's fit.

    Example: draper swap model/ test.h5 -o swap.json --plot swap.png --truth _true

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra with labels, which the model has not seen.
    out
        The figures as .json, or single changes as .csv, .ecsv, .fits or .parquet.
    emulator
        An emulator of such spectra.
    number
        Maximum number of spectra that are relabelled; all of them may be donors of labels.
    truth
        Suffix of the columns with true labels, such as _true.
    seed
        Seed of the choice of stars and of donors.
    fit
        Options of the emulator's fit.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw measured against requested changes, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    import numpy as np

    _check_paths(out, plot, overwrite)
    model = opened(artifact, "swap")
    fitter = opened(emulator, "predict")
    spectra = gathered(data, hints, f"draper swap {artifact} DATA... -o SWAP.json")
    rows = np.sort(np.random.default_rng(seed).permutation(len(spectra))[:number])
    with progress("swapping labels"):
        report: Swap = model.swap(spectra[rows], spectra, fitter, fit, truth=truth, seed=seed)

    def draw() -> Figure:
        from draper.latents.swap import changes_by_label
        from draper.plots.relabelled import plot_swap

        return plot_swap(*changes_by_label(report))

    _write(report, draw, out, plot, overwrite, json)


def _check_paths(out: Path, plot: Path | None, overwrite: bool) -> None:
    """Refuse files that cannot be written, before anything is computed."""
    require_tables(out, also=(".json",), overwrite=overwrite)
    require_figure(plot, overwrite=overwrite)


def _write(
    report: Leakage | Swap,
    draw: Callable[[], Figure],
    out: Path,
    plot: Path | None,
    overwrite: bool,
    json: bool,
) -> None:
    """Write a report and its plot, and print it."""
    with results(overwrite) as files:
        files.write(report.write, out)
        if plot is not None:
            files.save(draw(), plot)
    if json:
        say_json({"path": out, **report.to_json()})
        return
    sys.stdout.write(f"{report!r}\n")
    say(escape(f"written to {', '.join(str(path) for path in (out, plot) if path is not None)}"))
