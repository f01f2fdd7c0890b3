"""Where the pixels of data lie among those of a model: interpolation at a velocity, and its transpose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draper.instrument.doppler import SPEED_OF_LIGHT, doppler_factor

EXACT, NEAR = 1e-6, 1e-3
"""Largest distance of pixels from even ones, in pixels, at which places are computed, and at which these tell
between which pixels a place is; elsewhere they are searched for."""


class Pixels:
    """The pixels of a model, as interpolation between them needs them.

    Cubic Hermite polynomials with slopes of parabolas through three pixels, as in
    :func:`draper.instrument.resample.cubic`. Pixels that are even in ln(lambda) or in lambda are neither
    searched nor divided by.

    Parameters
    ----------
    wavelength : Tensor (p,) float64
        Increasing; at least three.
    """

    def __init__(self, wavelength: Tensor) -> None:
        self.wavelength, self.last = wavelength, len(wavelength) - 1
        number = torch.arange(len(wavelength), dtype=torch.float64)
        self.off, self.is_logarithmic = torch.inf, False
        for is_logarithmic in (True, False):
            ends = _coordinate(wavelength[[0, -1]], is_logarithmic)
            origin, rate = ends[0], self.last / (ends[1] - ends[0])
            off = float(((_coordinate(wavelength, is_logarithmic) - origin) * rate - number).abs().max())
            if off < self.off:
                self.off, self.is_logarithmic, self.origin, self.rate = off, is_logarithmic, origin, rate
        self.is_even = self.off < EXACT
        width = torch.ones(self.last, dtype=torch.float64) if self.is_even else torch.diff(wavelength)
        self.width = width.float()
        self.share = (width[1:] / (width[1:] + width[:-1])).float()

    def places(self, observed: Tensor, rv: Tensor) -> Places:
        """Return where pixels (q,) of data lie in the rest frame at velocities (n,) or (1,) [km/s]."""
        beta = rv.double()[:, None] / SPEED_OF_LIGHT
        factor = doppler_factor(rv.double())[:, None]
        # d ln(factor) / d rv
        slope = 1 / SPEED_OF_LIGHT / (1 - beta.square())
        if self.is_even and self.is_logarithmic:
            at = (torch.log(observed) - self.origin) * self.rate - torch.log(factor) * self.rate
            by_velocity = -slope * self.rate
        elif self.is_even:
            scaled = (observed / factor).mul_(self.rate)
            by_velocity, at = -slope * scaled, scaled - self.origin * self.rate
        else:
            place = (observed / factor).clamp_(self.wavelength[0], self.wavelength[-1])
            if self.off < NEAR:
                left = ((_coordinate(place, self.is_logarithmic) - self.origin) * self.rate).long()
            else:
                left = torch.searchsorted(self.wavelength, place, right=True) - 1
            left = left.clamp_(0, self.last - 1)
            begin, width = self.wavelength[left], self.wavelength[left + 1] - self.wavelength[left]
            return Places(self, left, ((place - begin) / width).float(), (-slope * place / width).float())
        at = at.clamp_(0, self.last)
        left = at.long().clamp_(max=self.last - 1)
        return Places(self, left, (at - left).float(), by_velocity.float())

    def coefficients(self, flux: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return those (n, p - 1) of the polynomials to the right of each pixel, lowest power first."""
        chord = flux[:, 1:] - flux[:, :-1]
        secant = chord / self.width
        inner = torch.lerp(secant[:, 1:], secant[:, :-1], self.share)
        first, last = 2 * secant[:, :1] - inner[:, :1], 2 * secant[:, -1:] - inner[:, -1:]
        slope = torch.cat([first, inner, last], dim=1)
        rise, next_rise = slope[:, :-1] * self.width, slope[:, 1:] * self.width
        third = torch.add(rise + next_rise, chord, alpha=-2)
        return flux[:, :-1], rise, chord - rise - third, third

    def transpose(self, sums: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Return the transpose (n, p) of :meth:`coefficients`, of four arrays (n, p - 1)."""
        own, by_rise, by_second, by_third = sums
        # second = 3 chord - 2 rise - next_rise, third = rise + next_rise - 2 chord
        by_chord = torch.add(3 * by_second, by_third, alpha=-2)
        rise = torch.add(by_rise + by_third, by_second, alpha=-2) * self.width
        next_rise = (by_third - by_second) * self.width
        by_slope = torch.zeros(len(own), self.last + 1)
        by_slope[:, :-1] += rise
        by_slope[:, 1:] += next_rise
        inner = by_slope[:, 1:-1]
        inner[:, :1] -= by_slope[:, :1]
        inner[:, -1:] -= by_slope[:, -1:]
        by_secant = torch.zeros_like(own)
        by_secant[:, :-1] += self.share * inner
        by_secant[:, 1:] += (1 - self.share) * inner
        by_secant[:, 0] += 2 * by_slope[:, 0]
        by_secant[:, -1] += 2 * by_slope[:, -1]
        by_chord += by_secant / self.width
        by_flux = torch.zeros(len(own), self.last + 1)
        by_flux[:, :-1] = own - by_chord
        by_flux[:, 1:] += by_chord
        return by_flux


def _coordinate(wavelength: Tensor, is_logarithmic: bool) -> Tensor:
    return torch.log(wavelength) if is_logarithmic else wavelength


@dataclass(frozen=True)
class Places:
    """Places (n, q) of the pixels of data, those beyond the ends at the ends.

    Attributes
    ----------
    pixels
        The model's pixels.
    left : Tensor (n, q) int64
        The pixel at or before each place.
    share : Tensor (n, q)
        What lies left of the place, of the way to the next pixel.
    by_velocity : Tensor (n, q) or (n, 1)
        By how much the share changes with the velocity [s/km].
    """

    pixels: Pixels
    left: Tensor
    share: Tensor
    by_velocity: Tensor

    def interpolate(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectra (n, p) at the places (n, q), and their derivatives by velocity."""
        t, coefficients = self.share, self.pixels.coefficients(flux)
        if len(self.left) == 1:
            zeroth, first, second, third = (each.index_select(1, self.left[0]) for each in coefficients)
        else:
            zeroth, first, second, third = (each.gather(1, self.left) for each in coefficients)
        slope = torch.addcmul(first, t, torch.addcmul(2 * second, t, 3 * third))
        value = torch.addcmul(zeroth, t, torch.addcmul(first, t, torch.addcmul(second, t, third)))
        return value, slope * self.by_velocity

    def transpose(self, values: Tensor) -> Tensor:
        """Return the transpose (n, p) of interpolation, of values (n, q)."""
        left = self.left.expand_as(values)

        def summed(each: Tensor) -> Tensor:
            return torch.zeros(len(values), self.pixels.last).scatter_add_(1, left, each)

        powers = [values]
        for _ in range(3):
            powers.append(powers[-1] * self.share)
        zeroth, first, second, third = map(summed, powers)
        return self.pixels.transpose((zeroth, first, second, third))

    def spread(self, weights: Tensor) -> Tensor:
        """Return weights (n, q) shared between the two pixels (n, p) beside each place."""
        left, right = self.left.expand_as(weights), weights * self.share
        total = torch.zeros(len(weights), self.pixels.last + 1)
        total.scatter_add_(1, left, weights - right)
        return total.scatter_add_(1, left + 1, right)

    @property
    def nearest(self) -> Tensor:
        """The pixels (n, q) nearest to the places."""
        return self.left + (self.share > 0.5).long()


class SamePlaces(Places):
    """Places of data on the very pixels of the model."""

    def __init__(self, pixels: Pixels) -> None:
        nothing = torch.zeros(1, 1)
        super().__init__(pixels, torch.arange(pixels.last + 1)[None], nothing, nothing)

    def interpolate(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spectra themselves, and no derivatives."""
        return flux, self.by_velocity

    def transpose(self, values: Tensor) -> Tensor:
        """Return the values themselves."""
        return values

    def spread(self, weights: Tensor) -> Tensor:
        """Return the weights themselves."""
        return weights
