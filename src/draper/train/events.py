"""What a run tells while it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Event:
    """One moment of a run.

    Attributes
    ----------
    kind
        ``start``, ``log`` (means over the steps since the last one), ``checkpoint`` or ``end``.
    step, steps
        Steps done, and in all.
    epoch
        Passes over the training set so far.
    seconds
        Since the run began, earlier parts of a resumed run included.
    metrics
        Named numbers: ``PLAYER/TERM`` or ``train/TERM`` with one player, ``valid/TERM``, ``rate``.
    facts
        Words about the run: device, threads, why it ended.
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
