"""A search with one objective: which spectra models are compared on, what is kept, and resuming."""

import csv
import json
import os
import signal
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draper import Spectra, TrainConfig, load
from draper.configs.disentangler import LeakageObjectivesConfig
from draper.configs.linear import LinearConfig
from draper.configs.tune import TuneConfig
from draper.errors import DraperError, Interrupted
from draper.models.emulator.model import Emulator
from draper.models.search import runs
from draper.models.search.journal import JOURNAL
from draper.models.search.objectives import HeldOutLoss, Objectives, held_out_loss, label_errors
from draper.models.search.tune import BEST, MODELS, TABLE, model_folder, tune
from draper.nn.linear import LinearNetwork
from draper.registry import config_class, model_class
from draper.results.trials import Figures, SearchResult
from draper.simulate.made import made_spectra
from draper.testing.checks import same_state
from draper.testing.reference import LinearAutoencoder

pytest.importorskip("optuna")

OPTIONS = LinearConfig(labels=("teff", "logg"))
TRAIN = TrainConfig(steps=20, batch_size=64, threads=1, matmul="highest")
PLAN = TuneConfig(trials=3, search={"latent": (1, 6), "learning_rate": (1e-3, 3e-2)}, seed=1)
MIDDLE = {"latent": 2, "learning_rate": 0.00548}
Whole = tuple[Path, SearchResult]


@pytest.fixture(scope="module")
def spectra() -> Spectra:
    """Parts of 120, 40 and 40."""
    return made_spectra(200, pixels=24)


def search(spectra: Spectra, out: Path, plan: TuneConfig = PLAN, **more: Any) -> SearchResult:
    return tune("linear", spectra, out, plan, **{"options": OPTIONS, "train": TRAIN, **more})


@pytest.fixture(scope="module")
def whole(spectra: Spectra, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A search without interruption."""
    folder = tmp_path_factory.mktemp("search") / "whole"
    return folder, search(spectra, folder)


def plain(result: SearchResult) -> dict[str, Any]:
    """Return everything but the durations."""
    document = result.to_json()
    trials = [{k: v for k, v in trial.items() if k != "seconds"} for trial in document["trials"]]
    return {**document, "trials": trials}


# -------------------------------------------------------------------- what comes out


def test_trials_have_figures_and_the_best_is_kept(whole: Whole) -> None:
    folder, result = whole
    assert [trial.number for trial in result.trials] == [0, 1, 2]
    assert result.trials[0].settings == MIDDLE, "the middle of the range comes first"
    assert result.objectives == {"loss": "held-out loss"}
    losses = [trial.valid.objectives["loss"] for trial in result.trials]
    assert result.chosen is result.trials[int(np.argmin(losses))]
    assert result.front == (result.chosen,)
    assert {path.name for path in folder.iterdir()} >= {JOURNAL, TABLE, BEST, MODELS}
    kept = [path.name for path in (folder / MODELS).iterdir() if path.is_dir()]
    assert kept == [model_folder(folder, result.chosen.number).name]
    assert [trial.test is not None for trial in result.trials] == [t is result.chosen for t in result.trials]
    with (folder / TABLE).open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["latent"]) for row in rows] == [trial.settings["latent"] for trial in result.trials]
    assert [row["chosen"] == "True" for row in rows] == [trial is result.chosen for trial in result.trials]


def test_figures_are_those_of_the_model_on_the_parts(whole: Whole, spectra: Spectra) -> None:
    folder, result = whole
    best = result.chosen
    model = load(model_folder(folder, best.number))
    assert model.config.latent == best.settings["latent"]
    assert best.valid.objectives["loss"] == pytest.approx(model.training["valid"]["valid/total"], rel=1e-6)
    _, valid, test = spectra.split(0.6, 0.2, seed=PLAN.seed)
    for part, figures in ((valid, best.valid), (test, best.test)):
        chi2 = np.mean(part.ivar * (part.flux - model.generate(part).flux) ** 2)
        assert figures.others["reconstruction"] == pytest.approx(chi2, rel=1e-4)
        error = np.median(np.abs(model.predict(part)["teff"] - part.table["teff"]))
        assert figures.others["error_teff"] == pytest.approx(error, rel=1e-6)
        assert set(figures.others) == {"reconstruction", "error_teff", "error_logg"}


def test_the_best_options_train_the_best_model_again(whole: Whole, spectra: Spectra) -> None:
    folder, result = whole
    given = tomllib.loads((folder / BEST).read_text())
    train = TrainConfig(**given.pop("train")).replace(seed=PLAN.seed)
    options = LinearConfig(**given)
    assert options == OPTIONS.replace(latent=result.chosen.settings["latent"])
    training, valid, _ = spectra.split(0.6, 0.2, seed=PLAN.seed)
    again = LinearAutoencoder(options).fit(training, valid=valid, train=train)
    assert same_state(again, load(model_folder(folder, result.chosen.number)))


def test_values_of_an_earlier_trial_are_not_trained_again(
    spectra: Spectra, tmp_path: Path, monkeypatch
) -> None:
    fitted: list[int] = []
    fit = LinearAutoencoder.fit

    def noted(self: LinearAutoencoder, *rest, **options) -> LinearAutoencoder:
        fitted.append(self.config.latent)
        return fit(self, *rest, **options)

    monkeypatch.setattr(LinearAutoencoder, "fit", noted)
    result = search(spectra, tmp_path / "s", PLAN.replace(trials=5, search={"latent": (2, 3)}))
    assert len(result.trials) == 5
    assert sorted(fitted) == [2, 3]
    assert len(result.front) == 1


def test_trials_that_diverge_have_no_figures_and_leave_no_model(spectra: Spectra, tmp_path: Path) -> None:
    wild = TRAIN.replace(optimizer="sgd", learning_rate=1e30)
    plan, states = PLAN.replace(trials=2, search={"latent": (2, 4)}), []
    result = search(spectra, tmp_path / "s", plan, train=wild, note=states.append)
    assert result.table()["diverged"].all()
    assert result.chosen is None
    assert len(states) == 2
    assert not any((tmp_path / "s" / MODELS).glob("trial-*"))
    assert not (tmp_path / "s" / BEST).exists()


# ------------------------------------------------------------------ what is seen when


def test_the_test_part_is_not_seen_before_the_end(spectra: Spectra, tmp_path: Path, monkeypatch) -> None:
    unseen = set(spectra.split(0.6, 0.2, seed=PLAN.seed)[2].ids)
    seen: list[set] = []
    applied, fit = LinearAutoencoder.apply, LinearAutoencoder.fit

    def apply(self: LinearAutoencoder, part: Spectra, *rest, **options) -> Any:
        seen.append(set(part.ids))
        return applied(self, part, *rest, **options)

    def noted_fit(self: LinearAutoencoder, *, spectra: Spectra, valid: dict, **options) -> LinearAutoencoder:
        parts = set(spectra.ids), set(valid["spectra"].ids)
        seen.extend(parts)
        assert not parts[0] & parts[1]
        return fit(self, spectra, valid, **options)

    monkeypatch.setattr(LinearAutoencoder, "apply", apply)
    monkeypatch.setattr(LinearAutoencoder, "fit", noted_fit)
    ends: list[int] = []
    search(spectra, tmp_path / "s", PLAN.replace(trials=2), note=lambda state: ends.append(len(seen)))
    assert len(ends) == 2
    assert ends[0] == 5, "two parts are trained on, and the second is looked at again"
    assert not any(ids & unseen for ids in seen[: ends[-1]])
    assert set().union(*seen[ends[-1] :]) == unseen, "at the end the best model is evaluated on nothing else"


def test_objects_are_on_one_side(tmp_path: Path, monkeypatch) -> None:
    visits = made_spectra(180, pixels=24).with_columns(id=np.repeat([f"star {n}" for n in range(60)], 3))
    parts: list[set] = []
    fit = LinearAutoencoder.fit

    def noted(self: LinearAutoencoder, *, spectra: Spectra, valid: dict, **options) -> LinearAutoencoder:
        parts.extend([set(spectra.ids), set(valid["spectra"].ids)])
        return fit(self, spectra, valid, **options)

    monkeypatch.setattr(LinearAutoencoder, "fit", noted)
    search(visits, tmp_path / "s", PLAN.replace(trials=1))
    training, valid = parts
    assert (len(training), len(valid)) == (36, 12)
    assert not training & valid


# ---------------------------------------------------------------- seeds and interruptions


def test_the_same_seed_gives_the_same_trials(whole: Whole, spectra: Spectra, tmp_path: Path) -> None:
    _, result = whole
    assert plain(search(spectra, tmp_path / "same")) == plain(result)
    other = search(spectra, tmp_path / "other", PLAN.replace(seed=2))
    assert plain(other)["trials"][0]["settings"] == MIDDLE
    assert plain(other) != plain(result)


def test_a_search_is_continued_with_more_trials(whole: Whole, spectra: Spectra, tmp_path: Path) -> None:
    _, result = whole
    search(spectra, tmp_path / "s", PLAN.replace(trials=1))
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(result)
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(result)
    assert plain(search(spectra, tmp_path / "new", resume=True)) == plain(result), "a queue may always say it"


@pytest.fixture
def signalled(monkeypatch) -> Callable[[int], None]:
    """Return what sends SIGTERM to this process in the step of that number, counted over all trials."""

    def at(number: int) -> None:
        calls, shared = [0], LinearNetwork.shared

        def counted(self: LinearNetwork, batch: Any) -> Any:
            calls[0] += self.training
            if calls[0] == number and self.training:
                os.kill(os.getpid(), signal.SIGTERM)
            return shared(self, batch)

        monkeypatch.setattr(LinearNetwork, "shared", counted)

    return at


@pytest.mark.parametrize("trial", [0, 1])
def test_an_interrupted_search_says_how_to_resume(
    whole: Whole, spectra: Spectra, tmp_path: Path, signalled: Callable[[int], None], trial: int
) -> None:
    folder, result = whole
    signalled(20 * trial + 10)  # all trials have twenty steps
    with pytest.raises(Interrupted, match="the search was interrupted") as error:
        search(spectra, tmp_path / "s")
    assert "resume=True" in str(error.value)
    assert error.value.signal_number == signal.SIGTERM
    assert (model_folder(tmp_path / "s", trial) / "checkpoint").is_dir()
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(result)
    number = result.chosen.number
    assert same_state(*(load(model_folder(at, number)) for at in (folder, tmp_path / "s")))


@pytest.mark.parametrize("at", ["valid", "test"])
def test_an_interrupted_evaluation_says_so_too(
    whole: Whole, spectra: Spectra, tmp_path: Path, monkeypatch, at: str
) -> None:
    names = set(spectra.split(0.6, 0.2, seed=PLAN.seed)[1 if at == "valid" else 2].ids)
    calls, evaluate = [], HeldOutLoss.evaluate

    def broken(self: HeldOutLoss, model: LinearAutoencoder, part: dict) -> Any:
        calls.append(set(part["spectra"].ids) == names)
        if sum(calls) == (2 if at == "valid" else 1):
            raise KeyboardInterrupt
        return evaluate(self, model, part)

    monkeypatch.setattr(HeldOutLoss, "evaluate", broken)
    with pytest.raises(Interrupted, match="the search was interrupted") as error:
        search(spectra, tmp_path / "s")
    assert error.value.signal_number == signal.SIGINT
    assert "resume=True" in str(error.value)
    assert len(calls) == (2 if at == "valid" else 4), "at the end three trials have been evaluated"
    monkeypatch.setattr(HeldOutLoss, "evaluate", evaluate)
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(whole[1])


def test_a_line_that_a_killed_process_has_begun_is_cut_off(
    whole: Whole, spectra: Spectra, tmp_path: Path
) -> None:
    search(spectra, tmp_path / "s", PLAN.replace(trials=2))
    with (tmp_path / "s" / JOURNAL).open("a") as handle:
        handle.write('{"op_code": 4, "worker')
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(whole[1])
    for line in (tmp_path / "s" / JOURNAL).read_text().splitlines():
        json.loads(line)


def test_optuna_is_silent_and_left_as_it_was(
    spectra: Spectra, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    search(spectra, tmp_path / "s", PLAN.replace(trials=1))
    assert optuna.logging.get_verbosity() == before
    output = capfd.readouterr()
    assert output.out == output.err == ""


# ------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        ({"plan": PLAN.replace(search={"latnt": (2, 4)})}, "cannot be searched", "did you mean 'latent'"),
        ({"plan": PLAN.replace(search={"epochs": (1, 3)})}, "set or searched", "leave out one"),
        ({"plan": PLAN.replace(test=0.001)}, "0 in the test part", "test="),
        ({"objectives": LeakageObjectivesConfig()}, "not options of the model's objectives", "Config"),
    ],
    ids=["name", "both", "test", "objectives"],
)
def test_searches_that_cannot_be_made(
    spectra: Spectra, tmp_path: Path, change: dict, words: str, hint: str
) -> None:
    with pytest.raises(DraperError, match=words) as error:
        search(spectra, tmp_path / "s", **{"train": TRAIN.replace(epochs=2), **change})
    assert hint in str(error.value)
    assert not (tmp_path / "s").exists()


def test_no_spectra(spectra: Spectra, tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="no spectra"):
        search(spectra[:0], tmp_path / "s")


def test_folders_that_hold_something_are_kept(whole: Whole, spectra: Spectra, tmp_path: Path) -> None:
    folder, result = whole
    with pytest.raises(DraperError, match="holds a search already") as error:
        search(spectra, folder)
    assert "resume=True" in str(error.value)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(DraperError, match="not empty"):
            search(spectra, tmp_path / "mine", resume=resume)
    for change, name in (
        ({"plan": PLAN.replace(seed=3)}, "seed"),
        ({"plan": PLAN.replace(search={"latent": (2, 6)})}, "search"),
        ({"options": OPTIONS.replace(start="pca")}, "options"),
        ({"train": TRAIN.replace(steps=21)}, "train"),
    ):
        with pytest.raises(DraperError, match=f"another value of '{name}'"):
            search(spectra, folder, resume=True, **change)
    with pytest.raises(DraperError, match="another value of 'data'"):
        search(made_spectra(200, pixels=24, seed=1), folder, resume=True)
    assert plain(search(spectra, folder, resume=True)) == plain(result)


def test_without_optuna_the_extra_is_named(spectra: Spectra, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DraperError, match=r"draper\[tune\]"):
        search(spectra, tmp_path / "s")


# ------------------------------------------------------------------- other inputs


@pytest.mark.parametrize("name", ["aligned", "simulated"])
def test_models_of_other_inputs_are_searched_too(name: str, tmp_path: Path, monkeypatch) -> None:
    """A pair of sets is divided set by set; of a simulator the held-out parts are drawn."""
    monkeypatch.setattr(runs, "EPOCH", 200)
    kind, options = model_class(name), config_class(name)
    inputs = kind.example_data(120)
    train = TrainConfig(steps=3, batch_size=32, threads=1)
    plan = TuneConfig(trials=2, search={"learning_rate": (1e-3, 1e-2)})
    result = tune(name, inputs, tmp_path, plan, options(**options.example), train)
    assert all(np.isfinite(trial.valid.objectives["loss"]) for trial in result.trials)
    assert result.chosen.test is not None
    again = tune(name, kind.example_data(120), tmp_path, plan, options(**options.example), train, resume=True)
    assert plain(again) == plain(result)


# ---------------------------------------------------------------------------- the objectives


def test_the_held_out_loss_is_that_of_the_training(spectra: Spectra) -> None:
    training, valid = spectra.split(0.7, seed=0)
    options = {"hidden": (8, 8), "components": 4, "solve": False}
    model = Emulator(**options).fit(training, valid=valid, train=TRAIN.replace(progress="none"))
    assert held_out_loss(model, {"spectra": valid}) == pytest.approx(
        model.training["valid"]["valid/total"], rel=1e-6
    )
    before = {name: value.clone() for name, value in model.state().items()}
    held_out_loss(model, {"spectra": valid})
    assert all((value == before[name]).all() for name, value in model.state().items())


def test_labels_have_errors_where_they_are_known_and_predicted(spectra: Spectra, monkeypatch) -> None:
    model = LinearAutoencoder(OPTIONS).fit(spectra, train=TRAIN.replace(progress="none"))
    some = spectra.with_columns(logg=np.where(np.arange(200) < 9, spectra.table["logg"], np.nan))
    error = np.abs(model.predict(spectra)["logg"] - spectra.table["logg"])
    assert label_errors(model, some)["error_logg"] == pytest.approx(np.median(error[:9]))
    true = spectra.with_columns(logg_true=spectra.table["logg"], teff=None, logg=None)
    assert label_errors(model, true, "_true") == {"error_logg": pytest.approx(np.median(error))}
    assert label_errors(model, some.with_columns(teff=None, logg=None)) == {}

    def refuse(self: LinearAutoencoder, part: Spectra) -> None:
        raise DraperError("these spectra have no labels")

    monkeypatch.setattr(LinearAutoencoder, "predict", refuse)
    assert label_errors(model, spectra) == {}


def test_rows_that_cannot_be_compared_are_left_out(spectra: Spectra) -> None:
    class ByLabel(Objectives):
        names = ("error",)
        columns = ("teff",)

        def describe(self, part: dict) -> dict[str, str]:
            return {"error": "error of teff"}

        def evaluate(self, model: Any, part: dict) -> Figures:
            return Figures({"error": 0.0})

    goals = ByLabel(OPTIONS, LeakageObjectivesConfig(), 0)
    teff, ivar = spectra.table["teff"].copy(), spectra.ivar.copy()
    teff[0], ivar[1] = np.nan, 0
    part = Spectra(spectra.grid, spectra.flux, ivar, {**spectra.table, "teff": teff}, spectra.quantity)
    selected = goals.select({"spectra": part}, "test")
    assert selected["spectra"].ids.tolist() == spectra.ids[2:].tolist()
    with pytest.raises(DraperError, match="lack a label"):
        goals.select({"spectra": spectra.with_columns(teff=None)}, "test")
