"""Search the options of any model for small objectives, such as the loss on held-out spectra (optuna)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from draper import atomic_write
from draper.atomic_write import output_errors
from draper.config import Config, ModelConfig
from draper.configs.settings import with_settings
from draper.configs.train import TrainConfig
from draper.configs.tune import Range, TuneConfig, search_space
from draper.data.spectra import Spectra
from draper.models.base import load
from draper.models.lock import locked
from draper.models.search.journal import Journal, quiet, require_optuna
from draper.models.search.objectives import Objectives
from draper.models.search.runs import (
    Data,
    divide,
    fingerprint_of,
    options_toml,
    resumable,
    train_and_evaluate,
)
from draper.registry import config_class
from draper.results.table import write_table
from draper.results.trials import SearchResult, Trial

TABLE, BEST, MODELS = "trials.csv", "best.toml", "models"
"""What the folder of a search holds beside its journal: a table, the options to take, the best models."""

Note = Callable[[SearchResult], None]


def tune(
    model: str,
    data: Data,
    out: str | Path,
    search: TuneConfig | None = None,
    options: ModelConfig | None = None,
    train: TrainConfig | None = None,
    *,
    objectives: Config | None = None,
    resume: bool = False,
    note: Note | None = None,
) -> SearchResult:
    """Search the options of a model for small values of its objectives.

    The data are divided by object. Models are trained on one part and compared on a second, by the
    objectives that the model's config names: the loss that training minimises, unless it names others. With
    several objectives the result is the Pareto front. No model sees the third part until the search has
    ended; then the best trials are evaluated on it.

    Parameters
    ----------
    model
        Name of the model.
    data
        Spectra, with the labels that the model needs, the path of a file that holds them, or a simulator; for
        a model of several inputs a dict by name.
    out
        Folder of the search, new or empty: the journal of all trials (``search.jsonl``), ``trials.csv``, and
        the models and options of the best trials.
    search
        How to search.
    options, train
        Options of the model and of its training. Those that are set are not searched.
    objectives
        Options of the objectives, such as
        :class:`~draper.configs.disentangler.LeakageObjectivesConfig`.
    resume
        Continue the search in ``out``, after an interruption or with more trials. The result is that of a
        search without interruption.
    note
        Called with the state of the search after each trial.

    Returns
    -------
    SearchResult
        All trials; ``front`` are the best of them, and ``chosen`` is the knee of the front.
    """
    require_optuna()
    search = search or TuneConfig()
    options = options or config_class(model)()
    train = train or TrainConfig()
    goals = Objectives.of(options, objectives, search.seed)
    space = search_space(options, train, search.search)
    parts = divide(options.inputs, data, search.valid, search.test, search.seed)
    valid, test = goals.select(parts.valid, "valid"), goals.select(parts.test, "test")
    parts = replace(parts, valid=valid)
    folder = Path(out)
    fixed = TrainConfig(**{"progress": "none", "seed": search.seed, **train.model_dump(exclude_unset=True)})

    def state() -> SearchResult:
        result = SearchResult(model, goals.describe(valid), journal.done, goals.constraint, goals.beside)
        best = {trial.number for trial in result.front}
        # Before the search was continued with more trials, others may have been the best.
        trials = (one if one.number in best else replace(one, test=None) for one in result.trials)
        return replace(result, trials=tuple(trials))

    with quiet(), resumable("search"), locked(folder), output_errors(folder):
        asked = _asked(model, options, train, search, goals, space, valid)
        journal = Journal(folder, asked, space, goals.names, search.seed, resume=resume)
        while (number := len(journal.done)) < search.trials:
            proposal, settings = journal.propose()
            trial = journal.earlier(settings)
            if trial is None:
                own, training = with_settings(goals.for_search(options), fixed, settings)
                evaluate = partial(goals.evaluate, part=valid)
                at = model_folder(folder, number)
                seconds, figures = train_and_evaluate(model, own, training, parts, at, evaluate)
                trial = Trial(number, settings, seconds, figures)
            trial = replace(trial, number=number, settings=settings, test=None)
            journal.record(proposal, trial, constrained=bool(goals.constraint))
            _keep_best(folder, state())
            if note is not None:
                note(state())
        for trial in state().front:
            if trial.test is None:
                fitted = load(model_folder(folder, trial.number))
                journal.record_test(trial.number, goals.evaluate(fitted, test))
        result = state()
        _write(folder, result, model, options, train)
    return result


def _asked(
    model: str,
    options: ModelConfig,
    train: TrainConfig,
    search: TuneConfig,
    goals: Objectives,
    space: Mapping[str, Range],
    valid: Mapping[str, Spectra],
) -> dict[str, Any]:
    """Return what defines this search; the number of trials does not."""
    return {
        "model": model,
        "options": options.model_dump(mode="json", exclude_unset=True),
        "train": train.model_dump(mode="json", exclude_unset=True, exclude={"progress"}),
        "search": {name: [one.low, one.high] for name, one in space.items()},
        **search.model_dump(mode="json", exclude={"trials", "search"}),
        **goals.options.model_dump(mode="json"),
        "data": fingerprint_of(valid),
    }


def model_folder(folder: Path, number: int) -> Path:
    """Return where the model of a trial is, in the folder of its search."""
    return folder / MODELS / f"trial-{number:03d}"


def _keep_best(folder: Path, state: SearchResult) -> None:
    """Remove the models that are not among the best; those will never be again."""
    best = {trial.number for trial in state.front}
    for trial in state.trials:
        if trial.number not in best:
            rmtree(model_folder(folder, trial.number), ignore_errors=True)


def _write(folder: Path, result: SearchResult, model: str, options: ModelConfig, train: TrainConfig) -> None:
    """Write the table, and the options of the best trials as ``draper train MODEL --config`` reads them."""
    write_table(result.table(), folder / TABLE, {}, overwrite=True)
    for trial in result.front:
        text = options_toml(*with_settings(options, train, trial.settings))
        title = f"# draper train {model} {options.inputs_example()} -o FOLDER --config {BEST}\n"
        atomic_write.write(model_folder(folder, trial.number).with_suffix(".toml"), text)
        if trial is result.chosen:
            atomic_write.write(folder / BEST, title + text)
