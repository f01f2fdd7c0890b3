"""Calibration on held-out stars: intervals of labels, and how unusual stars are by their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.arrays import has_good_pixel
from draper.data.spectra import Spectra
from draper.infer.conformal import ConformalQuantiles, ConformalScores
from draper.models.masked.network import LEVELS
from draper.models.masked.novelty import SCORES

FloatArray = NDArray[np.float64]

GROUP, GROUPS = 600, 32
"""Stars of equal brightness in a group in which quantiles are calibrated, and the largest number of groups;
with and without spectrum. Errors change with brightness, and chance moves a share of 600 by 2 points."""

NEARLY = 0.98
"""Share of the good pixels of most spectra below which a spectrum has a gap that tells on labels."""

MOSTLY = 0.75
"""Share of them from which a gap is one, and what is left not merely a part."""

WHOLE = 0.9
"""Share of good pixels of a whole spectrum."""


def calibrated(
    spectra: Spectra,
    truth: FloatArray,
    columns: Sequence[str],
    second: NDArray[np.bool_],
    left: NDArray[np.bool_],
    see: Callable[[Spectra, bool | NDArray[np.bool_]], dict[str, Any]],
) -> dict[str, Any]:
    """Return the calibration, measured on held-out spectra with all, some and none of their pixels.

    Parameters
    ----------
    spectra
        The n held-out stars.
    truth : ndarray (n, l)
        Their labels.
    columns
        Columns that the network sees.
    second : ndarray (p,)
        Which pixels are in the second half of a spectrum.
    left : ndarray (n, p)
        Which pixels are left of spectra with gaps.
    see
        What the network says of stars, and whether it is shown their pixels, or which of them.
    """
    quantiles, known, groups, scores, kinds = [], [], [], [], []
    found: dict[str, Any] = {"edges": [], "whole": 0.0}
    has_pixel = has_good_pixel(spectra.ivar)
    for shown in (True, left, False):
        seen = see(spectra, shown)
        if shown is True:
            bright = seen["brightness"][np.isfinite(seen["brightness"])]
            count = int(np.clip(len(bright) // GROUP, 1, GROUPS))
            places = np.linspace(0, 1, count + 1)[1:-1]
            found["edges"] = np.quantile(bright, places).tolist() if len(bright) else []
            found["whole"] = NEARLY * float(np.median(seen["pixels"][has_pixel])) if has_pixel.any() else 0.0
        # Stars without a spectrum count once.
        some = seen["anything"] & ((shown is True) | has_pixel)
        if shown is left:
            some &= seen["pixels"] < found["whole"]
        quantiles.append(seen["quantiles"][some])
        known.append(truth[some])
        groups += np.array(groups_of(seen, found))[some].tolist()
        if shown is not left:
            scores.append(np.stack([seen[name][some] for name in SCORES], axis=1))
            kinds += kinds_of(seen, some)
    # Parts of what there is have other scores than the whole.
    random = np.random.default_rng(0)
    for shown, halved in ((True, False), (True, True), (False, False)):
        seen = see(parts_of(spectra, columns, second if halved else None, random), shown)
        some = seen["anything"] & (shown | has_pixel)
        scores.append(np.stack([seen[name][some] for name in SCORES], axis=1))
        kinds += kinds_of(seen, some)
    values = np.concatenate(scores)
    found["scores"] = {
        name: ConformalScores.measure(values[:, number], kinds).to_json()
        for number, name in enumerate(SCORES)
    }
    if truth.shape[1]:
        measured = ConformalQuantiles.measure(
            np.array(LEVELS), np.concatenate(quantiles), np.concatenate(known), groups
        )
        found["quantiles"] = measured.to_json()
    return found


def parts_of(
    spectra: Spectra, columns: Sequence[str], second: NDArray[np.bool_] | None, random: np.random.Generator
) -> Spectra:
    """Return stars that lack some of their columns and, given its pixels, one half of the spectrum."""
    share = random.random(len(spectra))
    kept = {
        name: np.where(random.random(len(spectra)) < share, np.nan, spectra.table[name].astype(np.float64))
        for name in columns
        if name in spectra.table
    }
    ivar = spectra.ivar
    if second is not None:
        ivar = np.where((random.random(len(spectra)) < 0.5)[:, None] == second, 0, ivar)
    return replace(spectra, ivar=ivar, table={**spectra.table, **kept})


def groups_of(seen: Mapping[str, Any], calibration: Mapping[str, Any]) -> list[str]:
    """Return the group of each star: what there is of its spectrum, and brightness where it is known."""
    edges, whole = calibration.get("edges", []), calibration.get("whole", 0.0)
    left = seen["pixels"]
    firsts = np.where(left < MOSTLY * whole, "part", np.where(left < whole, "gap", "spectrum"))
    firsts = np.where(seen["has_pixels"], firsts, "columns")
    places = np.searchsorted(edges, np.nan_to_num(seen["brightness"]))
    return [
        str(first) + (f" {place}" if np.isfinite(value) and edges else "")
        for first, place, value in zip(firsts, places, seen["brightness"], strict=True)
    ]


def kinds_of(seen: Mapping[str, Any], rows: NDArray[np.bool_]) -> list[str]:
    """Return what is seen of some stars: a spectrum, part of one or columns alone, and how many columns."""
    kinds = np.where(seen["pixels"] > WHOLE, "spectrum", np.where(seen["has_pixels"], "part", "columns"))
    quarters = np.floor(4 * seen["columns"]).astype(int)  # all of them are a group of their own
    return [f"{kind} {number}" for kind, number in zip(kinds[rows], quarters[rows], strict=True)]
