"""Options of the simulators: the same for ``draper simulate`` and for training on fresh simulations."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from draper.config import Config
from draper.registry import resolve


def _as_text(snr: Any) -> Any:
    """Return numbers and pairs of numbers as the text that the command line would give."""
    ends = snr if isinstance(snr, (tuple, list)) else [snr]
    return ",".join(map(str, ends)) if all(isinstance(end, (int, float)) for end in ends) else snr


Ratios = Annotated[str | None, BeforeValidator(_as_text)]
"""A range of signal-to-noise ratios: ``"20,200"``, ``"50"`` or ``"inf"``; JSON has no number for the last."""


def ratio_range(snr: str | None) -> tuple[Any, ...] | None:
    """Return both ends of a range as numbers; text that is not a range is left to the simulator to refuse.

    Examples
    --------
    >>> ratio_range("20,200"), ratio_range("inf"), ratio_range(None)
    ((20.0, 200.0), (inf, inf), None)
    """
    if snr is None:
        return None
    ends = snr.split(",")
    try:
        numbers: list[Any] = [float(end) for end in ends]
    except ValueError:
        numbers = list(ends)
    return tuple(numbers if len(numbers) > 1 else numbers * 2)


class SimulatorConfig(Config):
    """Options of one simulator; the fields are keyword arguments of its class.

    Examples
    --------
    >>> PlanetsConfig(instrument="hst-wfc3-g141", snr=50).build().grid
    Grid(18 px, 11321.190-16323.372 A vacuum, R=46)
    """

    name: ClassVar[str]
    """Name on the command line."""

    simulator: ClassVar[str]
    """``"package.module:Class"`` of the simulator; a string, so that reading options never imports torch."""

    summary: ClassVar[str]
    """What ``draper simulate --help`` writes about it."""

    example: ClassVar[str]
    """Options of the example in the help."""

    labels_help: ClassVar[str] = ""
    """What the help adds about the columns of a table of labels."""

    def build(self) -> Any:
        """Return the :class:`~draper.simulate.base.Simulator` with these options; this imports torch."""
        options = self.model_dump()
        return resolve(self.simulator)(**{**options, "snr": ratio_range(options["snr"])})


class StarsConfig(SimulatorConfig):
    """Options of :class:`draper.simulate.survey.Survey`."""

    name: ClassVar[str] = "stars"
    simulator: ClassVar[str] = "draper.simulate.survey:Survey"
    summary: ClassVar[str] = "Simulate spectra of stars as a survey observes them."
    example: ClassVar[str] = "-n 20000 -o stars.h5 --preset gaia-rvs-800 --seed 1"

    preset: str = "gaia-rvs"
    """gaia-rvs (2,401 pixels), gaia-rvs-800 (800 pixels), or ideal (no noise, no label errors)."""
    population: Literal["galaxy", "box"] = "galaxy"
    """galaxy draws stars of the discs and the halo; box draws labels uniformly from what the grid covers."""
    snr: Ratios = None
    """Signal-to-noise ratios per pixel: LOW,HIGH, one number for all, or inf for no noise; the preset's by
    default."""
    vsini: float | None = None
    """Projected rotation velocity of all stars [km/s], 0 or larger; no rotation is added by default."""


class PlanetsConfig(SimulatorConfig):
    """Options of :class:`draper.simulate.planets.Planets`."""

    name: ClassVar[str] = "planets"
    simulator: ClassVar[str] = "draper.simulate.planets:Planets"
    summary: ClassVar[str] = "Simulate transmission spectra of hot Jupiters."
    example: ClassVar[str] = "-n 10000 -o planets.h5 --instrument jwst-nirspec-prism"

    instrument: str | None = None
    """hst-wfc3-g141, jwst-nirspec-prism, jwst-niriss-soss or ariel-tier2; by default all bins of R = 100,
    0.44-16 um."""
    error: float | None = None
    """1-sigma error of each bin [ppm], above 0, with noise drawn from it; the instrument's by default."""
    snr: Ratios = None
    """Ratios of the median depth to the error of a bin, in place of --error: LOW,HIGH, one number for all, or
    inf for no noise."""
    box: Literal["wide", "exogan"] = "wide"
    """wide draws planets of 0.1-5 Jupiter masses, 0.4-2 Jupiter radii and 500-2500 K that hold their
    atmosphere; exogan draws 0.8-2 Jupiter masses, 0.8-1.5 Jupiter radii and 1000-2000 K."""
    star_radius: float = 1.0
    """Radius of the star [solar radii], above 0; 0.2-2.5 is usual."""
    exact_weight: bool = False
    """Let gases displace H2 and He in the mean molecular weight, as in nature; it matters above 1 %."""
    clouds: bool = False
    """Add a grey cloud deck (label log_cloud_top)."""
    haze: bool = False
    """Add haze (label log_haze)."""


class XpConfig(SimulatorConfig):
    """Options of :class:`draper.simulate.xp.LowResolution`."""

    name: ClassVar[str] = "xp"
    simulator: ClassVar[str] = "draper.simulate.xp:LowResolution"
    summary: ClassVar[str] = "Simulate Gaia XP spectra of stars, with photometry and parallax."
    example: ClassVar[str] = "-n 20000 -o xp.h5 --seed 1"
    labels_help: ClassVar[str] = (
        "It needs teff, logg, fe_h and alpha_fe; mass, a_v and magnitude (G) are drawn where it lacks them."
    )

    preset: str = "gaia-xp"
    """gaia-xp (55 + 55 coefficients with correlations) or gaia-xp-sampled (343 pixels)."""
    population: Literal["galaxy", "box"] = "galaxy"
    """galaxy draws stars of the discs and the halo; box draws labels uniformly from what the grid covers."""
    snr: Ratios = None
    """Signal-to-noise ratios of the first RP coefficient: LOW,HIGH, one number for all, or inf for no noise;
    by default they follow from magnitude and transits."""


SIMULATORS: dict[str, type[SimulatorConfig]] = {
    config.name: config for config in (StarsConfig, PlanetsConfig, XpConfig)
}
"""Simulators by their name on the command line."""
