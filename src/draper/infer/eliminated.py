"""Models whose linear coefficients, of continuum and modes, have taken their best values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draper.infer.forward import Local

FIRM = 1e-9
"""Added to the normal equations of the continuum, relative to their size."""


@dataclass(frozen=True)
class Best:
    """Models with the best coefficients of what is linear in them.

    Attributes
    ----------
    total, level : Tensor (n, q)
        What is compared with the data, and the continuum in it.
    coefficients : Tensor (n, k, 1)
        Of the continuum first, then amplitudes of the modes, which are of order 1.
    count
        How many are of the continuum.
    """

    total: Tensor
    level: Tensor
    coefficients: Tensor
    count: int

    @property
    def penalty(self) -> Tensor:
        """What the amplitudes of the modes add to chi2 (n,)."""
        return self.coefficients[:, self.count :, 0].double().square().sum(1)

    def firm(self, own: Tensor) -> Tensor:
        """Return the normal matrix (n, k, k) of the coefficients with what is known of them beforehand."""
        return firm(own, self.count)


@dataclass(frozen=True)
class Seen:
    """What models and their differences from the data tell before there is a curvature.

    Attributes
    ----------
    local, best
        Spectra on the maker's pixels, and what is compared with the data.
    rv : Tensor (n,)
    by_rv, by_width : Tensor (n, 0 or 1, p), (n, e, p)
        Derivatives.
    chi2, gradient : Tensor (n,), (n, m)
    """

    local: Local
    rv: Tensor
    by_rv: Tensor
    by_width: Tensor
    best: Best
    chi2: Tensor
    gradient: Tensor


def firm(own: Tensor, count: int) -> Tensor:
    """Return normal matrices (n, k, k): after ``count`` free coefficients come some of unit variance."""
    more = torch.ones(own.shape[:2], dtype=own.dtype)
    if count:
        # A little, so that windows without data stop nothing.
        size = own.diagonal(dim1=1, dim2=2)[:, :count].mean(1, keepdim=True).clamp(min=1e-30)
        more[:, :count] = FIRM * size
    return own + torch.diag_embed(more)


def solved(design: Tensor, weight: Tensor, target: Tensor, count: int) -> Tensor:
    """Return coefficients (n, k, 1) of a design (n, q, k), all but ``count`` of them of order 1."""
    weighted = (weight[:, :, None] * design).transpose(1, 2)
    own = firm((weighted @ design).double(), count)
    found: Tensor = torch.linalg.solve(own, (weighted @ target[:, :, None]).double())
    return found.float()
