"""Infrared magnitudes of stars, and typical errors of photometry and parallaxes.

The bands are boxes with the widths and zero points of 2MASS and WISE: approximations of the real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LIGHT = 2.99792458e18
"""Speed of light [Angstrom per second]."""


@dataclass(frozen=True)
class Band:
    """A photon-counting band with constant transmission between two wavelengths.

    Attributes
    ----------
    low, high
        Limits [Angstrom].
    zero
        Flux density of magnitude 0 [Jy].
    """

    low: float
    high: float
    zero: float

    @classmethod
    def around(cls, centre: float, width: float, zero: float) -> Band:
        """Return the band of a centre and width [um]."""
        return cls(1e4 * (centre - width / 2), 1e4 * (centre + width / 2), zero)

    def magnitude(self, wavelength: FloatArray, flux: FloatArray) -> FloatArray:
        """Return the Vega magnitude (n,) of spectra (n, m) [W/m2/nm] at wavelengths (m,) [Angstrom].

        Spectra are interpolated linearly.

        Examples
        --------
        >>> band = Band(1e4, 2e4, zero=1000.0)
        >>> wavelength = np.linspace(9e3, 21e3, 1001)
        >>> flat = 1e-23 * LIGHT * 10 / wavelength**2  # 1000 Jy at all frequencies, W/m2/nm
        >>> bool(abs(band.magnitude(wavelength, flat[None])[0]) < 1e-4)
        True
        """
        fine = np.linspace(self.low, self.high, 101)
        share = np.zeros(len(wavelength))
        left = np.searchsorted(wavelength, fine).clip(1, len(wavelength) - 1) - 1
        along = (fine - wavelength[left]) / (wavelength[left + 1] - wavelength[left])
        np.add.at(share, left, (1 - along) * fine)
        np.add.at(share, left + 1, along * fine)
        mean = flux @ (share / fine.sum())
        pivot_squared = fine.sum() / (1 / fine).sum()
        # 1 Jy = 1e-26 W/m2/Hz, and ten Angstrom are one nanometre.
        zero = self.zero * 1e-26 * LIGHT / pivot_squared * 10
        return np.asarray(-2.5 * np.log10(mean / zero))


BANDS = {
    "j": Band.around(1.235, 0.162, 1594.0),
    "h": Band.around(1.662, 0.251, 1024.0),
    "ks": Band.around(2.159, 0.262, 666.7),
    "w1": Band.around(3.3526, 0.6626, 309.54),
    "w2": Band.around(4.6028, 1.0423, 171.787),
}
"""Centres, widths and zero points of 2MASS (Cohen et al. 2003) and WISE (Jarrett et al. 2011)."""

ERRORS = {
    "g": (0.0003, 17.0, 0.001, 0.20),
    "bp": (0.0028, 17.0, 0.010, 0.33),
    "rp": (0.0038, 17.0, 0.006, 0.33),
    "j": (0.022, 15.8, 0.1, 0.40),
    "h": (0.022, 15.1, 0.1, 0.40),
    "ks": (0.022, 14.3, 0.1, 0.40),
    "w1": (0.020, 16.1, 0.1, 0.40),
    "w2": (0.020, 15.2, 0.1, 0.40),
}
"""Error of bright stars [mag], a magnitude, the error there [mag], and its growth [dex per magnitude].

Rounded approximations for isolated stars."""


def magnitude_error(band: str, magnitude: FloatArray) -> FloatArray:
    """Return the typical error [mag] of stars of magnitudes (n,) in a band.

    Examples
    --------
    >>> magnitude_error("g", np.array([9.0, 17.0])).round(4)
    array([0.0003, 0.001 ])
    """
    floor, at, error, slope = ERRORS[band]
    return np.hypot(floor, error * 10 ** (slope * (magnitude - at)))


def parallax_error(magnitude: FloatArray) -> FloatArray:
    """Return the typical error [mas] of parallaxes in Gaia DR3 for G magnitudes (n,).

    Examples
    --------
    >>> parallax_error(np.array([10.0, 15.0, 18.0])).round(3)
    array([0.013, 0.029, 0.142])
    """
    z = 10 ** (0.4 * (np.maximum(magnitude, 13.0) - 15.0))
    return np.asarray(np.sqrt(40 + 800 * z + 30 * z**2) / 1000)
