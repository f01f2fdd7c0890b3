"""Fit a real Gaia RVS spectrum with simulated stars and draw the figures of docs/reference/simulators.md.

python scripts/plot_simulators.py SPECTRUM [OUT]

SPECTRUM is Kepler-93.csv; kepler-93.png and population.png are written into OUT (docs/images).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import least_squares

from draper import read
from draper.data.labels import ALPHA
from draper.data.spectra import Spectra
from draper.plots.style import STYLE, new_figure
from draper.simulate.population import GALAXY, galactic, microturbulence
from draper.simulate.stars import Stars
from draper.simulate.survey import PRESETS, Survey

Array = NDArray[np.float64]

FREE = ("teff", "logg", "fe_h", "alpha_fe", "rv")
START = np.array([5500.0, 4.0, -0.2, 0.0, 0.0])
SCALE = np.array([100.0, 0.1, 0.1, 0.1, 1.0])
LOW, HIGH = (4000.0, 0.5, -2.5, -0.3, -150.0), (7000.0, 5.0, 0.5, 0.6, 150.0)

CALCIUM = (8500.35, 8544.44, 8664.52)
"""Vacuum wavelengths [Angstrom] of the triplet."""

SIZE = 2000
"""Number of stars of the population."""


@dataclass(frozen=True)
class Fit:
    """The best-fitting model of a spectrum.

    Attributes
    ----------
    labels : dict
        Best values of ``FREE``.
    wavelength, observed, model : ndarray (p,)
        The good pixels: vacuum Angstrom, the spectrum over its continuum, and the model.
    rms : float
        Rms of their difference.
    """

    labels: dict[str, float]
    wavelength: Array
    observed: Array
    model: Array
    rms: float


def fit(spectra: Spectra, *, vsini: float | None = None, vmac: float | None = None) -> Fit:
    """Fit labels, velocity and a quadratic continuum to one spectrum, with its errors as weights.

    The alpha elements are one label; nickel follows iron, and microturbulence a typical relation.
    """
    survey = Survey(
        replace(PRESETS["ideal"], grid=spectra.grid), vsini=vsini, vmac=vmac, stars=Stars(torch.float64)
    )
    good = np.asarray(spectra.ivar[0] > 0)
    wavelength, observed = spectra.grid.vacuum[good], spectra.flux[0, good].astype(np.float64)
    weight = np.sqrt(spectra.ivar[0, good].astype(np.float64))
    powers = np.linspace(-1, 1, len(good))[good, None] ** np.arange(3)

    def models(values: Array) -> Array:
        """Return the models (n, p) of values (n, 5)."""
        table = dict(zip(FREE, values.T, strict=True)) | {"ni_fe": np.zeros(len(values))}
        table["vmic"] = microturbulence(table["teff"], table["logg"])
        table |= dict.fromkeys(ALPHA, table["alpha_fe"])
        labels = torch.from_numpy(survey.prior.read(table))
        return np.asarray(survey.flux(labels, torch.from_numpy(values[:, -1])).numpy()[:, good])

    def continuum(flux: Array) -> Array:
        best = np.linalg.lstsq((weight * flux)[:, None] * powers, weight * observed, rcond=None)[0]
        return np.asarray(powers @ best)

    def residuals(values: Array) -> Array:
        return np.stack([weight * (observed - continuum(flux) * flux) for flux in models(values)])

    def slopes(values: Array) -> Array:
        """Return the derivatives (p, 5) by differences, with all models in one batch."""
        steps = 1e-4 * np.diag(SCALE)
        ahead, behind = np.split(residuals(np.concatenate([values + steps, values - steps])), 2)
        return np.asarray((ahead - behind).T / (2e-4 * SCALE))

    best = least_squares(
        lambda values: residuals(values[None])[0], START, slopes, bounds=(LOW, HIGH), x_scale=SCALE
    )
    flux = models(best.x[None])[0]
    observed = observed / continuum(flux)
    rms = float(np.sqrt(np.mean((observed - flux) ** 2)))
    return Fit(dict(zip(FREE, best.x.tolist(), strict=True)), wavelength, observed, flux, rms)


def draw_fit(best: Fit, name: str) -> Figure:
    """Draw a spectrum and its model, and below the residuals."""
    figure = new_figure(2, width=10, height=4.6)
    upper, lower = figure.axes
    upper.get_subplotspec().get_gridspec().set_height_ratios((3, 1))  # type: ignore[union-attr]
    upper.sharex(lower)
    upper.tick_params(labelbottom=False)
    left = 100 * (best.observed - best.model)
    wavelength, observed, model, left = with_gaps(best.wavelength, best.observed, best.model, left)
    upper.plot(wavelength, observed, color="0.25", linewidth=1.1, label="observed")
    upper.plot(wavelength, model, color="C3", linewidth=0.8, label="model")
    lower.axhline(0, color="C3", linewidth=0.8)
    lower.plot(wavelength, left, color="0.25", linewidth=0.7)
    for line in CALCIUM:
        upper.plot([line, line], [1.055, 1.085], color="0.45", linewidth=0.8)
        upper.text(line, 1.095, "Ca II", ha="center", va="bottom", fontsize=8, color="0.35")
    values = best.labels
    upper.set_title(
        f"{name}, Gaia RVS:  $T_\\mathrm{{eff}}$ = {values['teff']:.0f} K,  log g = {values['logg']:.2f},  "
        f"[Fe/H] = {values['fe_h']:.2f}",
        loc="left",
        fontsize=10,
    )
    upper.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=2, borderaxespad=0.3)
    upper.set(ylim=(0.35, 1.17), yticks=(0.4, 0.6, 0.8, 1.0), ylabel="normalised flux")
    lower.set(
        xlim=(wavelength[0], wavelength[-1]),
        ylim=(-4.5, 4.5),
        yticks=(-4, 0, 4),
        xlabel="vacuum wavelength [Angstrom]",
        ylabel="difference [%]",
    )
    lower.text(
        1,
        1.02,
        f"rms {100 * best.rms:.2f} %",
        ha="right",
        va="bottom",
        fontsize=8,
        color="0.35",
        transform=lower.transAxes,
    )
    figure.align_ylabels()
    return figure


def with_gaps(wavelength: Array, *values: Array) -> tuple[Array, ...]:
    """Return values with NaN at missing pixels, so that no line is drawn across gaps."""
    gaps = 1 + np.flatnonzero(np.diff(wavelength) > 1.5 * np.median(np.diff(wavelength)))
    return np.insert(wavelength, gaps, wavelength[gaps - 1]), *(np.insert(v, gaps, np.nan) for v in values)


def draw_population(size: int) -> Figure:
    """Draw the Kiel diagram and the [Fe/H]-[alpha/Fe] diagram of a population."""
    stars = galactic(size, np.random.default_rng(0))
    figure = new_figure(1, 2, width=10, height=4.4)
    kiel, plane = figure.axes
    points = kiel.scatter(
        stars["teff"], stars["logg"], c=stars["fe_h"], s=5, cmap="viridis", vmin=-1, vmax=0.4, linewidths=0
    )
    figure.colorbar(points, ax=kiel, label="[Fe/H]", pad=0.02, extend="min")
    kiel.set(xlim=(6900, 3600), ylim=(5.1, 0.1), xlabel="$T_\\mathrm{eff}$ [K]", ylabel="log g")
    for number, (name, color) in enumerate(zip(GALAXY, ("C0", "C1", "C3"), strict=True)):
        part = stars["component"] == number
        plane.scatter(
            stars["fe_h"][part], stars["alpha_fe"][part], s=5, color=color, linewidths=0, label=name
        )
    plane.set(xlabel="[Fe/H]", ylabel="[$\\alpha$/Fe]")
    plane.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, markerscale=2.5, borderaxespad=0.3)
    return figure


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images")
    out.mkdir(parents=True, exist_ok=True)
    best = fit(read(source))
    print({name: round(value, 3) for name, value in best.labels.items()}, f"rms {best.rms:.3%}")
    with rc_context(STYLE):
        draw_fit(best, source.stem).savefig(out / "kepler-93.png")
        draw_population(SIZE).savefig(out / "population.png")


if __name__ == "__main__":
    main()
