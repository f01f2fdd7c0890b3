"""``draper tune MODEL``: search the options of any model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from inspect import Parameter as Argument
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from draper.cli.inputs import named, positional_help, sources_of, with_inputs
from draper.cli.output import require_figure, say, say_json
from draper.cli.parameters import Hints, Output, Overwrite, flags
from draper.cli.progress import progress
from draper.config import ModelConfig
from draper.configs.read import ReadConfig
from draper.configs.train import training_class
from draper.configs.tune import TuneConfig, parse_ranges
from draper.errors import DivergedError
from draper.registry import config_class, targets

if TYPE_CHECKING:
    from draper.results.trials import Figures, SearchResult, Trial

DEFAULT = TuneConfig()

SHOWN = 5
"""Trials that the table shows if there is one objective."""


def make_app(tokens: Sequence[str] = ()) -> App:
    """Return the command with a subcommand for each model.

    Parameters
    ----------
    tokens
        The command line: the simulator that it names decides which options it has.
    """
    app = App(
        name="tune", help="Search good options of a model: small losses on spectra that it has not seen."
    )
    for name in targets():
        app.command(_command(name, config_class(name), named(tokens, "--simulator")), name=name)
    return app


def _command(name: str, config: type[ModelConfig], simulator: str | None) -> Callable[..., None]:
    def tune_model(
        *spectra: Path,
        out: Path,
        options: Any,
        objectives: Any,
        train: Any,
        hints: Any,
        search: tuple[str, ...] = (),
        trials: int = DEFAULT.trials,
        valid: float = DEFAULT.valid,
        test: float = DEFAULT.test,
        seed: int = DEFAULT.seed,
        resume: bool = False,
        plot: Path | None = None,
        overwrite: Overwrite = False,
        json: bool = False,
        **inputs: Any,
    ) -> None:
        ranges = parse_ranges(search, options)
        plan = TuneConfig(search=ranges, trials=trials, valid=valid, test=test, seed=seed)
        # A search that goes on draws its figure anew.
        require_figure(plot, overwrite=overwrite or resume)
        from draper.models.search.tune import BEST, model_folder, tune

        sources = sources_of(f"tune {name}", config, spectra, {**inputs, "read": hints})
        with progress("training trials") as done:

            def note(state: SearchResult) -> None:
                done(len(state.trials), trials)
                _say_trial(state, trials)

            result = tune(
                name, sources, out, plan, options, train, objectives=objectives, resume=resume, note=note
            )
        if result.chosen is None:
            raise DivergedError(
                "the training of every trial diverged",
                given=f"{len(result.trials)} trials",
                hint="search a lower learning rate in another folder: --search learning_rate=1e-4,1e-3",
            )
        if plot is not None:
            from draper.plots.pareto import plot_search
            from draper.plots.style import save

            save(plot_search(result), plot)
        if json:
            say_json({"path": out, "best": out / BEST, **result.to_json()})
            return
        say(_table(result), "", _best(result.chosen), "")
        if not result.admissible:
            say(f"no trial keeps {result.constraint}")
        best = result.chosen.number
        say(escape(f"best: trial {best}, with the model {model_folder(out, best)}"))
        say("train with its options:")
        say(escape(f"draper train {name} {config.inputs_example()} -o FOLDER --config {out / BEST}"))
        if plot is not None:
            say(escape(f"plot: {plot}"))

    searched = ", ".join(config().search_ranges())
    tune_model.__doc__ = f"""Search good options of the model {name}, compared on held-out data.

    Example: draper tune {name} {config.inputs_example()} -o search/ --trials 20 --plot search.png

    Parameters
    ----------
{positional_help(config)}    out
        Folder of the search, new or empty: all trials, the best models, and best.toml, the options to take.
    search
        Options to search: NAME=LOW,HIGH, or NAME for the model's own range. By default {searched},
        except those that are set by their own flags.
    trials
        Number of trainings in all.
    valid
        Fraction of the objects on which trials are compared (0 to 0.5).
    test
        Fraction of the objects that the search never sees (0 to 0.5); the best models are evaluated on it.
    seed
        Seed of the division of the data, of the proposals, and of the training unless that has its own.
    resume
        Continue the search in the folder, after an interruption or with more trials.
    plot
        Draw the Pareto front, or the objective of all trials, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    own, goals = training_class(config), config.objective_options
    options = {
        "out": (Output, Argument.empty),
        "options": (Annotated[config, Parameter(name="*")], config()),
        "objectives": (flags(goals), goals()),
        "train": (own, own()),
        "hints": (Hints, ReadConfig()),
    }
    with_inputs(tune_model, config, simulator, options)
    return tune_model


def _say_trial(state: SearchResult, trials: int) -> None:
    """Say on the error stream how a trial ended."""
    last = state.trials[-1]
    columns = {} if last.valid is None else last.valid.columns()
    figures = ", ".join(f"{name} {columns[name]:.4g}" for name in state.shown if name in columns)
    best = ", ".join(str(trial.number) for trial in state.front) or "-"
    line = f"trial {last.number + 1}/{trials}  {figures or 'diverged'}  {last.seconds:.0f} s  best {best}\n"
    sys.stderr.write(line)


def _table(result: SearchResult) -> Table:
    """Return the Pareto front; with one objective, the best trials."""
    title, trials = "Pareto front", result.front
    if len(result.objectives) == 1:
        candidates = result.admissible or result.finished
        order = result.points(candidates)[:, 0].argsort(kind="stable")
        title, trials = "best trials", tuple(candidates[row] for row in order[:SHOWN])
    title += f" ({', '.join(result.objectives.values())})"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    settings = result.trials[0].settings
    shown = [*result.shown, *(f"test {name}" for name in result.shown)]
    for head in ("trial", *settings, *shown):
        table.add_column(head)
    for trial in trials:
        mark = " *" if trial is result.chosen else ""
        values = (f"{trial.settings[name]:g}" for name in settings)
        figures = (_text(part, name) for part in (trial.valid, trial.test) for name in result.shown)
        table.add_row(f"{trial.number}{mark}", *values, *figures)
    return table


def _best(trial: Trial) -> Table:
    """Return all figures of the best trial."""
    table = Table(title=f"trial {trial.number}", title_justify="left", box=None, pad_edge=False)
    for head in ("", "validation part", "test part"):
        table.add_column(head)
    for name in {} if trial.valid is None else trial.valid.columns():
        table.add_row(name, _text(trial.valid, name), _text(trial.test, name))
    return table


def _text(figures: Figures | None, name: str) -> str:
    value = nan if figures is None else figures.columns().get(name, nan)
    return f"{value:.4g}" if isfinite(value) else "-"
