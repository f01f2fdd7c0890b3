"""Limits by profile likelihood: the values of a label that the data exclude, whatever the others are."""

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
from draper.infer.fit_result import SolvedFit

Side = Literal["upper", "lower"]

HALVINGS = 8
"""Halvings of the range between best value and bound; the limit is then interpolated in sqrt(chi2 excess)."""


def excess_of(level: float) -> float:
    """Return by how much chi2 exceeds its minimum at a one-sided limit of some confidence.

    Examples
    --------
    >>> round(excess_of(0.95), 3)
    2.706
    """
    if not 0.5 < level < 1:
        raise DraperError("level is the confidence of a limit", given=level, expected="between 0.5 and 1")
    return float(ndtri(level)) ** 2


def limits(
    fitter: Fitter, exposures: Sequence[Exposure], names: Sequence[str], level: float, side: Side = "upper"
) -> dict[str, NDArray[np.float64]]:
    """Return for each name the limits (n,) in physical units; NaN where the whole range is allowed.

    Parameters
    ----------
    fitter
        The model, and what else is free.
    exposures
        Data of n stars.
    names
        Free labels or widths.
    level
        One-sided confidence.
    side
        Upper or lower limit.
    """
    excess = excess_of(level)
    solved = fitter.solve(exposures)
    every = [*fitter.labels.names, *solved.problem.names]
    free = [name for name, is_free in zip(every, solved.free, strict=True) if is_free]
    for name in names:
        if name not in free:
            raise DraperError(
                "only what is free in the fit has limits",
                given=name,
                expected=", ".join(free),
                hint=did_you_mean(name, free),
            )
    result = {}
    for name in names:
        number = every.index(name)
        x = solved.solution.x.clone()
        x[:, number] = limit(fitter, solved, number, excess, side)
        d = len(fitter.labels)
        values = fitter.labels.unscale((x[:, :d] + 0.5).numpy())[:, number] if number < d else x[:, number]
        result[name] = np.asarray(values, dtype=np.float64)
    return result


@torch.no_grad()
def limit(fitter: Fitter, solved: SolvedFit, number: int, excess: float, side: Side) -> Tensor:
    """Return the value (n,) of a parameter at which the profile of chi2 exceeds its minimum."""
    best = solved.solution
    goal = excess**0.5

    def refit(value: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the root of chi2's excess (n,) and all parameters (n, m), refitted with this one fixed."""
        low, high = (end.expand(start.shape).clone() for end in (solved.low, solved.high))
        low[:, number] = high[:, number] = value
        solution = fitter.minimise(solved.problem, start, low, high)
        return (solution.normal.chi2 - best.normal.chi2).clamp(min=0).sqrt(), solution.x

    inner, x = best.x[:, number].clone(), best.x
    bound = (solved.high if side == "upper" else solved.low)[number]
    outer = bound.expand(len(x)).clone()
    below = torch.zeros_like(inner)
    above, _ = refit(outer, x)
    limited = (above > goal) & (solved.problem.freedom() > int(solved.free.sum()))
    for _ in range(HALVINGS):
        middle = 0.5 * (inner + outer)
        root, refitted = refit(middle, x)
        over = root > goal
        outer, above = torch.where(over, middle, outer), torch.where(over, root, above)
        inner, below = torch.where(over, inner, middle), torch.where(over, below, root)
        x = torch.where(over[:, None], x, refitted)
    share = (goal - below) / (above - below)
    return torch.where(limited, inner + share * (outer - inner), torch.nan)
