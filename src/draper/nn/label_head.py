"""Labels with errors, read from latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from draper.nn.perceptron import perceptron

MEMORY = 0.01
"""Share of the latest batch in the running mean and scatter of what is read."""

FAR = 30.0
"""Scatters from the mean beyond which it makes no difference: what has hardly varied yet may jump."""

LEAST, MOST = -7.0, 3.0
"""Ends of the logarithm of an error, in units of the scatter of the labels."""


class LabelHead(nn.Module):
    """A perceptron that reads labels (n, l), and their errors, from rows whose scale may change meanwhile."""

    def __init__(self, inputs: int, hidden: Sequence[int], labels: int) -> None:
        super().__init__()
        self.layers = perceptron(inputs, hidden, 2 * labels)
        self.centre: Tensor
        self.variance: Tensor
        self.stretch: Tensor
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("variance", torch.ones(inputs))
        self.register_buffer("stretch", torch.full((labels,), torch.nan))

    @torch.no_grad()
    def follow(self, rows: Tensor) -> None:
        """Let the running mean and scatter follow a batch."""
        self.variance.lerp_((rows - self.centre).square().mean(0), MEMORY)
        self.centre.lerp_(rows.mean(0), MEMORY)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (n, l) and the logarithms of their errors (n, l)."""
        scaled = (rows - self.centre) / self.variance.clamp(min=1e-12).sqrt()
        found = self.layers(scaled.clamp(-FAR, FAR))
        mean, error = found.chunk(2, dim=1)
        return mean, error.clamp(LEAST, MOST)

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (n, l) and errors (n, l) as calibrated on held-out rows; NaN where none were."""
        mean, error = self(rows)
        return mean, error.exp() * self.stretch

    @torch.no_grad()
    def calibrate(self, mean: Tensor, error: Tensor, labels: Tensor) -> None:
        """Stretch errors so that 68.3 % of the held-out labels (n, l) lie within one of them."""
        pulls = (mean - labels).abs() / error.exp()
        self.stretch.copy_(torch.nanquantile(pulls, 0.6827, dim=0))


def surprise(mean: Tensor, error: Tensor, labels: Tensor) -> Tensor:
    """Return minus the Gaussian log-likelihood (n, l) of labels, 0 where they are unknown (NaN).

    ``error`` is the logarithm; the constant is left out.
    """
    known = torch.isfinite(labels)
    # NaN leaves before it is computed with: even where it is masked later, its gradient would be NaN.
    pull = (torch.nan_to_num(labels) - mean) / error.exp()
    return known * (0.5 * pull.square() + error)
