"""Draws from Gaussians between bounds.

They are made coordinate by coordinate (Geweke 1991, Hajivassiliou and Keane: the GHK simulator), with
quasi-random numbers, and weighted by the probabilities that the cuts have left.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor

LEVELS = (0.025, 0.16, 0.5, 0.84, 0.975)
"""Probabilities of the quantiles."""

TINY = 1e-300
"""Least probability."""


def drawn(mean: Tensor, covariance: Tensor, low: Tensor, high: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return draws (n, count, m) from truncated Gaussians (n, m), and logarithms of their weights (n, count).

    The mean of the weights is the probability between the bounds.
    """
    n, m = mean.shape
    sigma = covariance.diagonal(dim1=1, dim2=2).sqrt()
    # The parameters that are cut most come first: those that follow are conditional on them.
    inside = _between((low - mean) / sigma, (high - mean) / sigma)[1]
    order = inside.argsort(dim=1)
    back = order.argsort(dim=1)
    ends = [end.expand(n, m).gather(1, order) for end in (low, high)]
    centre = mean.gather(1, order)
    rows = torch.arange(n)[:, None, None]
    scale = sigma.gather(1, order)
    unit = covariance[rows, order[:, :, None], order[:, None]] / scale[:, :, None] / scale[:, None]
    factor, _ = torch.linalg.cholesky_ex(unit + 1e-12 * torch.eye(m, dtype=mean.dtype))
    unit_low, unit_high = ((end - centre) / scale for end in ends)
    uniform = torch.from_numpy(_uniform(m, count)).to(mean)
    normal = mean.new_zeros(n, count, m)
    log_weight = mean.new_zeros(n, count)
    for number in range(m):
        shift = (normal[:, :, :number] @ factor[:, number, :number, None])[:, :, 0]
        own = factor[:, number, number, None]
        first, share, sign = _between(
            (unit_low[:, number, None] - shift) / own, (unit_high[:, number, None] - shift) / own
        )
        normal[:, :, number] = sign * torch.special.ndtri(
            (first + uniform[:, number] * share).clamp(min=TINY)
        )
        log_weight += share.clamp(min=TINY).log()
    draws = centre[:, None] + scale[:, None] * (normal @ factor.transpose(1, 2))
    draws = torch.minimum(torch.maximum(draws, ends[0][:, None]), ends[1][:, None])
    return draws.gather(2, back[:, None].expand(-1, count, -1)), log_weight


def _between(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the probability below, and between, ends in units of sigma; turned where they lie far above 0.

    The third tensor is -1 where they were turned: upper tails have no digits left in double precision.
    """
    turned = low + high > 0
    first, last = torch.where(turned, -high, low), torch.where(turned, -low, high)
    below = torch.special.ndtr(first)
    return below, torch.special.ndtr(last) - below, 1.0 - 2.0 * turned.to(low.dtype)


@cache
def _uniform(m: int, count: int) -> NDArray[np.float64]:
    """Return quasi-random numbers (count, m), always the same."""
    return np.asarray(qmc.Sobol(m, seed=0).random(count))


def summary(draws: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return quantiles (n, q, m) at ``LEVELS`` and covariance (n, m, m) of weighted draws (n, k, m)."""
    mean = (weights[:, :, None] * draws).sum(1)
    off = draws - mean[:, None]
    covariance = (weights[:, :, None] * off).transpose(1, 2) @ off
    ordered, order = draws.sort(dim=1)
    share = weights[:, :, None].expand_as(draws).gather(1, order)
    # The probability below each draw, half of its own included.
    place = (share.cumsum(1) - share / 2).transpose(1, 2).contiguous()
    levels = torch.tensor(LEVELS, dtype=draws.dtype).expand(*place.shape[:2], -1).contiguous()
    right = torch.searchsorted(place, levels).clamp(1, draws.shape[1] - 1)
    value = ordered.transpose(1, 2)
    (x0, x1), (p0, p1) = ((of.gather(2, right - 1), of.gather(2, right)) for of in (value, place))
    part = ((levels - p0) / (p1 - p0).clamp(min=TINY)).clamp(0, 1)
    return (x0 + part * (x1 - x0)).transpose(1, 2), covariance
