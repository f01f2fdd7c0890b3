"""Train a model with many options and seeds, and compare all on the same test part in one table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from draper.atomic_write import output_errors
from draper.config import Config, ModelConfig
from draper.configs.sweep import SweepConfig, Variant, variants
from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.models.lock import locked
from draper.models.run import require_empty
from draper.models.search.objectives import Objectives
from draper.models.search.runs import (
    Data,
    cut_last_line,
    divide,
    fingerprint_of,
    require_same,
    resumable,
    train_and_evaluate,
)
from draper.registry import config_class
from draper.results.sweep import Run, SweepResult
from draper.results.table import writable, write_table
from draper.results.trials import Figures

JOURNAL, TABLE, RUNS = "sweep.jsonl", "sweep.csv", "runs"
"""What the folder of a sweep holds: a record of the runs that are done, their table, and their models."""

Note = Callable[[SweepResult, int], None]


def sweep(
    model: str,
    data: Data,
    out: str | Path,
    sweep: SweepConfig | None = None,
    options: ModelConfig | None = None,
    train: TrainConfig | None = None,
    *,
    objectives: Config | None = None,
    table: str = TABLE,
    resume: bool = False,
    note: Note | None = None,
) -> SweepResult:
    """Train a model with all combinations of some options, and with several seeds each.

    The data are divided by object, always in the same way: all models are trained on one part, with the same
    held-out spectra, and compared on a third part that none of them has seen, by the objectives that the
    model's config names.

    Parameters
    ----------
    model
        Name of the model.
    data
        Spectra, with the labels that the model needs, the path of a file that holds them, or a simulator; for
        a model of several inputs a dict by name.
    out
        Folder of the sweep, new or empty: each model as an ordinary artifact in ``runs/NAME``, the record of
        the runs that are done (``sweep.jsonl``), and the table.
    sweep
        Which options are varied over which values, and the number of seeds.
    options, train
        Options of the model and of its training that all runs share.
    objectives
        Options of the objectives.
    table
        Name of the table in ``out``; its suffix is the format.
    resume
        Continue the sweep in ``out``: runs that are done are not repeated. It may have more seeds or values
        than before.
    note
        Called after each run with the runs so far, and how many there will be.

    Returns
    -------
    SweepResult
        All runs; ``summary()`` is the spread over seeds of each setting.
    """
    plan = sweep or SweepConfig()
    options = options or config_class(model)()
    train = train or TrainConfig()
    if Path(table).name != table:
        raise DraperError("the table is written to the folder of the sweep", given=table, expected=TABLE)
    writable(Path(table))
    settings = variants(options, train, plan.vary)
    goals = [Objectives.of(variant.options, objectives, plan.seed) for variant in settings]
    parts = divide(options.inputs, data, plan.valid, plan.test, plan.seed)
    tests = {goal.columns: goal.select(parts.test, "test") for goal in goals}
    folder = Path(out)
    described = goals[0].describe(tests[goals[0].columns])
    runs: list[Run] = []
    with resumable("sweep"), locked(folder), output_errors(folder):
        journal = _Journal(folder, _asked(model, options, train, plan, goals[0], parts.test), resume=resume)
        for variant, goal in zip(settings, goals, strict=True):
            evaluate = partial(goal.evaluate, part=tests[goal.columns])
            for seed in range(train.seed, train.seed + plan.seeds):
                name = run_name(variant, seed)
                is_new = name not in journal.done
                if is_new:
                    training = {
                        "progress": "none",
                        **variant.train.model_dump(exclude_unset=True),
                        "seed": seed,
                    }
                    seconds, figures = train_and_evaluate(
                        model, variant.options, TrainConfig(**training), parts, folder / RUNS / name, evaluate
                    )
                    journal.add(Run(name, variant.settings, seed, seconds, figures))
                runs.append(journal.done[name])
                if note is not None and is_new:
                    note(SweepResult(model, described, tuple(runs)), len(settings) * plan.seeds)
        result = SweepResult(model, described, tuple(runs))
        write_table(result.table(), folder / table, {}, overwrite=True)
    return result


def run_name(variant: Variant, seed: int) -> str:
    """Return the name of a run's folder.

    Examples
    --------
    >>> run_name(Variant({"latent": "8", "engine": "bins"}, ModelConfig(), TrainConfig()), 0)
    'latent-8_engine-bins_seed-0'
    """
    words = [f"{name}-{value}" for name, value in (*variant.settings.items(), ("seed", seed))]
    return "_".join(re.sub(r"[^\w.+-]+", "x", word) for word in words)


def _asked(
    model: str,
    options: ModelConfig,
    train: TrainConfig,
    plan: SweepConfig,
    goals: Objectives,
    test: Mapping[str, Spectra],
) -> dict[str, Any]:
    """Return what defines this sweep; its values and its seeds do not, so that it can grow."""
    return {
        "model": model,
        "options": options.model_dump(mode="json", exclude_unset=True),
        "train": train.model_dump(mode="json", exclude_unset=True, exclude={"progress", "seed"}),
        **plan.model_dump(mode="json", exclude={"seeds", "vary"}),
        **goals.options.model_dump(mode="json"),
        "data": fingerprint_of(test),
    }


class _Journal:
    """The runs that are done, one JSON document a line; the first line says which sweep it is."""

    def __init__(self, folder: Path, asked: Mapping[str, Any], *, resume: bool) -> None:
        self.path = folder / JOURNAL
        self.done: dict[str, Run] = {}
        if self.path.is_file() and not resume:
            raise DraperError(
                "the folder holds a sweep already",
                given=folder,
                hint=f"continue it with {option_text('resume', True)}, or name another folder",
            )
        if self.path.is_file():
            cut_last_line(self.path)
        else:
            require_empty(folder)
            self._append(dict(asked))
        first, *rest = map(json.loads, self.path.read_text().splitlines())
        require_same("sweep", asked, first)
        for run in rest:
            test = None if run["test"] is None else Figures(**run["test"])
            self.done[run["name"]] = Run(**{**run, "test": test})

    def add(self, run: Run) -> None:
        """Record a run."""
        self.done[run.name] = run
        self._append(asdict(run))

    def _append(self, document: dict[str, Any]) -> None:
        with self.path.open("a") as handle:
            handle.write(json.dumps(document) + "\n")
