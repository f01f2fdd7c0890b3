"""The reference model of a pair: it is trained on synthetic and observed spectra of different stars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from draper.config import Config
from draper.configs.aligned import AlignedConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.instrument.pipeline import Pipeline
from draper.instrument.standardize import Standardize
from draper.models.base import Model, Progress
from draper.models.dataset import Part, Source
from draper.nn.linear import LinearNetwork
from draper.nn.module import Batch, Batches
from draper.results.estimates import Estimates
from draper.simulate.made import made_observed, made_spectra
from draper.testing.reference import linear_estimates


class AlignedNetwork(LinearNetwork):
    """Linear regression on synthetic spectra, and the offset of the mean observed spectrum from theirs."""

    def __init__(self, pixels: int, latent: int, labels: int) -> None:
        super().__init__(pixels, latent, labels, "pca")
        self.offset = nn.Parameter(torch.zeros(pixels))
        self.players = ("offset", *self.players)

    def shifted(self, batch: Batch) -> Tensor:
        """Return observed spectra (n, p) as synthetic ones would look; bad pixels stay 0."""
        return torch.where(batch["ivar"] > 0, batch["flux"] + self.offset, 0.0)

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Encode synthetic spectra once for all players."""
        return super().shared(only(batch, "synthetic"))

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the squared distance of shifted spectra from the mean, or the loss of the regression."""
        if player != "offset":
            return super().loss(only(batch, "synthetic"), shared, player, progress)
        return {"total": self.shifted(only(batch, "observed")).square().mean()}

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters that a player moves."""
        return [self.offset] if player == "offset" else super().parameters_of(player)

    def prepare(self, train: Batches) -> None:
        """Start from the principal components of synthetic spectra, and the mean of observed ones."""
        super().prepare(lambda: (only(batch, "synthetic") for batch in train()))
        observed = [only(batch, "observed") for batch in train()]
        good = torch.cat([batch["ivar"] > 0 for batch in observed])
        flux = torch.cat([batch["flux"] for batch in observed])
        self.offset.copy_(-(good * flux).sum(0) / good.sum(0).clamp(min=1))

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Measure the errors of the labels on held-out synthetic spectra."""
        super().finish(
            train, None if valid is None else lambda: (only(batch, "synthetic") for batch in valid())
        )


def only(batch: Batch, source: str) -> dict[str, Tensor]:
    """Return the tensors of one source, by their own names."""
    prefix = f"{source}."
    return {name.removeprefix(prefix): tensor for name, tensor in batch.items() if name.startswith(prefix)}


class AlignedRegression(Model):
    """Labels of observed spectra by linear regression on synthetic ones, after a shift to their mean.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> train = TrainConfig(steps=20, threads=1, progress="none")
    >>> data = AlignedRegression.example_data(200)
    >>> model = AlignedRegression(labels=["teff"]).fit(**data, train=train)
    >>> model.generate(data["observed"][:2]).flux.shape
    (2, 96)
    """

    name: ClassVar[str] = "aligned"
    config: AlignedConfig

    @classmethod
    def example_data(cls, n: int, seed: int = 0) -> dict[str, Source]:
        """Return computed spectra, and observed ones of other stars with a line that the first lack."""
        return {"synthetic": made_spectra(n, seed=seed), "observed": cls.example_spectra(n // 2, seed + 100)}

    @classmethod
    def example_spectra(cls, n: int, seed: int = 0) -> Spectra:
        """Return observed spectra."""
        return made_observed(n, seed=seed)

    def design(self, synthetic: Part, observed: Part) -> tuple[LabelSet, Pipeline]:
        """Scale labels by their ranges, and spectra by the mean and scatter of the synthetic ones."""
        labels = LabelSet.from_table(synthetic.table, self.config.labels)
        return labels, Pipeline([Standardize.fit(synthetic.batches())])

    def build(self, grid: Grid, labels: LabelSet) -> AlignedNetwork:
        """Return a new network."""
        return AlignedNetwork(len(grid), self.config.latent, len(labels))

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return flux and weights."""
        return {"flux": spectra.flux, "ivar": spectra.ivar}

    def targets(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return scaled labels, NaN where spectra have none."""
        missing = np.full(len(spectra), np.nan)
        table = {name: spectra.table.get(name, missing) for name in self.labels.names}
        return {"labels": self.labels.scale(self.labels.read(table)).astype(np.float32)}

    @property
    def network(self) -> AlignedNetwork:
        """The network, by its own type."""
        return cast(AlignedNetwork, self.own_module)

    def generate(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Spectra:
        """Return observed spectra as synthetic ones would look."""
        self.options_of("generate", options, **changes)
        network = self.network

        def shift(batch: Batch) -> tuple[Tensor, ...]:
            return self.pipeline.inverse(network.shifted(batch), batch["ivar"])[:1]

        (flux,) = self.apply(spectra, shift, (len(self.own_grid),), progress=progress)
        return Spectra(
            self.own_grid,
            flux,
            table=spectra.table,
            quantity=spectra.quantity,
            unit=spectra.unit,
            meta=spectra.meta,
        )

    def predict(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return labels of observed spectra with the scatter of held-out synthetic ones."""
        self.options_of("predict", options, **changes)
        return linear_estimates(self, self.network, spectra, self.network.shifted, progress)

    def reconstruct(self, spectra: Spectra) -> None:
        """Return nothing: the spectra that this model generates are to look different."""

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return "@software{draper, author = {{the draper developers}}, title = {draper}, year = {2026}}"
