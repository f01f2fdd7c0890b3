"""The reference model of a simulator: what it is trained on is drawn anew at every step."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from draper.config import Config
from draper.configs.simulated import SimulatedConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.instrument.pipeline import Pipeline
from draper.instrument.standardize import Standardize
from draper.models.base import Model, Progress
from draper.models.dataset import Part, Source
from draper.nn.linear import LinearNetwork
from draper.results.estimates import Estimates
from draper.simulate.made import MadeStars
from draper.testing.reference import linear_estimates


class SimulatedRegression(Model):
    """Linear label regression on the endless draws of a simulator.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> train = TrainConfig(steps=20, threads=1, progress="none")
    >>> model = SimulatedRegression(labels=["teff"]).fit(MadeStars(), train=train)
    >>> len(model.predict(MadeStars().simulate(3, seed=5)))
    3
    """

    name: ClassVar[str] = "simulated"
    config: SimulatedConfig

    @classmethod
    def example_data(cls, n: int, seed: int = 0) -> dict[str, Source]:
        """Return a small simulator."""
        return {"simulator": MadeStars()}

    @classmethod
    def example_spectra(cls, n: int, seed: int = 0) -> Spectra:
        """Return some of its spectra."""
        return MadeStars().simulate(n, seed) if n else MadeStars().simulate(1, seed)[:0]

    def design(self, simulator: Part) -> tuple[LabelSet, Pipeline]:
        """Scale labels by the simulator's prior, and spectra by the mean and scatter of a sample."""
        names = self.config.labels or simulator.prior.names
        labels = LabelSet(simulator.prior[name] for name in names)
        return labels, Pipeline([Standardize.fit(simulator.batches())])

    def build(self, grid: Grid, labels: LabelSet) -> LinearNetwork:
        """Return a new network."""
        return LinearNetwork(len(grid), self.config.latent, len(labels), "pca")

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return flux and weights."""
        return {"flux": spectra.flux, "ivar": spectra.ivar}

    def targets(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return scaled labels."""
        return {"labels": self.labels.scale(self.labels.read(spectra.table)).astype(np.float32)}

    def predict(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return labels with their held-out scatter; flagged where a spectrum is unlike the simulator's."""
        self.options_of("predict", options, **changes)
        network = cast(LinearNetwork, self.own_module)
        return linear_estimates(self, network, spectra, lambda batch: batch["flux"], progress)

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return "@software{draper, author = {{the draper developers}}, title = {draper}, year = {2026}}"
