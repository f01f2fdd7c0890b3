"""Fits in the space of the last hidden layer: exact where all spectra have the same weights.

With linear output, flux = W h + b, and one set of weights for all pixels, chi2 = |u - R h|^2 plus a part that
no labels change: Q R is the polar decomposition of the weighted W, and u = Q^T times the weighted spectrum. A
spectrum of thousands of pixels becomes a vector as long as the last hidden layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draper.infer.exposures import row_slices
from draper.infer.instrument_model import PerceptronModel
from draper.infer.least_squares import Normal, Problem
from draper.nn.precision import bfloat16_helps

NOTHING = 1e-11
"""Directions with eigenvalues below this share of the largest change no pixel, in single precision."""

LEADING = 128
"""Number of directions, the largest ones, that a rough curvature is computed from."""

REFINED = 4
"""Corrections of a guess; more gain nothing."""


class Compression:
    """Turns spectra into short vectors, for pixel weights (p,) that all spectra share.

    Parameters
    ----------
    model
        A perceptron with linear output.
    ivar : Tensor (p,)
        The common weights.
    """

    def __init__(self, model: PerceptronModel, ivar: Tensor) -> None:
        self.network = model.network
        # Spectra differ little from the one in the middle of the box: small numbers are rounded less.
        self.middle = self.network.hidden(torch.zeros(1, self.network.labels))
        self.flux = model.bias + (self.middle @ model.weight.T)[0]
        self.root = ivar.sqrt()
        # In double precision, since neighbouring hidden units are nearly the same.
        weight = (self.root[:, None] * model.weight).double()
        values, vectors = torch.linalg.eigh(weight.T @ weight)
        used = values > NOTHING * values[-1]
        size, vectors = values[used].sqrt(), vectors[:, used]
        # The symmetric root has entries of similar size; other roots have large ones, which are rounded.
        self.q = (weight @ ((vectors / size) @ vectors.T)).float()
        self.r = ((vectors * size) @ vectors.T).float()
        self.leading = (size[:, None] * vectors.T)[-LEADING:].bfloat16()

    def __call__(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Return short vectors (n, h) of spectra (n, p), and the part of chi2 (n,) that no labels change."""
        short = torch.empty(len(flux), self.q.shape[1])
        left = torch.empty(len(flux), dtype=torch.float64)
        for rows in row_slices(len(flux)):
            weighted = (flux[rows] - self.flux).mul_(self.root)
            torch.mm(weighted, self.q, out=short[rows])
            left[rows] = _squares(weighted) - _squares(short[rows])
        return short, left

    def of_labels(self, x: Tensor) -> Tensor:
        """Return the short vectors (n, h) of scaled labels (n, d)."""
        return self.of_hidden(self.network.hidden(x))

    def of_hidden(self, hidden: Tensor) -> Tensor:
        """Return the short vectors (n, h) of hidden units (n, h)."""
        short: Tensor = (hidden - self.middle) @ self.r.T
        return short


class Guess:
    """Estimates labels from short vectors by linear regression, a few sigma from where a fit would end.

    The regression is far off where spectra are not linear in labels. It is therefore applied again, several
    times, to the difference between a short vector and that of the labels estimated so far.

    Parameters
    ----------
    compression
        Makes the short vectors.
    points : Tensor (m, d)
        Scaled labels that the regression is learnt from.
    noise
        Variance of the noise in the short vectors.
    """

    def __init__(self, compression: Compression, points: Tensor, noise: float = 1.0) -> None:
        self.compression, self.points = compression, points
        self.vectors = compression.of_labels(points)
        self.power = self.vectors.square().sum(1)
        self.mean, self.centre = self.vectors.mean(0), points.mean(0)
        off = (self.vectors - self.mean).double()
        normal = off.T @ off + noise * len(points) * torch.eye(off.shape[1], dtype=torch.float64)
        self.matrix = torch.linalg.solve(normal, off.T @ (points - self.centre).double()).float()

    def __call__(self, short: Tensor) -> Tensor:
        """Return scaled labels (n, d): the best of the estimates and of the points."""
        return torch.cat([self._guess_rows(short[rows]) for rows in row_slices(len(short))])

    def _guess_rows(self, short: Tensor) -> Tensor:
        number = torch.addmm(self.power, short, self.vectors.T, alpha=-2).argmin(1)
        best, least = self.points[number], (self.vectors[number] - short).square().sum(1)
        x = self.centre + (short - self.mean) @ self.matrix
        for _ in range(REFINED):
            x = x.clamp(-0.5, 0.5)
            off = self.compression.of_labels(x) - short
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
    """chi2 of short vectors.

    Parameters
    ----------
    compression
        The compression that the short vectors come from.
    short : Tensor (n, h)
        The short vectors.
    left : Tensor (n,)
        The part of chi2 that no labels change, from the compression.
    scale : Tensor (n,), optional
        Weights of each spectrum over the common ones; 1 unless given.
    pixels
        How many pixels were compressed.
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
            residual = compression.of_hidden(hidden) - self.short[rows]
            scale = self.scale[rows]
            weights = residual @ compression.r
            gradient = network.hidden_gradient(x, weights) if rough else (weights[:, None] @ moved)[:, 0]
            n, h, d = moved.shape
            columns = (moved.transpose(1, 2).reshape(n * d, h) @ r.T).reshape(n, d, len(r))
            curvature = (columns @ columns.transpose(1, 2)).float() * scale[:, None, None]
            chi2 = (_squares(residual) + self.left[rows]) * scale
        return Normal(chi2, gradient * scale[:, None], curvature)

    def chi2_and_gradient(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return chi2 (k,) and its gradient (k, d) alone."""
        compression, x, scale = self.compression, x.float(), self.scale[rows]
        residual = compression.of_labels(x) - self.short[rows]
        gradient = compression.network.hidden_gradient(x, residual @ compression.r)
        return (_squares(residual) + self.left[rows]) * scale, gradient * scale[:, None]
