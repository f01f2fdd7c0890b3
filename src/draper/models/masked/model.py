"""The masked autoencoder: fit, labels with calibrated quantiles, and whatever is missing of a star."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.config import Config
from draper.configs.masked import FillConfig, MaskedConfig, QuantileConfig
from draper.data.arrays import has_good_pixel
from draper.data.correlation import Correlation
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.infer.conformal import ENOUGH, ConformalQuantiles, ConformalScores
from draper.instrument.pipeline import Pipeline
from draper.models import artifact
from draper.models.base import Model, Progress
from draper.models.dataset import Dataset, Part, Source, as_spectra
from draper.models.masked.calibrate import calibrated, groups_of, kinds_of
from draper.models.masked.columns import (
    ColumnScales,
    default_columns,
    known_labels,
    read_columns,
    require_any,
    require_spelling,
)
from draper.models.masked.fill import filled, known_weights
from draper.models.masked.masks import NUMBERS, random_gaps
from draper.models.masked.network import LEVELS, MaskedNetwork, grow
from draper.models.masked.novelty import SCORES, halves, is_second, scores_of
from draper.models.masked.statistics import (
    SpectrumStatistics,
    chosen_templates,
    nearest,
    whiteners,
    whiteners_of,
)
from draper.nn.module import Batch, Module
from draper.results.estimates import Estimates, interpolated
from draper.train.distributed import World

FloatArray = NDArray[np.float64]

UNLIKELY = 0.01
"""Probability of the most unusual score, times the number of scores, below which a star is flagged."""

SHARED = 256
"""Largest number of correlation matrices of a set of spectra that are kept in memory once more."""


class MaskedAutoencoder(Model):
    """One model of spectra, photometry and labels, any part of which may be missing.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> from draper.simulate.made import made_spectra
    >>> model = MaskedAutoencoder(labels=["teff"], components=6, width=32, blocks=1)
    >>> train = TrainConfig(steps=50, threads=1, progress="none")
    >>> model.fit(made_spectra(300), train=train).predict(made_spectra(2)).quantiles.shape
    (2, 9, 1)
    """

    name: ClassVar[str] = "masked"
    config: MaskedConfig
    needs_pixels: ClassVar[bool] = False
    extra_verbs: ClassVar[tuple[str, ...]] = ("impute", "ledger")

    # ------------------------------------------------------------------ fitting

    def gather(
        self,
        data: Source | None,
        valid: Source | float | Mapping[str, Source | float] | None,
        seed: int,
        **sources: Source,
    ) -> Dataset:
        """Return the training and held-out parts; the columns to see are those of the training set."""
        dataset = super().gather(data, valid, seed, **sources)
        if self.module is None:
            part = dataset.training["spectra"]
            if self.columns is None:
                columns = default_columns(tuple(part.table), self.config.labels)
                # This is an option, so that a run is only resumed with data that have them.
                self.config = self.config.replace(columns=columns)
            elif absent := [name for name in self.columns if name not in part.table]:
                raise DraperError(
                    "the training set lacks columns that the model is to see",
                    given=", ".join(part.table) or "no columns",
                    expected=", ".join(absent),
                )
            if clash := set(self.columns or ()) & set(self.config.labels):
                raise DraperError(
                    "a column cannot be seen and predicted",
                    given=", ".join(sorted(clash)),
                    hint="leave it out of columns, or of labels",
                )
        return dataset

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Columns that the network sees; None before the first fit decides on them."""
        return self.config.columns

    @property
    def table_columns(self) -> tuple[str, ...]:
        """Columns that the network sees, and their errors."""
        return tuple(f"{name}{end}" for name in self.columns or () for end in ("", "_err"))

    def design(self, spectra: Part) -> tuple[LabelSet, Pipeline]:
        """Scale labels by their range, and keep the correlations of errors."""
        first = next(iter(spectra.batches()))
        correlation = first.correlation
        self._templates = None if correlation is None else whiteners(chosen_templates(correlation))
        return LabelSet.from_table(
            known_labels(spectra.table, self.config.labels), self.config.labels
        ), Pipeline()

    _templates: NDArray[np.float32] | None = None

    def build(self, grid: Grid, labels: LabelSet) -> Module:
        """Return a new network."""
        config = self.config
        templates = self._templates
        statistics = SpectrumStatistics(
            len(grid), min(config.components, len(grid)), 0 if templates is None else len(templates)
        )
        if templates is not None:
            statistics.whiteners.copy_(torch.from_numpy(templates))
        scales = ColumnScales(self.columns or ())
        self.noise = {"mask": NUMBERS + len(scales.centre) + len(labels)}
        return MaskedNetwork(
            statistics, scales, len(labels), config.architecture, config.width, config.blocks, config.encoder
        )

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Set the arrays of the network; the number of correlations is theirs."""
        self.network.statistics.whiteners = torch.empty_like(state["module.statistics.whiteners"])
        super().load_state(state)

    @property
    def network(self) -> MaskedNetwork:
        """The network, by its own type."""
        return cast(MaskedNetwork, self.own_module)

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return spectrum, columns and, where errors are correlated, what makes them independent."""
        found = self._plain_arrays(spectra)
        if spectra.correlation is not None and len(self.network.statistics.whiteners):
            found["whitener"] = self._whitened(spectra.correlation, spectra.ivar > 0)
        return found

    def _whitened(self, correlation: Correlation, good: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return what makes the errors of good pixels independent (n, p, p); shared matrices are kept."""
        templates = correlation.templates
        if len(templates) > SHARED or not good.all():
            return whiteners_of(correlation, good)
        if self._kept is None or self._kept[0] is not templates:
            self._kept = templates, whiteners(templates)
        return self._kept[1][correlation.index]

    _kept: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def training_arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return the arrays of training: correlations are those of the network that are nearest."""
        found = {**self._plain_arrays(spectra), **self.targets(spectra)}
        known = self.network.statistics.whiteners
        if spectra.correlation is not None and len(known):
            used = spectra.correlation.compact()
            numbers = nearest(used.templates, known.cpu().numpy())
            found["template"] = numbers[used.index]
        elif len(known) or spectra.correlation is not None:
            raise DraperError(
                "the errors of these spectra, or else those of the first fit, are correlated: not of both",
                hint="give both with their correlations, or both without, or train a new model",
            )
        return found

    def _plain_arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        values, errors = read_columns(spectra.table, self.columns or ())
        if not len(values):
            values, errors = (np.full((len(spectra), len(self.columns or ())), x) for x in (np.nan, 0.0))
        good = spectra.ivar > 0
        flux = np.where(good, spectra.flux, 0).astype(np.float32)
        return {
            "flux": flux,
            "ivar": known_weights(flux, np.asarray(spectra.ivar, dtype=np.float32)),
            "columns": values.astype(np.float32),
            "columns_err": errors.astype(np.float32),
        }

    def _label_values(self, spectra: Spectra) -> FloatArray:
        """Return the labels (n, l); NaN where one is missing, such as an earlier label in a later fit."""
        absent = dict.fromkeys(self.labels.names, np.full(len(spectra), np.nan))
        return self.labels.read(known_labels({**absent, **spectra.table}, self.labels.names))

    def targets(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return scaled labels and their errors; one that is missing is NaN."""
        if not self.labels:
            return {}
        values = self._label_values(spectra)
        errors = np.zeros_like(values)
        for number, name in enumerate(self.labels.names):
            if f"{name}_err" in spectra.table:
                errors[:, number] = np.nan_to_num(spectra.table[f"{name}_err"], posinf=0.0)
        scaled = self.labels.scale_error(values, np.where(np.isfinite(values), errors, 0))
        return {
            "labels": self.labels.scale(values).astype(np.float32),
            "labels_err": np.nan_to_num(scaled).astype(np.float32),
        }

    def add_labels(self, labels: LabelSet) -> None:
        """Let the network predict further labels; what it knows of spectra and columns stays."""
        before = self.network.state_dict()
        known = len(self.labels)
        self._templates = (
            before["statistics.whiteners"].cpu().numpy() if len(self.network.statistics.whiteners) else None
        )
        if clash := set(labels.names) & set(self.columns or ()):
            raise DraperError(
                "the model sees this column, so that it cannot predict it",
                given=", ".join(sorted(clash)),
                hint=f"pre-train with {option_text('columns')} that leave it out",
            )
        self.config = self.config.replace(labels=(*self.labels.names, *labels.names))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(len(before))
            self.set_up(self.own_grid, LabelSet([*self.labels, *labels]), self.pipeline)
        grow(self.network, before, known)
        self._to_measure = len(labels)

    _to_measure = 0

    def feed(self, dataset: Dataset, parts: Mapping[str, Part], train: Any, **options: Any) -> Any:
        """Return the batches; the scale of further labels is measured on them."""
        self.network.set_trained(self.config.encoder)
        table = parts["spectra"].table
        if self.labels and not any(name in table for name in self.labels.names):
            self.labels.read(table)  # says which is missing
        feed = super().feed(dataset, parts, train, **options)
        if self._to_measure and parts is dataset.training:
            rows = torch.cat([batch["labels"] for batch in feed.sweep()])
            self.network.measure_labels(rows, len(self.labels) - self._to_measure)
            self._to_measure = 0
        return feed

    # ------------------------------------------------------------- calibration

    def conclude(self, dataset: Dataset, folder: Path | None) -> None:
        """Measure intervals and scores on held-out stars."""
        if not dataset.has_held_out or not World.join(next(iter(self.state().values())).device).is_first:
            return
        held_out = dataset.held_out["spectra"].subset
        spectra = as_spectra(held_out.spectra)[held_out.rows]
        truth = self._label_values(spectra) if self.labels else np.zeros((len(spectra), 0))
        second = is_second(self.network).cpu().numpy()
        network = self.network
        is_related = len(network.statistics.whiteners) > 0
        left = random_gaps(len(spectra), network.block, network.place, is_related).numpy()
        self.training["calibration"] = calibrated(
            spectra, truth, self.columns or (), second, left, self._seen
        )
        if folder is not None:
            artifact.write(self, folder, complete=True)

    # ------------------------------------------------------------------- verbs

    def _seen(
        self,
        spectra: Spectra,
        shown: bool | NDArray[np.bool_] = True,
        scores: bool = True,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Return the embedding of stars, quantiles of labels, and scores (else NaN), as arrays by name.

        Where ``shown`` says which pixels (n, p) the network sees, there are no scores.
        """
        network = self.network
        chosen = None if isinstance(shown, bool) else shown.astype(np.float32)
        scores &= chosen is None
        labels, levels = len(self.labels), len(LEVELS)

        def look(batch: Batch) -> tuple[Tensor, ...]:
            if shown is False:
                batch = {**batch, "ivar": torch.zeros_like(batch["ivar"])}
            products = halves(network, batch) if scores else None
            whole = None if products is None else (products[0], products[0], products[0].nothing())
            seen = network.see(batch, batch.get("shown"), products=whole)
            embedding = network.trunk(seen.visible)
            spread = embedding.new_full((len(embedding),), torch.nan)
            quantiles = embedding.new_zeros(len(embedding), levels, 0)
            if labels:
                quantiles, spread = network.quantiles(embedding)
            visible = seen.visible
            anything = visible.has_pixels + visible.has_column.sum(1)
            reference = visible.reference[:, 0] * network.scales.brightness[1] + network.scales.brightness[0]
            reference = torch.where(visible.reference[:, 1] > 0, reference, torch.nan)
            columns = visible.has_column[:, 1:].sum(1) / max(visible.has_column.shape[1] - 1, 1)
            pixels = ((batch["ivar"] > 0) * batch.get("shown", 1.0)).mean(1)
            further = torch.stack([anything, visible.has_pixels, reference, columns, pixels], dim=1)
            unusual = further.new_full((len(further), len(SCORES)), torch.nan)
            if products is not None:
                unusual = scores_of(network, batch, seen, products, embedding, spread, quantiles)
            return embedding, quantiles.flatten(1), torch.cat([further, unusual], dim=1)

        config = self.config

        def more(part: Spectra, rows: slice) -> dict[str, NDArray[Any]]:
            return {} if chosen is None else {"shown": chosen[rows]}

        embedding, quantiles, rest = self.apply(
            spectra, look, (config.width, levels * labels, 5 + len(SCORES)), more, progress
        )
        scaled = quantiles.reshape(len(spectra), levels, labels).astype(np.float64)
        return {
            "embedding": embedding,
            "quantiles": self.labels.unscale(scaled) if labels else scaled,
            "anything": rest[:, 0] > 0,
            "has_pixels": rest[:, 1] > 0,
            "brightness": rest[:, 2].astype(np.float64),
            "columns": rest[:, 3],
            "pixels": rest[:, 4],
            **{name: rest[:, 5 + number].astype(np.float64) for number, name in enumerate(SCORES)},
        }

    def _require_columns(self, spectra: Spectra, also: Sequence[str] = ()) -> None:
        """Refuse misspelt columns, and a table without spectra and columns, ``also`` these."""
        names = self.columns or ()
        require_spelling(spectra.table, self.table_columns, self.labels.names)
        if len(spectra) and not has_good_pixel(spectra.ivar).any():
            require_any(spectra.table, (*names, *also))

    def encode(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> NDArray[np.float32]:
        """Return the embeddings (n, width); NaN for a star of which nothing is known."""
        self.options_of("encode", options, **changes)
        self._require_columns(spectra)
        seen = self._seen(spectra, scores=False, progress=progress)
        found: NDArray[np.float32] = np.where(seen["anything"][:, None], seen["embedding"], np.nan)
        return found

    def predict(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return quantiles of labels, and how often held-out stars have scores as unusual."""
        chosen = cast(QuantileConfig, self.options_of("predict", options, **changes))
        if not self.labels:
            raise DraperError(
                "this model was trained without labels",
                hint="fine-tune it: fit(..., labels=[...]), or draper train masked --from MODEL --labels ...",
            )
        self._require_columns(spectra)
        levels = np.array(chosen.levels)
        if (np.diff(levels) <= 0).any() or not levels[0] < 0.5 < levels[-1]:
            raise DraperError(
                "levels must increase, from below 0.5 to above", given=", ".join(map(str, chosen.levels))
            )
        seen = self._seen(spectra, chosen.spectrum, chosen.novelty, progress)
        calibration = self.training.get("calibration", {})
        groups = groups_of(seen, calibration)
        quantiles = seen["quantiles"]
        if chosen.calibrated and "quantiles" in calibration:
            quantiles = ConformalQuantiles.from_json(calibration["quantiles"])(quantiles, groups)
        asked = np.stack([interpolated(np.array(LEVELS), quantiles, level) for level in levels], axis=1)
        asked[~seen["anything"]] = np.nan
        kinds = kinds_of(seen, np.ones(len(spectra), dtype=bool))
        columns: dict[str, NDArray[Any]] = {
            f"p_{name}": ConformalScores.from_json(calibration["scores"][name])(seen[name], kinds)
            if name in calibration.get("scores", {})
            else np.full(len(spectra), np.nan)
            for name in SCORES
        }
        known = np.isfinite(list(columns.values())).sum(axis=0)
        columns["p_value"] = np.minimum(np.fmin.reduce(list(columns.values())) * known, 1)
        middle = interpolated(levels, asked, 0.5)
        return Estimates.from_quantiles(
            self.labels,
            levels,
            asked,
            spectra.ids,
            columns=columns,
            flags={
                "outside": columns["p_value"] < UNLIKELY,
                "no_spectrum": ~seen["has_pixels"],
                "label_range": ~self.labels.inside(middle) & seen["anything"],
            },
        )

    def generate(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Spectra:
        """Return spectra and columns whose missing parts are filled in, with errors.

        What was measured stays as it is, unless ``given`` says that it is not shown. Where others are filled
        in, measured pixels without errors get the weights that the model gives them (S/N 1000).
        """
        chosen = cast(FillConfig, self.options_of("generate", options, **changes))
        self._require_columns(spectra, self.labels.names)
        return filled(self, spectra, chosen.given, progress)

    reconstructs_from: ClassVar[str] = "the other half of each spectrum"

    def reconstruct(self, spectra: Spectra) -> Spectra:
        """Return each half of the spectra as the network expects it from the other half and the columns."""
        self.check(spectra)
        second = is_second(self.network).cpu().numpy()
        # Labels must not tell what is to be expected.
        seen = spectra.with_columns(**dict.fromkeys(self.labels.names))
        made = [
            filled(self, replace(seen, ivar=np.where(hidden, 0, spectra.ivar)), "all")
            for hidden in (~second, second)
        ]
        flux, ivar = (
            np.where(second, *(getattr(one, name) for one in made[::-1])) for name in ("flux", "ivar")
        )
        return Spectra(
            self.own_grid, flux, ivar, spectra.table, spectra.quantity, spectra.unit, meta=spectra.meta
        )

    def impute(self, spectra: Spectra) -> dict[str, NDArray[np.float64]]:
        """Return the columns that the model sees, with values and errors filled in where there were none."""
        table = self.generate(spectra).table
        names = [n for name in self.columns or () for n in (name, f"{name}_err") if n in table]
        return {name: np.asarray(table[name], dtype=np.float64) for name in names}

    def ledger(self, labelled: Spectra, labels: Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """Return what pre-training is worth; see :func:`draper.models.masked.ledger.ledger`."""
        from draper.models.masked.ledger import ledger

        return ledger(self, labelled, labels, **options)

    # -------------------------------------------------------------------- card

    def card_sections(self) -> Mapping[str, str]:
        """Return what intervals were calibrated on, and what pre-training was worth, if measured."""
        sections = {}
        calibration = self.training.get("calibration", {})
        if "quantiles" in calibration:
            numbers = calibration["quantiles"]["numbers"]
            edges = ", ".join(f"{edge:.2f}" for edge in calibration["edges"]) or "none"
            whole = {name: counts for name, counts in numbers.items() if " " not in name}
            rows = "\n".join(f"| {name or 'all'} | {max(counts)} |" for name, counts in whole.items())
            sections["Calibration"] = (
                "Quantiles were moved so that they hold on the held-out stars (split-conformal), with all,\n"
                f"part and none of their spectrum, in groups by brightness (edges {edges} mag). Groups of\n"
                f"fewer than {ENOUGH} rows take the shift of all.\n\n| stars | rows |\n|---|---|\n{rows}"
            )
        if "ledger" in self.training:
            sections["What pre-training was worth"] = ledger_table(self.training["ledger"])
        return sections

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return (
            "@mastersthesis{mckay2025, author = {McKay, Aydan}, title = {Masked Stellar Autoencoder},\n"
            "  school = {University of Victoria}, year = {2025}}\n"
            "@software{draper, author = {{the draper developers}}, title = {draper}, year = {2026}}"
        )


def ledger_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of a ledger as a table of Markdown."""
    if not rows:
        return "Nothing was measured."
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows)])
