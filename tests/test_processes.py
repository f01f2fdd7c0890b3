"""Work shared among processes: the same results, in order, and errors that say what to do."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from operator import methodcaller
from typing import Any

import numpy as np
import pytest

from draper import processes
from draper.configs.fit import FitConfig
from draper.errors import DraperError
from draper.infer import label_fit, prepare
from draper.processes import one_thread_each, side_by_side
from draper.testing import made_spectra
from draper.testing.checks import fitted


def die(tool: object, task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_of_the_tasks() -> None:
    found = list(side_by_side(partial(range, 1000), range.__getitem__, iter(range(20)), 2))
    assert found == list(range(20))


def test_errors_of_workers_are_raised() -> None:
    with pytest.raises(IndexError):
        list(side_by_side(partial(range, 3), range.__getitem__, iter(range(20)), 2))


def test_a_worker_that_dies_is_reported() -> None:
    with pytest.raises(DraperError, match="worker process has died"):
        list(side_by_side(dict, die, iter(range(4)), 2))


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(DraperError, match="cannot be sent"):
        list(side_by_side(lambda: None, methodcaller("index"), iter([1]), 2))


def test_variables_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def test_fits_by_several_processes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "ROWS", 20)
    model, spectra = fitted("emulator"), made_spectra(50, seed=3)
    seen: list[tuple[int, int]] = []
    alone = model.predict(spectra, workers=1)
    both = model.predict(spectra, workers=2, progress=lambda *done: seen.append(done))
    assert seen == [(20, 50), (40, 50), (50, 50)]
    for name in model.labels.names:
        np.testing.assert_array_equal(both[name], alone[name])
    np.testing.assert_array_equal(both.covariance, alone.covariance)


def test_python_starts_no_processes_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "ROWS", 20)
    monkeypatch.setattr("draper.infer.label_fit.side_by_side", lambda *given: pytest.fail("processes"))
    assert FitConfig().workers is None
    assert not processes.may_start
    fitted("emulator").predict(made_spectra(50, seed=3))


@pytest.mark.parametrize(("worth", "shared"), [(0.0, 40), (1e9, 0)])
def test_commands_share_work_that_is_long(monkeypatch: pytest.MonkeyPatch, worth: float, shared: int) -> None:
    monkeypatch.setattr(prepare, "ROWS", 20)
    monkeypatch.setattr(processes, "may_start", True)
    monkeypatch.setattr(label_fit, "cores", lambda: 2)
    monkeypatch.setattr(label_fit, "WORTH_SHARING", worth)
    elsewhere: list[int] = []

    def here(make: Any, work: Any, tasks: Any, workers: int) -> Iterator[Any]:
        assert workers == 2
        for task in tasks:
            elsewhere.append(len(task[0].flux))
            yield work(make(), task)

    monkeypatch.setattr(label_fit, "side_by_side", here)
    found = fitted("emulator").predict(made_spectra(60, seed=3))
    assert len(found) == 60
    assert sum(elsewhere) == shared
