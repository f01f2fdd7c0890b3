"""Make draper's table of spectral lines, for annotating spectra, from published line data.

python scripts/pack_lines.py FOLDER [OUT]

FOLDER holds selections of line lists (lines_rvs.csv, lines_apogee.csv, lines_4most_green.csv,
lines_4most_red.csv, lines_xp.csv.gz: element, ion, wavelength in air, energy of the lower level in eV,
log gf) and partition_functions.csv (Barklem & Collet 2016; solar abundances of Asplund et al. 2009).
The table holds species, vacuum wavelength, and strength in a cool star after Saha and Boltzmann.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from draper.data.units import air_to_vacuum

TEMPERATURE = 5000.0
ELECTRON_PRESSURE = 10.0
"""Conditions [K, dyn/cm2] in the line-forming layers of a K or G star."""

IONS = {"1": "I", "2": "II"}

HYDROGEN_WINGS = 2.0
"""Addition [dex] to the strength of hydrogen lines, which are broadened by the Stark effect."""

DETAILED = {
    "lines_rvs.csv": 200,
    "lines_apogee.csv": 300,
    "lines_4most_green.csv": 130,
    "lines_4most_red.csv": 110,
}
"""Selections for single windows, and the number of strongest lines to keep."""

OVERVIEW, IN_EACH, BIN = "lines_xp.csv.gz", 12, 100.0
"""The selection for the whole optical range, the lines to keep per bin, and its width [Angstrom]."""

BALMER = {"Hbeta": (4861.35, -0.02), "Hgamma": (4340.47, -0.447), "Hdelta": (4101.74, -0.753)}
"""Air wavelengths [Angstrom] and log gf of Balmer lines missing in the selections (H-alpha is in one)."""


@dataclass(frozen=True)
class Line:
    """A line: species, vacuum wavelength [Angstrom], and log10 of its strength."""

    species: str
    wavelength: float
    strength: float


def rows(path: Path) -> Iterator[dict[str, str]]:
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    yield from csv.DictReader(io.StringIO(text.decode()))


def occupations(path: Path) -> dict[tuple[str, str], float]:
    """Return log10 of (atoms in an ionisation stage / partition function) for each species."""
    abundance: dict[str, float] = {}
    energy: dict[str, float] = {}
    partition: dict[tuple[str, int], float] = {}
    for row in rows(path):
        element, stage = row["element"], int(row["ion_stage(0=I)"])
        abundance[element] = float(row["A_sun_Asplund2009"])
        partition[element, stage] = float(row["U_5000K"])
        if stage == 0:
            energy[element] = float(row["chi_ion_eV"])
    found = {}
    for element, chi in energy.items():
        if (element, 1) not in partition:
            continue
        saha = -0.4772 + 2.5 * np.log10(TEMPERATURE) - 5040 / TEMPERATURE * chi - np.log10(ELECTRON_PRESSURE)
        ratio = 10 ** (saha + np.log10(2 * partition[element, 1] / partition[element, 0]))
        for ion, stage in (("1", 0), ("2", 1)):
            share = ratio / (1 + ratio) if stage else 1 / (1 + ratio)
            found[element, ion] = abundance[element] + np.log10(share / partition[element, stage])
    return found


def lines(path: Path, occupied: dict[tuple[str, str], float]) -> list[Line]:
    """Return the lines of a file, strongest first."""
    found = []
    for row in rows(path):
        key = row["element"], row["ion"]
        if key not in occupied:
            continue
        strength = occupied[key] + float(row["loggf"]) - 5040 / TEMPERATURE * float(row["E_low_eV"])
        strength += HYDROGEN_WINGS * (key[0] == "H")
        vacuum = float(air_to_vacuum(np.array([float(row["wave_air_A"])]))[0])
        found.append(Line(f"{key[0]} {IONS[key[1]]}", vacuum, strength))
    return sorted(found, key=lambda line: -line.strength)


def main(folder: Path, out: Path) -> None:
    occupied = occupations(folder / "partition_functions.csv")
    kept: list[Line] = []
    for name, most in DETAILED.items():
        held = lines(folder / name, occupied)
        kept += held[:most] + [line for line in held[most:] if line.species == "H I"]
    for air, strength in BALMER.values():
        at = float(air_to_vacuum(np.array([air]))[0])
        kept.append(Line("H I", at, occupied["H", "1"] + strength - 10.199 + HYDROGEN_WINGS))
    counts: dict[int, int] = {}
    windows = [
        (min(line.wavelength for line in held), max(line.wavelength for line in held))
        for held in (lines(folder / name, occupied) for name in DETAILED)
    ]
    for line in lines(folder / OVERVIEW, occupied):
        number = int(line.wavelength // BIN)
        if counts.get(number, 0) >= IN_EACH or any(a <= line.wavelength <= b for a, b in windows):
            continue
        counts[number] = counts.get(number, 0) + 1
        kept.append(line)
    kept.sort(key=lambda line: line.wavelength)
    with out.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["species", "wavelength", "strength"])
        writer.writerows([line.species, f"{line.wavelength:.3f}", f"{line.strength:.2f}"] for line in kept)
    print(f"{len(kept)} lines, {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    packed = Path(__file__).parents[1] / "src" / "draper" / "data" / "packed" / "lines.csv"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else packed)
