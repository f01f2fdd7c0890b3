"""The Translator on real stars: synthetic grids against MILES, with few stars of known labels (anchors).

Pairs: `sed`, the SED grid and MILES in its bins of 20 A; `optical`, the optical grid at the resolving power
of MILES and the same stars; `apogee`, the networks of binspec and the quadratic model of The Cannon (real
giants) in the middle of the H band, with noise; `dwarfs`, models of brown dwarfs and SpeX spectra;
`line-lists`, RVS spectra computed with two line lists (VALD with CN, and Gaia-ESO's atoms), the second as a
survey would see them; `rvs`, the first of these and four real spectra of Gaia, each left out in turn;
`blamed`, where the residual of the optical pair has lines, and whether the Sun, 18 Sco and Procyon, seen at
high resolution, have them, too.
For each number of anchors some stars are chosen at random (several choices), the model is trained, and all
other stars are judged: bias, robust scatter, rms, and the share of labels within stated 1-sigma intervals;
also those alone whose known labels lie within the synthetic spectra's.
Beside it PCA + ridge and boosted trees on the same anchors, and the plain fit of the synthetic grid without
anchors. Dwarfs have temperatures of their spectral types; chi2 is that of the fitted spectrum, translated or
not, over a polynomial.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline

from draper import Grid, Spectra, TrainConfig, read
from draper.data.lines import Lines, strong_lines
from draper.data.resample import resample
from draper.instrument.observed import at_resolving_power
from draper.models.emulator.foreign.adopt import adopt
from draper.models.emulator.model import Emulator
from draper.models.translator.fitted import level_of
from draper.models.translator.grids import on_common_grid
from draper.models.translator.known_labels import functions
from draper.models.translator.line_strength import LineChanges
from draper.models.translator.model import Translator
from draper.models.translator.scores import domain_auc
from draper.results.estimates import Estimates
from report import arguments, report

Array = NDArray[np.float64]

LABELS = ("teff", "logg", "fe_h")
SNR = 100.0
"""Signal-to-noise ratio per Angstrom of MILES, which states no errors."""

RANGE = (4000.0, 7500.0)
"""Temperatures of the stars that are judged [K]."""


BENCHMARK_STARS = {
    "Sun (UVES)": ("uves_sun/UVES_Sun-1_cleaned_norm.txt.gz", (5771.0, 4.44, 0.0)),
    "Sun (HARPS)": ("harps/sun01_harps.fits", (5771.0, 4.44, 0.0)),
    "18 Sco": ("harps/HARPS.Archive_18Sco_R32K.fits", (5810.0, 4.44, 0.03)),
    "Procyon": ("harps/HARPS.GBOG_Procyon.fits", (6554.0, 4.00, 0.01)),
}
"""Files and labels (Jofre et al. 2014, Heiter et al. 2015) of stars seen at high resolution."""

CHIP, GIANTS = slice(2919, 5319), ((3700.0, 0.5, -0.95, -0.1), (5500.0, 3.8, 0.5, 0.5))
"""Pixels of the middle detector of APOGEE, and ranges of the labels of synthetic giants."""

DIFFERS = 0.05
"""Difference of log gf from which on two lists do not agree."""

RVS_POWER, RVS_SNR = 11_500.0, 100.0
"""Resolving power, and signal-to-noise ratio per pixel, of made RVS spectra."""


@dataclass(frozen=True)
class Pair:
    """Synthetic and observed spectra with labels."""

    name: str
    synthetic: Spectra
    observed: Spectra
    continuum: int


def sed(folder: Path) -> Pair:
    """Return the SED grid and MILES in its bins."""
    data = np.load(folder / "ours/sed_grid.npz")
    centre = data["bin_centre_air"]
    step = float(np.median(np.diff(centre)))
    edges = np.stack([centre - step / 2, centre + step / 2], axis=1)
    grid = Grid.from_wavelength(centre, medium="air", edges=edges)
    table = {str(name): column for name, column in zip(data["names"], data["labels"].T, strict=True)}
    flux = data["surface_flux"] / data["surface_flux"].mean(axis=1, keepdims=True)
    synthetic = Spectra(grid, flux, np.full(flux.shape, 1.0), table, "flux", meta={"source": "sed_grid"})
    stars = miles(folder)
    reached = (edges[:, 0] >= 3541) & (edges[:, 1] <= 7409)
    target = grid[np.flatnonzero(reached)]
    return Pair("sed", synthetic, resample(stars, target), 1)


def optical(folder: Path) -> Pair:
    """Return the optical grid and MILES, whose lines are 2.5 A wide."""
    data = np.load(folder / "ours/optical_grid.npz")
    grid = Grid.from_wavelength(data["wavelength_air_angstrom"], medium="air")
    flux = data["flux_u16"] * data["flux_scale"]
    table = {str(name): column for name, column in zip(data["label_names"], data["labels"].T, strict=True)}
    synthetic = Spectra(grid, flux, None, table, "normalised flux", meta={"source": "optical_grid"})
    stars = miles(folder)
    middle = 5445.0
    stars = replace(stars, grid=replace(stars.grid, resolving_power=middle / 2.5))
    inside = (stars.grid.vacuum > grid.vacuum[0] + 8) & (stars.grid.vacuum < grid.vacuum[-1] - 8)
    return Pair("optical", synthetic, stars.pixels(np.flatnonzero(inside)), 6)


def apogee(folder: Path) -> Pair:
    """Return spectra of the networks of binspec, and of The Cannon at the labels of real giants."""
    own = folder / "apogee_binspec"
    chosen = np.flatnonzero(np.load(own / "cannon_cont_pixels_apogee.npz")["pixels_cannon"][CHIP])
    low, high = np.array(GIANTS)
    values = low + np.random.default_rng(0).random((3000, 4)) * (high - low)
    network = adopt(own / "NN_unnormalized_spectra.npz")
    made = network.generate(dict(zip((*LABELS, "mg_fe"), values.T, strict=True))).pixels(
        np.arange(CHIP.start, CHIP.stop)
    )
    weight = np.zeros(made.flux.shape)
    weight[:, chosen] = 1
    level = level_of(made.flux, weight, 4)
    synthetic = replace(
        made, flux=made.flux / level, ivar=np.ones(made.flux.shape), quantity="normalised flux", unit=""
    )

    theirs, name = folder / "apogee_cannon_model", "trained_apokasc_gc_ind_feh_fix"
    stars = np.loadtxt(theirs / "training_apokasc_gc_ind_feh_fix.txt", usecols=(1, 2, 3, 4))
    stars = stars[((stars >= low) & (stars <= high)).all(axis=1)]
    x = stars - np.loadtxt(theirs / f"{name}_baseline_labels.txt")
    terms = [np.ones(len(x)), *x.T, *(x[:, i] * x[:, j] for i in range(4) for j in range(i, 4))]
    flux = np.column_stack(terms) @ np.loadtxt(theirs / f"{name}.txt.gz")[:, CHIP]
    error = np.hypot(np.loadtxt(theirs / f"{name}_scatter.txt")[CHIP], 1 / SNR)
    noisy = flux + error * np.random.default_rng(1).normal(size=flux.shape)
    table = dict(zip(LABELS, stars.T, strict=False))
    ivar = np.broadcast_to(error**-2.0, flux.shape)
    observed = Spectra(made.grid, noisy, ivar, table, "normalised flux", meta={"source": "The Cannon"})
    return Pair("apogee", synthetic, observed, 1)


def miles(folder: Path) -> Spectra:
    """Return the MILES stars with all labels, in the range of temperatures."""
    data = np.load(folder / "miles/miles.npz")
    labels = data["labels"].astype(float)
    chosen = np.isfinite(labels).all(axis=1) & (labels[:, 0] >= RANGE[0]) & (labels[:, 0] <= RANGE[1])
    flux = data["flux"][chosen].astype(np.float64)
    good = data["valid"][chosen] & (flux > 0)
    step = float(np.median(np.diff(data["wavelength"])))
    error = np.maximum(flux, 0.05 * np.median(flux, axis=1, keepdims=True)) / (SNR * step**0.5)
    table: dict[str, Any] = {"id": data["ids"][chosen].astype(str)}
    table |= dict(zip(LABELS, labels[chosen].T, strict=True))
    grid = Grid.from_wavelength(data["wavelength"].astype(np.float64), medium="air")
    return Spectra(
        grid, np.where(good, flux, 0), np.where(good, error**-2.0, 0), table, "flux", meta={"source": "MILES"}
    )


def judged(off: NDArray[np.float64], sigma: NDArray[np.float64] | None) -> dict[str, float]:
    """Return the figures of merit of errors (n, 3) of labels."""
    found: dict[str, float] = {}
    for number, name in enumerate(LABELS):
        some = off[:, number][np.isfinite(off[:, number])]
        middle = float(np.median(some))
        found |= {
            f"{name} bias": middle,
            f"{name} scatter": float(1.4826 * np.median(np.abs(some - middle))),
            f"{name} rms": float(np.sqrt(np.mean(some**2))),
        }
        if sigma is not None:
            pulls = np.abs(off[:, number]) / sigma[:, number]
            found[f"{name} within 1 sigma"] = float(100 * (pulls[np.isfinite(pulls)] < 1).mean())
    found["missing"] = float((~np.isfinite(off).all(axis=1)).sum())
    return found


def sigma_of(estimates: Estimates) -> NDArray[np.float64]:
    """Return the errors (n, 3) of the labels that are judged."""
    return estimates.sigma[:, [estimates.labels.names.index(name) for name in LABELS]]


def truth(spectra: Spectra) -> NDArray[np.float64]:
    """Return the labels (n, 3) of stars."""
    return np.stack([np.asarray(spectra.table[name], dtype=float) for name in LABELS], axis=1)


def masked(spectra: Spectra, rows: NDArray[np.int64]) -> Spectra:
    """Return spectra of which only some rows have labels."""
    known = np.isin(np.arange(len(spectra)), rows)
    return spectra.with_columns(**{name: np.where(known, spectra.table[name], np.nan) for name in LABELS})


def baselines(observed: Spectra, degree: int, kept: Any, rest: Any) -> Iterator[tuple[str, Any]]:
    """Yield labels (n, 3) of the other stars by regressions on the anchors' normalised spectra."""
    level = level_of(observed.flux, observed.ivar, degree)
    flux = np.where(observed.ivar > 0, observed.flux / level, 1.0)
    values = truth(observed)
    count = min(40, len(kept) - 1)
    ridge = make_pipeline(
        PCA(count, random_state=0), RidgeCV(np.logspace(-6, 3, 19), alpha_per_target=True)
    ).fit(flux[kept], values[kept])
    yield "PCA + ridge", ridge.predict(flux[rest])
    if len(kept) >= 50:
        scores = PCA(count, random_state=0).fit(flux[kept])
        trees = [
            HistGradientBoostingRegressor(random_state=0, min_samples_leaf=5, max_iter=200)
            .fit(scores.transform(flux[kept]), values[kept, number])
            .predict(scores.transform(flux[rest]))
            for number in range(3)
        ]
        yield "boosted trees", np.stack(trees, axis=1)


def stars(pair: Pair, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a table: numbers of anchors and methods."""
    rows: list[dict[str, Any]] = []
    values, ends = truth(pair.observed), truth(pair.synthetic)
    inside = ((values >= ends.min(axis=0)) & (values <= ends.max(axis=0))).all(axis=1)
    synthetic, observed = on_common_grid(pair.synthetic, pair.observed, broaden=True)
    train = TrainConfig(threads=1, progress="none", seed=0)
    if 0 in options.anchors:
        plain = Emulator(hidden=(300, 300)).fit(normalised(synthetic, pair.continuum), train=train)
        seen = normalised(observed, pair.continuum)
        fit = plain.predict(seen, rv=0.0, continuum=pair.continuum)
        found = np.stack([fit[name] for name in LABELS], axis=1)
        rows.append({"method": "plain fit", "anchors": 0, **judged(found - values, sigma_of(fit))})
        some = judged((found - values)[inside], sigma_of(fit)[inside])
        rows.append({"method": "plain fit, inside the grid", "anchors": 0, **some})
    for number in options.anchors:
        parts: dict[str, list[dict[str, float]]] = {}
        for seed in range(options.seeds if number else 1):
            order = np.random.default_rng([seed, number]).permutation(len(observed))
            kept, rest = order[:number], order[number:]
            start = time.process_time()
            model = Translator(continuum=pair.continuum).fit(
                synthetic=synthetic, observed=masked(observed, kept), train=train.replace(seed=seed)
            )
            spent = time.process_time() - start

            fit, *spectra = refitted(model, observed[rest], pair.continuum)
            found = np.stack([fit[name] for name in LABELS], axis=1)
            chi2 = float(np.median(chi2_per_pixel(*spectra)))
            parts.setdefault("anchored", []).append(
                {**judged(found - values[rest], sigma_of(fit)), "chi2 per pixel": chi2, "CPU s": spent}
            )
            fine, some = ~np.any(list(fit.flags.values()), axis=0), inside[rest]
            chosen = {"anchored, inside the grid": some}
            if options.trusted:
                chosen |= {"anchored, not flagged": fine, "anchored, inside and not flagged": fine & some}
            for name, which in chosen.items():
                parts.setdefault(name, []).append(
                    {
                        **judged((found - values[rest])[which], sigma_of(fit)[which]),
                        "stars": float(which.sum()),
                    }
                )
            for name, other in baselines(observed, pair.continuum, kept, rest) if number else ():
                parts.setdefault(name, []).append(judged(other - values[rest], None))
        for name, each in parts.items():
            mean = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
            rows.append({"method": name, "anchors": number, **mean})
            print(
                ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in rows[-1].items()),
                flush=True,
            )
    return rows


def dwarfs(folder: Path) -> tuple[Spectra, Spectra]:
    """Return model spectra of brown dwarfs, and SpeX spectra with temperatures of their spectral types."""
    models, seen = (np.load(folder / f"spex_prism/{name}.npz") for name in ("models", "observed"))
    grid = Grid.from_wavelength(models["wavelength"].astype(np.float64) * 1e4, medium="vacuum")
    labels = models["labels"]
    table = {"teff": labels[:, 0], "logg": labels[:, 1], "fe_h": labels[:, 2]}
    synthetic = Spectra(grid, models["flux"], None, table, "flux", meta={"source": "models"})
    names = seen["label_names"].tolist()
    columns = {name: seen["labels"][:, names.index(name)] for name in ("spex_type", "teff_spt")}
    inside = (columns["teff_spt"] >= labels[:, 0].min()) & (columns["teff_spt"] <= labels[:, 0].max())
    table = {"id": seen["ids"][inside], **{name: column[inside] for name, column in columns.items()}}
    flux, ivar = seen["flux"][inside], seen["ivar"][inside]
    return synthetic, Spectra(grid, flux, ivar, table, "flux", meta={"source": "SpeX"})


def brown_dwarfs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a table: before, without anchors, with twenty."""
    synthetic, seen = dwarfs(options.data)
    train = TrainConfig(threads=1, progress="none", seed=0, epochs=options.epochs)
    rows = []
    for number in (0, 20):
        order = np.random.default_rng([0, number]).permutation(len(seen))
        kept, rest = order[:number], order[number:]
        teff = np.where(np.isin(np.arange(len(seen)), kept), seen.table["teff_spt"], np.nan)
        model = Translator(continuum=1).fit(
            synthetic=synthetic, observed=seen.with_columns(teff=teff), train=train
        )
        if number == 0:
            rows.append(
                {"method": "synthetic", "anchors": 0, **compared(without_residual(model), seen[rest])}
            )
        rows.append({"method": "anchored", "anchors": number, **compared(model, seen[rest])})
        print(rows[-1], flush=True)
    return rows


def without_residual(model: Translator) -> Translator:
    """Return the same model before it has learnt a residual."""
    plain = Translator(**model.config.model_dump())
    plain.set_up(model.own_grid, model.labels, model.pipeline)
    plain.known, plain.free, plain.components = model.known, model.free, model.components
    plain.load_state(model.state())
    plain.training = model.training
    plain.module = plain.anchored.without_residual()
    return plain


def refitted(model: Translator, seen: Spectra, degree: int) -> tuple[Estimates, Array, Array, Array]:
    """Return fitted labels; observed flux, that of the labels, and weights (n, p), over a continuum."""
    fit = model.predict(seen)
    x = model.labels.scale(fit.median) - 0.5
    with torch.no_grad():
        network = model.anchored
        flux = network(network.coordinates(torch.from_numpy(x)).float()).numpy()
    level = level_of(seen.flux, seen.ivar, degree)
    data, weight = seen.flux / level, seen.ivar * level**2
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, flux.shape[1]), degree)
    columns = flux[..., None] * basis
    normal = np.einsum("npa,np,npb->nab", columns, weight, columns)
    best = np.linalg.solve(normal, np.einsum("npa,np->na", columns, weight * data)[..., None])
    return fit, data, (columns @ best)[..., 0], weight


def chi2_per_pixel(data: Array, made: Array, weight: Array) -> Array:
    """Return chi2 (n,) per good pixel."""
    return np.asarray((weight * (data - made) ** 2).sum(axis=1) / (weight > 0).sum(axis=1))


def compared(model: Translator, seen: Spectra) -> dict[str, float]:
    """Return how well spectra of fitted labels agree with observed ones, and temperatures with types."""
    fit, data, made, weight = refitted(model, seen, 1)
    good = weight > 0
    chi2 = chi2_per_pixel(data, made, weight)
    off = fit["teff"] - seen.table["teff_spt"]
    middle = float(np.median(off))
    return {
        "chi2 per pixel, median": float(np.median(chi2)),
        "domain AUC": domain_auc(np.where(good, made, 1.0), np.where(good, data, 1.0)),
        "rank correlation of Teff and type": float(
            spearmanr(fit["teff"], seen.table["spex_type"], nan_policy="omit").statistic
        ),
        "teff bias": middle,
        "teff scatter": float(1.4826 * np.median(np.abs(off - middle))),
        "flagged %": float(100 * np.any(list(fit.flags.values()), axis=0).mean()),
    }


def rvs(folder: Path, name: str) -> Spectra:
    """Return one of the grids of the RVS window, on pixels of 0.3 A."""
    data = np.load(folder / f"ours/{name}.npz")
    wavelength = np.load(folder / "ours/rvs_grid.npz")["wave_air"]
    grid = Grid.from_wavelength(wavelength, medium="air")
    labels = data["labels"] if "labels" in data.files else np.zeros((len(data["flux_u16"]), 0))
    table = {str(n): column for n, column in zip(data["names"], labels.T, strict=False)}
    flux = data["flux_u16"] * float(data["flux_scale"])
    made = at_resolving_power(Spectra(grid, flux, None, table, "normalised flux"), RVS_POWER)
    target = Grid.linear(8455, 8705, 0.3, medium="air", resolving_power=RVS_POWER)
    return resample(made, target)


def line_lists(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a table: spectra of another line list, whose labels no one is told.

    A sixth of them is left out, and fitted. Printed too: the lines that the first list must lack, and those
    whose log gf it should change beside what the lists say.
    """
    synthetic, seen = rvs(options.data, "rvs_grid"), rvs(options.data, "rvs_ges")
    random = np.random.default_rng(0)
    noisy = seen.flux + random.normal(size=seen.flux.shape) / RVS_SNR
    seen = replace(seen, flux=noisy, ivar=np.full(noisy.shape, RVS_SNR**2))
    left = np.arange(len(seen)) % 6 == 0
    model = Translator(continuum=1).fit(
        synthetic=synthetic, observed=seen[~left], train=TrainConfig(threads=1, progress="none")
    )
    rows = []
    for name, one in (("synthetic", without_residual(model)), ("anchored", model)):
        fit, *parts = refitted(one, seen[left], 1)
        chi2 = chi2_per_pixel(*parts)
        rows.append(
            {
                "method": name,
                "spectra": int(left.sum()),
                "chi2 per pixel, median": float(np.median(chi2)),
                "mean": float(chi2.mean()),
                "flagged %": float(100 * np.any(list(fit.flags.values()), axis=0).mean()),
            }
        )
        print(rows[-1], flush=True)
    print(model.new_lines(seen[left], lines=strong_lines()))
    lines, true = list_differences(options.data / "lines/lines_rvs.csv")
    changes = model.line_changes(lines, seen[left])
    rows += strengths(changes, true)
    return rows


def list_differences(path: Path) -> tuple[Lines, dict[float, float]]:
    """Return lines of the first list, and by vacuum wavelength the log gf of the second minus the first."""
    with path.open() as file:
        table = [row for row in csv.DictReader(file) if row["strength_max"]]  # all but hydrogen
    species = np.array([f"{row['element']} {'I' * int(row['ion'])}" for row in table])
    wavelength = np.array([float(row["wave_vac_A"]) for row in table])
    order = np.argsort(wavelength)
    lines = Lines(
        species[order], wavelength[order], np.array([float(row["strength_max"]) for row in table])[order]
    )
    both = [row for row in table if row["loggf_ges"]]
    return lines, {float(row["wave_vac_A"]): float(row["loggf_ges"]) - float(row["loggf"]) for row in both}


def strengths(changes: LineChanges, true: dict[float, float]) -> list[dict[str, Any]]:
    """Return rows of a table of changes of log gf beside the true ones; print those of single lines."""
    known = np.array([wavelength in true for wavelength in changes.wavelength])
    differ = np.array([true.get(wavelength, np.nan) for wavelength in changes.wavelength])
    for row in np.flatnonzero(known & ((np.abs(differ) > DIFFERS) | (changes.status == "changed"))):
        print(
            f"   {changes.species[row]} {changes.wavelength[row]:.3f}: {changes.status[row]}, found "
            f"{changes.log_gf_change[row]:.3f} +- {changes.error[row]:.3f}, true {differ[row]:.3f}",
            flush=True,
        )
    rows = []
    for name, group in (
        ("log gf differs", np.abs(differ) > DIFFERS),
        ("the same", np.abs(differ) <= DIFFERS),
    ):
        chosen = known & group & np.isfinite(changes.log_gf_change)
        off = (changes.log_gf_change - differ)[chosen]
        rows.append(
            {
                "method": f"lines, {name}",
                "spectra": int(chosen.sum()),
                "called changed %": float(100 * np.mean(changes.status[chosen] == "changed")),
                "off, median of absolute": float(np.median(np.abs(off))),
                "off / error, robust": float(1.4826 * np.median(np.abs(off / changes.error[chosen]))),
            }
        )
        print(rows[-1], flush=True)
    return rows


def gaia_rvs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a table: real spectra, each fitted by a model that has learnt from the others."""
    synthetic = rvs(options.data, "rvs_grid")
    files = sorted(path for path in (options.data / "gaia_rvs").glob("*.csv") if "_" not in path.name)
    seen = [resample(read(path), synthetic.grid) for path in files]
    rows = []
    for number, (path, one) in enumerate(zip(files, seen, strict=True)):
        others = Spectra.concat([each for each in seen if each is not one], fill=True)
        model = Translator(continuum=1, rv_error=1.0).fit(
            synthetic=synthetic, observed=others, valid=0, train=TrainConfig(threads=1, progress="none")
        )
        row: dict[str, Any] = {"star": path.stem, "number": number}
        for name, each in (("synthetic", without_residual(model)), ("anchored", model)):
            fit, *parts = refitted(each, one, 1)
            row |= {f"chi2 per pixel, {name}": float(chi2_per_pixel(*parts)[0])}
            row |= {f"{label}, {name}": float(fit[label][0]) for label in LABELS}
        rows.append(row)
        print(row, flush=True)
    return rows


def blamed(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a table: how far the residual of stars seen at high resolution is the learnt one.

    Printed too: the features of the residual by their depth, which name no element, and those of its
    responses, with the elements that it blames.
    """
    pair = optical(options.data)
    synthetic, observed = on_common_grid(pair.synthetic, pair.observed, broaden=True)
    rows = []
    for number in (20, 190, len(observed)):
        kept = np.random.default_rng([0, number]).permutation(len(observed))[:number]
        model = Translator(continuum=pair.continuum).fit(
            synthetic=synthetic,
            observed=masked(observed, kept),
            train=TrainConfig(threads=1, progress="none", seed=0),
        )
        old, new = functions(model.anchored, model.own_grid, model.labels)
        lines = model.new_lines(observed[kept], lines=strong_lines(), by_depth=True)
        print(f"{number} anchors, degree {model.anchored.degree}, lines by depth: {lines}", flush=True)
        if model.anchored.degree > 0:
            print(model.new_lines(observed[kept], lines=strong_lines(), least=0.2), flush=True)
        for name, (file, labels) in BENCHMARK_STARS.items():
            star = read(options.data / file, unit="angstrom", medium="air", repeated="mean")
            _, star = on_common_grid(*on_common_grid(star, observed, broaden=True)[::-1])
            x = torch.from_numpy((old.labels.scale(np.array([labels])) - 0.5).astype(np.float32))
            with torch.no_grad():
                first, second = (model.function(x).double().numpy()[0] for model in (old, new))
            place = np.searchsorted(model.own_grid.vacuum, star.grid.vacuum)
            rows.append({"anchors": number, "star": name, **agreement(star, first[place], second[place])})
            print(rows[-1], flush=True)
    return rows


def agreement(star: Spectra, first: Array, second: Array) -> dict[str, float]:
    """Return how well a learnt ratio (p,) of second to first spectra is that of a star to the first."""
    good = star.ivar[0] > 0
    x = np.linspace(-1, 1, len(first))
    basis = np.polynomial.legendre.legvander(x, 7)
    shift = np.gradient(first) / first  # The star may have a small velocity.

    def flat(ratio: Array) -> Array:
        columns = np.column_stack([basis, shift])[good]
        return np.asarray(ratio[good] - columns @ np.linalg.lstsq(columns, ratio[good], rcond=None)[0])

    true, learnt = flat(star.flux[0] / first / np.median(star.flux[0] / first)), flat(second / first)
    return {
        "pixels": float(good.sum()),
        "residual rms %": float(100 * true.std()),
        "learnt rms %": float(100 * learnt.std()),
        "left rms %": float(100 * (true - learnt).std()),
        "correlation": float(np.corrcoef(true, learnt)[0, 1]),
    }


def normalised(spectra: Spectra, degree: int) -> Spectra:
    """Return spectra over a polynomial continuum."""
    level = level_of(spectra.flux, spectra.ivar, degree)
    return replace(
        spectra, flux=spectra.flux / level, ivar=spectra.ivar * level**2, quantity="normalised flux"
    )


PAIRS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "sed": lambda options: stars(sed(options.data), options),
    "optical": lambda options: stars(optical(options.data), options),
    "apogee": lambda options: stars(apogee(options.data), options),
    "dwarfs": brown_dwarfs,
    "line-lists": line_lists,
    "rvs": gaia_rvs,
    "blamed": blamed,
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default="../shared/data", help="folder of the data")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), help="which pairs")
    parser.add_argument(
        "--anchors", nargs="+", type=int, default=[0, 10, 20, 50, 190], help="numbers of anchors"
    )
    parser.add_argument("--seeds", type=int, default=5, help="random choices of anchors")
    parser.add_argument("--trusted", action="store_true", help="also those without a flag")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of the dwarfs' training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.pairs:
        rows = PAIRS[name](options)
        path = options.json
        if path is not None:
            path = path.with_name(f"{path.stem}-{name}{path.suffix}")
        facts = {"choices": options.seeds}
        columns = list(dict.fromkeys(column for row in rows for column in row))  # Not every row has all.
        report(f"Real stars: {name}", rows, facts, path, columns)


if __name__ == "__main__":
    main()
