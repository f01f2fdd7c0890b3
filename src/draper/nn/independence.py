"""Statistical dependence of two sets of numbers (HSIC), and the removal of linear dependence (LEACE)."""

from __future__ import annotations

import torch
from torch import Tensor


def dependence(first: Tensor, second: Tensor) -> Tensor:
    """Return the Hilbert-Schmidt independence criterion of rows (n, a) and (n, b), scaled to 0-1.

    Gaussian kernels whose widths are the mean distances; the scale is that of centred kernel alignment.
    Independent rows give more than 0: about 1/n, times the number of columns.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 200)[:, None]
    >>> bool(dependence(x, x.square()) > 0.2)
    True
    """
    a, b = _kernel(first), _kernel(second)
    alignment: Tensor = (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12)
    return alignment


def _kernel(rows: Tensor) -> Tensor:
    """Return the doubly centred Gaussian kernel (n, n)."""
    square = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    kernel = torch.exp(-square / square.detach().mean().clamp(min=1e-12))
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()


def eraser(latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) and the matrix (d, d) that make latents linearly independent of labels.

    Least-squares concept erasure (Belrose et al. 2023, LEACE): ``z - (z - mean) @ matrix.T`` has no
    covariance with the labels, and is the nearest to z, in units of its own scatter, that has none.

    Parameters
    ----------
    latents
        Rows (n, d).
    labels
        Rows (n, l); NaN where unknown: then the covariance vanishes over the rows where a label is known.

    Examples
    --------
    >>> z = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    >>> y = z[:, :1]
    >>> mean, matrix = eraser(z, y)
    >>> left = z - (z - mean) @ matrix.T
    >>> bool(((left - left.mean(0)).T @ (y - y.mean(0))).abs().max() < 1e-5)
    True
    """
    z, y = latents.double(), labels.double()
    mean, known = z.mean(0), torch.isfinite(y)
    z, y = z - mean, torch.where(known, y - y.nanmean(0), 0.0)
    scale = z.square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    z = z / scale  # else small latents would count as constant, and keep their information
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))
    kept = values > 1e-10 * values.max()
    basis, scatter = vectors[:, kept], values[kept].sqrt()
    whiten, colour = (basis / scatter).T, basis * scatter
    cross = whiten @ (z.T @ y / known.sum(0).clamp(min=1))
    directions, sizes, _ = torch.linalg.svd(cross, full_matrices=False)
    directions = directions[:, sizes > 1e-10]
    matrix = scale[:, None] * (colour @ directions @ directions.T @ whiten) / scale
    return mean.float(), matrix.float()
