"""A search of options: what is tried, what is judged on which stars, and going on after an interruption."""

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
from factor_spectra import QUICK, SMALL, labelled, stars

from draper import Spectra, TrainConfig, load
from draper.configs.disentangler import DisentanglerConfig
from draper.configs.emulator import EmulatorConfig
from draper.configs.linear import LinearConfig
from draper.configs.tune import TuneConfig
from draper.errors import DraperError, Interrupted
from draper.models.disentangler import objectives as judging
from draper.models.disentangler.model import Disentangler
from draper.models.disentangler.objectives import Judge
from draper.models.search.run import BEST, MODELS, TABLE, model_folder, tune
from draper.models.search.study import JOURNAL
from draper.nn.adversary import Adversarial
from draper.results.trials import Tuning
from draper.testing.checks import same_state

pytest.importorskip("optuna")

SIZES = {name: SMALL[name] for name in ("encoder", "decoder", "critic")}
OPTIONS = DisentanglerConfig(remove=("teff",), keep=("fe_h",), engine="none", **SIZES)
TRAIN = TrainConfig(steps=20, batch_size=128, threads=1, matmul="highest")
SEARCH = TuneConfig(
    trials=3, search={"latent": (2, 9), "learning_rate": (1e-3, 3e-2)}, probes=("ridge",), seed=1
)  # fmt: skip
MIDDLE = {"latent": 4, "learning_rate": 0.00548}


@pytest.fixture(scope="module")
def spectra() -> Spectra:
    """As few stars as can be judged: parts of 630, 210 and 210."""
    return stars(1050)


def search(spectra: Spectra, out: Path, told: TuneConfig = SEARCH, **more: Any) -> Tuning:
    return tune("disentangler", spectra, out, told, **{"options": OPTIONS, "train": TRAIN, **more})


@pytest.fixture(scope="module")
def whole(spectra: Spectra, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuning]:
    """A search that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("search") / "whole"
    return folder, search(spectra, folder)


def plain(found: Tuning) -> dict[str, Any]:
    """Return all figures but how long it took."""
    told = found.to_json()
    return {**told, "trials": [{k: v for k, v in one.items() if k != "seconds"} for one in told["trials"]]}


# -------------------------------------------------------------------- what comes out


def test_trials_have_figures_and_the_best_are_kept(whole: tuple[Path, Tuning]) -> None:
    folder, found = whole
    assert [one.number for one in found.trials] == [0, 1, 2]
    assert found.trials[0].settings == MIDDLE, "the middle of the range comes first"
    assert found.measure == "chi2 per pixel"
    best = {one.number for one in found.front}
    assert found.chosen.number in best
    assert 0 not in best, "the middle is beaten in both figures, by far"
    assert {path.name for path in folder.iterdir()} >= {JOURNAL, TABLE, BEST, MODELS}
    kept = {path.name for path in (folder / MODELS).iterdir() if path.is_dir()}
    assert kept == {model_folder(folder, number).name for number in best}
    for one in found.trials:
        assert one.valid is not None
        assert (one.test is not None) == (one.number in best)
        assert set(one.valid.leaks) == {"teff"}
        assert set(one.valid.kept) == {"fe_h"}
    with (folder / TABLE).open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["latent"]) for row in rows] == [one.settings["latent"] for one in found.trials]
    assert [row["chosen"] == "True" for row in rows] == [one is found.chosen for one in found.trials]


def test_figures_are_those_of_the_models_on_their_parts(whole: tuple[Path, Tuning], spectra: Spectra) -> None:
    folder, found = whole
    one = found.chosen
    model = load(model_folder(folder, one.number))
    assert model.config.latent == one.settings["latent"]
    assert "leakage" not in model.training, "the model does not itself probe the part that judges it"
    _, valid, test = spectra.split(0.6, 0.2, seed=SEARCH.seed)
    for part, judged in ((valid, one.valid), (test, one.test)):
        made = model.generate(part)
        chi2 = np.mean(part.ivar * (part.flux - made.flux) ** 2)
        assert judged.reconstruction == pytest.approx(chi2, rel=1e-4)
        learnt, held_out = part.split(0.6, seed=SEARCH.seed)
        report = model.leakage(learnt, held_out, probes=("ridge",), seeds=(SEARCH.seed,))
        assert judged.leaks["teff"] == pytest.approx(report.leak["teff"], abs=1e-6)
        assert judged.kept["fe_h"] == pytest.approx(report.kept_ratio["fe_h"], abs=1e-6)
        assert judged.conditional["teff"] == pytest.approx(report.conditional_leak["teff"], abs=1e-6)


def test_the_best_options_train_the_best_model_again(whole: tuple[Path, Tuning], spectra: Spectra) -> None:
    folder, found = whole
    told = tomllib.loads((folder / BEST).read_text())
    train = TrainConfig(**told.pop("train"))
    options = DisentanglerConfig(**told)
    assert options == OPTIONS.replace(latent=found.chosen.settings["latent"])
    learnt, valid, _ = spectra.split(0.6, 0.2, seed=SEARCH.seed)
    train = train.replace(seed=SEARCH.seed)
    again = Disentangler(options.replace(probe=False)).fit(learnt, valid=valid, train=train)
    assert same_state(again, load(model_folder(folder, found.chosen.number)))


def test_epochs_that_are_searched_are_those_of_the_training(spectra: Spectra, tmp_path: Path) -> None:
    """The model's usual number of steps would else come first."""
    train = TrainConfig(batch_size=128, threads=1, matmul="highest")
    told = SEARCH.replace(trials=2, search={"epochs": (1.0, 3.0)})
    found = search(spectra, tmp_path / "s", told, train=train)
    for one in found.front:
        model = load(model_folder(tmp_path / "s", one.number))
        assert model.training["steps"] == round(one.settings["epochs"] * 630 / 128)


def test_the_search_chooses_only_trials_that_keep_enough(spectra: Spectra, tmp_path: Path) -> None:
    found = search(spectra, tmp_path / "s", SEARCH.replace(trials=2, least_kept=0.999))
    assert not found.keeps_enough
    assert found.chosen is not None
    lenient = search(spectra, tmp_path / "t", SEARCH.replace(trials=2, least_kept=0.001))
    assert lenient.keeps_enough


def test_values_that_were_tried_are_not_trained_again(spectra: Spectra, tmp_path: Path, monkeypatch) -> None:
    fitted: list[int] = []
    fit = Disentangler.fit

    def noted(self: Disentangler, *rest, **options) -> Disentangler:
        fitted.append(self.config.latent)
        return fit(self, *rest, **options)

    monkeypatch.setattr(Disentangler, "fit", noted)
    found = search(spectra, tmp_path / "s", SEARCH.replace(trials=5, search={"latent": (2, 3)}))
    assert len(found.trials) == 5
    assert sorted(fitted) == [2, 3]
    assert len(found.front) <= 2


def test_trials_that_diverge_are_told_and_leave_no_model(spectra: Spectra, tmp_path: Path) -> None:
    wild = TRAIN.replace(optimizer="sgd", learning_rate=1e30)
    states: list[Tuning] = []
    found = search(
        spectra,
        tmp_path / "s",
        SEARCH.replace(trials=2, search={"latent": (2, 4)}),
        train=wild,
        note=states.append,
    )
    assert found.table()["diverged"].all()
    assert found.chosen is None
    assert len(states) == 2
    assert not any((tmp_path / "s" / MODELS).glob("trial-*"))
    assert not (tmp_path / "s" / BEST).exists()


# ------------------------------------------------------------------ what is seen when


def test_the_test_part_is_not_seen_before_the_end(spectra: Spectra, tmp_path: Path, monkeypatch) -> None:
    unseen = set(spectra.split(0.6, 0.2, seed=SEARCH.seed)[2].ids)
    seen: list[set] = []
    applied, fit = Disentangler.apply, Disentangler.fit

    def apply(self: Disentangler, part: Spectra, *rest) -> Any:
        seen.append(set(part.ids))
        return applied(self, part, *rest)

    def noted_fit(self: Disentangler, data: Spectra, valid: Spectra, **options) -> Disentangler:
        seen.extend([set(data.ids), set(valid.ids)])
        assert not set(data.ids) & set(valid.ids)
        return fit(self, data, valid, **options)

    monkeypatch.setattr(Disentangler, "apply", apply)
    monkeypatch.setattr(Disentangler, "fit", noted_fit)
    ends: list[int] = []
    found = search(
        spectra, tmp_path / "s", SEARCH.replace(trials=2), note=lambda state: ends.append(len(seen))
    )
    assert len(ends) == 2
    assert ends[0] > 4
    assert not any(ids & unseen for ids in seen[: ends[-1]])
    assert set().union(*seen[ends[-1] :]) == unseen, "in the end it is judged by nothing else"
    assert found.front


def test_objects_are_on_one_side(tmp_path: Path) -> None:
    visits = stars(1050).with_columns(id=np.repeat([f"star {n}" for n in range(350)], 3))
    parts: list[set] = []
    fit = Disentangler.fit

    def noted(self: Disentangler, data: Spectra, valid: Spectra, **options) -> Disentangler:
        parts.extend([set(data.ids), set(valid.ids)])
        return fit(self, data, valid, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Disentangler, "fit", noted)
        search(visits, tmp_path / "s", SEARCH.replace(trials=1))
    learnt, valid = parts
    assert (len(learnt), len(valid)) == (210, 70)
    assert not learnt & valid


def test_stars_without_all_labels_teach_and_do_not_judge(tmp_path: Path, monkeypatch) -> None:
    many = stars(2100)
    some = labelled(many, np.arange(2100) % 2 == 0, "teff")
    told: list[Spectra] = []
    call = Judge.__call__

    def noted(self: Judge, model: Disentangler) -> Any:
        told.append(self.spectra)
        return call(self, model)

    monkeypatch.setattr(Judge, "__call__", noted)
    search(some, tmp_path / "s", SEARCH.replace(trials=1))
    assert len(told) == 2
    for part in told:
        assert np.isfinite(part.table["teff"]).all()
        assert 200 <= len(part) < 250
    assert load(next((tmp_path / "s" / MODELS).glob("trial-???"))).training["spectra"] == 1260


# ---------------------------------------------------------------- seeds and interruptions


def test_the_same_seed_tries_the_same(whole: tuple[Path, Tuning], spectra: Spectra, tmp_path: Path) -> None:
    _, found = whole
    assert plain(search(spectra, tmp_path / "same")) == plain(found)
    other = search(spectra, tmp_path / "other", SEARCH.replace(seed=2))
    assert plain(other)["trials"][0]["settings"] == MIDDLE
    assert plain(other) != plain(found)


def test_a_search_goes_on_with_more_trials(
    whole: tuple[Path, Tuning], spectra: Spectra, tmp_path: Path
) -> None:
    _, found = whole
    search(spectra, tmp_path / "s", SEARCH.replace(trials=1))
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(found)
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(found)
    assert plain(search(spectra, tmp_path / "new", resume=True)) == plain(found), "a queue may always say it"


@pytest.fixture
def signalled(monkeypatch) -> Callable[[int], None]:
    """Return what sends SIGTERM to this process in the step of that number, counted over all trials."""

    def at(number: int) -> None:
        calls, losses = [0], Adversarial.losses

        def counted(self: Adversarial, *rest) -> Any:
            calls[0] += self.training
            if calls[0] == number and self.training:
                os.kill(os.getpid(), signal.SIGTERM)
            return losses(self, *rest)

        monkeypatch.setattr(Adversarial, "losses", counted)

    return at


@pytest.mark.parametrize("trial", [0, 1])
def test_an_interrupted_search_says_how_to_go_on(
    whole: tuple[Path, Tuning], spectra: Spectra, tmp_path: Path, signalled: Callable[[int], None], trial: int
) -> None:
    folder, found = whole
    signalled(20 * trial + 10)  # all trials have twenty steps
    with pytest.raises(Interrupted, match="the search was interrupted") as error:
        search(spectra, tmp_path / "s")
    assert "resume=True (--resume)" in str(error.value)
    assert error.value.signal_number == signal.SIGTERM
    assert (model_folder(tmp_path / "s", trial) / "checkpoint").is_dir()
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(found)
    number = found.chosen.number
    one, other = (load(model_folder(at, number)) for at in (folder, tmp_path / "s"))
    assert same_state(one, other)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_an_interrupted_judgement_says_so_too(
    whole: tuple[Path, Tuning], spectra: Spectra, tmp_path: Path, monkeypatch, part: str
) -> None:
    names = set(spectra.split(0.6, 0.2, seed=SEARCH.seed)[1 if part == "valid" else 2].ids)
    calls, judge = [], Judge.__call__

    def broken(self: Judge, model: Disentangler) -> Any:
        calls.append(set(self.spectra.ids) == names)
        if sum(calls) == (2 if part == "valid" else 1):
            raise KeyboardInterrupt
        return judge(self, model)

    monkeypatch.setattr(Judge, "__call__", broken)
    with pytest.raises(Interrupted, match="the search was interrupted") as error:
        search(spectra, tmp_path / "s")
    assert error.value.signal_number == signal.SIGINT
    assert "resume=True" in str(error.value)
    assert len(calls) == (2 if part == "valid" else 4), "at the end three trials have been judged"
    monkeypatch.setattr(Judge, "__call__", judge)
    assert plain(search(spectra, tmp_path / "s", resume=True)) == plain(whole[1])


def test_a_line_that_a_killed_process_has_begun_is_cut_off(
    whole: tuple[Path, Tuning], spectra: Spectra, tmp_path: Path
) -> None:
    search(spectra, tmp_path / "s", SEARCH.replace(trials=2))
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
    search(spectra, tmp_path / "s", SEARCH.replace(trials=1))
    assert optuna.logging.get_verbosity() == before
    said = capfd.readouterr()
    assert said.out == said.err == ""


# ------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        ({"options": DisentanglerConfig(keep=("fe_h",))}, "no label to remove", "--remove"),
        (
            {"options": OPTIONS.replace(keep=()), "told": SEARCH.replace(least_kept=0.5)},
            "no label to keep", "--keep",
        ),
        ({"told": SEARCH.replace(search={"latnt": (2, 4)})}, "cannot be searched", "did you mean 'latent'"),
        ({"told": SEARCH.replace(search={"epochs": (1, 3)})}, "set or searched", "leave out one"),
        ({"options": OPTIONS.replace(remove=("tef",))}, "lack a label", "did you mean 'teff'"),
        ({"told": SEARCH.replace(truth="_true")}, "lack a label", "teff"),
        ({"told": SEARCH.replace(valid=0.1)}, "in the validation part", "--valid"),
        ({"told": SEARCH.replace(test=0.1)}, "in the test part", "--test"),
    ],
    ids=["remove", "keep", "name", "both", "label", "truth", "valid", "test"],
)  # fmt: skip
def test_searches_that_cannot_be_made(
    spectra: Spectra, tmp_path: Path, change: dict, words: str, hint: str
) -> None:
    change = {"told": SEARCH, "train": TRAIN.replace(epochs=2), **change}
    with pytest.raises(DraperError, match=words) as error:
        search(spectra, tmp_path / "s", **change)
    assert hint in str(error.value)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("name", "options"), [("linear", LinearConfig()), ("emulator", EmulatorConfig())])
def test_models_that_remove_nothing_have_no_leak(name: str, options: Any, tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="removes no labels"):
        tune(name, stars(20), tmp_path / "s", SEARCH, options, TRAIN)


def test_no_spectra_and_too_few(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="no spectra"):
        search(stars(20)[:0], tmp_path / "s")
    with pytest.raises(DraperError, match="at least 200") as error:
        search(stars(900), tmp_path / "s")
    assert "180 in the validation part" in str(error.value)


def test_labels_that_spectra_do_not_tell_have_no_leak(spectra: Spectra, tmp_path: Path) -> None:
    noise = spectra.with_columns(teff=np.random.default_rng(0).normal(size=len(spectra)))
    with pytest.raises(DraperError, match="hardly tell more") as error:
        search(noise, tmp_path / "s", SEARCH.replace(trials=1))
    assert "teff" in str(error.value)


def test_folders_that_hold_something_are_kept(
    whole: tuple[Path, Tuning], spectra: Spectra, tmp_path: Path
) -> None:
    folder, found = whole
    with pytest.raises(DraperError, match="holds a search already") as error:
        search(spectra, folder)
    assert "--resume" in str(error.value)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(DraperError, match="not empty"):
            search(spectra, tmp_path / "mine", resume=resume)
    for change, name in (
        ({"told": SEARCH.replace(seed=3)}, "seed"),
        ({"told": SEARCH.replace(search={"latent": (2, 6)})}, "search"),
        ({"options": OPTIONS.replace(encoder=(9,))}, "options"),
        ({"train": TRAIN.replace(steps=21)}, "train"),
    ):
        with pytest.raises(DraperError, match=f"another value of '{name}'"):
            search(spectra, folder, resume=True, **change)
    with pytest.raises(DraperError, match="another value of 'data'"):
        search(stars(1050, seed=1), folder, resume=True)
    assert plain(search(spectra, folder, resume=True)) == plain(found)


def test_without_optuna_the_extra_is_named(spectra: Spectra, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DraperError, match=r"draper\[tune\]"):
        search(spectra, tmp_path / "s")


# --------------------------------------------------------------------------- the judge


def test_spectra_without_errors_are_judged_by_their_rms(spectra: Spectra, monkeypatch) -> None:
    part = spectra[:300]
    bare = Spectra(part.grid, part.flux, table=part.table, quantity=part.quantity)
    model = Disentangler(OPTIONS, latent=3, probe=False).fit(part, train=QUICK)
    judge = Judge(bare, OPTIONS, SEARCH)
    assert judge.measure == "rms of flux"
    found = judge(model)
    assert found.reconstruction == pytest.approx(
        np.sqrt(np.mean((model.generate(bare).flux - bare.flux) ** 2)), rel=1e-4
    )
    assert Judge(part, OPTIONS, SEARCH).measure == "chi2 per pixel"
    # Floor and ceiling are those of the stars, and are measured once.
    monkeypatch.setattr(judging, "measure_baselines", None)
    assert judge(model) == found


def test_probes_are_judged_by_the_true_labels(spectra: Spectra) -> None:
    part = spectra[:300]
    model = Disentangler(OPTIONS, latent=3, probe=False).fit(part, train=QUICK)
    noise = np.random.default_rng(0).normal(size=(2, 300))
    survey = part.with_columns(
        teff_true=part.table["teff"], fe_h_true=part.table["fe_h"], teff=noise[0], fe_h=noise[1]
    )
    truth, plainly = (
        Judge(data, OPTIONS, SEARCH.replace(truth=end)) for data, end in ((survey, "_true"), (part, ""))
    )
    blind = survey.with_columns(teff=part.table["teff"], fe_h=part.table["fe_h"])
    assert Judge(blind, OPTIONS, SEARCH.replace(truth="_true"))(model) == plainly(model)
    assert truth(model).leaks["teff"] == pytest.approx(plainly(model).leaks["teff"], abs=1e-9)
