"""A small network of its own for each pixel: the form of the first Payne, and of binspec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import torch
from torch import Tensor, nn

from draper.errors import DraperError
from draper.nn.module import Batch, Batches
from draper.nn.spectral import SpectralNetwork

NUMBERS = 2**18
"""Largest number of hidden units in memory; more would leave the processor's cache."""


class PixelNetwork(SpectralNetwork):
    """One hidden layer of h sigmoids for each pixel; pixels share no weights.

    Such networks are imported. For training, a network whose pixels share hidden layers is better.

    Parameters
    ----------
    labels, pixels
        Numbers of inputs d and outputs p.
    hidden
        Sigmoids h of each pixel.

    Attributes
    ----------
    inner, shift : Tensor (p, h, d), (p, h)
        Weights and biases of the hidden layers.
    outer, level : Tensor (p, h), (p,)
        Weights and biases of the outputs.

    Examples
    --------
    >>> network = PixelNetwork(labels=2, pixels=3, hidden=4)
    >>> flux, columns = network.jacobian(torch.zeros(5, 2))
    >>> tuple(flux.shape), tuple(columns.shape)
    ((5, 3), (5, 3, 2))
    """

    def __init__(self, labels: int, pixels: int, hidden: int) -> None:
        super().__init__(labels, pixels)
        self.inner = nn.Parameter(torch.randn(pixels, hidden, labels))
        self.shift = nn.Parameter(torch.randn(pixels, hidden))
        self.outer = nn.Parameter(torch.randn(pixels, hidden) / hidden**0.5)
        self.level = nn.Parameter(torch.zeros(pixels))

    def forward(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""
        return torch.cat([self._flux(gate, rows) for gate, rows in self._blocks(x)], dim=1)

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d)."""
        flux, columns = [], []
        for gate, rows in self._blocks(x):
            flux.append(self._flux(gate, rows))
            slope = gate * (1 - gate) * self.outer[rows]
            columns.append((slope.permute(1, 0, 2) @ self.inner[rows]).permute(1, 0, 2))
        return torch.cat(flux, dim=1), torch.cat(columns, dim=1)

    def _blocks(self, x: Tensor) -> Iterator[tuple[Tensor, slice]]:
        """Yield the hidden units (n, b, h) of blocks of b pixels."""
        hidden = self.shift.shape[1]
        size = max(1, NUMBERS // max(1, len(x) * hidden))
        for start in range(0, self.pixels, size):
            rows = slice(start, start + size)
            z = nn.functional.linear(x, self.inner[rows].flatten(0, 1), self.shift[rows].flatten())
            yield torch.sigmoid(z).view(len(x), -1, hidden), rows

    def _flux(self, gate: Tensor, rows: slice) -> Tensor:
        return (gate * self.outer[rows]).sum(-1) + self.level[rows]

    def prepare(self, train: Batches) -> None:
        """Raise an error: this form is not trained."""
        self._refuse()

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Raise an error: this form is not trained."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise DraperError(
            "architecture='pixelwise' cannot be trained",
            hint="leave out architecture=, or train an emulator on spectra of this one: distil()",
        )
