"""Stars as a survey observes them: resolution, velocity, sampling, noise, and errors of labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import ALPHA
from draper.data.spectra import Spectra
from draper.errors import DraperError, did_you_mean
from draper.instrument.broadening import broaden, velocity_step
from draper.instrument.doppler import doppler_factor
from draper.instrument.resample import line_spread
from draper.simulate.base import (
    BLOCK,
    LABELS,
    NOISE,
    Columns,
    Simulator,
    generator,
    padded,
    require_ratios,
)
from draper.simulate.population import in_box
from draper.simulate.stars import Stars

SAMPLES = 8
"""Pixels of the internal grid per FWHM of the line-spread function; cubic interpolation then errs by 1e-4."""

WAVES = 4
"""Number of cosines, of 1 to this many half periods over the window, in an error of the continuum."""

ROWS = 128
"""Number of spectra that are always computed together: few enough that memory is reused."""


@dataclass(frozen=True)
class Preset:
    """The properties of a survey.

    Attributes
    ----------
    grid
        Pixels, with the resolving power.
    magnitudes
        Brightest and faintest star; magnitudes are uniform in between.
    snr
        Signal-to-noise ratio per ``snr_width`` at these two magnitudes; its logarithm is linear in between.
    snr_width
        Width [Angstrom] to which the ratio refers; by default one pixel of the survey.
    rv_scatter
        1-sigma error of the velocity correction to rest [km/s].
    continuum_error
        Rms of a smooth multiplicative error.
    bad_pixels
        Fraction of bad pixels.
    label_errors
        1-sigma errors of the labels that the survey publishes.
    """

    grid: Grid
    magnitudes: tuple[float, float]
    snr: tuple[float, float]
    snr_width: float | None = None
    rv_scatter: float = 0.0
    continuum_error: float = 0.0
    bad_pixels: float = 0.0
    label_errors: dict[str, float] = field(default_factory=dict)


def _rvs(step: float) -> Preset:
    return Preset(
        Grid.linear(846, 870, step, unit="nm", medium="vacuum", resolving_power=11_500),
        magnitudes=(8.0, 14.0),
        snr=(200.0, 15.0),
        snr_width=0.3,
        rv_scatter=1.0,
        continuum_error=0.003,
        bad_pixels=0.002,
        label_errors={"teff": 70.0, "logg": 0.08, "fe_h": 0.05, "alpha_fe": 0.03},
    )


PRESETS = {
    "gaia-rvs": _rvs(0.01),
    "gaia-rvs-800": _rvs(24 / 799),
    "ideal": Preset(
        Grid.linear(846, 870, 0.01, unit="nm", medium="vacuum", resolving_power=11_500),
        (0.0, 0.0),
        (np.inf, np.inf),
    ),
}
"""Gaia's spectrograph with its own 2,401 pixels and with 800; and a survey without noise or errors."""


class Survey(Simulator):
    """Simulated stars as a survey observes them.

    Parameters
    ----------
    preset
        One of :data:`PRESETS`, or your own preset.
    population
        ``galaxy`` draws stars of the discs and the halo, ``box`` draws labels uniformly from the region that
        the grid covers.
    snr
        Range (low, high) of signal-to-noise ratios per pixel, log-uniform, in place of the preset's.
    vsini, vmac
        Rotation and macroturbulence [km/s] of all stars, applied after the resolution of the survey.

    If the preset has label errors, the table holds the published labels with their errors (``teff``,
    ``teff_err``) and the true ones (``teff_true``).

    Examples
    --------
    >>> Survey("gaia-rvs-800").simulate(2, seed=1)
    Spectra(2 x 800 px, normalised flux, 8460.000-8700.000 A vacuum, columns: 27)
    """

    def __init__(
        self,
        preset: str | Preset = "gaia-rvs",
        *,
        population: Literal["galaxy", "box"] = "galaxy",
        snr: tuple[float, float] | None = None,
        vsini: float | None = None,
        vmac: float | None = None,
        stars: Stars | None = None,
    ) -> None:
        if isinstance(preset, str):
            if preset not in PRESETS:
                raise DraperError("unknown preset", given=preset, hint=did_you_mean(preset, PRESETS))
            preset = PRESETS[preset]
        if population not in ("galaxy", "box"):
            raise DraperError("unknown population", given=population, expected="galaxy or box")
        self.stars = stars or Stars()
        for name, width in (("vsini", vsini), ("vmac", vmac)):
            if width is not None and not (np.isfinite(width) and width >= 0):
                raise DraperError(f"{name} cannot be negative", given=width, expected="km/s, 0 or larger")
        self.preset, self.population, self.snr = preset, population, require_ratios(snr)
        self.widths = (vsini, vmac)
        self.grid, self.prior = preset.grid, self.stars.prior
        source = self.stars.grid
        dex = np.log10(1 + 1 / (SAMPLES * np.max(np.asarray(preset.grid.resolving_power))))
        inner = Grid.log(source.vacuum[40], source.vacuum[-41], dex, medium="vacuum")
        spread = line_spread(source, inner, preset.grid.resolving_power)
        covered = np.asarray(spread.sum(axis=1))[:, 0] > 0.5
        if not covered.any():
            raise DraperError(
                "the survey does not overlap the simulated spectra", given=preset.grid, expected=source
            )
        inner, spread = inner[covered], spread[covered]
        # Convolving the basis once convolves every spectrum; only the velocity differs from star to star.
        dtype = self.stars.mean.dtype
        self.mean = torch.from_numpy(spread @ self.stars.mean.double().numpy()).to(dtype)
        self.basis = torch.from_numpy((spread @ self.stars.basis.double().numpy().T).T.copy()).to(dtype)
        self.inner = torch.tensor(inner.vacuum)
        # The inner pixels are equally spaced in ln(lambda), so that no search is needed.
        self.step = torch.log(self.inner[1] / self.inner[0])
        self.places = torch.log(torch.tensor(preset.grid.vacuum) / self.inner[0]) / self.step

        along = (preset.grid.vacuum - preset.grid.vacuum[0]) / np.ptp(preset.grid.vacuum)
        shapes = np.cos(np.pi * np.arange(1, 1 + WAVES)[:, None] * along)
        self.shapes = torch.from_numpy(shapes).float()

    def draw(self, n: int, seed: int, block: int) -> Columns:
        """Draw the labels of the first n rows of a block."""
        if self.population == "box":
            return self.stars.draw(n, seed, block)
        stars = in_box(self.prior, BLOCK, generator(seed, LABELS, block))
        return {name: column[:n] for name, column in stars.items()}

    def flux(self, labels: Tensor, rv: Tensor) -> Tensor:
        """Return noiseless spectra (n, p) at the survey's resolution and pixels; differentiable in both."""
        inner = torch.addmm(self.mean, self.stars.coefficients(labels), self.basis)
        vsini, vmac = (None if width is None else torch.tensor(width) for width in self.widths)
        if not (vsini is None and vmac is None):
            inner = broaden(inner, velocity_step(self.inner), vsini=vsini, vmac=vmac)
        return even_cubic(inner, self.places - torch.log(doppler_factor(rv.double()))[:, None] / self.step)

    def compute(self, labels: NDArray[np.float64], seed: int, block: int) -> Spectra:
        """Return the observed spectra of at most ``BLOCK`` rows of labels (n, l)."""
        n, p, random, preset = len(labels), len(self.grid), generator(seed, NOISE, block), self.preset
        full = padded(labels)
        unit = random.uniform(size=BLOCK)
        rv = preset.rv_scatter * random.normal(size=BLOCK)
        waves = preset.continuum_error * random.normal(size=(BLOCK, WAVES)) / np.sqrt(WAVES)
        flux = random.standard_normal((BLOCK, p), dtype=np.float32)
        bad = random.random((BLOCK, p), dtype=np.float32) < preset.bad_pixels
        errors = random.normal(size=(BLOCK, len(preset.label_errors)))
        snr = self._snr(unit)
        flux /= snr[:, None].astype(np.float32)
        with torch.inference_mode():
            for start in range(0, n, ROWS):
                rows = slice(start, start + ROWS)
                clean = self.flux(torch.from_numpy(full[rows]), torch.from_numpy(rv[rows])).float()
                continuum = 1 + torch.from_numpy(waves[rows]).float() @ self.shapes
                flux[rows] += (clean * continuum).numpy()
        weight = np.where(np.isfinite(snr), snr**2, 1.0).astype(np.float32)
        ivar = weight[:, None] * ~bad
        low, high = preset.magnitudes
        facts = {"magnitude": low + (high - low) * unit, "snr": snr, "rv": rv}
        if not np.isfinite(snr).all():
            del facts["snr"]
        table = {name: values[:n] for name, values in facts.items()} | self._published(labels, errors[:n])
        return Spectra(
            self.grid,
            flux[:n],
            ivar[:n],
            table,
            "normalised flux",
            meta={"source": "simulated", "seed": seed},
        )

    def _snr(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ratio per pixel (n,) for positions in [0, 1] from the brightest to the faintest star."""
        bright, faint = self.preset.snr if self.snr is None else self.snr[::-1]
        if not np.isfinite([bright, faint]).all():
            return np.full(len(unit), np.inf)
        ratio = bright * (faint / bright) ** unit
        if self.snr is not None or self.preset.snr_width is None:
            return ratio
        return np.asarray(ratio * np.sqrt(np.median(self.grid.step) / self.preset.snr_width))

    def _published(self, labels: NDArray[np.float64], errors: NDArray[np.float64]) -> Columns:
        """Return published labels, their errors, and true labels as columns."""
        true = dict(zip(self.prior.names, labels.T, strict=True))
        true["alpha_fe"] = np.mean([true[name] for name in ALPHA], axis=0)
        table: Columns = {}
        for number, (name, sigma) in enumerate(self.preset.label_errors.items()):
            table[name] = true[name] + sigma * errors[:, number]
            table[f"{name}_err"] = np.full(len(labels), sigma)
            table[f"{name}_true"] = true[name]
        return {"alpha_fe": true["alpha_fe"], "extrapolated": self.stars.extrapolates(labels)} | table


def even_cubic(flux: Tensor, at: Tensor) -> Tensor:
    """Interpolate rows (n, p) at positions (n, q) in pixels, by cubics through four neighbouring pixels.

    This is :func:`draper.instrument.resample.cubic` for equally spaced pixels, without search or division.
    Positions beyond the last pixel but one take its value.
    """
    before, here, after, last = flux[:, :-3], flux[:, 1:-2], flux[:, 2:-1], flux[:, 3:]
    chord, first = after - here, (after - before) / 2
    third = torch.add(first + (last - here) / 2, chord, alpha=-2)
    second = chord - first - third
    left = (at.long() - 1).clamp(0, flux.shape[1] - 4)
    t = (at - 1 - left).to(flux.dtype).clamp(0, 1)
    zeroth, first, second, third = (torch.gather(c, 1, left) for c in (here, first, second, third))
    return torch.addcmul(zeroth, t, torch.addcmul(first, t, torch.addcmul(second, t, third)))
