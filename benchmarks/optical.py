"""The built-in optical emulator on real stars whose labels are known.

`stars`: the Sun (HARPS twice, UVES), 18 Sco, Procyon and HD 122563 by the recipes harps and uves, without and
with the Sun as zero point (one HARPS spectrum, by which no other star is judged), beside the literature.
`miles`: stars of MILES of 4,000 to 7,500 K by the recipe miles: as they are; with twenty random stars as zero
point; and with errors learnt from these stars, too. The others are judged: "inside" those whose catalogue
labels lie in the emulator's ranges, "sound" those of them without a flag. Bias (median), robust scatter, and
the share within the 68 % interval, against the catalogue as it is.
`files`: `draper predict builtin:optical-emulator` on files as they are, with no option but those without
which a file cannot be read.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

import draper
from draper import Spectra
from draper.models.emulator.model import Emulator
from draper.results.estimates import Estimates
from report import arguments, report, show

PARTS = ("stars", "miles", "files")
SHOWN = ("teff", "logg", "fe_h")
AIR = {"unit": "angstrom", "medium": "air"}

STARS: dict[str, tuple[str, dict[str, Any], dict[str, Any], tuple[float, float, float]]] = {
    "Sun, HARPS (zero point)": (
        "harps/Sun_HARPS.fits",
        {"medium": "air"},
        {"recipe": "harps"},
        (5772, 4.438, 0.0),
    ),
    "Sun, HARPS": ("harps/sun01_harps.fits", {"medium": "air"}, {"recipe": "harps"}, (5772, 4.438, 0.0)),
    "Sun, UVES": (
        "uves_sun/UVES_Sun-1_cleaned_norm.txt.gz",
        {**AIR, "repeated": "mean"},
        {"recipe": "uves", "resolving_power": 80_000.0},
        (5772, 4.438, 0.0),
    ),
    "18 Sco": (
        "harps/HARPS.Archive_18Sco_R32K.fits",
        AIR,
        {"recipe": "harps", "resolving_power": 32_000.0},
        (5810, 4.44, 0.03),
    ),
    "Procyon": ("harps/HARPS.GBOG_Procyon.fits", {}, {"recipe": "harps"}, (6554, 4.00, -0.04)),
    "HD 122563": (
        "mike_hd122563/hd122563.fits",
        AIR,
        {"recipe": "uves", "resolving_power": 35_000.0},
        (4600, 1.6, -2.6),
    ),
}
"""Files, how they are read and fitted, and labels in the literature (Gaia benchmark stars)."""

FILES: dict[str, dict[str, Any]] = {
    "harps/Sun_HARPS.fits": {"medium": "air"},
    "harps/sun01_harps.fits": {"medium": "air"},
    "harps/HARPS.Archive_18Sco_R32K.fits": AIR,
    "harps/HARPS.GBOG_Procyon.fits": {},
    "harps/HARPS.GBOG_alfTau.fits": {},
    "uves_sun/UVES_Sun-1_cleaned_norm.txt.gz": {**AIR, "repeated": "mean"},
    "mike_hd122563/hd122563.fits": AIR,
}

ANCHORS = 20
RANGE = (4000.0, 7500.0)
KEYS = ("fit", "stars")


def off(row: dict[str, Any], estimates: Estimates, truth: tuple[float, ...]) -> dict[str, Any]:
    """Return a row with labels, their errors, and what they differ from the literature by."""
    for name, true in zip(SHOWN, truth, strict=True):
        place = estimates.labels.names.index(name)
        row |= {name: float(estimates.median[0, place]), f"{name} err": float(estimates.sigma[0, place])}
        row[f"{name} off"] = row[name] - true
    return row | {"flags": raised(estimates)}


def raised(estimates: Estimates) -> str:
    """Return the flags of the first spectrum."""
    return " ".join(name for name, values in estimates.flags.items() if values[0]) or "-"


def stars(model: Emulator, data: Path) -> Iterator[dict[str, Any]]:
    """Yield the fits of stars at high resolution."""
    spectra = {name: draper.read(data / path, **hints) for name, (path, hints, _, _) in STARS.items()}
    for zero_point in ("none", "the Sun"):
        if zero_point != "none":
            first = next(iter(STARS))
            model.zero_point(spectra[first], "sun", **STARS[first][2])
        for name, (_, _, options, truth) in STARS.items():
            found = model.predict(spectra[name], **options)
            yield off({"star": name, "zero point": zero_point}, found, truth)


def judged(
    what: str, found: Estimates, stars: Spectra, rows: NDArray[np.bool_], low: Any, high: Any
) -> Iterator[dict[str, Any]]:
    """Yield bias, scatter and coverage of three groups of stars."""
    truth = np.stack([stars.table[name] for name in SHOWN], axis=1).astype(np.float64)
    places = [found.labels.names.index(name) for name in SHOWN]
    inside = ((truth >= low) & (truth <= high)).all(axis=1)
    flagged = np.stack(list(found.flags.values())).any(axis=0)
    first, last = (ends[:, places] for ends in found.interval(0.6827))
    groups = {"all": rows, "inside": rows & inside, "sound": rows & inside & ~flagged}
    for group, chosen in groups.items():
        row: dict[str, Any] = {"fit": what, "stars": group, "n": int(chosen.sum())}
        for number, name in enumerate(SHOWN):
            error = found.median[chosen, places[number]] - truth[chosen, number]
            bias = float(np.nanmedian(error))
            row[f"{name} bias"] = bias
            row[f"{name} scatter"] = float(1.4826 * np.nanmedian(np.abs(error - bias)))
            hit = (truth >= first) & (truth <= last)
            row[f"{name} within"] = float(100 * np.mean(hit[chosen, number]))
        yield row


def miles(artifact: str, data: Path, seeds: int) -> Iterator[dict[str, Any]]:
    """Yield the errors of MILES stars."""
    stars = draper.read(data / "miles/miles.npz", **AIR)
    labels = np.stack([stars.table[name] for name in SHOWN], axis=1)
    stars = stars[np.isfinite(labels).all(axis=1) & (labels[:, 0] > RANGE[0]) & (labels[:, 0] < RANGE[1])]
    plain = cast(Emulator, draper.load(artifact))
    low, high = (np.array([getattr(plain.labels[name], end) for name in SHOWN]) for end in ("low", "high"))
    everything = np.ones(len(stars), dtype=bool)
    yield from judged("as it is", plain.predict(stars, recipe="miles"), stars, everything, low, high)
    for seed in range(seeds):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(stars))[:ANCHORS])
        rest = ~np.isin(np.arange(len(stars)), chosen)
        for learns in (False, True):
            model = cast(Emulator, draper.load(artifact))
            if learns:
                model.learn_error(stars[chosen], recipe="miles")
            model.zero_point(stars[chosen], recipe="miles")
            what = f"zero point of {ANCHORS}" + (", error learnt" if learns else "")
            yield from judged(what, model.predict(stars, recipe="miles"), stars, rest, low, high)


def files(model: Emulator, data: Path) -> Iterator[dict[str, Any]]:
    """Yield what defaults make of files."""
    for path, hints in FILES.items():
        start = time.process_time()
        found = model.predict(draper.read(data / path, **hints))
        row: dict[str, Any] = {"file": path, "flags": raised(found)}
        for name in (*SHOWN, "rv"):
            row[name] = float(found[name][0])
        yield row | {"CPU s": time.process_time() - start}


def mean(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over choices of reference stars."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["fit"], row["stars"]), []).append(row)
    return [
        {
            "fit": fit,
            "stars": group,
            **{
                name: float(np.mean([row[name] for row in own]))
                for name in own[0]
                if name not in ("fit", "stars")
            },
        }
        for (fit, group), own in groups.items()
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default="../shared/data", help="folder of the data")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which parts")
    parser.add_argument("--seeds", type=int, help="random choices of reference stars (2; 5 with --full)")
    parser.add_argument("--model", default="builtin:optical-emulator", help="the emulator")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = options.seeds or (5 if options.full else 2)
    facts = {"threads": 1, "choices of reference stars": seeds, "model": options.model}
    print("Full size" if options.full else "Fewer choices than --full:", facts, flush=True)
    for part in options.parts:
        path = options.json and options.json.with_name(f"{options.json.stem}-{part}{options.json.suffix}")
        model = cast(Emulator, draper.load(options.model))
        if part == "miles":
            rows = mean(list(map(show, miles(options.model, options.data, seeds))))
        else:
            rows = list(map(show, (stars if part == "stars" else files)(model, options.data)))
        report(f"Optical emulator: {part}", rows, facts, path)


if __name__ == "__main__":
    main()
