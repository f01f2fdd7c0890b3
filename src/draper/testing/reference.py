"""The reference model: about the shortest complete one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.config import Config
from draper.configs.linear import LinearConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.pipeline import Pipeline
from draper.instrument.standardize import Standardize
from draper.models.base import Model, Progress
from draper.models.dataset import Part
from draper.nn.linear import LinearNetwork
from draper.nn.module import Batch
from draper.results.estimates import Estimates


class LinearAutoencoder(Model):
    """A linear autoencoder with linear label heads: about the shortest complete model.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> from draper.simulate.made import made_spectra
    >>> model = LinearAutoencoder(latent=4, labels=["teff"])
    >>> train = TrainConfig(epochs=2, threads=1, progress="none")
    >>> model.fit(made_spectra(200), train=train).encode(made_spectra(3)).shape
    (3, 4)
    """

    name: ClassVar[str] = "linear"
    config: LinearConfig

    def design(self, spectra: Part) -> tuple[LabelSet, Pipeline]:
        """Scale labels by their ranges, and spectra by their mean and scatter."""
        labels = LabelSet.from_table(spectra.table, self.config.labels)
        return labels, Pipeline([Standardize.fit(spectra.batches())])

    def build(self, grid: Grid, labels: LabelSet) -> LinearNetwork:
        """Return a new network."""
        return LinearNetwork(len(grid), self.config.latent, len(labels), self.config.start)

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return flux and weights."""
        return {"flux": spectra.flux, "ivar": spectra.ivar}

    def targets(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return scaled labels; one that is missing is NaN."""
        if not self.labels:
            return {}
        return {"labels": self.labels.scale(self.labels.read(spectra.table)).astype(np.float32)}

    @property
    def network(self) -> LinearNetwork:
        """The network, by its own type."""
        return cast(LinearNetwork, self.own_module)

    def encode(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> NDArray[np.float32]:
        """Return the latents (n, latent)."""
        self.options_of("encode", options, **changes)
        network = self.network
        z: NDArray[np.float32]
        (z,) = self.apply(
            spectra,
            lambda batch: (network.encoder(batch["flux"]),),
            (self.config.latent,),
            progress=progress,
        )
        return z

    def generate(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Spectra:
        """Return the reconstruction of each spectrum; pixels that were bad are filled in."""
        self.options_of("generate", options, **changes)
        network = self.network

        def reconstruct(batch: Batch) -> tuple[Tensor, ...]:
            z = network.encoder(batch["flux"])
            return self.pipeline.inverse(network.decoder(z), batch["ivar"])[:1]

        (flux,) = self.apply(spectra, reconstruct, (len(self.own_grid),), progress=progress)
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
        """Return labels with their held-out scatter; flagged where a spectrum is unlike the training set."""
        self.options_of("predict", options, **changes)
        network = self.network
        if not self.labels:
            raise DraperError("this model was trained without labels", hint="train with labels=[...]")
        return linear_estimates(self, network, spectra, lambda batch: batch["flux"], progress)

    def add_labels(self, labels: LabelSet) -> None:
        """Let the head predict further labels; those that it knows stay as they are."""
        before = self.network.state_dict()
        self.config = self.config.replace(labels=(*self.labels.names, *labels.names))
        self.set_up(self.own_grid, LabelSet([*self.labels, *labels]), self.pipeline)
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                if name.startswith("head."):
                    tensor.zero_()
                if name in before:
                    # Only the first axis of the head, and of its errors, has grown.
                    (tensor[: len(before[name])] if tensor.dim() else tensor).copy_(before[name])

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return "@software{draper, author = {{the draper developers}}, title = {draper}, year = {2026}}"


def linear_estimates(
    model: Model,
    network: LinearNetwork,
    spectra: Spectra,
    flux: Callable[[Batch], Tensor],
    progress: Progress | None = None,
) -> Estimates:
    """Return the labels that a linear network reads from ``flux`` (n, p) of each batch."""

    def infer(batch: Batch) -> tuple[Tensor, ...]:
        given = flux(batch)
        z = network.encoder(given)
        return network.predicted(z), network.misfit(given, batch["ivar"], z)[:, None]

    scaled, misfit = model.apply(spectra, infer, (len(model.labels), 1), progress=progress)
    sigma = np.broadcast_to(network.sigma.cpu().numpy(), scaled.shape)
    median = model.labels.unscale(scaled)
    return Estimates(
        model.labels,
        median,
        model.labels.unscale_error(scaled, sigma),
        spectra.ids,
        flags={
            "outside": misfit[:, 0] > float(network.limit),
            "label_range": ~model.labels.inside(median),
        },
    )
