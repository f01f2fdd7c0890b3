"""The posterior of one spectrum: samples of the network, weighted and, where needed, refined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import chi2 as chi2_distribution
from torch import Tensor

from draper.configs.retriever import RetrieveConfig
from draper.data.labels import Label, LabelSet
from draper.infer.importance import ImportanceSamples
from draper.infer.mixture import Mixture
from draper.infer.nested import LOWEST, nested
from draper.infer.refine import refine
from draper.models.retriever.coordinates import Place
from draper.models.retriever.network import RetrieverNetwork
from draper.models.retriever.observation import Observation, stacked, tensor
from draper.models.retriever.prior import SOFTEST, Prior
from draper.models.retriever.summary import Reference

FloatArray = NDArray[np.float64]

STRATA = 500
"""Radii of the star, and inflations of the errors, for which the network is asked."""

FEW = 100
"""Effective samples below which a posterior is not to be trusted."""

HEAVY = 0.7
"""Pareto k above which a posterior is not to be trusted."""

STEP_SIZE = 30
"""Effective samples that are left when priors are narrowed by a step."""

STEPS, STEP_DRAWS = 12, 2000
"""Largest number of these steps, and draws of each round in which samples are refined after one."""

BISECTIONS = 20
"""Iterations by which the power of the priors in a step is found."""

ROUND_DRAWS = (2000, 8000, 8000)
"""Draws of each round of a refinement, and of others that go on from it where it is of no use."""

ACCEPTED = 0.05
"""Efficiency with which a refinement is of use."""

LIVE = 500
"""Live points of nested sampling."""

MAX_CHI2 = 30.0
"""chi2 per bin of the best sample above which no planet is like the data."""

LAST_DRAWS, LAST_ROUNDS, LAST_COMPONENTS = 8000, 12, 16
"""Draws of each round, rounds, and components of the mixtures, of the refinement after it."""

CUBE_EDGE = 1e-9
"""Distance of coordinates from the ends of the unit cube."""

CHECKED = 400
"""Samples whose spectra are compared with the data."""

STAR = "star_radius_ratio"
"""Name of the radius of the star over the one that is given, where it is sampled."""


class ForwardModel(Protocol):
    """What turns labels into fine spectra in front of a star of one solar radius."""

    def depth(self, labels: Tensor, bins: slice | None = None) -> Tensor:
        """Return spectra (n, q) of labels (n, l)."""


def sampled(labels: LabelSet, options: RetrieveConfig) -> LabelSet:
    """Return what is sampled: the labels, and what options add to them.

    Examples
    --------
    >>> options = RetrieveConfig(star_radius_error=0.02, inflation=3)
    >>> sampled(LabelSet([Label("teff")]), options).names
    ('teff', 'star_radius_ratio', 'inflation')
    """
    beside = []
    if options.star_radius_error > 0:
        beside.append(Label(STAR, low=0.5, high=2.0))
    if options.inflation > 1:
        beside.append(Label("inflation", low=1.0, high=options.inflation))
    return LabelSet([*labels, *beside])


@dataclass(frozen=True)
class Retrieval:
    """The posterior of one spectrum.

    Attributes
    ----------
    samples : ndarray (n, l + c)
        Labels, all of equal weight, and what was sampled beside them (:func:`sampled`).
    places : ndarray (n, l + c), optional
        Their places in the prior, 0 to 1; those in their ranges by default.
    efficiency, effective, pareto_k, log_evidence, log_evidence_err : float
        Of the weighted samples.
    proposed : float
        Efficiency of the network's samples, before any refinement.
    how : str
        ``network``, ``weighted``, ``refined`` or ``nested``: what was needed; ``failed`` without samples.
    chi2, bins, p_value : float
        Of the data against the spectra of the samples.
    misfit : float
        Largest mean residual of neighbouring bins, in units of its scatter.
    completed : ndarray (k, p), optional
        Fine spectra, where samples come with them.
    bayes : dict of (float, float)
        Logarithm of the evidence over that of a model without something, and its error, by its name.
    """

    samples: FloatArray
    places: FloatArray | None = None
    efficiency: float = math.nan
    effective: float = math.nan
    pareto_k: float = math.nan
    log_evidence: float = math.nan
    log_evidence_err: float = math.nan
    proposed: float = math.nan
    how: str = "network"
    chi2: float = math.nan
    bins: int = 0
    p_value: float = math.nan
    misfit: float = math.nan
    completed: FloatArray | None = None
    bayes: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def failed(cls, count: int, labels: int, proposed: float = math.nan) -> Retrieval:
        """Return the retrieval of a spectrum without any possible sample."""
        return cls(np.full((count, labels), np.nan), proposed=proposed, how="failed")

    @property
    def is_reliable(self) -> bool:
        """Whether the weighted samples stand for the posterior."""
        return self.how == "network" or is_good(self.effective, self.pareto_k)


def is_good(effective: float, pareto_k: float) -> bool:
    """Return whether weighted samples of an effective number and a Pareto k stand for a posterior."""
    return effective >= FEW and pareto_k < HEAVY


class Target:
    """The posterior density of one spectrum in the coordinates of the network and of conditions.

    Those of conditions are standard normal in the prior: radius of the star, inflation of the errors.
    """

    def __init__(
        self,
        network: RetrieverNetwork,
        model: ForwardModel,
        observation: Observation,
        prior: Prior,
        options: RetrieveConfig,
        star_error: float,
    ) -> None:
        self.network, self.model, self.observation = network, model, observation
        self.prior, self.coordinates = prior, network.coordinates.suited(prior)
        self.star_error, self.inflation = star_error, options.inflation
        self.reference = Reference(torch.zeros(1).double(), torch.ones(1).double())
        self.features = torch.zeros(1, 0)

    @property
    def conditions(self) -> int:
        """Number of further coordinates."""
        return int(self.star_error > 0) + int(self.inflation > 1)

    def factors(self, further: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the relative radii (n,) of the star, and inflations (n,), of further coordinates (n, c)."""
        star, inflation = np.ones(len(further)), np.ones(len(further))
        if self.star_error > 0:
            star = np.maximum(1 + self.star_error * further[:, 0], 0.1)
        if self.inflation > 1:
            inflation = self.inflation ** ndtr(further[:, -1])
        return star, inflation

    def log_likelihood(self, labels: FloatArray, star: FloatArray, inflation: FloatArray) -> FloatArray:
        """Return the log density (n,) of the data given labels (n, l)."""
        observation = self.observation
        with torch.no_grad():
            fine = self.model.depth(tensor(labels).float(), observation.pixels).double().numpy()
        residuals = observation.residuals(fine / star[:, None] ** 2, inflation)
        return np.asarray(observation.log_norm(inflation) - (residuals**2).sum(axis=1) / 2)

    def log_joint(self, labels: FloatArray, inside: NDArray[np.bool_], further: FloatArray) -> FloatArray:
        """Return the log density (n,) of data and labels, further coordinates included."""
        value = np.full(len(labels), -np.inf)
        prior = self.prior.log_density(labels)
        rows = inside & np.isfinite(prior)
        if rows.any():
            star, inflation = self.factors(further[rows])
            value[rows] = self.log_likelihood(labels[rows], star, inflation) + prior[rows]
            value[rows] += _log_normal(further[rows])
        return value

    def __call__(self, points: FloatArray) -> FloatArray:
        """Return the log density (n,) of data and points (n, l + c)."""
        place = self._place(points)
        joint = self.log_joint(place.labels.numpy(), place.inside.numpy(), points[:, len(self.prior.low) :])
        return np.where(np.isfinite(joint), joint - place.log_volume.numpy(), -np.inf)

    def labels(self, points: FloatArray) -> FloatArray:
        """Return the labels (n, l) of points."""
        return np.asarray(self._place(points).labels.numpy())

    def confined(self, points: FloatArray) -> tuple[Target, FloatArray]:
        """Return the same density in coordinates that no sample can leave, and points (n, l + c) in them."""
        count, other = len(self.prior.low), copy(self)
        other.coordinates = self.coordinates.confined(self.prior)
        values = other.coordinates.restated(tensor(points[:, :count]), tensor(self.labels(points)))
        return other, np.concatenate([values.numpy(), points[:, count:]], axis=1)

    def _place(self, points: FloatArray) -> Place:
        count = len(self.prior.low)
        return self.coordinates.place(tensor(points[:, :count]), self._reference_of(points[:, count:]))

    def _reference_of(self, further: FloatArray) -> Reference:
        """Return the references (n,) in front of stars of the radii of further coordinates (n, c).

        With them the coordinates of a planet hardly depend on the radius of its star.
        """
        star, _ = self.factors(further)
        centre = self.reference.centre + torch.from_numpy(np.log(star))
        return Reference(centre, self.reference.sigma.expand(len(star)))

    def start(self, draws: int, rng: np.random.Generator) -> ImportanceSamples:
        """Return weighted samples of the network."""
        strata = min(STRATA, draws) if self.conditions else 1
        further = np.zeros((strata, self.conditions))
        if self.conditions:
            cells = np.stack([rng.permutation(strata) for _ in range(self.conditions)], axis=1)
            further = ndtri((cells + rng.uniform(size=cells.shape)) / strata)
        owner = np.repeat(np.arange(strata), -(-draws // strata))
        star, inflation = self.factors(further)
        seen = [
            self.observation.scaled(radius**2, factor).statistics(self.network.summary)
            for radius, factor in zip(star, inflation, strict=True)
        ]
        noise = torch.from_numpy(rng.standard_normal((len(owner), len(self.prior.low)))).float()
        beside = further[owner]
        with torch.inference_mode():
            features, references = self.network.context(stacked(seen))
            values, log_density = self.network.density.draw(noise, features[owner])
            reference = Reference(*(part[owner] for part in references))
            place = self.network.coordinates.place(values, reference)
            self.features = features[:1]
            self.reference = Reference(references.centre[:1] - math.log(star[0]), references.sigma[:1])
            moved = self.coordinates.moved(values, reference, self._reference_of(beside))
            own = self.coordinates.recast(moved.double(), place.labels).numpy()
        joint = self.log_joint(place.labels.numpy(), place.inside.numpy(), beside)
        # The further coordinates were drawn from their prior.
        proposal = (log_density.double() + place.log_volume).numpy() + _log_normal(beside)
        # Of data unlike any spectrum the network may say things without bounds.
        finite = np.isfinite(own).all(axis=1)
        possible = finite & np.isfinite(joint + proposal)
        return ImportanceSamples(
            np.concatenate([np.where(finite[:, None], own, 0.0), beside], axis=1),
            np.where(possible, joint, -np.inf) - np.where(possible, proposal, 0.0),
        )

    @property
    def knows_start(self) -> bool:
        """Whether :meth:`start_log_density` can be computed."""
        return not self.conditions and self.coordinates is self.network.coordinates

    def start_log_density(self, points: FloatArray) -> FloatArray:
        """Return the log density (n,) of the network at points (n, l), where they are its own coordinates."""
        with torch.inference_mode():
            values = tensor(points).float()
            return np.asarray(self.network.density.log_density(values, self.features).double().numpy())


def _log_normal(values: FloatArray) -> FloatArray:
    return np.asarray(-(values**2).sum(axis=1) / 2 - values.shape[1] * math.log(2 * math.pi) / 2)


def retrieve(target: Target, options: RetrieveConfig, draws: int, rng: np.random.Generator) -> Retrieval:
    """Return the posterior of one spectrum by importance sampling, refined where it is needed."""
    weighted, how = target.start(draws, rng), "weighted"
    proposed = weighted.efficiency
    if options.refine != "never" and not target.prior.is_plain and weighted.effective_size < FEW:
        weighted, how = approached(target, draws, rng), "refined"
    if options.refine == "nested":
        return replace(_nested(target, weighted, options, rng), proposed=proposed)
    poor = weighted.efficiency < options.target or weighted.pareto_k > HEAVY
    if options.refine == "auto" and poor and weighted.effective_size > 0:
        density = target.start_log_density if how == "weighted" and target.knows_start else None
        for number in ROUND_DRAWS:
            weighted = refine(
                target,
                weighted,
                rng,
                start_log_density=None if weighted.rounds else density,
                draws=number,
                efficiency=max(options.target, 0.3),
                final=draws // 2,
            )
            if weighted.efficiency > ACCEPTED and weighted.pareto_k < HEAVY:
                break
        how = "refined" if weighted.rounds else how
    is_poor = not is_good(weighted.effective_size, weighted.pareto_k)
    # No planet of the box is like data of which no sample of the network is possible, or none is near: there
    # nested sampling would take an hour, for labels that mean nothing.
    is_like_some = not target.prior.is_plain
    if weighted.effective_size > 0:
        is_like_some = not is_unlike_data(target, weighted)
    if options.refine == "auto" and is_poor and is_like_some and find_spec("dynesty"):
        return replace(_nested(target, weighted, options, rng), proposed=proposed)
    if weighted.effective_size == 0:
        return Retrieval.failed(options.samples, weighted.samples.shape[1], proposed)
    return replace(_finished(target, weighted, options, rng, how), proposed=proposed)


def approached(target: Target, draws: int, rng: np.random.Generator) -> ImportanceSamples:
    """Return weighted samples where hardly any of the network lie in narrow priors.

    The priors are narrowed step by step, each so far that the samples of the last one serve as a start.
    """
    step, share = copy(target), 0.0
    step.prior = target.prior.softened(share)
    weighted = step.start(draws, rng)
    target.reference, target.features = step.reference, step.features
    for _ in range(STEPS):
        base, share = _narrowed(target, weighted, step.prior, share)
        step.prior = target.prior.softened(share)
        if share == 1 or base.effective_size == 0:
            return base
        weighted = refine(step, base, rng, draws=STEP_DRAWS, rounds=2)
    return _reweighted(weighted, target.labels(weighted.samples), step.prior, target.prior)


def _narrowed(
    target: Target, weighted: ImportanceSamples, now: Prior, share: float
) -> tuple[ImportanceSamples, float]:
    """Return samples with the weights of narrower priors than now, and their power."""
    labels = target.labels(weighted.samples)
    low, high = share, 1.0
    need = min(STEP_SIZE, weighted.effective_size / 2)
    best = _reweighted(weighted, labels, now, target.prior)
    if best.effective_size >= need:
        return best, high
    for _ in range(BISECTIONS):
        middle = math.sqrt(max(low, SOFTEST) * high)
        tried = _reweighted(weighted, labels, now, target.prior.softened(middle))
        low, high = (middle, high) if tried.effective_size > need else (low, middle)
    return _reweighted(weighted, labels, now, target.prior.softened(low)), low


def _reweighted(
    weighted: ImportanceSamples, labels: FloatArray, now: Prior, then: Prior
) -> ImportanceSamples:
    """Return samples, of labels (n, l), with the weights of another prior."""
    possible = np.isfinite(weighted.log_weights)
    ratio = then.log_density(labels) - np.where(possible, now.log_density(labels), 0.0)
    return ImportanceSamples(weighted.samples, np.where(possible, weighted.log_weights + ratio, -np.inf))


def _nested(
    target: Target, start: ImportanceSamples, options: RetrieveConfig, rng: np.random.Generator
) -> Retrieval:
    """Return the posterior of one spectrum by nested sampling that starts from weighted samples."""
    has_start = start.effective_size > FEW / 2
    points = start.resample(LIVE, rng) if has_start else start.samples[:1]
    if not target.prior.is_plain:
        target, points = target.confined(points)

    def log_likelihood(cube: FloatArray) -> FloatArray:
        # A standard normal distribution stands in place of the prior, and the target makes up for it.
        points = ndtri(np.clip(cube, CUBE_EDGE, 1 - CUBE_EDGE))
        return target(points) - _log_normal(points)

    found = nested(
        log_likelihood,
        start.samples.shape[1],
        live=LIVE,
        seed=int(rng.integers(2**31)),
        start=ndtr(points) if has_start else None,
    )
    if found.log_evidence < LOWEST / 2:
        return Retrieval.failed(options.samples, start.samples.shape[1])
    points = ndtri(np.clip(found.resample(max(LAST_DRAWS, options.samples), rng), CUBE_EDGE, 1 - CUBE_EDGE))
    # Along curved ridges its evidence is off by more than its error says; weights of samples about its own
    # are exact where they are good.
    mixture = Mixture.fit(points, np.zeros(len(points)), rng, components=LAST_COMPONENTS)
    drawn = mixture.sample(LAST_DRAWS, rng)
    weighted = ImportanceSamples(drawn, target(drawn) - mixture.log_density(drawn))
    if weighted.effective_size > 0:
        weighted = refine(
            target,
            weighted,
            rng,
            start_log_density=mixture.log_density,
            draws=LAST_DRAWS,
            rounds=LAST_ROUNDS,
            components=LAST_COMPONENTS,
        )
    if is_good(weighted.effective_size, weighted.pareto_k):
        return _finished(target, weighted, options, rng, how="nested")
    points = points[: options.samples]
    return checked(
        target,
        target.labels(points),
        points[:, len(target.prior.low) :],
        rng,
        efficiency=found.effective_size / found.calls,
        effective=found.effective_size,
        log_evidence=found.log_evidence,
        log_evidence_err=found.log_evidence_err,
        how="nested",  # without a Pareto k it is not reliable
    )


def _finished(
    target: Target, weighted: ImportanceSamples, options: RetrieveConfig, rng: np.random.Generator, how: str
) -> Retrieval:
    """Return a retrieval of weighted samples."""
    points = weighted.resample(options.samples, rng)
    return checked(
        target,
        target.labels(points),
        points[:, len(target.prior.low) :],
        rng,
        efficiency=weighted.efficiency,
        effective=weighted.effective_size,
        pareto_k=weighted.pareto_k,
        log_evidence=weighted.log_evidence,
        log_evidence_err=weighted.log_evidence_err,
        how=how,
    )


def checked(
    target: Target, labels: FloatArray, further: FloatArray, rng: np.random.Generator, **figures: float | str
) -> Retrieval:
    """Return a retrieval of labels (n, l) and further coordinates (n, c), compared with the data."""
    some = rng.choice(len(labels), min(CHECKED, len(labels)), replace=False)
    residuals = residuals_of(target, labels[some], further[some])
    chi2 = (residuals**2).sum(axis=1)
    star, inflation = target.factors(further)
    beside = [(target.star_error > 0, star), (target.inflation > 1, inflation)]
    return Retrieval(
        np.column_stack([labels, *(values for is_sampled, values in beside if is_sampled)]),
        np.concatenate([target.prior.place(labels), ndtr(further)], axis=1),
        chi2=float(np.median(chi2)),
        bins=residuals.shape[1],
        p_value=float(chi2_distribution.sf(chi2, residuals.shape[1]).mean()),
        misfit=largest_run(residuals),
        **figures,  # type: ignore[arg-type]
    )


def residuals_of(target: Target, labels: FloatArray, further: FloatArray) -> FloatArray:
    """Return the whitened residuals (n, m) of the data from labels (n, l) and further coordinates (n, c)."""
    star, inflation = target.factors(further)
    with torch.no_grad():
        fine = target.model.depth(tensor(labels).float(), target.observation.pixels).double().numpy()
    return target.observation.residuals(fine / star[:, None] ** 2, inflation)


def is_unlike_data(target: Target, weighted: ImportanceSamples) -> bool:
    """Return whether the best of some samples is nothing like the data."""
    best = weighted.samples[[int(weighted.log_weights.argmax())]]
    residuals = residuals_of(target, target.labels(best), best[:, len(target.prior.low) :])
    return bool((residuals**2).sum() > MAX_CHI2 * residuals.shape[1])


def largest_run(residuals: FloatArray) -> float:
    """Return the largest mean residual of neighbouring bins, in units of its scatter.

    Parameters
    ----------
    residuals : ndarray (n, m)
        Whitened residuals of n posterior samples. Their scatter from sample to sample is what the fit could
        absorb; the mean residual has that much less variance.
    """
    bins = residuals.shape[1]
    sums = np.concatenate([np.zeros((len(residuals), 1)), residuals.cumsum(axis=1)], axis=1)
    largest, width = 0.0, 1
    while width <= max(1, bins // 2):
        runs = sums[:, width:] - sums[:, :-width]
        variance = np.maximum(width - runs.var(axis=0), 0.2 * width)
        largest = max(largest, float(np.abs(runs.mean(axis=0) / np.sqrt(variance)).max()))
        width *= 2
    return largest
