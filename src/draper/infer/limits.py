"""Limits by profile likelihood: how far a label can go before the data object, whatever all others do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from draper.errors import DraperError, did_you_mean
from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.fit_result import Settled

Side = Literal["upper", "lower"]

HALVINGS = 8
"""Of the range between best value and bound; the rest is interpolated, in the root of chi2's excess."""


def excess_of(level: float) -> float:
    """Return by how much chi2 is above its minimum where a one-sided limit of some confidence is.

    Examples
    --------
    >>> round(excess_of(0.95), 3)
    2.706
    """
    if not 0.5 < level < 1:
        raise DraperError("a limit has a level of confidence", given=level, expected="between 0.5 and 1")
    return float(ndtri(level)) ** 2


def limits(
    fitter: Fitter, exposures: Sequence[Exposure], names: Sequence[str], level: float, side: Side = "upper"
) -> dict[str, NDArray[np.float64]]:
    """Return for each name the limits (n,), in physical units; NaN where the whole range is allowed.

    Parameters
    ----------
    fitter
        Says what else is free.
    exposures
        Data of n stars.
    names
        Labels of the emulator, or widths, that are free.
    level
        One-sided confidence.
    side
        Of which the limit is.
    """
    excess = excess_of(level)
    settled = fitter.settled(exposures)
    every = [*fitter.labels.names, *settled.problem.names]
    free = [name for name, is_free in zip(every, settled.low < settled.high, strict=True) if is_free]
    for name in names:
        if name not in free:
            raise DraperError(
                "there are limits of what is free in the fit only", given=name, expected=", ".join(free),
                hint=did_you_mean(name, free),
            )  # fmt: skip
    found = {}
    for name in names:
        number = every.index(name)
        x = settled.solution.x.clone()
        x[:, number] = limit(fitter, settled, number, excess, side)
        d = len(fitter.labels)
        values = fitter.labels.unscale((x[:, :d] + 0.5).numpy())[:, number] if number < d else x[:, number]
        found[name] = np.asarray(values, dtype=np.float64)
    return found


@torch.no_grad()
def limit(fitter: Fitter, settled: Settled, number: int, excess: float, side: Side) -> Tensor:
    """Return the value (n,) of a parameter at which the profile of chi2 exceeds its minimum."""
    best = settled.solution
    goal = excess**0.5

    def held(value: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the root of chi2's excess (n,) and all parameters (n, m), refitted with this one held."""
        low, high = (end.expand(start.shape).clone() for end in (settled.low, settled.high))
        low[:, number] = high[:, number] = value
        solution = fitter.minimised(settled.problem, start, low, high)
        return (solution.normal.chi2 - best.normal.chi2).clamp(min=0).sqrt(), solution.x

    inner, x = best.x[:, number].clone(), best.x
    bound = (settled.high if side == "upper" else settled.low)[number]
    outer = bound.expand(len(x)).clone()
    below = torch.zeros_like(inner)
    above, _ = held(outer, x)
    limited = (above > goal) & (settled.problem.freedom() > int((settled.low < settled.high).sum()))
    for _ in range(HALVINGS):
        middle = 0.5 * (inner + outer)
        root, refitted = held(middle, x)
        over = root > goal
        outer, above = torch.where(over, middle, outer), torch.where(over, root, above)
        inner, below = torch.where(over, inner, middle), torch.where(over, below, root)
        x = torch.where(over[:, None], x, refitted)
    share = (goal - below) / (above - below)
    return torch.where(limited, inner + share * (outer - inner), torch.nan)
