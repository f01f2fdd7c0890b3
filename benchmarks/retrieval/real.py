"""Transmission spectra of real planets: each is retrieved, or flagged as outside of what the model knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.models.retriever.model import Retriever
from draper.simulate.planets import LABELS
from retrieval.bounds import ends
from retrieval.sheets import Array, Sheet

FILES = {"jwst.npz": 2.0, "archive2021.npz": 1.0}
"""Files of spectra, and what their widths are multiplied by: the first holds half widths."""

INFLATIONS = (1.0, 10.0)
"""Largest factors by which all errors may be too small."""

MASS_ERROR = 0.1
"""1-sigma error of the known masses, relative."""

APART = 1e-6
"""Relative distance given to points of the same wavelength."""


class Known(NamedTuple):
    """Rounded values of the literature: star [solar radii], planet [MJ, RJ], equilibrium temperature [K]."""

    star: float
    mass: float
    radius: float
    temperature: float


KNOWN = {
    "55 Cnc e": Known(0.94, 0.025, 0.17, 1960),
    "CoRoT-1 b": Known(1.11, 1.03, 1.49, 1900),
    "GJ 1132 b": Known(0.21, 0.0052, 0.10, 580),
    "GJ 1214 b": Known(0.215, 0.026, 0.245, 590),
    "GJ 3470 b": Known(0.55, 0.040, 0.41, 600),
    "GJ 436 b": Known(0.46, 0.070, 0.37, 690),
    "HAT-P-1 b": Known(1.17, 0.53, 1.32, 1320),
    "HAT-P-11 b": Known(0.75, 0.081, 0.42, 880),
    "HAT-P-12 b": Known(0.70, 0.21, 0.96, 960),
    "HAT-P-18 b": Known(0.75, 0.20, 1.00, 850),
    "HAT-P-19 b": Known(0.82, 0.29, 1.13, 1010),
    "HAT-P-23 b": Known(1.09, 2.1, 1.22, 1950),
    "HAT-P-26 b": Known(0.79, 0.059, 0.57, 990),
    "HAT-P-32 b": Known(1.22, 0.75, 1.79, 1790),
    "HAT-P-41 b": Known(1.68, 0.80, 1.69, 1940),
    "HD 189733 b": Known(0.78, 1.13, 1.13, 1200),
    "HD 209458 b": Known(1.16, 0.69, 1.36, 1450),
    "HD 97658 b": Known(0.74, 0.025, 0.20, 750),
    "K2-18 b": Known(0.44, 0.027, 0.23, 270),
    "KELT-11 b": Known(2.69, 0.17, 1.35, 1710),
    "KELT-9 b": Known(2.36, 2.9, 1.89, 4050),
    "LHS 475 b": Known(0.286, 0.003, 0.089, 590),
    "Qatar-1 b": Known(0.80, 1.29, 1.14, 1420),
    "TRAPPIST-1 g": Known(0.12, 0.0042, 0.10, 200),
    "TrES-2 b": Known(1.00, 1.20, 1.22, 1470),
    "TrES-4 b": Known(1.80, 0.78, 1.74, 1780),
    "WASP-101 b": Known(1.29, 0.50, 1.41, 1560),
    "WASP-103 b": Known(1.44, 1.49, 1.53, 2500),
    "WASP-107 b": Known(0.67, 0.11, 0.94, 740),
    "WASP-117 b": Known(1.17, 0.28, 1.02, 1020),
    "WASP-12 b": Known(1.66, 1.47, 1.90, 2580),
    "WASP-121 b": Known(1.46, 1.18, 1.77, 2360),
    "WASP-127 b": Known(1.33, 0.165, 1.31, 1400),
    "WASP-17 b": Known(1.57, 0.51, 1.93, 1740),
    "WASP-19 b": Known(1.00, 1.11, 1.40, 2080),
    "WASP-21 b": Known(1.14, 0.28, 1.16, 1330),
    "WASP-29 b": Known(0.81, 0.24, 0.79, 970),
    "WASP-31 b": Known(1.25, 0.48, 1.55, 1575),
    "WASP-33 b": Known(1.51, 2.1, 1.60, 2700),
    "WASP-39 b": Known(0.93, 0.28, 1.27, 1120),
    "WASP-4 b": Known(0.91, 1.22, 1.36, 1670),
    "WASP-43 b": Known(0.67, 2.03, 1.04, 1440),
    "WASP-48 b": Known(1.58, 0.91, 1.40, 2030),
    "WASP-52 b": Known(0.79, 0.46, 1.27, 1300),
    "WASP-6 b": Known(0.87, 0.50, 1.22, 1190),
    "WASP-69 b": Known(0.81, 0.26, 1.06, 960),
    "WASP-74 b": Known(1.53, 0.83, 1.40, 1920),
    "WASP-76 b": Known(1.73, 0.92, 1.83, 2160),
    "WASP-79 b": Known(1.53, 0.86, 1.53, 1720),
    "WASP-80 b": Known(0.59, 0.54, 1.00, 825),
    "WASP-96 b": Known(1.05, 0.48, 1.20, 1285),
    "WASP-98 b": Known(0.70, 0.83, 1.10, 1180),
    "XO-1 b": Known(0.93, 0.92, 1.20, 1210),
    "XO-2 N b": Known(0.97, 0.60, 0.99, 1320),
}
"""What is not here gets a star of one solar radius and no known mass, and the table says so."""


def grid_of(points: Array, factor: float) -> Grid:
    """Return the bins of points (m, 4) in order of wavelength; without widths, half way to neighbours."""
    centre = points[:, 0].copy()
    for place in range(1, len(centre)):
        centre[place] = max(centre[place], centre[place - 1] * (1 + APART))
    width = factor * points[:, 1]
    gaps = np.diff(centre)
    nearest = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
    width = np.where(np.isfinite(width) & (width > 0), width, nearest)
    edges = np.stack([centre - width / 2, centre + width / 2], axis=1)
    return Grid.from_wavelength(centre, unit="um", medium="vacuum", edges=edges)


def spectra_of(path: Path, factor: float) -> Iterator[tuple[str, str, Spectra]]:
    """Iterate over planets, instruments and single spectra of a file."""
    with np.load(path, allow_pickle=False) as arrays:
        points, start, meta = arrays["points"], arrays["start"], arrays["meta"]
    for number, row in enumerate(meta):
        some = points[start[number] : start[number + 1]]
        some = some[np.isfinite(some[:, 0])]
        some = some[np.argsort(some[:, 0], kind="stable")]
        good = np.isfinite(some[:, 2:]).all(axis=1) & (some[:, 3] > 0)
        ivar = np.where(good, 1 / np.where(good, some[:, 3], 1) ** 2, 0)
        flux = np.where(good, some[:, 2], 0)
        what = row[1] if len(row) == 5 else f"{row[1]}: {row[4].lstrip('; ')}"
        source = {"source": str(row[2])}
        yield (
            row[0],
            what,
            Spectra(grid_of(some, factor), flux[None], ivar[None], quantity="transit depth", meta=source),
        )


def retrieved(
    model: Retriever, planet: str, spectra: Spectra, inflation: float, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the row of a spectrum."""
    known = KNOWN.get(planet)
    priors: dict[str, Any] = {}
    low, high = ends(model.labels)
    if known and low[0] < known.mass < high[0]:
        priors = {"planet_mass": (known.mass, MASS_ERROR * known.mass)}
    row: dict[str, Any] = {"star, mass": "known" if priors else "star known" if known else "unknown"}
    row["expected"] = f"{known.radius:g} RJ, {known.temperature:g} K" if known else ""
    begun = time.process_time()
    try:
        found = model.predict(
            spectra,
            inflation=inflation,
            star_radius=known.star if known else 1.0,
            priors=priors,
            **options,
        )
    except DraperError as error:
        return row | {"result": f"refused: {error.args[0]}"}
    except Exception as error:  # noqa: BLE001 - that none is raised is what is tested
        return row | {"result": f"raised {type(error).__name__}: {error}"}
    flags = [name for name, value in found.flags.items() if value[0]]
    row["result"] = ", ".join(flags) or "retrieved"
    columns = {name: values[0] for name, values in found.columns.items()}
    assert found.label_flags is not None
    for name, kind in zip(found.labels.names, found.label_flags[0], strict=True):
        ends_ = found.quantile(0.16)[0], found.quantile(0.84)[0]
        place = found.labels.names.index(name)
        middle = found.median[0, place]
        row[name] = f"{middle:.3g} {ends_[0][place] - middle:+.2g} {ends_[1][place] - middle:+.2g}"
        row[name] += "" if kind == "measured" else f" ({kind})"
    names = ("bins", "efficiency", "pareto_k", "chi2", "p_value", "misfit", "novelty", "how")
    return row | {name: columns[name] for name in names} | {"CPU s": time.process_time() - begun}


def real(
    model: Retriever,
    folder: Path,
    *,
    spectra: int = 0,
    options: Mapping[str, Any] = MappingProxyType({}),
    inflations: tuple[float, ...] = INFLATIONS,
    say: Callable[[str], None] = print,
) -> list[Sheet]:
    """Return how many real spectra were flagged, and a table of them; ``spectra`` of each file, 0: all."""
    rows, counts = [], []
    for inflation in inflations:
        results = []
        for name, factor in FILES.items():
            for number, (planet, what, one) in enumerate(spectra_of(folder / name, factor)):
                if spectra and number >= spectra:
                    break
                row = retrieved(model, planet, one, inflation, options)
                rows.append({"planet": planet, "instrument": what, "inflation up to": inflation, **row})
                results.append(row)
                say(f"{planet}, {what}, {inflation:g}: {row}")
        words = [row["result"] for row in results]
        counts.append(
            {
                "inflation up to": inflation,
                "spectra": len(words),
                "retrieved": sum(word in ("retrieved", "opacity_range") for word in words),
                "outside": sum("outside" in word for word in words),
                "unreliable": sum("unreliable" in word for word in words),
                "opacity range": sum("opacity_range" in word for word in words),
                "refused": sum("refused" in word for word in words),
                "raised": sum("raised" in word for word in words),
                "CPU s, median": float(np.median([row.get("CPU s", 0.0) for row in results])),
            }
        )
    facts = {
        "options": dict(options),
        "masses": f"rounded, with {MASS_ERROR:.0%} error, where they lie in the box",
        "unknown stars": "one solar radius",
        "intervals": "68 %",
    }
    shown = ("planet", "instrument", "inflation up to", "result", *LABELS.names[:4], "efficiency", "how")
    return [Sheet("Real spectra: how many", counts, facts), Sheet("Real spectra", rows, facts, shown)]
