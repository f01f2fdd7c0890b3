"""Where fits start: velocity by cross-correlation, labels from a coarse grid that all spectra share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from draper.infer.forward import sum_of
from draper.instrument.doppler import SPEED_OF_LIGHT, doppler_factor

TEMPLATES = 12
"""Spectra that are correlated with the data."""

GAP = 3.0
"""Pixels so many times as far apart as usual have a gap between them."""

FINEST = 0.5
"""km/s; steps of velocities are no smaller, the fit itself finds the rest."""


def velocities(
    templates: Tensor, wavelength: Tensor, observed: Tensor, flux: Tensor, ivar: Tensor, limit: float
) -> tuple[Tensor, Tensor]:
    """Return the velocity [km/s] at which a template is most like each spectrum.

    What is compared is how much better a template is than no lines at all, so that velocities that move
    pixels off its range gain nothing by it.

    Parameters
    ----------
    templates : Tensor (k, p)
        Normalised spectra at ``wavelength`` (p,).
    flux, ivar : Tensor (n, q)
        Normalised data at ``observed`` (q,).
    limit
        Largest velocity.

    Returns
    -------
    Tensor (n,), Tensor (n,)
        Velocities, and how much lower chi2 is than without lines.
    """
    if len(flux) == 0:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0)
    low, high = (math.log(float(end)) for end in wavelength[[0, -1]])
    step = max(
        math.log(float(wavelength[-1] / wavelength[0])) / (len(wavelength) - 1), FINEST / SPEED_OF_LIGHT
    )
    most = math.ceil(limit / SPEED_OF_LIGHT / step)
    inner = torch.exp(torch.arange(low, high, step, dtype=torch.float64))
    outer = torch.exp(low + step * torch.arange(-most, len(inner) + most, dtype=torch.float64))
    where, covered = nearest_pixel(wavelength, inner)
    lines = (templates[:, where] - 1) * covered
    where, covered = nearest_pixel(observed, outer)
    weight = ivar[:, where] * covered
    seen = (flux[:, where] - 1) * weight
    length = 1 << math.ceil(math.log2(len(outer) + len(inner)))
    # chi2 of no lines minus that of lines t: 2 sum w (y - 1) t - sum w t^2.
    data, weights = torch.fft.rfft(seen, n=length), torch.fft.rfft(weight, n=length)
    best = torch.full((len(flux),), -torch.inf)
    at = torch.zeros(len(flux), dtype=torch.int64)
    around = torch.zeros(len(flux), 3)
    for line in lines:
        product = 2 * data * torch.fft.rfft(line, n=length).conj()
        product -= weights * torch.fft.rfft(line.square(), n=length).conj()
        gain = torch.fft.irfft(product, n=length)[:, : 2 * most + 1]
        value, place = gain.max(dim=1)
        won = value > best
        best, at = torch.where(won, value, best), torch.where(won, place, at)
        sides = (place[:, None] + torch.arange(-1, 2)).clamp(0, 2 * most)
        around = torch.where(won[:, None], gain.gather(1, sides), around)
    bend = around[:, 0] - 2 * around[:, 1] + around[:, 2]
    off = torch.where(bend < 0, 0.5 * (around[:, 0] - around[:, 2]) / bend.clamp(max=-1e-30), 0.0).clamp(
        -1, 1
    )
    shift = step * (at - most + off).double()
    # ln of the Doppler factor is the rapidity.
    return SPEED_OF_LIGHT * torch.tanh(shift), best


def at_rest(
    wavelength: Tensor, observed: Tensor, flux: Tensor, ivar: Tensor, rv: Tensor
) -> tuple[Tensor, Tensor]:
    """Return spectra and weights (n, p) after velocities (n,) are taken out, straight between pixels."""
    wanted = wavelength * doppler_factor(rv.double())[:, None]
    right = torch.searchsorted(observed, wanted).clamp(1, len(observed) - 1)
    left = right - 1
    width = observed[right] - observed[left]
    share = ((wanted - observed[left]) / width).float()
    near = (share > -0.5) & (share < 1.5) & (width < GAP * torch.diff(observed).median())
    # The error of a mean would be smaller: here it is the fit's weight that is brought along.
    weight = torch.minimum(ivar.gather(1, left), ivar.gather(1, right)) * near
    share = share.clamp(0, 1)
    return (1 - share) * flux.gather(1, left) + share * flux.gather(1, right), weight


def nearest(made: Tensor, seen: Sequence[tuple[Tensor, Tensor]], many: int) -> Tensor:
    """Return which candidates (k, p) have the lowest chi2, best first: (n, many).

    Parameters
    ----------
    made
        Candidates.
    seen : pairs of Tensor (n, p)
        Flux and weights of each exposure on the pixels of the candidates.
    many
        How many are wanted.
    """
    flux = sum_of(flux * ivar for flux, ivar in seen)
    ivar = sum_of(ivar for _, ivar in seen)
    chi2 = ivar @ made.square().T - 2 * (flux @ made.T)
    return chi2.topk(min(many, len(made)), dim=1, largest=False).indices


def nearest_pixel(pixels: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixel nearest to each wavelength, and whether there is one within its reach."""
    right = torch.searchsorted(pixels, wanted.contiguous()).clamp(1, len(pixels) - 1)
    left = right - 1
    where = torch.where(wanted - pixels[left] < pixels[right] - wanted, left, right)
    width = (pixels[right] - pixels[left]).clamp(max=GAP * float(torch.diff(pixels).median()))
    return where, (wanted - pixels[where]).abs() <= 0.5001 * width
