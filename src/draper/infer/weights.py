"""Weights of pixels that follow from residuals: of outliers, and of errors beyond the stated ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draper.configs.fit import FitConfig
from draper.infer.exposures import JointProblem

GENTLE = 3
"""Rounds of Huber weights before pixels are clipped."""

HUBER, CLIP = 1.345, 5.0
"""Residuals [sigma] beyond which pixels get less weight (Huber), or none (clipping)."""

MAD = 0.6745
"""Median absolute deviation of a Gaussian, in its sigma."""

HALVINGS = 40
"""Halvings of the range in which a variance is searched."""


def add_variance(ivar: Tensor, variance: Tensor) -> Tensor:
    """Return weights with more variance; bad pixels stay bad.

    Examples
    --------
    >>> add_variance(torch.tensor([1.0, 0.0, 4.0]), torch.tensor(1.0))
    tensor([0.5000, 0.0000, 0.8000])
    """
    return ivar / (1 + ivar * variance)


def reweight(
    problem: JointProblem, x: Tensor, ivar: Sequence[Tensor], config: FitConfig, number: int
) -> tuple[list[Tensor], Tensor]:
    """Return new weights (n, q) of each exposure from its residuals, and the jitter (n,) in them.

    ``number`` counts the rounds: the first ones use Huber weights instead of clipping, since the first fit
    may be far off.
    """
    squares = [(part.flux - part.models(x[:, place])[0]).square() for part, place in problem.each]
    weights = list(ivar)
    if config.robust != "none":
        gently = config.robust == "huber" or number < GENTLE
        weights = [robust_weights(square, own, gently) for square, own in zip(squares, ivar, strict=True)]
    jitter = torch.zeros(problem.rows)
    if config.jitter == "fit":
        variance = missing_variance(torch.cat(squares, 1), torch.cat(weights, 1), problem.size)
        weights = [add_variance(weight, variance[:, None]) for weight in weights]
        jitter = variance.sqrt()
    return weights, jitter


def robust_weights(squares: Tensor, ivar: Tensor, gently: bool) -> Tensor:
    """Return weights (n, q) that are lower for outliers, relative to the scatter of each spectrum.

    Parameters
    ----------
    squares : Tensor (n, q)
        Squared residuals.
    ivar : Tensor (n, q)
        Weights.
    gently
        Whether outliers keep some weight (Huber) or none (clipping).
    """
    pull = (squares * ivar).sqrt()
    # Where the model is poor everywhere, residuals in lines must not all count as outliers.
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
        large = (squares * add_variance(ivar, middle[:, None])).sum(1) > freedom
        low, high = torch.where(large, middle, low), torch.where(large, high, middle)
    return torch.where((squares * ivar).sum(1) <= freedom, 0.0, high)
