"""What observed spectra without labels teach: a residual, from labels that are fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from draper.models.translator.anchored import AnchoredNetwork, number_of_features
from draper.models.translator.anchors import (
    FAINT,
    FEW,
    SHARES,
    Anchors,
    Choice,
    LeftOut,
    misfits_at,
    ratio_to,
    with_residual,
)
from draper.models.translator.hidden_units import EACH, UNITS
from draper.models.translator.label_fit import Nuisances, fit_labels

ROUNDS, FIRST_USED, USED = 5, 500, 5000
"""Rounds of fits of labels and of the residual without anchors, the most spectra that they use, and the most
that the last one does."""

HELD = 5
"""One spectrum of so many judges which way of learning without anchors is better."""

BLOCKS = 20
"""Pieces of a spectrum, of which every second belongs to one half of it."""

RICHEST = 4
"""Largest number of labels in a product without anchors, where spectra are many."""


def learn_without_labels(
    network: AnchoredNetwork,
    flux: Tensor,
    ivar: Tensor,
    nuisances: Nuisances,
) -> tuple[AnchoredNetwork, dict[str, Any]]:
    """Return the network with a residual that is learnt from spectra (n, p) whose labels are unknown.

    Labels are fitted and the residual is learnt in turns; or pixels that are wrong lose their vote, and the
    residual is learnt at the end: the first is better where all pixels are somewhat wrong, the second where
    some are far off. The one whose spectra agree better with observed ones that it has not seen is taken.
    What a change of labels would do as well stays in the labels: how far they are shifted, no spectrum says.
    """
    flux, ivar = spread(flux, USED), spread(ivar, USED)
    chosen = best_way(network, flux, ivar, nuisances)
    best = with_many(network, inside(chosen.trusted, flux, ivar, nuisances), chosen, nuisances)
    found = {
        "anchors": 0,
        "degree": best.degree,
        "neural": chosen.neural,
        "share": SHARES[0],
        "spectra": len(flux),
    }
    some = spread(flux, FIRST_USED // HELD), spread(ivar, FIRST_USED // HELD)
    widths = disagreement(best, *some, nuisances).tolist()
    return best, {**found, "widths": widths, "shift": [0.0] * network.known}


def best_way(network: AnchoredNetwork, flux: Tensor, ivar: Tensor, nuisances: Nuisances) -> Way:
    """Return the way to learn from spectra (n, p) that explains those best which it has not seen."""
    held = torch.arange(len(flux)) % HELD == HELD - 1
    few = spread(flux[~held], FIRST_USED), spread(ivar[~held], FIRST_USED)
    test = spread(flux[held], FIRST_USED // HELD), spread(ivar[held], FIRST_USED // HELD)

    def misfit(way: Way) -> float:
        learnt = with_many(network, inside(way.trusted, *few, nuisances), way, nuisances)
        x = fit_labels(learnt, *test, nuisances).solution.x
        return float(misfits_at(learnt, Anchors(*test, x, x), x, nuisances).median())

    def best_of(ways: Sequence[Way]) -> Way:
        misfits = [misfit(way) for way in ways]
        return ways[misfits.index(min(misfits))]

    chosen = best_of([way(network, *few, nuisances) for way in (_in_turns, _at_the_end)])
    if len(few[0]) >= EACH * UNITS:
        chosen = best_of([chosen, replace(chosen, neural=True)])
    return chosen


def disagreement(network: AnchoredNetwork, flux: Tensor, ivar: Tensor, nuisances: Nuisances) -> Tensor:
    """Return how many times larger (k,) errors must be, so that both halves of each spectrum agree.

    What all pixels get wrong together remains unseen.
    """
    first = (torch.arange(flux.shape[1]) * BLOCKS // flux.shape[1]) % 2 == 0
    fits = [fit_labels(network, flux, torch.where(half, ivar, 0.0), nuisances) for half in (first, ~first)]
    inside = torch.stack([fit.solution.converged & ~fit.solution.bound.any(1) for fit in fits]).all(0)
    k = network.known
    if inside.sum() < FEW:
        return torch.ones(k, dtype=torch.float64)
    off = fits[0].solution.x[inside, :k] - fits[1].solution.x[inside, :k]
    variance = sum(fit.covariance.diagonal(dim1=1, dim2=2)[inside, :k] for fit in fits)
    sigma = torch.as_tensor(variance).sqrt()
    return LeftOut(off, sigma, off.new_zeros(k), off.new_zeros(len(off))).widths.clamp(min=1)


def spread(rows: Tensor, most: int) -> Tensor:
    """Return at most so many rows, from all over."""
    return rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()]


@dataclass(frozen=True)
class Way:
    """What labels are fitted with, and how much each pixel may then say; all alike without votes (p,)."""

    trusted: AnchoredNetwork
    votes: Tensor | None = None
    neural: bool = False


def _in_turns(network: AnchoredNetwork, flux: Tensor, ivar: Tensor, nuisances: Nuisances) -> Way:
    """Learn residual and labels in turns."""
    trusted = network
    for _ in range(ROUNDS):
        usable = inside(trusted, flux, ivar, nuisances)
        if len(usable) < FEW:
            break
        trusted = with_many(network, usable, Way(network), nuisances)
    return Way(trusted)


def _at_the_end(network: AnchoredNetwork, flux: Tensor, ivar: Tensor, nuisances: Nuisances) -> Way:
    """Learn what is wrong in each pixel without a residual, and labels, in turns."""
    start, trusted = None, network
    for _ in range(ROUNDS):
        start = fit_labels(trusted, flux, ivar, nuisances, start=start, starts=1).solution.x
        # At first most labels may be at a bound, dragged there by missing lines.
        fitted = Anchors(flux, ivar, start, start)
        trusted = _distrusting(network, fitted, nuisances.continuum, votes_of(trusted))
    return Way(trusted, votes_of(trusted))


def votes_of(network: AnchoredNetwork) -> Tensor:
    """Return votes (p,) of pixels that grow as their errors fall."""
    return network.uncertainty.double() ** -2


def with_many(network: AnchoredNetwork, stars: Anchors, way: Way, nuisances: Nuisances) -> AnchoredNetwork:
    """Return the network with a residual that is as rich as so many spectra allow.

    With votes, it is as rich in each pixel as this one asks for.
    """
    if len(stars) < FEW:
        return network
    each = way.votes is not None
    degree = _richest(network, len(stars), 2 if each else 5)
    choice = Choice(degree, SHARES[0], each=each, neural=way.neural)
    return with_residual(network, stars, choice, nuisances.continuum, way.votes)


def inside(network: AnchoredNetwork, flux: Tensor, ivar: Tensor, nuisances: Nuisances) -> Anchors:
    """Return the spectra (n, p) whose fitted labels are not at a bound, with these."""
    solution = fit_labels(network, flux, ivar, nuisances, starts=1).solution
    good = solution.converged & ~solution.bound.any(1)
    return Anchors(flux, ivar, solution.x, torch.zeros_like(solution.x))[good]


def _richest(network: AnchoredNetwork, number: int, each: int) -> int:
    """Return the largest degree for which there are ``each`` spectra for a feature."""
    degrees = range(RICHEST + 1)
    return max(n for n in degrees if n == 0 or number >= each * number_of_features(network.known, n))


def _distrusting(
    network: AnchoredNetwork, fitted: Anchors, continuum: Tensor, votes: Tensor
) -> AnchoredNetwork:
    """Return the network without a residual, whose errors are what it gets wrong in each pixel.

    Pixels that lack a line lose their vote on labels. Else labels would adapt to what is missing, and the
    residual would be that of the wrong stars. On the continuum they have the votes (p,)
    of the round before.
    """
    with torch.no_grad():
        synthetic = network.synthetic(network.labels_at(fitted.x.float())).double()
    good = (fitted.ivar > 0).double()
    ratio, noise = ratio_to(fitted, synthetic, continuum, votes)
    variance = (good * (ratio.square() - noise)).sum(0) / good.sum(0).clamp(min=1)
    variance = torch.where(good.any(0), variance, variance.max())
    return network.replaced(uncertainty=variance.clamp(min=FAINT**2).sqrt().float())
