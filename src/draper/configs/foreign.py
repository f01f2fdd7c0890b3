"""What an option file of another code becomes: options in draper's names, and notes on what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Translation(NamedTuple):
    """Options of another code in draper's names.

    Attributes
    ----------
    model, train, read : dict
        Options of the model's config class, of :class:`draper.configs.train.TrainConfig` and of
        :class:`draper.configs.read.ReadConfig`.
    inputs : dict
        Files of the training data by the name of the model's input; without those in a layout that draper
        does not read.
    notes : tuple of str
        One line for each option that works differently in draper, or has no counterpart.
    """

    model: dict[str, Any]
    train: dict[str, Any]
    read: dict[str, Any]
    inputs: dict[str, Path]
    notes: tuple[str, ...]
