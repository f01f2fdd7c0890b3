"""The installed models: a name leads to a config class, and the config class names its model.

Modules are imported only when needed, so that lists and help start without torch.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from draper.config import ModelConfig
from draper.errors import DraperError, did_you_mean

GROUP = "draper.models"
"""The entry-point group in which a package announces its models."""


def resolve(target: str) -> Any:
    """Import ``"package.module:attribute"`` and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


@cache
def targets() -> dict[str, str]:
    """Return ``{model name: "package.module:ConfigClass"}`` for every installed model."""
    return {point.name: point.value for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def config_class(name: str) -> type[ModelConfig]:
    """Return the config class of the model called ``name``.

    Examples
    --------
    >>> config_class("linear").__name__
    'LinearConfig'
    """
    models = targets()
    if name not in models:
        raise DraperError(f"there is no model called '{name}'", given=name, hint=did_you_mean(name, models))
    config: type[ModelConfig] = resolve(models[name])
    return config


def model_class(name: str) -> Any:
    """Return the model class called ``name``; this imports torch."""
    return resolve(config_class(name).model)
