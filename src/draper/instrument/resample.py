"""Resampling: cubic interpolation for pixels that depend on parameters, sparse operators for fixed ones."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import erf
from torch import Tensor

from draper.data.grid import Grid
from draper.errors import DraperError

FWHM = float(2 * np.sqrt(2 * np.log(2)))
"""Full width at half maximum of a Gaussian, in its sigma."""

REACH = 5.0
"""Sigma beyond which a Gaussian line-spread function is cut off."""


def cubic(flux: Tensor, x: Tensor, at: Tensor, left: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Interpolate rows by cubic Hermite polynomials with slopes of parabolas through three pixels.

    Differentiable in ``flux`` and ``at``; exact for parabolas on any pixels.

    Parameters
    ----------
    flux : Tensor (n, p)
        Values at the pixels.
    x : Tensor (p,)
        Positions of the pixels, increasing; at least three.
    at : Tensor (n, q) or (q,)
        Where to interpolate.
    left : Tensor (n, q), optional
        The pixel at or before each position, if it is known already; otherwise it is searched for.

    Returns
    -------
    Tensor (n, q), Tensor (n, q) bool
        Values, and whether ``at`` lies between the first and last pixel; outside, the value at the end.
    """
    at = at.expand(len(flux), -1) if at.ndim == 1 else at
    inside = (at >= x[0]) & (at <= x[-1])
    clamped = at.clamp(x[0], x[-1])
    if left is None:
        left = torch.searchsorted(x, clamped.detach().contiguous(), right=True) - 1
    left = left.clamp(0, len(x) - 2)
    width = x[1:] - x[:-1]
    secant = (flux[:, 1:] - flux[:, :-1]) / width
    share = width[1:] / (width[1:] + width[:-1])
    inner = share * secant[:, :-1] + (1 - share) * secant[:, 1:]
    first = 2 * secant[:, :1] - inner[:, :1]
    last = 2 * secant[:, -1:] - inner[:, -1:]
    slope = torch.cat([first, inner, last], dim=1)
    h = width[left]
    t = (clamped - x[left]) / h
    value, value_next = torch.gather(flux, 1, left), torch.gather(flux, 1, left + 1)
    rise, rise_next = h * torch.gather(slope, 1, left), h * torch.gather(slope, 1, left + 1)
    a = 2 * (value - value_next) + rise + rise_next
    b = 3 * (value_next - value) - 2 * rise - rise_next
    return value + t * (rise + t * (b + t * a)), inside


class Operator(torch.nn.Module):
    """A sparse linear map of spectra (n, p) to (n, q), which also maps errors and bad pixels.

    Examples
    --------
    >>> from draper.data.resample import averaging
    >>> fine, coarse = (Grid.linear(5000, 5010, step, medium="vacuum") for step in (0.5, 2))
    >>> operator = Operator.from_matrix(averaging(fine, coarse[1:-1]))
    >>> operator(torch.ones(1, 21)).shape
    torch.Size([1, 4])
    """

    def __init__(self, shape: tuple[int, int], entries: int) -> None:
        super().__init__()
        self.shape = shape
        self.starts: Tensor
        self.columns: Tensor
        self.values: Tensor
        self.register_buffer("starts", torch.zeros(shape[0] + 1, dtype=torch.int64))
        self.register_buffer("columns", torch.zeros(entries, dtype=torch.int64))
        self.register_buffer("values", torch.zeros(entries))

    @classmethod
    def from_matrix(cls, matrix: csr_matrix) -> Self:
        """Return the operator of a sparse matrix (q, p)."""
        operator = cls(matrix.shape, matrix.nnz)
        operator.starts.copy_(torch.from_numpy(matrix.indptr.astype(np.int64)))
        operator.columns.copy_(torch.from_numpy(matrix.indices.astype(np.int64)))
        operator.values = torch.from_numpy(matrix.data.astype(np.float64)).to(torch.float32)
        return operator

    def matrix(self, values: Tensor) -> Tensor:
        """Return the sparse tensor (q, p) with other values in the same places."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse")  # torch calls its CSR layout a beta
            return torch.sparse_csr_tensor(self.starts, self.columns, values, size=self.shape)

    def forward(self, flux: Tensor) -> Tensor:
        """Map flux (n, p) to (n, q)."""
        return (self.matrix(self.values.to(flux.dtype)) @ flux.T).T

    def with_errors(self, flux: Tensor, ivar: Tensor, filled: float = 0.5) -> tuple[Tensor, Tensor]:
        """Map flux and inverse variance; a new pixel is bad if good ones cover less than ``filled`` of it.

        The flux is the mean over the good pixels; the covariance between new pixels is ignored.
        """
        good = ivar > 0
        variance = torch.where(good, 1 / ivar.clamp(min=torch.finfo(ivar.dtype).tiny), 0.0)
        weight = self(good.to(flux.dtype))
        kept = (weight > 0) & (weight >= filled - 1e-5)
        scale = torch.where(kept, 1 / weight.clamp(min=1e-12), 0.0)
        spread = (self.matrix(self.values.to(flux.dtype).square()) @ variance.T).T * scale.square()
        new_ivar = torch.where(kept & (spread > 0), 1 / spread.clamp(min=torch.finfo(ivar.dtype).tiny), 0.0)
        return self(torch.where(good, flux, 0.0)) * scale, new_ivar


def line_spread(source: Grid, target: Grid, resolving_power: Any) -> csr_matrix:
    """Return the operator (q, p) that convolves with a Gaussian and resamples, in one step.

    The line-spread function of an output pixel is a Gaussian in ln(lambda) of FWHM 1/R, with R the number or
    the array (q,) ``resolving_power``, integrated over each input pixel and narrowed by that pixel's own
    width, so that the result is as wide as it should be. Rows sum to 1 where the function lies inside the
    source; those that lose more than a thousandth of it at an end, or in a gap, are empty.
    """
    power = np.broadcast_to(np.asarray(resolving_power, dtype=np.float64), (len(target),))
    if not np.all(power > 0):
        raise DraperError("the resolving power must be positive", given=float(np.min(power)))
    sigma = 1 / (FWHM * power)
    edges = np.log(source.bounds)
    centre = np.log(target.vacuum)
    first = np.searchsorted(edges[:, 1], centre - REACH * sigma, side="right")
    last = np.searchsorted(edges[:, 0], centre + REACH * sigma, side="left")
    counts = np.maximum(last - first, 0)
    rows = np.repeat(np.arange(len(target)), counts)
    columns = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)

    width = edges[columns, 1] - edges[columns, 0]
    narrowed = np.sqrt(np.maximum(sigma[rows] ** 2 - width**2 / 12, (0.1 * width) ** 2))

    def cumulative(position: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(erf((position - centre[rows]) / (np.sqrt(2) * narrowed)) / 2)

    weights = cumulative(edges[columns, 1]) - cumulative(edges[columns, 0])
    total = np.bincount(rows, weights, minlength=len(target))
    weights = np.where(total[rows] > 1 - 1e-3, weights / np.maximum(total[rows], 1e-12), 0.0)
    operator = csr_matrix((weights, (rows, columns)), shape=(len(target), len(source)))
    operator.eliminate_zeros()
    return operator
