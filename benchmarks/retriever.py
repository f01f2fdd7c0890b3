"""What the Retriever's posteriors are worth, beside regressions, nested sampling and the Cramer-Rao bound.

Parts, all by default; each says its sizes beside its figures:

- accuracy: TauREx's spectra (``--data``), of which a fifth never served the fit of the opacities; estimates
  against truth, with 1 ppm (no noise), 30 and 100 ppm, beside regressions, inpainting and the bound.
- referee: posteriors and evidence beside those of many broad samples, and of dynesty (an optional extra).
- efficiency: of importance sampling, by instrument and error, before and after refinement, and against the
  number of training steps.
- coverage: of the network's posteriors on fresh simulations, and ranks.
- novelty: flags of spectra with gases, or clouds, that the model does not know, and false ones.
- real: measured spectra (``--spectra-of``), retrieved or flagged.

By default under an hour on two cores; the full size takes a day, most of it dynesty's. One thread.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch

import draper
from draper.models.retriever.model import Retriever
from report import arguments, report
from retrieval.accuracy import accuracy
from retrieval.coverage import coverage
from retrieval.efficiency import efficiency
from retrieval.novelty import novelty
from retrieval.real import real
from retrieval.referee import referee
from retrieval.sheets import Sheet

Options = Any
Part = Callable[[Retriever, Options], list[Sheet]]


def _accuracy(model: Retriever, options: Options) -> list[Sheet]:
    sizes: dict[str, Any] = {"spectra": 0, "inpaint": 40} if options.full else {}
    return accuracy(model, options.data, options=settings(options), **{**sizes, **chosen(options)})


def _referee(model: Retriever, options: Options) -> list[Sheet]:
    sizes: dict[str, Any] = {"spectra": 20, "by_nested": 20, "live": 1000} if options.full else {}
    if options.nested is not None:
        sizes["by_nested"] = options.nested
    if find_spec("dynesty") is None:
        print("dynesty: left out; pip install draper[nested]")
        sizes["by_nested"] = 0
    return referee(model, options=settings(options), **{**sizes, **chosen(options)})


def _efficiency(model: Retriever, options: Options) -> list[Sheet]:
    others = {path.name: load(path) for path in options.others}
    sizes: dict[str, Any] = {"spectra": 200, "steps": (250, 1000, 4000)} if options.full else {}
    if options.steps is not None:
        sizes["steps"] = tuple(options.steps)
    return efficiency(model, options=settings(options), others=others, **{**sizes, **chosen(options)})


def _coverage(model: Retriever, options: Options) -> list[Sheet]:
    return coverage(model, number=options.number or (10_000 if options.full else 2000))


def _novelty(model: Retriever, options: Options) -> list[Sheet]:
    sizes: dict[str, Any] = {"spectra": 200, "steps": 4000} if options.full else {}
    clear = load(options.clear) if options.clear else None
    sizes |= {} if options.spectra is None else {"spectra": options.spectra}
    return novelty(model, options=settings(options), clear=clear, **sizes)


def _real(model: Retriever, options: Options) -> list[Sheet]:
    return real(model, options.spectra_of, options=settings(options), spectra=options.spectra or 0)


PARTS: dict[str, Part] = {
    "accuracy": _accuracy,
    "referee": _referee,
    "efficiency": _efficiency,
    "coverage": _coverage,
    "novelty": _novelty,
    "real": _real,
}


def chosen(options: Options) -> dict[str, Any]:
    """Return the number of spectra and the errors of their bins, if they were given."""
    given = {"spectra": options.spectra, "levels": options.levels and tuple(options.levels)}
    return {name: value for name, value in given.items() if value is not None}


def settings(options: Options) -> dict[str, Any]:
    """Return the options of ``predict``."""
    return {"draws": options.draws, "refine": options.refine}


def load(path: Path | str) -> Retriever:
    """Return a model of the Retriever."""
    return cast(Retriever, draper.load(path))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which parts")
    parser.add_argument("--model", default="builtin:planets", help="the artifact")
    parser.add_argument("--others", nargs="*", type=Path, default=[], help="further ones, for the efficiency")
    parser.add_argument("--clear", type=Path, help="an artifact without clouds; by default one is trained")
    parser.add_argument("--data", type=Path, default="../shared/data/taurex_exogan/train_1544.npz")
    parser.add_argument("--spectra-of", type=Path, default="../shared/data/transmission", metavar="FOLDER")
    parser.add_argument("--spectra", type=int, help="number of spectra of each case, 0 for all")
    parser.add_argument(
        "--levels", type=float, nargs="+", help="errors of a bin [ppm], for accuracy, referee and efficiency"
    )
    parser.add_argument(
        "--nested", type=int, help="spectra of each level that dynesty samples, for the referee"
    )
    parser.add_argument("--number", type=int, help="number of simulations for the coverage")
    parser.add_argument("--draws", type=int, default=10_000, help="samples that are weighted")
    parser.add_argument("--refine", choices=("auto", "never", "nested"), default="auto", help="see predict")
    parser.add_argument("--steps", type=int, nargs="*", help="training steps, for the efficiency")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.model)
    for part in options.parts:
        for number, sheet in enumerate(PARTS[part](model, options)):
            path = options.json
            if path is not None:
                path = path.with_name(f"{path.stem}-{part}-{number}{path.suffix}")
            report(sheet.title, sheet.rows, {"model": str(options.model), **sheet.facts}, path, sheet.columns)


if __name__ == "__main__":
    main()
