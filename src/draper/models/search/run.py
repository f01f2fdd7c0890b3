"""Search options of a model that removes labels: faithful spectra and few traces at once (optuna)."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from draper.config import ModelConfig
from draper.configs.train import TrainConfig
from draper.configs.tune import Range, TuneConfig, ranges, settled
from draper.data.arrays import has_good_pixel
from draper.data.spectra import Spectra, Subset
from draper.errors import DivergedError, DraperError, Interrupted, did_you_mean
from draper.models.base import load
from draper.models.dataset import Data, as_spectra, fingerprint
from draper.models.disentangler.leakage import FEWEST
from draper.models.disentangler.objectives import Judge
from draper.models.search.study import Study, quiet, require_optuna
from draper.registry import config_class, model_class
from draper.results.trials import Tried, Tuning

TABLE, BEST, MODELS = "trials.csv", "best.toml", "models"
"""What the folder of a search holds beside its record: a table, the options to take, the best models."""

Note = Callable[[Tuning], None]


def tune(
    model: str,
    data: Data,
    out: str | Path,
    search: TuneConfig | None = None,
    options: ModelConfig | None = None,
    train: TrainConfig | None = None,
    *,
    resume: bool = False,
    note: Note | None = None,
) -> Tuning:
    """Search the options of a model for small errors of the reconstruction and small leaks at once.

    The data are divided by object. The model learns from one part, and a second judges it: by chi2 per pixel
    (the rms of flux where there are no errors), and by what fresh probes read of the removed labels. A third
    part is seen by nothing until the search has ended; then it judges the trials that no other beats.

    Parameters
    ----------
    model
        Its name; it must remove labels.
    data
        Spectra with labels, or the path of a file that holds them.
    out
        Folder of the search, new or empty: the record of all trials (``search.jsonl``), ``trials.csv``, and
        the best trials' models and options.
    search
        How to search.
    options, train
        Of the model and its training. What is set is not searched.
    resume
        Go on with the search in ``out``, after an interruption or with more trials. The result is that of a
        search without interruption.
    note
        Is told the state of the search after each trial.

    Returns
    -------
    Tuning
        All trials; ``front`` are the best of them and ``chosen`` is the knee of these.
    """
    require_optuna()
    search = search or TuneConfig()
    options = options or config_class(model)()
    train = train or TrainConfig()
    _require_removal(model, options, search)
    where = ranges(options, train, search.search)
    parts = _divided(as_spectra(data), options, search)
    judges = {name: Judge(parts[name], options, search) for name in ("valid", "test")}
    folder = Path(out)

    def state() -> Tuning:
        found = Tuning(model, judges["valid"].measure, study.done, search.least_kept)
        best = {one.number for one in found.front}
        # Before the search went on with more trials, others may have been the best.
        known = (one if one.number in best else replace(one, test=None) for one in found.trials)
        return replace(found, trials=tuple(known))

    with quiet(), _resumable():
        asked = _asked(model, options, train, search, where, parts["valid"])
        study = Study(folder, asked, where, search.seed, resume=resume)
        while (number := len(study.done)) < search.trials:
            trial, settings = study.propose()
            tried = study.known(settings)
            if tried is None:
                own, training = settled(_fixed(options), _fixed_train(train, search), settings)
                tried = _tried(model, own, training, parts, judges["valid"], model_folder(folder, number))
            study.tell(trial, replace(tried, number=number, settings=settings), search.least_kept)
            _keep_best(folder, state())
            if note is not None:
                note(state())
        for one in state().front:
            if one.test is None:
                study.tell_test(one.number, judges["test"](load(model_folder(folder, one.number))))
        result = state()
    _write(folder, result, model, options, train)
    return result


# ------------------------------------------------------------------- what goes in


def _require_removal(model: str, options: ModelConfig, search: TuneConfig) -> None:
    """Refuse models that have not what the two figures need."""
    kind = model_class(model)
    if not (hasattr(kind, "leakage") and hasattr(kind, "generate") and hasattr(options, "remove")):
        raise DraperError(
            f"a model of the kind '{model}' removes no labels, so there is no leak to search by",
            given=model, expected="a disentangler",
        )  # fmt: skip
    if not options.remove:
        raise DraperError("no label to remove was named", hint="remove=['teff', 'logg'] (--remove teff logg)")
    if search.least_kept is not None and not getattr(options, "keep", ()):
        raise DraperError("no label to keep was named", given=f"least_kept={search.least_kept:g}",
                          hint="keep=['fe_h'] (--keep fe_h)")  # fmt: skip


def _divided(spectra: Spectra, options: ModelConfig, search: TuneConfig) -> dict[str, Spectra]:
    """Return the parts by name; those that judge have spectra with all labels alone."""
    if len(spectra) == 0:
        raise DraperError("there are no spectra to learn from", given=repr(spectra))
    removed_or_kept = (*options.remove, *options.keep)  # type: ignore[attr-defined]
    plain = dict.fromkeys((*getattr(options, "labels", ()), *removed_or_kept))
    names = list(dict.fromkeys([*plain, *(f"{name}{search.truth}" for name in removed_or_kept)]))
    for name in names:
        if name not in spectra.table:
            raise DraperError("the spectra lack a label", given=name, hint=did_you_mean(name, spectra.table))
    parts = spectra.split(1 - search.valid - search.test, search.valid, seed=search.seed)
    found = dict(zip(("train", "valid", "test"), parts, strict=True))
    for name in ("valid", "test"):
        part = found[name]
        known = has_good_pixel(part.ivar) & np.isfinite(part.columns(names)).all(axis=1)
        found[name] = part[known]
        if known.sum() < FEWEST:
            raise DraperError(
                "too few spectra have all labels to judge a leak by them",
                given=f"{known.sum()} in the {'validation' if name == 'valid' else name} part",
                expected=f"at least {FEWEST}",
                hint=f"give more spectra, or a larger part ({name}=, --{name})",
            )
    return found


def _fixed(options: ModelConfig) -> ModelConfig:
    """Return options of which the model does not itself probe the part that judges it."""
    return options.replace(probe=False) if "probe" in type(options).model_fields else options


def _fixed_train(train: TrainConfig, search: TuneConfig) -> TrainConfig:
    return TrainConfig(**{"progress": "none", "seed": search.seed, **train.model_dump(exclude_unset=True)})


# --------------------------------------------------------------------- one trial


def _tried(
    model: str,
    options: ModelConfig,
    train: TrainConfig,
    parts: Mapping[str, Spectra],
    judge: Judge,
    out: Path,
) -> Tried:
    """Train a model, or go on with its training, and judge it."""
    started = time.monotonic()
    found = None
    try:
        made = model_class(model)(options)
        made.fit(parts["train"], valid=parts["valid"], train=train, out=out, resume=True)
        found = judge(made)
    except DivergedError:
        rmtree(out, ignore_errors=True)
    return Tried(0, {}, round(time.monotonic() - started, 3), found)


@contextmanager
def _resumable() -> Iterator[None]:
    """Say how to go on with a search that is interrupted."""
    hint = "go on with the search: the same call with resume=True (--resume)"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT, "the search was interrupted", hint=hint) from None
    except Interrupted as error:
        what = f"the search was interrupted: {error.what}"
        raise Interrupted(error.signal_number, what, hint=hint) from None


def _asked(
    model: str,
    options: ModelConfig,
    train: TrainConfig,
    search: TuneConfig,
    where: Mapping[str, Range],
    judging: Spectra,
) -> dict[str, Any]:
    """Return what makes a search this one; the number of trials does not."""
    return {
        "model": model,
        "options": options.model_dump(mode="json", exclude_unset=True),
        "train": train.model_dump(mode="json", exclude_unset=True, exclude={"progress"}),
        "search": {name: [one.low, one.high] for name, one in where.items()},
        **search.model_dump(mode="json", exclude={"trials", "search"}),
        "data": fingerprint(Subset.whole(judging)),
    }


def model_folder(folder: Path, number: int) -> Path:
    """Return where the model of a trial is, in the folder of its search."""
    return folder / MODELS / f"trial-{number:03d}"


def _keep_best(folder: Path, state: Tuning) -> None:
    """Remove the models that others beat; those will never be among the best again."""
    best = {one.number for one in state.front}
    for one in state.trials:
        if one.number not in best:
            rmtree(model_folder(folder, one.number), ignore_errors=True)


# ------------------------------------------------------------------- what comes out


def _write(folder: Path, tuning: Tuning, model: str, options: ModelConfig, train: TrainConfig) -> None:
    """Write the table, and the options of the best trials as ``draper train MODEL --config`` reads them."""
    from draper.results.table import write_table

    write_table(tuning.table(), folder / TABLE, {})
    for one in tuning.front:
        own, training = settled(options, train, one.settings)
        text = options_toml(own, training)
        title = f"# draper train {model} DATA... -o FOLDER --config {BEST}\n"
        model_folder(folder, one.number).with_suffix(".toml").write_text(text)
        if one is tuning.chosen:
            (folder / BEST).write_text(title + text)


def options_toml(options: ModelConfig, train: TrainConfig) -> str:
    """Return the options that are set as TOML, as ``draper train MODEL --config FILE`` reads them.

    Examples
    --------
    >>> print(options_toml(config_class("linear")(latent=3), TrainConfig(epochs=5, rates={"head": 0.01})))
    latent = 3
    <BLANKLINE>
    [train]
    epochs = 5.0
    <BLANKLINE>
    [train.rates]
    head = 0.01
    <BLANKLINE>
    """
    tables = {"": options, "train": train}
    lines: list[str] = []
    for title, config in tables.items():
        told = config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        # What is plain comes before the tables inside, which would swallow it.
        plain = {name: value for name, value in told.items() if not isinstance(value, dict)}
        inner = {name: value for name, value in told.items() if isinstance(value, dict) and value}
        for name, values in [(title, plain), *((f"{title}.{key}".strip("."), inner[key]) for key in inner)]:
            if values:
                lines += ["", f"[{name}]"] if name else []
                lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([*lines, ""])
