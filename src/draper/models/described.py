"""What a model says of itself: the options of its class, and a few lines about one that is trained."""

from __future__ import annotations

from functools import reduce
from inspect import Parameter, Signature
from operator import or_
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from draper.errors import DraperError
from draper.registry import config_class


class OptionsSignature:
    """The signature of a model's class, for ``help``, ``inspect.signature`` and the completion of names.

    It is made when it is asked for, since importing a model must not import the configs of others.

    Examples
    --------
    >>> from inspect import signature
    >>> from draper.testing import LinearAutoencoder
    >>> signature(LinearAutoencoder).parameters["latent"].default
    32
    """

    def __get__(self, model: Any, owner: Any) -> Signature:
        try:
            config = config_class(owner.name)
        except (AttributeError, DraperError):  # an abstract class, or one that no package announces
            raise AttributeError("__signature__") from None
        options = [
            Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                default=field.get_default(call_default_factory=True),
                annotation=without_limits(field.annotation),
            )
            for name, field in config.model_fields.items()
        ]
        whole = Parameter(
            "config", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=f"{config.__name__} | None"
        )
        return Signature([whole, *options])


def without_limits(annotation: Any) -> Any:
    """Return a type without what ``Annotated`` adds, which nobody can read in a signature.

    Examples
    --------
    >>> without_limits(tuple[Annotated[int, "at least 1"], ...])
    tuple[int, ...]
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return without_limits(parts[0])
    if origin in (Union, UnionType):
        return reduce(or_, map(without_limits, parts))
    if origin in (tuple, list, dict):
        return origin[tuple(map(without_limits, parts))]
    return annotation


def summary_of(model: Any) -> str:
    """Return a few lines about a model: what it is, and of a trained one what it was trained on."""
    module, training = model.module, model.training
    rows = {"": training, **training.get("inputs", {})}
    trained = ", ".join(
        f"{facts['spectra']:,} {name or 'spectra'}" for name, facts in rows.items() if "spectra" in facts
    )
    size = sum(parameter.numel() for parameter in module.parameters()) if module else 0
    lines = {
        "grid": repr(model.grid) if module else "not fitted",
        "labels": ", ".join(model.labels.names) or "none",
        "trained on": trained or ("unknown" if module else "nothing yet"),
        "parameters": f"{size:,}",
        "verbs": ", ".join(model.verbs),
        "options": ", ".join(f"{name}={value}" for name, value in changed_options(model).items())
        or "the defaults",
    }
    return "\n".join(
        [f"{type(model).__name__} ({model.name})", *(f"  {name:<11} {text}" for name, text in lines.items())]
    )


def changed_options(model: Any) -> dict[str, Any]:
    """Return the options of a model that differ from the defaults."""
    fields = type(model.config).model_fields
    return {
        name: value
        for name, value in model.config.to_json().items()
        if getattr(model.config, name) != fields[name].get_default(call_default_factory=True)
    }
