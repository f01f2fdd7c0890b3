"""The Retriever: posterior samples of labels from spectra of any instrument."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from draper.config import Config
from draper.configs.retriever import RetrieveConfig, RetrieverConfig
from draper.configs.simulators import SIMULATORS
from draper.configs.train import TrainConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra, has_errors
from draper.errors import DraperError
from draper.instrument.pipeline import Pipeline
from draper.models import artifact
from draper.models.base import Model, Progress
from draper.models.dataset import Dataset, Part, SimulatorPart, Source
from draper.models.retriever.calibrate import calibrated
from draper.models.retriever.coordinates import BoxCoordinates, Coordinates, PlanetCoordinates
from draper.models.retriever.designs import NUMBERS, bins_of
from draper.models.retriever.network import CONTEXT, RetrieverNetwork
from draper.models.retriever.observation import Binning, Observation, observations, stacked
from draper.models.retriever.posterior import Prior, Retrieval, Target, retrieve
from draper.models.retriever.summary import Summary
from draper.results.estimates import Estimates
from draper.simulate.base import Simulator
from draper.simulate.planets import INSTRUMENTS, Planets
from draper.simulate.transit import OPACITY_RANGE

PPM = 1e-6

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
    extra_verbs: ClassVar[tuple[str, ...]] = ()
    config: RetrieverConfig

    # -------------------------------------------------------------- the contract

    def gather(
        self,
        data: Source | None,
        valid: Source | float | Mapping[str, Source | float] | None,
        seed: int,
        **sources: Source,
    ) -> Dataset:
        """Return the training and held-out parts; a simulator of planets is asked for fine, noise-free spectra."""
        given = {name: _fine(source) for name, source in sources.items()}
        return super().gather(None if data is None else _fine(data), valid, seed, **given)

    def design(self, spectra: Part) -> tuple[LabelSet, Pipeline]:
        """Scale labels by their prior, and remember the simulator."""
        if isinstance(spectra, SimulatorPart):
            names = self.config.labels or spectra.prior.names
            if isinstance(spectra.simulator, Planets):
                self.config = self.config.replace(simulator=spectra.simulator.settings)
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
                hint="labels=[...] (--labels), of the columns of the training spectra",
            )
        if any(has_errors(batch) for batch in spectra.batches()):
            self.config = self.config.replace(errors=None)
        return LabelSet.from_table(spectra.table, self.config.labels), Pipeline()

    def build(self, grid: Grid, labels: LabelSet) -> RetrieverNetwork:
        """Return a new network."""
        config = self.config
        coordinates: Coordinates = BoxCoordinates(labels)
        reference = None
        if self.physics is not None:
            planets = PlanetCoordinates(self.physics)
            coordinates, reference = planets, planets.reference
        width = torch.from_numpy(grid.step / np.median(grid.step)) if grid.is_spectral else torch.ones(len(grid))
        errors = None if config.errors is None else (config.errors[0] * PPM, config.errors[1] * PPM)
        self.noise = {"design": NUMBERS, "kept": 0, "noise": 0, "time": len(labels) + 1}
        presets = _presets(grid)
        count = bins_of(presets)
        self.noise |= {"kept": count, "noise": count}
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
        if self.config.calibration and "calibration" not in self.training and dataset.has_held_out:
            self.training["calibration"] = calibrated(self, dataset.held_out["spectra"].subset.spectra)
            if folder is not None:
                artifact.write(self, folder, complete=True)

    # ------------------------------------------------------------------- the verbs

    def encode(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> NDArray[np.float32]:
        """Return the context vectors (n, 96) by which the network knows the spectra; NaN without a good bin."""
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
        radius = self.star_radii(spectra, options)
        physics = self.physics
        # What the simulator made itself counts its own error already.
        own = physics is None or spectra.meta.get("source") == "draper.simulate.planets"
        error = np.zeros(len(self.own_grid)) if own or physics is None else physics.model_error
        groups = np.asarray(spectra.meta["data_sets"]) if "data_sets" in spectra.meta else None
        binning = Binning.between(self.own_grid, spectra.grid)
        return observations(spectra, binning, radius, error, options.offset * PPM, groups)

    def star_radii(self, spectra: Spectra, options: RetrieveConfig) -> NDArray[np.float64]:
        """Return the radii (n,) of the stars [solar radii]."""
        if self.physics is None:
            return np.ones(len(spectra))
        if options.star_radius is not None:
            return np.full(len(spectra), options.star_radius)
        if "star_radius" in spectra.table:
            return np.asarray(spectra.table["star_radius"], dtype=np.float64)
        return np.full(len(spectra), float(spectra.meta.get("star_radius", 1.0)))

    def predict(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return posterior samples of the labels of each spectrum, with flags and what was needed to get them."""
        chosen = cast(RetrieveConfig, self.options_of("predict", options, **changes))
        seen = self.observations(spectra, chosen)
        return self._estimates(spectra, seen, self.retrievals(spectra, seen, chosen, progress), chosen)

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
        radius = self.star_radii(spectra, options)
        nothing = Retrieval(np.full((options.samples, len(self.labels)), np.nan), {}, how="failed")
        found = []
        if physics is None or not options.weigh:
            if not prior.is_plain or options.bounds or options.inflation > 1 or options.star_radius_error > 0:
                raise DraperError(
                    "priors and inflation need a model that was trained on a simulator, and weights",
                    hint="leave out priors, bounds, fixed, inflation and star_radius_error",
                )
            return self._sampled(seen, options, nothing, progress)
        for row, one in enumerate(seen):
            rng = np.random.default_rng((options.seed, row))
            if one is None:
                found.append(nothing)
            else:
                error = options.star_radius_error / radius[row]
                target = Target(self.network, physics, one, prior, options, error)
                found.append(retrieve(target, options, options.draws, rng))
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
                noise = np.random.default_rng((options.seed, row)).standard_normal(
                    (options.samples, len(self.labels))
                )
                found.append(Retrieval(self.drawn([one], torch.from_numpy(noise).float())[0], {}))
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
                place = network.coordinates.place(values, type(reference)(*(part[owner] for part in reference)))
                parts.append(place.labels)
                inside.append(place.inside)
        labels = torch.cat(parts).reshape(len(seen), draws, -1).numpy()
        good = torch.cat(inside).reshape(len(seen), draws).numpy()
        for row in range(len(seen)):
            rows = np.flatnonzero(good[row])
            if len(rows) == 0:
                labels[row] = np.nan
            elif len(rows) < draws:
                labels[row] = labels[row, rows[np.arange(draws) * len(rows) // draws]]
        return np.asarray(labels)

    def _estimates(
        self,
        spectra: Spectra,
        seen: list[Observation | None],
        found: list[Retrieval],
        options: RetrieveConfig,
    ) -> Estimates:
        """Return retrievals as estimates."""
        numbers = ("efficiency", "effective", "pareto_k", "chi2", "bins", "p_value", "misfit")
        columns: dict[str, NDArray[Any]] = {
            name: np.array([getattr(one, name) for one in found], dtype=np.float64) for name in numbers
        }
        surprise = np.array(
            [math.nan if one is None else one.surprise(self.network.summary) for one in seen]
        )
        columns |= {"surprise": surprise, "how": np.array([one.how for one in found], dtype=np.str_)}
        limits = self.training.get("calibration", {}).get("limits", {})
        poor = (columns["p_value"] < 1e-3) | (columns["misfit"] > limits.get("misfit", 4.0))
        flags = {
            "outside": (surprise > limits.get("surprise", 4.0)) | poor,
            "unreliable": np.array([not one.is_reliable for one in found], dtype=bool),
        }
        samples = np.array([one.samples for one in found]).reshape(len(found), -1, len(self.labels))
        if "temperature" in self.labels.names:
            heat = samples[:, :, self.labels.names.index("temperature")]
            low, high = OPACITY_RANGE
            with np.errstate(invalid="ignore"):
                flags["opacity_range"] = ((heat < low) | (heat > high)).mean(axis=1) > 0.5
        evidence = np.array([one.log_evidence for one in found])
        errors = np.array([one.log_evidence_err for one in found])
        return Estimates.from_samples(
            self.labels,
            samples,
            spectra.ids,
            flags=flags,
            columns=columns,
            log_evidence=evidence,
            log_evidence_err=errors,
            label_flags=label_flags(self.labels, samples),
        )

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return CITATION


CITATION = """@article{zingales2018,
  author  = {Zingales, T. and Waldmann, I. P.},
  title   = {{ExoGAN: Retrieving Exoplanetary Atmospheres Using Deep Convolutional Generative Adversarial Networks}},
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


def label_flags(labels: LabelSet, samples: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return how well each label is known (n, l) by samples (n, draws, l) in the range of its prior."""
    flags = np.full(samples.shape[::2], "measured", dtype="<U8")
    pieces = 20
    for number, label in enumerate(labels):
        low, high = cast(float, label.low), cast(float, label.high)
        place = np.clip((samples[:, :, number] - low) / (high - low), 0, 1 - 1e-9)
        for row, values in enumerate(place):
            if np.isnan(values).any():
                continue
            share = np.bincount((values * pieces).astype(int), minlength=pieces) / len(values) * pieces
            if values.std() * math.sqrt(12) > 0.85 and share.min() > 0.3:
                flags[row, number] = "prior"
            elif max(share[0], share[-1]) > 0.9 * share.max() and values.std() * math.sqrt(12) < 0.2:
                flags[row, number] = "edge"
            elif max(share[:2].mean(), share[-2:].mean()) > 0.25 * share.max():
                flags[row, number] = "limit"
    return flags


def _fine(source: Source) -> Source:
    """Return a simulator of planets that makes noise-free spectra on the fine grid; other sources as they are."""
    if not isinstance(source, Planets):
        return source
    if source.snr is not None or (source.error and source.instrument is None):
        raise DraperError(
            "the noise of the training spectra is that of the model's own options",
            given=f"error={source.error}, snr={source.snr} of the simulator",
            hint="errors=(low, high) of the model (--errors)",
        )
    return Planets(**{**source.settings, "instrument": None, "error": None, "snr": None, "star_radius": 1.0})


def _presets(grid: Grid) -> torch.Tensor:
    """Return the bins (k, m, 2) of known instruments on a grid [pixels], and of the grid itself if it is short."""
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
