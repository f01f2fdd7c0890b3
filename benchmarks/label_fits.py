"""Can errors and flags of label fits be trusted? On spectra of the RVS grid that the emulator has not seen.

Every spectrum is fitted with the emulator of ten-fold cross-validation that was trained without it; the
emulators are those of scripts/train_builtin_emulator.py (--folds FOLDER; they are trained if they are not
there: half an hour). Each gets the error model of the packed emulator, that of the cross-validation.

- intervals: coverage of 68 % and 95 % intervals, pulls and scatter of each label, joint chi2 of all labels
  and the velocity against what is expected, and flags, at S/N 20 to 500 per pixel of 0.1 Angstrom.
- kinds: flags of spectra that are no stars of the grid, of six kinds, beside those of the stars themselves.
- population: simulated stars of the Galaxy with priors="population": scatter against the bound that holds
  with the prior, and without.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from draper import Grid, Spectra, load, samples
from draper.data.resample import resample
from draper.instrument.observed import Widths, observed
from draper.models.emulator.model import Emulator
from draper.results.estimates import Estimates
from draper.simulate.survey import PRESETS, Survey
from report import arguments, report

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from train_builtin_emulator import FOLDS, RVS, folds_of, of_fold

Array = NDArray[np.float64]

Change = Callable[[Spectra, np.random.Generator], Array]
"""Returns changed flux (n, p)."""

RATIOS = (20.0, 50.0, 100.0, 250.0, 500.0)
"""S/N per pixel at the continuum."""

SPEED = 100.0
"""Largest radial velocity [km/s]."""

PIXELS = PRESETS["gaia-rvs"].grid

TRIPLET = (8500.35, 8544.44, 8664.52)
"""The calcium triplet [Angstrom, vacuum]."""


class Stars:
    """Held-out spectra of the grid, and for each the emulator that has not seen it."""

    def __init__(self, folder: Path, every: int) -> None:
        spectra = samples.load("rvs-grid")
        fold = folds_of(spectra)
        packed = cast(Emulator, load("builtin:rvs-emulator")).network
        self.folds: list[tuple[Emulator, Spectra]] = []
        for number in range(0, FOLDS, every):
            model = of_fold(folder, number)
            for name in ("uncertainty", "modes", "growth", "error_width"):
                setattr(model.network, name, getattr(packed, name).clone())
            # A star's own error must not tell how large the errors near it are.
            others = torch.from_numpy(fold != number)
            for name in ("held_out", "amplitudes"):
                setattr(model.network, name, getattr(packed, name)[others].clone())
            self.folds.append((model, spectra[fold == number]))

    def fitted(
        self, ratio: float, seed: int, change: Change | None = None, **options: Any
    ) -> tuple[Estimates, Array]:
        """Return the fits of all stars, and their true labels and velocities (n, l + 1)."""
        found: list[Estimates] = []
        truth = []
        for number, (model, spectra) in enumerate(self.folds):
            random = np.random.default_rng([seed, number])
            flux = spectra.flux if change is None else change(spectra, random)
            data = observe(replace(spectra, flux=flux.astype(np.float32)), ratio, random)
            own = model.predict(data, **options)
            # The ends of the training labels differ a little from fold to fold.
            found.append(own if not found else replace(own, labels=found[0].labels))
            truth.append(np.column_stack([data.columns(model.labels.names), data.table["rv_true"]]))
        return Estimates.concat(found), np.concatenate(truth)


def observe(spectra: Spectra, ratio: float, random: np.random.Generator) -> Spectra:
    """Return spectra as Gaia's RVS sees them, with noise."""
    rv = random.uniform(-SPEED, SPEED, len(spectra))
    widths = Widths.of(len(spectra), rv=rv, resolving_power=RVS.resolving_power)
    flux = torch.tensor(spectra.flux)
    seen, _, reached, grid = observed(flux, torch.zeros_like(flux), spectra.grid, widths)
    whole = Spectra(grid, seen.numpy(), reached.numpy().astype(np.float32), spectra.table, spectra.quantity)
    data = resample(whole, PIXELS)
    noise = random.normal(size=data.flux.shape) / ratio
    ivar = np.where(data.ivar > 0, ratio**2, 0)
    return replace(
        data,
        flux=(data.flux + noise).astype(np.float32),
        ivar=ivar.astype(np.float32),
        table={**data.table, "rv_true": rv},
    )


def flagged(found: Estimates) -> NDArray[np.bool_]:
    """Return which stars carry any flag."""
    return np.asarray(np.any(list(found.flags.values()), axis=0))


def joint_chi2(found: Estimates, truth: Array) -> Array:
    """Return the chi2 (n,) of all labels and the velocity together."""
    assert found.covariance is not None
    error = found.median - truth
    return np.asarray(np.einsum("ni,nij,nj->n", error, np.linalg.pinv(found.covariance), error))


def intervals(stars: Stars, priors: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row for each S/N and label, and one for each S/N."""
    rows, whole = [], []
    for ratio in RATIOS:
        begun = time.process_time()
        found, truth = stars.fitted(ratio, 1, priors=priors or {})
        seconds = (time.process_time() - begun) / len(found)
        ends = {level: found.interval(level) for level in (0.68, 0.95)}
        inside = {level: (truth >= low) & (truth <= high) for level, (low, high) in ends.items()}
        error = found.median - truth
        assert found.label_flags is not None
        for number, name in enumerate(found.labels.names):
            own = error[:, number]
            rows.append(
                {
                    "S/N": int(ratio),
                    "label": name,
                    "scatter": float(1.4826 * np.median(np.abs(own - np.median(own)))),
                    "bias": float(np.median(own)),
                    "pull": float(1.4826 * np.median(np.abs(own / found.sigma[:, number]))),
                    "68 %": float(100 * inside[0.68][:, number].mean()),
                    "95 %": float(100 * inside[0.95][:, number].mean()),
                    "measured": float(100 * (found.label_flags[:, number] == "measured").mean()),
                    "prior": float(100 * (found.label_flags[:, number] == "prior").mean()),
                }
            )
        chi2 = joint_chi2(found, truth)
        expected = chi2_distribution.ppf([0.5, 0.9], truth.shape[1])
        off = (np.abs(error) > 4 * found.sigma).any(axis=1)
        marked = flagged(found)
        whole.append(
            {
                "S/N": int(ratio),
                "stars": len(found),
                "median chi2": float(np.median(chi2)),
                "expected": float(expected[0]),
                "90 %": float(np.quantile(chi2, 0.9)),
                "expected ": float(expected[1]),
                "flagged [%]": float(100 * marked.mean()),
                "off by 4 sigma": int(off.sum()),
                "of these flagged": int(marked[off].sum()),
                "CPU ms": 1000 * seconds,
                **{name: float(100 * values.mean()) for name, values in found.flags.items() if values.any()},
            }
        )
        print(whole[-1], flush=True)
    return rows, whole


# ------------------------------------------------------------------ spectra that are no stars of the grid


def binary(spectra: Spectra, random: np.random.Generator) -> Array:
    """Add another star, of a quarter to a half of the light, at another velocity."""
    other = spectra.flux[random.permutation(len(spectra))]
    share, speed = random.uniform(0.25, 0.5, (len(spectra), 1)), random.uniform(40, 120, len(spectra))
    return np.asarray((1 - share) * spectra.flux + share * moved(other, spectra.grid, speed))


def moved(flux: NDArray[np.float32], grid: Grid, rv: Array) -> Array:
    """Return spectra (n, p) at velocities (n,), their ends repeated."""
    places = grid.vacuum / (1 + rv[:, None] / 299792.458)
    return np.stack([np.interp(place, grid.vacuum, one) for place, one in zip(places, flux, strict=True)])


def lines(grid: Grid, centres: Array, sigma: float) -> Array:
    """Return the sum (n, p) of Gaussians of height 1 at wavelengths (n, k), with a width [km/s]."""
    width = np.asarray(centres)[..., None] * sigma / 299792.458
    return np.asarray(np.exp(-0.5 * ((grid.vacuum - np.asarray(centres)[..., None]) / width) ** 2).sum(-2))


def emission(spectra: Spectra, random: np.random.Generator) -> Array:
    """Fill the cores of the calcium triplet."""
    height = random.uniform(0.1, 0.4, (len(spectra), 1))
    return np.asarray(spectra.flux + height * lines(spectra.grid, np.array(TRIPLET), 30.0))


def unknown_lines(spectra: Spectra, random: np.random.Generator) -> Array:
    """Add forty lines of an element that the grid lacks, of 2 to 10 % depth."""
    centres = random.uniform(8460, 8705, 40)
    depth = random.uniform(0.02, 0.1, (len(spectra), 1))
    return np.asarray(spectra.flux * (1 - depth * np.minimum(lines(spectra.grid, centres, 8.0), 1)))


def wrong_continuum(spectra: Spectra, random: np.random.Generator) -> Array:
    """Multiply by a slope of 3 % and a wave of 1 to 3 %."""
    u = np.linspace(-1, 1, len(spectra.grid))
    phase = random.uniform(0, 2 * np.pi, (len(spectra), 1))
    height = random.uniform(0.01, 0.03, (len(spectra), 1))
    return np.asarray(spectra.flux * (1 + 0.03 * u + height * np.sin(6 * u + phase)))


def fast_rotation(spectra: Spectra, random: np.random.Generator) -> Array:
    """Broaden by 30 to 80 km/s."""
    flux = torch.tensor(spectra.flux)
    widths = Widths.of(len(spectra), vsini=random.uniform(30, 80, len(spectra)))
    return observed(flux, torch.zeros_like(flux), spectra.grid, widths)[0].double().numpy()


def veiled(spectra: Spectra, random: np.random.Generator) -> Array:
    """Dilute by light without lines, a third to two thirds of all."""
    share = random.uniform(0.33, 0.67, (len(spectra), 1))
    return np.asarray((1 - share) * spectra.flux + share)


KINDS: dict[str, Change | None] = {
    "stars of the grid": None,
    "binary": binary,
    "emission": emission,
    "unknown lines": unknown_lines,
    "wrong continuum": wrong_continuum,
    "fast rotation": fast_rotation,
    "veiled": veiled,
}


def kinds(stars: Stars) -> list[dict[str, Any]]:
    """Return a row for each kind."""
    rows = []
    for name, change in KINDS.items():
        row: dict[str, Any] = {"kind": name}
        for ratio in (20.0, 100.0):
            found, truth = stars.fitted(ratio, 2, change)
            off = (np.abs(found.median - truth) > 4 * found.sigma).any(axis=1)
            marked = flagged(found)
            row |= {
                f"flagged at {ratio:.0f} [%]": float(100 * marked.mean()),
                f"off by 4 sigma at {ratio:.0f} [%]": float(100 * off.mean()),
                f"of these flagged at {ratio:.0f}": f"{marked[off].sum()} of {off.sum()}",
                f"chi2 at {ratio:.0f}": float(np.median(found.columns["reduced_chi2"])),
            }
        rows.append(row)
        print(row, flush=True)
    return rows


def population(number: int) -> list[dict[str, Any]]:
    """Return a row for each label: scatter on simulated stars, and bounds."""
    model = cast(Emulator, load("builtin:rvs-emulator"))
    stars = Survey("ideal").simulate(number, seed=11)
    labels = {name: stars.table[name] for name in model.labels.names}
    data = observe(model.generate(labels), 50.0, np.random.default_rng(11))
    truth = data.columns(model.labels.names)
    rows: list[dict[str, Any]] = [{"label": name} for name in model.labels.names]
    known: dict[str, Any] = {"flat": {}, "population": "population"}
    for title, priors in known.items():
        options: dict[str, Any] = {"priors": priors, "emulator_error": False}
        found = model.predict(data, **options)
        bound = model.information(labels, ivar=data.ivar, grid=PIXELS, **options).bound
        for column, row in enumerate(rows):
            error = found.median[:, column] - truth[:, column]
            row |= {
                f"{title}: scatter": float(1.4826 * np.median(np.abs(error))),
                f"{title}: bound": float(np.median(bound[:, column])),
                f"{title}: pull": float(1.4826 * np.median(np.abs(error / found.sigma[:, column]))),
            }
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parts = ("intervals", "kinds", "population")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="which parts")
    parser.add_argument("--folds", type=Path, default=Path("folds"), help="emulators of the cross-validation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    every = 1 if options.full else 3
    stars = Stars(options.folds, every)
    facts = {"pixels": len(PIXELS), "velocity [km/s]": f"free, within {SPEED:g}", "folds": len(stars.folds)}

    def path(name: str) -> Path | None:
        whole: Path | None = options.json
        return whole and whole.with_name(f"{whole.stem}-{name}{whole.suffix}")

    if "intervals" in options.parts:
        for priors in (None, "training"):
            rows, whole = intervals(stars, priors)
            known = priors or "flat"
            report(f"Errors of labels, prior {known}", rows, facts, path(f"labels-{known}"))
            report(f"All labels together, prior {known}", whole, facts, path(f"joint-{known}"))
    if "kinds" in options.parts:
        report("Flags", kinds(stars), facts, path("flags"))
    if "population" in options.parts:
        report("Stars of the Galaxy, S/N 50", population(400), {}, path("population"))


if __name__ == "__main__":
    main()
