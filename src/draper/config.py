"""The base of every option: one frozen class is keyword arguments, command-line flags and JSON at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from draper.errors import DraperError, did_you_mean


class Config(BaseModel):
    """A frozen set of options that refuses names it does not know.

    A subclass lists its options as annotated fields, each followed by a docstring; the docstring becomes
    the help of the command-line flag.

    Examples
    --------
    >>> class Toy(Config):
    ...     latent: int = 8
    >>> Toy(latent=4).latent
    4
    >>> Toy(latnet=4)
    Traceback (most recent call last):
    ...
    draper.errors.DraperError: Toy does not know the option 'latnet'
      given:    latnet=4
      hint:     did you mean 'latent'?
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )

    flags: ClassVar[str] = "*"
    """Prefix of the command-line flags: ``fit`` makes ``--fit.rv`` of ``rv``, and ``*`` plain ``--rv``."""

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise reworded(error, type(self)) from None

    @model_validator(mode="before")
    @classmethod
    def _one_of_several(cls, options: Any) -> Any:
        """Take one value, such as ``remove="teff"``, where several may be given."""
        if not isinstance(options, dict):
            return options
        several = {name for name, field in cls.model_fields.items() if takes_several(field.annotation)}
        return {
            name: (value,)
            if name in several and (isinstance(value, str | int | float) and not isinstance(value, bool))
            else value
            for name, value in options.items()
        }

    def replace(self, **options: Any) -> Self:
        """Return a copy with some options changed; the result is validated again."""
        return type(self)(**{**self.model_dump(exclude_unset=True), **options})

    def to_json(self) -> dict[str, Any]:
        """Return every option as plain JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return the config that :meth:`to_json` described."""
        return cls(**state)


def takes_several(annotation: Any) -> bool:
    """Return whether a type is that of any number of values: ``tuple[..., ...]``.

    Examples
    --------
    >>> takes_several(tuple[str, ...]), takes_several(tuple[float, float]), takes_several(str)
    (True, False, False)
    """
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_origin(annotation) is tuple and get_args(annotation)[-1] is Ellipsis


SourceKind = Literal["spectra", "stream", "simulator"]


@dataclass(frozen=True)
class Input:
    """One of the data sets that a model is trained on.

    Attributes
    ----------
    name
        Keyword of ``fit``, and flag of ``draper train``; the input called ``spectra`` is positional.
    summary
        One line of help.
    kinds
        What it may be: spectra in memory or in files, a stream of Parquet partitions, a simulator.
    required
        Whether the model needs it.
    """

    name: str
    summary: str
    kinds: tuple[SourceKind, ...] = ("spectra", "stream")
    required: bool = True


class ModelConfig(Config):
    """Options of one model, and what generic code must know about it before torch is imported."""

    model: ClassVar[str]
    """``"package.module:Class"`` of the model; a string, so that reading options never imports torch."""

    summary: ClassVar[str]
    """One line for ``draper train --help`` and the web page."""

    inputs: ClassVar[tuple[Input, ...]] = (
        Input("spectra", "Files of spectra, with the labels that the model needs as columns."),
    )
    """The data sets that the model is trained on."""

    training: ClassVar[dict[str, Any]] = {}
    """The model's own defaults for options of the trainer."""

    example: ClassVar[dict[str, Any]] = {}
    """Options for a run of seconds on small data; the conformance checks use them."""

    later: ClassVar[tuple[str, ...]] = ()
    """Options that a later fit may change, such as which layers it trains."""

    verb_options: ClassVar[dict[str, type[Config]]] = {}
    """Options of verbs by verb, such as ``{"predict": FitConfig}``; a verb that is missing has none.

    ``explain`` and ``evaluate`` take the options of ``predict`` unless they are here, too."""

    generate_from: ClassVar[tuple[Literal["spectra", "labels"], ...]] = ("spectra",)
    """What ``generate`` takes, in the order of its arguments: spectra, labels, or spectra and new labels."""

    commands: ClassVar[tuple[str, ...]] = ()
    """Commands of this family, as ``"package.module:function"``."""

    objectives: ClassVar[str] = "draper.models.search.objectives:HeldOutLoss"
    """What ``draper tune`` minimises and ``draper sweep`` compares, as ``"package.module:Class"``."""

    objective_options: ClassVar[type[Config]] = Config
    """Options of these objectives, which are flags of ``draper tune`` and ``draper sweep``."""

    foreign_options: ClassVar[tuple[str, ...]] = ()
    """Option files of other codes that the model understands, as ``"package.module:OptionFile"`` objects."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What training with these options does that a user may not expect; ``draper train`` says it."""
        return ()

    @property
    def own_training(self) -> Mapping[str, Any]:
        """Defaults for options of the trainer with these options of the model."""
        return self.training

    def training_for(self, rows: int) -> Mapping[str, Any]:
        """Return defaults for options of the trainer with so many training spectra."""
        del rows
        return self.own_training

    @classmethod
    def inputs_example(cls) -> str:
        """Return how the command line names the inputs, for help and errors."""
        words = []
        for entry in cls.inputs:
            if entry.kinds == ("simulator",):
                words.append("--simulator stars")
            elif entry.required:
                words.append("stars.h5" if entry.name == "spectra" else f"--{entry.name} {entry.name}.h5")
        return " ".join(words)

    def search_ranges(self) -> dict[str, tuple[float, float]]:
        """Return the options that ``draper tune`` searches by default, with their lowest and highest value.

        Options of the trainer may be among them. The first trial takes the middle of each range (of its
        logarithm, where the range does not begin at 0), so that the middle should suit most data.
        """
        return {"learning_rate": (3e-4, 3e-3), "epochs": (10, 40)}

    @classmethod
    def options_class(cls, verb: str) -> type[Config]:
        """Return the class of a verb's options; :class:`Config`, which has none, if the verb has none."""
        predicts = ("predict",) if verb in ("explain", "evaluate") else ()
        return next(
            (cls.verb_options[name] for name in (verb, *predicts) if name in cls.verb_options), Config
        )


def reworded(error: ValidationError, config: type[BaseModel]) -> DraperError:
    """Turn pydantic's report into one :class:`DraperError` about the first thing that is wrong."""
    found = error.errors(include_url=False)
    first = found[0]
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, DraperError):  # an option that is itself a config has reworded it already
        return inner
    field = config.model_fields.get(str(first["loc"][0])) if first["loc"] else None
    one_of = get_origin(field.annotation) in (Union, UnionType) if field else False
    parts = first["loc"][:1] if one_of else first["loc"]  # the rest names which of several types was tried
    name = ".".join(map(str, parts)) or config.__name__
    given = f"{name}={first['input']!r}" if first["loc"] else None
    if first["type"] == "extra_forbidden":
        owner = config if len(first["loc"]) == 1 else None
        hint = did_you_mean(name, owner.model_fields) if owner else "remove it"
        return DraperError(f"{config.__name__} does not know the option '{name}'", given=given, hint=hint)
    tried = [error for error in found if error["loc"][:1] == first["loc"][:1]] if one_of else [first]
    messages = [
        error["msg"].removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable")[0]
        for error in tried
    ]
    return DraperError(
        f"the option '{name}' of {config.__name__} is not valid",
        given=given,
        expected=", or ".join(dict.fromkeys(messages)),
    )
