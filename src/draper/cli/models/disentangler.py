"""What latents tell, and how they lie: ``draper leakage`` and ``draper swap``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators
from rich.markup import escape

from draper.cli.model import gathered, opened
from draper.cli.output import say, say_json
from draper.cli.parameters import Hints, Json, Output
from draper.configs.fit import FitConfig
from draper.configs.read import ReadConfig

if TYPE_CHECKING:
    pass


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
    json: Json = False,
) -> None:
    """Measure what latents still tell of removed labels, and of kept ones, by fresh probes.

    Example: draper leakage model/ test.h5 -o leakage.json --plot leakage.png

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra with labels, which the model has not seen. Probes learn from 60 % of the stars and
        are judged on the others.
    out
        All figures as .json, or the table as .csv, .ecsv or .fits.
    truth
        End of the names of the columns with true labels: _true in a simulated survey.
    probes
        Which: ridge, boosting, mlp.
    seeds
        How often each probe learns, with other random numbers.
    seed
        The first seed; it also divides the stars.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw floor, ceiling and what each probe reads, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    from draper.results.table import writable

    writable(out, also=(".json",))
    if plot is not None:
        from draper.plots.style import drawable

        drawable(plot)
    model = opened(artifact, "leakage")
    spectra = gathered(data, hints, f"draper leakage {artifact} DATA... -o REPORT.json")
    train, test = spectra.split(0.6, seed=seed)
    numbers = tuple(range(seed, seed + seeds))
    report = model.leakage(train, test, truth=truth, probes=probes, seeds=numbers)
    report.write(out)
    if plot is not None:
        from draper.plots.leakage import plot_leakage
        from draper.plots.style import save

        save(plot_leakage(report), plot)
    if json:
        say_json({"path": out, **report.to_json()})
        return
    sys.stdout.write(f"{report!r}\n")
    say(escape(f"written to {', '.join(str(path) for path in (out, plot) if path is not None)}"))


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
    json: Json = False,
) -> None:
    """Give stars labels of others like them, and read the changes back by an emulator's fit.

    Example: draper swap model/ test.h5 -o swap.json --plot swap.png --truth _true

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra with labels, which the model has not seen.
    out
        The figures as .json, or single changes as .csv, .ecsv or .fits.
    emulator
        An emulator of such spectra.
    number
        Spectra that are relabelled, at most; all of them may give labels.
    truth
        End of the names of the columns with true labels: _true in a simulated survey.
    seed
        Of the choice of stars and of who gives.
    fit
        How labels are fitted.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw the changes read back against those asked for, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    import numpy as np

    from draper.results.table import writable

    writable(out, also=(".json",))
    if plot is not None:
        from draper.plots.style import drawable

        drawable(plot)
    model = opened(artifact, "swap")
    reader = opened(emulator, "predict")
    spectra = gathered(data, hints, f"draper swap {artifact} DATA... -o SWAP.json")
    some = np.sort(np.random.default_rng(seed).permutation(len(spectra))[:number])
    found = model.swap(spectra[some], spectra, reader, fit, truth=truth, seed=seed)
    found.write(out)
    if plot is not None:
        from draper.latents.swap import changes_by_label
        from draper.plots.relabelled import plot_swap
        from draper.plots.style import save

        save(plot_swap(*changes_by_label(found)), plot)
    if json:
        say_json({"path": out, **found.to_json()})
        return
    sys.stdout.write(f"{found!r}\n")
    say(escape(f"written to {', '.join(str(path) for path in (out, plot) if path is not None)}"))
