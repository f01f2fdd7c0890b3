"""draper: deep generative models for astronomical spectra, behind one contract.

Names are imported when they are first used, so that ``import draper`` costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Disentangler": "draper.models.disentangler.model",
    "DraperError": "draper.errors",
    "Emulator": "draper.models.emulator.model",
    "Estimates": "draper.results.estimates",
    "Grid": "draper.data.grid",
    "Label": "draper.data.labels",
    "LabelSet": "draper.data.labels",
    "MaskedAutoencoder": "draper.models.masked.model",
    "Partitions": "draper.data.partitions",
    "Retriever": "draper.models.retriever.model",
    "Spectra": "draper.data.spectra",
    "TrainConfig": "draper.configs.train",
    "Translator": "draper.models.translator.model",
    "load": "draper.models.base",
    "read": "draper.data.io",
    "samples": "draper.data.samples",
    "write": "draper.data.io",
}
"""Public name -> the module that defines it (or is it)."""

__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'draper' has no attribute '{name}'")
    module = import_module(_NAMES[name])
    return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted(__all__)
