"""Noise with the stated variance, and what else spoils pixels; random numbers come in, none are drawn."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

TELLURIC = (
    (6868.0, 6960.0), (7160.0, 7340.0), (7590.0, 7720.0), (8130.0, 8350.0), (8930.0, 9850.0),
    (11100.0, 11650.0), (13400.0, 14700.0), (17900.0, 19700.0),
)  # fmt: skip
"""Strong bands of O2 and H2O in the Earth's atmosphere, vacuum Angstrom."""


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
    made: Tensor = torch.fft.irfft(torch.fft.rfft(normal) * power.sqrt(), n=total)
    return made[:, half : total - half]


def margin(length: float) -> int:
    """Return how many numbers more than pixels :func:`correlated` needs on each side."""
    return max(1, int(4 * length) + 1)


def from_correlation(normal: Tensor, correlation: Tensor) -> Tensor:
    """Turn independent numbers (n, p) into ones with correlation matrices (p, p) or (n, p, p)."""
    factor = torch.linalg.cholesky(correlation)
    return torch.einsum("...ij,...j->...i", factor, normal)


def in_windows(wavelength: Tensor, windows: Iterable[tuple[float, float]]) -> Tensor:
    """Return which pixels (p,) lie in any window (low, high), such as :data:`TELLURIC`."""
    inside = torch.zeros_like(wavelength, dtype=torch.bool)
    for low, high in windows:
        inside = inside | ((wavelength >= low) & (wavelength <= high))
    return inside


def cosmic_rays(
    flux: Tensor, ivar: Tensor, uniform: Tensor, rate: float, strength: float = 20.0
) -> tuple[Tensor, Tensor]:
    """Hit pixels at random: a fraction ``rate`` gains up to ``strength`` sigma, most of them little.

    Returns
    -------
    Tensor (n, p), Tensor (n, p) bool
        The flux, and which pixels were hit; whether a pipeline finds and masks them is the caller's choice.
    """
    hit = (uniform < rate) & (ivar > 0)
    # Within the hit ones uniform / rate is uniform again; its logarithm gives an exponential tail.
    tail = -torch.log((uniform / rate).clamp(min=1e-6, max=1.0)) * strength / 3
    sigma = torch.rsqrt(torch.where(ivar > 0, ivar, 1.0))
    return torch.where(hit, flux + tail * sigma, flux), hit
