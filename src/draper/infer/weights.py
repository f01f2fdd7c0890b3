"""Weights of pixels after a look at the residuals: outliers, and errors that the model has beyond its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draper.configs.fit import FitConfig
from draper.infer.joint import JointProblem

GENTLE = 3
"""Rounds of less weight before pixels are clipped."""

HUBER, CLIP = 1.345, 5.0
"""Where the two robust ways begin, in sigma."""

MAD = 0.6745
"""Median absolute deviation of a Gaussian, in its sigma."""

HALVINGS = 40


def with_variance(ivar: Tensor, variance: Tensor) -> Tensor:
    """Return weights with more variance; bad pixels stay bad.

    Examples
    --------
    >>> with_variance(torch.tensor([1.0, 0.0, 4.0]), torch.tensor(1.0))
    tensor([0.5000, 0.0000, 0.8000])
    """
    return ivar / (1 + ivar * variance)


def reweighted(
    problem: JointProblem, x: Tensor, ivar: Sequence[Tensor], config: FitConfig, number: int
) -> tuple[list[Tensor], Tensor]:
    """Return weights (n, q) of each exposure after a look at the residuals, and the jitter (n,) in them.

    ``number`` counts the rounds: clipping begins gently, since the first fit may be far off.
    """
    squares = [(part.flux - part.models(x[:, place])[0]).square() for part, place in problem.each]
    weights = list(ivar)
    if config.robust != "none":
        gently = config.robust == "huber" or number < GENTLE
        weights = [kept(square, own, gently) for square, own in zip(squares, ivar, strict=True)]
    jitter = torch.zeros(problem.rows)
    if config.jitter == "fit":
        variance = missing_variance(torch.cat(squares, 1), torch.cat(weights, 1), problem.size)
        weights = [with_variance(weight, variance[:, None]) for weight in weights]
        jitter = variance.sqrt()
    return weights, jitter


def kept(squares: Tensor, ivar: Tensor, gently: bool) -> Tensor:
    """Return weights (n, q) without, or with less of, what lies off, judged by the scatter that there is.

    Parameters
    ----------
    squares : Tensor (n, q)
        Squared residuals.
    ivar : Tensor (n, q)
        Weights.
    gently
        Whether outliers keep some weight (Huber).
    """
    pull = (squares * ivar).sqrt()
    # A model that is poor everywhere must not lose all lines.
    scatter = torch.where(ivar > 0, pull, torch.nan).nanmedian(dim=1).values / MAD
    pull = pull / scatter.nan_to_num(1.0).clamp(min=1.0)[:, None]
    share = HUBER / pull.clamp(min=HUBER) if gently else (pull < CLIP).float()
    return ivar * share


def missing_variance(squares: Tensor, ivar: Tensor, parameters: int) -> Tensor:
    """Return the variance (n,) that brings the reduced chi2 of residuals down to 1; 0 where it is below."""
    freedom = ((ivar > 0).sum(1) - parameters).clamp(min=1)
    low = torch.zeros(len(squares))
    high = (squares * (ivar > 0)).amax(1).clamp(min=1e-20)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        large = (squares * with_variance(ivar, middle[:, None])).sum(1) > freedom
        low, high = torch.where(large, middle, low), torch.where(large, high, middle)
    return torch.where((squares * ivar).sum(1) <= freedom, 0.0, high)
