"""Options: frozen, checked, and plain JSON."""

import json
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from draper.config import Config
from draper.configs.read import ReadConfig
from draper.configs.retriever import RetrieveConfig, RetrieverConfig
from draper.configs.train import TrainConfig
from draper.errors import DraperError
from draper.registry import config_class, targets


class Inner(Config):
    """Inner options."""

    width: Annotated[int, Field(ge=1)] = 3
    """Width of a layer."""


class Outer(Config):
    """Outer options."""

    inner: Inner = Inner()
    """The inner ones."""
    names: tuple[str, ...] = ()
    """Names."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: TrainConfig(epocs=3),
            r"TrainConfig does not know the option 'epocs'[\s\S]*epocs=3[\s\S]*'epochs'",
        ),
        (
            lambda: TrainConfig(epochs=0),
            r"'epochs' of TrainConfig is not valid[\s\S]*epochs=0[\s\S]*greater than 0",
        ),
        (lambda: TrainConfig(optimizer="adamm"), r"'optimizer'[\s\S]*adamm[\s\S]*'adam'"),
        (lambda: TrainConfig(steps="many"), r"'steps'[\s\S]*valid integer"),
        (lambda: ReadConfig(cut=(5000, 6000, 7000)), "'cut' of ReadConfig is not valid"),
        (lambda: ReadConfig(cut="5000"), "'cut' of ReadConfig is not valid"),
        (lambda: ReadConfig(cut=[("a", "b")]), "'cut.0.0' of ReadConfig is not valid"),
        (lambda: Outer(inner={"width": 0}), "'width' of Inner|'inner.width' of Outer"),
        (lambda: Outer(inner={"wdth": 3}), "wdth"),
        (lambda: Outer(names=[1]), "'names.0'"),
    ],
)
def test_refused(make, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        make()


def test_one_value_stands_for_a_tuple_of_one() -> None:
    assert ReadConfig(reject="nan").reject == ("nan",)


def test_windows_are_pairs_or_numbers_in_a_row() -> None:
    assert ReadConfig(cut=(5000, 6000)).cut == ((5000, 6000),)
    assert ReadConfig(cut=["1", "2", "3", "4"]).cut == ((1, 2), (3, 4))
    assert ReadConfig(cut=[(1, 2), (3, 4)]).cut == ((1, 2), (3, 4))
    assert ReadConfig(cut=()).cut == ()


def test_frozen() -> None:
    config = Outer()
    with pytest.raises(ValidationError, match="frozen"):
        config.names = ("a",)
    assert hash(Inner()) == hash(Inner(width=3))


def test_replace_validates_and_keeps_what_was_set() -> None:
    config = Outer(inner=Inner(width=5)).replace(names=("a",))
    assert config.inner.width == 5
    assert config.model_fields_set == {"inner", "names"}
    with pytest.raises(DraperError, match="did you mean 'names'"):
        config.replace(nams=())
    with pytest.raises(DraperError, match="greater than 0"):
        TrainConfig().replace(epochs=-1)


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(steps=5, rates={"critics": 1e-4}),
        ReadConfig(cut=((1, 2),), labels=("a.csv",)),
        Outer(names=("x",)),
    ],
)
def test_json_and_back(config: Config) -> None:
    state = json.loads(json.dumps(config.to_json(), allow_nan=False))
    assert type(config).from_json(state) == config


def configs() -> list[Any]:
    return [TrainConfig, ReadConfig, *(config_class(name) for name in targets())]


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.__name__)
def test_every_option_is_documented_and_has_a_default(config: type[Config]) -> None:
    config()
    for name, option in config.model_fields.items():
        assert option.description, name
        assert option.description.endswith("."), name


@pytest.mark.parametrize(("rows", "size", "steps"), [(1000, 100, 500), (5, 100, 2), (1, 1000, 1)])
def test_total_steps(rows: int, size: int, steps: int) -> None:
    assert TrainConfig().total_steps(rows, size) == steps
    assert TrainConfig(steps=7).total_steps(rows, size) == 7
    assert TrainConfig(epochs=0.001).total_steps(rows, size) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"star_radius": float("inf")}, "star_radius"),
        ({"star_radius_error": float("inf")}, "star_radius_error"),
        ({"inflation": float("inf")}, "inflation"),
        ({"error": float("inf")}, "error"),
        ({"fixed": {"a": 1.0}, "priors": {"a": (1.0, 0.1)}}, "fixed and has a prior"),
        ({"fixed": {"a": 1.0}, "bounds": {"a": (2.0, 3.0)}}, "outside its bounds"),
    ],
)
def test_retrievals_with_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DraperError, match=message):
        RetrieveConfig(**options)
    assert RetrieveConfig(fixed={"a": 1.0}, bounds={"a": (1.0, 3.0)}, priors={"b": (1.0, 0.1)})


def test_errors_of_training_noise_increase() -> None:
    with pytest.raises(DraperError, match="smallest error"):
        RetrieverConfig(errors=(100.0, 10.0))
    assert RetrieverConfig(errors=(100.0, 100.0)).errors == (100.0, 100.0)
