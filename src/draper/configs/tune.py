"""Options of a search for good options of a model: what is searched, and in which ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, Self, get_args, get_origin

from pydantic import Field, model_validator

from draper.config import Config, ModelConfig
from draper.configs.settings import alternatives, annotation, is_several, plain_name, with_settings
from draper.configs.train import TrainConfig
from draper.errors import DraperError, did_you_mean

Part = Annotated[float, Field(gt=0, lt=0.5)]

TRAINING = ("epochs", "steps", "batch_size", "learning_rate", "warmup", "final_rate", "weight_decay", "clip")
"""Options of the trainer that can be searched; the others do not change what is learnt, or are a seed."""

DIGITS = 3
"""Significant digits of the values that are tried."""


class TuneConfig(Config):
    """How options are searched."""

    trials: Annotated[int, Field(ge=1)] = 20
    """Number of trainings in all."""
    search: dict[str, tuple[float, float]] = {}
    """Ranges of the options that are searched; by default the model's own, of those that are not set."""
    valid: Part = 0.2
    """Fraction of the objects on which trials are compared."""
    test: Part = 0.2
    """Fraction of the objects that the search never sees; the best models are evaluated on it at the end."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the division of the data, of the proposals, and of the training unless that has its own."""


class Range(Config):
    """The range in which an option is searched.

    Examples
    --------
    >>> Range(low=10, high=40, whole=True).middle, Range(low=0, high=1).middle
    (20, 0.5)
    """

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    whole: bool = False
    """Whether the option is a whole number."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        given = f"{self.low:g},{self.high:g}"
        if not -math.inf < self.low < self.high < math.inf:
            raise DraperError(
                "a range goes from a smaller to a larger number",
                given=given,
                expected="LOW,HIGH",
                hint="set an option that has one value, instead of searching it",
            )
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise DraperError("the option is a whole number", given=given)
        return self

    @property
    def log(self) -> bool:
        """Whether the range is searched in its logarithm: sizes, rates and weights differ by factors."""
        return self.low > 0

    @property
    def middle(self) -> float:
        """The value of the first trial."""
        return self.rounded(math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2)

    def rounded(self, value: float) -> float:
        """Return a value with the digits that are tried."""
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


class Kind(NamedTuple):
    """What values a searchable option takes; one that takes several gets the same number for all."""

    whole: bool
    several: bool


def searchable(config: type[ModelConfig]) -> dict[str, Kind]:
    """Return the options of a model and of the trainer that are numbers.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> kinds = searchable(config_class("disentangler"))
    >>> kinds["latent"], kinds["strength"], "engine" in kinds
    (Kind(whole=True, several=False), Kind(whole=False, several=True), False)
    """
    kinds = {name: _kind(annotation(name, config)) for name in (*TRAINING, *config.model_fields)}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _kind(option: Any) -> Kind | None:
    several = is_several(option)
    first = alternatives(option)[0]
    if get_origin(first) is tuple:
        first = alternatives(get_args(first)[0])[0]
    return Kind(first is int, several) if first in (int, float) else None


def parse_ranges(tokens: Iterable[str], options: ModelConfig) -> dict[str, tuple[float, float]]:
    """Return the ranges of a command line: NAME=LOW,HIGH, or NAME for the model's own range.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> parse_ranges(["latent=4,16", "information_limit"], config_class("disentangler")())
    {'latent': (4.0, 16.0), 'information_limit': (4, 36)}
    """
    own = options.search_ranges()
    found: dict[str, tuple[float, float]] = {}
    for token in tokens:
        name, has_range, values = token.partition("=")
        name = plain_name(name, type(options))
        _require(name, options)
        if name in found:
            raise DraperError("an option is searched once", given=token)
        if not has_range and name not in own:
            raise DraperError(
                "this option has no default range",
                given=token,
                expected=f"{name}=LOW,HIGH",
                hint=f"options with a default range: {', '.join(own)}",
            )
        try:
            low, high = (float(value) for value in values.split(",")) if has_range else own[name]
        except ValueError:
            raise DraperError("a range is two numbers", given=token, expected=f"{name}=LOW,HIGH") from None
        found[name] = (low, high)
    return found


def search_space(
    options: ModelConfig, train: TrainConfig, search: Mapping[str, tuple[float, float]]
) -> dict[str, Range]:
    """Return the range of each option that is searched; refuse options that cannot be.

    Parameters
    ----------
    options, train
        Options that are set here are not searched.
    search
        Ranges; if empty, the model's own of the options that are not set.
    """
    kinds = searchable(type(options))
    is_set = options.model_fields_set | train.model_fields_set
    if train.steps is not None and "steps" in is_set:
        is_set |= {"epochs"}  # they would be ignored
    if not search:
        search = {name: ends for name, ends in options.search_ranges().items() if name not in is_set}
    space: dict[str, Range] = {}
    for name, (low, high) in search.items():
        _require(name, options)
        if name in is_set:
            raise DraperError(
                "an option is set or searched", given=f"{name}, both", hint="leave out one of them"
            )
        space[name] = Range(low=low, high=high, whole=kinds[name].whole)
    if not space:
        raise DraperError("no option is left to search", hint="set fewer options, or name ranges")
    for end in ("low", "high"):  # refuse now what would end a search half-way
        with_settings(options, train, {name: one.rounded(getattr(one, end)) for name, one in space.items()})
    return space


def _require(name: str, options: ModelConfig) -> None:
    known = searchable(type(options))
    if name not in known:
        raise DraperError(
            f"'{name}' cannot be searched",
            given=name,
            expected="an option that is a number",
            hint=did_you_mean(name, known),
        )
