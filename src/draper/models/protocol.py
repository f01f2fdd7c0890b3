"""What the artifact and a run of training need of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from draper.config import ModelConfig
from draper.configs.train import TrainConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.instrument.pipeline import Pipeline
from draper.models.dataset import Dataset, Part
from draper.nn.module import Module
from draper.train.feed import Feed


class Trainable(Protocol):
    """The part of :class:`draper.models.base.Model` that is trained, written and read."""

    name: ClassVar[str]
    labels: LabelSet
    pipeline: Pipeline
    training: dict[str, Any]
    history: list[dict[str, float]]

    @property
    def config(self) -> ModelConfig:
        """The options."""

    @property
    def own_grid(self) -> Grid:
        """The grid."""

    @property
    def own_module(self) -> Module:
        """The network."""

    def set_up(self, grid: Grid, labels: LabelSet, pipeline: Pipeline) -> None:
        """Fix grid, labels and transforms, and build the network."""

    def feed(self, dataset: Dataset, parts: Mapping[str, Part], train: TrainConfig, **options: Any) -> Feed:
        """Return the batches of some parts of a data set."""

    def state(self) -> dict[str, Tensor]:
        """Return every array by name."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take these arrays."""

    def citation(self) -> str:
        """Return BibTeX."""

    def held_out_errors(self, dataset: Dataset) -> dict[str, dict[str, Any]]:
        """Return errors on held-out objects beside those of the mean."""

    def card_sections(self) -> Mapping[str, str]:
        """Return further sections of the model card."""
