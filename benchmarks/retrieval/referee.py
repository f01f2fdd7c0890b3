"""Posteriors beside those of two references, of the same likelihood and prior.

Broad: many weighted samples of the network when it is given errors ``BROAD`` times as large, so
that whatever its posteriors miss would show. Where two such factors agree, it is exact to a few thousandths.
Nested: dynesty, whose walks do not always follow the thin, curved ridges of precise spectra.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from draper.configs.retriever import RetrieveConfig
from draper.data.spectra import Spectra
from draper.infer.importance import ImportanceSamples
from draper.infer.nested import LOWEST, WORKERS, Together
from draper.models.retriever.model import Retriever
from draper.models.retriever.posterior import Retrieval, Target
from draper.models.retriever.prior import Prior
from draper.simulate.transit import is_bound
from retrieval.bounds import ends
from retrieval.sheets import Array, Sheet, instrument_of, mixed, physics_of, short

LEVELS = (10.0, 30.0, 100.0)
"""Errors of a bin [ppm]."""

BROAD = (1.5, 2.5)
"""Factors of the errors that the network is given for the broad references; the first is the reference."""

WORTH = 1000
"""Effective samples of a broad reference below which it says nothing: counted, and left out."""

AT_ONCE = 20_000
"""Samples that are drawn at once."""

BINS = 40
"""Bins of the histograms, equal ones over the range of all samples."""


def divergence(first: Array, second: Array, weight: Array, size: float, other: float) -> tuple[float, float]:
    """Return the Jensen-Shannon divergence [nats] of two sets of samples, and its bias.

    Parameters
    ----------
    first : ndarray (n,)
        Samples of equal weight.
    second, weight : ndarray (m,)
        Weighted samples.
    size, other
        Effective numbers of both: finite samples of one distribution differ by (bins - 1) / 8 times the sum
        of their inverses, on the average.
    """
    both = np.concatenate([first, second])
    edges = np.linspace(both.min(), both.max(), BINS + 1)
    p = np.histogram(first, edges)[0] / len(first)
    q = np.histogram(second, edges, weights=weight)[0] / weight.sum()
    middle = (p + q) / 2
    found = sum(
        float(np.sum(part[part > 0] * np.log(part[part > 0] / middle[part > 0]))) / 2 for part in (p, q)
    )
    return found, float((middle > 0).sum() - 1) / 8 * (1 / size + 1 / other)


def target_of(model: Retriever, spectra: Spectra, options: RetrieveConfig) -> Target:
    """Return the posterior density of a single spectrum."""
    (one,) = model.observations(spectra, options)
    assert one is not None
    return Target(model.network, physics_of(model), one, Prior.of(options, model.labels), options, 0.0)


class Reference(NamedTuple):
    """Weighted samples of a posterior.

    Attributes
    ----------
    labels : ndarray (n, l)
        The samples.
    weight : ndarray (n,)
        Their weights.
    size : float
        Effective number.
    log_evidence, error : float
        Natural logarithm of the evidence, and its error.
    seconds : float
        CPU seconds.
    calls : int
        Number of likelihoods.
    """

    labels: Array
    weight: Array
    size: float
    log_evidence: float
    error: float
    seconds: float
    calls: int


def likelihood(target: Target, model: Retriever) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Return the log likelihoods (n,) of points (n, l) of the unit cube, and the labels of points."""
    low, high = ends(model.labels)
    exact = physics_of(model).exact_weight

    def labels_of(cube: Array) -> Array:
        return low + (high - low) * cube

    def log_likelihood(cube: Array) -> Array:
        labels = labels_of(cube)
        bound = is_bound(torch.from_numpy(labels[:, :7]), exact).numpy()
        value = np.full(len(cube), LOWEST)
        one = np.ones(int(bound.sum()))
        if bound.any():
            value[bound] = target.log_likelihood(labels[bound], one, one)
        return value

    return log_likelihood, labels_of


def nested(target: Target, model: Retriever, live: int, walks: int, seed: int) -> Reference:
    """Return the posterior by dynesty, in the labels and their uniform prior."""
    dynesty: Any = import_module("dynesty")
    log_likelihood, labels_of = likelihood(target, model)
    begun = time.process_time()
    with Together(log_likelihood, WORKERS) as pool:
        sampler = dynesty.NestedSampler(
            pool.call,
            lambda cube: cube,
            len(model.labels),
            nlive=live,
            sample="rwalk",
            walks=walks,
            rstate=np.random.default_rng(seed),
            pool=pool,
            use_pool={"prior_transform": False, "update_bound": False},
        )
        sampler.run_nested(dlogz=0.05, print_progress=False)
    found = sampler.results
    weight = np.exp(found.logwt - found.logz[-1])
    size = float(weight.sum() ** 2 / (weight**2).sum())
    seconds, calls = time.process_time() - begun, int(np.sum(found.ncall))
    evidence = float(found.logz[-1]), float(found.logzerr[-1])
    return Reference(labels_of(found.samples), weight, size, *evidence, seconds, calls)


def broad(target: Target, factor: float, draws: int, seed: int) -> Reference:
    """Return the posterior by many samples of a network that is given errors ``factor`` times as large."""
    begun = time.process_time()
    random = np.random.default_rng((seed, round(100 * factor)))
    wide = Target(
        target.network,
        target.model,
        target.observation.scaled(1.0, factor),
        target.prior,
        RetrieveConfig(),
        0.0,
    )
    labels, logs = [], []
    for _ in range(-(-draws // AT_ONCE)):
        drawn = wide.start(AT_ONCE, random)
        own = wide.labels(drawn.samples)
        one = np.ones(len(own))
        inside = np.isfinite(drawn.log_weights)
        change = np.full(len(own), -np.inf)
        change[inside] = target.log_likelihood(own[inside], one[inside], one[inside])
        change[inside] -= wide.log_likelihood(own[inside], one[inside], one[inside])
        labels.append(own)
        logs.append(np.where(inside, drawn.log_weights, 0.0) + change)
    found = ImportanceSamples(np.concatenate(labels), np.concatenate(logs))
    weight = np.exp(found.log_weights - found.log_weights.max())
    evidence = found.log_evidence, found.log_evidence_err
    return Reference(
        found.samples, weight, found.effective_size, *evidence, time.process_time() - begun, draws
    )


def apart(retrieval: Retrieval, other: Reference) -> tuple[Array, Array]:
    """Return the divergences (l,) of a retrieval from a reference less their bias, and the bias (l,)."""
    pairs = [
        divergence(retrieval.samples[:, n], column, other.weight, retrieval.effective, other.size)
        for n, column in enumerate(other.labels.T)
    ]
    raw, bias = np.array(pairs).T
    return raw - bias, bias


def compared(
    model: Retriever, spectra: Spectra, sizes: tuple[int, int, int], options: RetrieveConfig, seed: int
) -> dict[str, Any]:
    """Return the figures of a spectrum; sizes are live points (or 0), steps of a walk and broad draws."""
    live, walks, many = sizes
    begun = time.process_time()
    (retrieval,) = model.retrievals(spectra, model.observations(spectra, options), options)
    seconds = time.process_time() - begun
    target = target_of(model, spectra, options)
    wide, wider = (broad(target, factor, many, seed) for factor in BROAD)
    divergences, bias = apart(retrieval, wide)
    row: dict[str, Any] = {
        "instrument": instrument_of(spectra),
        "how": retrieval.how,
        "efficiency": retrieval.efficiency,
        **dict(zip(short(model.labels.names), divergences.round(5).tolist(), strict=True)),
        "bias": float(bias.mean()),
        "evidence": retrieval.log_evidence - wide.log_evidence,
        "its error": float(np.hypot(retrieval.log_evidence_err, wide.error)),
        "effective": wide.size,
        "broader evidence": wider.log_evidence - wide.log_evidence,
        "CPU s": seconds,
    }
    if not live:
        return row
    referee = nested(target, model, live, walks, seed)
    begun = time.process_time()
    for _ in range(50):
        likelihood(target, model)[0](np.full((1, len(model.labels)), 0.5))
    each = (time.process_time() - begun) / 50
    against, _ = apart(retrieval, referee)
    return row | {
        "nested JS, median": float(np.median(against)),
        "nested JS, worst": float(against.max()),
        "nested evidence": retrieval.log_evidence - referee.log_evidence,
        "nested error": float(np.hypot(retrieval.log_evidence_err, referee.error)),
        "nested CPU s": referee.seconds,
        "times faster": referee.seconds / seconds,
        "than one by one": referee.calls * each / seconds,
        "one by one CPU s": referee.calls * each,
        "calls": referee.calls,
        "nested effective": referee.size,
    }


def referee(
    model: Retriever,
    *,
    spectra: int = 4,
    by_nested: int = 1,
    live: int = 500,
    walks: int = 100,
    many: int = 60_000,
    options: Mapping[str, Any] = MappingProxyType({}),
    levels: tuple[float, ...] = LEVELS,
    say: Callable[[str], None] = print,
) -> list[Sheet]:
    """Return a table of divergences, evidences and seconds by level, and one of single spectra.

    The first ``by_nested`` spectra of each level are compared with dynesty, too.
    """
    chosen = RetrieveConfig(**{"samples": 20_000, **options})
    singles: list[dict[str, Any]] = []
    for level in levels:
        for number, one in enumerate(mixed(model, level, spectra, seed=31)):
            sizes = (live if number < by_nested else 0, walks, many)
            figures = compared(model, one, sizes, chosen, seed=number)
            singles.append({"error [ppm]": level, **figures})
            say(f"{level:g} ppm: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    names = short(model.labels.names)
    summary = [
        summarised(
            "all" if kept is None else kept,
            [row for row in singles if kept in (None, row["error [ppm]"])],
            names,
        )
        for kept in (*levels, None)
    ]
    facts = {
        "broad": f"{many} draws of the network, given {BROAD[0]:g} (broader: {BROAD[1]:g}) times the errors",
        "live points": live, "steps of a walk": walks, "draws": chosen.draws, "bins": BINS, "threads": 1,
    }  # fmt: skip
    shown = ("error [ppm]", "instrument", "how", "efficiency", *names, "evidence", "broader evidence")
    return [
        Sheet("References: by level", summary, facts),
        Sheet("References: spectra", singles, facts, shown),
    ]


def summarised(level: float | str, rows: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Return the figures of several spectra."""
    usable = [row for row in rows if row["effective"] >= WORTH] or rows
    js = np.array([[row[name] for name in names] for row in usable])
    off = np.abs([row["evidence"] for row in usable])
    beside = [row for row in rows if "nested JS, median" in row]

    def of(name: str, function: Callable[[Any], Any] = np.median) -> Any:
        return float(function([row[name] for row in beside])) if beside else ""

    return {
        "error [ppm]": level,
        "spectra": len(rows),
        "poor reference": len(rows) - len(usable),
        "JS median [nats]": float(np.median(js)),
        "JS worst": float(js.max()),
        "worst label": names[int(np.unravel_index(js.argmax(), js.shape)[1])],
        "bias (subtracted)": float(np.mean([row["bias"] for row in usable])),
        "evidence, median off": float(np.median(off)),
        "evidence, worst off": float(off.max()),
        "broader evidence, worst": float(np.abs([row["broader evidence"] for row in usable]).max()),
        "CPU s": float(np.median([row["CPU s"] for row in rows])),
        "nested": len(beside),
        "nested JS, median": of("nested JS, median"),
        "nested JS, worst": of("nested JS, worst", np.max),
        "nested evidence, median off": of("nested evidence", lambda x: np.median(np.abs(x))),
        "times faster": of("times faster"),
        "than one by one": of("than one by one"),
    }
