"""What posteriors say: estimates of labels, how well each is known, and what must not be trusted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.models.retriever.observation import PPM, Observation
from draper.models.retriever.posterior import Retrieval
from draper.models.retriever.protocol import Sampling
from draper.results.estimates import Estimates
from draper.simulate.planet_units import GASES
from draper.simulate.transit import OPACITY_RANGE

NO_GAS = -8.0
"""Abundance [dex] of a gas that is hardly there: the lowest of the spectra that opacities were fitted to."""

POOR_FIT = 1e-3
"""Posterior-predictive p value below which a fit is poor."""

LIMIT = 4.5
"""Largest surprise and misfit of a good spectrum, where the model has not measured it."""


def estimates_of(
    model: Sampling,
    spectra: Spectra,
    seen: list[Observation | None],
    found: list[Retrieval],
    draws: int,
) -> Estimates:
    """Return retrievals of so many samples each as estimates."""
    numbers = ("efficiency", "effective", "pareto_k", "chi2", "bins", "p_value", "misfit")
    columns: dict[str, NDArray[Any]] = {
        name: np.array([getattr(one, name) for one in found], dtype=np.float64) for name in numbers
    }
    surprise = np.array(
        [
            math.nan
            if one is None or model.config.method == "inpaint"
            else one.surprise(model.network.summary)
            for one in seen
        ]
    )
    for name in dict.fromkeys(name for one in found for name in one.conditions):
        sampled = [one.conditions.get(name, np.array([math.nan])) for one in found]
        columns[name] = np.array([np.median(one) for one in sampled])
        columns[f"{name}_err"] = np.array([one.std() for one in sampled])
    for what in dict.fromkeys(what for one in found for what in one.bayes):
        columns[f"log_bayes_{what}"] = np.array([one.bayes.get(what, math.nan) for one in found])
    columns |= {"surprise": surprise, "how": np.array([one.how for one in found], dtype=np.str_)}
    limits = model.training.get("calibration", {}).get("limits", {})
    poor = (columns["p_value"] < POOR_FIT) | (columns["misfit"] > limits.get("misfit", LIMIT))
    # A fit tells more than whether there are similar spectra in the training set.
    strange = np.isnan(columns["chi2"]) & (surprise > limits.get("surprise", LIMIT))
    typical = np.array([math.nan if one is None else np.sqrt(np.median(one.variance)) for one in seen])
    low, high = model.config.errors or (0.0, math.inf)
    flags = {
        "outside": strange | poor,
        "unreliable": np.array([not one.is_reliable for one in found], dtype=bool),
        "untested_errors": (typical < low * PPM) | (typical > high * PPM),
    }
    samples = np.array([one.samples for one in found]).reshape(len(found), draws, len(model.labels))
    if "temperature" in model.labels.names:
        heat = samples[:, :, model.labels.names.index("temperature")]
        coolest, hottest = OPACITY_RANGE
        with np.errstate(invalid="ignore"):
            flags["opacity_range"] = ((heat < coolest) | (heat > hottest)).mean(axis=1) > 0.5
    evidence = np.array([one.log_evidence for one in found])
    errors = np.array([one.log_evidence_err for one in found])
    return Estimates.from_samples(
        model.labels,
        samples,
        spectra.ids,
        flags=flags,
        columns=columns,
        log_evidence=evidence,
        log_evidence_err=errors,
        label_flags=label_flags(model.labels, samples),
    )


def label_flags(labels: LabelSet, samples: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return how well each label is known (n, l) by samples (n, draws, l) in the range of its prior."""
    flags = np.full(samples.shape[::2], "measured", dtype="<U8")
    pieces = 20
    for number, label in enumerate(labels):
        low, high = label.low, label.high
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
