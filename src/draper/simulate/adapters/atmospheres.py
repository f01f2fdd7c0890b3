"""Interpolation in grids of ATLAS9 model atmospheres, for synthesis codes."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draper.errors import DraperError

FloatArray = NDArray[np.float64]

COLUMNS = ("mass column", "temperature", "pressure", "electrons", "opacity")
"""Columns of a model, from the top down: RHOX, T, P, XNE and ABROSS of ATLAS9 [g/cm2, K, dyn/cm2, 1/cm3,
cm2/g]."""

LOGARITHMIC = [0, 2, 3, 4]
"""Numbers of the columns whose logarithm is interpolated."""

HEAD = re.compile(r"^\s*TEFF\s+([\d.]+)\s+GRAVITY\s+([-\d.]+)", re.MULTILINE)
SCALE = re.compile(r"ABUNDANCE SCALE\s+([\d.]+)")
REST = " 0.000E+00 2.000E+05"
"""Further columns of a row that synthesis codes ignore: radiative acceleration and turbulence."""

DECK = re.compile(r"READ DECK6\s+(\d+)[^\n]*\n")


@dataclass(frozen=True, eq=False)
class Atmospheres:
    """Models on a rectangular grid; NaN where one is missing.

    Attributes
    ----------
    fe_h, teff, logg : ndarray (a,), (t,), (g,)
        Increasing nodes.
    models : ndarray (a, t, g, d, 5)
        ``COLUMNS`` at d depths.
    """

    fe_h: FloatArray
    teff: FloatArray
    logg: FloatArray
    models: NDArray[np.float32]

    def at(self, teff: float, logg: float, fe_h: float) -> FloatArray:
        """Return the model (d, 5) interpolated linearly at each depth, in logarithms except for T."""
        places = [
            _place(axis, value, name)
            for axis, value, name in (
                (self.fe_h, fe_h, "fe_h"),
                (self.teff, teff, "teff"),
                (self.logg, logg, "logg"),
            )
        ]
        total = np.zeros(self.models.shape[3:])
        for corner in product((0, 1), repeat=3):
            weight = np.prod(
                [part if side else 1 - part for side, (_, part) in zip(corner, places, strict=True)]
            )
            if weight == 0:
                continue
            a, t, g = (low + side for side, (low, _) in zip(corner, places, strict=True))
            model = self.models[a, t, g].astype(np.float64)
            if not np.isfinite(model).all():
                raise DraperError(
                    "a model is missing in the grid of atmospheres",
                    given=f"teff={teff:g}, logg={logg:g}, fe_h={fe_h:g}",
                    expected=f"a model of {self.teff[t]:g}, {self.logg[g]:g}, {self.fe_h[a]:g}",
                    hint="leave the star out, or use a larger grid",
                )
            model[:, LOGARITHMIC] = np.log(model[:, LOGARITHMIC])
            total += weight * model
        total[:, LOGARITHMIC] = np.exp(total[:, LOGARITHMIC])
        return total


def _place(axis: FloatArray, value: float, name: str) -> tuple[int, float]:
    """Return the node below a value, and the fraction of the way to the next node."""
    if not axis[0] <= value <= axis[-1]:
        raise DraperError(
            f"{name} is outside the grid of atmospheres",
            given=value,
            expected=f"{axis[0]:g} to {axis[-1]:g}",
        )
    if len(axis) == 1:
        return 0, 0.0
    low = min(int(np.searchsorted(axis, value, side="right")) - 1, len(axis) - 2)
    return low, float((value - axis[low]) / (axis[low + 1] - axis[low]))


@lru_cache(maxsize=1)
def load(path: Path) -> Atmospheres:
    """Read a grid: ATLAS9 models as text, one file or a folder of them, or a packed ``.npz``.

    The text is that of Kurucz's and Castelli's grids (``TEFF ... GRAVITY ...``, ``ABUNDANCE SCALE``,
    ``READ DECK6``), with any number of models in a file. A packed file holds ``mh``, ``teff``, ``logg`` and
    ``model`` (a, t, g, d, 5), as :func:`pack` writes it.
    """
    if zipfile.is_zipfile(path):
        with np.load(path, allow_pickle=False) as arrays:
            missing = {"mh", "teff", "logg", "model"} - set(arrays)
            if missing:
                raise DraperError(
                    "this is not a grid of atmospheres",
                    given=path,
                    expected=f"arrays {', '.join(sorted(missing))}",
                )
            fe_h, teff, logg = (np.asarray(arrays[name], np.float64) for name in ("mh", "teff", "logg"))
            return Atmospheres(fe_h, teff, logg, np.asarray(arrays["model"], np.float32))
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    models_by_node: dict[tuple[float, float, float], FloatArray] = {}
    for file in files:
        models_by_node.update(parse(file.read_text(encoding="latin-1")))
    if not models_by_node:
        raise DraperError(
            "there are no model atmospheres",
            given=path,
            expected="ATLAS9 models as text (READ DECK6)",
            hint="name the file or folder of a grid, such as ap00k2odfnew.dat",
        )
    depths = {len(model) for model in models_by_node.values()}
    if len(depths) > 1:
        raise DraperError(
            "models differ in the number of depths", given=sorted(depths), hint="use models of one grid"
        )
    fe_h, teff, logg = (np.unique([key[axis] for key in models_by_node]) for axis in range(3))
    models = np.full((len(fe_h), len(teff), len(logg), depths.pop(), len(COLUMNS)), np.nan, np.float32)
    for (a, t, g), model in models_by_node.items():
        models[np.searchsorted(fe_h, a), np.searchsorted(teff, t), np.searchsorted(logg, g)] = model
    return Atmospheres(fe_h, teff, logg, models)


def pack(grid: Atmospheres, path: Path) -> Path:
    """Write a grid to one ``.npz`` file, which loads much faster than text."""
    np.savez_compressed(path, mh=grid.fe_h, teff=grid.teff, logg=grid.logg, model=grid.models)
    return path


def parse(text: str) -> dict[tuple[float, float, float], FloatArray]:
    """Return the models (d, 5) in a text by (fe_h, teff, logg)."""
    models_by_node: dict[tuple[float, float, float], FloatArray] = {}
    heads = list(HEAD.finditer(text))
    for head, (start, end) in zip(
        heads, pairwise([*(head.start() for head in heads), len(text)]), strict=True
    ):
        part = text[start:end]
        scale, deck = SCALE.search(part), DECK.search(part)
        if scale is None or deck is None:
            continue
        rows = [line.split()[: len(COLUMNS)] for line in part[deck.end() :].splitlines()[: int(deck[1])]]
        try:
            model = np.array(rows, dtype=np.float64)
        except ValueError:
            continue  # the table is incomplete
        if model.shape == (int(deck[1]), len(COLUMNS)):
            models_by_node[round(float(np.log10(float(scale[1]))), 2), float(head[1]), float(head[2])] = model
    return models_by_node


def as_text(model: FloatArray, teff: float, logg: float) -> str:
    """Return a model (d, 5) as ATLAS9 writes it."""
    rows = "".join(
        f"{mass:15.8E}{temperature:9.1f}{pressure:10.3E}{electrons:10.3E}{opacity:10.3E}{REST}\n"
        for mass, temperature, pressure, electrons, opacity in model
    )
    return (
        f"TEFF {teff:7.0f}.  GRAVITY {logg:7.5f} LTE\nTITLE  interpolated\n"
        f"READ DECK6 {len(model)} RHOX,T,P,XNE,ABROSS,ACCRAD,VTURB\n{rows}"
    )
