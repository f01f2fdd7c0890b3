"""The Translator: synthetic spectra that look observed, the other way round, and labels of observed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.config import Config
from draper.configs.translator import Domain, EncodeConfig, TranslateConfig, TranslatorConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet, label_columns
from draper.data.lines import Lines
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.infer.forward import ForwardModel
from draper.instrument.pipeline import Pipeline
from draper.models import artifact
from draper.models.base import Model, Progress
from draper.models.dataset import Dataset, Part, Source, as_spectra, is_partitioned
from draper.models.held_out import Errors, is_better, sample, spectrum_errors
from draper.models.translator.anchored import MAIN, AnchoredNetwork, independent
from draper.models.translator.anchored_lines import Stars, find_changes, find_lines
from draper.models.translator.cycle import CycleNetwork
from draper.models.translator.fitted import Fitted, fitted, nuisances, prepared
from draper.models.translator.grids import on_common_grid, on_pixels_of
from draper.models.translator.known_labels import observed_model
from draper.models.translator.label_fit import Nuisances
from draper.models.translator.label_weights import LabelWeights, effective
from draper.models.translator.line_strength import LineChanges
from draper.models.translator.residual import describe, learnt
from draper.nn.emulator import EmulatorNetwork
from draper.nn.module import Batch, Module
from draper.results.estimates import Estimates
from draper.results.missing_lines import LineTable
from draper.simulate.made import made_observed, made_spectra
from draper.train.distributed import World

LEFT = 0.002
"""Share of the scatter of synthetic spectra (rms) that their components may leave out."""

MOST_COMPONENTS = 1000
"""Largest number of these components."""


class Translator(Model):
    """Translates synthetic spectra into observed ones, and back, and fits labels to observed ones.

    It is trained on two sets of spectra of different stars. By default (``method="anchored"``) an observed
    spectrum is the synthetic one of its labels, times one plus a residual that stars with known labels teach;
    ``method="cycle"`` is the Cycle-GAN of O'Briain et al., which uses no labels and predicts none.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> data = Translator.example_data(300)
    >>> train = TrainConfig(epochs=100, threads=1, progress="none")
    >>> model = Translator(hidden=(32, 32)).fit(**data, train=train)
    >>> estimates = model.predict(Translator.example_spectra(100, seed=5))
    >>> estimates.labels.names
    ('teff', 'logg', 'fe_h')
    """

    name: ClassVar[str] = "translator"
    errors_from_spectra: ClassVar[bool] = True
    extra_verbs: ClassVar[tuple[str, ...]] = ("new_lines", "line_changes")
    config: TranslatorConfig
    components: int = 0
    """Number of principal components of the synthetic spectra (anchored)."""
    known: int = 0
    """How many labels, the first ones, observed stars are known by, or would be (anchored)."""
    free: int | None = None
    """How many of these are fitted without knowing them beforehand (anchored)."""
    weights: LabelWeights | None = None
    """How much synthetic spectra count in training (cycle with ``reweight``)."""

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
            first, second = (as_spectra(cast(Source, one)) for one in both)
            sets = on_common_grid(first, second, broaden=self.is_anchored)
            sources |= dict(zip((one.name for one in self.config.inputs), sets, strict=True))
        dataset = super().gather(data, valid, seed, **sources)
        if self.config.reweight:
            synthetic, observed = (dataset.training[one.name].table for one in self.config.inputs)
            self.weights = LabelWeights.measure(synthetic, observed, self.config.labels)
        return dataset

    def design(self, synthetic: Part, observed: Part) -> tuple[LabelSet, Pipeline]:
        """Return the labels (none of cycle), and no transforms: the networks scale spectra by themselves."""
        if not synthetic.grid.matches(observed.grid):
            raise DraperError(
                "synthetic and observed spectra are not on one grid",
                given=f"synthetic: {synthetic.grid!r}",
                expected=f"observed: {observed.grid!r}",
                hint="streams and simulators are not resampled: draper convert FILE --grid ... -o ...",
            )
        if not self.is_anchored:
            return LabelSet(), Pipeline()
        whole = all((batch.ivar > 0).all() for batch in synthetic.batches())
        most = min(MOST_COMPONENTS, len(synthetic.grid), max(1, len(synthetic) - 1))
        self.components = most if whole else 0
        return self._labels_of(synthetic.table, observed.table), Pipeline()

    def _labels_of(
        self, synthetic: Mapping[str, NDArray[Any]], observed: Mapping[str, NDArray[Any]]
    ) -> LabelSet:
        """Return the labels of synthetic spectra with their ranges, those that observed stars have first."""
        names = self.config.labels or label_columns(synthetic)
        if not names:
            raise DraperError(
                "synthetic spectra have no column of a stellar label that varies",
                given=", ".join(synthetic) or "no columns",
                expected="teff, logg, fe_h, ...",
                hint=f"name the columns: {option_text('labels')}; or translate without labels: "
                f"{option_text('method', 'cycle')}",
            )
        known = [name for name in names if name in observed and np.isfinite(observed[name]).any()]
        first = known or independent(synthetic, names)
        main = sum(name in MAIN for name in first)
        self.known, self.free = len(first), len(first) if known or not main else main
        return LabelSet.from_table(synthetic, [*first, *(name for name in names if name not in first)])

    def build(self, grid: Grid, labels: LabelSet) -> Module:
        """Return a new network."""
        config = self.config
        if self.is_anchored:
            return AnchoredNetwork(
                EmulatorNetwork(
                    len(labels),
                    len(grid),
                    config.hidden,
                    components=min(self.components, len(grid)),
                    tolerance=LEFT,
                    solve=True,
                ),
                self.known,
                self.free,
            )
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
        """Return flux and weights; over a polynomial continuum for the method anchored."""
        if not self.is_anchored:
            return {"flux": spectra.flux, "ivar": spectra.ivar}
        arrays = prepared(spectra, self.config.continuum)
        return {name: arrays[name] for name in ("flux", "ivar")}

    def targets(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return the scaled labels (anchored), NaN where unknown; weights by ``reweight`` (cycle)."""
        if not self.is_anchored:
            return {} if self.weights is None else {"frequency": self.weights.of(spectra.table)}
        values = np.full((len(spectra), len(self.labels)), np.nan)
        for number, name in enumerate(self.labels.names):
            if name in spectra.table:
                values[:, number] = spectra.table[name]
        return {"labels": (self.labels.scale(values) - 0.5).astype(np.float32)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load the arrays of a model; sizes of the method anchored follow from them."""
        if self.is_anchored:
            self.known = len(self.labels) - state["module.relation"].shape[1]
            self.components = len(state["module.synthetic.basis"])
            self.set_up(self.own_grid, self.labels, self.pipeline)
        super().load_state(state)

    @property
    def is_anchored(self) -> bool:
        """Whether the method is anchored."""
        return self.config.method == "anchored"

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that this model has; without labels there is nothing to predict, nor any responses."""
        needs_labels = ("predict", *self.extra_verbs)
        return tuple(verb for verb in super().verbs if self.is_anchored or verb not in needs_labels)

    def require(self, verb: str) -> None:
        """Raise an error if this model lacks a verb."""
        if verb in self.extra_verbs and not self.is_anchored:
            raise DraperError(
                "the method cycle uses no labels, so that responses to elements are unknown",
                given=f"{verb} of a model with method='cycle'",
                expected="method='anchored', the default",
                hint="train a model with labelled synthetic spectra, and observed stars with known labels",
            )
        super().require(verb)

    @property
    def network(self) -> CycleNetwork:
        """The network of the method cycle."""
        return cast(CycleNetwork, self.own_module)

    @property
    def anchored(self) -> AnchoredNetwork:
        """The network of the method anchored."""
        return cast(AnchoredNetwork, self.own_module)

    def conclude(self, dataset: Dataset, folder: Path | None) -> None:
        """Learn the residual from the observed spectra: from all, since anchors are left out in turns."""
        if self.weights is not None:
            of_synthetic = self.weights.of(dataset.training["synthetic"].table)
            self.training["reweighted"] = {"labels": self.weights.names, "effective": effective(of_synthetic)}
        if not self.is_anchored or not World.join(torch.device("cpu")).is_first:
            return
        arrays = [
            {**self.training_arrays(block), "error": self._errors_of(block)}
            for part in (dataset.training["observed"], dataset.held_out["observed"])
            for block in part.batches()
        ]
        flux, ivar, x, error = (
            torch.from_numpy(np.concatenate([one[name] for one in arrays]))
            for name in ("flux", "ivar", "labels", "error")
        )
        network, found = learnt(self.anchored, flux, ivar, x.double(), error.double(), self._nuisances)
        self.module = network
        self.training["residual"] = found
        self.training["inputs"]["observed"]["all_used"] = True
        if folder is not None:
            artifact.write(self, folder, complete=True)

    def held_out_errors(self, dataset: Dataset) -> Errors:
        """Return the errors of anchors, each of which was left out in turn; or of spectra."""
        residual = self.training.get("residual", {})
        if "rms" not in residual:
            spectra = sample(dataset)
            return spectrum_errors(spectra, self.reconstruct(spectra))
        known = self.labels[self.labels.names[: len(residual["rms"])]]
        parts = (dataset.training["observed"], dataset.held_out["observed"])
        values = np.concatenate([known.read(part.table) for part in parts])
        values = values[np.isfinite(values).all(axis=1) & known.inside(values)]
        rms = known.unscale_error(np.full((1, len(known)), 0.5), [residual["rms"]])[0]
        number = len(values)
        means = values.std(axis=0) * number / (number - 1)  # of the other anchors
        return {
            name: {"number": number, "rms": error, "mean": mean, "is_better": is_better(error, mean, number)}
            for name, error, mean in zip(known.names, rms.tolist(), means.tolist(), strict=True)
        }

    def _errors_of(self, spectra: Spectra) -> NDArray[np.float64]:
        """Return the errors (n, d) of scaled labels, from columns such as ``teff_err``; NaN where unknown."""
        sigma = np.full((len(spectra), len(self.labels)), np.nan)
        for number, name in enumerate(self.labels.names):
            if f"{name}_err" in spectra.table:
                sigma[:, number] = spectra.table[f"{name}_err"]
        return self.labels.scale_error(self.labels.unscale(np.full(sigma.shape, 0.5)), sigma)

    @property
    def _nuisances(self) -> Nuisances:
        return nuisances(self.own_grid, self.config.continuum, self.config.rv_error)

    def card_sections(self) -> Mapping[str, str]:
        """Return what is known of the residual, by left-out stars; or how spectra were weighed (cycle)."""
        residual, weighed = self.training.get("residual"), self.training.get("reweighted")
        sections = {} if residual is None else {"Residual": describe(residual, self.labels)}
        if weighed is not None:
            sections["Weights of synthetic spectra"] = (
                f"As frequent as among observed stars by {', '.join(weighed['labels'])}; as good as "
                f"{weighed['effective']:.0%} of the spectra with equal weights."
            )
        return sections

    # ---------------------------------------------------------------- the verbs

    def encode(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> NDArray[np.float32]:
        """Return shared latents (n, d) of spectra by default; the scaled labels that fit them (anchored).

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
        if self.is_anchored:
            if (chosen.domain, chosen.part) != ("observed", "shared"):
                raise DraperError(
                    "the method anchored encodes observed spectra alone, as the labels that fit them",
                    given=f"domain={chosen.domain}, part={chosen.part}",
                    expected="domain=observed, part=shared",
                )
            return self._fit(spectra, progress).x.astype(np.float32)
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
        if self.is_anchored:
            return self._translated(spectra, chosen, progress)
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
        """Return observed spectra, encoded and decoded; those of their fitted labels (anchored)."""
        if self.is_anchored:
            return self.explain(spectra)[1]
        network = self.network

        def again(batch: Batch) -> tuple[Tensor, ...]:
            return (network.reconstruct(batch["flux"], batch["ivar"], "observed"),)

        flux = self._apply(spectra, again, len(self.own_grid))
        return self._made(spectra, flux, "observed")

    def predict(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return labels of observed spectra, fitted through labels -> synthetic -> observed.

        Their covariance holds the scatter of observed spectra about the residual and the residual's own
        error, and is scaled so that intervals held the labels of left-out anchors.

        Parameters
        ----------
        spectra
            Observed spectra on the model's pixels, at rest.
        options, changes
            There are none.
        progress
            Called with the number of spectra that are done, and the number of all.
        """
        self.options_of("predict", options, **changes)
        return self._estimates(self._fit(spectra, progress))

    def explain(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> tuple[Estimates, Spectra]:
        """Return labels as :meth:`predict` does, and the spectra that were fitted, with their continuum."""
        self.options_of("predict", options, **changes)
        fit = self._fit(spectra, progress, keep=True)
        made = self._made(spectra, fit.spectra["flux"].astype(np.float32), "observed")
        return self._estimates(fit), made.with_columns(rv=None)

    def new_lines(
        self,
        labels: Stars = 64,
        *,
        q: float = 0.05,
        least: float = 0.5,
        lines: Lines | None = None,
        seed: int = 0,
        by_depth: bool = False,
    ) -> LineTable:
        """Find lines that observed spectra have and synthetic ones lack (anchored), and their elements.

        Lines are found by their response to elements, whose noise is at least the residual's own error. A
        residual of degree 0, as few stars with known labels give, is the same for all stars: lines are then
        found by their mean depth, and their elements are unknown.

        Parameters
        ----------
        labels
            Stars over which to average: their known labels (n, k) or columns of these, observed spectra,
            whose labels are fitted unless they are in columns, or a number of synthetic stars to draw.
        q
            Largest expected fraction of false lines among those that are returned.
        least
            Smallest part of an observed line that synthetic spectra must lack.
        lines
            Known lines with which to compare, such as those of :func:`.read_lines`.
        seed
            Seed of what is drawn.
        by_depth
            Find lines by their depth, whatever the degree: less noisy, but it names no element.
        """
        self.require("new_lines")
        stars = self._stars(labels)
        options: dict[str, Any] = {"q": q, "least": least, "lines": lines, "seed": seed, "by_depth": by_depth}
        return find_lines(self.anchored, self.own_grid, self.labels, stars, **options)

    def forward_model(self) -> ForwardModel:
        """Return the function from known labels to observed spectra, with its errors (anchored).

        :class:`draper.infer.label_fit.LabelFit` fits it with velocity, broadening and several exposures. The
        common shift of labels of left-out stars is in it; the factors are not by which :meth:`predict`
        multiplies errors of labels.
        """
        self.require("predict")
        shift = torch.tensor(self.training["residual"]["shift"])
        return observed_model(self.anchored, self.own_grid, self.labels, shift)

    def line_changes(
        self, lines: Lines, labels: Stars = 64, *, q: float = 0.05, seed: int = 0
    ) -> LineChanges:
        """Measure by how much the log gf of known lines should change (anchored).

        Parameters
        ----------
        lines
            The line list that synthetic spectra were computed with.
        labels, q, seed
            As for :meth:`new_lines`.
        """
        self.require("line_changes")
        stars = self._stars(labels)
        return find_changes(self.anchored, self.own_grid, self.labels, lines, stars, q=q, seed=seed)

    def _stars(self, labels: Stars) -> Stars:
        """Return stars with the known labels of spectra, fitted if they have no columns of these."""
        if not isinstance(labels, Spectra):
            return labels
        names = self.labels.names[: self.known]
        held = all(name in labels.table for name in names)
        table: Mapping[str, Any] = labels.table if held else self.predict(labels).table()
        columns = {name: np.asarray(table[name], dtype=np.float64) for name in names}
        complete = np.all([np.isfinite(column) for column in columns.values()], axis=0)
        return {name: column[complete] for name, column in columns.items()}

    def _estimates(self, fit: Fitted) -> Estimates:
        found = self.training["residual"]
        return fit.estimates(self.labels, found["widths"], found["shift"])

    def _fit(self, spectra: Spectra, progress: Progress | None, *, keep: bool = False) -> Fitted:
        """Return the fit of observed spectra."""
        self.require("predict")
        spectra = on_pixels_of(self.own_grid, spectra)
        self.check(spectra)
        return fitted(self.anchored, spectra, self.config.continuum, self._nuisances, progress, keep=keep)

    def _translated(self, spectra: Spectra, options: TranslateConfig, progress: Progress | None) -> Spectra:
        """Return spectra with the residual put in, or taken out (anchored)."""
        spectra = on_pixels_of(self.own_grid, spectra)
        self.check(spectra)
        if options.split == "drawn":
            raise DraperError(
                "the method anchored has no split latents to draw", given="split='drawn'", expected="mean"
            )
        if options.to == "observed":
            values = self.labels.read(spectra.table)
            x = self.anchored.coordinates(torch.from_numpy(self.labels.scale(values) - 0.5))
            with torch.no_grad():
                ratio = 1 + self.anchored.ratio(x.float()).numpy()
                share = self.anchored.error(x.float()).numpy()
            flux, variance = spectra.flux * ratio, np.square(spectra.flux * share)
        else:
            made = self._fit(spectra, progress, keep=True).spectra
            with np.errstate(divide="ignore", invalid="ignore"):
                flux = spectra.flux / made["level"] / made["ratio"]
            variance = np.square(flux * made["share"])
        good = (spectra.ivar > 0) & np.isfinite(flux)
        ivar = np.where(good, 1 / np.maximum(variance, np.finfo(np.float32).tiny), 0)
        result = self._made(spectra, np.where(good, flux, 1).astype(np.float32), options.to)
        return replace(result, ivar=ivar.astype(np.float32), validated=False)

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
