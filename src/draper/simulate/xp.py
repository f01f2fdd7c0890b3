"""Stars as Gaia's photometers observe them: reddened XP spectra, with photometry and parallax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.labels import Label, LabelSet
from draper.data.spectra import Correlation, Spectra
from draper.errors import DraperError, did_you_mean
from draper.instrument.gaia_xp import SAMPLED, GaiaXP
from draper.simulate.base import (
    BLOCK,
    EXTRA,
    LABELS,
    NOISE,
    Columns,
    Simulator,
    generator,
    padded,
    require_ratios,
)
from draper.simulate.photometry import BANDS, magnitude_error, parallax_error
from draper.simulate.population import in_box
from draper.simulate.seds import Seds

FloatArray = NDArray[np.float64]
Values = TypeVar("Values", Tensor, FloatArray)

BLACK_BODY_ENDS = (11300.0, 56000.0)
"""Ends [Angstrom] of the black bodies that continue the spectra beyond the grid: in steps of 20 A up to the
first, in coarser ones up to the second."""

MEAN_EXTINCTION = 0.3
"""Mean of the exponential distribution of A_V [mag]."""

TRANSITS, TRANSITS_SCATTER, MIN_TRANSITS = 40.0, 12.0, 8.0
"""Mean, scatter and minimum of the number of transits of a star."""

COLOURS, MAGNITUDES = np.linspace(0.2, 3.4, 9), np.arange(8.0, 19.0)
"""BP - RP and G of the template stars, whose error correlations serve for all stars near them."""

SUN = {"gm": 1.32712440018e20, "radius": 6.957e8}
"""Nominal solar values (IAU 2015) [m3/s2, m]; planets use the values of the spectra they were fitted to."""
PARSEC = 3.0856775814913673e16
"""Length of a parsec [m]."""
SECOND_RADIATION = 1.438776877e8
"""Second radiation constant hc/k [Angstrom K]."""

JOINING = 3
"""Number of last pixels whose mean sets the level of the black body: a single one, of 20 A, may lie in a
line, and more would be affected by a slope that differs from that of the black body."""


@dataclass(frozen=True)
class Preset:
    """What is observed.

    Attributes
    ----------
    form
        Coefficients, or 343 pixels sampled from them.
    magnitudes
        Brightest and faintest G of drawn stars; magnitudes are uniform in between.
    """

    form: Literal["coefficients", "sampled"]
    magnitudes: tuple[float, float] = (9.0, 17.65)


PRESETS = {"gaia-xp": Preset("coefficients"), "gaia-xp-sampled": Preset("sampled")}
"""The presets by name; Gaia DR3 publishes XP spectra up to G = 17.65."""


def radius(logg: Values, mass: Values) -> Values:
    """Return the radius [m] of stars from surface gravity [dex(cm/s2)] and mass [solar].

    Examples
    --------
    >>> (radius(np.array([4.438]), np.array([1.0])) / SUN["radius"]).round(3)
    array([1.])
    """
    return (SUN["gm"] * mass / (10**logg / 100)) ** 0.5


class LowResolution(Simulator):
    """Gaia XP spectra of stars of the ``sed-grid``, with photometry and parallax.

    Labels are those of the grid, and ``mass`` [solar], ``a_v`` [mag] and ``magnitude`` (G, or the archive's
    ``phot_g_mean_mag``). The last three are drawn where a table of labels has no such column. Radius follows
    from ``logg`` and mass, distance from the rest.

    Parameters
    ----------
    preset
        One of :data:`PRESETS`, or your own preset.
    population
        ``galaxy`` draws stars of the discs and the halo, ``box`` draws labels uniformly from the region that
        the grid covers.
    snr
        Range (low, high) of signal-to-noise ratios of the first RP coefficient, log-uniform; by default they
        follow from magnitude and transits. Infinite means no noise: all weights are 1, and the errors of
        photometry and parallax are 0.
    r_v
        R_V of the extinction curve (Gordon et al. 2023).

    Examples
    --------
    >>> LowResolution().simulate(2, seed=1)
    Spectra(2 x 110 px, coefficients, bp_0 ... rp_54, columns: 42)
    """

    optional = ("mass", "a_v", "magnitude")
    synonyms: Mapping[str, str] = MappingProxyType({"phot_g_mean_mag": "magnitude"})

    def __init__(
        self,
        preset: str | Preset = "gaia-xp",
        *,
        population: Literal["galaxy", "box"] = "galaxy",
        snr: tuple[float, float] | None = None,
        r_v: float = 3.1,
    ) -> None:
        from astropy import units
        from dust_extinction.parameter_averages import G23

        if isinstance(preset, str):
            if preset not in PRESETS:
                raise DraperError("unknown preset", given=preset, hint=did_you_mean(preset, PRESETS))
            preset = PRESETS[preset]
        if population not in ("galaxy", "box"):
            raise DraperError("unknown population", given=population, expected="galaxy or box")
        low, high = G23.Rv_range
        if not low <= r_v <= high:
            raise DraperError(
                "R_V is outside the range of the extinction curve", given=r_v, expected=f"{low} to {high}"
            )
        self.preset, self.population, self.snr = preset, population, require_ratios(snr)
        self.noiseless = self.snr is not None and not np.isfinite(self.snr[1])
        self.xp, self.seds = GaiaXP(), Seds(torch.float64)
        self.grid = self.xp.grid if preset.form == "coefficients" else SAMPLED
        bright, faint = preset.magnitudes
        self.prior = LabelSet(
            [
                *self.seds.prior,
                Label("mass", low=0.8, high=1.2),
                Label("a_v", low=0.0, high=3.0),
                Label("magnitude", low=bright, high=faint),
            ]
        )
        own = self.seds.grid.vacuum
        red = np.arange(own[-1] + 20, BLACK_BODY_ENDS[0], 20)
        self.wavelength = np.concatenate([own, red, np.geomspace(red[-1] + 40, BLACK_BODY_ENDS[1], 60)])
        self.extinction = torch.from_numpy(np.asarray(G23(Rv=r_v)(self.wavelength * units.Angstrom)))
        self.project = self.xp.projection(self.wavelength)
        self._templates, self._roots = self._correlations()

    def draw(self, n: int, seed: int, block: int) -> Columns:
        """Draw the labels of the first n rows of a block."""
        if self.population == "box":
            stars = self.seds.draw(BLOCK, seed, block)
        else:
            drawn = in_box(self.seds.prior, BLOCK, generator(seed, LABELS, block))
            stars = {name: drawn[name] for name in ("component", "phase", *self.seds.prior.names)}
        # A separate stream: the box has used that of the labels.
        random = generator(seed, EXTRA, block)
        own = {
            "mass": random.uniform(self.prior["mass"].low, self.prior["mass"].high, size=BLOCK),
            "a_v": np.minimum(random.exponential(MEAN_EXTINCTION, size=BLOCK), self.prior["a_v"].high),
            "magnitude": random.uniform(*self.preset.magnitudes, size=BLOCK),
        }
        return {name: column[:n] for name, column in (stars | own).items()}

    def flux(self, labels: Tensor) -> Tensor:
        """Return spectra (n, m) [W/m2/nm] at 10 pc at ``wavelength``, reddened; differentiable.

        Parameters
        ----------
        labels : Tensor (n, 6)
            All labels of the prior except the magnitude.
        """
        labels = labels.double()
        star = dict(zip(self.prior.names[:-1], labels.T, strict=True))
        surface = self.seds.flux(labels[:, : len(self.seds.prior)])
        wavelength = torch.from_numpy(self.wavelength)
        p = surface.shape[1]
        black = 1 / (wavelength**5 * torch.expm1(SECOND_RADIATION / (wavelength * star["teff"][:, None])))
        last = slice(p - JOINING, p)
        level = surface[:, last].mean(dim=1, keepdim=True) / black[:, last].mean(dim=1, keepdim=True)
        whole = torch.cat([surface, level * black[:, p:]], dim=1)
        dilution = (radius(star["logg"], star["mass"]) / (10 * PARSEC)).square()[:, None]
        dust = 10 ** (-0.4 * star["a_v"][:, None] * self.extinction)
        # From erg/s/cm2/A to W/m2/nm.
        seen: Tensor = 0.01 * whole * dilution * dust
        return seen

    def coefficients(self, labels: Tensor) -> Tensor:
        """Return noiseless coefficients (n, 110) for labels (n, 7); differentiable."""
        near = self.project(self.flux(labels[:, :-1]))
        dimming = labels[:, -1] - self.xp.magnitude(near, "g")
        return near * 10 ** (-0.4 * dimming)[:, None]

    def compute(self, labels: NDArray[np.float64], seed: int, block: int) -> Spectra:
        """Return the observed spectra of at most ``BLOCK`` rows of labels (n, 7)."""
        self._require_physical(labels, block * BLOCK)
        n, random = len(labels), generator(seed, NOISE, block)
        full = padded(labels)
        star = dict(zip(self.prior.names, full.T, strict=True))
        transits = np.maximum(random.normal(TRANSITS, TRANSITS_SCATTER, size=BLOCK), MIN_TRANSITS).round()
        normal = torch.from_numpy(random.normal(size=(BLOCK, len(self.xp.grid))))
        unit = random.uniform(size=BLOCK)
        with torch.inference_mode():
            near = self.flux(torch.from_numpy(full[:, :-1]))
            at_10_pc = self.project(near)
            farther = star["magnitude"] - self.xp.magnitude(at_10_pc, "g").numpy()
            true = at_10_pc * torch.from_numpy(10 ** (-0.4 * farther))[:, None]
            covariance = self.xp.covariance(true, torch.from_numpy(transits))
            sigma = covariance.diagonal(dim1=1, dim2=2).sqrt()
            index = self._nearest(true)
            flux, ivar = self._noisy(true, sigma, normal, unit, index)
        measured = {name: self.xp.magnitude(true, name).numpy() for name in self.xp.passbands}
        measured |= {
            name: band.magnitude(self.wavelength, near.numpy()) + farther for name, band in BANDS.items()
        }
        table = {
            "radius": radius(star["logg"], star["mass"]) / SUN["radius"],
            "distance": 10 * 10 ** (0.2 * farther),
            **({"transits": transits} if self.snr is None else {}),
            **self._published(measured, farther, random),
        }
        coefficients = Spectra(
            self.xp.grid,
            flux[:n].numpy(),
            ivar[:n].numpy(),
            {name: column[:n] for name, column in table.items()}
            | {"extrapolated": self.seds.extrapolates(labels[:, : len(self.seds.prior)])},
            "coefficients",
            correlation=Correlation(self._templates, index[:n].numpy()),
            meta={"source": "simulated", "seed": seed},
        )
        if self.preset.form == "coefficients":
            return coefficients
        sampled = self.xp.resampled(coefficients)
        return replace(sampled, ivar=np.ones_like(sampled.flux)) if self.noiseless else sampled

    def _require_physical(self, labels: FloatArray, first: int) -> None:
        """Raise an error for unphysical labels (n, 7); the first row is number ``first`` of the table."""
        star = dict(zip(self.prior.names, labels.T, strict=True))
        for name, wrong, expected in (
            ("teff", star["teff"] <= 0, "above 0 K"),
            ("mass", star["mass"] <= 0, "above 0 solar masses"),
            ("a_v", star["a_v"] < 0, "0 mag or more"),
        ):
            for row in np.flatnonzero(wrong)[:1]:
                raise DraperError(
                    f"{name} of row {first + row} is unphysical",
                    given=f"{star[name][row]:g}",
                    expected=expected,
                    hint="correct this row of the table, or leave it out",
                )

    def _noisy(
        self, true: Tensor, sigma: Tensor, normal: Tensor, unit: FloatArray, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return coefficients with noise (n, 110), and their weights."""
        if self.snr is not None:
            low, high = self.snr
            if self.noiseless:
                return true.float(), torch.ones_like(true).float()
            wanted = torch.from_numpy(low * (high / low) ** unit)
            first = len(self.xp.bp)
            sigma = sigma * (true[:, first] / sigma[:, first] / wanted)[:, None]
        noise = torch.einsum("nij,nj->ni", self._roots[index], normal)
        return (true + sigma * noise).float(), (sigma**-2).float()

    def _published(self, measured: Columns, farther: FloatArray, random: np.random.Generator) -> Columns:
        """Return measured photometry and parallax, their errors, and the true values as columns."""
        facts = {f"{name}_mag": (values, magnitude_error(name, values)) for name, values in measured.items()}
        parallax = 100 * 10 ** (-0.2 * farther)
        facts["parallax"] = (parallax, parallax_error(measured["g"]))
        table: Columns = {}
        for name, (true, usual) in facts.items():
            error = np.zeros_like(usual) if self.noiseless else usual
            scatter = random.normal(size=len(true)) * error
            table |= {name: true + scatter, f"{name}_err": error, f"{name}_true": true}
        return table

    def _nearest(self, coefficients: Tensor) -> Tensor:
        """Return the number (n,) of the template that is nearest in colour and magnitude."""
        colour = self.xp.magnitude(coefficients, "bp") - self.xp.magnitude(coefficients, "rp")
        at = [
            (values[:, None] - torch.from_numpy(nodes)).abs().argmin(dim=1)
            for values, nodes in ((colour, COLOURS), (self.xp.magnitude(coefficients, "g"), MAGNITUDES))
        ]
        return at[0] * len(MAGNITUDES) + at[1]

    def _correlations(self) -> tuple[NDArray[np.float32], Tensor]:
        """Return the correlations (t, 110, 110) of errors of template stars, and their Cholesky factors.

        Stars of similar colour and magnitude share them, so that a file of many stars stays small. Template
        stars are dwarfs, reddened where no dwarf is red enough.
        """
        teff = np.linspace(self.prior["teff"].low, self.prior["teff"].high, 60)
        bare = np.stack([teff, *np.broadcast_to([[4.5], [0.0], [0.0], [1.0], [0.0]], (5, 60))], axis=1)
        dusty = bare[:1].repeat(60, axis=0)
        dusty[:, -1] = np.linspace(0, 2 * self.prior["a_v"].high, 60)
        with torch.inference_mode():
            coefficients = self.project(self.flux(torch.from_numpy(np.concatenate([bare, dusty]))))
            colour = self.xp.magnitude(coefficients, "bp") - self.xp.magnitude(coefficients, "rp")
            chosen = coefficients[(colour[None] - torch.from_numpy(COLOURS)[:, None]).abs().argmin(dim=1)]
            dimming = torch.from_numpy(MAGNITUDES) - self.xp.magnitude(chosen, "g")[:, None]
            stars = (chosen[:, None] * 10 ** (-0.4 * dimming)[:, :, None]).flatten(0, 1)
            covariance = self.xp.covariance(stars, torch.full((len(stars),), TRANSITS, dtype=torch.float64))
            sigma = covariance.diagonal(dim1=1, dim2=2).sqrt()
            related = (covariance / sigma[:, :, None] / sigma[:, None, :]).float()
        templates = related.numpy()
        # Read-only arrays are not copied, so that all blocks share them, in memory and on disk.
        templates.setflags(write=False)
        return templates, torch.linalg.cholesky(related.double())
