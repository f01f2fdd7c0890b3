"""Covariance of errors that depends on labels: that of held-out spectra nearby."""

from __future__ import annotations

import torch
from torch import Tensor

ELSEWHERE = 30.0
"""How many spectra nearby count as much as all others together."""


def nearby_covariance(
    x: Tensor, labels: Tensor, amplitudes: Tensor, width: Tensor, left_out: Tensor | None = None
) -> Tensor:
    """Return covariances (k, r, r) of amplitudes at labels x (k, d): those of spectra nearby.

    Parameters
    ----------
    x
        Scaled labels.
    labels, amplitudes : Tensor (n, d), (n, r)
        Of held-out spectra; amplitudes have unit variances.
    width : Tensor (d,)
        Standard deviations of the Gaussian by which those nearby count more.
    left_out : Tensor (k,), optional
        The number of a held-out spectrum that does not count, for each of the labels.

    Examples
    --------
    >>> labels = torch.tensor([[-0.5], [0.5]])
    >>> nearby_covariance(labels, labels, torch.tensor([[0.0], [9.0]]), torch.full((1,), 0.1))[:, 0, 0]
    tensor([0.9677, 3.5806], dtype=torch.float64)
    """
    distance = torch.cdist((x / width).double(), (labels / width).double())
    weight = (-0.5 * distance.square()).exp()
    if left_out is not None:
        weight[torch.arange(len(x)), left_out] = 0
    total = weight.sum(1, keepdim=True).clamp(min=1e-30)
    number = total.square() / weight.square().sum(1, keepdim=True).clamp(min=1e-60)
    share = (number / (number + ELSEWHERE))[:, :, None]
    own, r = amplitudes.double(), amplitudes.shape[1]
    near = torch.stack([own.T @ (each[:, None] * own) for each in weight / total])
    return share * near + (1 - share) * torch.eye(r, dtype=torch.float64, device=near.device)
