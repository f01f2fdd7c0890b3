"""Options of the trainer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from draper.config import Config

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class TrainConfig(Config):
    """How a model is trained; the same for every model."""

    epochs: Annotated[float, Field(gt=0)] = 50
    """Passes over the training set; ignored when `steps` is given."""
    steps: Positive | None = None
    """Batches in all."""
    batch_size: Positive = 256
    """Rows of one batch, over all processes together."""
    optimizer: Literal["adam", "adamw", "radam", "sgd"] = "adam"
    """The update rule."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Largest learning rate of the schedule."""
    rates: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Learning rates of single players, where they differ, such as critics=1e-4."""
    repeats: dict[str, Positive] = {}
    """Steps of single players in each batch, where they differ from one; the batch stays the same."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises from 0."""
    final_rate: Fraction = 0.01
    """Where cosine and linear schedules end, as a fraction of the learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decay of the weights."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of a player's gradient."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, such as 0.999; the average becomes the model."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the forward pass; weights and updates are float32 always."""
    matmul: Literal["auto", "highest", "medium"] = "auto"
    """Mode of torch's float32 matrix product on the CPU; auto takes the fastest that is float32-accurate."""
    threads: Positive | None = None
    """CPU threads; the fastest for this model by a short trial unless given."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes cuda, else mps, else cpu."""
    data: Literal["auto", "resident", "mapped"] = "auto"
    """Whether the training set is held on the device or read batch by batch; auto holds it where it fits."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of weights, batches and noise."""
    metric: str = "valid/total"
    """What is to become small: a term of the loss on the validation set."""
    patience: Positive | None = None
    """Stop after this many validations without improvement, and keep the best weights."""
    validate_every: Positive | None = None
    """Steps between validations; an epoch unless given."""
    log_every: Positive | None = None
    """Steps between lines of the history; a two-hundredth of the run unless given."""
    checkpoint_every: Positive = 1000
    """Steps between checkpoints."""
    explosion: Annotated[float, Field(gt=1)] = 1e6
    """Stop when a loss exceeds its largest early value by this factor."""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """How progress is shown: a bar on a terminal and plain lines elsewhere, unless told."""
    tensorboard: bool = False
    """Also write TensorBoard events to the folder `tensorboard` of the artifact (extra: tracking)."""

    def total_steps(self, rows: int, size: int) -> int:
        """Return the steps of a run over ``rows`` rows in batches of ``size``."""
        return self.steps or max(1, round(self.epochs * rows / size))
