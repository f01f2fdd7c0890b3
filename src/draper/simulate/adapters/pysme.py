"""PySME: LTE spectra of stars by Spectroscopy Made Easy."""

from __future__ import annotations

from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from draper.simulate.adapters.atmospheres import load
from draper.simulate.adapters.stellar import SyntheticStars, enhancements

BOLTZMANN, HYDROGEN_MASS = 1.380649e-16, 1.6735575e-24
STANDARD_WAVELENGTH = 5000.0

TABLE_MARK = "wlcent"
"""A column of CSV line lists that VALD files do not have."""


@dataclass(frozen=True, eq=False)
class PysmeStars(SyntheticStars):
    """Stars by PySME, plane-parallel and in LTE, with PySME's solar abundances.

    Line lists are files of VALD (short or long format), or CSV with PySME's own columns (``species``,
    ``wlcent``, ``excit``, ``gflog``, ``gamrad``, ``gamqst``, ``gamvw``, ``atom_number``, ``ionization``), in
    air. PySME computes lines of hydrogen only where the list names their levels.

    Attributes
    ----------
    own_atmospheres
        PySME's grid, used if ``atmospheres`` is not given; PySME downloads it on first use.
    """

    package: ClassVar[str] = "pysme-astro"
    module: ClassVar[str] = "pysme"
    extra: ClassVar[str] = "pysme"

    own_atmospheres: str = "marcs2012p_t1.0.sav"

    def spectrum(self, labels: dict[str, float]) -> NDArray[np.float64]:
        """Return the normalised flux (p,) of a star."""
        with redirect_stdout(StringIO()):
            return self._spectrum(labels)

    def _spectrum(self, labels: dict[str, float]) -> NDArray[np.float64]:
        from pysme.abund import Abund
        from pysme.sme import SME_Structure

        teff, logg, fe_h = (labels[name] for name in self.needed)
        star = SME_Structure()
        star.teff, star.logg, star.monh = teff, logg, fe_h
        star.vmic, star.vmac, star.vsini = labels.get("vmic", self.vmic), 0.0, 0.0
        star.abund = Abund(fe_h, "solar")
        for element, value in enhancements(labels).items():
            star.abund.set_xm(element, value)
        star.linelist = _line_list(self.lines)
        star.wave = self.grid().air
        # Otherwise lines that were weak in the previous star are left out, and the order of rows matters.
        star.line_select_recompute = "always"
        star.vrad_flag = star.cscale_flag = "none"
        if self.atmospheres is None:
            star.atmo.source, star.atmo.method, star.atmo.geom = self.own_atmospheres, "grid", "PP"
        else:
            star.atmo = _atmosphere(load(self.atmospheres).at(teff, logg, fe_h), star)
        result = _synthesizer().synthesize_spectrum(star)
        return np.asarray(result.synth[0], dtype=np.float64)


@lru_cache(maxsize=1)
def _synthesizer() -> Any:
    from pysme.synthesize import Synthesizer

    return Synthesizer()


@lru_cache(maxsize=1)
def _line_list(files: tuple[Path, ...]) -> Any:
    """Return PySME's list of all lines, by wavelength."""
    import pandas
    from pysme.linelist.linelist import LineList

    lists = [_one_list(file) for file in files]
    if len(lists) == 1:
        return lists[0]
    together = pandas.concat([line_list._lines for line_list in lists], ignore_index=True)
    return LineList(together.sort_values("wlcent", ignore_index=True), lineformat="short", medium="air")


def _one_list(file: Path) -> Any:
    import pandas
    from pysme.linelist.linelist import LineList
    from pysme.linelist.vald import ValdFile

    with file.open(encoding="latin-1") as handle:
        is_table = TABLE_MARK in handle.readline()
    if not is_table:
        return ValdFile(str(file), medium="air")
    table = pandas.read_csv(file).sort_values("wlcent", ignore_index=True)
    return LineList(table, lineformat="short", medium="air")


def _atmosphere(model: NDArray[np.float64], star: Any) -> Any:
    """Return an atmosphere of PySME with the structure of a model (d, 5)."""
    from pysme.atmosphere.atmosphere import Atmosphere

    mass_column, temperature, pressure, electrons, _ = model.T
    per_hydrogen = np.nan_to_num(star.abund.get_pattern(type="n/nH", raw=True))
    masses = 2.0 * np.arange(1, len(per_hydrogen) + 1)  # sufficient for metals, one percent of the mass
    masses[:2] = 1.008, 4.0026
    weight = (per_hydrogen * masses).sum() / per_hydrogen.sum()
    atoms = pressure / (BOLTZMANN * temperature) - electrons
    atmosphere = Atmosphere(
        teff=star.teff,
        logg=star.logg,
        vturb=star.vmic,
        method="embedded",
        geom="PP",
        depth="RHOX",
        interp="RHOX",
        wlstd=STANDARD_WAVELENGTH,
        rhox=mass_column,
        temp=temperature,
        xna=atoms,
        xne=electrons,
        rho=atoms * weight * HYDROGEN_MASS,
        source="draper",
    )
    atmosphere.abund = star.abund
    return atmosphere
