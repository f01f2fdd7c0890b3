"""The two objectives of a disentangler: which stars they need, what they are, and the Pareto front."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factor_spectra import QUICK, SMALL, labelled, stars

from draper import Spectra, TrainConfig, load
from draper.configs.disentangler import DisentanglerConfig, LeakageObjectivesConfig
from draper.configs.tune import TuneConfig
from draper.errors import DraperError
from draper.models.disentangler import objectives as module
from draper.models.disentangler.model import Disentangler
from draper.models.disentangler.objectives import ReconstructionAndLeakage
from draper.models.search.tune import MODELS, model_folder, tune
from draper.results.trials import SearchResult

pytest.importorskip("optuna")

SIZES = {name: SMALL[name] for name in ("encoder", "decoder", "critic")}
OPTIONS = DisentanglerConfig(remove=("teff",), keep=("fe_h",), engine="none", **SIZES)
TRAIN = TrainConfig(steps=20, batch_size=128, threads=1, matmul="highest")
PLAN = TuneConfig(trials=2, search={"latent": (2, 9), "learning_rate": (1e-3, 3e-2)}, seed=1)
OBJECTIVES = LeakageObjectivesConfig(probes=("ridge",), least_kept=0.999)


@pytest.fixture(scope="module")
def spectra() -> Spectra:
    """As few stars as can be compared: parts of 630, 210 and 210."""
    return stars(1050)


def search(spectra: Spectra, out: Path, **changes: Any) -> SearchResult:
    given = {"search": PLAN, "options": OPTIONS, "train": TRAIN, "objectives": OBJECTIVES, **changes}
    return tune("disentangler", spectra, out, **given)


def objectives(**options: Any) -> ReconstructionAndLeakage:
    return ReconstructionAndLeakage(OPTIONS, LeakageObjectivesConfig(probes=("ridge",), **options), PLAN.seed)


@pytest.fixture(scope="module")
def fitted(spectra: Spectra) -> Disentangler:
    return Disentangler(OPTIONS, latent=3, probe=False).fit(spectra[:300], train=QUICK)


def test_a_search_has_a_front_of_reconstruction_and_leak(spectra: Spectra, tmp_path: Path) -> None:
    result = search(spectra, tmp_path)
    assert list(result.objectives) == ["reconstruction", "leak"]
    assert "chi2 per pixel" in result.objectives["reconstruction"]
    assert result.constraint == "0.999 of the labels to keep"
    assert not result.admissible, "no model of twenty steps keeps so much"
    best = {trial.number for trial in result.front}
    kept = {path.name for path in (tmp_path / MODELS).iterdir() if path.is_dir()}
    assert kept == {model_folder(tmp_path, number).name for number in best}
    for trial in result.trials:
        assert (trial.test is not None) == (trial.number in best)
        assert {"kept", "leak_teff", "kept_fe_h", "error_teff", "error_fe_h"} <= set(trial.valid.others)
    # The figures are those of the model on the parts.
    trial = result.chosen
    model = load(model_folder(tmp_path, trial.number))
    assert "leakage" not in model.training, "the training does not itself probe the part"
    _, valid, test = spectra.split(0.6, 0.2, seed=PLAN.seed)
    for part, figures in ((valid, trial.valid), (test, trial.test)):
        chi2 = np.mean(part.ivar * (part.flux - model.generate(part).flux) ** 2)
        assert figures.objectives["reconstruction"] == pytest.approx(chi2, rel=1e-4)
        report = model.leakage(*part.split(0.6, seed=PLAN.seed), probes=("ridge",), seeds=(PLAN.seed,))
        leak, conditional = report.leak["teff"], report.conditional_leak["teff"]
        assert figures.others["leak_teff"] == pytest.approx(leak, abs=1e-6)
        assert figures.others["conditional_teff"] == pytest.approx(conditional, abs=1e-6)
        assert figures.objectives["leak"] == pytest.approx(max(0, leak, conditional), abs=1e-6)
        assert figures.others["kept_fe_h"] == pytest.approx(report.kept_ratio["fe_h"], abs=1e-6)


def test_epochs_that_are_searched_are_those_of_the_training(spectra: Spectra, tmp_path: Path) -> None:
    """The model's default number of steps is ignored."""
    train = TrainConfig(batch_size=128, threads=1, matmul="highest")
    result = search(
        spectra, tmp_path, search=PLAN.replace(trials=1, search={"epochs": (1.0, 3.0)}), train=train
    )
    (trial,) = result.front
    steps = load(model_folder(tmp_path, 0)).training["steps"]
    assert steps == round(trial.settings["epochs"] * 630 / 128)


def test_stars_without_all_labels_are_for_training_alone(spectra: Spectra, tmp_path: Path) -> None:
    many = stars(2100)
    some = labelled(many, np.arange(2100) % 2 == 0, "teff")
    part = objectives().select({"spectra": some}, "test")["spectra"]
    assert len(part) == 1050
    assert np.isfinite(part.table["teff"]).all()
    search(some, tmp_path, search=PLAN.replace(trials=1))
    assert load(next((tmp_path / MODELS).glob("trial-???"))).training["spectra"] == 1260


def test_spectra_without_errors_are_compared_by_their_rms(
    spectra: Spectra, fitted: Disentangler, monkeypatch
) -> None:
    part = spectra[:300]
    bare = Spectra(part.grid, part.flux, table=part.table, quantity=part.quantity)
    goals = objectives()
    assert "rms of flux" in goals.describe({"spectra": bare})["reconstruction"]
    figures = goals.evaluate(fitted, {"spectra": bare})
    rms = np.sqrt(np.mean((fitted.generate(bare).flux - bare.flux) ** 2))
    assert figures.objectives["reconstruction"] == pytest.approx(rms, rel=1e-4)
    # Floor and ceiling are those of the stars, and are measured once.
    monkeypatch.setattr(module, "measure_baselines", None)
    assert goals.evaluate(fitted, {"spectra": bare}) == figures


def test_probes_are_compared_with_the_true_labels(spectra: Spectra, fitted: Disentangler) -> None:
    part = spectra[:300]
    noise = np.random.default_rng(0).normal(size=(2, 300))
    survey = part.with_columns(
        teff_true=part.table["teff"], fe_h_true=part.table["fe_h"], teff=noise[0], fe_h=noise[1]
    )
    true, plain = objectives(truth="_true"), objectives()
    blind = survey.with_columns(teff=part.table["teff"], fe_h=part.table["fe_h"])
    figures = plain.evaluate(fitted, {"spectra": part})
    assert true.evaluate(fitted, {"spectra": blind}) == figures
    leak = true.evaluate(fitted, {"spectra": survey}).others["leak_teff"]
    assert leak == pytest.approx(figures.others["leak_teff"], abs=1e-9)


def test_the_constraint_is_on_the_worst_kept_label() -> None:
    strict = objectives(least_kept=0.9)
    assert strict._shortfall({"fe_h": 0.4, "logg": 0.95}) == pytest.approx(0.5)
    assert strict._shortfall({"fe_h": 0.95}) < 0 < strict._shortfall({})
    assert objectives()._shortfall({"fe_h": 0.1}) == 0


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        ({"options": DisentanglerConfig(keep=("fe_h",))}, "no label to remove", "remove=['teff', 'logg']"),
        ({"options": OPTIONS.replace(keep=())}, "no label to keep", "keep=['fe_h']"),
        ({"options": OPTIONS.replace(remove=("tef",))}, "lack a label", "did you mean 'teff'"),
        ({"objectives": OBJECTIVES.replace(truth="_true")}, "lack a label", "teff"),
        ({"search": PLAN.replace(valid=0.1)}, "at least 200", "valid"),
        ({"search": PLAN.replace(test=0.1)}, "in the test part", "test="),
    ],
    ids=["remove", "keep", "label", "truth", "valid", "test"],
)
def test_searches_that_cannot_be_made(
    spectra: Spectra, tmp_path: Path, change: dict, words: str, hint: str
) -> None:
    with pytest.raises(DraperError, match=words) as error:
        search(spectra, tmp_path / "s", **change)
    assert hint in str(error.value)
    assert not (tmp_path / "s").exists()


def test_labels_that_spectra_do_not_predict_have_no_leak(spectra: Spectra, tmp_path: Path) -> None:
    noise = spectra.with_columns(teff=np.random.default_rng(0).normal(size=len(spectra)))
    with pytest.raises(DraperError, match="hardly better than the kept labels") as error:
        search(noise, tmp_path, search=PLAN.replace(trials=1))
    assert "teff" in str(error.value)
