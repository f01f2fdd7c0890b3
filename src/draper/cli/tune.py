"""``draper tune MODEL``: search the options of a model that removes labels."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from draper.cli.model import gathered
from draper.cli.output import say, say_json
from draper.config import ModelConfig
from draper.configs.read import ReadConfig
from draper.configs.train import TrainConfig
from draper.configs.tune import Probe, TuneConfig, parsed
from draper.errors import DivergedError
from draper.registry import config_class, targets

if TYPE_CHECKING:
    from draper.results.trials import Tuning

USUAL = TuneConfig()


def make_app() -> App:
    """Return the command with a subcommand for each model that removes labels."""
    app = App(name="tune", help="Search options for faithful spectra and few traces of removed labels.")
    for name in targets():
        if "remove" in config_class(name).model_fields:
            app.command(_command(name, config_class(name)), name=name)
    return app


def _command(name: str, config: type[ModelConfig]) -> Callable[..., None]:
    def tune_model(
        *data: Path,
        out: Path,
        options: Any,
        train: Any,
        hints: Any,
        search: tuple[str, ...] = (),
        trials: int = USUAL.trials,
        valid: float = USUAL.valid,
        test: float = USUAL.test,
        probes: tuple[Probe, ...] = USUAL.probes,
        least_kept: float | None = USUAL.least_kept,
        truth: str = USUAL.truth,
        seed: int = USUAL.seed,
        resume: bool = False,
        plot: Path | None = None,
        json: bool = False,
    ) -> None:
        told = TuneConfig(
            search=parsed(search, options), trials=trials, valid=valid, test=test, probes=probes,
            least_kept=least_kept, truth=truth, seed=seed,
        )  # fmt: skip
        if plot is not None:
            from draper.plots.style import drawable

            drawable(plot)
        from draper.models.search.run import BEST, model_folder, tune

        spectra = gathered(data, hints, f"draper tune {name} DATA... -o FOLDER --remove teff --keep fe_h")
        found = tune(
            name, spectra, out, told, options, train, resume=resume,
            note=lambda state: _progress(state, trials),
        )  # fmt: skip
        if found.chosen is None:
            raise DivergedError(
                "the training of every trial diverged", given=f"{len(found.trials)} trials",
                hint="search a lower learning rate in another folder: --search learning_rate=1e-4,1e-3",
            )  # fmt: skip
        if plot is not None:
            from draper.plots.pareto import plot_pareto
            from draper.plots.style import save

            save(plot_pareto(found), plot)
        if json:
            say_json({"path": out, "best": out / BEST, **found.to_json()})
            return
        say(_table(found))
        if not found.keeps_enough:
            say(f"no trial keeps {least_kept:g} of the labels to keep")
        taken = found.chosen.number
        say(escape(f"take trial {taken}: its model is {model_folder(out, taken)}; its options train others:"))
        say(escape(f"draper train {name} DATA... -o FOLDER --config {out / BEST}"))
        if plot is not None:
            say(escape(f"drawn in {plot}"))

    tune_model.__doc__ = f"""Search options of the {name}: faithful spectra, and few traces of removed labels.

    Example: draper tune {name} stars.h5 -o search/ --remove teff --keep fe_h --search latent=8,32 rate

    Parameters
    ----------
    data
        Files of spectra, with the labels that are to be removed and kept as columns.
    out
        Folder of the search, new or empty: all trials, the best models, and best.toml, the options to take.
    search
        What is searched: NAME=LOW,HIGH, or NAME for the usual range. What suits the engine unless given; what
        is set by its own option is not searched.
    trials
        Trainings in all.
    valid
        Which fraction of the objects judges the trials.
    test
        Which fraction of the objects the search never sees; it judges the best models once, at the end.
    probes
        What tries to read labels from latents: ridge, boosting, mlp.
    least_kept
        Part of each kept label, as spectra tell it, that latents must tell for a trial to count.
    truth
        End of the names of the columns with true labels: _true in a simulated survey.
    seed
        Of the parts of the data, of the choice of trials, and of their training unless that has its own.
    resume
        Go on with the search in the folder, after an interruption or with more trials.
    plot
        Draw reconstruction against leak of all trials, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    tune_model.__annotations__ |= {
        "out": Annotated[Path, Parameter(name=["--out", "-o"])],
        "options": Annotated[config, Parameter(name="*")],
        "train": TrainConfig,
        "hints": Annotated[ReadConfig, Parameter(name="read")],
    }
    tune_model.__kwdefaults__ = {
        **(tune_model.__kwdefaults__ or {}),
        "options": config(),
        "train": TrainConfig(),
        "hints": ReadConfig(),
    }
    return tune_model


app = make_app()


def _progress(state: Tuning, trials: int) -> None:
    """Say on the error stream what a trial has come to."""
    last = state.trials[-1]
    told = "diverged"
    if last.valid is not None:
        told = f"reconstruction {last.valid.reconstruction:.4g}, leak {last.valid.leak:.3f}"
        told += f", kept {last.valid.least_kept:.3f}" if last.valid.kept else ""
    best = ", ".join(str(one.number) for one in state.front)
    sys.stderr.write(f"trial {last.number + 1}/{trials}  {told}  {last.seconds:.0f} s  best {best or '-'}\n")


def _table(found: Tuning) -> Table:
    """Return the trials that no other beats."""
    title = f"beaten by none (reconstruction: {found.measure})"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    settings = found.trials[0].settings
    shown = ("reconstruction", "leak", "kept", "test_reconstruction", "test_leak", "test_kept")
    for name in ("trial", *settings, *(name.replace("_", " ") for name in shown)):
        table.add_column(name)
    for one in found.front:
        figures = [
            value
            for judged in (one.valid, one.test)
            if judged is not None
            for value in (judged.reconstruction, judged.leak, judged.least_kept)
        ]
        numbers = (f"{value:.4g}" if isfinite(value) else "-" for value in figures)
        mark = " *" if one is found.chosen else ""
        table.add_row(f"{one.number}{mark}", *(f"{one.settings[name]:g}" for name in settings), *numbers)
    return table
