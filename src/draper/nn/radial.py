"""Kernel ridge regression with a learnt warp of its inputs: one radial unit at each training point."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distances (n, m) between points (n, d) and (m, d)."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


class RadialNetwork(nn.Module):
    """Interpolates smooth functions of a few inputs from few points.

    Inputs are warped (a linear map plus one layer of tanh units), compared with the training points by a
    Gaussian, a rational and a quadratic kernel, and the similarities combined linearly. The weights of that
    last layer follow from the training points (:meth:`solve`, kernel ridge regression); the few parameters of
    warp and kernels are trained to minimise the leave-one-out error, which has a closed form, too.

    Parameters
    ----------
    inputs, hidden, points, outputs
        Number of inputs d, of tanh units, of training points m, and of outputs k.
    """

    def __init__(self, inputs: int, hidden: int, points: int, outputs: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(inputs))
        self.turn = nn.Parameter(torch.zeros(inputs, inputs))
        self.inner = nn.Linear(inputs, hidden)
        self.outer = nn.Parameter(torch.zeros(hidden, inputs))
        self.strength = nn.Parameter(torch.tensor([-2.0, -3.5]))
        self.width = nn.Parameter(torch.tensor(-1.0))
        self.ridge = nn.Parameter(torch.tensor(-11.0))
        self.points: Tensor
        self.weights: Tensor
        self.register_buffer("points", torch.zeros(points, inputs))
        self.register_buffer("weights", torch.zeros(points, outputs))

    def warped(self, x: Tensor) -> Tensor:
        """Return inputs (n, d) in the space (n, d) in which the kernels are functions of distance."""
        turned: Tensor = (x + x @ self.turn) * self.scale.exp()
        bent: Tensor = torch.tanh(self.inner(x)) @ self.outer
        return turned + bent

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel (n, m) between inputs (n, d) and (m, d)."""
        apart = _squared_distance(self.warped(x), self.warped(y))
        strength = self.strength.exp()
        near: Tensor = torch.exp(-apart / 2) + strength[0] / (1 + self.width.exp() * apart)
        return near + strength[1] * (1 + x @ y.T).square()

    def similarity_jacobian(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the kernel (n, m) between inputs (n, d) and (m, d), and its derivatives (n, d, m) by x."""
        a, b = self.warped(x), self.warped(y)
        apart = _squared_distance(a, b)
        strength, width = self.strength.exp(), self.width.exp()
        gauss, rational = torch.exp(-apart / 2), 1 / (1 + width * apart)
        inner = 1 + x @ y.T
        near = gauss + strength[0] * rational + strength[1] * inner.square()
        slope = gauss + 2 * strength[0] * width * rational.square()
        by_warped = slope[:, None] * (b.T - a[:, :, None])
        bent = (1 - torch.tanh(self.inner(x)).square())[:, :, None] * self.inner.weight
        straight = (torch.eye(len(self.scale), dtype=x.dtype, device=x.device) + self.turn) * self.scale.exp()
        by_inputs = straight + bent.transpose(1, 2) @ self.outer  # (n, d, d): the last axis is that of a
        return near, by_inputs @ by_warped + 2 * strength[1] * inner[:, None] * y.T

    def variance(self, x: Tensor) -> Tensor:
        """Return the kernel (n,) of each input (n, d) with itself."""
        strength = self.strength.exp()
        own: Tensor = 1 + strength[0] + strength[1] * (1 + x.square().sum(1)).square()
        return own

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n, k) for inputs (n, d)."""
        outputs: Tensor = self.similarity(x, self.points) @ self.weights
        return outputs

    def own(self, x: Tensor) -> Tensor:
        """Return the kernel (m, m) of points (m, d) with its ridge."""
        ridge = self.ridge.exp() * torch.eye(len(x), dtype=x.dtype, device=x.device)
        return self.similarity(x, x) + ridge

    def inverse(self, x: Tensor) -> Tensor:
        """Return the inverse (m, m) of the kernel of points (m, d) with its ridge."""
        inverse: Tensor = torch.linalg.inv(self.own(x))
        return inverse

    def left_out(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return the leave-one-out error (m, k): target minus its prediction from all other points."""
        inverse = self.inverse(x)
        error: Tensor = (inverse @ targets) / inverse.diagonal()[:, None]
        return error

    @torch.no_grad()
    def solve(self, x: Tensor, targets: Tensor) -> None:
        """Set the last layer from points (m, d) and their targets (m, k)."""
        self.points, self.weights = x.clone(), self.inverse(x) @ targets
