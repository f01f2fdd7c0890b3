"""A perceptron that learns labels from other numbers, such as pixels or latents, by least squares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from draper.nn.module import Batch, Batches, Module

START = 0.3
"""Largest initial weight, times the root of the number of inputs of a layer. With larger ones, layers learn
less and the labels of unseen rows are worse (on made spectra, up to twice the variance is missed at 2.4)."""

CONSTANT = 1e-7
"""Relative scatter below which an input is constant apart from rounding."""


class Regressor(Module):
    """Labels y (n, d) from inputs x (n, p), both standardised by the training rows.

    A batch holds ``x`` and ``y``, where NaN labels have no weight. :class:`draper.nn.label_head.LabelHead`
    also learns errors, of inputs that change during training.

    Parameters
    ----------
    inputs, labels
        Numbers p of inputs and d of labels.
    hidden
        Sizes of the hidden layers (ReLU).
    standardise
        If false, the network gets inputs and labels as they are, as a careless baseline would.

    Examples
    --------
    >>> tuple(Regressor(25, 4)(torch.zeros(3, 25)).shape)
    (3, 4)
    """

    def __init__(
        self, inputs: int, labels: int, hidden: Sequence[int] = (200, 100), *, standardise: bool = True
    ) -> None:
        super().__init__()
        self.standardise = standardise
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise((inputs, *hidden)))
        self.last = nn.Linear(hidden[-1] if hidden else inputs, labels)
        for layer in (*self.layers, self.last):
            assert isinstance(layer, nn.Linear)
            bound = START * layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
        self.x_mean: Tensor
        self.x_scale: Tensor
        self.y_mean: Tensor
        self.y_scale: Tensor
        self.register_buffer("x_mean", torch.zeros(inputs))
        self.register_buffer("x_scale", torch.ones(inputs))
        self.register_buffer("y_mean", torch.zeros(labels))
        self.register_buffer("y_scale", torch.ones(labels))

    def standardised(self, x: Tensor) -> Tensor:
        """Return standardised labels (n, d) from inputs (n, p)."""
        x = (x - self.x_mean) / self.x_scale
        for layer in self.layers:
            x = torch.relu(layer(x))
        labels: Tensor = self.last(x)
        return labels

    def forward(self, x: Tensor) -> Tensor:
        """Return labels (n, d) from inputs (n, p)."""
        return self.y_mean + self.y_scale * self.standardised(x)

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the mean square of standardised residuals."""
        y, known = self._known(batch)
        square = (self.standardised(batch["x"]) - (y - self.y_mean) / self.y_scale).square()
        return {"total": (known * square).mean()}

    def _known(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return labels (n, d) without NaN, and their weights (n, d)."""
        known = torch.isfinite(batch["y"])
        # NaN is replaced before computing: even where it is masked later, its gradient would be NaN.
        return torch.where(known, batch["y"], self.y_mean), known.float()

    def prepare(self, train: Batches) -> None:
        """Measure means and scatters of inputs and labels."""
        if not self.standardise:
            return
        _measure(
            lambda: ((b["x"], torch.ones_like(b["x"][:, :1])) for b in train()), self.x_mean, self.x_scale
        )
        _measure(lambda: map(self._known, train()), self.y_mean, self.y_scale)


def _measure(passes: Callable[[], Iterable[tuple[Tensor, Tensor]]], mean: Tensor, scale: Tensor) -> None:
    """Set weighted means and scatters (p,), in two passes: scatters may be small compared with means."""
    count = sum(weight.double().sum(0) for _, weight in passes())
    assert isinstance(count, Tensor)
    count = count.clamp(min=1e-30)
    centre = sum((weight.double() * values).sum(0) for values, weight in passes()) / count
    square = sum((weight * (values - centre).square()).sum(0) for values, weight in passes()) / count
    mean.copy_(centre)
    scatter = torch.as_tensor(square).sqrt()
    scale.copy_(torch.where(scatter > CONSTANT * torch.as_tensor(centre).abs(), scatter, 1.0))
