"""Search options of a model that removes labels: faithful spectra and few traces at once (optuna)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.config import ModelConfig
from draper.configs.train import TrainConfig
from draper.configs.tune import Range, TuneConfig, ranges, settled
from draper.data.arrays import has_good_pixel
from draper.data.spectra import Spectra, Subset, has_errors
from draper.errors import DivergedError, DraperError, Interrupted, did_you_mean
from draper.models.base import Model, load
from draper.models.leaks import FEWEST
from draper.models.material import Data, as_spectra, fingerprint
from draper.models.run import require_empty
from draper.registry import config_class, model_class
from draper.results.baselines import Baselines, measure_baselines
from draper.results.metrics import residuals
from draper.results.tuning import Judged, Tried, Tuning

JOURNAL, TABLE, BEST, MODELS = "search.jsonl", "trials.csv", "best.toml", "models"
"""What the folder of a search holds: optuna's record, its table, the options to take, the best models."""

STARTUP = 8
"""Trials at random, before the others are proposed by the sampler."""

PROBED = 0.6
"""Part of the stars that probes learn from; they are judged on the others."""

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
    optuna = _optuna()
    search = search or TuneConfig()
    options = options or config_class(model)()
    train = train or TrainConfig()
    _require_removal(model, options, search)
    where = ranges(options, train, search.search)
    parts = _divided(as_spectra(data), options, search)
    judges = {name: Judge(parts[name], options, search) for name in ("valid", "test")}
    folder = Path(out)
    with _quiet(optuna):
        study = _study(optuna, folder, resume, _asked(model, options, train, search, where, judges["valid"]))
        _drop_unfinished(study)
        while (number := len(_done(study))) < search.trials:
            trial = _asked_for(optuna, study, where, search.seed, number)
            values = {name: where[name].rounded(value) for name, value in trial.params.items()}
            settings = {name: values[name] for name in where}
            tried = _known(study, settings)
            if tried is None:
                own, training = settled(_fixed(options), _fixed_train(options, train, search), settings)
                tried = _tried(model, own, training, parts, judges["valid"], _at(folder, number))
            tried = replace(tried, number=number, settings=settings)
            _tell(study, trial, tried, search.least_kept)
            state = _tuning(study, model, judges["valid"], search)
            _keep_best(folder, state)
            if note is not None:
                note(state)
        for one in _tuning(study, model, judges["valid"], search).front:
            if _test_key(one.number) not in study.user_attrs:
                found = judges["test"](load(_at(folder, one.number)))
                study.set_user_attr(_test_key(one.number), asdict(found))
        result = _tuning(study, model, judges["valid"], search)
    _write(folder, result, model, options, train)
    return result


class Judge:
    """Figures of models on spectra that none of them has seen.

    Parameters
    ----------
    spectra
        With all labels of the options.
    options
        Of the models: which labels are removed and kept.
    search
        How to judge.
    """

    def __init__(self, spectra: Spectra, options: ModelConfig, search: TuneConfig) -> None:
        self.spectra, self.search = spectra, search
        self.removed, self.kept = (tuple(getattr(options, name)) for name in ("remove", "keep"))
        self.learnt, self.held_out = spectra.split(PROBED, seed=search.seed)
        self._baselines: Baselines | None = None

    @cached_property
    def measure(self) -> str:
        """What the reconstruction is judged by."""
        return "chi2 per pixel" if has_errors(self.spectra) else "rms of flux"

    def __call__(self, model: Model) -> Judged:
        """Return the figures of a model; those that cannot be measured are left out."""
        made = model.imitate(self.spectra)
        assert made is not None
        found = residuals(self.spectra, made)
        chi2 = found.reduced_chi2
        error = found.figures()["rms"] if chi2 is None else float(np.nanmean(chi2))
        if not math.isfinite(error):
            raise DivergedError("the reconstructions are not finite")
        if self._baselines is None:
            self._baselines = self._measured(model)
        report = model.leakage(  # type: ignore[attr-defined]
            self.learnt, self.held_out, truth=self.search.truth, probes=self.search.probes,
            seeds=(self.search.seed,), baselines=self._baselines,
        )  # fmt: skip
        leaks = _finite(report.leak)
        if not leaks:
            raise DraperError(
                "spectra hardly tell more of the labels to remove than the kept ones do",
                given=", ".join(self.removed), hint="other labels, or more spectra",
            )  # fmt: skip
        return Judged(error, leaks, _finite(report.conditional_leak), _finite(report.kept_ratio))

    def _measured(self, model: Model) -> Baselines:
        """Return floor and ceiling, which are the same for all models of the same training part."""
        parts = (self.learnt, self.held_out)
        names = (*self.removed, *self.kept)
        learnt, judged = (
            {name: part.columns([f"{name}{self.search.truth}"])[:, 0] for name in names} for part in parts
        )
        fluxes = []
        for part in parts:
            flux: NDArray[np.float32]
            (flux,) = model.apply(part, lambda batch: (batch["flux"],), (len(model.own_grid),))
            fluxes.append(np.nan_to_num(flux))
        return measure_baselines(
            learnt, judged, *fluxes, removed=self.removed, kept=self.kept,
            probes=self.search.probes, seeds=(self.search.seed,),
        )  # fmt: skip


# ------------------------------------------------------------------- what goes in


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise DraperError("the search needs optuna", hint="pip install 'draper[tune]'") from None
    return optuna


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


def _fixed_train(options: ModelConfig, train: TrainConfig, search: TuneConfig) -> TrainConfig:
    told = {"progress": "none", "seed": search.seed, **train.model_dump(exclude_unset=True)}
    return TrainConfig(**{**options.training, **told})


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
    except Interrupted as error:
        hint = "go on with the search: the same call with resume=True (--resume)"
        raise Interrupted(
            error.signal_number, f"the search was interrupted: {error.what}", hint=hint
        ) from None
    return Tried(0, {}, round(time.monotonic() - started, 3), found)


def _at(folder: Path, number: int) -> Path:
    return folder / MODELS / f"trial-{number:03d}"


def _keep_best(folder: Path, state: Tuning) -> None:
    """Remove the models that others beat; those will never be among the best again."""
    best = {one.number for one in state.front}
    for one in state.trials:
        if one.number not in best:
            rmtree(_at(folder, one.number), ignore_errors=True)


# ------------------------------------------------------------------- optuna's study


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keep optuna from printing."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _asked(
    model: str,
    options: ModelConfig,
    train: TrainConfig,
    search: TuneConfig,
    where: Mapping[str, Range],
    judge: Judge,
) -> dict[str, Any]:
    """Return what makes a search this one; the number of trials does not."""
    return {
        "model": model,
        "options": options.model_dump(mode="json", exclude_unset=True),
        "train": train.model_dump(mode="json", exclude_unset=True, exclude={"progress"}),
        "search": {name: [one.low, one.high] for name, one in where.items()},
        **search.model_dump(mode="json", exclude={"trials", "search"}),
        "data": fingerprint(Subset.whole(judge.spectra)),
    }


def _study(optuna: Any, folder: Path, resume: bool, asked: Mapping[str, Any]) -> Any:
    """Return the study in a folder, or a new one."""
    path = folder / JOURNAL
    if path.is_file() and not resume:
        raise DraperError(
            "the folder holds a search already", given=folder,
            hint="go on with it with resume=True (--resume), or name another folder",
        )  # fmt: skip
    if not path.is_file():
        require_empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
    else:
        _mend(path)
    backend = optuna.storages.journal
    storage = optuna.storages.JournalStorage(
        backend.JournalFileBackend(str(path), lock_obj=backend.JournalFileOpenLock(str(path)))
    )
    study = optuna.create_study(
        storage=storage, study_name="draper", directions=["minimize", "minimize"], load_if_exists=True
    )
    if "asked" not in study.user_attrs:
        study.set_user_attr("asked", dict(asked))
    held = study.user_attrs["asked"]
    for name in asked:
        if json.loads(json.dumps(asked[name])) != held.get(name):
            raise DraperError(
                f"the search was started with another value of '{name}'", given=asked[name],
                expected=held.get(name), hint="resume with the same options, or search in another folder",
            )  # fmt: skip
    return study


def _mend(path: Path) -> None:
    """Cut off a last line that a killed process has begun."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as handle:
            handle.truncate(whole)


def _drop_unfinished(study: Any) -> None:
    """Give up a trial that was interrupted; the next one takes its values, and goes on with its training."""
    states = _states()
    for one in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(one.number, state=states.FAIL)
        waiting = study.get_trials(deepcopy=False, states=(states.WAITING,))
        if one.params and not waiting:
            study.enqueue_trial(one.params)


def _asked_for(optuna: Any, study: Any, where: Mapping[str, Range], seed: int, number: int) -> Any:
    """Return the next trial; its values follow from the seed and the trials that are done."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=own, n_startup_trials=STARTUP)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({name: one.middle for name, one in where.items()})
    kinds = optuna.distributions
    space = {
        name: kinds.IntDistribution(int(one.low), int(one.high), log=one.log)
        if one.whole
        else kinds.FloatDistribution(one.low, one.high, log=one.log)
        for name, one in where.items()
    }
    return study.ask(space)


def _tell(study: Any, trial: Any, tried: Tried, least_kept: float | None) -> None:
    """Record a trial; one that diverged has no figures, and the sampler does not learn from it."""
    trial.set_user_attr("tried", {**asdict(tried)})
    if tried.valid is None:
        study.tell(trial, state=_states().FAIL)
        return
    if least_kept is not None:
        kept = tried.valid.least_kept
        trial.set_constraint("kept", least_kept - kept if math.isfinite(kept) else 1.0)
    study.tell(trial, [tried.valid.reconstruction, tried.valid.leak])


def _done(study: Any) -> list[Tried]:
    """Return the trials that need not be done again."""
    states = _states()
    ended = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.FAIL))
    found = []
    for one in ended:
        if "tried" in one.user_attrs:
            told = one.user_attrs["tried"]
            valid = None if told["valid"] is None else Judged(**told["valid"])
            test = study.user_attrs.get(_test_key(told["number"]))
            found.append(Tried(**{**told, "valid": valid, "test": None if test is None else Judged(**test)}))
    return found


def _known(study: Any, settings: Mapping[str, float]) -> Tried | None:
    """Return the trial of the same values, if there was one."""
    return next((one for one in _done(study) if dict(one.settings) == dict(settings)), None)


def _tuning(study: Any, model: str, judge: Judge, search: TuneConfig) -> Tuning:
    return Tuning(model, judge.measure, tuple(_done(study)), search.least_kept)


def _test_key(number: int) -> str:
    return f"test {number}"


def _states() -> Any:
    return _optuna().trial.TrialState


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


# ------------------------------------------------------------------- what comes out


def _write(folder: Path, tuning: Tuning, model: str, options: ModelConfig, train: TrainConfig) -> None:
    """Write the table, and the options of the best trials as ``draper train MODEL --config`` reads them."""
    from draper.results.table import write_table

    write_table(tuning.table(), folder / TABLE, {})
    for one in tuning.front:
        own, training = settled(options, train, one.settings)
        text = options_toml(own, training)
        title = f"# draper train {model} DATA... -o FOLDER --config {BEST}\n"
        _at(folder, one.number).with_suffix(".toml").write_text(text)
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
