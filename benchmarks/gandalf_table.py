"""Table 1 of the GANDALF paper on a simulated survey with known truth, with the rows that it lacks.

64,305 stars of a simulated Gaia RVS survey (G = 8-14, published labels with errors), a fifth held out by
star. From each representation the same 200-100 network predicts Teff, log g, [M/H] and [alpha/Fe]: from raw
spectra, as they are and standardised, from 25 principal components, and from 25 latents: of a plain
autoencoder ("pure"), one that keeps all labels ("supervised"), and two that keep a pair and remove the
other ("first" keeps Teff and log g, "second" [M/H] and [alpha/Fe], as in the paper's table) with each
engine of removal. Beside them stand the fit of an emulator and the Cramer-Rao bound. For each latent: how
well fresh probes predict removed and kept labels, the misfit of reconstructions, and the swap test.
Finished cells are kept in the folder and not computed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from draper.latents.map import embed, opentsne
from draper.plots.diagrams import plot_abundances, plot_kiel
from draper.plots.latent import plot_maps
from draper.plots.relabelled import plot_swap
from draper.plots.style import save
from gandalf.cells import ENGINES, LABELS, PARTS, Cell, Cells, Settings, cells_of
from report import arguments, report

PAPER = {"teff": 0.77, "logg": 0.61, "fe_h": 0.66, "alpha_fe": 0.79}
"""Ratios of the MAE of the better latent to that of raw spectra in the paper's Table 1."""

SIMPLE = ("raw, raw labels", "raw", "standardised", "PCA-25")
REFERENCES = ("raw", "standardised", "Cramer-Rao bound", "bound, relations known")
DEFAULT_ENGINES = ("bottleneck", "bins", "continuous")
ALL_ENGINES = (*ENGINES, "bins@0.1", "bins@1", "bins+erase", "none+erase")
"""``joint`` only removes: one discriminator of all labels together cannot keep others."""

SIZES = {
    "reading": "maximum number of epochs of the regressors that read labels",
    "fits": "held-out stars that the emulator is fitted to",
    "swaps": "held-out stars whose labels are swapped",
    "fresh": "further stars for the training of probes",
}
"""Options of the sizes of a run."""

Found = list[tuple[Cell, dict[str, Any]]]


def spread(values: Iterable[float]) -> str:
    """Return the median, and the range where there are several."""
    found = np.array(list(values))
    middle = f"{np.median(found):.3g}"
    return middle if len(found) == 1 else f"{middle} ({found.min():.3g}-{found.max():.3g})"


def titles(found: Found) -> dict[str, list[dict[str, Any]]]:
    """Return rows of the table by title, one for each seed."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for _, figures in found:
        for title, row in figures["rows"].items():
            rows.setdefault(title, []).append(row)
    return rows


def table(found: Found, against: str) -> list[dict[str, Any]]:
    """Return Table 1: MAE, mean, scatter of residuals and of their absolute values, by label."""
    measures = ("mae", "mean", "sd", "sd_absolute")
    return [
        {"read from": title}
        | {
            name: " / ".join(spread(one[name][against][key] for one in rows) for key in measures)
            for name in LABELS
        }
        for title, rows in titles(found).items()
    ]


def ratios(found: Found) -> list[dict[str, Any]]:
    """Return the MAE of the latents that keep a label over that of each reference, against the truth."""
    rows = titles(found)

    def mae(title: str, name: str) -> float:
        return float(np.median([one[name]["truth"]["mae"] for one in rows[title]]))

    made: list[dict[str, Any]] = [{"latent over reference": "paper, over raw spectra", **PAPER}]
    engines = dict.fromkeys(cell.engine for cell, _ in found if cell.kind in PARTS)
    for engine in engines:
        keeps = {name: part for part, (_, kept) in PARTS.items() for name in kept}
        for reference in REFERENCES:
            made.append(
                {"latent over reference": f"{engine}, over {reference}"}
                | {name: mae(f"{keeps[name]}, {engine}", name) / mae(reference, name) for name in LABELS}
            )
    return made


def leaks(found: Found) -> list[dict[str, Any]]:
    """Return the leak of removed labels, and the ratio of kept ones, by the best probe."""
    made = []
    grouped: dict[str, list[dict[str, Any]]] = {}
    for cell, figures in found:
        if cell.kind in PARTS:
            grouped.setdefault(cell.title, []).append(figures)
    for title, seeds in grouped.items():
        part = title.split(",")[0]
        removed, kept = PARTS[part]
        labels = [one["leakage"][part]["labels"] for one in seeds]
        row: dict[str, Any] = {"latent": title}
        row["leak"] = ", ".join(
            f"{n} {spread(one[n]['best_leak']['value'] for one in labels)}" for n in removed
        )
        row["given kept"] = ", ".join(
            f"{n} {spread(one[n]['best_conditional']['value'] for one in labels)}" for n in removed
        )
        attacks = dict.fromkeys(name for one in labels for name in one[removed[0]]["attacks"])
        for kind in attacks:
            row[f"to {kind}"] = ", ".join(
                f"{n} {spread(one[n]['attacks'][kind]['value'] for one in labels)}" for n in removed
            )
        row["kept"] = ", ".join(
            f"{n} {spread(one[n]['kept_ratio']['value'] for one in labels)}" for n in kept
        )
        row["chi2"] = spread(one["reconstruction"]["chi2"] for one in seeds)
        row["CPU s"] = spread(one["training_cpu_seconds"] for one in seeds)
        made.append(row)
    made += [
        {
            "latent": cell.title,
            "chi2": spread([figures["reconstruction"]["chi2"]]),
            "CPU s": spread([figures["training_cpu_seconds"]]),
        }
        for cell, figures in found
        if cell.kind in ("pure", "supervised")
    ]
    return made


def swaps(found: Found) -> list[dict[str, Any]]:
    """Return slope and error of the measured change of each label, and the largest of another label."""
    made = []
    for cell, figures in found:
        if "swap" not in figures:
            continue
        row: dict[str, Any] = {"relabelled by": "the simulator itself" if cell.kind == "swap" else cell.title}
        for name in LABELS:
            one = figures["swap"][name]
            side = max((abs(other["slope"]), label) for label, other in one["others"].items())
            row[name] = f"{one['slope']:.3f}; {one['median_error']:.1%}; {side[1]} {side[0]:.1%}"
        made.append(row)
    return made


def draw(cells: Cells, found: Found, folder: Path) -> None:
    """Draw Figs. 8 to 10 of the paper, and the swap test."""
    _, held_out = cells.data
    true = {name: held_out.column(f"{name}_true") for name in LABELS}
    wanted = [
        "raw",
        "standardised",
        "pure, none",
        "first, bottleneck",
        "second, bottleneck",
        "first, bins",
        "second, bins",
    ]
    first_of = {cell.title: cell for cell, _ in reversed(found)}
    panels = {"truth": true}
    for title in wanted:
        if title in first_of:
            labels = cells.arrays(first_of[title])["labels"]
            panels[title] = dict(zip(LABELS, labels.T.astype(float), strict=True))
    save(plot_kiel(panels), folder / "kiel.png")
    save(plot_abundances(panels), folder / "abundances.png")
    maps: dict[str, Any] = {}
    for title in ("pure, none", "first, bottleneck", "second, bottleneck", "second, bins"):
        if title in first_of:
            maps[title] = embed(cells.arrays(first_of[title])["latents"], seed=0).coordinates
    if maps:
        n = len(next(iter(maps.values())))
        maps = {"spectra": embed(np.array(held_out.flux[:n]), seed=0).coordinates, **maps}
        save(plot_maps(maps, {name: values[:n] for name, values in true.items()}), folder / "maps.png")
    for title in ("first, bottleneck", "second, bottleneck"):
        if title in first_of:
            arrays = cells.arrays(first_of[title])
            asked = {name: arrays[f"{name}_asked"] for name in LABELS}
            back = {name: arrays[f"{name}_read"][:, number] for number, name in enumerate(LABELS)}
            save(plot_swap(asked, back), folder / f"swap-{title.split(',')[0]}.png")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, default=Path("gandalf-table"), help="folder of finished cells")
    parser.add_argument("--engines", nargs="+", help="of removal: NAME, maybe with @STRENGTH, and +erase")
    parser.add_argument("--seeds", type=int, help="trainings of each (1; 5 with --full)")
    parser.add_argument("--stars", type=int, default=Settings.stars, help="stars of the survey")
    parser.add_argument("--epochs", type=float, default=Settings.epochs, help="of autoencoders")
    for name, what in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings, name), help=what)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engines = options.engines or (ALL_ENGINES if options.full else DEFAULT_ENGINES)
    opentsne("openTSNE")  # its maps are drawn after all the work
    sizes = {name: getattr(options, name) for name in SIZES}
    settings = replace(Settings(), stars=options.stars, epochs=options.epochs, **sizes)
    if options.full:
        settings = replace(settings, probe_seeds=(0, 1, 2))
    cells = Cells(options.out, settings, options.threads)
    wanted = cells_of(engines, range(options.seeds or (5 if options.full else 1)))
    found: Found = []
    for number, (cell, figures, is_new) in enumerate(cells.run(wanted), start=1):
        time = f"{figures['cpu_seconds']:.0f} CPU s" + ("" if is_new else ", kept from before")
        print(f"  {number}/{len(wanted)} {cell.title}, seed {cell.seed}: {time}", flush=True)
        found.append((cell, figures))
    facts = {name: value for name, value in asdict(settings).items() if name != "probe_seeds"}
    facts |= {"threads": options.threads, "split": "80/20 by star"}
    tables = {
        "Against the truth: MAE / mean / sd / sd of |residual|": table(found, "truth"),
        "Against published labels (with their errors)": table(found, "survey"),
        "MAE of the latent that keeps a label, over that of others": ratios(found),
        "Leak and what is kept (R2 of fresh probes), chi2 per pixel of reconstructions": leaks(found),
        "Swap test: slope; median error; largest slope of another label": swaps(found),
    }
    for title, rows in tables.items():
        report(title, rows, facts, None)
    if options.json is not None:
        options.json.write_text(json.dumps({"tables": tables, "facts": facts}, indent=1))
    draw(cells, found, options.out)
    print(f"figures in {options.out}")


if __name__ == "__main__":
    main()
