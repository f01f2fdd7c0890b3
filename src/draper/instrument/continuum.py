"""The continuum of spectra: fitted by polynomials or splines, or smoothed as surveys do."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from draper.errors import DraperError

RIDGE = 1e-10
"""Added to the normal equations, relative to their trace: those of spectra without data are singular."""


def chebyshev_basis(wavelength: Tensor, degree: int) -> Tensor:
    """Return the Chebyshev polynomials (p, degree + 1) over the range of the pixels.

    Examples
    --------
    >>> chebyshev_basis(torch.tensor([1.0, 2.0, 3.0]), 2)[:, 2]
    tensor([ 1., -1.,  1.])
    """
    low, high = wavelength.min(), wavelength.max()
    x = 2 * (wavelength - low) / (high - low) - 1
    columns = [torch.ones_like(x), x]
    for _ in range(degree - 1):
        columns.append(2 * x * columns[-1] - columns[-2])
    return torch.stack(columns[: degree + 1], dim=1)


def spline_basis(wavelength: Tensor, pieces: int, degree: int = 3) -> Tensor:
    """Return B-splines (p, pieces + degree) on pieces of equal width over the range of the pixels."""
    x = wavelength.detach().cpu().double().numpy()
    knots = np.linspace(x[0], x[-1], pieces + 1)
    knots = np.concatenate([np.full(degree, knots[0]), knots, np.full(degree, knots[-1])])
    return torch.from_numpy(BSpline.design_matrix(x, knots, degree).toarray()).to(wavelength)


def fit(flux: Tensor, ivar: Tensor, basis: Tensor) -> Tensor:
    """Return the weighted least-squares fit (n, p) of a basis (p, k); differentiable in flux."""
    double = basis.double()
    weight = ivar.double()
    normal = torch.einsum("np,pk,pl->nkl", weight, double, double)
    scale = normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-300)[:, None, None]
    identity = torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device)
    right = (weight * flux.double()) @ double
    coefficients = torch.linalg.solve(normal / scale + RIDGE * identity, right / scale[:, 0])
    fitted: Tensor = (coefficients @ double.T).to(flux.dtype)
    return fitted


def continuum(
    flux: Tensor,
    ivar: Tensor,
    basis: Tensor,
    *,
    iterations: int = 8,
    below: float = 1.0,
    above: float = 3.0,
) -> Tensor:
    """Return the continuum (n, p): a fit from which outliers are clipped in several iterations.

    Pixels more than ``below`` standard deviations under the fit (lines) or ``above`` over it (cosmic rays)
    get no weight in the next iteration; the deviation is that of the pixels still used. Differentiable in
    flux, with the choice of pixels held.
    """
    if iterations < 1:
        raise DraperError("a continuum needs at least one fit", given=f"iterations={iterations}")
    used = ivar > 0
    fitted = flux
    for _ in range(iterations):
        fitted = fit(flux, torch.where(used, ivar, 0.0), basis)
        residual = (flux - fitted).detach()
        count = used.sum(1, keepdim=True).clamp(min=1)
        sigma = (torch.where(used, residual.square(), 0.0).sum(1, keepdim=True) / count).sqrt()
        kept = (ivar > 0) & (residual > -below * sigma) & (residual < above * sigma)
        # Spectra that would lose nearly all pixels are not clipped further.
        enough = kept.sum(1, keepdim=True) > 2 * basis.shape[1]
        used = torch.where(enough, kept, used)
    return fitted


def smoothed(flux: Tensor, ivar: Tensor, wavelength: Tensor, width: float, block: int = 512) -> Tensor:
    """Return the pseudo-continuum (n, p): the running weighted mean with a Gaussian of sigma ``width`` [A].

    The Cannon normalises spectra so: this is not the continuum, but robust and the same for all stars.
    """
    light, weight = flux * ivar, ivar
    pieces = []
    for start in range(0, len(wavelength), block):
        distance = (wavelength[start : start + block, None] - wavelength[None]) / width
        kernel = torch.exp(-0.5 * distance.square())
        pieces.append((light @ kernel.T) / (weight @ kernel.T).clamp(min=torch.finfo(flux.dtype).tiny))
    return torch.cat(pieces, dim=1)
