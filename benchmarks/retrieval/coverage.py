"""Whether the network's posteriors hold, by instrument, error and label, on fresh simulations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import kstest

from draper.models.retriever.calibrate import DRAWS, ranked, strata
from draper.models.retriever.model import Retriever
from retrieval.sheets import Array, Sheet, short

LEVELS = (50, 68, 90)
"""Central intervals [%]."""


TOGETHER = "together"
"""Name of the column of all labels together: distances from random points, as in TARP."""


def shares(place: Array) -> Array:
    """Return the shares [%] (levels, l) of places (n, l), 0 to 1, inside of central intervals."""
    return np.array([100 * (np.abs(place - 0.5) < level / 200).mean(axis=0) for level in LEVELS])


def figures(names: tuple[str, ...], place: Array) -> dict[str, Any]:
    """Return the worst deviation of coverage, what chance makes of it, and the test of uniform ranks."""
    off = shares(place) - np.array(LEVELS)[:, None]
    level, label = np.unravel_index(np.abs(off).argmax(), off.shape)
    chance = np.sqrt(np.array(LEVELS) * (100 - np.array(LEVELS)) / len(place))
    tests = np.array([kstest(column, "uniform").pvalue for column in place.T])
    return {
        "spectra": len(place),
        "worst off [points]": float(off[level, label]),
        "at": f"{LEVELS[level]} % of {names[label]}",
        "1 sigma of chance": float(chance[level]),
        "in sigma": float(np.abs(off / chance[:, None]).max()),
        "rms off": float(np.sqrt((off**2).mean())),
        "least p (KS)": float(tests.min()),
        "of": names[int(tests.argmin())],
        "p, all labels": float(min(1.0, tests.min() * len(tests))),
    }


def coverage(
    model: Retriever, *, number: int = 2000, seed: int = 17, say: Callable[[str], None] = print
) -> list[Sheet]:
    """Return coverage by label, and its worst deviation by instrument and error, of ``number`` spectra."""
    names = (*short(model.labels.names), TOGETHER)
    kinds, errors, places = [], [], []
    each = max(1, number // 20)
    for stratum in strata(model, None, each, seed=seed):  # type: ignore[arg-type]
        ranks = ranked(model, stratum.spectra)
        places.append(np.column_stack([ranks.labels, ranks.joint]))
        kinds += [stratum.name] * len(stratum.spectra)
        errors += [stratum.error] * len(stratum.spectra)
        say(f"{stratum.name}, {stratum.error:g} ppm: {figures(names, places[-1])}")
    place, kind, error = np.concatenate(places), np.array(kinds), np.array(errors)
    rows = [{"spectra of": "all", "error [ppm]": "all", **figures(names, place)}]
    for name in dict.fromkeys(kinds):
        rows.append({"spectra of": name, "error [ppm]": "all", **figures(names, place[kind == name])})
    for level in dict.fromkeys(errors):
        rows.append({"spectra of": "all", "error [ppm]": level, **figures(names, place[error == level])})
    for name in dict.fromkeys(kinds):
        for level in dict.fromkeys(errors):
            some = place[(kind == name) & (error == level)]
            rows.append({"spectra of": name, "error [ppm]": level, **figures(names, some)})
    by_label = []
    for column, name in enumerate(names):
        row: dict[str, Any] = {"label": name}
        row |= {
            f"{level} %": float(share) for level, share in zip(LEVELS, shares(place)[:, column], strict=True)
        }
        by_label.append(row | {"p (KS)": float(kstest(place[:, column], "uniform").pvalue)})
    facts = {"samples": DRAWS, "of": "the network alone", "noise": "errors of the simulator"}
    return [Sheet("Coverage by label", by_label, facts), Sheet("Coverage: worst deviation", rows, facts)]
