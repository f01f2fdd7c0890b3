"""Train an emulator that draper ships, on all spectra of a built-in grid.

python scripts/train_builtin_emulator.py rvs-emulator|optical-emulator [OUT] [FOLDS]

Its errors are those of ten-fold cross-validation: each tenth of the spectra is predicted by an emulator that
is trained on the others. FOLDS is a folder for these ten emulators, which benchmarks/label_fits.py uses;
those that are there already are not trained again. Half an hour on two cores.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from draper import load, samples
from draper.configs.train import TrainConfig
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.models.emulator.model import Emulator
from draper.nn.emulator import EmulatorNetwork

FOLDS, SEED = 10, 0
COMPONENTS = 200
MARGIN = 10.0
"""Margin [Angstrom] at each end of the window that is excluded from errors at a lower resolution."""


@dataclass(frozen=True)
class BuiltIn:
    """A built-in grid, and a resolving power at which errors of its emulator are stated, too."""

    sample: str
    resolving_power: float

    @property
    def spectra(self) -> Spectra:
        """The spectra."""
        spectra: Spectra = samples.load(self.sample)
        return spectra


RVS = BuiltIn("rvs-grid", 11_500.0)
EMULATORS = {"rvs-emulator": RVS, "optical-emulator": BuiltIn("optical-grid", 20_000.0)}


def folds_of(spectra: Spectra) -> NDArray[np.int64]:
    """Return the fold (n,) of each spectrum."""
    return np.asarray(np.random.default_rng(SEED).permutation(len(spectra)) % FOLDS)


def trained(spectra: Spectra) -> Emulator:
    """Return an emulator of spectra, none of which are held out."""
    torch.set_num_threads(1)
    model = Emulator(architecture="radial", components=COMPONENTS)
    return model.fit(
        spectra, valid=0, train=TrainConfig(threads=1, progress="none", **dict(model.config.own_training))
    )


def train_to(path: Path, built_in: BuiltIn, number: int | None = None) -> None:
    """Train an emulator on all folds but one, or on all, unless it is there already."""
    if not path.is_dir():
        spectra = built_in.spectra
        trained(spectra if number is None else spectra[folds_of(spectra) != number]).save(path)


def of_fold(folder: Path, number: int, built_in: BuiltIn = RVS) -> Emulator:
    """Return the emulator of all folds but one."""
    train_to(folder / str(number), built_in, number)
    return cast(Emulator, load(folder / str(number)))


def smoothed(flux: NDArray[np.float64], grid: Grid, power: float) -> NDArray[np.float64]:
    """Return spectra (n, p) convolved to a resolving power, Gaussian in ln(lambda), without ends."""
    own = 0.0 if grid.resolving_power is None else 1 / float(np.mean(grid.resolving_power))
    sigma = np.sqrt((power**-2 - own**2) / (8 * np.log(2)))
    wavelength = grid.air
    log = np.log(wavelength)
    keep = np.flatnonzero((wavelength >= wavelength[0] + MARGIN) & (wavelength <= wavelength[-1] - MARGIN))
    reach = int(np.ceil(5 * sigma / np.diff(log).min()))
    total, result = np.zeros(len(keep)), np.zeros((len(flux), len(keep)))
    for offset in range(-reach, reach + 1):
        weight = np.exp(-0.5 * ((log[keep + offset] - log[keep]) / sigma) ** 2)
        result += weight * flux[:, keep + offset]
        total += weight
    return result / total


def rms(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rms (n,) of each row."""
    return np.asarray(np.sqrt(np.mean(error**2, axis=1)))


def regions(spectra: Spectra) -> dict[str, NDArray[np.bool_]]:
    """Return which spectra lie in some regions of the grid."""
    teff, logg, fe_h = (spectra.table[name] for name in ("teff", "logg", "fe_h"))
    return {
        "all": np.ones(len(spectra), dtype=bool),
        "teff < 4500": teff < 4500,
        "teff > 6000": teff > 6000,
        "logg < 2": logg < 2,
        "logg > 4": logg > 4,
        "fe_h < -1.5": fe_h < -1.5,
        "fe_h > 0": fe_h > 0,
        "teff < 4500, fe_h > 0": (teff < 4500) & (fe_h > 0),
    }


def summary(error: NDArray[np.float64], spectra: Spectra, power: float) -> dict[str, Any]:
    """Return the median and 99th percentile of the rms of each spectrum, native and smoothed, by region."""
    each = {"native": rms(error), "smoothed": rms(smoothed(error, spectra.grid, power))}
    return {
        name: {"spectra": int(rows.sum())}
        | {
            f"{kind} {what}": float(np.quantile(values[rows], q))
            for kind, values in each.items()
            for what, q in (("median", 0.5), ("p99", 0.99))
        }
        for name, rows in regions(spectra).items()
    }


def main(built_in: BuiltIn, out: Path, folder: Path) -> None:
    begun = time.process_time()
    spectra = built_in.spectra
    with ProcessPoolExecutor() as pool:
        runs = [pool.submit(train_to, folder / "all", built_in)]
        runs += [pool.submit(train_to, folder / str(number), built_in, number) for number in range(FOLDS)]
        for run in runs:
            run.result()
    folds = [of_fold(folder, number, built_in) for number in range(FOLDS)]
    model = cast(Emulator, load(folder / "all"))
    fold = folds_of(spectra)
    error = np.zeros(spectra.flux.shape, dtype=np.float32)
    leverage = np.zeros(len(spectra), dtype=np.float32)
    for number, own in enumerate(folds):
        held_out = fold == number
        labels = own.scaled(own.labels.read(spectra[held_out].table))
        error[held_out] = own.generate(spectra[held_out]).flux - spectra[held_out].flux
        with torch.no_grad():
            found = cast(EmulatorNetwork, own.network).leverage(torch.from_numpy(labels))
        leverage[held_out] = found.numpy()
    network = cast(EmulatorNetwork, model.network)
    x = torch.from_numpy(model.scaled(model.labels.read(spectra.table)))
    with torch.no_grad():
        flux = network(x) - torch.from_numpy(error)
        batch = {"labels": x, "flux": flux, "ivar": torch.ones_like(flux)}
        network.measure_errors(lambda: iter([batch]), torch.from_numpy(leverage))
    regional = summary(error.astype(np.float64), spectra, built_in.resolving_power)
    for name, row in regional.items():
        print(name, ", ".join(f"{key} {value:.4%}" for key, value in row.items() if key != "spectra"))
    model.training["trained_on"] = dict(spectra.meta)
    model.training["cross_validation"] = {
        "what": "rms of normalised flux of each spectrum; smoothed: at a resolving power of "
        f"{built_in.resolving_power:g}",
        "folds": FOLDS,
        **regional,
    }
    # Principal components in half precision: 0.00005 of the flux, a tenth of the error.
    model.save(out, overwrite=True, half=True)
    print(f"{time.process_time() - begun:.0f} CPU s here")
    for path in sorted(out.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=EMULATORS)
    parser.add_argument("out", nargs="?", type=Path, help="folder of the emulator; the package by default")
    parser.add_argument("folds", nargs="?", type=Path, help="folder of the emulators of the cross-validation")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        main(
            EMULATORS[given.name],
            given.out or Path("src/draper/models/packed", given.name),
            given.folds or Path(temporary),
        )
