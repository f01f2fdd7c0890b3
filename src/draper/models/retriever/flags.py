"""What posteriors say: estimates of labels, how well each is known, and what must not be trusted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.retriever import RetrieveConfig
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.models.retriever.observation import PPM, Observation
from draper.models.retriever.posterior import Retrieval, sampled
from draper.models.retriever.prior import Prior
from draper.models.retriever.protocol import Sampling
from draper.results.estimates import Estimates
from draper.simulate.planet_units import GASES
from draper.simulate.transit import OPACITY_RANGE

NO_GAS = -8.0
"""Abundance [dex] of a gas that is hardly there: the lowest of the spectra that opacities were fitted to."""

POOR_FIT = 1e-3
"""Posterior-predictive p value below which a fit is poor."""

PIECES = 20
"""Pieces of a range in which samples are counted."""

LIMIT = 4.5
"""Largest novelty and misfit of a good spectrum, where the model has not measured it."""


def estimates_of(
    model: Sampling,
    spectra: Spectra,
    seen: list[Observation | None],
    found: list[Retrieval],
    options: RetrieveConfig,
) -> Estimates:
    """Return retrievals as estimates."""
    labels = sampled(model.labels, options)
    numbers = ("efficiency", "effective", "pareto_k", "chi2", "bins", "p_value", "misfit")
    columns: dict[str, NDArray[Any]] = {
        name: np.array([getattr(one, name) for one in found], dtype=np.float64) for name in numbers
    }
    novelty = np.array(
        [
            math.nan
            if one is None or model.config.method == "inpaint"
            else one.novelty(model.network.summary)
            for one in seen
        ]
    )
    for what in dict.fromkeys(what for one in found for what in one.bayes):
        factors = np.array([one.bayes.get(what, (math.nan, math.nan)) for one in found])
        columns |= {f"log_bayes_{what}": factors[:, 0], f"log_bayes_{what}_err": factors[:, 1]}
    columns |= {"novelty": novelty, "how": np.array([one.how for one in found], dtype=np.str_)}
    limits = model.training.get("calibration", {}).get("limits", {})
    poor = (columns["p_value"] < POOR_FIT) | (columns["misfit"] > limits.get("misfit", LIMIT))
    # A fit tells more than whether there are similar spectra in the training set.
    strange = np.isnan(columns["chi2"]) & (novelty > limits.get("novelty", LIMIT))
    # Without a possible sample there is no chi2; unless refined, narrow priors alone may be the cause.
    prior = Prior.of(options, model.labels)
    empty = np.array([np.isnan(one.samples).any() for one in found], dtype=bool)
    empty &= np.array([one is not None for one in seen], dtype=bool)
    empty &= prior.is_plain or options.refine != "never"
    typical = np.array([math.nan if one is None else np.sqrt(np.median(one.variance)) for one in seen])
    low, high = model.config.errors or (0.0, math.inf)
    flags = {
        "outside": strange | poor | empty,
        "unreliable": np.array([not one.is_reliable for one in found], dtype=bool),
        "untested_errors": (typical < low * PPM) | (typical > high * PPM),
    }
    shape = (len(found), options.samples, len(labels))
    samples = np.array([one.samples for one in found]).reshape(shape)
    own = len(model.labels)
    bottom, top = np.append(prior.low, labels.low[own:]), np.append(prior.high, labels.high[own:])
    ranges = (samples - bottom) / (top - bottom)
    places = np.array(
        [part if one.places is None else one.places for one, part in zip(found, ranges, strict=True)]
    )
    if model.config.simulator and "temperature" in model.labels.names:
        heat = samples[:, :, model.labels.names.index("temperature")]
        coolest, hottest = OPACITY_RANGE
        with np.errstate(invalid="ignore"):
            flags["opacity_range"] = ((heat < coolest) | (heat > hottest)).mean(axis=1) > 0.5
    evidence = np.array([one.log_evidence for one in found])
    errors = np.array([one.log_evidence_err for one in found])
    return Estimates.from_samples(
        labels,
        samples,
        spectra.ids,
        flags=flags,
        columns=columns,
        log_evidence=evidence,
        log_evidence_err=errors,
        label_flags=label_flags(ranges, places.reshape(shape)),
    )


def label_flags(ranges: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return how well each label is known (n, l), by samples.

    Parameters
    ----------
    ranges : ndarray (n, draws, l)
        Places of the samples in the range of each label, 0 to 1.
    places : ndarray (n, draws, l)
        Places in its prior: of samples that are nothing but the prior they are uniform.
    """
    flags = np.full(ranges.shape[::2], "measured", dtype="<U8")
    for row, number in np.ndindex(flags.shape):
        inside, place = ranges[row, :, number], places[row, :, number]
        if np.isnan(inside).any():
            continue
        share, spread = _histogram(inside), inside.std() * math.sqrt(12)
        if place.std() * math.sqrt(12) > 0.85 and _histogram(place).min() > 0.3:
            flags[row, number] = "prior"
        elif max(share[0], share[-1]) > 0.9 * share.max() and spread < 0.2:
            flags[row, number] = "edge"
        elif max(share[:2].mean(), share[-2:].mean()) > 0.25 * share.max():
            flags[row, number] = "limit"
    return flags


def _histogram(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the density of places (n,) between 0 and 1 in pieces of equal width."""
    inside = np.clip(places, 0, 1 - 1e-9)
    return np.bincount((inside * PIECES).astype(int), minlength=PIECES) / len(inside) * PIECES


def typical(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the one of samples (n, l) that is nearest to their medians, in units of their scatters.

    Medians of single labels are no planet where labels are correlated.

    Examples
    --------
    >>> typical(np.array([[0.0, 9.0], [1.0, 1.0], [9.0, 0.0]])).tolist()
    [1.0, 1.0]
    """
    distance = (samples - np.median(samples, axis=0)) / np.maximum(samples.std(axis=0), 1e-12)
    nearest: NDArray[np.float64] = samples[np.square(distance).sum(axis=1).argmin()]
    return nearest


def alone(labels: LabelSet, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the labels (l,) of planets like one with given labels, each with one of its gases alone.

    The planet without any of them stands under ``no gas``: scattering, collisions, clouds.

    Examples
    --------
    >>> from draper.simulate.planets import LABELS
    >>> list(alone(LABELS, np.array([1, 1500, 1.2, -3, -4, -5, -6.0])))
    ['no gas', 'H2O', 'CO2', 'CH4', 'CO']
    """
    places = {gas.upper(): labels.names.index(f"log_{gas}") for gas in GASES if f"log_{gas}" in labels.names}
    least = np.array(values, dtype=np.float64)
    for place in places.values():
        least[place] = NO_GAS
    found = {"no gas": least}
    for name, place in places.items():
        found[name] = least.copy()
        found[name][place] = values[place]
    return found
