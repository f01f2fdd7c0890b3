"""The events that a run yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Event:
    """An event of a run.

    Attributes
    ----------
    kind
        ``start``, ``log`` (means over the steps since the last ``log``), ``checkpoint`` or ``end``.
    step, steps
        Number of steps done, and total number of steps.
    epoch
        Passes over the training set so far.
    seconds
        Time since the run began, including earlier parts of a resumed run.
    metrics
        Numbers by name: ``PLAYER/TERM`` or ``train/TERM`` with one player, ``valid/TERM``, ``rate``.
    facts
        Text about the run by name: device, threads, reason of its end.
    path
        The file of a checkpoint.
    """

    kind: Literal["start", "log", "checkpoint", "end"]
    step: int
    steps: int
    epoch: float
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
