"""Options of a sweep: which values of which options are trained, and with how many seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from draper.config import Config, ModelConfig
from draper.configs.settings import (
    TRAIN,
    annotation,
    is_several,
    may_be_none,
    plain_name,
    text_of,
    value_of,
    with_settings,
)
from draper.configs.train import TrainConfig
from draper.configs.tune import Part
from draper.errors import DraperError, did_you_mean, option_text

FIXED = ("seed", "progress", "tensorboard", "threads", "device", "data", "checkpoint_every", "log_every")
"""Options of the trainer that cannot be varied: they do not change what is learnt, or have a flag."""


class SweepConfig(Config):
    """Which trainings a sweep consists of."""

    seeds: Annotated[int, Field(ge=1)] = 5
    """Number of trainings of each setting, with the seeds 0, 1, ... (from the training's own seed on)."""
    vary: dict[str, tuple[Any, ...]] = {}
    """Values of each option that is varied; all combinations are trained."""
    valid: Part = 0.1
    """Fraction of the objects that are held out while training."""
    test: Part = 0.2
    """Fraction of the objects on which all models are compared; no training ever sees them."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the division of the data."""


class Variant(NamedTuple):
    """One combination of the varied options: its values as text, and the options that follow."""

    settings: dict[str, str]
    options: ModelConfig
    train: TrainConfig


def parse_values(tokens: Iterable[str], config: type[ModelConfig]) -> dict[str, tuple[Any, ...]]:
    """Return the values of a command line: NAME=VALUE,VALUE,...; the parts of a tuple are joined by colons.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> parse_values(["hidden=300,600:300", "train.clip=1,none"], config_class("emulator"))
    {'hidden': ('300', ('600', '300')), 'clip': ('1', None)}
    """
    found: dict[str, tuple[Any, ...]] = {}
    for token in tokens:
        name, _, values = token.partition("=")
        name = plain_name(name, config)
        _require(name, config)
        if name in found:
            raise DraperError("an option is varied once", given=token)
        words = [word.strip() for word in values.split(",")]
        if not all(words):
            raise DraperError(
                "there are no values to vary the option over", given=token, expected=f"{name}=VALUE,VALUE,..."
            )
        found[name] = tuple(_read(word, annotation(name, config)) for word in words)
    return found


def _read(word: str, kind: Any) -> Any:
    if may_be_none(kind) and word.lower() == "none":
        return None
    return tuple(word.split(":")) if is_several(kind) and ":" in word else word


def variants(
    options: ModelConfig, train: TrainConfig, vary: Mapping[str, Sequence[Any]]
) -> tuple[Variant, ...]:
    """Return all combinations of the varied options; each is validated, so that no training fails later.

    Parameters
    ----------
    options, train
        Options that all trainings share.
    vary
        Values by option of the model or of the trainer.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> found = variants(config_class("linear")(), TrainConfig(), {"latent": (2, 4), "start": ["pca"]})
    >>> [one.settings for one in found]
    [{'latent': '2', 'start': 'pca'}, {'latent': '4', 'start': 'pca'}]
    """
    config = type(options)
    vary = {plain_name(name, config): values for name, values in vary.items()}
    is_set = options.model_fields_set | {f"{TRAIN}{name}" for name in train.model_fields_set}
    for name, values in vary.items():
        _require(name, config)
        if (name if name in config.model_fields else f"{TRAIN}{name.removeprefix(TRAIN)}") in is_set:
            raise DraperError(
                "an option is set or varied", given=f"{name}, both", hint="leave out one of them"
            )
        if not values:
            raise DraperError("there are no values to vary the option over", given=name)
    found = []
    for values in product(*vary.values()):
        given = dict(zip(vary, values, strict=True))
        own, training = with_settings(options, train, given)
        found.append(Variant({name: _text(name, given, own, training) for name in vary}, own, training))
    for number, variant in enumerate(found):
        if any(variant.settings == other.settings for other in found[:number]):
            raise DraperError("a value is named twice", given=_words(variant.settings))
    return tuple(found)


def _text(name: str, given: Mapping[str, Any], options: ModelConfig, train: TrainConfig) -> str:
    """Return a value as its class understands it; one that stands for all of several is shown once."""
    value = value_of(name, options, train)
    stands_for_all = isinstance(value, tuple) and not isinstance(given[name], (tuple, list))
    return text_of(value[0] if stands_for_all and value else value)


def _words(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _require(name: str, config: type[ModelConfig]) -> None:
    trainer = [option for option in TrainConfig.model_fields if option not in (*FIXED, "rates", "repeats")]
    known = [*config.model_fields, *trainer]
    if name not in known and name.removeprefix(TRAIN) not in trainer:
        hint = f"seeds are varied by {option_text('seeds')}" if name == "seed" else did_you_mean(name, known)
        raise DraperError(f"'{name}' cannot be varied", given=name, hint=hint)
