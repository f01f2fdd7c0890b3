"""The hidden units of a residual: the layer of a small network that is trained on what polynomials leave."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from draper.nn.readout import components

UNITS = 24
"""Hidden units of a residual that has any."""

EACH = 5
"""Least number of spectra for each hidden unit."""

SHAPES = 12
"""Number of principal components of what polynomials leave that units are trained on."""

STEPS, RATE, DECAY = 400, 2e-2, 1e-2
"""Full-batch steps of their training, its learning rate, and decay of the weights."""


def hidden_units(x: Tensor, rest: Tensor, good: Tensor) -> Tensor:
    """Return weights and biases (d + 1, h) of units tanh(x w + b) of which a residual is made.

    Their own sums are of no further use: those are solved in closed form, as those of polynomials are.

    Parameters
    ----------
    x : Tensor (n, d)
        Labels, in units of their standard deviation.
    rest, good : Tensor (n, p)
        What the polynomials leave, and which pixels are good.
    """
    few = min(SHAPES, len(rest))
    directions, power = components(lambda: iter([(rest, good > 0)]), few, rest.shape[1])
    usable = power > 0
    if not usable.any():
        return x.new_zeros(x.shape[1] + 1, 0)
    # Large shapes count more, but those that noise alone makes have one power and say nothing anyway.
    target = (rest @ directions[:, usable] / power.sum().sqrt()).float()
    random = torch.Generator().manual_seed(0)
    inputs = x.float()
    first = nn.Parameter(torch.randn(x.shape[1], UNITS, generator=random) / x.shape[1] ** 0.5)
    bias = nn.Parameter(torch.randn(UNITS, generator=random))
    last = nn.Parameter(torch.zeros(UNITS + 1, target.shape[1]))
    optimiser = torch.optim.AdamW([first, bias, last], lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimiser.zero_grad()
            found = torch.addmm(last[-1], torch.tanh(torch.addmm(bias, inputs, first)), last[:-1])
            torch.autograd.backward((found - target).square().sum(1).mean())
            optimiser.step()
            schedule.step()
    return torch.cat([first, bias[None]]).detach().to(x)
