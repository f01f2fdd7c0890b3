"""Made stars for benchmarks of the Translator, whose truth is known, and the simplest methods to translate.

Levels are described in :mod:`translator`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor

import draper
from draper import Grid, Spectra
from draper.infer.forward import ForwardModel
from draper.instrument.doppler import SPEED_OF_LIGHT
from draper.instrument.observed import at_resolving_power
from draper.models.emulator.model import Emulator
from draper.models.translator.fitted import level_of
from draper.models.translator.line_mask import LineMask

Array = NDArray[np.float64]

DEGREE = 3
"""Degree of the continuum."""

POWER = 24_000.0
"""Resolving power of the line spread: a Gaussian of 1.5 pixels (1 sigma) in the middle."""

SNR = (50.0, 200.0)
"""Range of the S/N per pixel of stars."""

CENTRES = {"teff": 5000.0, "logg": 3.0, "fe_h": -0.5, "vmic": 1.5}
WIDTHS = {"teff": 500.0, "logg": 0.9, "fe_h": 0.4, "vmic": 0.3, "ni_fe": 0.07}
OTHERS = (0.1, 0.15)
"""Mean and standard deviation of labels; those of [X/Fe] that are not named."""

SHIFT = {"teff": 500.0, "fe_h": 0.35}
"""By how much observed stars differ from synthetic ones in L2 and L3."""

TELLURIC, BLENDS = 40, 30
"""Telluric lines, and lines that blend."""


@dataclass(frozen=True)
class World:
    """The emulator on 2,401 pixels.

    Attributes
    ----------
    model
        From labels to flux.
    """

    model: ForwardModel

    @classmethod
    def make(cls) -> World:
        """Return the built-in emulator, linearly interpolated."""
        own = draper.load("builtin:rvs-emulator")
        assert isinstance(own, Emulator)
        grid = Grid.linear(8460, 8700, 0.1, medium="vacuum")
        place = np.interp(grid.vacuum, own.own_grid.vacuum, np.arange(len(own.own_grid)))
        first = torch.from_numpy(place.astype(np.int64))
        share = torch.from_numpy((place - place.astype(np.int64)).astype(np.float32))
        low, high = torch.from_numpy(own.labels.low), torch.from_numpy(own.labels.high)

        def function(values: Tensor) -> Tensor:
            flux = own.network(((values - low) / (high - low) - 0.5).float())
            result: Tensor = flux[:, first] * (1 - share) + flux[:, first + 1] * share
            return result

        return cls(ForwardModel.from_function(function, grid, own.labels))

    def draw(self, n: int, seed: int, *, shifted: bool) -> Array:
        """Return labels (n, d) of random stars, inside the emulator's range."""
        random, labels = np.random.default_rng(seed), self.model.labels
        names = labels.names
        middle = [CENTRES.get(name, OTHERS[0] * (name != "ni_fe")) for name in names]
        width = [WIDTHS.get(name, OTHERS[1]) for name in names]
        values = np.array(middle) + np.array(width) * random.normal(size=(n, len(names)))
        values += [SHIFT.get(name, 0.0) * shifted for name in names]
        edge = 0.02 * (labels.high - labels.low)
        return np.asarray(np.clip(values, labels.low + edge, labels.high - edge), dtype=np.float64)

    def spectra(self, values: Array) -> Spectra:
        """Return noiseless spectra of labels (n, d), with them in the table."""
        x = torch.from_numpy((self.model.labels.scale(values) - 0.5).astype(np.float32))
        with torch.no_grad():
            flux = torch.cat([self.model.function(rows) for rows in torch.split(x, 256)]).numpy()
        table = dict(zip(self.model.labels.names, values.T, strict=True))
        return Spectra(self.model.grid, flux, np.ones_like(flux), table, "normalised flux")


# ------------------------------------------------------------------ made observed spectra


@dataclass(frozen=True)
class Level:
    """How observed spectra of one level differ from synthetic ones.

    Attributes
    ----------
    name
        L0 to L4.
    world, mask
        Spectra, and the features that synthetic ones lack.
    """

    name: str
    world: World
    mask: LineMask

    @property
    def number(self) -> int:
        """What has been added: 0 (nothing; also L4) to 3."""
        return 0 if self.name == "L4" else int(self.name[1])

    def synthetic(self, values: Array) -> Spectra:
        """Return synthetic spectra of labels (n, d), with the line spread of the instrument."""
        return self._spread(self.mask.apply(self.world.spectra(values)))

    def _spread(self, spectra: Spectra) -> Spectra:
        return at_resolving_power(spectra, POWER) if self.number else spectra

    def truth(self, values: Array, velocity: Array | float = 0.0) -> Array:
        """Return noiseless spectra (n, p) without continuum and telluric lines."""
        flux = self._spread(self._blended(values)).flux.astype(np.float64)
        if self.number < 3:
            return np.asarray(flux, dtype=np.float64)
        wavelength = self.world.model.grid.vacuum
        factor = np.broadcast_to(1 + np.asarray(velocity) / SPEED_OF_LIGHT, len(flux))
        moved = [np.interp(wavelength, wavelength * f, row) for f, row in zip(factor, flux, strict=True)]
        response = 0.1  # A saturating detector: deep lines are seen less deep.
        return (1 + response) * np.array(moved) / (1 + response * np.array(moved))

    def _blended(self, values: Array) -> Spectra:
        """Return spectra with the lines of L3 that no synthetic spectrum has."""
        spectra = self.world.spectra(values)
        if self.number < 3:
            return spectra
        names = self.world.model.labels.names
        growth = 10 ** (0.5 * (values[:, names.index("fe_h")] + 0.5))
        growth *= np.exp(-(values[:, names.index("teff")] - 5000) / 1500)
        depth = self._lines(BLENDS, 0.06, seed=11)
        return replace(spectra, flux=(spectra.flux * np.exp(-growth[:, None] * depth)).astype(np.float32))

    def _lines(self, count: int, deepest: float, seed: int) -> Array:
        """Return optical depths (p,) of lines at random places, always the same."""
        random, wavelength = np.random.default_rng(seed), self.world.model.grid.vacuum
        centres = random.uniform(wavelength[0], wavelength[-1], count)
        profile = np.exp(-0.5 * ((wavelength[:, None] - centres) / 0.2) ** 2)
        return np.asarray(profile @ (deepest * random.random(count)), dtype=np.float64)

    @property
    def telluric(self) -> Array:
        """Return optical depths (p,) of telluric lines of mean strength."""
        return self._lines(TELLURIC, 0.015, seed=12) * (self.number > 0)

    def observed(self, values: Array, seed: int) -> Spectra:
        """Return noisy observed spectra of labels (n, d), without a table."""
        random, n = np.random.default_rng(seed), len(values)
        flux = self.truth(values, random.normal(size=n) * (self.number > 2))
        flux *= np.exp(-random.uniform(0.5, 1.5, (n, 1)) * self.telluric)
        if self.number:
            x = np.linspace(-1, 1, flux.shape[1])
            flux *= 1 + 0.01 * random.normal(size=(n, 4)) @ np.polynomial.legendre.legvander(x, 3).T
        snr = random.uniform(*SNR, (n, 1))
        noisy = flux + random.normal(size=flux.shape) / snr
        ivar = np.broadcast_to(snr**2, flux.shape).astype(np.float32)
        return Spectra(self.grid, noisy.astype(np.float32), ivar.copy(), {}, "normalised flux")

    @property
    def grid(self) -> Grid:
        """Pixels, with the resolving power if there is a line spread."""
        grid = self.world.model.grid
        return replace(grid, resolving_power=POWER) if self.number else grid


@dataclass(frozen=True)
class Data:
    """Training sets of different stars, and test pairs.

    Attributes
    ----------
    level
        Where they are from.
    synthetic, observed
        Training spectra; ``observed_labels`` (n, d) are those of the latter, which methods do not see.
    inputs, test
        Synthetic and observed spectra with ``labels`` (m, d).
    """

    level: Level
    synthetic: Spectra
    observed: Spectra
    observed_labels: Array
    inputs: Spectra
    test: Spectra
    labels: Array

    @classmethod
    def make(cls, level: Level, n: int, m: int, seed: int) -> Data:
        """Return n training spectra of each kind, and m test pairs."""
        shifted = level.number > 1
        first = level.world.draw(n, 10 * seed + 1, shifted=False)
        second = level.world.draw(n, 10 * seed + 2, shifted=shifted)
        third = level.world.draw(m, 10 * seed + 3, shifted=shifted)
        return cls(
            level,
            level.synthetic(first),
            level.observed(second, 10 * seed + 4),
            second,
            level.synthetic(third),
            level.observed(third, 10 * seed + 5),
            third,
        )

    def anchored(self, count: int) -> Spectra:
        """Return the observed spectra, some of which have labels."""
        if not count:
            return self.observed
        known = np.arange(len(self.observed)) < count
        names = self.level.world.model.labels.names
        columns = zip(names, self.observed_labels.T, strict=True)
        return self.observed.with_columns(
            **{name: np.where(known, column, np.nan) for name, column in columns}
        )

    def excess(self, flux: Array) -> float:
        """Return chi2 per degree of freedom, minus 1, of spectra (m, p) against the observed test spectra."""
        x = np.linspace(-1, 1, flux.shape[1])
        basis = np.polynomial.legendre.legvander(x, DEGREE)
        total = 0.0
        for model, seen, ivar in zip(flux, self.test.flux, self.test.ivar, strict=True):
            columns = model[:, None] * basis
            if self.level.number > 2:
                columns = np.column_stack([columns, np.gradient(model)])
            root = np.sqrt(ivar.astype(np.float64))
            best = np.linalg.lstsq(columns * root[:, None], seen * root, rcond=None)[0]
            total += np.sum(ivar * (seen - columns @ best) ** 2) / (len(seen) - columns.shape[1])
        return float(total / len(flux) - 1)


# --------------------------------------------------------------------------- methods


def normalised(spectra: Spectra) -> Array:
    """Return flux (n, p) over a cubic continuum."""
    level = level_of(spectra.flux, spectra.ivar, DEGREE)
    return np.asarray(spectra.flux / level, dtype=np.float64)


def mean_shift(data: Data) -> Array:
    """Return test spectra plus the difference of the mean spectra."""
    shift = normalised(data.observed).mean(0) - normalised(data.synthetic).mean(0)
    return np.asarray(normalised(data.inputs) + shift, dtype=np.float64)


def inpainted(data: Data, components: int = 30) -> Array:
    """Return test spectra whose pixels that differ (t test of the means) are predicted by those that do not.

    Probabilistic PCA (Tipping & Bishop 1999) of observed spectra; at most half of the pixels are replaced.
    """
    seen, made, result = normalised(data.observed), normalised(data.synthetic), normalised(data.inputs)
    error = np.sqrt(seen.var(0) / len(seen) + made.var(0) / len(made)).clip(1e-9)
    height = np.abs(seen.mean(0) - made.mean(0)) / error
    differ = height > max(5.0, float(np.median(height)))
    mean = seen.mean(0)
    _, size, direction = np.linalg.svd(seen - mean, full_matrices=False)
    variance = size**2 / len(seen)
    noise = variance[components:].sum() / (seen.shape[1] - components)
    loadings = np.sqrt((variance[:components] - noise).clip(0))[:, None] * direction[:components]
    same = loadings[:, ~differ]
    precision = same @ same.T + noise * np.eye(components)
    scores = np.linalg.solve(precision, same @ (result - mean)[:, ~differ].T).T
    result[:, differ] = (mean + scores @ loadings)[:, differ]
    return result


def transported(data: Data, components: int = 40) -> Array:
    """Return test spectra moved by optimal transport between Gaussians, in principal components of both."""
    seen, made, given = normalised(data.observed), normalised(data.synthetic), normalised(data.inputs)
    both = np.concatenate([seen - seen.mean(0), made - made.mean(0)])
    basis = np.linalg.svd(both, full_matrices=False)[2][:components]
    variance = np.mean(1 / data.observed.ivar.astype(np.float64))
    first = np.cov((made - made.mean(0)) @ basis.T, rowvar=False) + 1e-9 * np.eye(components)
    second = np.cov((seen - seen.mean(0)) @ basis.T, rowvar=False) - variance * np.eye(components)
    values, vectors = np.linalg.eigh(second)
    second = (vectors * values.clip(1e-9)) @ vectors.T
    root = np.real(sqrtm(first))
    inverse = np.linalg.inv(root)
    matrix = inverse @ np.real(sqrtm(root @ second @ root)) @ inverse
    scores = (given - made.mean(0)) @ basis.T
    # What components do not hold stays that of the synthetic spectrum.
    rest = given - made.mean(0) - scores @ basis
    return np.asarray(seen.mean(0) + scores @ matrix @ basis + rest, dtype=np.float64)


def paired_regression(data: Data, components: int = 60) -> Array:
    """Return what a ridge regression makes of test spectra that was trained on pairs: an upper bound."""
    pairs = normalised(data.level.synthetic(data.observed_labels))
    seen, given, mean = normalised(data.observed), normalised(data.inputs), pairs.mean(0)
    basis = np.linalg.svd(pairs - mean, full_matrices=False)[2][:components]
    x = np.column_stack([np.ones(len(pairs)), (pairs - mean) @ basis.T])
    weight = np.linalg.solve(x.T @ x + 1e-4 * np.eye(x.shape[1]), x.T @ seen)
    return np.asarray(np.column_stack([np.ones(len(given)), (given - mean) @ basis.T]) @ weight)


def identity(data: Data) -> Array:
    """Return the synthetic test spectra."""
    return np.asarray(data.inputs.flux.astype(np.float64), dtype=np.float64)


BASELINES: dict[str, Callable[[Data], Array]] = {
    "identity": identity,
    "mean shift": mean_shift,
    "PPCA inpainting": inpainted,
    "Gaussian optimal transport": transported,
    "paired regression (sees pairs)": paired_regression,
}
