"""The start of fits: velocity by cross-correlation, labels from a coarse grid that all spectra share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from draper.infer.instrument_model import add_up
from draper.instrument.doppler import SPEED_OF_LIGHT, doppler_factor

TEMPLATES = 12
"""Model spectra that are correlated with the data."""

GAP = 3.0
"""Ratio of a step to the median step from which on it counts as a gap."""

FINEST = 0.5
"""Smallest step of velocities [km/s]; the fit itself refines them."""


class VelocitySearch:
    """Finds the velocity [km/s] at which a template fits a spectrum best.

    Templates are compared by how much lower chi2 is than without lines, so that velocities that move pixels
    off their range gain nothing by it.

    Parameters
    ----------
    templates : Tensor (k, p)
        Normalised spectra at ``wavelength`` (p,).
    limit
        Largest absolute velocity [km/s].
    """

    def __init__(self, templates: Tensor, wavelength: Tensor, limit: float) -> None:
        low, high = (math.log(float(end)) for end in wavelength[[0, -1]])
        self.step = max((high - low) / (len(wavelength) - 1), FINEST / SPEED_OF_LIGHT)
        self.steps = math.ceil(limit / SPEED_OF_LIGHT / self.step)
        inner = torch.exp(torch.arange(low, high, self.step, dtype=torch.float64))
        number = torch.arange(-self.steps, len(inner) + self.steps, dtype=torch.float64)
        self.outer = torch.exp(low + self.step * number)
        # Lags are so few that what the transform continues periodically is not reached.
        self.length = int(next_fast_len(len(self.outer), real=True))
        where, covered = nearest_pixel(wavelength, inner)
        lines = (templates[:, where] - 1) * covered
        self.lines, self.squares = (
            torch.fft.rfft(each, n=self.length).conj().resolve_conj() for each in (2 * lines, lines.square())
        )

    def __call__(self, observed: Tensor, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return velocities (n,) of normalised data (n, q), and how much lines lower chi2 there."""
        if len(flux) == 0:
            return torch.zeros(0, dtype=torch.float64), torch.zeros(0)
        where, covered = nearest_pixel(observed, self.outer)
        weight = ivar[:, where] * covered
        observed_lines = (flux[:, where] - 1) * weight
        # chi2 of no lines minus that of lines t: 2 sum w (y - 1) t - sum w t^2.
        data, weights = (torch.fft.rfft(each, n=self.length) for each in (observed_lines, weight))
        best = torch.full((len(flux),), -torch.inf)
        at = torch.zeros(len(flux), dtype=torch.int64)
        around = torch.zeros(len(flux), 3)
        for line, square in zip(self.lines, self.squares, strict=True):
            gain = torch.fft.irfft(data * line - weights * square, n=self.length)[:, : 2 * self.steps + 1]
            value, place = gain.max(dim=1)
            better = value > best
            best, at = torch.where(better, value, best), torch.where(better, place, at)
            sides = (place[:, None] + torch.arange(-1, 2)).clamp(0, 2 * self.steps)
            around = torch.where(better[:, None], gain.gather(1, sides), around)
        bend = around[:, 0] - 2 * around[:, 1] + around[:, 2]
        off = torch.where(bend < 0, 0.5 * (around[:, 0] - around[:, 2]) / bend.clamp(max=-1e-30), 0.0)
        shift = self.step * (at - self.steps + off.clamp(-1, 1)).double()
        # ln of the Doppler factor is the rapidity.
        return SPEED_OF_LIGHT * torch.tanh(shift), best


def at_rest(
    wavelength: Tensor, observed: Tensor, flux: Tensor, ivar: Tensor, rv: Tensor
) -> tuple[Tensor, Tensor]:
    """Return spectra and weights (n, p) at rest, by linear interpolation."""
    target = wavelength * doppler_factor(rv.double())[:, None]
    right = torch.searchsorted(observed, target).clamp(1, len(observed) - 1)
    left = right - 1
    width = observed[right] - observed[left]
    share = ((target - observed[left]) / width).float()
    near = (share > -0.5) & (share < 1.5) & (width < GAP * torch.diff(observed).median())
    # The mean of two pixels has a smaller error, but its weight in the fit is to stay that of a pixel.
    weight = torch.minimum(ivar.gather(1, left), ivar.gather(1, right)) * near
    share = share.clamp(0, 1)
    return (1 - share) * flux.gather(1, left) + share * flux.gather(1, right), weight


def nearest(candidates: Tensor, exposures: Sequence[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """Return the numbers (n, count) of the candidates with the lowest chi2, best first.

    Parameters
    ----------
    candidates : Tensor (k, p)
        Model spectra.
    exposures : pairs of Tensor (n, p)
        Flux and weights of each exposure on the pixels of the candidates.
    count
        Number of candidates to return.
    """
    flux = add_up(flux * ivar for flux, ivar in exposures)
    ivar = add_up(ivar for _, ivar in exposures)
    chi2 = ivar @ candidates.square().T - 2 * (flux @ candidates.T)
    return chi2.topk(min(count, len(candidates)), dim=1, largest=False).indices


def nearest_pixel(pixels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest pixel of each wavelength, and whether the wavelength lies in it."""
    right = torch.searchsorted(pixels, target.contiguous()).clamp(1, len(pixels) - 1)
    left = right - 1
    where = torch.where(target - pixels[left] < pixels[right] - target, left, right)
    width = (pixels[right] - pixels[left]).clamp(max=GAP * float(torch.diff(pixels).median()))
    return where, (target - pixels[where]).abs() <= 0.5001 * width
