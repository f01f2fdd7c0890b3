"""The learning-rate schedule."""

from __future__ import annotations

import math

from draper.configs.train import TrainConfig


def rate_factor(step: int, total: int, config: TrainConfig) -> float:
    """Return the learning rate of a step as a fraction of the maximum.

    Examples
    --------
    >>> config = TrainConfig(warmup=10, schedule="linear", final_rate=0)
    >>> [rate_factor(step, 110, config) for step in (0, 9, 10, 60)]
    [0.1, 1.0, 1.0, 0.5]
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    fraction = (step - config.warmup) / max(1, total - config.warmup)
    fall = {
        "constant": 1.0,
        "linear": 1 - fraction,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0))),
    }[config.schedule]
    return fall if config.schedule == "constant" else config.final_rate + (1 - config.final_rate) * fall
