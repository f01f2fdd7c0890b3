"""Perceptrons: one, or several of equal shape computed together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def perceptron(
    inputs: int, hidden: Sequence[int], outputs: int, activation: type[nn.Module] = nn.SiLU
) -> nn.Sequential:
    """Return a perceptron, with SiLU between its layers by default.

    Examples
    --------
    >>> perceptron(3, (8,), 2)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """
    sizes = (inputs, *hidden)
    with warnings.catch_warnings():
        # Models without labels have layers of size 0.
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), activation())]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


class Perceptrons(nn.Module):
    """Several perceptrons of equal shape with the same inputs; one matrix product for each layer.

    Examples
    --------
    >>> Perceptrons(4, 3, (8,), 2)(torch.zeros(5, 3)).shape
    torch.Size([4, 5, 2])
    """

    def __init__(self, number: int, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.number = number
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, after in pairwise((inputs, *hidden, outputs)):
            bound = 1 / math.sqrt(before)  # as nn.Linear starts
            self.weights.append(nn.Parameter(torch.empty(number, before, after).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(number, 1, after).uniform_(-bound, bound)))

    def forward(self, rows: Tensor) -> Tensor:
        """Return outputs (number, n, outputs) for rows (n, inputs)."""
        x = rows.expand(self.number, *rows.shape)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer < last:
                x = torch.relu(x)
        return x


class Residual(nn.Module):
    """Two layers whose output is added to their input.

    Examples
    --------
    >>> Residual(8)(torch.zeros(5, 8)).shape
    torch.Size([5, 8])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum (n, width) of rows (n, width)."""
        out: Tensor = x + self.second(nn.functional.gelu(self.first(self.norm(x))))
        return out
