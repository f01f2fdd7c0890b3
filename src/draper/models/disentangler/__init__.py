"""The Disentangler: latents free of chosen labels and rich in others, and GANDALF's options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draper.models.disentangler.model import Disentangler

__all__ = ["Disentangler"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: the package holds files that start without torch.
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from draper.models.disentangler import model

    return getattr(model, name)
