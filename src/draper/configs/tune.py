"""Options of a search for the options of a model: what is searched, where, and how it is judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Self, Union, get_args, get_origin

from pydantic import Field, model_validator

from draper.config import Config, ModelConfig
from draper.configs.train import TrainConfig
from draper.errors import DraperError, did_you_mean

Part = Annotated[float, Field(gt=0, lt=0.5)]
Probe = Literal["ridge", "boosting", "mlp"]

TRAINING = ("epochs", "steps", "batch_size", "learning_rate", "warmup", "final_rate", "weight_decay", "clip")
"""Options of the trainer that can be searched; the others do not change what is learnt, or are a seed."""

RANGES = {"latent": (8, 64), "learning_rate": (3e-4, 3e-3), "epochs": (10, 40)}
"""What is searched, and between which values, unless told. Their middles are what suits most data."""

ADVERSARIAL: dict[str, tuple[float, float]] = {"strength": (1e-4, 1), "ramp": (0, 1)}

ENGINES: dict[str, dict[str, tuple[float, float]]] = {
    "bottleneck": {"strength": (5, 500), "rate": (4, 36)},
    "bins": ADVERSARIAL,
    "joint": ADVERSARIAL,
    "continuous": ADVERSARIAL,
    "hsic": {"strength": (0.03, 3), "ramp": (0, 1)},
}
"""The same for single engines of removal."""

DIGITS = 3
"""Significant digits of the values that are tried."""


class TuneConfig(Config):
    """How options are searched."""

    trials: Annotated[int, Field(ge=1)] = 20
    """Trainings in all."""
    search: dict[str, tuple[float, float]] = {}
    """Between which values options are searched; without any, what suits the engine and is not set."""
    valid: Part = 0.2
    """Which fraction of the objects judges the trials."""
    test: Part = 0.2
    """Which fraction of the objects the search never sees; it judges the best models once, at the end."""
    probes: Annotated[tuple[Probe, ...], Field(min_length=1)] = ("ridge", "mlp")
    """What tries to read labels from latents."""
    least_kept: Annotated[float, Field(gt=0, le=1)] | None = None
    """Part of each kept label, as spectra tell it, that latents must tell for a trial to count."""
    truth: str = ""
    """End of the names of the columns with true labels: _true in a simulated survey."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the parts of the data, of the choice of trials, and of their training unless that has its own."""


class Range(Config):
    """Where the value of an option is searched.

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
        if not -math.inf < self.low < self.high < math.inf:
            raise DraperError(
                "a range goes from a smaller to a larger number", given=f"{self.low:g},{self.high:g}",
                expected="LOW,HIGH", hint="set an option that has one value, instead of searching it",
            )  # fmt: skip
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise DraperError("the option is a whole number", given=f"{self.low:g},{self.high:g}")
        return self

    @property
    def log(self) -> bool:
        """Whether ratios count: sizes, rates and weights differ by factors, unless 0 is among them."""
        return self.low > 0

    @property
    def middle(self) -> float:
        """The value that is tried first."""
        return self.rounded(math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2)

    def rounded(self, value: float) -> float:
        """Return a value as it is tried."""
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


class Kind(NamedTuple):
    """What values a searchable option has; of several numbers it takes one for all."""

    whole: bool
    several: bool


def searchable(config: type[ModelConfig]) -> dict[str, Kind]:
    """Return the options of a model and of the trainer that are numbers.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> found = searchable(config_class("disentangler"))
    >>> found["latent"], found["strength"], "engine" in found
    (Kind(whole=True, several=False), Kind(whole=False, several=True), False)
    """
    fields = {name: TrainConfig.model_fields[name] for name in TRAINING} | dict(config.model_fields)
    kinds = {name: _kind(field.annotation) for name, field in fields.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _kind(annotation: Any, several: bool = False) -> Kind | None:
    if annotation in (int, float):
        return Kind(annotation is int, several)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated or origin in (Union, UnionType):
        return _kind(inner[0], several)
    return _kind(inner[0], several=True) if origin is tuple and not several else None


def parsed(tokens: Iterable[str], options: ModelConfig) -> dict[str, tuple[float, float]]:
    """Return the ranges of a command line: NAME=LOW,HIGH, or NAME for the usual range.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> parsed(["latent=4,16", "rate"], config_class("disentangler")())
    {'latent': (4.0, 16.0), 'rate': (4, 36)}
    """
    found: dict[str, tuple[float, float]] = {}
    for token in tokens:
        name, is_told, values = token.partition("=")
        name = name.strip().replace("-", "_")
        _require(name, options)
        usual = usual_ranges(options)
        if name in found:
            raise DraperError("an option is searched once", given=token)
        if not is_told and name not in usual:
            raise DraperError(
                "this option has no usual range", given=token, expected=f"{name}=LOW,HIGH",
                hint=f"usual ranges have {', '.join(usual)}",
            )  # fmt: skip
        try:
            low, high = (float(value) for value in values.split(",")) if is_told else usual[name]
        except ValueError:
            raise DraperError("a range is two numbers", given=token, expected=f"{name}=LOW,HIGH") from None
        found[name] = (low, high)
    return found


def usual_ranges(options: ModelConfig) -> dict[str, tuple[float, float]]:
    """Return what is searched unless told, whether it is set or not."""
    usual = {**RANGES, **ENGINES.get(getattr(options, "engine", ""), {})}
    return {name: usual[name] for name in usual if name in searchable(type(options))}


def ranges(
    options: ModelConfig, train: TrainConfig, search: Mapping[str, tuple[float, float]]
) -> dict[str, Range]:
    """Return what is searched, by name; refuse what cannot be.

    Parameters
    ----------
    options, train
        What is set is not searched.
    search
        Ranges; without any, the usual ones of what is not set.
    """
    kinds = searchable(type(options))
    is_set = options.model_fields_set | train.model_fields_set
    if train.steps is not None:
        is_set |= {"epochs"}  # they would be ignored
    if not search:
        search = {name: ends for name, ends in usual_ranges(options).items() if name not in is_set}
    found: dict[str, Range] = {}
    for name, (low, high) in search.items():
        _require(name, options)
        if name in is_set:
            raise DraperError(
                "an option is set or searched", given=f"{name}, both", hint="leave out one of them"
            )
        found[name] = Range(low=low, high=high, whole=kinds[name].whole)
    if not found:
        raise DraperError("nothing is left to be searched", hint="set fewer options, or name ranges")
    for end in ("low", "high"):  # refuse now what would end a search half-way
        settled(options, train, {name: one.rounded(getattr(one, end)) for name, one in found.items()})
    return found


def settled(
    options: ModelConfig, train: TrainConfig, settings: Mapping[str, float]
) -> tuple[ModelConfig, TrainConfig]:
    """Return options with the values of a trial."""
    kinds, own = searchable(type(options)), type(options).model_fields
    of_model = {name: value for name, value in settings.items() if name in own}
    of_trainer = {name: value for name, value in settings.items() if name not in own}
    found = {name: (value,) if kinds[name].several else value for name, value in of_model.items()}
    return options.replace(**found), train.replace(**of_trainer)


def _require(name: str, options: ModelConfig) -> None:
    known = searchable(type(options))
    if name not in known:
        raise DraperError(
            f"'{name}' cannot be searched", given=name, expected="an option that is a number",
            hint=did_you_mean(name, known),
        )  # fmt: skip
