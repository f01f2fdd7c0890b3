"""The Retriever: posterior samples of labels from spectra of any instrument."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from draper.config import Config
from draper.configs.retriever import CompleteConfig, RetrieveConfig, RetrieverConfig
from draper.configs.simulators import SIMULATORS
from draper.data.data_sets import simulated
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import DATA_SETS, Spectra, lacks_errors
from draper.errors import DraperError, option_text
from draper.infer.calibration import Calibration
from draper.instrument.pipeline import Pipeline
from draper.models import artifact
from draper.models.base import Model, Progress
from draper.models.dataset import Dataset, Part, SimulatorPart, Source
from draper.models.held_out import Errors, sample
from draper.models.retriever.calibrate import MAX_HELD_OUT, calibrated, network_errors
from draper.models.retriever.comparison import bayes_factors
from draper.models.retriever.coordinates import BoxCoordinates, Coordinates, PlanetCoordinates
from draper.models.retriever.designs import NUMBERS, bins_of
from draper.models.retriever.flags import alone, estimates_of, typical
from draper.models.retriever.inpaint import LATENT, inpainting
from draper.models.retriever.inpainted import completions
from draper.models.retriever.network import CONTEXT, RetrieverNetwork
from draper.models.retriever.observation import (
    PPM,
    Binning,
    Observation,
    observations,
    stacked,
    star_radii,
    with_errors,
)
from draper.models.retriever.posterior import CHECKED, STAR, Retrieval, Target, retrieve, sampled
from draper.models.retriever.prior import Prior
from draper.models.retriever.summary import Summary
from draper.nn.module import Module
from draper.results.estimates import Estimates
from draper.simulate.planets import INSTRUMENTS, Planets
from draper.train.distributed import World

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHED = ("priors", "bounds", "fixed", "inflation", "star_radius_error", "detect")
"""Options that act through the weights of samples."""

ROWS = 64
"""Spectra whose features are computed together."""

TOGETHER = 20_000
"""Samples of the network that are drawn together."""


class Retriever(Model):
    """Posterior samples of labels, such as those of an exoplanet's atmosphere, for spectra of any instrument.

    The network learns the posterior of all labels from simulated spectra, as random instruments would see
    them. If it was trained on a simulator, its samples are weighted by the likelihood of the simulator's
    spectra, which makes them exact as far as there are enough of them; where there are not, they are refined.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> from draper.simulate.planets import Planets
    >>> model = Retriever(components=8, transforms=2, width=16, blocks=1, calibration=0)
    >>> train = TrainConfig(steps=10, threads=1, progress="none")
    >>> planet = Planets("hst-wfc3-g141").simulate(1, seed=5)
    >>> model.fit(Planets(), train=train).predict(planet, draws=500, samples=100, refine="never")
    ...     # doctest: +ELLIPSIS
    Estimates(1 x planet_mass, ..., log_co; 100 samples each; flagged: ...)
    """

    name: ClassVar[str] = "retriever"
    accepts: ClassVar[Any] = "any"
    errors_from_spectra: ClassVar[bool] = True
    config: RetrieverConfig

    # -------------------------------------------------------------- the contract

    @classmethod
    def example_data(cls, n: int, seed: int = 0) -> dict[str, Source]:
        """Return noisy spectra of planets with their labels."""
        return {"spectra": cls.example_spectra(n, seed)}

    @classmethod
    def example_spectra(cls, n: int, seed: int = 0) -> Spectra:
        """Return noisy spectra of planets with their labels."""
        planets = Planets("hst-wfc3-g141", box="exogan", error=20.0)
        return planets.simulate(max(n, 1), seed)[:n]

    def gather(
        self,
        data: Source | None,
        valid: Source | float | Mapping[str, Source | float] | None,
        seed: int,
        **sources: Source,
    ) -> Dataset:
        """Return the training and held-out parts; of a simulator, fine spectra without noise."""
        given = {name: _fine(source) for name, source in sources.items()}
        dataset = super().gather(None if data is None else _fine(data), valid, seed, **given)
        if self.module is None:
            self._adapt(dataset.training["spectra"])
        return dataset

    def _adapt(self, spectra: Part) -> None:
        """Remember the simulator, and whether the spectra hold noise already."""
        # This is an option, so that a run is only resumed with data of the same kind.
        if isinstance(spectra, SimulatorPart) and isinstance(spectra.simulator, Planets):
            if self.config.errors is None:
                raise DraperError(
                    "spectra of the simulator have no noise of their own",
                    given="errors=None",
                    hint=f"{option_text('errors')} of the model",
                )
            self.config = self.config.replace(simulator=spectra.simulator.settings)
            return
        known = [~lacks_errors(batch)[(batch.ivar > 0).any(axis=1)] for batch in spectra.batches()]
        if np.concatenate([*known, [False]]).any():
            if not all(part.all() for part in known):
                raise DraperError(
                    "some training spectra have errors, and others none",
                    hint="give both, or leave the errors out of all (noise is then drawn anew at each step)",
                )
            self.config = self.config.replace(errors=None)

    def design(self, spectra: Part) -> tuple[LabelSet, Pipeline]:
        """Scale labels by their prior, or else by their range."""
        if isinstance(spectra, SimulatorPart):
            names = self.config.labels or spectra.prior.names
            if isinstance(spectra.simulator, Planets):
                if set(names) != set(spectra.prior.names):
                    raise DraperError(
                        "a model that is trained on the simulator of planets retrieves all of its labels",
                        given=", ".join(names),
                        expected=", ".join(spectra.prior.names),
                    )
                names = spectra.prior.names
            return LabelSet(spectra.prior[name] for name in names), Pipeline()
        if not self.config.labels:
            raise DraperError(
                "the labels to retrieve must be named",
                hint=f"{option_text('labels')}, of the columns of the training spectra",
            )
        return LabelSet.from_table(spectra.table, self.config.labels), Pipeline()

    def build(self, grid: Grid, labels: LabelSet) -> Module:
        """Return a new network."""
        config = self.config
        if config.method == "inpaint":
            self.noise = {"z": LATENT}
            return inpainting(len(grid), labels, config.layout)
        coordinates: Coordinates = BoxCoordinates(labels)
        reference = None
        if self.physics is not None:
            planets = PlanetCoordinates(self.physics)
            coordinates, reference = planets, planets.reference
        width = (
            torch.from_numpy(grid.step / np.median(grid.step)) if grid.is_spectral else torch.ones(len(grid))
        )
        errors = None if config.errors is None else (config.errors[0] * PPM, config.errors[1] * PPM)
        presets = _presets(grid)
        count = bins_of(presets)
        self.noise = {"design": NUMBERS, "kept": count, "noise": count, "time": len(labels) + 1}
        return RetrieverNetwork(
            Summary(width, min(config.components, len(grid)), reference),
            coordinates,
            presets,
            errors,
            config.density,
            config.transforms,
            config.width,
            config.blocks,
        )

    @property
    def physics(self) -> Planets | None:
        """The simulator that the model was trained on, if its spectra can be computed for any labels."""
        if not self.config.simulator:
            return None
        return cast(Planets, SIMULATORS["planets"](**self.config.simulator).build())

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return the spectra, and the variance of the noise that they hold already."""
        if self.config.method == "inpaint":
            return {"flux": spectra.flux, "ivar": spectra.ivar}
        bad = spectra.ivar <= 0
        values = np.where(bad, 0, spectra.flux).astype(np.float32)
        if self.config.errors is not None:
            return {"values": values, "variance": np.where(bad, np.inf, 0).astype(np.float32)}
        with np.errstate(divide="ignore"):
            return {"values": values, "variance": np.where(bad, np.inf, 1 / spectra.ivar).astype(np.float32)}

    def targets(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return the labels, 0 and 1 at the ends of their ranges; one that is missing is NaN."""
        return {"labels": self.labels.scale(self.labels.read(spectra.table)).astype(np.float32)}

    @property
    def network(self) -> RetrieverNetwork:
        """The network, by its own type."""
        return cast(RetrieverNetwork, self.own_module)

    def conclude(self, dataset: Dataset, folder: Path | None) -> None:
        """Measure the coverage on held-out spectra."""
        if not self.config.calibration or "calibration" in self.training or self.config.method == "inpaint":
            return
        if dataset.has_held_out and World.join(next(iter(self.state().values())).device).is_first:
            held_out = dataset.held_out["spectra"].subset
            self.training["calibration"] = calibrated(self, held_out.spectra[held_out.rows])
            if folder is not None:
                artifact.write(self, folder, complete=True)

    def held_out_errors(self, dataset: Dataset) -> Errors:
        """Return the errors of the network's samples; completions would take seconds for each spectrum."""
        if self.config.method == "inpaint":
            return {}
        return network_errors(self, sample(dataset, self.labels.names, MAX_HELD_OUT))

    # ------------------------------------------------------------------- the verbs

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs; completion has no context vectors."""
        return tuple(verb for verb in super().verbs if verb != "encode" or self.config.method != "inpaint")

    def encode(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> NDArray[np.float32]:
        """Return the context vectors (n, 96) of the spectra; NaN without a good bin."""
        self.options_of("encode", options, **changes)
        seen = self.observations(spectra, RetrieveConfig())
        return self.contexts(seen)

    def contexts(self, seen: list[Observation | None]) -> NDArray[np.float32]:
        """Return the context vectors (n, 96) of observations."""
        found = np.full((len(seen), CONTEXT), np.nan, dtype=np.float32)
        good = [row for row, one in enumerate(seen) if one is not None]
        with torch.inference_mode():
            for start in range(0, len(good), ROWS):
                rows = good[start : start + ROWS]
                parts = [cast(Observation, seen[row]).statistics(self.network.summary) for row in rows]
                found[rows] = self.network.context(stacked(parts))[0].numpy()
        return found

    def observations(self, spectra: Spectra, options: RetrieveConfig) -> list[Observation | None]:
        """Return the spectra as observations of the fine grid."""
        spectra = with_errors(spectra, options.error)
        radius = star_radii(spectra, options, self.physics is not None)
        physics = self.physics
        error = np.zeros(len(self.own_grid)) if physics is None else physics.model_error
        groups = np.asarray(spectra.meta[DATA_SETS]) if DATA_SETS in spectra.meta else None
        binning = Binning.between(self.own_grid, spectra.grid)
        # What the simulator made itself counts its own error already.
        counted = simulated(spectra)
        return observations(spectra, binning, radius, error, options.offset * PPM, groups, counted)

    def predict(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return posterior samples of the labels of each spectrum, with flags and how they were found."""
        chosen = cast(RetrieveConfig, self.options_of("predict", options, **changes))
        seen = self.observations(spectra, chosen)
        return estimates_of(self, spectra, seen, self.retrievals(spectra, seen, chosen, progress), chosen)

    def explain(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> tuple[Estimates, Spectra | None]:
        """Return what ``predict`` does, and the median spectrum of the samples on the same pixels."""
        chosen = cast(RetrieveConfig, self.options_of("explain", options, **changes))
        seen = self.observations(spectra, chosen)
        found = self.retrievals(spectra, seen, chosen, progress)
        made = self._completed(spectra, found, chosen, spectra.grid) if self.completes else None
        return estimates_of(self, spectra, seen, found, chosen), made

    def draws(self, spectra: Spectra, options: Config | None = None) -> bool:
        """Return True: samples can always be drawn, their spectra where they can be computed."""
        return True

    def pictures(
        self, spectra: Spectra, estimates: Estimates, options: Config | None = None
    ) -> Iterator[Figure]:
        """Draw each spectrum with those of its samples, and the part of each gas."""
        from draper.plots.transmission import plot_transmission

        if self.physics is None or self.config.method == "inpaint":
            return
        chosen = cast(RetrieveConfig, self.options_of("predict", options))
        binning = Binning.between(self.own_grid, spectra.grid)
        seen = spectra.pixels(binning.covered)
        radii = star_radii(spectra, chosen, self.physics is not None)
        operator = binning.operator[binning.covered]
        for row in range(len(spectra)):
            assert estimates.samples is not None
            samples = estimates.samples[row, :CHECKED]
            if np.isnan(samples).any():
                continue
            parts = alone(self.labels, typical(estimates.samples[row]))
            fine = self._depths(np.stack([*samples, *parts.values()]), chosen)
            depths = fine[:, binning.pixels] @ operator.T / radii[row] ** 2
            contributions = dict(zip(parts, depths[len(samples) :], strict=True))
            yield plot_transmission(seen[row], depths[: len(samples)], contributions)

    def reconstruct(self, spectra: Spectra) -> Spectra | None:
        """Return None: there is no version of a spectrum without its posterior (:meth:`explain`)."""
        return None

    @property
    def completes(self) -> bool:
        """Whether the model can compute the spectra of its samples."""
        return self.physics is not None or self.config.method == "inpaint"

    def generate(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        grid: Grid | None = None,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Spectra:
        """Return the spectra of posterior samples on the model's whole range: missing bands are filled.

        Parameters
        ----------
        spectra
            The observed spectra.
        options
            How their posteriors are sampled.
        grid
            Pixels of the result; those of the model by default.
        progress
            Called with the number of spectra that are done, and of all.
        changes
            Single options by name.

        Returns
        -------
        Spectra
            With the variance of the samples' spectra as errors.
        """
        chosen = cast(CompleteConfig, self.options_of("generate", options, **changes))
        if not self.completes:
            raise DraperError(
                "the model cannot compute spectra: it was trained on files",
                hint="train on a simulator, or with method='inpaint', to fill missing bands",
            )
        found = self.retrievals(spectra, self.observations(spectra, chosen), chosen, progress)
        return self._completed(spectra, found, chosen, self.own_grid if grid is None else grid)

    def _completed(
        self, spectra: Spectra, found: list[Retrieval], options: RetrieveConfig, grid: Grid
    ) -> Spectra:
        """Return the spectra of retrievals on a grid: medians with their scatter, or one for each sample."""
        each = isinstance(options, CompleteConfig) and options.kind == "samples"
        binning = Binning.between(self.own_grid, grid)
        radii = star_radii(spectra, options, self.physics is not None)
        flux, ivar, owner = [], [], []
        for row, one in enumerate(found):
            fine = self._fine_spectra(one, len(one.samples) if each else CHECKED, options)
            seen = fine[:, binning.pixels] @ binning.operator.T / radii[row] ** 2
            seen = np.where(binning.covered, seen, np.nan)
            spread = seen.std(axis=0)
            weight = np.where(spread > 0, 1 / np.maximum(spread, 1e-12) ** 2, 0.0)
            flux.append(seen if each else np.median(seen, axis=0)[None])
            ivar.append(np.where(np.isfinite(flux[-1]), 1.0 if each else weight, 0.0))
            owner += [row] * len(flux[-1])
        shape = (0, len(grid))
        values = np.concatenate([np.empty(shape), *flux])
        table = {name: column[owner] for name, column in spectra.table.items()}
        if each and owner:
            places = [place for part in flux for place in range(len(part))]
            table["id"] = np.array(
                [f"{spectra.ids[row]}/{place}" for place, row in zip(places, owner, strict=True)]
            )
        weights = np.concatenate([np.empty(shape), *ivar])
        # Of what is on the whole range no pixel is from one data set or the other.
        kept = {name: entry for name, entry in spectra.meta.items() if name != DATA_SETS}
        meta = spectra.meta if grid is spectra.grid else kept
        return Spectra(grid, np.nan_to_num(values), weights, table, quantity=spectra.quantity, meta=meta)

    def _fine_spectra(self, one: Retrieval, most: int, options: RetrieveConfig) -> NDArray[np.float64]:
        """Return fine spectra (k, p) of some samples, in front of a star of one solar radius."""
        if one.completed is not None:
            return one.completed
        if np.isnan(one.samples).any():
            return np.full((1, len(self.own_grid)), np.nan)
        return self._depths(one.samples[:: max(1, len(one.samples) // most)], options)

    def _depths(self, samples: NDArray[np.float64], options: RetrieveConfig) -> NDArray[np.float64]:
        """Return fine spectra (n, p) of samples (n, l + c), in front of a star of one solar radius."""
        assert self.physics is not None
        names = sampled(self.labels, options).names
        star = samples[:, names.index(STAR)] if STAR in names else np.ones(len(samples))
        labels = np.ascontiguousarray(samples[:, : len(self.labels)])
        with torch.no_grad():
            depth = self.physics.depth(torch.from_numpy(labels).float())
        return np.asarray(depth.double().numpy() / star[:, None] ** 2)

    def retrievals(
        self,
        spectra: Spectra,
        seen: list[Observation | None],
        options: RetrieveConfig,
        progress: Progress | None = None,
    ) -> list[Retrieval]:
        """Return the posterior of each spectrum, a failed one where there is no good bin."""
        prior = Prior.of(options, self.labels)
        physics = self.physics
        radius = star_radii(spectra, options, self.physics is not None)
        nothing = Retrieval.failed(options.samples, len(sampled(self.labels, options)))
        found = []
        is_inpaint = self.config.method == "inpaint"
        if is_inpaint or physics is None or not options.weigh:
            used = [
                name
                for name in WEIGHED
                if getattr(options, name) != RetrieveConfig.model_fields[name].default
            ] + ["refine"] * (options.refine == "nested")
            if used:
                raise DraperError(
                    "these options need samples that are weighed with a simulator",
                    given=", ".join(used),
                    hint="train with method='flow' on a simulator, and weigh; or leave them out",
                )
        if is_inpaint:
            return completions(self, seen, options, nothing, progress)
        if physics is None or not options.weigh:
            return self._sampled(seen, options, nothing, progress)
        for row, one in enumerate(seen):
            if one is None:
                found.append(nothing)
            else:
                rng = np.random.default_rng((options.seed, one.digest))
                error = options.star_radius_error / radius[row]
                target = Target(self.network, physics, one, prior, options, error)
                found.append(retrieve(target, options, options.draws, rng))
                if options.detect:
                    bayes = bayes_factors(self, found[-1], one, options, error)
                    found[-1] = replace(found[-1], bayes=bayes)
            if progress is not None:
                progress(row + 1, len(seen))
        return found

    def _sampled(
        self,
        seen: list[Observation | None],
        options: RetrieveConfig,
        nothing: Retrieval,
        progress: Progress | None,
    ) -> list[Retrieval]:
        """Return samples of the network alone."""
        found = []
        for row, one in enumerate(seen):
            if one is None:
                found.append(nothing)
            else:
                noise = np.random.default_rng((options.seed, one.digest)).standard_normal(
                    (options.samples, len(self.labels))
                )
                found.append(Retrieval(self.drawn([one], torch.from_numpy(noise).float())[0]))
            if progress is not None:
                progress(row + 1, len(seen))
        return found

    def drawn(self, seen: list[Observation], noise: torch.Tensor) -> NDArray[np.float64]:
        """Return samples (n, draws, l) of the network for n observations, of normal numbers (n x draws, l).

        A sample outside the prior is replaced by another one of the same spectrum.
        """
        network = self.network
        with torch.inference_mode():
            features, reference = network.context(stacked([one.statistics(network.summary) for one in seen]))
            draws = len(noise) // len(seen)
            parts, inside = [], []
            for rows in torch.split(torch.arange(len(noise)), TOGETHER):
                owner = rows // draws
                values, _ = network.density.draw(noise[rows], features[owner])
                place = network.coordinates.place(
                    values, type(reference)(*(part[owner] for part in reference))
                )
                place = network.coordinates.reflected(place)
                parts.append(place.labels)
                inside.append(place.inside)
        labels = torch.cat(parts).reshape(len(seen), draws, -1).numpy()
        good = torch.cat(inside).reshape(len(seen), draws).numpy()
        for row in range(len(seen)):
            usable = np.flatnonzero(good[row])
            if len(usable) == 0:
                labels[row] = np.nan
            elif len(usable) < draws:
                labels[row] = labels[row, usable[np.arange(draws) * len(usable) // draws]]
        return np.asarray(labels)

    def card_sections(self) -> Mapping[str, str]:
        """Return the coverage of intervals of the network, by instrument and error."""
        measured = self.calibration
        if measured is None:
            return {}
        lines = [
            "Share of spectra whose true label lies in the central interval of the network's samples, before",
            "any weighing: the smallest and the largest of all labels. The last column is the smallest",
            "probability of ranks so far from uniform (Kolmogorov-Smirnov), times the number of labels.",
            "",
            "| spectra | number | 50 % | 68 % | 90 % | 95 % | p |",
            "|---|---|---|---|---|---|---|",
        ]
        for group in measured.groups:
            shares = [100 * group.coverage(level)[:-1] for level in (0.5, 0.68, 0.9, 0.95)]
            ends = " | ".join(f"{share.min():.1f} to {share.max():.1f}" for share in shares)
            chance = min(1.0, float(np.nanmin(group.ks_p[:-1])) * len(measured.labels))
            name = group.name.removeprefix("spectra = ")
            lines.append(f"| {name} | {group.numbers.max():,} | {ends} | {chance:.2g} |")
        return {"Coverage": "\n".join(lines)}

    @property
    def calibration(self) -> Calibration | None:
        """How often intervals of the network held the truth, if it was measured after training."""
        measured = self.training.get("calibration")
        return None if measured is None else Calibration.from_json(measured["ranks"])

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return CITATION


CITATION = """@article{zingales2018,
  author  = {Zingales, T. and Waldmann, I. P.},
  title   = {{ExoGAN: Retrieving Exoplanetary Atmospheres Using Deep Convolutional Generative
             Adversarial Networks}},
  journal = {The Astronomical Journal},
  volume  = {156},
  pages   = {268},
  year    = {2018}
}

@inproceedings{durkan2019,
  author    = {Durkan, C. and Bekasov, A. and Murray, I. and Papamakarios, G.},
  title     = {Neural Spline Flows},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2019}
}"""


def _fine(source: Source) -> Source:
    """Return a simulator of planets without noise on the fine grid; other sources as they are."""
    if not isinstance(source, Planets):
        return source
    if source.snr is not None or (source.error and source.instrument is None):
        raise DraperError(
            "the noise of the training spectra is that of the model's own options",
            given=f"error={source.error}, snr={source.snr} of the simulator",
            hint=f"{option_text('errors')} of the model",
        )
    return Planets(**{**source.settings, "instrument": None, "error": None, "snr": None, "star_radius": 1.0})


def _presets(grid: Grid) -> torch.Tensor:
    """Return the bins (k, m, 2) of known instruments [pixels], and the pixels themselves if they are few."""
    found = []
    if grid.is_spectral:
        bounds = grid.bounds / 1e4
        ends = np.append(bounds[:, 0], bounds[-1, 1])
        for instrument in INSTRUMENTS.values():
            if ends[0] <= instrument.edges.min() and instrument.edges.max() <= ends[-1]:
                found.append(np.interp(instrument.edges, ends, np.arange(len(ends))))
    if len(grid) <= 150 or not found:
        pixels = np.arange(len(grid), dtype=np.float64)
        found.append(np.stack([pixels, pixels + 1], axis=1))
    presets = torch.full((len(found), max(map(len, found)), 2), math.nan)
    for number, edges in enumerate(found):
        presets[number, : len(edges)] = torch.from_numpy(edges)
    return presets
