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

CHANCE = 2.0
"""Correlation of residuals, in units of what chance gives, below which it is none."""

LAGS = 300
"""Largest distance [pixels] at which residuals are compared."""

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
    problem: JointProblem,
    x: Tensor,
    ivar: Sequence[Tensor],
    config: FitConfig,
    number: int,
    fits_jitter: Tensor,
) -> tuple[list[Tensor], Tensor]:
    """Return new weights (n, q) of each exposure from its residuals, and the jitter (n,) in them.

    ``fits_jitter`` (n,) says for which spectra there is one. ``number`` counts the rounds: the first ones use
    Huber weights instead of clipping, since the first fit may be far off.
    """
    squares = [(part.flux - part.models(x[:, place])[0]).square() for part, place in problem.each]
    shares = [torch.ones_like(own) for own in ivar]
    if config.robust != "none":
        gently = config.robust == "huber" or number < GENTLE
        shares = [robust_shares(square, own, gently) for square, own in zip(squares, ivar, strict=True)]
    variance = torch.zeros(problem.rows)
    if fits_jitter.any():
        share = torch.cat(shares, 1)
        # An outlier keeps its share of the weight, however large the jitter is.
        kept = torch.cat(list(ivar), 1) * (share > 0)
        missing = missing_variance(torch.cat(squares, 1) * share, kept, problem.size)
        variance = torch.where(fits_jitter, missing, 0.0)
    weights = [add_variance(own, variance[:, None]) * share for own, share in zip(ivar, shares, strict=True)]
    return weights, variance.sqrt()


def robust_shares(squares: Tensor, ivar: Tensor, gently: bool) -> Tensor:
    """Return the shares (n, q) of weights that pixels keep, less for outliers of each spectrum's scatter.

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
    return HUBER / pull.clamp(min=HUBER) if gently else (pull < CLIP).float()


def missing_variance(squares: Tensor, ivar: Tensor, parameters: int) -> Tensor:
    """Return the variance (n,) that brings the reduced chi2 of residuals down to 1; 0 where it is below."""
    freedom = ((ivar > 0).sum(1) - parameters).clamp(min=1)
    squares, ivar = squares.double(), ivar.double()
    low = torch.zeros(len(squares)).double()
    high = (squares * (ivar > 0)).amax(1).clamp(min=1e-37)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        large = (squares * add_variance(ivar, middle[:, None])).sum(1) > freedom
        low, high = torch.where(large, middle, low), torch.where(large, high, middle)
    return torch.where((squares * ivar).sum(1) <= freedom, 0.0, high).float()


def pixels_alike(residuals: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return of how many neighbouring pixels (n,) the residuals are alike, by their autocorrelation.

    A line that a model lacks is wrong in all of its pixels: these count as one. White noise gives 1. The sum
    of correlations over the distance ends where they first are what chance may give.

    Parameters
    ----------
    residuals, weights : sequence of Tensor (n, q)
        Of each exposure; the inverse variances are those after everything is counted, 0 where bad.

    Examples
    --------
    >>> noise = torch.randn(1, 3000, generator=torch.Generator().manual_seed(0))
    >>> alike = noise.repeat_interleave(4, dim=1)
    >>> [float(pixels_alike([x], [torch.ones_like(x)]).round(decimals=1)) for x in (noise, alike)]
    [1.0, 4.0]
    """
    pulls = [residual * weight.sqrt() for residual, weight in zip(residuals, weights, strict=True)]
    used = [(weight > 0).float() for weight in weights]

    def products(distance: int) -> tuple[Tensor, Tensor]:
        """Return the sums of products of pixels so far apart, and their numbers."""

        def total(rows: Sequence[Tensor]) -> Tensor:
            return torch.stack(
                [(x[:, distance:] * x[:, : max(0, x.shape[1] - distance)]).sum(1) for x in rows]
            ).sum(0)

        return total(pulls), total(used).clamp(min=1)

    square, count = products(0)
    variance = (square / count).clamp(min=1e-30)
    total, goes_on = torch.ones_like(variance), variance > 1e-30
    for distance in range(1, min(LAGS, max(x.shape[1] for x in pulls) // 4)):
        sums, counts = products(distance)
        share = sums / counts / variance
        goes_on &= share > CHANCE / counts.sqrt()
        if not goes_on.any():
            break
        total += 2 * share * goes_on
    return total


def line_depths(problem: JointProblem, x: Tensor) -> Tensor:
    """Return the scatter (n,) of fitted spectra about their continua, for parameters (n, m)."""
    total, count = torch.zeros(problem.rows), torch.zeros(problem.rows)
    for part, place in problem.each:
        model, level = part.models(x[:, place])
        used = part.ivar > 0
        shape = torch.where(used & (level != 0), model / level, 0.0)
        mean = shape.sum(1, keepdim=True) / used.sum(1, keepdim=True).clamp(min=1)
        total += ((model - level * mean).square() * used).sum(1)
        count += used.sum(1)
    return (total / count.clamp(min=1)).sqrt()
