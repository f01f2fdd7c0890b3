"""Verbs have one signature in every model, and take options of the class that the model's config names."""

from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch

from draper.config import Config
from draper.configs.emulator import GenerateConfig
from draper.configs.fit import FitConfig
from draper.errors import DraperError
from draper.registry import config_class, model_class, targets
from draper.testing import made_spectra
from draper.testing.checks import fitted

VERBS = ("encode", "generate", "predict", "explain")
TEST = made_spectra(300, seed=4)
STARS = {"teff": np.linspace(4500, 6500, 300), "logg": 2.5, "fe_h": -0.5}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {name: fitted(name) for name in ("linear", "emulator", "disentangler")}


@pytest.mark.parametrize("name", targets())
def test_signatures(name: str) -> None:
    config, model = config_class(name), model_class(name)
    for verb in VERBS:
        if not hasattr(model, verb):
            continue
        parameters = signature(getattr(model, verb)).parameters
        what = config.generate_from if verb == "generate" else ("spectra",)
        assert tuple(parameters)[1 : len(what) + 2] == (*what, "options"), verb
        assert parameters["options"].default is None, verb
        assert parameters["progress"].default is None, verb
        assert tuple(parameters)[-1] == "changes", verb


class Steps(list[tuple[int, int]]):
    """What a verb reports while it works."""

    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))


@pytest.mark.parametrize("name", ["linear", "emulator", "disentangler"])
def test_progress_is_said(models: dict[str, Any], name: str) -> None:
    model = models[name]
    for verb in VERBS:
        if verb == "encode" and verb not in model.verbs:
            continue
        steps = Steps()
        what = STARS if (name, verb) == ("emulator", "generate") else TEST
        getattr(model, verb)(what, progress=steps)
        assert steps[-1] == (300, 300), verb
        assert steps == sorted(steps), verb
    steps = Steps()
    assert model.evaluate(TEST, progress=steps).labels
    assert steps[-1] == (300, 300)


def test_changes_are_options_by_name(models: dict[str, Any]) -> None:
    emulator, few = models["emulator"], TEST[:5]
    for options, changes in ((FitConfig(rv=0.0), {}), (FitConfig(rv=5.0, starts=1), {"rv": 0.0})):
        expected = emulator.predict(few, rv=0.0).median
        np.testing.assert_array_equal(emulator.predict(few, options, **changes).median, expected)
    star = {"teff": [5000.0, 6000.0], "logg": 2.5, "fe_h": -0.5}
    one = emulator.generate(star, GenerateConfig(vsini=(0.0, 150.0)), rv=30.0)
    other = emulator.generate(star, vsini=np.array([0.0, 150.0]), rv=30.0)
    np.testing.assert_array_equal(one.flux, other.flux)
    assert one.table["vsini"].tolist() == [0.0, 150.0]
    with pytest.raises(DraperError, match="one value, or one for each"):
        emulator.generate(star, vsini=[1.0, 2.0, 3.0])


def test_options_that_a_verb_lacks_are_refused(models: dict[str, Any]) -> None:
    linear, emulator = models["linear"], models["emulator"]
    for verb in ("encode", "predict", "generate", "explain", "evaluate"):
        with pytest.raises(DraperError, match="has no option 'rv'"):
            getattr(linear, verb)(TEST[:2], rv=0.0)
        with pytest.raises(DraperError, match="not options of"):
            getattr(linear, verb)(TEST[:2], FitConfig(rv=0.0))
    with pytest.raises(DraperError, match="did you mean 'continuum'"):
        emulator.predict(TEST[:2], continum=2)
    with pytest.raises(DraperError, match="FitConfig"):
        emulator.predict(TEST[:2], Config())
    with pytest.raises(DraperError, match="did you mean 'vsini'"):
        emulator.generate({"teff": 5000.0, "logg": 2.5, "fe_h": 0.0}, vsin=2)
    with pytest.raises(DraperError, match="no option 'rv'"):
        models["disentangler"].predict(TEST[:2], rv=0.0)
    with pytest.raises(DraperError, match="no verb 'encode'"):
        emulator.require("encode")


def test_explain_gives_estimates_and_spectra(models: dict[str, Any]) -> None:
    few = TEST[:4].with_columns(rv=np.full(4, 99.0))
    for name in ("linear", "disentangler"):
        estimates, made = models[name].explain(few)
        np.testing.assert_array_equal(estimates.median, models[name].predict(few).median)
        np.testing.assert_array_equal(made.flux, models[name].generate(few).flux)
        assert "rv" not in made.table, "the catalogue's velocity is not that of the reconstruction"
    emulator = models["emulator"]
    estimates, made = emulator.explain(few)
    np.testing.assert_array_equal(made.table["rv"], estimates["rv"])
    assert made.grid.matches(few.grid)
    assert emulator.explain(few, rv=12.0)[1].table["rv"].tolist() == [12.0] * 4


@pytest.mark.parametrize("name", ["linear", "emulator", "disentangler"])
def test_verbs_compute_with_one_thread(models: dict[str, Any], name: str) -> None:
    """More threads wait for each other on a busy machine; those of the caller are restored."""
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    models[name].predict(TEST[:20], progress=lambda done, total: seen.append(torch.get_num_threads()))
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
