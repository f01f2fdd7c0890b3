"""Labels with errors from latents or spectra, learnt by their Gaussian likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from draper.nn.perceptron import perceptron

MOMENTUM = 0.01
"""Weight of the latest batch in the running mean and variance of the inputs."""

CLIP = 30.0
"""Largest scaled input: an input that has hardly varied so far may jump."""

MIN_LOG_ERROR, MAX_LOG_ERROR = -7.0, 3.0
"""Range of the logarithm of an error, in units of the scatter of the labels."""


class LabelHead(nn.Module):
    """A perceptron that predicts labels (n, l) and their errors from inputs whose scale changes in training.

    See :class:`draper.nn.regressor.Regressor` for inputs that do not change.
    """

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
    def update_scale(self, inputs: Tensor) -> None:
        """Update the running mean and variance of the inputs with a batch (n, inputs)."""
        self.variance.lerp_((inputs - self.centre).square().mean(0), MOMENTUM)
        self.centre.lerp_(inputs.mean(0), MOMENTUM)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (n, l) and the logarithms of their errors (n, l)."""
        scaled = (inputs - self.centre) / self.variance.clamp(min=1e-12).sqrt()
        mean, log_error = self.layers(scaled.clamp(-CLIP, CLIP)).chunk(2, dim=1)
        return mean, log_error.clamp(MIN_LOG_ERROR, MAX_LOG_ERROR)

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (n, l) and calibrated errors (n, l), which are NaN without held-out rows."""
        mean, log_error = self(inputs)
        return mean, log_error.exp() * self.stretch

    @torch.no_grad()
    def calibrate(self, mean: Tensor, log_error: Tensor, labels: Tensor) -> None:
        """Scale errors so that 68.3 % of the held-out labels (n, l) lie within one of them."""
        pulls = (mean - labels).abs() / log_error.exp()
        self.stretch.copy_(torch.nanquantile(pulls, 0.6827, dim=0))


def negative_log_likelihood(mean: Tensor, log_error: Tensor, labels: Tensor) -> Tensor:
    """Return the Gaussian negative log-likelihood (n, l) of labels, 0 where they are unknown (NaN).

    The constant is left out.
    """
    known = torch.isfinite(labels)
    # NaN is replaced before computing: even where it is masked later, its gradient would be NaN.
    pull = (torch.nan_to_num(labels) - mean) / log_error.exp()
    return known * (0.5 * pull.square() + log_error)


def mean_over_known(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean (k,) of each column of values (n, k) over the rows where it is known."""
    return (values * known).sum(0) / known.sum(0).clamp(min=1)
