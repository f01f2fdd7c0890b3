"""The base of every option: one frozen class is keyword arguments, command-line flags and JSON at once."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

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

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise reworded(error, type(self)) from None

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


class ModelConfig(Config):
    """Options of one model. ``model`` says where the class that they configure is defined."""

    model: ClassVar[str]
    """``"package.module:Class"``; a string, so that reading options never imports torch."""

    summary: ClassVar[str]
    """One line for ``draper train --help`` and the web page."""

    training: ClassVar[dict[str, Any]] = {}
    """Options of the trainer that suit this model, for those that nobody sets."""

    example: ClassVar[dict[str, Any]] = {}
    """Options for a run of seconds on small data; the conformance checks use them."""


def reworded(error: ValidationError, config: type[BaseModel]) -> DraperError:
    """Turn pydantic's report into one :class:`DraperError` about the first thing that is wrong."""
    first = error.errors(include_url=False)[0]
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, DraperError):  # an option that is itself a config has reworded it already
        return inner
    name = ".".join(str(part) for part in first["loc"]) or config.__name__
    given = f"{name}={first['input']!r}" if first["loc"] else None
    if first["type"] == "extra_forbidden":
        owner = config if len(first["loc"]) == 1 else None
        hint = did_you_mean(name, owner.model_fields) if owner else "remove it"
        return DraperError(f"{config.__name__} does not know the option '{name}'", given=given, hint=hint)
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return DraperError(
        f"the option '{name}' of {config.__name__} is not valid", given=given, expected=message
    )
