"""A sweep: all combinations and seeds, one test part, and resuming."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draper import Spectra, TrainConfig, load
from draper.configs.disentangler import DisentanglerConfig
from draper.configs.emulator import EmulatorConfig
from draper.configs.linear import LinearConfig
from draper.configs.sweep import SweepConfig, parse_values, variants
from draper.errors import DraperError, Interrupted
from draper.models.search.objectives import held_out_loss
from draper.models.search.sweep import JOURNAL, RUNS, TABLE, sweep
from draper.nn.linear import LinearNetwork
from draper.results.sweep import SweepResult
from draper.simulate.made import made_spectra
from draper.testing.checks import same_state
from draper.testing.reference import LinearAutoencoder

OPTIONS = LinearConfig(labels=("teff",))
TRAIN = TrainConfig(steps=10, batch_size=64, threads=1, matmul="highest")
PLAN = SweepConfig(seeds=2, vary={"latent": (1, 4), "learning_rate": ("1e-3", 0.01)})


@pytest.fixture(scope="module")
def spectra() -> Spectra:
    """Parts of 140, 20 and 40."""
    return made_spectra(200, pixels=24)


def run_sweep(spectra: Spectra, out: Path, plan: SweepConfig = PLAN, **more: Any) -> SweepResult:
    return sweep("linear", spectra, out, plan, **{"options": OPTIONS, "train": TRAIN, **more})


@pytest.fixture(scope="module")
def whole(spectra: Spectra, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepResult]:
    """A sweep without interruption."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    return folder, run_sweep(spectra, folder)


def plain(result: SweepResult) -> list[Any]:
    """Return everything but the durations."""
    return [(run.name, run.settings, run.seed, run.test) for run in result.runs]


def test_all_combinations_are_trained_with_all_seeds(
    whole: tuple[Path, SweepResult], spectra: Spectra
) -> None:
    folder, result = whole
    settings = [(run.settings["latent"], run.settings["learning_rate"], run.seed) for run in result.runs]
    assert settings == [(a, b, seed) for a in ("1", "4") for b in ("0.001", "0.01") for seed in (0, 1)]
    training, valid, test = spectra.split(0.7, 0.1, seed=0)
    for run in result.runs:
        model = load(folder / RUNS / run.name)
        assert model.config == OPTIONS.replace(latent=int(run.settings["latent"]))
        assert model.training["config"]["learning_rate"] == float(run.settings["learning_rate"])
        assert run.test.objectives["loss"] == pytest.approx(held_out_loss(model, {"spectra": test}), rel=1e-6)
    own = TRAIN.replace(learning_rate=0.01, seed=1, progress="none")
    again = LinearAutoencoder(OPTIONS, latent=4).fit(training, valid=valid, train=own)
    assert same_state(again, model)
    with (folder / TABLE).open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["latent"]) for row in rows] == [1, 1, 1, 1, 4, 4, 4, 4]
    losses = [run.test.objectives["loss"] for run in result.runs]
    np.testing.assert_allclose([float(row["loss"]) for row in rows], losses)
    assert {"run", "seed", "error_teff", "seconds", "diverged"} <= set(rows[0])
    assert len(result.summary()) == 4


def test_runs_that_are_done_are_not_repeated(
    whole: tuple[Path, SweepResult], spectra: Spectra, tmp_path: Path, monkeypatch
) -> None:
    fitted: list[tuple[int, int]] = []
    fit = LinearAutoencoder.fit

    def noted(self: LinearAutoencoder, *rest: Any, train: TrainConfig, **options: Any) -> LinearAutoencoder:
        fitted.append((self.config.latent, train.seed))
        return fit(self, *rest, train=train, **options)

    monkeypatch.setattr(LinearAutoencoder, "fit", noted)
    plan = PLAN.replace(seeds=1, vary={"latent": (4,), "learning_rate": (0.01,)})
    run_sweep(spectra, tmp_path, plan)
    assert fitted == [(4, 0)]
    states: list[tuple[int, int]] = []
    result = run_sweep(
        spectra, tmp_path, resume=True, note=lambda state, total: states.append((len(state.runs), total))
    )
    assert plain(result) == plain(whole[1])
    assert sorted(fitted) == [(1, 0), (1, 0), (1, 1), (1, 1), (4, 0), (4, 0), (4, 1), (4, 1)]
    assert states == [(n, 8) for n in (1, 2, 3, 4, 5, 6, 8)]
    run_sweep(spectra, tmp_path, resume=True)
    assert len(fitted) == 8


def test_an_interrupted_sweep_is_resumed_bit_by_bit(
    whole: tuple[Path, SweepResult], spectra: Spectra, tmp_path: Path, monkeypatch
) -> None:
    calls, shared = [0], LinearNetwork.shared

    def counted(self: LinearNetwork, batch: Any) -> Any:
        calls[0] += self.training
        if calls[0] == 25 and self.training:  # in the third run
            os.kill(os.getpid(), signal.SIGTERM)
        return shared(self, batch)

    monkeypatch.setattr(LinearNetwork, "shared", counted)
    with pytest.raises(Interrupted, match="the sweep was interrupted") as error:
        run_sweep(spectra, tmp_path)
    assert "resume=True" in str(error.value)
    assert len((tmp_path / JOURNAL).read_text().splitlines()) == 3
    with (tmp_path / JOURNAL).open("a") as handle:
        handle.write('{"name": "a line that a killed')
    result = run_sweep(spectra, tmp_path, resume=True)
    assert plain(result) == plain(whole[1])
    name = result.runs[2].name
    assert same_state(load(tmp_path / RUNS / name), load(whole[0] / RUNS / name))


def test_no_training_sees_the_test_part(spectra: Spectra, tmp_path: Path, monkeypatch) -> None:
    test = set(spectra.split(0.7, 0.1, seed=0)[2].ids)
    seen: set = set()
    fit = LinearAutoencoder.fit

    def noted(self: LinearAutoencoder, *, spectra: Spectra, valid: dict, **options: Any) -> LinearAutoencoder:
        seen.update(spectra.ids, valid["spectra"].ids)
        return fit(self, spectra, valid, **options)

    monkeypatch.setattr(LinearAutoencoder, "fit", noted)
    run_sweep(spectra, tmp_path, SweepConfig(seeds=2))
    assert len(seen) == 160
    assert not seen & test


def test_runs_that_diverge_leave_no_model(spectra: Spectra, tmp_path: Path) -> None:
    plan = SweepConfig(seeds=1, vary={"train.learning_rate": (1e-3, 1e30)})
    result = run_sweep(spectra, tmp_path, plan, train=TRAIN.replace(optimizer="sgd"), table="sweep.ecsv")
    assert [run.test is None for run in result.runs] == [False, True]
    assert [path.name for path in (tmp_path / RUNS).iterdir()] == [result.runs[0].name]
    assert result.table()["diverged"].tolist() == [False, True]
    assert (tmp_path / "sweep.ecsv").is_file()


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        ({"plan": SweepConfig(vary={"latnt": (2,)})}, "cannot be varied", "did you mean 'latent'"),
        ({"plan": SweepConfig(vary={"latent": (2, 0)})}, "greater than or equal to 1", "0"),
        ({"plan": SweepConfig(vary={"start": ("pca", "pac")})}, "'random' or 'pca'", "pac"),
        ({"plan": SweepConfig(vary={"latent": ()})}, "no values", "latent"),
        ({"plan": SweepConfig(vary={"latent": (2, "2")})}, "named twice", "latent=2"),
        ({"plan": SweepConfig(vary={"steps": (2, 3)})}, "set or varied", "leave out one"),
        ({"plan": SweepConfig(vary={"seed": (2, 3)})}, "cannot be varied", "seeds="),
        ({"plan": SweepConfig(test=0.001)}, "0 in the test part", "test="),
        ({"table": "sweep.doc"}, "unknown table format", ".csv"),
        ({"table": "../sweep.csv"}, "to the folder of the sweep", "sweep.csv"),
    ],
    ids=["name", "value", "word", "none", "twice", "both", "seed", "test", "suffix", "folder"],
)
def test_sweeps_that_would_fail_later_are_refused_at_once(
    spectra: Spectra, tmp_path: Path, change: dict, words: str, hint: str
) -> None:
    with pytest.raises(DraperError, match=words) as error:
        run_sweep(spectra, tmp_path / "s", **change)
    assert hint in str(error.value)
    assert not (tmp_path / "s").exists()


def test_folders_that_hold_something_are_kept(
    whole: tuple[Path, SweepResult], spectra: Spectra, tmp_path: Path
) -> None:
    folder, result = whole
    with pytest.raises(DraperError, match="holds a sweep already") as error:
        run_sweep(spectra, folder)
    assert "resume=True" in str(error.value)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DraperError, match="not empty"):
        run_sweep(spectra, tmp_path, resume=True)
    for change, name in (
        ({"plan": PLAN.replace(seed=3)}, "seed"),
        ({"options": OPTIONS.replace(start="pca")}, "options"),
        ({"train": TRAIN.replace(steps=21)}, "train"),
    ):
        with pytest.raises(DraperError, match=f"another value of '{name}'"):
            run_sweep(spectra, folder, resume=True, **change)
    assert plain(run_sweep(spectra, folder, resume=True)) == plain(result)
    json.loads((folder / JOURNAL).read_text().splitlines()[0])


# ------------------------------------------------------------------- the varied options


def test_values_of_a_command_line() -> None:
    found = parse_values(["hidden=30,60:30", "train.learning-rate=1e-3", "components=none,4"], EmulatorConfig)
    assert found == {"hidden": ("30", ("60", "30")), "learning_rate": ("1e-3",), "components": (None, "4")}
    settings = variants(EmulatorConfig(), TrainConfig(), found)
    assert [(one.options.hidden, one.options.components) for one in settings] == [
        ((30, 30, 30), None),
        ((30, 30, 30), 4),
        ((60, 30), None),
        ((60, 30), 4),
    ]
    assert settings[2].settings == {"hidden": "60:30", "learning_rate": "0.001", "components": "none"}
    assert settings[0].train.learning_rate == 1e-3
    assert parse_values(["engine=none,bins", "remove=teff,teff:logg"], DisentanglerConfig) == {
        "engine": ("none", "bins"),
        "remove": ("teff", ("teff", "logg")),
    }


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["latent"], "no values"),
        (["latent=2,,3"], "no values"),
        (["latent=2", "latent=3"], "varied once"),
        (["latnt=2"], "did you mean 'latent'"),
        (["train.progress=bar,none"], "cannot be varied"),
        (["rates=1"], "cannot be varied"),
    ],
    ids=str,
)
def test_words_that_name_no_values(tokens: list[str], words: str) -> None:
    with pytest.raises(DraperError, match=words):
        parse_values(tokens, LinearConfig)


def test_combinations_are_validated_together() -> None:
    given = {"engine": ("bins", "hsic"), "bins": (5, 10)}
    with pytest.raises(DraperError, match="engine hsic has no bins"):
        variants(DisentanglerConfig(remove=("teff",)), TrainConfig(), given)
