"""Options of a model and of the trainer, by one name each: what a search or a sweep varies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from draper.config import ModelConfig
from draper.configs.train import TrainConfig

TRAIN = "train."
"""Begins the name of an option of the trainer, as on the command line; needed only where the model has one of
the same name."""


def plain_name(name: str, config: type[ModelConfig]) -> str:
    """Return the shortest name of an option of a model or of the trainer.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> plain_name("train.learning-rate", config_class("linear"))
    'learning_rate'
    """
    name = name.strip().replace("-", "_")
    short = name.removeprefix(TRAIN)
    return name if short in config.model_fields else short


def annotation(name: str, config: type[ModelConfig]) -> Any:
    """Return the type of an option of a model or of the trainer; None if there is no such option."""
    field = config.model_fields.get(name) or TrainConfig.model_fields.get(name.removeprefix(TRAIN))
    return None if field is None else field.annotation


def alternatives(kind: Any) -> list[Any]:
    """Return the types that a type is one of, without what restricts them.

    Examples
    --------
    >>> alternatives(int | None), alternatives(tuple[float, ...])
    ([<class 'int'>, <class 'NoneType'>], [tuple[float, ...]])
    """
    origin = get_origin(kind)
    if origin is Annotated:
        return alternatives(get_args(kind)[0])
    if origin in (Union, UnionType):
        return [inner for part in get_args(kind) for inner in alternatives(part)]
    return [kind]


def is_several(kind: Any) -> bool:
    """Return whether an option is a tuple."""
    return any(get_origin(part) is tuple for part in alternatives(kind))


def may_be_none(kind: Any) -> bool:
    """Return whether an option may be None."""
    return NoneType in alternatives(kind)


def with_settings(
    options: ModelConfig, train: TrainConfig, settings: Mapping[str, Any]
) -> tuple[ModelConfig, TrainConfig]:
    """Return options with other values; they are validated by their classes.

    One number or word for an option that takes several stands for all of them: ``hidden=300`` gives as many
    hidden layers as the model has by default.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> settings = {"hidden": 300, "epochs": 5}
    >>> options, train = with_settings(config_class("emulator")(), TrainConfig(), settings)
    >>> options.hidden, train.epochs
    ((300, 300, 300), 5.0)
    """
    config = type(options)
    of_model: dict[str, Any] = {}
    of_trainer: dict[str, Any] = {}
    for name, value in settings.items():
        field = config.model_fields.get(name)
        if field is None:
            of_trainer[name.removeprefix(TRAIN)] = value
        elif is_several(field.annotation) and not isinstance(value, (tuple, list)) and value is not None:
            of_model[name] = (value,) * max(1, len(field.default or ()))
        else:
            of_model[name] = value
    return options.replace(**of_model), train.replace(**of_trainer)


def value_of(name: str, options: ModelConfig, train: TrainConfig) -> Any:
    """Return the value of an option of a model or of the trainer."""
    if name in type(options).model_fields:
        return getattr(options, name)
    return getattr(train, name.removeprefix(TRAIN))


def text_of(value: Any) -> str:
    """Return a value as it is written on the command line.

    Examples
    --------
    >>> text_of(0.001), text_of((300, 200)), text_of(True), text_of(None)
    ('0.001', '300:200', 'true', 'none')
    """
    if isinstance(value, (tuple, list)):
        return ":".join(text_of(part) for part in value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.12g}"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
