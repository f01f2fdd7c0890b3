"""Fits in the space of the last hidden layer: exact where all spectra have the same weights.

With linear output, flux = W h + b, and one set of weights for all pixels, chi2 = |u - R h|^2 plus what no
labels change: Q R is the decomposition of the weighted W, and u = Q^T of the weighted spectrum. A spectrum of
thousands of pixels becomes as many numbers as there are hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draper.infer.least_squares import Normal, Problem
from draper.infer.makers import Linear
from draper.nn.precision import bfloat16_helps


class Compression:
    """What turns spectra into short vectors, for pixel weights (p,) that all have in common.

    Parameters
    ----------
    maker
        Of an emulator with linear output.
    ivar : Tensor (p,)
        The common weights.
    """

    def __init__(self, maker: Linear, ivar: Tensor) -> None:
        self.network = maker.network
        weight, self.bias = maker.weight, maker.bias
        self.root = ivar.sqrt()
        # In double precision, since neighbouring hidden units are nearly the same.
        q, r = torch.linalg.qr((self.root[:, None] * weight).double())
        self.q, self.r = q.float(), r.float()

    def __call__(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Return short vectors (n, h) of spectra (n, p), and the part of chi2 (n,) that is left for good."""
        weighted = (flux - self.bias) * self.root
        short = weighted @ self.q
        left = weighted.double().square().sum(1) - short.double().square().sum(1)
        return short, left


class CompressedProblem(Problem):
    """Short vectors against the emulator.

    Parameters
    ----------
    compression
        That made the vectors.
    short : Tensor (n, h)
    left : Tensor (n,)
        From the compression.
    scale : Tensor (n,), optional
        By which each spectrum's weights are larger than the common ones.
    pixels
        How many were compressed.
    """

    chunk = 64
    names: tuple[str, ...] = ()

    def __init__(
        self,
        compression: Compression,
        short: Tensor,
        left: Tensor,
        scale: Tensor | None = None,
        pixels: int = 0,
    ) -> None:
        self.pixels = pixels
        self.compression, self.short, self.left = compression, short, left
        self.rows, self.rough = len(short), bfloat16_helps()
        self.scale = torch.ones(len(short)) if scale is None else scale

    def freedom(self) -> Tensor:
        """Return how many pixels (n,) there are."""
        return torch.full((self.rows,), self.pixels)

    def nearest(self, points: Tensor) -> Tensor:
        """Return which of the scaled labels (k, d) has the lowest chi2 for each spectrum (n,)."""
        made = self.compression.network.hidden(points) @ self.compression.r.T
        chi2: Tensor = made.square().sum(1) - 2 * (self.short @ made.T)
        return chi2.argmin(1)

    def normal(self, x: Tensor, rows: Tensor, *, rough: bool = False) -> Normal:
        """Return the normal equations of some rows (k,) at scaled labels (k, d)."""
        with torch.no_grad():
            hidden, moved = self.compression.network.hidden_jacobian(x.float())
            residual = hidden @ self.compression.r.T - self.short[rows]
            scale = self.scale[rows]
            gradient = ((residual @ self.compression.r)[:, None] @ moved)[:, 0] * scale[:, None]
            kind = torch.bfloat16 if rough else torch.float32
            n, h, d = moved.shape
            side = moved.transpose(1, 2).reshape(n * d, h).to(kind)
            columns = (side @ self.compression.r.T.to(kind)).reshape(n, d, h)
            curvature = (columns @ columns.transpose(1, 2)).float() * scale[:, None, None]
            chi2 = (residual.double().square().sum(1) + self.left[rows]) * scale
        return Normal(chi2, gradient, curvature)
