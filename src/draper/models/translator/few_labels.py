"""A residual that all observed spectra teach, of which few have labels: these say where the labels are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from draper.models.translator.anchored import AnchoredNetwork
from draper.models.translator.anchors import (
    SHARES,
    Anchors,
    LeftOut,
    common_shift,
    learn,
    of_left_out,
)
from draper.models.translator.label_fit import BOUND, Nuisances, fit_labels
from draper.models.translator.without_anchors import (
    FIRST_USED,
    USED,
    Way,
    best_way,
    inside,
    spread,
    with_many,
)

CLEAR = 2.0
"""Standard errors by which labels must differ to decide between both ways: few anchors hardly tell, while
their spectra do."""

LEAST = 5
"""Observed spectra for each anchor from which on those without labels are used, too."""


def learn_with_few_labels(
    network: AnchoredNetwork, flux: Tensor, ivar: Tensor, anchors: Anchors, nuisances: Nuisances
) -> tuple[AnchoredNetwork, dict[str, Any]]:
    """Return the network with a residual, and what was found; see :func:`.anchors.learn`.

    Either the anchors alone teach the residual, or all spectra (n, p) do: their labels are fitted as without
    anchors, and moved by what anchors show to be wrong with all of them. The second is taken where labels of
    left-out anchors are clearly better; or not clearly worse, and their spectra are better.
    """
    alone, found, by_anchors = learn(network, anchors, nuisances)
    if by_anchors is None or len(flux) < LEAST * len(anchors):
        return alone, found
    flux, ivar = spread(flux, USED), spread(ivar, USED)
    way = best_way(network, flux, ivar, nuisances)
    start = with_many(network, inside(way.trusted, flux, ivar, nuisances), way, nuisances)
    stars = inside(start, flux, ivar, nuisances)
    fitted = fit_labels(start, anchors.flux, anchors.ivar, nuisances).solution.x
    off = (fitted - anchors.x)[:, : network.known]

    def teach(kept: Tensor, most: int = FIRST_USED) -> AnchoredNetwork:
        return _moved(network, stars, off[kept], way, nuisances, most)

    by_all = of_left_out(teach, anchors, network.known, nuisances)
    found["tried"].append({"all_spectra": True, "rms": by_all.rms.tolist()})
    if not _is_better(by_all, by_anchors):
        return alone, found
    result = teach(torch.arange(len(anchors)), USED)
    return result, {
        **found,
        "degree": result.degree,
        "share": SHARES[0],
        "adjust": False,
        "each": way.votes is not None,
        "neural": way.neural,
        "spectra": len(stars),
        "widths": by_all.widths.tolist(),
        "shift": by_all.shift.tolist(),
        "rms": by_all.rms.tolist(),
    }


def _moved(
    network: AnchoredNetwork, stars: Anchors, off: Tensor, way: Way, nuisances: Nuisances, most: int
) -> AnchoredNetwork:
    """Return the network with the residual of stars whose labels are moved by errors (m, k) of anchors."""
    x = stars.x.clone()
    x[:, : network.known] -= common_shift(off)
    usable = (x[:, : network.known].abs() <= BOUND).all(1).nonzero()[:, 0]
    return with_many(network, replace(stars, x=x)[spread(usable, most)], way, nuisances)


def _is_better(one: LeftOut, other: LeftOut) -> bool:
    """Return whether one way gives clearly better labels, or not clearly worse ones and better spectra."""
    usual = torch.stack([one.off, other.off]).abs().median(dim=1).values.min(dim=0).values.clamp(min=1e-9)
    first, second = (torch.log1p((way.off / usual).square()).mean(1) for way in (one, other))
    worse = first - second
    if abs(float(worse.mean())) > CLEAR * float(worse.std()) / len(worse) ** 0.5:
        return float(worse.mean()) < 0
    return float(one.misfit.median()) < float(other.misfit.median())
