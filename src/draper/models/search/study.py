"""The trials of a search on disk, and which to try next (optuna)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from draper.configs.tune import Range
from draper.errors import DraperError
from draper.models.run import require_empty
from draper.results.trials import Judged, Tried

JOURNAL = "search.jsonl"
"""Optuna's record in the folder of a search."""

STARTUP = 8
"""Trials at random, before the others are proposed by the sampler."""


class Study:
    """Trials with their figures; what comes next follows from a seed and those that are done.

    Parameters
    ----------
    folder
        Of the search, new or empty, or one to go on with.
    asked
        What makes a search this one, as JSON values.
    where
        What is searched.
    seed
        Of the choice of trials.
    resume
        Whether to go on with the search in the folder.
    """

    def __init__(
        self, folder: Path, asked: Mapping[str, Any], where: Mapping[str, Range], seed: int, *, resume: bool
    ) -> None:
        self.where, self.seed = where, seed
        self._optuna = require_optuna()
        self._states = self._optuna.trial.TrialState
        self._study = self._opened(folder, asked, resume)
        self._drop_unfinished()

    def _opened(self, folder: Path, asked: Mapping[str, Any], resume: bool) -> Any:
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
        backend = self._optuna.storages.journal
        storage = self._optuna.storages.JournalStorage(
            backend.JournalFileBackend(str(path), lock_obj=backend.JournalFileOpenLock(str(path)))
        )
        study = self._optuna.create_study(
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

    def _drop_unfinished(self) -> None:
        """Give up a trial that was interrupted; the next one takes its values, and goes on with it."""
        for one in self._trials(self._states.RUNNING):
            self._study.tell(one.number, state=self._states.FAIL)
            if one.params and not self._trials(self._states.WAITING):
                self._study.enqueue_trial(one.params)

    def _trials(self, *states: Any) -> list[Any]:
        found: list[Any] = self._study.get_trials(deepcopy=False, states=states or None)
        return found

    @property
    def done(self) -> tuple[Tried, ...]:
        """The trials that need not be done again, numbered from 0."""
        found = []
        for one in self._trials(self._states.COMPLETE, self._states.FAIL):
            if "tried" in one.user_attrs:
                told = one.user_attrs["tried"]
                valid = None if told["valid"] is None else Judged(**told["valid"])
                test = self._study.user_attrs.get(_test_of(told["number"]))
                test = None if test is None else Judged(**test)
                found.append(Tried(**{**told, "valid": valid, "test": test}))
        return tuple(found)

    def propose(self) -> tuple[Any, dict[str, float]]:
        """Return the next trial, and its values by option."""
        own = int(np.random.SeedSequence([self.seed, len(self.done)]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=own, n_startup_trials=STARTUP)
        if not self._trials():
            self._study.enqueue_trial({name: one.middle for name, one in self.where.items()})
        kinds = self._optuna.distributions
        space = {
            name: kinds.IntDistribution(int(one.low), int(one.high), log=one.log)
            if one.whole
            else kinds.FloatDistribution(one.low, one.high, log=one.log)
            for name, one in self.where.items()
        }
        trial = self._study.ask(space)
        return trial, {name: one.rounded(trial.params[name]) for name, one in self.where.items()}

    def known(self, settings: Mapping[str, float]) -> Tried | None:
        """Return the trial of the same values, if there was one."""
        return next((one for one in self.done if dict(one.settings) == dict(settings)), None)

    def tell(self, trial: Any, tried: Tried, least_kept: float | None) -> None:
        """Record a trial; one that diverged has no figures, and the sampler does not learn from it."""
        trial.set_user_attr("tried", {**asdict(tried)})
        if tried.valid is None:
            self._study.tell(trial, state=self._states.FAIL)
            return
        if least_kept is not None:
            kept = tried.valid.least_kept
            trial.set_constraint("kept", least_kept - kept if math.isfinite(kept) else 1.0)
        self._study.tell(trial, [tried.valid.reconstruction, tried.valid.leak])

    def tell_test(self, number: int, found: Judged) -> None:
        """Record the figures of a trial on the test part."""
        self._study.set_user_attr(_test_of(number), asdict(found))


def require_optuna() -> Any:
    """Return the package, or say how to get it."""
    try:
        import optuna
    except ImportError:
        raise DraperError("the search needs optuna", hint="pip install 'draper[tune]'") from None
    return optuna


@contextmanager
def quiet() -> Iterator[None]:
    """Keep optuna from printing."""
    optuna = require_optuna()
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _mend(path: Path) -> None:
    """Cut off a last line that a killed process has begun."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as handle:
            handle.truncate(whole)


def _test_of(number: int) -> str:
    return f"test {number}"
