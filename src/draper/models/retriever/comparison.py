"""Whether an atmosphere holds a gas, or clouds: the evidence with them over that without."""

from __future__ import annotations

import math

import numpy as np

from draper.configs.retriever import RetrieveConfig
from draper.data.labels import LabelSet
from draper.models.retriever.observation import Observation
from draper.models.retriever.posterior import Retrieval, Target, retrieve
from draper.models.retriever.prior import Prior
from draper.models.retriever.protocol import Sampling
from draper.simulate.planet_units import GASES
from draper.simulate.planets import CLOUD, HAZE


def absences(labels: LabelSet) -> dict[str, dict[str, float]]:
    """Return by name, of each gas and of clouds with haze, the labels of a planet without it.

    Examples
    --------
    >>> from draper.simulate.planets import LABELS
    >>> absences(LABELS)["h2o"]
    {'log_h2o': -8.0}
    """
    names = [f"log_{gas}" for gas in GASES]
    found = {
        gas: {name: labels[name].low} for gas, name in zip(GASES, names, strict=True) if name in labels.names
    }
    clear = {CLOUD.name: float(CLOUD.high), HAZE.name: float(HAZE.low)}
    if aerosols := {name: value for name, value in clear.items() if name in labels.names}:
        found["clouds"] = aerosols
    return found


def bayes_factors(
    model: Sampling, full: Retrieval, one: Observation, options: RetrieveConfig, star_error: float
) -> dict[str, tuple[float, float]]:
    """Return ln(evidence with / evidence without) of each gas, and of clouds and haze together.

    Each comes with its error, which is infinite where one of the two evidences cannot be trusted.
    """
    physics = model.physics
    assert physics is not None
    found = {}
    for number, (what, fixed) in enumerate(absences(model.labels).items()):
        # What is known of an abundance is of no use where there is none.
        priors, bounds, others = (
            {name: value for name, value in known.items() if name not in fixed}
            for known in (options.priors, options.bounds, options.fixed)
        )
        changed = options.replace(priors=priors, bounds=bounds, fixed={**others, **fixed})
        target = Target(model.network, physics, one, Prior.of(changed, model.labels), changed, star_error)
        rng = np.random.default_rng((options.seed, one.digest, number))
        without = retrieve(target, changed, options.draws, rng)
        trusted = full.is_reliable and without.is_reliable
        scatter = math.hypot(full.log_evidence_err, without.log_evidence_err)
        found[what] = full.log_evidence - without.log_evidence, scatter if trusted else math.inf
    return found
