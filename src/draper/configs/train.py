"""Options of the trainer."""

from __future__ import annotations

from copy import copy
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from draper.config import Config, ModelConfig

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class TrainConfig(Config):
    """How a model is trained; the same options for every model."""

    epochs: Annotated[float, Field(gt=0)] = 50
    """Passes over the training set, above 0 (10,000 draws of a simulator); ignored if `steps` is given."""
    steps: Positive | None = None
    """Number of batches, 1 or more; follows from `epochs` by default."""
    batch_size: Positive = 256
    """Rows of one batch, summed over all processes, 1 or more."""
    optimizer: Literal["adam", "adamw", "radam", "sgd"] = "adam"
    """Optimiser."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Largest learning rate of the schedule, above 0."""
    rates: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Learning rates of single players of an adversarial model, such as critic=1e-4."""
    repeats: dict[str, Positive] = {}
    """Optimiser steps of single players in each batch, such as critic=2; one by default."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """Learning-rate schedule after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises from 0, 0 or more."""
    final_rate: Fraction = 0.01
    """End of the cosine and linear schedules, as a fraction (0 to 1) of the learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay, 0 or more."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of a player's gradient, above 0; gradients are not clipped by default."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay (0 to 1) of a moving average of the weights, which becomes the model, such as 0.999; off by
    default."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the forward pass; weights and updates are always float32."""
    matmul: Literal["auto", "highest", "medium"] = "auto"
    """Mode of torch's float32 matrix product on the CPU; auto takes the fastest accurate one."""
    threads: Positive | None = None
    """CPU threads, 1 or more; the fastest number, found by a short trial, by default."""
    device: str = "auto"
    """cpu, cuda, cuda:1 or mps; auto takes cuda, else mps, else cpu."""
    data: Literal["auto", "resident", "mapped"] = "auto"
    """Hold the training set on the device (resident) or read it batch by batch (mapped); auto holds it if it
    fits."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of weights, batches and noise, 0 or more."""
    metric: str = "valid/total"
    """Term of the held-out loss that early stopping watches."""
    patience: Positive | None = None
    """Stop after this many validations without improvement and keep the best weights; off by default."""
    validate_every: Positive | None = None
    """Steps between validations, 1 or more; one epoch by default."""
    log_every: Positive | None = None
    """Steps between lines of the history, 1 or more; 1/200 of the run by default."""
    checkpoint_every: Positive = 1000
    """Steps between checkpoints, 1 or more."""
    explosion: Annotated[float, Field(gt=1)] = 1e6
    """Stop if a loss exceeds its largest early value by this factor, above 1."""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """How progress is shown; auto: a bar on a terminal and plain lines elsewhere."""
    tensorboard: bool = False
    """Write TensorBoard events to the folder `tensorboard` of the artifact (extra: tracking)."""

    def total_steps(self, rows: int, size: int) -> int:
        """Return the steps of a run over ``rows`` rows in batches of ``size``."""
        return self.steps or max(1, round(self.epochs * rows / size))


@cache
def training_class(config: type[ModelConfig]) -> type[TrainConfig]:
    """Return the options of the trainer with the defaults of one model, for its help.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> training_class(config_class("emulator"))().epochs
    1000.0
    """
    fields: dict[str, Any] = {}
    for name, value in config.training.items():
        field = copy(TrainConfig.model_fields[name])
        field.default = value
        fields[name] = (field.annotation, field)
    return create_model("TrainConfig", __base__=TrainConfig, __module__=__name__, **fields)
