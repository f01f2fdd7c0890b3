"""Transmission spectra of hot Jupiters, with opacities fitted to spectra computed with TauREx.

R = 100, 0.44-16 um, H2O, CO2, CH4 and CO in H2 and He, 1000-2000 K; the packed ``error`` is the rms of each
bin over spectra that were held out of the fit. Clouds and haze are added analytically. Mass and radius act
through gravity and geometry alone, so that the box may be wider than that of the spectra.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet
from draper.data.resample import averaging
from draper.data.spectra import Spectra
from draper.errors import DraperError, did_you_mean
from draper.simulate.base import BLOCK, NOISE, Columns, Simulator, generator, padded, require_ratios
from draper.simulate.base import LABELS as LABEL_STREAM
from draper.simulate.planet_units import GASES
from draper.simulate.transit import (
    ROWS,
    Opacities,
    is_bound,
    log_pressures,
    pressure_terms,
    rows_together,
    transit_depth,
)


def _box(
    mass: tuple[float, float], temperature: tuple[float, float], radius: tuple[float, float]
) -> LabelSet:
    """Return the labels of planets in a box: radius at 10 bar, abundances as volume mixing ratios."""
    return LabelSet(
        [
            Label("planet_mass", "MJ", *mass),
            Label("temperature", "K", *temperature),
            Label("planet_radius", "RJ", *radius),
            *(Label(f"log_{gas}", "dex", -8, -1) for gas in GASES),
        ]
    )


LABELS = _box((0.8, 2.0), (1000, 2000), (0.8, 1.5))
"""Labels and box of the spectra to which the opacities were fitted."""

WIDE = _box((0.1, 5.0), (500, 2500), (0.4, 2.0))
"""The same labels in a box that holds most planets with known spectra, which must also be bound."""

BOXES = {"wide": WIDE, "exogan": LABELS}
"""Boxes by name."""

CLOUD = Label("log_cloud_top", "dex(bar)", -5, 1)
"""Pressure at the top of an opaque deck; at 10 bar there is no cloud."""

HAZE = Label("log_haze", "dex", 0, 4)
"""Factor by which Rayleigh scattering is enhanced."""


@cache
def packed() -> dict[str, NDArray[Any]]:
    """Return the arrays of the package: those of ``Opacities``, and the held-out ``error`` (p,) [ppm]."""
    path = files("draper.simulate").joinpath("packed", "planet-opacities.npz")
    with as_file(path) as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def opacities(dtype: torch.dtype = torch.float32) -> Opacities:
    """Return the opacities fitted to TauREx's spectra by ``scripts/fit_planets.py``.

    Examples
    --------
    >>> len(opacities().wavelength)
    362
    """
    arrays = packed()
    return Opacities(*(torch.from_numpy(arrays[name]).to(dtype) for name in Opacities._fields))


class Instrument(NamedTuple):
    """Bins and error bars of an instrument.

    Attributes
    ----------
    pieces : tuple of (low, high, number)
        Ranges [um] and their number of bins, of equal ratio and none narrower than R = 100.
    error : float
        Error of a bin [ppm], independent between bins: a rounded value for a hot Jupiter of a bright star,
        not a measurement; ``error=`` replaces it.
    """

    pieces: tuple[tuple[float, float, int], ...]
    error: float

    @property
    def edges(self) -> NDArray[np.float64]:
        """Lower and upper edges (p, 2) of the bins [um]."""
        ends = [np.geomspace(low, high, number + 1) for low, high, number in self.pieces]
        return np.concatenate([np.stack([end[:-1], end[1:]], axis=1) for end in ends])


INSTRUMENTS = {
    "hst-wfc3-g141": Instrument(((1.12, 1.65, 18),), 40.0),
    "jwst-nirspec-prism": Instrument(((0.6, 5.3, 150),), 50.0),
    "jwst-niriss-soss": Instrument(((0.85, 2.8, 100),), 40.0),
    "ariel-tier2": Instrument(
        ((0.5, 0.6, 1), (0.6, 0.8, 1), (0.8, 1.1, 1), (1.1, 1.95, 6), (1.95, 3.9, 34), (3.9, 7.8, 7)), 40.0
    ),
}
"""Presets with the wavelength ranges of the instruments and typical binning."""


@cache
def native_edges() -> NDArray[np.float64]:
    """Return the edges (362, 2) of the bins of R = 100 [um]."""
    centre = packed()["wavelength"].astype(np.float64)
    half = np.sqrt(centre[1] / centre[0])
    return np.stack([centre / half, centre * half], axis=1)


def _grid(edges: NDArray[np.float64]) -> Grid:
    """Return the grid of bins with edges (p, 2) [um]."""
    centre = np.sqrt(edges[:, 0] * edges[:, 1])
    power = centre / (edges[:, 1] - edges[:, 0])
    return Grid.from_wavelength(centre, unit="um", medium="vacuum", edges=edges, resolving_power=power)


class Planets(Simulator):
    """Transit depths of hot Jupiters, clear by default, optionally with clouds and haze.

    Parameters
    ----------
    instrument
        One of ``INSTRUMENTS``; by default all 362 bins of R = 100, 0.44-16 um.
    error
        1-sigma error of each bin [ppm], with noise drawn from it; by default the instrument's, or 0 without
        an instrument.
    snr
        Range (low, high) of ratios of the median depth to the error of a bin, log-uniform, in place of
        ``error``; infinite for no noise.
    box
        ``wide``: 0.1-5 Jupiter masses, 0.4-2 Jupiter radii, 500-2500 K. ``exogan``: 0.8-2 Jupiter masses,
        0.8-1.5 Jupiter radii, 1000-2000 K, the box of the spectra to which the opacities were fitted. Labels
        are drawn uniformly from the part of the box whose atmospheres are bound
        (:func:`~draper.simulate.transit.is_bound`). Outside 1000-2000 K opacities are those at the nearer
        end.
    star_radius
        Radius of the star [solar radii], a known number, which becomes a column; 0.2-2.5 is usual.
    exact_weight
        Whether gases displace H2 and He in the mean molecular weight, as in nature. They do not in the
        spectra to which the model was fitted; the difference matters at abundances above one percent.
    clouds, haze
        Whether ``log_cloud_top`` and ``log_haze`` are labels.

    Examples
    --------
    >>> Planets("hst-wfc3-g141").simulate(3, seed=1)
    Spectra(3 x 18 px, transit depth, 11321.190-16323.372 A vacuum, columns: 10)
    """

    def __init__(
        self,
        instrument: str | None = None,
        *,
        error: float | None = None,
        snr: tuple[float, float] | None = None,
        box: Literal["wide", "exogan"] = "wide",
        star_radius: float = 1.0,
        exact_weight: bool = False,
        clouds: bool = False,
        haze: bool = False,
    ) -> None:
        if instrument is not None and instrument not in INSTRUMENTS:
            raise DraperError(
                "unknown instrument", given=instrument, hint=did_you_mean(instrument, INSTRUMENTS)
            )
        if box not in BOXES:
            raise DraperError("unknown box", given=box, expected=" or ".join(BOXES))
        for name, value in (("error", error or 1.0), ("star_radius", star_radius)):
            if not (np.isfinite(value) and value > 0):
                raise DraperError(f"{name} must be positive", given=value, expected="a number above 0")
        preset = None if instrument is None else INSTRUMENTS[instrument]
        self.instrument, self.star_radius, self.exact_weight = instrument, star_radius, exact_weight
        if error is not None and snr is not None:
            raise DraperError(
                "error and snr exclude each other", given=f"{error} ppm, {snr}", hint="give one of them"
            )
        self.snr = require_ratios(snr)
        self.settings: dict[str, Any] = {
            "instrument": instrument,
            "error": error,
            "snr": None if self.snr is None else ",".join(map(str, self.snr)),
            "box": box,
            "star_radius": star_radius,
            "exact_weight": exact_weight,
            "clouds": clouds,
            "haze": haze,
        }
        self.error = error if error is not None else 0.0 if preset is None else preset.error
        self.prior = LabelSet([*BOXES[box], *[CLOUD] * clouds, *[HAZE] * haze])
        self.opacities = opacities()
        native = _grid(native_edges())
        self.grid = native if preset is None else _grid(preset.edges)
        # A wider bin is the mean over wavelength: the spectrum of the star is assumed constant within it.
        self.binning = None if preset is None else averaging(native, self.grid)
        # Errors of neighbouring bins of the model are correlated, so they do not average out in a wider bin.
        model = packed()["error"].astype(np.float64)
        model = model if self.binning is None else self.binning @ model
        self.model_error = 1e-6 * model / star_radius**2
        self.terms = pressure_terms(log_pressures(dtype=torch.float32), *self.opacities[-3:])

    def draw(self, n: int, seed: int, block: int) -> Columns:
        """Draw the labels of the first n rows of a block: uniform in the bound part of the box."""
        random = generator(seed, LABEL_STREAM, block)
        labels = self.prior.unscale(random.uniform(size=(BLOCK, len(self.prior))))
        while not (bound := self._bound(labels)).all():
            again = self.prior.unscale(random.uniform(size=(BLOCK, len(self.prior))))
            labels = np.where(bound[:, None], labels, again)
        return dict(zip(self.prior.names, labels[:n].T, strict=True))

    def depth(self, labels: Tensor, bins: slice | None = None) -> Tensor:
        """Return transit depths (b, p) in front of a star of one solar radius, on the bins of R = 100.

        Differentiable in the labels unless gradients are off (``torch.no_grad``), which is several times
        faster. With gradients, memory grows with the number of planets: some 3 MB each for 220 bins.

        Parameters
        ----------
        labels
            Labels (b, l) in the order of ``prior``.
        bins
            Which of the 362 bins; all by default.

        Examples
        --------
        >>> planets = Planets(clouds=True)
        >>> labels = torch.tensor([[1.0, 1500.0, 1.2, -3.0, -5.0, -5.0, -3.0, -2.0]])
        >>> planets.depth(labels, slice(0, 3))
        tensor([[0.0153, 0.0153, 0.0153]])
        """
        bins = slice(None) if bins is None else bins
        part = Opacities(*(part[..., bins].contiguous() for part in self.opacities))
        terms = (self.terms[0][..., bins], self.terms[1][..., bins])
        depths = []
        for rows in torch.split(labels, max(BLOCK, rows_together(terms[0].shape[-1]))):
            extra = dict(zip(self.prior.names[7:], rows.T[7:], strict=True))
            depths.append(
                transit_depth(
                    rows[:, :7],
                    part,
                    cloud_top=extra.get(CLOUD.name),
                    haze=extra.get(HAZE.name),
                    exact_weight=self.exact_weight,
                    terms=terms,
                    in_place=not torch.is_grad_enabled(),
                )
            )
        return torch.cat(depths)

    def compute(self, labels: NDArray[np.float64], seed: int, block: int) -> Spectra:
        """Return the spectra of labels (n, l); ivar holds the error bars and the error of the model."""
        self._require_atmosphere(labels)
        # Always whole groups of rows, so that chunks agree.
        rows = -(-len(labels) // ROWS) * ROWS
        with torch.no_grad():
            native = self.depth(torch.from_numpy(padded(labels, rows))).double().numpy()
        depth = native if self.binning is None else (self.binning @ native.T).T
        depth = depth[: len(labels)] / self.star_radius**2
        random = generator(seed, NOISE, block)
        error = np.full(len(depth), 1e-6 * self.error)
        noise = random.standard_normal((BLOCK, depth.shape[1]))[: len(depth)]
        if self.snr is not None:
            low, high = self.snr
            ratio = (
                low * (high / low) ** random.uniform(size=BLOCK)
                if np.isfinite(high)
                else np.full(BLOCK, high)
            )
            error = np.median(depth, axis=1) / ratio[: len(depth)]
        depth = depth + error[:, None] * noise
        return Spectra(
            self.grid,
            depth,
            1 / (error[:, None] ** 2 + self.model_error**2),
            # A column, which every format keeps: depths mean nothing without the star.
            {"star_radius": np.full(len(depth), self.star_radius, dtype=np.float64)},
            quantity="transit depth",
            meta={
                "source": __name__,
                "opacity": "distilled from the TauREx spectra of the training set of ExoGAN",
                "instrument": self.instrument or "none",
                "exact_weight": self.exact_weight,
            },
        )

    def _bound(self, labels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows of labels (n, l) are of bound atmospheres."""
        bound = is_bound(torch.from_numpy(labels[:, :7]), self.exact_weight)
        return np.asarray(bound.numpy())

    def _require_atmosphere(self, labels: NDArray[np.float64]) -> None:
        """Raise an error for labels (n, l) of planets that the model cannot compute."""
        with np.errstate(all="ignore"):
            possible = np.isfinite(labels).all(1) & (labels[:, :3] > 0).all(1)
            possible &= (10.0 ** labels[:, 3:7]).sum(1) < 1
        for row in np.flatnonzero(~(possible & self._bound(labels)))[:1]:
            values = zip(self.prior.names, labels[row], strict=True)
            raise DraperError(
                f"planet {row} of a block cannot be computed",
                given=", ".join(f"{name}={value:g}" for name, value in values),
                expected="mass, temperature, radius > 0, abundances that sum to < 1, a bound atmosphere",
                hint="correct it or leave it out; a light, hot, large planet does not hold its atmosphere",
            )
