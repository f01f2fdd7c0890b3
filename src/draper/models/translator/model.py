"""The Translator: synthetic spectra that look observed, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.config import Config
from draper.configs.translator import Domain, EncodeConfig, TranslateConfig, TranslatorConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.pipeline import Pipeline
from draper.models.base import Model, Progress
from draper.models.dataset import Dataset, Part, Source, as_spectra, is_partitioned
from draper.models.translator.cycle import CycleNetwork
from draper.models.translator.grids import on_common_grid, on_pixels_of
from draper.nn.module import Batch
from draper.simulate.made import made_observed, made_spectra


class Translator(Model):
    """Translates synthetic spectra into observed ones, and back, as StarNet Cycle-GAN does.

    It is trained on two sets of spectra of different stars, and needs no labels.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> data = Translator.example_data(64)
    >>> train = TrainConfig(steps=4, batch_size=16, threads=1, progress="none")
    >>> model = Translator(**Translator.SMALL).fit(**data, train=train)
    >>> model.generate(data["synthetic"][:2]).flux.shape
    (2, 96)
    """

    name: ClassVar[str] = "translator"
    SMALL: ClassVar[Mapping[str, Any]] = TranslatorConfig.example
    """Options of a network for a hundred pixels."""
    config: TranslatorConfig

    # -------------------------------------------------------------- the contract

    @classmethod
    def example_data(cls, n: int, seed: int = 0) -> dict[str, Source]:
        """Return computed spectra, and observed ones of other stars with a line that the first lack."""
        return {"synthetic": made_spectra(n, seed=seed), "observed": cls.example_spectra(n // 2, seed + 100)}

    @classmethod
    def example_spectra(cls, n: int, seed: int = 0) -> Spectra:
        """Return observed spectra."""
        return made_observed(n, seed=seed)

    def gather(
        self,
        data: Source | None,
        valid: Source | float | Mapping[str, Source | float] | None,
        seed: int,
        **sources: Source,
    ) -> Dataset:
        """Return the parts of both sets on one grid: the observed pixels that synthetic spectra cover."""
        both = [sources.get(one.name) for one in self.config.inputs]
        if all(isinstance(one, Spectra) or _is_file(one) for one in both):
            sets = on_common_grid(*(as_spectra(cast(Source, one)) for one in both))
            sources |= dict(zip((one.name for one in self.config.inputs), sets, strict=True))
        return super().gather(data, valid, seed, **sources)

    def design(self, synthetic: Part, observed: Part) -> tuple[LabelSet, Pipeline]:
        """Return neither labels nor transforms: the network scales spectra by itself."""
        if not synthetic.grid.matches(observed.grid):
            raise DraperError(
                "synthetic and observed spectra are not on one grid",
                given=f"synthetic: {synthetic.grid!r}",
                expected=f"observed: {observed.grid!r}",
                hint="streams and simulators are not resampled: draper convert FILE --grid ... -o ...",
            )
        return LabelSet(), Pipeline()

    def build(self, grid: Grid, labels: LabelSet) -> CycleNetwork:
        """Return a new network."""
        config = self.config
        return CycleNetwork(
            len(grid),
            filters=config.filters,
            strides=config.strides,
            shared_filters=config.shared_filters,
            shared_strides=config.shared_strides,
            split_filters=config.split_filters,
            shared=config.shared,
            split=config.split,
            kernel=config.kernel,
            discriminator_filters=config.critic,
            discriminator_latent_filters=tuple(2 * size for size in config.critic),
            adversarial=config.adversarial,
            penalty=config.penalty,
            best_of=config.best_of,
        )

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return flux and weights."""
        return {"flux": spectra.flux, "ivar": spectra.ivar}

    @property
    def network(self) -> CycleNetwork:
        """The network, by its own type."""
        return cast(CycleNetwork, self.own_module)

    # ---------------------------------------------------------------- the verbs

    def encode(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> NDArray[np.float32]:
        """Return latents (n, d) of spectra: those that both domains share by default.

        Parameters
        ----------
        spectra
            Observed spectra, or synthetic ones with ``domain="synthetic"``.
        options, changes
            See :class:`draper.configs.translator.EncodeConfig`.
        progress
            Called with the number of spectra that are done, and the number of all.
        """
        chosen = cast(EncodeConfig, self.options_of("encode", options, **changes))
        network = self.network
        sizes = {"shared": self.config.shared, "split": self.config.split}
        wanted = ("shared", "split") if chosen.part == "both" else (chosen.part,)
        if "split" in wanted and (chosen.domain == "synthetic" or not self.config.split):
            raise DraperError(
                "these spectra have no split latents",
                given=f"domain={chosen.domain}, a model with split={self.config.split}",
                expected="observed spectra, and a model with a split latent",
            )

        def latents(batch: Batch) -> tuple[Tensor, ...]:
            parts = dict(zip(sizes, network.encode(batch["flux"], batch["ivar"], chosen.domain), strict=True))
            return (torch.cat([cast(Tensor, parts[name]).flatten(1) for name in wanted], dim=1),)

        width = sum(sizes[name] for name in wanted) * network.length
        return self._apply(spectra, latents, width, progress=progress)

    def generate(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Spectra:
        """Return synthetic spectra as they would be observed, or observed ones as they would be computed.

        Parameters
        ----------
        spectra
            Synthetic spectra, or observed ones with ``to="synthetic"``; with the columns of their table.
        options, changes
            See :class:`draper.configs.translator.TranslateConfig`.
        progress
            Called with the number of spectra that are done, and the number of all.
        """
        chosen = cast(TranslateConfig, self.options_of("generate", options, **changes))
        network = self.network
        more: Callable[[Spectra, slice], dict[str, NDArray[Any]]] | None = None
        if chosen.split == "drawn":
            if not self.config.split:
                raise DraperError(
                    "this model has no split latents to draw", given="split='drawn', a model with split=0"
                )
            generator = torch.Generator().manual_seed(chosen.seed)
            drawn = network.sampled_split(len(spectra), generator).cpu().numpy()

            def more(part: Spectra, rows: slice) -> dict[str, NDArray[Any]]:
                del part
                return {"split": drawn[rows]}

        def translate(batch: Batch) -> tuple[Tensor, ...]:
            return (network.translate(batch["flux"], batch["ivar"], chosen.to, batch.get("split")),)

        flux = self._apply(spectra, translate, len(self.own_grid), more, progress)
        return self._made(spectra, flux, chosen.to)

    reconstructs_from: ClassVar[str] = "the latents of the spectra"

    def reconstruct(self, spectra: Spectra) -> Spectra:
        """Return observed spectra, encoded and decoded."""
        network = self.network

        def again(batch: Batch) -> tuple[Tensor, ...]:
            return (network.reconstruct(batch["flux"], batch["ivar"], "observed"),)

        flux = self._apply(spectra, again, len(self.own_grid))
        return self._made(spectra, flux, "observed")

    def _apply(
        self,
        spectra: Spectra,
        function: Callable[[Batch], tuple[Tensor, ...]],
        width: int,
        more: Callable[[Spectra, slice], dict[str, NDArray[Any]]] | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Return what a function makes (n, width) of spectra of any resolving power."""
        return self.apply(on_pixels_of(self.own_grid, spectra), function, (width,), more, progress)[0]

    def _made(self, spectra: Spectra, flux: NDArray[np.float32], domain: Domain) -> Spectra:
        return Spectra(
            self.own_grid,
            flux,
            table=spectra.table,
            quantity=spectra.quantity,
            unit=spectra.unit,
            meta={**spectra.meta, "model": self.name, "domain": domain},
        )

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return """@article{obriain2021,
  author  = {O'Briain, T. and Ting, Y.-S. and Fabbro, S. and Yi, K. M. and Venn, K. and Bialek, S.},
  title   = {{Cycle-StarNet: Bridging the Gap between Theory and Data by Leveraging Large Data Sets}},
  journal = {The Astrophysical Journal},
  volume  = {906},
  pages   = {130},
  year    = {2021}
}"""


def _is_file(source: Source | None) -> bool:
    """Return whether a source is a file that is read as a whole."""
    return isinstance(source, (str, Path)) and not is_partitioned(source)
