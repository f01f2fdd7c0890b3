"""A perceptron that reads labels from numbers, such as pixels or latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from draper.nn.module import Batch, Batches, Module

LEAST = -7.0
"""Natural logarithm of the smallest error that the network may claim, in standard deviations of a label."""

START = 0.3
"""Largest weight to begin with, times the root of the inputs of a layer. With larger ones, layers learn less
and the labels of unseen rows are worse (on made spectra, up to twice the variance is missed at 2.4)."""

CONSTANT = 1e-7
"""Relative scatter below which an input is constant but for rounding."""


class Regressor(Module):
    """Labels y (n, d) from inputs x (n, p), both standardised by the training rows, with errors.

    A batch holds ``x``, ``y``, where NaN labels carry no weight, and maybe ``weight`` (n,).

    Parameters
    ----------
    inputs, labels
        Numbers p of inputs and d of labels.
    hidden
        Sizes of the hidden layers (ReLU).
    heteroscedastic
        Whether each row has an error of its own, learnt by the Gaussian likelihood; by squares otherwise.
    standardise
        Without it the network sees inputs and labels as they are, as a careless baseline would.

    Examples
    --------
    >>> mean, sigma = Regressor(25, 4)(torch.zeros(3, 25))
    >>> tuple(mean.shape), tuple(sigma.shape)
    ((3, 4), (3, 4))
    """

    def __init__(
        self,
        inputs: int,
        labels: int,
        hidden: Sequence[int] = (200, 100),
        *,
        heteroscedastic: bool = False,
        standardise: bool = True,
    ) -> None:
        super().__init__()
        self.labels, self.heteroscedastic, self.standardise = labels, heteroscedastic, standardise
        self.layers = nn.ModuleList(nn.Linear(*ends) for ends in pairwise((inputs, *hidden)))
        width = hidden[-1] if hidden else inputs
        self.last = nn.Linear(width, labels * (2 if heteroscedastic else 1))
        for layer in (*self.layers, self.last):
            assert isinstance(layer, nn.Linear)
            reach = START * layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -reach, reach)
            nn.init.zeros_(layer.bias)
        self.x_mean: Tensor
        self.x_scale: Tensor
        self.y_mean: Tensor
        self.y_scale: Tensor
        self.stretch: Tensor
        self.register_buffer("x_mean", torch.zeros(inputs))
        self.register_buffer("x_scale", torch.ones(inputs))
        self.register_buffer("y_mean", torch.zeros(labels))
        self.register_buffer("y_scale", torch.ones(labels))
        self.register_buffer("stretch", torch.full((labels,), torch.nan))

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means (n, d) and logarithms of errors (n, d) of standardised labels."""
        x = (x - self.x_mean) / self.x_scale
        for layer in self.layers:
            x = torch.relu(layer(x))
        mean, raw = self.last(x).split([self.labels, self.last.out_features - self.labels], dim=1)
        # Bounded below, or a row that is met exactly would outweigh all others; not clamped, since a clamped
        # error would never come back.
        return mean, LEAST + nn.functional.softplus(raw - LEAST) if self.heteroscedastic else mean * 0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (n, d) and their 1-sigma errors (n, d), NaN where no held-out rows have told them."""
        mean, log_sigma = self.outputs(x)
        return self.y_mean + self.y_scale * mean, self.stretch * self.y_scale * log_sigma.exp()

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the mean square of standardised residuals, or the negative log-likelihood."""
        mean, log_sigma = self.outputs(batch["x"])
        y, known = self._known(batch)
        square = (mean - (y - self.y_mean) / self.y_scale).square()
        if not self.heteroscedastic:
            return {"total": (known * square).mean()}
        each = log_sigma + 0.5 * square * (-2 * log_sigma).exp()
        if self.training:
            # Rows that are uncertain early would else hardly move the mean, and stay uncertain (Seitzer et
            # al. 2022, beta = 0.5).
            each = each * log_sigma.detach().exp()
        return {"total": (known * each).mean(), "square": (known * square).detach().mean()}

    def _known(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return labels (n, d) without NaN, and their weights (n, d)."""
        known = torch.isfinite(batch["y"]).float()
        if "weight" in batch:
            known = known * batch["weight"][:, None]
        # NaN leaves before it is computed with: even where it is masked later, its gradient would be NaN.
        return torch.where(torch.isfinite(batch["y"]), batch["y"], self.y_mean), known

    def prepare(self, train: Batches) -> None:
        """Measure means and scatters of inputs and labels."""
        if not self.standardise:
            return
        _measure(lambda: self._inputs(train), self.x_mean, self.x_scale)
        _measure(lambda: map(self._known, train()), self.y_mean, self.y_scale)

    def _inputs(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches():
            x = batch["x"]
            yield x, batch.get("weight", torch.ones_like(x[:, 0]))[:, None]

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Stretch the errors to what held-out rows show."""
        if valid is None:
            return
        squares, weights = torch.zeros_like(self.stretch), torch.zeros_like(self.stretch)
        for batch in valid():
            mean, log_sigma = self.outputs(batch["x"])
            y, known = self._known(batch)
            pull = (mean - (y - self.y_mean) / self.y_scale) * (-log_sigma).exp()
            squares, weights = squares + (known * pull.square()).sum(0), weights + known.sum(0)
        self.stretch.copy_((squares / weights).sqrt())


def _measure(passes: Callable[[], Iterable[tuple[Tensor, Tensor]]], mean: Tensor, scale: Tensor) -> None:
    """Set weighted means and scatters (p,), in two passes: scatters may be small beside means."""
    count = sum(weight.double().sum(0) for _, weight in passes())
    assert isinstance(count, Tensor)
    count = count.clamp(min=1e-30)
    centre = sum((weight.double() * values).sum(0) for values, weight in passes()) / count
    square = sum((weight * (values - centre).square()).sum(0) for values, weight in passes()) / count
    mean.copy_(centre)
    scatter = torch.as_tensor(square).sqrt()
    scale.copy_(torch.where(scatter > CONSTANT * torch.as_tensor(centre).abs(), scatter, 1.0))
