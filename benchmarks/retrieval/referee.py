"""Posteriors beside those of nested sampling (dynesty) of the same likelihood and prior."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from draper.configs.retriever import RetrieveConfig
from draper.data.spectra import Spectra
from draper.infer.nested import NestedSamples, nested
from draper.models.retriever.model import Retriever
from draper.models.retriever.posterior import Prior, Target
from draper.simulate.transit import is_bound
from retrieval.bounds import ends
from retrieval.sheets import Array, Sheet, instrument_of, mixed, physics_of, short

LEVELS = (10.0, 30.0, 100.0)
"""Errors of a bin [ppm]."""

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


def reference(
    target: Target, model: Retriever, live: int, seed: int
) -> tuple[NestedSamples, Array, float, float]:
    """Return nested samples, their labels (n, l), the CPU seconds, and those of one likelihood by itself."""
    low, high = ends(model.labels)
    exact = physics_of(model).exact_weight

    def log_likelihood(cube: Array) -> Array:
        labels = low + (high - low) * cube
        bound = is_bound(torch.from_numpy(labels[:, :7]), exact).numpy()
        value = np.full(len(cube), -np.inf)
        one = np.ones(int(bound.sum()))
        if bound.any():
            value[bound] = target.log_likelihood(labels[bound], one, one)
        return value

    begun = time.process_time()
    found = nested(log_likelihood, len(low), live=live, seed=seed)
    seconds = time.process_time() - begun
    begun = time.process_time()
    for _ in range(50):
        log_likelihood(found.samples[-1:])
    return found, low + (high - low) * found.samples, seconds, (time.process_time() - begun) / 50


def compared(
    model: Retriever, spectra: Spectra, live: int, options: RetrieveConfig, seed: int
) -> dict[str, Any]:
    """Return the figures of a single spectrum."""
    begun = time.process_time()
    (retrieval,) = model.retrievals(spectra, model.observations(spectra, options), options)
    seconds = time.process_time() - begun
    found, labels, slow, each = reference(target_of(model, spectra, options), model, live, seed)
    weight = np.exp(found.log_weights)
    pairs = [
        divergence(retrieval.samples[:, n], labels[:, n], weight, retrieval.effective, found.effective_size)
        for n in range(labels.shape[1])
    ]
    raw, bias = np.array(pairs).T
    return {
        "instrument": instrument_of(spectra),
        "how": retrieval.how,
        "efficiency": retrieval.efficiency,
        **dict(zip(short(model.labels.names), (raw - bias).round(5).tolist(), strict=True)),
        "bias": float(bias.mean()),
        "evidence": retrieval.log_evidence - found.log_evidence,
        "its error": float(np.hypot(retrieval.log_evidence_err, found.log_evidence_err)),
        "CPU s": seconds,
        "dynesty CPU s": slow,
        "one by one CPU s": found.calls * each,
        "calls": found.calls,
        "dynesty effective": found.effective_size,
    }


def referee(
    model: Retriever,
    *,
    spectra: int = 4,
    live: int = 500,
    options: Mapping[str, Any] = MappingProxyType({}),
    levels: tuple[float, ...] = LEVELS,
    say: Callable[[str], None] = print,
) -> list[Sheet]:
    """Return a table of single spectra, and one of divergences, evidences and seconds by level."""
    chosen = RetrieveConfig(**{"samples": 20_000, **options})
    singles: list[dict[str, Any]] = []
    for level in levels:
        for number, one in enumerate(mixed(model, level, spectra, seed=31)):
            figures = compared(model, one, live, chosen, seed=number)
            singles.append({"error [ppm]": level, **figures})
            say(f"{level:g} ppm: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    summary: list[dict[str, Any]] = []
    names = short(model.labels.names)
    for kept in (*levels, None):
        rows = [row for row in singles if kept in (None, row["error [ppm]"])]
        js = np.array([[row[name] for name in names] for row in rows])
        off = np.abs([row["evidence"] for row in rows])
        summary.append(
            {
                "error [ppm]": "all" if kept is None else kept,
                "spectra": len(rows),
                "JS median [nats]": float(np.median(js)),
                "JS worst": float(js.max()),
                "worst label": names[int(np.unravel_index(js.argmax(), js.shape)[1])],
                "bias (subtracted)": float(np.mean([row["bias"] for row in rows])),
                "evidence, median off": float(np.median(off)),
                "evidence, worst off": float(off.max()),
                "CPU s": float(np.median([row["CPU s"] for row in rows])),
                "times faster": float(np.median([row["dynesty CPU s"] / row["CPU s"] for row in rows])),
                "than one by one": float(np.median([row["one by one CPU s"] / row["CPU s"] for row in rows])),
            }
        )
    facts = {"live points": live, "draws": chosen.draws, "bins": BINS, "threads": 1}
    shown = ("error [ppm]", "instrument", "how", "efficiency", *names, "bias", "evidence", "its error")
    return [Sheet("dynesty: by level", summary, facts), Sheet("dynesty: spectra", singles, facts, shown)]
