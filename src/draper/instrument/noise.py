"""Noise with the stated variance; random numbers come in, none are drawn."""

from __future__ import annotations

import torch
from torch import Tensor


def ivar_from_snr(flux: Tensor, snr: Tensor, *, photons: bool = False) -> Tensor:
    """Return the inverse variance (n, p) of spectra (n, p) with a signal-to-noise ratio (n,) per pixel.

    The ratio holds at the median flux: there the error is median / snr. With ``photons`` the variance of the
    other pixels is proportional to their flux, else it is the same everywhere.

    Examples
    --------
    >>> ivar_from_snr(torch.tensor([[1.0, 1.0, 0.5]]), torch.tensor([100.0])).round()
    tensor([[10000., 10000., 10000.]])
    """
    level = flux.median(dim=1, keepdim=True).values
    ivar = (snr.reshape(-1, 1) / level).square()
    share = (flux / level).clamp(min=1e-3) if photons else torch.ones_like(flux)
    return ivar / share


def add_noise(flux: Tensor, ivar: Tensor, normal: Tensor) -> Tensor:
    """Add standard normal numbers (n, p), scaled to the variance of each pixel; bad pixels are left alone."""
    good = ivar > 0
    return flux + torch.where(good, normal * torch.rsqrt(torch.where(good, ivar, 1.0)), 0.0)


def correlated(normal: Tensor, length: float) -> Tensor:
    """Turn independent numbers into ones that are correlated over ``length`` pixels, with unit variance.

    The correlation of pixels d apart is exp(-d^2 / (2 length^2)).

    Parameters
    ----------
    normal : Tensor (n, p + 2 h)
        Independent standard normal numbers; h = :func:`margin` of the length.
    length
        In pixels.

    Returns
    -------
    Tensor (n, p)
        Stationary to the ends.
    """
    total, half = normal.shape[1], margin(length)
    place = torch.arange(total, dtype=normal.dtype, device=normal.device)
    distance = torch.minimum(place, total - place)
    # On a circle the correlation is a product in Fourier space; the margin keeps its two ends apart.
    power = torch.fft.rfft(torch.exp(-0.5 * (distance / length).square())).real.clamp(min=0)
    noise: Tensor = torch.fft.irfft(torch.fft.rfft(normal) * power.sqrt(), n=total)
    return noise[:, half : total - half]


def margin(length: float) -> int:
    """Return how many numbers more than pixels :func:`correlated` needs on each side."""
    return max(1, int(4 * length) + 1)
