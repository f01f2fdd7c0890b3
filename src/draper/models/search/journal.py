"""The trials of a search on disk, and the options to try next (optuna)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from draper.configs.tune import Range
from draper.errors import DraperError, option_text
from draper.models.run import require_empty
from draper.models.search.runs import cut_last_line, require_same
from draper.results.trials import Figures, Trial

JOURNAL = "search.jsonl"
"""Optuna's record in the folder of a search."""

STARTUP = 8
"""Trials at random, before the others are proposed by the sampler."""


class Journal:
    """Trials with their figures; the next proposal follows from a seed and the trials that are done.

    Parameters
    ----------
    folder
        Of the search, new or empty, or one to continue.
    asked
        What defines this search, as JSON values.
    space
        Range of each searched option.
    objectives
        Names of the objectives.
    seed
        Of the proposals.
    resume
        Whether to continue the search in the folder.
    """

    def __init__(
        self,
        folder: Path,
        asked: Mapping[str, Any],
        space: Mapping[str, Range],
        objectives: Sequence[str],
        seed: int,
        *,
        resume: bool,
    ) -> None:
        self.space, self.objectives, self.seed = space, tuple(objectives), seed
        self._optuna = require_optuna()
        self._states = self._optuna.trial.TrialState
        self._study = self._opened(folder, asked, resume)
        self._drop_unfinished()

    def _opened(self, folder: Path, asked: Mapping[str, Any], resume: bool) -> Any:
        path = folder / JOURNAL
        if path.is_file() and not resume:
            raise DraperError(
                "the folder holds a search already",
                given=folder,
                hint=f"continue it with {option_text('resume', True)}, or name another folder",
            )
        if path.is_file():
            cut_last_line(path)
        else:
            require_empty(folder)
        backend = self._optuna.storages.journal
        storage = self._optuna.storages.JournalStorage(
            backend.JournalFileBackend(str(path), lock_obj=backend.JournalFileOpenLock(str(path)))
        )
        study = self._optuna.create_study(
            storage=storage,
            study_name="draper",
            directions=["minimize"] * len(self.objectives),
            load_if_exists=True,
        )
        if "asked" not in study.user_attrs:
            study.set_user_attr("asked", dict(asked))
        require_same("search", asked, study.user_attrs["asked"])
        return study

    def _drop_unfinished(self) -> None:
        """Give up a trial that was interrupted; the next one takes its values, and continues its training."""
        for trial in self._trials(self._states.RUNNING):
            self._study.tell(trial.number, state=self._states.FAIL)
            if trial.params and not self._trials(self._states.WAITING):
                self._study.enqueue_trial(trial.params)

    def _trials(self, *states: Any) -> list[Any]:
        trials: list[Any] = self._study.get_trials(deepcopy=False, states=states or None)
        return trials

    @property
    def done(self) -> tuple[Trial, ...]:
        """The trials that need not be done again, numbered from 0."""
        done = []
        for trial in self._trials(self._states.COMPLETE, self._states.FAIL):
            if "trial" in trial.user_attrs:
                record = trial.user_attrs["trial"]
                valid = None if record["valid"] is None else Figures(**record["valid"])
                test = self._study.user_attrs.get(_test_of(record["number"]))
                done.append(
                    Trial(**{**record, "valid": valid, "test": None if test is None else Figures(**test)})
                )
        return tuple(done)

    def propose(self) -> tuple[Any, dict[str, float]]:
        """Return the next trial, and its values by option."""
        own = int(np.random.SeedSequence([self.seed, len(self.done)]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=own, n_startup_trials=STARTUP)
        if not self._trials():
            self._study.enqueue_trial({name: one.middle for name, one in self.space.items()})
        kinds = self._optuna.distributions
        space = {
            name: kinds.IntDistribution(int(one.low), int(one.high), log=one.log)
            if one.whole
            else kinds.FloatDistribution(one.low, one.high, log=one.log)
            for name, one in self.space.items()
        }
        trial = self._study.ask(space)
        return trial, {name: one.rounded(trial.params[name]) for name, one in self.space.items()}

    def earlier(self, settings: Mapping[str, float]) -> Trial | None:
        """Return the trial of the same values, if there was one."""
        return next((trial for trial in self.done if dict(trial.settings) == dict(settings)), None)

    def record(self, proposal: Any, trial: Trial, *, constrained: bool) -> None:
        """Record a trial; one that diverged has no figures, and the sampler does not learn from it."""
        proposal.set_user_attr("trial", asdict(trial))
        if trial.valid is None:
            self._study.tell(proposal, state=self._states.FAIL)
            return
        if constrained:
            proposal.set_constraint("constraint", trial.valid.shortfall)
        self._study.tell(proposal, [trial.valid.objectives[name] for name in self.objectives])

    def record_test(self, number: int, figures: Figures) -> None:
        """Record the figures of a trial on the test part."""
        self._study.set_user_attr(_test_of(number), asdict(figures))


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


def _test_of(number: int) -> str:
    return f"test {number}"
