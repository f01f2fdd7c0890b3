"""TauREx 3: transmission spectra of isothermal planets with the user's own opacities."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.errors import DraperError
from draper.simulate.adapters.adapter import Adapter
from draper.simulate.planet_units import (
    BOTTOM,
    GASES,
    HELIUM_RATIO,
    JUPITER_MASS,
    JUPITER_RADIUS,
    SUN_RADIUS,
    TOP,
)

FloatArray = NDArray[np.float64]

MOLECULES = {gas: gas.upper() for gas in GASES}
"""TauREx's names of the gases."""

PAIRS = ("H2-H2", "H2-He")
"""Pairs whose collision-induced absorption is computed."""

SUN_TEMPERATURE = 5778.0
"""Temperature of the star [K]; a transit depth does not depend on it."""


class CrossSections(NamedTuple):
    """Opacity of a gas as arrays; zero where pressure and temperature are both below the table.

    Attributes
    ----------
    wavenumber : ndarray (w,)
        Wavenumbers, increasing [1/cm].
    temperature : ndarray (t,)
        Temperatures, increasing [K].
    pressure : ndarray (q,)
        Pressures, increasing [Pa].
    values : ndarray (q, t, w)
        Positive cross-sections [cm2 per molecule], interpolated exponentially in temperature and linearly in
        log pressure.
    """

    wavenumber: FloatArray
    temperature: FloatArray
    pressure: FloatArray
    values: FloatArray


@dataclass(frozen=True, eq=False)
class TaurexPlanets(Adapter):
    """Cloud-free or cloudy planets by TauREx 3, with the labels, units and bins of ``simulate.planets``.

    H2 and He fill the atmosphere and are displaced by the gases, as with ``Planets(exact_weight=True)``.
    A table with the column ``log_cloud_top`` has grey decks at these pressures.

    Attributes
    ----------
    opacities
        A folder of files that TauREx reads (``.h5``, ``.pickle``, ``.dat``), or arrays for each gas by name
        (``h2o``). TauREx unpickles files: use only folders from people you trust.
    collisions
        A folder of files with collision-induced absorption of H2-H2 and H2-He (HITRAN ``.cia`` or ``.db``);
        by default this absorption is left out.
    instrument
        One of ``planets.INSTRUMENTS``; by default bins of R = 100, 0.44-16 um.
    edges
        Your own bins (p, 2) [um], in place of the instrument's.
    star_radius
        Radius of the star [solar radii], which becomes a column.
    layers
        Number of layers of the atmosphere, between 10 bar and 1e-10 bar.
    rayleigh
        Whether Rayleigh scattering is included.
    """

    package: ClassVar[str] = "taurex"
    module: ClassVar[str] = "taurex"
    extra: ClassVar[str] = "taurex"
    needed: ClassVar[tuple[str, ...]] = (
        "planet_mass",
        "temperature",
        "planet_radius",
        *(f"log_{gas}" for gas in GASES),
    )
    optional: ClassVar[tuple[str, ...]] = ("log_cloud_top",)
    quantity: ClassVar[str] = "transit depth"
    recorded: ClassVar[tuple[str, ...]] = ("star_radius",)

    opacities: Path | Mapping[str, CrossSections]
    collisions: Path | None = None
    instrument: str | None = None
    edges: FloatArray | None = None
    star_radius: float = 1.0
    layers: int = 100
    rayleigh: bool = True

    def __post_init__(self) -> None:
        for name in ("opacities", "collisions"):
            folder = getattr(self, name)
            if isinstance(folder, Path) and not folder.is_dir():
                raise DraperError(
                    f"{name} is not a folder", given=folder, expected="a folder of files that TauREx reads"
                )
        if not isinstance(self.opacities, Path):
            missing = [gas for gas in GASES if gas not in self.opacities]
            if missing:
                raise DraperError(
                    "opacities are missing",
                    given=", ".join(self.opacities),
                    expected=", ".join(GASES),
                    hint="give cross-sections for each gas; very small ones for a gas that does not matter",
                )
        if self.edges is None:
            # Done once here: worker processes receive the numbers and need not import torch.
            from draper.simulate.planets import INSTRUMENTS, Planets, native_edges

            if self.instrument is not None and self.instrument not in INSTRUMENTS:
                Planets(self.instrument)  # raises an error that lists the instruments
            edges = native_edges() if self.instrument is None else INSTRUMENTS[self.instrument].edges
            object.__setattr__(self, "edges", edges)

    @property
    def bins(self) -> FloatArray:
        """Edges (p, 2) of the bins [um]."""
        return np.asarray(self.edges, dtype=np.float64)

    def grid(self) -> Grid:
        """Return the bins."""
        low, high = self.bins.T
        centre = np.sqrt(low * high)
        return Grid.from_wavelength(
            centre, unit="um", medium="vacuum", edges=self.bins, resolving_power=centre / (high - low)
        )

    def spectrum(self, labels: dict[str, float]) -> FloatArray:
        """Return transit depths (p,): the mean over wavelength of TauREx's own within each bin."""
        model = _model(self, "log_cloud_top" in labels)
        for name, value in _parameters(labels).items():
            model[name] = value
        wavenumber, depth, _, _ = model.model(_wanted(self.bins))
        return bin_means(1e4 / wavenumber[::-1], depth[::-1], self.bins)


def bin_means(wavelength: FloatArray, values: FloatArray, edges: FloatArray) -> FloatArray:
    """Return the means (p,) over bins (p, 2) of a piecewise linear curve at increasing wavelengths (w,).

    Examples
    --------
    >>> bin_means(np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 1.0]), np.array([[1.0, 2.0], [1.5, 3.5]]))
    array([0.5   , 0.9375])
    """
    if edges.min() < wavelength[0] or edges.max() > wavelength[-1]:
        raise DraperError(
            "the opacities do not cover the bins",
            given=f"{wavelength[0]:.4g}-{wavelength[-1]:.4g} um",
            expected=f"{edges.min():.4g}-{edges.max():.4g} um",
            hint="choose another instrument, or give your own edges",
        )
    every = np.union1d(wavelength, edges)
    curve = np.interp(every, wavelength, values)
    below = np.concatenate([[0.0], np.cumsum((curve[1:] + curve[:-1]) / 2 * np.diff(every))])
    low, high = (below[np.searchsorted(every, ends)] for ends in edges.T)
    return np.asarray((high - low) / (edges[:, 1] - edges[:, 0]))


def _parameters(labels: dict[str, float]) -> dict[str, float]:
    """Return TauREx's parameters in its units: its radius of Jupiter is the equatorial, ours the mean one."""
    from taurex.constants import MJUP, RJUP

    parameters = {
        "planet_mass": labels["planet_mass"] * JUPITER_MASS / MJUP,
        "planet_radius": labels["planet_radius"] * JUPITER_RADIUS / RJUP,
        "T": labels["temperature"],
    }
    parameters |= {molecule: 10.0 ** labels[f"log_{gas}"] for gas, molecule in MOLECULES.items()}
    if "log_cloud_top" in labels:
        parameters["clouds_pressure"] = 10.0 ** (labels["log_cloud_top"] + 5)
    return parameters


def _wanted(edges: FloatArray) -> FloatArray:
    """Return wavenumbers for which TauREx computes slightly more than the range of the bins (p, 2)."""
    low, high = 1e4 / edges.max(), 1e4 / edges.min()
    return np.geomspace(low, high, max(len(edges), 50))


@lru_cache(maxsize=1)  # TauREx caches opacities for the whole process, so only one adapter is active
def _model(adapter: TaurexPlanets, is_cloudy: bool) -> Any:
    with redirect_stdout(StringIO()):  # suppress its message about a missing numba
        from taurex.cache import CIACache, OpacityCache
        from taurex.chemistry import ConstantGas, TaurexChemistry
        from taurex.constants import RSOL
        from taurex.contributions import (
            AbsorptionContribution,
            CIAContribution,
            RayleighContribution,
            SimpleCloudsContribution,
        )
        from taurex.log import disableLogging
        from taurex.model import TransmissionModel
        from taurex.planet import Planet
        from taurex.stellar import BlackbodyStar
        from taurex.temperature import Isothermal
    disableLogging()
    cache = OpacityCache()
    cache.clear_cache()
    if isinstance(adapter.opacities, Path):
        cache.set_opacity_path(str(adapter.opacities))
    else:
        for gas, molecule in MOLECULES.items():
            cache.add_opacity(_in_memory(molecule, adapter.opacities[gas]))
    missing = set(MOLECULES.values()) - set(cache.find_list_of_molecules())
    if missing:  # TauREx would treat them as gases that do not absorb
        raise DraperError(
            "TauREx finds no opacities for some gases",
            given=", ".join(sorted(missing)),
            hint="add the files to the folder",
        )
    chemistry = TaurexChemistry(fill_gases=["H2", "He"], ratio=HELIUM_RATIO)
    for molecule in MOLECULES.values():
        chemistry.addGas(ConstantGas(molecule, 1e-4))
    model = TransmissionModel(
        planet=Planet(planet_mass=1.0, planet_radius=1.0),
        star=BlackbodyStar(temperature=SUN_TEMPERATURE, radius=adapter.star_radius * SUN_RADIUS / RSOL),
        temperature_profile=Isothermal(T=1500.0),
        chemistry=chemistry,
        nlayers=adapter.layers,
        atm_max_pressure=BOTTOM,
        atm_min_pressure=TOP,
    )
    model.add_contribution(AbsorptionContribution())
    if adapter.rayleigh:
        model.add_contribution(RayleighContribution())
    if adapter.collisions is not None:
        CIACache().set_cia_path(str(adapter.collisions))
        model.add_contribution(CIAContribution(cia_pairs=list(PAIRS)))
    if is_cloudy:
        model.add_contribution(SimpleCloudsContribution())
    model.build()
    return model


def _in_memory(molecule: str, table: CrossSections) -> Any:
    """Return an opacity object of TauREx with the values of a table."""
    from taurex.opacity import InterpolatingOpacity

    class InMemory(InterpolatingOpacity):  # type: ignore[misc]
        moleculeName = property(lambda self: molecule)  # noqa: N815 - TauREx's names
        wavenumberGrid = property(lambda self: table.wavenumber)  # noqa: N815
        temperatureGrid = property(lambda self: table.temperature)  # noqa: N815
        pressureGrid = property(lambda self: table.pressure)  # noqa: N815
        xsecGrid = property(lambda self: table.values)  # noqa: N815

    return InMemory(f"draper:{molecule}", interpolation_mode="exp")
