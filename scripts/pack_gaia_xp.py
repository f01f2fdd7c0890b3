"""Pack the description of Gaia's photometers for draper.instrument.gaia_xp, and fit noise and decay curves.

python scripts/pack_gaia_xp.py CONFIG STARS... [-o OUT]

CONFIG is the folder ``config`` of an installed GaiaXPy (BSD-3-Clause; its licence is kept beside the file).
STARS are tables of mean spectra from the archive (continuous form). Only two smooth curves per photometer are
derived from these stars: the decrease of the coefficients with order, and the dependence of errors on it.
"""

from __future__ import annotations

import argparse
import csv
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d
from scipy.optimize import least_squares

from draper.data.io import read
from draper.instrument.gaia_xp import SAMPLES, Photometer, Projection

FloatArray = NDArray[np.float64]

MODELS = {"bp": "bpC03_v375wi", "rp": "rpC03_v142r"}
PASSBANDS = "XpFilter_GaiaDr3Vega_v375wiv142r.xml"
START = (1.5, 0.01, 0.05)
"""Constant error of a sample [e-/s], share of the flux, share of the gradient."""
LARGE = 0.05
"""Fraction of the first coefficient above which errors of single coefficients are printed."""
NOISE_ORDERS = 45
"""Number of orders whose errors come from noise; errors of higher orders have other causes."""


def numbers(cell: str) -> FloatArray:
    return np.array([float(value) for value in cell.strip("()").split(",")])


def photometer(folder: Path, name: str) -> Photometer:
    """Return a photometer as GaiaXPy describes it, without the curves derived from stars."""
    csv.field_size_limit(sys.maxsize)
    with (folder / f"{MODELS[name]}_bases.csv").open() as handle:
        row = next(csv.DictReader(handle))
    k = int(row["nBases"])
    rotation = numbers(row["transformationMatrix"]).reshape(k, k)
    low, high = float(row["pwlRangeMin"]), float(row["pwlRangeMax"])
    first, last = float(row["normRangeMin"]), float(row["normRangeMax"])
    scale = (last - first) / (high - low)
    return Photometer(
        name,
        direct=rotation,
        inverse=rotation @ numbers(row["inverseBasesCoefficients"]).reshape(k, k),
        scale=np.array([scale, first - low * scale]),
        dispersion=np.genfromtxt(folder / f"{MODELS[name]}_dispersion.csv", delimiter=","),
        response=np.genfromtxt(folder / f"{MODELS[name]}_response.csv", delimiter=","),
        decay=np.ones(k),
        noise=np.array(START),
        excess=np.ones(k),
    )


def passbands(folder: Path) -> tuple[FloatArray, FloatArray]:
    """Return the zero points (3,) of G, BP and RP, and the weights (3, 110) of coefficients in their flux."""
    root = ET.parse(folder / "filters" / PASSBANDS).getroot()

    def array(tag: str) -> FloatArray:
        found = next(element for element in root.iter() if element.tag == tag)
        return np.array([float(value.text or "nan") for value in found.iter("value")])

    weights = (array("bpWeights"), array("rpWeights"))
    rows = [array(tag).reshape(3, -1) for tag in ("bpSampledBases", "rpSampledBases")]
    return array("zeropoints"), np.concatenate(
        [part * weight[:, None] for part, weight in zip(rows, weights, strict=True)], axis=1
    )


class Star:
    """Coefficients (k,) of a star in one photometer, their errors and correlations, and the transits."""

    def __init__(
        self, name: str, values: FloatArray, errors: FloatArray, related: FloatArray, transits: float
    ) -> None:
        self.name, self.values, self.errors, self.related, self.transits = (
            name,
            values,
            errors,
            related,
            transits,
        )


def stars(paths: list[Path], part: Photometer, first: int) -> list[Star]:
    """Return the stars of tables that have a photometer's coefficients."""
    found = []
    for path in paths:
        spectra = read(path)
        if spectra.correlation is None:
            raise SystemExit(f"{path} has no correlations")
        block = slice(first, first + len(part))
        for row in range(len(spectra)):
            weight = spectra.ivar[row, block].astype(np.float64)
            if (weight > 0).all():
                counts = spectra.table.get(f"{part.name}_n_measurements", np.full(len(spectra), np.nan))
                values = spectra.flux[row, block].astype(np.float64)
                related = spectra.correlation.of(row)[block, block].astype(np.float64)
                transits = float(counts[row]) / SAMPLES
                found.append(Star(str(spectra.ids[row]), values, weight**-0.5, related, transits))
    return found


def decay(found: list[Star]) -> FloatArray:
    """Return the rms over stars of coefficient / first coefficient, smoothed by a cubic in ln(order)."""
    ratio = np.array([star.values[1:] / star.values[0] for star in found])
    order = np.log(np.arange(1, ratio.shape[1] + 1))
    smooth = np.polynomial.Polynomial.fit(order, 0.5 * np.log(np.mean(ratio**2, axis=0)), 3)
    # The first coefficient is constrained by the image: a prior of ten times its size hardly matters.
    return np.concatenate([[10.0], np.exp(smooth(order))])


def excess(found: list[Star], part: Photometer) -> FloatArray:
    """Return ln(error in the table / error of the model) (stars, k)."""
    rows = []
    for star in found:
        values = torch.from_numpy(star.values)[None]
        made = part.covariance(values, torch.tensor([star.transits], dtype=torch.float64))[0]
        rows.append(np.log(star.errors / made.diagonal().sqrt().numpy()))
    return np.array(rows)


def with_noise(part: Photometer, found: list[Star]) -> Photometer:
    """Return the photometer with its noise, and the excess by order, fitted to the errors of stars."""
    counted = [star for star in found if np.isfinite(star.transits)]

    def missed(logs: FloatArray) -> FloatArray:
        trial = replace(part, noise=np.exp(logs))
        return np.concatenate([excess(counted, trial)[:, :NOISE_ORDERS].ravel(), logs - np.log(START)])

    fitted = least_squares(missed, np.log(START), loss="soft_l1")
    part = replace(part, noise=np.exp(fitted.x))
    left = excess(counted, part)
    curve = uniform_filter1d(median_filter(left.mean(axis=0), 5, mode="nearest"), 5, mode="nearest")
    print(f"{part.name}: noise {part.noise.round(3)}, ln(error) off by {np.std(left - curve):.2f} rms")
    return replace(part, excess=np.exp(curve))


def related(part: Photometer, star: Star) -> tuple[float, float]:
    """Return the mean size of the correlations of a star's errors, in the model and in the table."""
    transits = torch.tensor([star.transits if np.isfinite(star.transits) else 1.0], dtype=torch.float64)
    covariance = part.covariance(torch.from_numpy(star.values)[None], transits)[0].numpy()
    sigma = np.sqrt(np.diag(covariance))
    apart = ~np.eye(len(part), dtype=bool)
    model, table = (
        float(np.abs(m[apart]).mean()) for m in (covariance / np.outer(sigma, sigma), star.related)
    )
    return model, table


def left_out(part: Photometer, found: list[Star]) -> list[tuple[float, float]]:
    """Return two errors of coefficients c' computed from each star's spectrum, with that star left out.

    They are |c - c'| / |c|, and the largest relative error of a coefficient of at least 5 % of the first.
    """
    wavelength = np.arange(3200.0, 11300.0, 20.0)
    photons = part.photons(wavelength)
    inverse = part.incident(wavelength) / np.where(photons > 0, photons, np.inf)
    missed = []
    for star in found:
        others = replace(part, decay=decay([other for other in found if other is not star]))
        back = Projection(others, wavelength)(torch.from_numpy(star.values @ inverse)[None])[0].numpy()
        is_large = np.abs(star.values) > LARGE * np.abs(star.values[0])
        single = np.abs(back / star.values - 1)[is_large].max()
        whole = np.linalg.norm(back - star.values) / np.linalg.norm(star.values)
        missed.append((float(whole), float(single)))
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("stars", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, default=Path("src/draper/instrument/packed/gaia-xp.npz"))
    given = parser.parse_args()
    zero_points, rows = passbands(given.config)
    arrays: dict[str, FloatArray] = {"zero_points": zero_points, "passbands": rows}
    coefficients: list[dict[str, FloatArray]] = []
    first = 0
    for name in MODELS:
        part = photometer(given.config, name)
        found = stars(given.stars, part, first)
        part = with_noise(replace(part, decay=decay(found)), found)
        print("star, coefficients of it left out: norm, largest of single ones; mean |rho| model, archive")
        for star, (whole, single) in zip(found, left_out(part, found), strict=True):
            model, table = related(part, star)
            print(f"{name} {star.name:>20} {whole:7.2%} {single:7.2%} {model:7.3f} {table:7.3f}")
        coefficients.append({star.name: star.values for star in found})
        first += len(part)
        for key in ("direct", "inverse", "scale", "dispersion", "response", "decay", "noise", "excess"):
            arrays[f"{name}_{key}"] = getattr(part, key)
    for name in coefficients[0].keys() & coefficients[1].keys():
        both = np.concatenate([part[name] for part in coefficients])
        print(f"G of {name}: {zero_points[0] - 2.5 * np.log10(both @ rows[0]):.3f}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    print(f"{given.out}: {given.out.stat().st_size:,} bytes, {len(found)} stars")


if __name__ == "__main__":
    main()
