"""``draper sweep MODEL``: train with many options and seeds, and compare all runs in one table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from inspect import Parameter as Argument
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
from draper.configs.sweep import SweepConfig, parse_values
from draper.configs.train import training_class
from draper.errors import DivergedError
from draper.registry import config_class, targets

if TYPE_CHECKING:
    from draper.results.sweep import SweepResult

DEFAULT = SweepConfig()


def make_app(tokens: Sequence[str] = ()) -> App:
    """Return the command with a subcommand for each model.

    Parameters
    ----------
    tokens
        The command line: the simulator that it names decides which options it has.
    """
    app = App(name="sweep", help="Train a model with many options and seeds, and compare all runs.")
    for name in targets():
        app.command(_command(name, config_class(name), named(tokens, "--simulator")), name=name)
    return app


def _command(name: str, config: type[ModelConfig], simulator: str | None) -> Callable[..., None]:
    def sweep_model(
        *spectra: Path,
        out: Path,
        options: Any,
        objectives: Any,
        train: Any,
        hints: Any,
        vary: tuple[str, ...] = (),
        seeds: int = DEFAULT.seeds,
        valid: float = DEFAULT.valid,
        test: float = DEFAULT.test,
        seed: int = DEFAULT.seed,
        table: str = "sweep.csv",
        resume: bool = False,
        plot: Path | None = None,
        figure: str | None = None,
        overwrite: Overwrite = False,
        json: bool = False,
        **inputs: Any,
    ) -> None:
        values = parse_values(vary, config)
        plan = SweepConfig(vary=values, seeds=seeds, valid=valid, test=test, seed=seed)
        # A sweep that goes on draws its figure anew.
        require_figure(plot, overwrite=overwrite or resume)
        from draper.models.search.sweep import RUNS, sweep

        sources = sources_of(f"sweep {name}", config, spectra, {**inputs, "read": hints})
        with progress("training runs") as done:

            def note(state: SweepResult, total: int) -> None:
                done(len(state.runs), total)
                _say_run(state, total)

            result = sweep(
                name,
                sources,
                out,
                plan,
                options,
                train,
                objectives=objectives,
                table=table,
                resume=resume,
                note=note,
            )
        if all(run.test is None for run in result.runs):
            raise DivergedError(
                "the training of every run diverged",
                given=f"{len(result.runs)} runs",
                hint="lower the learning rate (--train.learning-rate) in another folder",
            )
        if plot is not None:
            from draper.plots.style import save
            from draper.plots.sweep import plot_sweep

            save(plot_sweep(result, figure), plot)
        if json:
            say_json({"path": out, "table": out / table, **result.to_json()})
            return
        say(_table(result))
        say(escape(f"table: {out / table}; models: {out / RUNS}"))
        if plot is not None:
            say(escape(f"plot: {plot}"))

    example = config.inputs_example()
    sweep_model.__doc__ = f"""Train the model {name} with many options and seeds, and compare all runs.

    Example: draper sweep {name} {example} -o sweep/ --vary train.learning-rate=1e-3,3e-3 --seeds 5

    Parameters
    ----------
{positional_help(config)}    out
        Folder of the sweep, new or empty: each model in runs/NAME, and the table.
    vary
        Options and their values: NAME=VALUE,VALUE,... All combinations are trained. Options of the trainer
        are train.NAME; the parts of a tuple are joined by colons (300:300).
    seeds
        Number of trainings of each setting, with the seeds 0, 1, ... (from --train.seed on).
    valid
        Fraction of the objects that are held out while training (0 to 0.5).
    test
        Fraction of the objects on which all models are compared (0 to 0.5); no training sees them.
    seed
        Seed of the division of the data.
    table
        Name of the table in the folder; its suffix is the format.
    resume
        Continue the sweep in the folder, after an interruption or with more seeds or values; runs that are
        done are not repeated.
    plot
        Draw a figure of all runs against the first varied option, as .png, .pdf or .svg.
    figure
        Name of the figure to draw, such as error_teff; the first objective by default.
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
    with_inputs(sweep_model, config, simulator, options)
    return sweep_model


def _say_run(state: SweepResult, total: int) -> None:
    """Say on the error stream how a run ended."""
    last = state.runs[-1]
    columns = {} if last.test is None else last.test.columns()
    figures = ", ".join(f"{name} {columns[name]:.4g}" for name in state.objectives if name in columns)
    words = ", ".join(f"{name} = {value}" for name, value in (*last.settings.items(), ("seed", last.seed)))
    sys.stderr.write(
        f"run {len(state.runs)}/{total}  {words}  {figures or 'diverged'}  {last.seconds:.0f} s\n"
    )


def _table(result: SweepResult) -> Table:
    """Return median and range over the seeds of each setting."""
    title = "median (and range) over seeds, on the test part"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    rows = result.summary()
    for name in rows[0]:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for row in rows:
        # The range stands below the median, so that many figures have room side by side.
        table.add_row(*(escape(str(value).replace(" (", "\n(")) for value in row.values()))
    return table
