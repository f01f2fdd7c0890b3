"""Fits in the space of the last hidden layer: exact where all spectra have the same weights.

With linear output, flux = W h + b, and one set of weights for all pixels, chi2 = |u - R h|^2 plus what no
labels change: Q R is the polar decomposition of the weighted W, and u = Q^T of the weighted spectrum. A
spectrum of thousands of pixels becomes as many numbers as there are hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draper.infer.exposures import rows_of
from draper.infer.forward import Linear
from draper.infer.least_squares import Normal, Problem
from draper.nn.precision import bfloat16_helps

NOTHING = 1e-11
"""Share of the largest eigenvalue below which a direction moves no pixel, in single precision."""

LEADING = 128
"""Directions, the largest, that a rough curvature sees."""

REFINED = 4
"""Times that a guess looks at what it is wrong about; more gain nothing."""


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
        # Spectra differ little from the one in the middle of the box: small numbers are rounded less.
        self.middle = self.network.hidden(torch.zeros(1, self.network.labels))
        self.flux = maker.bias + (self.middle @ maker.weight.T)[0]
        self.root = ivar.sqrt()
        # In double precision, since neighbouring hidden units are nearly the same.
        weight = (self.root[:, None] * maker.weight).double()
        values, vectors = torch.linalg.eigh(weight.T @ weight)
        kept = values > NOTHING * values[-1]
        size, vectors = values[kept].sqrt(), vectors[:, kept]
        # The symmetric root: all numbers are of one size, where others have one that is large, and rounded.
        self.q = (weight @ ((vectors / size) @ vectors.T)).float()
        self.r = ((vectors * size) @ vectors.T).float()
        self.leading = (size[:, None] * vectors.T)[-LEADING:].bfloat16()

    def __call__(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Return short vectors (n, h) of spectra (n, p), and the part of chi2 (n,) that is left for good."""
        short = torch.empty(len(flux), self.q.shape[1])
        left = torch.empty(len(flux), dtype=torch.float64)
        for rows in rows_of(len(flux)):
            weighted = (flux[rows] - self.flux).mul_(self.root)
            torch.mm(weighted, self.q, out=short[rows])
            left[rows] = _squares(weighted) - _squares(short[rows])
        return short, left

    def made(self, x: Tensor) -> Tensor:
        """Return the short vectors (n, h) of scaled labels (n, d)."""
        return self.of(self.network.hidden(x))

    def of(self, hidden: Tensor) -> Tensor:
        """Return the short vectors (n, h) of hidden units (n, h)."""
        made: Tensor = (hidden - self.middle) @ self.r.T
        return made


class Guess:
    """Labels from short vectors without a fit, a few sigma from where that would end.

    The linear estimate of least error is far off where spectra bend; but what it makes of the difference
    between a spectrum and that of its own labels says in which direction, several times over.

    Parameters
    ----------
    compression
        That makes the short vectors.
    points : Tensor (m, d)
        Scaled labels to learn from.
    noise
        Variance of what is in the short vectors beside them.
    """

    def __init__(self, compression: Compression, points: Tensor, noise: float = 1.0) -> None:
        self.compression, self.points = compression, points
        self.made = compression.made(points)
        self.power = self.made.square().sum(1)
        self.mean, self.centre = self.made.mean(0), points.mean(0)
        off = (self.made - self.mean).double()
        normal = off.T @ off + noise * len(points) * torch.eye(off.shape[1], dtype=torch.float64)
        self.matrix = torch.linalg.solve(normal, off.T @ (points - self.centre).double()).float()

    def __call__(self, short: Tensor) -> Tensor:
        """Return scaled labels (n, d): the best of the estimates, and of the points."""
        return torch.cat([self._few(short[rows]) for rows in rows_of(len(short))])

    def _few(self, short: Tensor) -> Tensor:
        number = torch.addmm(self.power, short, self.made.T, alpha=-2).argmin(1)
        best, least = self.points[number], (self.made[number] - short).square().sum(1)
        x = self.centre + (short - self.mean) @ self.matrix
        for _ in range(REFINED):
            x = x.clamp(-0.5, 0.5)
            off = self.compression.made(x) - short
            chi2 = off.square().sum(1)
            best = torch.where((chi2 < least)[:, None], x, best)
            least = torch.minimum(chi2, least)
            x = x - off @ self.matrix
        return best


def _squares(rows: Tensor) -> Tensor:
    """Return sums (n,) of squares, in double precision."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norm.square()


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

    def normal(self, x: Tensor, rows: Tensor, *, rough: bool = False) -> Normal:
        """Return the normal equations of some rows (k,) at scaled labels (k, d)."""
        compression, network, x = self.compression, self.compression.network, x.float()
        with torch.no_grad():
            kind, r = (torch.bfloat16, compression.leading) if rough else (torch.float32, compression.r)
            hidden, moved = network.hidden_jacobian(x, kind)
            residual = compression.of(hidden) - self.short[rows]
            scale = self.scale[rows]
            pulled = residual @ compression.r
            gradient = network.hidden_pulled(x, pulled) if rough else (pulled[:, None] @ moved)[:, 0]
            n, h, d = moved.shape
            columns = (moved.transpose(1, 2).reshape(n * d, h) @ r.T).reshape(n, d, len(r))
            curvature = (columns @ columns.transpose(1, 2)).float() * scale[:, None, None]
            chi2 = (_squares(residual) + self.left[rows]) * scale
        return Normal(chi2, gradient * scale[:, None], curvature)

    def slope(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return chi2 (k,) and its gradient (k, d) alone."""
        compression, x, scale = self.compression, x.float(), self.scale[rows]
        residual = compression.made(x) - self.short[rows]
        gradient = compression.network.hidden_pulled(x, residual @ compression.r)
        return (_squares(residual) + self.left[rows]) * scale, gradient * scale[:, None]
