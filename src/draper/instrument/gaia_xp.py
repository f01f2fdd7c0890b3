"""Gaia's BP/RP photometers: spectra as coefficients of a basis, sampled spectra, and errors.

A mean spectrum is kept as coefficients of rotated Hermite functions of the pseudo-wavelength, the place on
the detector. The inverse bases are the functions of wavelength whose images those are (De Angeli et al. 2023;
Montegriffo et al. 2023); they, the dispersion, the response and the passbands come from GaiaXPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import as_file, files

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from draper.data.grid import Grid
from draper.data.readers.gaia_xp import SAMPLED as ARCHIVE
from draper.data.spectra import Spectra
from draper.errors import DraperError

SAMPLED = ARCHIVE.grid()
"""Pixels of the archive's sampled spectra."""

ROWS = 256
"""Spectra that are resampled together."""

PUPIL = 0.7278
"""Area of Gaia's telescope [m2]."""

PHOTON = 6.62607004e-34 * 2.99792458e8 * 1e9
"""Energy of a photon of 1 nm [J]."""

JOIN = (6350.0, 6430.0)
"""Where sampled spectra pass from BP to RP [Angstrom]."""

SEEN = 0.02
"""Share of the largest response below which that of a photometer counts as 0."""

ROUGHNESS = 1e-2
"""Assumed difference, relative to its largest value, of a spectrum from the span of the basis."""

COARSEST = 30.0
"""Largest width [Angstrom] of pixels of spectra that coefficients are computed from."""

UNIT = 20.0
"""Width [Angstrom] of the pixels that ``ROUGHNESS`` refers to."""

EXPOSURE = 4.4
"""Time [s] that a star spends on a CCD."""

SAMPLES = 60
"""Samples of a transit."""

FloatArray = NDArray[np.float64]


def hermite(count: int, x: FloatArray) -> FloatArray:
    """Return the first Hermite functions (count, n) at x (n,); they are orthonormal.

    Examples
    --------
    >>> x = np.linspace(-12, 12, 2001)
    >>> values = hermite(3, x)
    >>> np.allclose(values @ values.T * (x[1] - x[0]), np.eye(3))
    True
    """
    values = [np.pi**-0.25 * np.exp(-0.5 * x**2)]
    values.append(np.sqrt(2) * x * values[0])
    for n in range(2, count):
        values.append(np.sqrt(2 / n) * x * values[-1] - np.sqrt((n - 1) / n) * values[-2])
    return np.stack(values[:count])


@dataclass(frozen=True, eq=False)
class Photometer:
    """One of the two photometers: its basis, dispersion, response and noise.

    Attributes
    ----------
    name
        ``bp`` or ``rp``.
    direct, inverse : ndarray (k, k)
        Bases of the spectrum on the detector, and of the one that falls on it, in Hermite functions.
    scale : ndarray (2,)
        From pseudo-wavelength u to the argument of these: scale[0] u + scale[1].
    dispersion, response : ndarray (2, m)
        Pseudo-wavelength, and fraction of photons, at wavelengths [nm].
    decay : ndarray (k,)
        Usual size of each coefficient over that of the first.
    noise : ndarray (3,)
        Error of a sample: constant [e-/s], share of the flux, share of its gradient per sample.
    excess : ndarray (k,)
        Errors of coefficients in the archive over what follows from ``noise``.
    """

    name: str
    direct: FloatArray
    inverse: FloatArray
    scale: FloatArray
    dispersion: FloatArray
    response: FloatArray
    decay: FloatArray
    noise: FloatArray
    excess: FloatArray

    def __len__(self) -> int:
        return len(self.decay)

    def argument(self, wavelength: FloatArray) -> FloatArray:
        """Return the argument of the Hermite functions at wavelengths [Angstrom]."""
        place = CubicSpline(*self.dispersion, bc_type="not-a-knot")(wavelength / 10)
        return np.asarray(self.scale[0] * place + self.scale[1])

    def photons(self, wavelength: FloatArray) -> FloatArray:
        """Return photons per second and nm for 1 W/m2/nm at wavelengths [Angstrom]."""
        fraction = CubicSpline(*self.response)(wavelength / 10)
        inside = (wavelength >= 10 * self.response[0, 0]) & (wavelength <= 10 * self.response[0, -1])
        return np.where(inside, fraction.clip(0), 0) * PUPIL * (wavelength / 10) / PHOTON

    def incident(self, wavelength: FloatArray) -> FloatArray:
        """Return the inverse basis (k, n) at wavelengths [Angstrom], in photons per second and nm."""
        return np.asarray(self.inverse @ hermite(len(self), self.argument(wavelength)))

    @cached_property
    def detector(self) -> tuple[Tensor, Tensor]:
        """The basis (k, u) on the detector, and its gradient, four times a sample."""
        place = np.linspace(0, SAMPLES, 4 * SAMPLES + 1)
        basis = self.direct @ hermite(len(self), self.scale[0] * place + self.scale[1])
        return torch.from_numpy(basis), torch.from_numpy(np.gradient(basis, place, axis=1))

    def covariance(self, coefficients: Tensor, transits: Tensor) -> Tensor:
        """Return the covariance (n, k, k) of coefficients (n, k) measured in a number of transits (n,).

        That of a weighted least-squares fit to samples with photon noise, a constant error, and errors in
        proportion to the flux and to its gradient (the place of a star on the detector is not exact).
        """
        basis, gradient = self.detector
        flux, slope = coefficients @ basis, coefficients @ gradient
        constant, share, place = (float(value) for value in self.noise)
        variance = constant**2 + flux.clamp(min=0) / EXPOSURE + (share * flux) ** 2 + (place * slope) ** 2
        weight = transits[:, None] * SAMPLES / basis.shape[1] / variance
        information = (basis * weight[:, None]) @ basis.T
        excess = torch.from_numpy(self.excess)
        covariance: Tensor = torch.linalg.inv(information) * excess[:, None] * excess
        return covariance


class GaiaXP:
    """BP and RP together.

    Attributes
    ----------
    bp, rp : Photometer
    grid : Grid
        The names of the coefficients, BP first.
    passbands : dict
        Zero points, and what each coefficient adds to the flux, of ``g``, ``bp`` and ``rp`` (Vega).

    Examples
    --------
    >>> xp = GaiaXP()
    >>> wavelength = np.arange(3200.0, 11300.0, 20.0)
    >>> flat = torch.full((1, len(wavelength)), 1e-16, dtype=torch.float64)
    >>> coefficients = xp.projection(wavelength)(flat)
    >>> coefficients.shape, float((xp.sampled(coefficients)[0] / 1e-16).median().round(decimals=2))
    (torch.Size([1, 110]), 1.0)
    """

    def __init__(self) -> None:
        with as_file(files("draper.instrument").joinpath("packed", "gaia-xp.npz")) as path:
            arrays = dict(np.load(path, allow_pickle=False))
        self.bp, self.rp = (
            Photometer(
                name,
                **{
                    key.split("_", 1)[1]: value.astype(np.float64)
                    for key, value in arrays.items()
                    if key.startswith(f"{name}_")
                },
            )
            for name in ("bp", "rp")
        )
        self.photometers = (self.bp, self.rp)
        self.grid = Grid.coefficients(
            f"{part.name}_{k}" for part in self.photometers for k in range(len(part))
        )
        rows = torch.from_numpy(arrays["passbands"].astype(np.float64))
        self.passbands = {
            name: (float(zero), row)
            for name, zero, row in zip(("g", "bp", "rp"), arrays["zero_points"], rows, strict=True)
        }

    def split(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients (..., 110) of BP and of RP."""
        return coefficients[..., : len(self.bp)], coefficients[..., len(self.bp) :]

    def projection(self, wavelength: FloatArray) -> Callable[[Tensor], Tensor]:
        """Return the function from spectra (n, m) at wavelengths (m,) [Angstrom] to coefficients (n, 110)."""
        parts = [Projection(part, wavelength) for part in self.photometers]
        return lambda flux: torch.cat([part(flux) for part in parts], dim=1)

    def design(self, wavelength: FloatArray) -> Tensor:
        """Return the matrix (110, m) from coefficients to flux [W/m2/nm] at wavelengths [Angstrom]."""
        share = np.interp(wavelength, JOIN, (0.0, 1.0))
        rows = []
        for part, weight in ((self.bp, 1 - share), (self.rp, share)):
            used = weight > 0
            photons = part.photons(wavelength[used])
            columns = np.zeros((len(part), len(wavelength)))
            columns[:, used] = part.incident(wavelength[used]) / np.where(photons > 0, photons, np.inf)
            rows.append(columns * weight)
        return torch.from_numpy(np.concatenate(rows))

    @cached_property
    def sampling(self) -> Tensor:
        """The matrix (110, 343) of :data:`SAMPLED`."""
        return self.design(SAMPLED.vacuum)

    def sampled(self, coefficients: Tensor) -> Tensor:
        """Return spectra (n, 343) [W/m2/nm] where the archive samples them.

        They hold less than the coefficients: BP beyond 643 nm and RP below 635 nm is not in them.
        """
        return coefficients @ self.sampling

    def magnitude(self, coefficients: Tensor, band: str) -> Tensor:
        """Return the synthetic G, BP or RP magnitude (n,) of coefficients (n, 110)."""
        zero, row = self.passbands[band]
        return zero - 2.5 * torch.log10((coefficients @ row).clamp(min=1e-40))

    def covariance(self, coefficients: Tensor, transits: Tensor) -> Tensor:
        """Return the covariance (n, 110, 110) of coefficients measured in a number of transits (n,)."""
        parts = zip(self.photometers, self.split(coefficients), strict=True)
        bp, rp = (part.covariance(values, transits) for part, values in parts)
        covariance = coefficients.new_zeros(len(coefficients), len(self.grid), len(self.grid))
        covariance[:, : len(self.bp), : len(self.bp)] = bp
        covariance[:, len(self.bp) :, len(self.bp) :] = rp
        return covariance

    def resampled(self, spectra: Spectra) -> Spectra:
        """Return coefficients, simulated or from the archive, as spectra where the archive samples them.

        Errors follow from those of the coefficients and their correlations. Samples are correlated, too (343
        of them from 110 numbers), and that is not kept: use coefficients wherever chi2 matters.
        """
        self.grid.require(spectra.grid, "these spectra", "read the archive's continuous mean spectra")
        good: NDArray[np.bool_] = np.all(spectra.ivar > 0, axis=1)
        if spectra.correlation is None or not good.all():
            raise DraperError(
                "samples need all coefficients, with their correlations",
                given=f"{int(np.sum(~good))} of {len(good)} spectra lack some",
                hint="leave out stars without BP or RP, and read them from a file that has correlations",
            )
        flux = np.empty((len(spectra), len(SAMPLED)), dtype=np.float32)
        ivar = np.empty_like(flux)
        for start in range(0, len(spectra), ROWS):
            rows = slice(start, start + ROWS)
            sigma = torch.from_numpy(spectra.ivar[rows].astype(np.float64) ** -0.5)
            design = sigma[:, :, None] * self.sampling / ARCHIVE.scale
            related = torch.from_numpy(spectra.correlation.of(rows).astype(np.float64))
            variance = torch.einsum("nks,nks->ns", design, related @ design)
            flux[rows] = self.sampled(torch.from_numpy(spectra.flux[rows].astype(np.float64))) / ARCHIVE.scale
            ivar[rows] = 1 / variance
        return replace(
            spectra, grid=SAMPLED, flux=flux, ivar=ivar, correlation=None, quantity="flux", unit=ARCHIVE.unit
        )


class Projection:
    """From spectra on some wavelengths to the coefficients of one photometer.

    The inverse basis spans only what can be measured from blurred images. So coefficients are those of a
    spectrum in that span, which differs from the given one by about :data:`ROUGHNESS`, with sizes that fall
    with order as those of stars do. Without that prior the highest orders would be unconstrained.

    Parameters
    ----------
    part
        The photometer.
    wavelength : ndarray (m,)
        Vacuum Angstrom, increasing; pixels of at most 3 nm that cover the range of the photometer.
    """

    def __init__(self, part: Photometer, wavelength: FloatArray) -> None:
        fine = 10 * np.linspace(part.response[0, 0], part.response[0, -1], 2000)
        response = part.photons(fine) / fine
        seen = fine[response > SEEN * response.max()]
        inside = (wavelength >= seen[0] - COARSEST) & (wavelength <= seen[-1] + COARSEST)
        pixels, width = wavelength[inside], np.gradient(wavelength)[inside]
        ends = pixels[[0, -1]] if inside.any() else wavelength[[0, -1]]
        if ends[0] > seen[0] + COARSEST / 2 or ends[1] < seen[-1] - COARSEST / 2:
            raise DraperError(
                f"the spectra do not cover the range of the {part.name.upper()} photometer",
                given=f"{wavelength[0]:.0f} to {wavelength[-1]:.0f} A",
                expected=f"{seen[0]:.0f} to {seen[-1]:.0f} A",
            )
        if width.max() > COARSEST:
            raise DraperError(
                "the pixels are too coarse for Gaia's photometers",
                given=f"{width.max():.0f} A",
                expected=f"at most {COARSEST:.0f} A",
            )
        basis = part.incident(pixels) * width / UNIT
        self.pixels = torch.from_numpy(np.flatnonzero(inside))
        self.photons = torch.from_numpy(part.photons(pixels))
        self.basis = torch.from_numpy(basis)
        self.information = torch.from_numpy(basis @ part.incident(pixels).T)
        self.stiffness = torch.diag(torch.from_numpy(part.decay**-2.0))

    def __call__(self, flux: Tensor) -> Tensor:
        """Return the coefficients (n, k) of spectra (n, m) [W/m2/nm]; differentiable."""
        seen = flux.double()[:, self.pixels] * self.photons
        rough = ROUGHNESS * seen.amax(dim=1)
        image = seen @ self.basis.T
        first = image[:, 0] / self.information[0, 0]
        for _ in range(3):
            weight = (rough / first).square()[:, None, None] * self.stiffness
            coefficients: Tensor = torch.linalg.solve(self.information + weight, image)
            first = coefficients[:, 0]
        return coefficients
