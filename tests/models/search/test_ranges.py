"""What is searched, and between which values."""

import pytest

from draper.configs.disentangler import SEARCHED, DisentanglerConfig, LeakageObjectivesConfig
from draper.configs.emulator import EmulatorConfig
from draper.configs.linear import LinearConfig
from draper.configs.settings import with_settings
from draper.configs.train import TrainConfig
from draper.configs.tune import Range, TuneConfig, parse_ranges, search_space, searchable
from draper.errors import DraperError

OPTIONS = DisentanglerConfig(remove=["teff"], keep=["fe_h"])


def test_numbers_can_be_searched_and_choices_cannot() -> None:
    found = searchable(DisentanglerConfig)
    assert {
        "latent",
        "strength",
        "information_limit",
        "ramp",
        "bins",
        "encoder",
        "epochs",
        "learning_rate",
    } <= set(found)
    assert not {"engine", "remove", "erase", "probe", "seed", "device", "optimizer"} & set(found)
    assert found["latent"].whole
    assert not found["learning_rate"].whole
    assert found["strength"].several
    assert "components" in searchable(EmulatorConfig)


def test_default_ranges_are_those_of_the_engine() -> None:
    for engine, own in SEARCHED.items():
        options = DisentanglerConfig(remove=["teff"], engine=engine)
        assert set(search_space(options, TrainConfig(), {})) == {"latent", "learning_rate", "epochs", *own}


@pytest.mark.parametrize("config", [LinearConfig, EmulatorConfig, DisentanglerConfig])
def test_default_ranges_of_every_model_can_be_searched(config: type) -> None:
    space = search_space(config(), TrainConfig(), {})
    assert set(space) == set(config().search_ranges())
    for one in space.values():
        assert one.low < one.middle < one.high


def test_what_is_set_is_not_searched() -> None:
    options = OPTIONS.replace(latent=9, strength=[3.0])
    assert set(search_space(options, TrainConfig(epochs=3), {})) == {"information_limit", "learning_rate"}
    assert "epochs" not in search_space(OPTIONS, TrainConfig(steps=9), {})
    with pytest.raises(DraperError, match="set or searched"):
        search_space(options, TrainConfig(), {"latent": (2, 4)})
    with pytest.raises(DraperError, match="no option is left"):
        search_space(options.replace(information_limit=3.0), TrainConfig(epochs=3, learning_rate=1e-3), {})


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"latnt": (2, 4)}, "did you mean 'latent'"),
        ({"engine": (0, 1)}, "cannot be searched"),
        ({"latent": (4, 2)}, "from a smaller to a larger"),
        ({"latent": (4, 4)}, "instead of searching it"),
        ({"latent": (2.5, 4)}, "whole number"),
        ({"information_limit": (1, float("inf"))}, "from a smaller to a larger"),
        ({"latent": (1, 8)}, "latent of at least 2"),
        ({"ramp": (0, 2)}, "less than or equal to 1"),
        ({"learning_rate": (-1, 1)}, "greater than 0"),
    ],
    ids=str,
)
def test_ranges_that_would_end_a_search_half_way_are_refused(search: dict, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        search_space(OPTIONS, TrainConfig(), search)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["latnt=2,4"], "did you mean 'latent'"),
        (["latent=2"], "LOW,HIGH"),
        (["latent=2,3,4"], "LOW,HIGH"),
        (["latent=a,b"], "LOW,HIGH"),
        (["latent="], "LOW,HIGH"),
        (["bins"], "no default range"),
        (["ramp"], "no default range"),
        (["latent", "latent=2,4"], "once"),
    ],
    ids=str,
)
def test_words_that_name_no_range(tokens: list[str], words: str) -> None:
    with pytest.raises(DraperError, match=words):
        parse_ranges(tokens, OPTIONS)


def test_ranges_of_a_command_line() -> None:
    found = parse_ranges(["learning-rate=1e-4,1e-2", "strength"], OPTIONS)
    assert found == {"learning_rate": (1e-4, 1e-2), "strength": (5.0, 500.0)}
    assert parse_ranges(["ramp"], OPTIONS.replace(engine="bins")) == {"ramp": (0.0, 1.0)}
    assert parse_ranges([], OPTIONS) == {}


def test_values_are_rounded_within_their_range() -> None:
    rate = Range(low=1e-4, high=1.00049e-2)
    assert rate.log
    assert rate.middle == pytest.approx(1e-3, rel=1e-2)
    assert rate.rounded(0.00123456) == 0.00123
    assert rate.rounded(0.0099999) == 0.01
    assert rate.rounded(1.00048e-2) == 0.01
    assert Range(low=1.004, high=2).rounded(1.0041) == 1.004
    whole = Range(low=2, high=9, whole=True)
    assert [whole.rounded(value) for value in (2.4, 2.6)] == [2, 3]
    assert isinstance(whole.middle, int)
    assert not Range(low=0, high=1).log


def test_values_reach_the_model_and_the_trainer() -> None:
    own, train = with_settings(OPTIONS, TrainConfig(clip=1.0), {"latent": 7, "strength": 3.0, "epochs": 4.0})
    assert own == OPTIONS.replace(latent=7, strength=(3.0,))
    assert train == TrainConfig(clip=1.0, epochs=4.0)
    own, _ = with_settings(EmulatorConfig(), TrainConfig(), {"hidden": 30})
    assert own.hidden == (30, 30, 30), "one width is that of as many layers as the model has"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"valid": 0.5}, "less than 0.5"),
        ({"test": 0.0}, "greater than 0"),
        ({"trials": 0}, "greater than or equal to 1"),
    ],
    ids=str,
)
def test_options_of_a_search_are_checked(options: dict, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        TuneConfig(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probes": ()}, "at least 1 item"),
        ({"probes": ("ridg",)}, "'ridge'"),
        ({"least_kept": 0}, "greater than 0"),
    ],
    ids=str,
)
def test_options_of_objectives_are_checked(options: dict, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        LeakageObjectivesConfig(**options)
