"""Disentangling of real stars with published labels: MILES, and as many simulated stars beside them.

MILES: stars of 3,800 to 8,000 K, 4,000 to 7,000 A, over a polynomial continuum. A split by star leaves 40 %
out; the Disentangler learns from the others with its default options and 8 latents. Teff and log g are
removed and [Fe/H] is kept, or the reverse. On left-out stars stand:

- the leak of the removed labels and R2 of the kept ones (`draper leakage`: probes learn one half of the
  left-out stars and predict the other), for the default engine and for GANDALF's;
- R2 of labels as neighbours in a t-SNE map have them, for spectra and for latents;
- edits, judged by real stars: pairs of left-out stars with nearly the same labels but one. The first one gets
  the labels of the second; `left` is the mean squared difference from the second's spectrum relative to that
  of both spectra before, `rebuilt` that of the second's own reconstruction, which an edit hardly beats.

The same for as many stars of a simulated Gaia RVS survey, with the same split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import draper
from draper import Spectra, TrainConfig
from draper.configs.disentangler import Engine
from draper.latents.map import embed, neighbour_r2
from draper.models.disentangler.model import Disentangler
from draper.models.translator.fitted import level_of
from draper.plots.latent import plot_maps
from draper.plots.style import save
from draper.simulate.survey import Survey
from report import arguments, report, show

LABELS = ("teff", "logg", "fe_h")
PAIRS = {"teff, logg": ("teff", "logg"), "fe_h": ("fe_h",)}
ENGINES: tuple[Engine, ...] = ("bottleneck", "bins")
DEGREE = 6
"""Degree of the continuum of MILES."""

NEAR = {"teff": 150.0, "logg": 0.4, "fe_h": 0.15}
"""Largest differences of labels that count as the same."""

FAR = {"teff": 500.0, "logg": 1.0, "fe_h": 0.5}
"""Least differences of labels that are changed."""


def miles(folder: Path) -> Spectra:
    """Return stars of MILES with all labels, over their continuum."""
    stars = draper.read(folder / "miles/miles.npz", medium="air", unit="angstrom")
    stars = stars.cut([(4000, 7000)])
    values = stars.columns(LABELS)
    stars = stars[np.isfinite(values).all(axis=1) & (values[:, 0] > 3800) & (values[:, 0] < 8000)]
    level = level_of(stars.flux, stars.ivar, DEGREE)
    table = dict(stars.table)
    return Spectra(stars.grid, stars.flux / level, stars.ivar * level**2, table, "normalised flux")


def simulated(n: int) -> Spectra:
    """Return as many stars of a survey, of like labels."""
    return Survey("gaia-rvs-800").simulate(n, seed=21)


def figures(
    name: str, stars: Spectra, removed: str, engine: Engine, seed: int, out: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield leak, maps and edits of one training."""
    train, test = stars.split(0.6, seed=seed)
    remove = PAIRS[removed]
    keep = tuple(label for label in LABELS if label not in remove)
    model = Disentangler(engine=engine, remove=remove, keep=keep, latent=8, probe=False)
    model.fit(train, train=TrainConfig(seed=seed, threads=1, progress="none"))
    leakage = model.leakage(test)
    facts = {"stars": name, "removed": removed, "engine": engine, "split": seed}
    for label in remove:
        worst = leakage[label]["worst"]
        yield {**facts, "label": label, "leak": worst["value"], "+-": worst["error"]}
    for label in keep:
        yield {**facts, "label": label, "kept": leakage.kept_ratio[label]}
    if engine != "bottleneck":
        return
    points = {"spectra": test.flux, "latents": model.encode(test)}
    maps = {kind: embed(x, perplexity=15).coordinates for kind, x in points.items()}
    for label in LABELS:
        yield {
            **facts,
            "label": label,
            **{f"map of {kind}": neighbour_r2(xy, test.table[label]) for kind, xy in maps.items()},
            **edits(model, test, label),
        }
    if out is not None:
        colours = {label: np.asarray(test.table[label], dtype=float) for label in ("teff", "fe_h")}
        save(plot_maps(maps, colours), out / f"miles-latents-{'-'.join(remove)}.png")


def edits(model: Disentangler, test: Spectra, label: str) -> dict[str, float]:
    """Return how near changed stars come to other real stars that have the new labels."""
    values = test.columns(LABELS).astype(np.float64)
    off = values[:, None] - values
    same = [np.abs(off[..., n]) < NEAR[other] for n, other in enumerate(LABELS) if other != label]
    changed = np.abs(off[..., LABELS.index(label)]) > FAR[label]
    first, second = np.nonzero(np.all(same, axis=0) & changed)
    if not len(first):
        return {"pairs": 0.0}
    wanted = {name: values[second, n] for n, name in enumerate(LABELS)}
    made = model.generate(test[first], wanted).flux
    rebuilt = model.reconstruct(test).flux
    weight = test.ivar[second] > 0

    def distance(flux: NDArray[np.float32]) -> float:
        return float((weight * np.square(flux - test.flux[second])).sum(axis=1).mean())

    before = distance(test.flux[first])
    return {
        "pairs": float(len(first)),
        "left": distance(made) / before,
        "rebuilt": distance(rebuilt[second]) / before,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data")
    parser.add_argument("--splits", type=int, default=3, help="splits by star")
    parser.add_argument("--maps", type=Path, help="folder for maps of the first split")
    options = parser.parse_args()
    torch.set_num_threads(1)
    real = miles(options.data)
    rows: list[dict[str, Any]] = []
    for name, stars in (("MILES", real), ("simulated", simulated(len(real)))):
        for split in range(options.splits):
            for removed in PAIRS:
                for engine in ENGINES:
                    maps = options.maps if name == "MILES" and split == 0 else None
                    rows += map(show, figures(name, stars, removed, engine, split, maps))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    facts = {"real stars": len(real), "pixels": len(real.grid), "threads": 1}
    report("Disentangling of real stars", rows, facts, options.json, columns)


if __name__ == "__main__":
    main()
