"""The Emulator: labels to spectra by a network, and back by a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draper.models.emulator.model import Emulator

__all__ = ["Emulator"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: the package holds files that start without torch.
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from draper.models.emulator import model

    return getattr(model, name)
