"""``draper demo``: the whole story on built-in data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from draper.cli.output import say, say_json


def demo(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("demo"),
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Read a built-in sample, print what it holds and draw some of it.

    Example: draper demo -o demo

    Parameters
    ----------
    out
        Folder for what the demo writes.
    json
        Print JSON.
    """
    import numpy as np

    from draper.data.samples import load
    from draper.plots.spectrum import plot_spectra
    from draper.plots.style import save

    spectra = load("sed-grid")
    by_teff = np.argsort(spectra.table["teff"])
    chosen = spectra[by_teff[np.linspace(0, len(spectra) - 1, 5).astype(int)]]
    named = chosen.with_columns(id=[f"{teff:.0f} K" for teff in chosen.table["teff"]])
    ax = plot_spectra(named)
    ax.set_yscale("log")
    ax.set_title("Five of the stars of the built-in SED grid")
    path = save(ax, out / "sed-grid.png")
    if json:
        say_json({"plot": path, **spectra.describe()})
    else:
        say(spectra, f"plot written to {path}")
