"""What the parts of the Retriever ask of the model itself."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from draper.configs.retriever import RetrieveConfig, RetrieverConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.models.retriever.network import RetrieverNetwork
from draper.models.retriever.observation import Observation
from draper.models.retriever.posterior import Retrieval
from draper.nn.module import Module
from draper.simulate.planets import Planets


class Sampling(Protocol):
    """A model that samples posteriors."""

    config: RetrieverConfig
    labels: LabelSet
    training: dict[str, Any]

    @property
    def network(self) -> RetrieverNetwork:
        """The network of method=flow."""

    @property
    def own_module(self) -> Module:
        """The network of any method."""

    @property
    def own_grid(self) -> Grid:
        """The fine grid."""

    @property
    def physics(self) -> Planets | None:
        """The simulator that the model was trained on."""

    def observations(self, spectra: Spectra, options: RetrieveConfig) -> list[Observation | None]:
        """Return spectra as observations of the fine grid."""

    def retrievals(
        self, spectra: Spectra, seen: list[Observation | None], options: RetrieveConfig
    ) -> list[Retrieval]:
        """Return the posterior of each spectrum."""

    def drawn(self, seen: list[Observation], noise: Tensor) -> NDArray[np.float64]:
        """Return samples (n, draws, l) of the network."""
