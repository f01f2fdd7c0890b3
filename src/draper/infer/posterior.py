"""Posteriors between bounds: the Gaussian about a best fit, times a prior, cut off at the walls of the box.

chi2 is taken as quadratic. A label that the data hardly constrain then has a posterior between the walls, not
a value on one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from draper.infer.least_squares import Normal
from draper.infer.priors import MixturePrior
from draper.infer.truncated import LEVELS, drawn, summary

DRAWS = 512
"""Number of draws of each posterior that is not Gaussian."""

FAR = 3.5
"""A bound that is this many sigma away changes nothing."""

ROWS = 64
"""Posteriors that are drawn together."""

WIDE = 10.0
"""Prior error of a parameter of which neither data nor prior say anything, in units of its range."""

NOTHING = 0.8
"""A posterior whose scatter is more than this share of the prior's tells nothing of a label."""

NEAR, BEYOND = 2.0, 3.0
"""A bound that is less than the first number of sigma away makes a limit of a measurement; a best value that
would be more than the second number beyond it is at the edge."""


@dataclass(frozen=True)
class Posterior:
    """Posteriors of n rows with m parameters.

    Attributes
    ----------
    quantiles : Tensor (n, q, m)
        At ``LEVELS``.
    covariance : Tensor (n, m, m)
    """

    quantiles: Tensor
    covariance: Tensor


def posterior(normal: Normal, x: Tensor, prior: MixturePrior | None, low: Tensor, high: Tensor) -> Posterior:
    """Return the posteriors of n rows about their best parameters.

    Parameters
    ----------
    normal
        chi2 at the best parameters with its derivatives, the prior included.
    x : Tensor (n, m)
        The best parameters.
    prior
        The prior that is in ``normal``.
    low, high : Tensor (m,)
        Bounds; the prior is flat between them where ``prior`` says nothing.
    """
    n, m = x.shape
    # What would otherwise be singular: a label that changes no pixel.
    weak = (WIDE * (high - low)).pow(-2)
    prior = prior or MixturePrior.gaussian(x.new_zeros(m), x.new_full((m,), torch.inf))
    rows = torch.arange(n)
    curvature = normal.curvature - prior.curvature(x, rows)
    slope = normal.gradient - prior.gradient(x, rows)
    pull = (curvature @ x[:, :, None])[:, :, 0] - slope
    own = (prior.precision @ prior.mean[:, :, None])[:, :, 0]
    matrix = curvature[:, None] + prior.precision + torch.diag(weak)
    right = pull[:, None] + own + weak * (low + high) / 2
    factor, failed = torch.linalg.cholesky_ex(matrix)
    factor = torch.where(failed[..., None, None] == 0, factor, torch.nan)
    mean = torch.cholesky_solve(right[..., None], factor)[..., 0]
    weight = (
        prior.log_share
        - (prior.mean * own).sum(1) / 2
        + (right * mean).sum(2) / 2
        - factor.diagonal(dim1=2, dim2=3).log().sum(2)
    )
    covariance = torch.cholesky_inverse(factor)
    sigma = covariance.diagonal(dim1=2, dim2=3).sqrt()
    # No star of the box is like that: the far tail of a Gaussian about another box would be narrow.
    strange = (torch.maximum(low - mean, mean - high) > BEYOND * sigma).any(2)
    mean = torch.where(strange[..., None], x[:, None], mean)
    return truncated(mean, covariance, weight, low, high)


def truncated(mean: Tensor, covariance: Tensor, weight: Tensor, low: Tensor, high: Tensor) -> Posterior:
    """Return what is left between bounds of mixtures of k Gaussians.

    Parameters
    ----------
    mean : Tensor (n, k, m)
        May lie beyond the bounds.
    covariance : Tensor (n, k, m, m)
    weight : Tensor (n, k)
        Logarithms of the weights.
    low, high : Tensor (m,)
        Bounds.

    Examples
    --------
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> half = truncated(0 * one[None, None], one[None, None, None], one[None], 0 * one, 1e9 * one)
    >>> half.quantiles[0, 2].round(decimals=2), half.covariance[0].round(decimals=2)  # 0.67, 1 - 2 / pi
    (tensor([0.6700], dtype=torch.float64), tensor([[0.3600]], dtype=torch.float64))
    """
    _, k, m = mean.shape
    sigma = covariance.diagonal(dim1=2, dim2=3).sqrt()
    places = torch.from_numpy(ndtri(LEVELS)).to(mean)
    quantiles = mean[:, :1] + places[:, None] * sigma[:, :1]
    result = Posterior(quantiles, covariance[:, 0].clone())
    cut = ((mean - low < FAR * sigma) | (high - mean < FAR * sigma)).any(2).any(1) | (k > 1)
    cut &= mean.isfinite().all(2).all(1)
    for rows in torch.split(cut.nonzero()[:, 0], ROWS):
        if len(rows):
            draws, share = drawn(
                mean[rows].reshape(-1, m), covariance[rows].reshape(-1, m, m), low, high, DRAWS // k
            )
            share = (share.reshape(len(rows), k, -1) + weight[rows, :, None]).reshape(len(rows), -1)
            draws = draws.reshape(len(rows), -1, m)
            result.quantiles[rows], result.covariance[rows] = summary(draws, torch.softmax(share, dim=1))
    return result


def label_flags(
    found: Posterior, mean: Tensor, sigma: Tensor, prior: MixturePrior | None, low: Tensor, high: Tensor
) -> NDArray[np.str_]:
    """Return how well each parameter is known (n, m): measured, limit, prior or edge.

    Parameters
    ----------
    found
        The posteriors.
    mean, sigma : Tensor (n, m)
        Best values and errors as if there were no bounds.
    prior
        The prior that is in them.
    low, high : Tensor (m,)
        Bounds.
    """
    before = (high - low) / 12**0.5
    if prior is not None:
        before = torch.minimum(before, prior.sigma)
    room = torch.minimum(mean - low, high - mean) / sigma
    flags = np.full(mean.shape, "measured", dtype="<U8")
    flags[(room < NEAR).numpy()] = "limit"
    flags[(room < -BEYOND).numpy()] = "edge"
    flags[(found.covariance.diagonal(dim1=1, dim2=2).sqrt() > NOTHING * before).numpy()] = "prior"
    return flags
