"""Parameters of TauREx 2 (ExoGAN) and 3: the planet that a spectrum was computed for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PLANET = {
    "planet/radius": "planet_radius",
    "planet/planet_radius": "planet_radius",
    "planet/mass": "planet_mass",
    "planet/planet_mass": "planet_mass",
    "star/radius": "star_radius",
    "star/temperature": "star_temperature",
    "atmosphere/tp_iso_temp": "temperature",
    "temperature/t": "temperature",
}
"""Keys of parameters, and draper's columns: planets in units of Jupiter, stars in units of the Sun."""

CLOUDS = ("model/simpleclouds/clouds_pressure", "contributions/simplecloudscontribution/clouds_pressure")
"""Keys of TauREx 3 for the pressure [Pa] at the top of an opaque cloud; TauREx 2 does not say its unit."""

ELEMENTS = "he|li|na|mg|al|si|cl|ca|ti|cr|fe|h|c|n|o|f|p|s|k|v"
"""Elements of the gases of a planet; two letters first, so that sodium is no nitrogen."""

BAR, NO_CLOUD = 1e5, 1.0
"""Unit of cloud tops in the columns [Pa], and the log10 of the one [bar] below which nothing is seen."""


def parse(content: str) -> dict[str, str]:
    r"""Return ``{"section/subsection/key": value}`` in lower case keys, for nested ``[[sections]]`` too.

    Examples
    --------
    >>> parse("[Chemistry]\n[[H2O]]\nmix_ratio = 1e-4")
    {'chemistry/h2o/mix_ratio': '1e-4'}
    """
    sections: list[str] = []
    parameters: dict[str, str] = {}
    for line in content.splitlines():
        line = line.split("#", 1)[0].strip()
        header = re.fullmatch(r"(\[+)\s*([^\[\]]+?)\s*(\]+)", line)
        if header:
            sections = [*sections[: len(header[1]) - 1], header[2].lower()]
        elif "=" in line:
            key, value = line.split("=", 1)
            parameters["/".join([*sections, key.strip().lower()])] = value.strip()
    return parameters


def beside(path: Path) -> dict[str, str]:
    """Return the parameters of the ``.par`` file of the same name beside a file; empty without one."""
    other = path.with_name(path.name.removesuffix(".gz").rsplit(".", 1)[0] + ".par")
    if other == path or not other.is_file():
        return {}
    try:
        return parse(other.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def truths(parameters: dict[str, str]) -> dict[str, NDArray[np.float64]]:
    """Return the planet as columns of one row.

    Mixing ratios and cloud tops [bar] become their log10, such as ``log_h2o`` and ``log_cloud_top``.
    """
    table: dict[str, float] = {}
    for place, name in PLANET.items():
        table[name] = _number(parameters.get(place, ""), table.get(name, np.nan))
    gases = parameters.get("atmosphere/active_gases", "").split(",")
    ratios = parameters.get("atmosphere/active_gases_mixratios", "").split(",")
    for gas, ratio in zip(gases, ratios, strict=False):
        table[f"log_{gas.strip().lower()}"] = _log10(_number(ratio))
    for place in CLOUDS:
        if place in parameters:
            table["log_cloud_top"] = _log10(_number(parameters[place]) / BAR)
    for place, ratio in parameters.items():
        match = re.fullmatch(r"chemistry/(\w+)/mix_ratio", place)
        if match:
            table[f"log_{match[1]}"] = _log10(_number(ratio))
    return {name: np.array([value]) for name, value in table.items() if np.isfinite(value)}


def content(labels: Mapping[str, float], low: float, high: float) -> str:
    """Return a parameter file of TauREx 2, as ExoGAN reads it, for a planet and wavelengths [um].

    Lines of missing labels (NaN) are left out. The layers, helium and collisions are those of ExoGAN's
    training set; the pressure of a cloud is left out, because TauREx 2 does not say its unit.

    Examples
    --------
    >>> lines = content({"planet_radius": 0.88, "log_h2o": -3.0}, 0.3, 50.0).splitlines()
    >>> [line for line in lines if line.startswith(("radius", "active"))]
    ['radius = 0.88', 'active_gases = H2O', 'active_gases_mixratios = 0.001']
    """
    known = {name: value for name, value in labels.items() if np.isfinite(value)}
    gases = {name: formula for name in known if (formula := _formula(name))}
    ratios = ", ".join(f"{10 ** known[name]:.12g}" for name in gases)
    opaque = known.get("log_cloud_top", NO_CLOUD) < NO_CLOUD

    def line(key: str, label: str) -> list[str]:
        return [f"{key} = {known[label]!r}"] if label in known else []

    return "\n".join(
        [
            "[General]",
            "manual_waverange = True",
            f"wavemin = {low:.6g}",
            f"wavemax = {high:.6g}",
            "\n[Input]",
            "opacity_method = ktables",
            "\n[Star]",
            *line("radius", "star_radius"),
            *line("temperature", "star_temperature"),
            "\n[Planet]",
            *line("radius", "planet_radius"),
            *line("mass", "planet_mass"),
            "\n[Atmosphere]",
            "nlayers = 100",
            "max_pressure = 1e6",
            "min_pressure = 1e-5",
            "tp_type = isothermal",
            *line("tp_iso_temp", "temperature"),
            f"active_gases = {', '.join(gases.values())}",
            f"active_gases_mixratios = {ratios}",
            "He_H2_ratio = 0.17647",
            "cia_pairs = H2-H2, H2-He",
            "cia = True",
            "rayleigh = True",
            f"clouds = {opaque}\n",
        ]
    )


def _formula(label: str) -> str:
    """Return the gas whose mixing ratio a label is, such as CO2 for log_co2; "" for other labels."""
    gas = re.fullmatch(rf"log_((?:(?:{ELEMENTS})\d*)+)", label)
    return "" if gas is None else re.sub(ELEMENTS, lambda element: element[0].title(), gas[1])


def _number(text: str, otherwise: float = np.nan) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _log10(ratio: float) -> float:
    return float(np.log10(ratio)) if ratio > 0 else np.nan
