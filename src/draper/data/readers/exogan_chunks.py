"""The training set of ExoGAN: pickled chunks of spectra on its 515 wavelengths, with their planets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.grid import Grid
from draper.data.parsing import matrix, pickled, pixels
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra

PIXELS, SHORTEST, RATIO = 515, 0.3015, 1.01
"""The wavelengths of ExoGAN: their number, the shortest [um] and the ratio of neighbours."""

JUPITER_MASS, JUPITER_RADIUS = 1.898e27, 6.9911e7
"""Units of the columns [kg, m]."""

PARAMETERS = {
    "planet_mass": ("planet_mass", JUPITER_MASS),
    "planet_radius": ("planet_radius", JUPITER_RADIUS),
    "temperature_profile": ("temperature", 1.0),
}
"""Parameters of a chunk: their columns, and the unit of these in that of the file."""

MIXING_RATIO = "_mixratio"
"""Suffix of the parameters whose log10 becomes a column, such as ``log_h2o``."""


def exogan_grid() -> Grid:
    """Return the wavelengths of ExoGAN's spectra, 0.3015 to 50.17 um, as bins of one percent.

    Examples
    --------
    >>> exogan_grid()
    Grid(515 px, 3015.000-501733.895 A vacuum, R=100)
    """
    centre = SHORTEST * RATIO ** np.arange(PIXELS)
    edges = np.stack([centre / np.sqrt(RATIO), centre * np.sqrt(RATIO)], axis=1)
    return Grid.from_wavelength(centre, unit="um", medium="vacuum", edges=edges, resolving_power=100.0)


def recognises(source: Source) -> bool:
    """Whether a pickle begins with a dictionary of parameters and a spectrum."""
    if source.kind not in ("binary", "text"):
        return False
    head = source.head
    return pickled.is_pickle(head) and b"param" in head and b"spectrum" in head


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra of a chunk; those of another number of pixels need ``wavelengths=``."""
    content = pickled.load(source)
    try:
        names = sorted(content)
        flux = np.array([np.asarray(content[name]["data"]["spectrum"], np.float64) for name in names])
        planets = [_planet(content[name]["param"]) for name in names]
        if not names or flux.ndim != 2:
            raise ValueError(f"{len(names)} spectra of shape {flux.shape[1:]}")
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise source.error(
            "the pickle is not a chunk of a training set",
            given=error,
            expected="{number: {'param': {name: value}, 'data': {'spectrum': [values]}}}",
            hint="write the spectra as npz, with wavelengths and labels as arrays",
        ) from None
    columns = dict.fromkeys(name for planet in planets for name in planet)
    table: dict[str, NDArray[Any]] = {
        "id": np.array([f"{source.name}-{name}" for name in names]),
        **{name: np.array([planet.get(name, np.nan) for planet in planets]) for name in columns},
    }
    # Their order in a file is that of wavenumber.
    axis, flux = _axis(source, config, flux)
    yield from matrix.batches(source, axis, flux, {}, table, quantity=config.quantity or "transit depth")


def _axis(
    source: Source, config: ReadConfig, flux: NDArray[np.float64]
) -> tuple[pixels.Axis, NDArray[np.float64]]:
    if config.wavelengths is None and flux.shape[1] == PIXELS:
        return pixels.Axis(exogan_grid()), flux[:, ::-1]
    return matrix.axis_from(source, config, *matrix.wavelengths_elsewhere(source, config)), flux


def _planet(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Return the labels of a planet, by draper's names and in its units."""
    labels = {}
    for name, value in parameters.items():
        number = _number(value)
        if name.endswith(MIXING_RATIO):
            gas = name.removesuffix(MIXING_RATIO).lower()
            labels[f"log_{gas}"] = float(np.log10(number)) if number > 0 else np.nan
        else:
            column, unit = PARAMETERS.get(name, (name, 1.0))
            labels[column] = number / unit
    return labels


def _number(value: Any) -> float:
    """Return a number, or the one that all layers of a profile share; NaN where they do not."""
    values = np.asarray(value)
    if values.dtype.kind not in "iufb" or values.size == 0 or not (values == values.flat[0]).all():
        return np.nan
    return float(values.flat[0])


FORMATS = (Format("exogan-chunk", "ExoGAN training chunk (chunck_*.pkgz)", recognises, read),)
