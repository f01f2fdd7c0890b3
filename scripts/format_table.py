"""Read real files of every format and print a Markdown table for docs/reference/formats.md.

python scripts/format_table.py FOLDER

FOLDER holds the files named below. Hints are the options that a user must give because the file lacks them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import draper
from draper.errors import DraperError

AIR: dict[str, Any] = {"medium": "air"}
VACUUM: dict[str, Any] = {"medium": "vacuum"}
ANGSTROM: dict[str, Any] = {"unit": "angstrom"}
PLANET: dict[str, Any] = {"unit": "um", "medium": "vacuum"}

FILES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gaia_rvs/Kepler-93.csv", {}),
    ("gaia_rvs/KOI-001.csv", {}),
    ("gaia_rvs/GaiaDR3-1535964555128078720.csv", {}),
    ("gaia_rvs/GaiaDR3-3174658066485297152.csv", {}),
    ("gaia_xp/XP_CONTINUOUS_RAW.csv", {}),
    ("gaia_xp/XP_CONTINUOUS_RAW.ecsv", {}),
    ("gaia_xp/XP_CONTINUOUS_RAW.fits", {}),
    ("gaia_xp/XP_CONTINUOUS_RAW.xml", {}),
    ("gaia_xp/XP_CONTINUOUS_RAW_with_missing_BP.fits", {}),
    ("gaia_xp/XP_SAMPLED_RAW_dr3int6.csv", {}),
    ("gaia_xp/XP_SAMPLED_RAW_dr3int6.ecsv", {}),
    ("gaia_xp/XP_SAMPLED_RAW_dr3int6.fits", {}),
    ("gaia_xp/XP_SAMPLED_RAW_votable_dr3int6.xml", {}),
    ("gaia_xp/XP_SAMPLED_RAW_votable_plain_dr3int6.xml", {}),
    ("gaia_xp/SPSS_2nm.csv", VACUUM),
    ("lamost/spec-*.fits", {}),
    ("lamost/lamost_131.npz", {}),
    ("harps/HARPS.GBOG_Procyon.fits", {}),
    ("harps/HARPS.GBOG_alfTau.fits", {}),
    ("harps/Sun_HARPS.fits", AIR),
    ("harps/sun01_harps.fits", AIR),
    ("harps/HARPS.Archive_18Sco_R32K.fits", {**AIR, **ANGSTROM}),
    ("mike_hd122563/hd122563.fits", {**AIR, **ANGSTROM}),
    ("sdss_spec/spec-0266-51602-0031.fits", {}),
    ("sdss_apvisit_boss/spec-3586-55181-0500.fits", {}),
    ("sdss_apvisit_boss/apVisit-*.fits", {}),
    ("desi/coadd-sv3-dark-26065.fits", {}),
    ("apogee_atlas/apg_rvsynthgrid.fits", {}),
    ("apogee_atlas/solar.20190819.txt.gz", {**AIR, **ANGSTROM}),
    ("apogee_atlas/arct.20190830.txt.gz", {**AIR, **ANGSTROM}),
    ("apogee_atlas/sun_nlte_20200921.rspec.gz", {**AIR, **ANGSTROM, "repeated": "mean"}),
    (
        "apogee_binspec/visit_spectra_ap_id_2M06133561+2433362_.npz",
        {**VACUUM, **ANGSTROM, "wavelengths": "apogee_wavelength.npz"},
    ),
    ("uves_sun/UVES_Sun-1_cleaned_norm.txt.gz", {**AIR, **ANGSTROM, "repeated": "mean"}),
    ("korg_griffith2022/2MASS_J03443498+0553014.csv.gz", {**AIR, "unit": "nm"}),
    ("one_payne/payne_synthetic_5777_4.44_0_spectrum.txt.gz", AIR),
    ("ours/rvs_grid.npz", ANGSTROM),
    ("ours/rvs_ges.npz", ANGSTROM),
    ("ours/sed_grid.npz", ANGSTROM),
    ("taurex_exogan/train_1544.npz", VACUUM),
    ("taurex/quickstart.dat", {"format": "taurex"}),
    ("exogan/input_spectrum.dat", {"format": "exogan"}),
    ("hst_hd209458b/hd209458b_transit_depths", VACUUM),
    ("jwst_wasp17b_miri/Grant_etal_*.nc", VACUUM),
    ("jwst_wasp39b/AT-*.csv", PLANET),
    ("jwst_wasp39b/CMADF-*_R100.csv", PLANET),
    ("jwst_wasp39b/CMADF-*_R300.csv", PLANET),
    ("jwst_wasp39b/LPC-*.csv", PLANET),
    ("jwst_wasp39b/MCR-*.csv", PLANET),
    ("jwst_wasp39b/NE-*.csv", PLANET),
    ("jwst_wasp39b/WASP-39b_Wakeford_2018_AJ.csv", VACUUM),
    ("jwst_wasp39b/catwoman_tspec_res100_priorlds.txt", VACUUM),
)


def row(path: Path, hints: dict[str, Any]) -> str:
    """Return one line of the table."""
    needed = " ".join(f"`{name}={value}`" for name, value in hints.items() if name != "format") or "-"
    options = {name: path.parent / value if name == "wavelengths" else value for name, value in hints.items()}
    try:
        spectra = draper.read(path, **options)
    except DraperError as error:
        return f"| {path.name} | refused: {error.what.partition(': ')[2] or error.what} | | | | | {needed} |"
    grid = spectra.grid
    extent = f"{grid.vacuum[0]:.3f}-{grid.vacuum[-1]:.3f}" if grid.is_spectral else "coefficients"
    good = np.asarray(spectra.ivar) > 0
    cells = [
        path.name,
        str(spectra.meta.get("format", "")),
        f"{len(spectra)} x {len(grid)}",
        extent,
        str(spectra.meta.get("medium", "-")),
        f"{(~good).sum()}",
        needed,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    folder = Path(sys.argv[1])
    print("| file | format | spectra x pixels | vacuum Angstrom | in the file | bad pixels | hints needed |")
    print("|---|---|---|---|---|---|---|")
    for pattern, hints in FILES:
        for path in sorted(folder.glob(pattern)) or [folder / pattern]:
            print(row(path, hints))


if __name__ == "__main__":
    main()
