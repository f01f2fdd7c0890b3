"""Parameter files of TauREx 2 (ExoGAN) and 3: the planet that a spectrum was computed for."""

from __future__ import annotations

import re
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
    """Return the planet as columns of one row; mixing ratios as their log10, such as ``log_h2o``."""
    table: dict[str, float] = {}
    for place, name in PLANET.items():
        table[name] = _number(parameters.get(place, ""), table.get(name, np.nan))
    gases = parameters.get("atmosphere/active_gases", "").split(",")
    ratios = parameters.get("atmosphere/active_gases_mixratios", "").split(",")
    for gas, ratio in zip(gases, ratios, strict=False):
        table[f"log_{gas.strip().lower()}"] = _log10(_number(ratio))
    for place, ratio in parameters.items():
        match = re.fullmatch(r"chemistry/(\w+)/mix_ratio", place)
        if match:
            table[f"log_{match[1]}"] = _log10(_number(ratio))
    return {name: np.array([value]) for name, value in table.items() if np.isfinite(value)}


def _number(text: str, otherwise: float = np.nan) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _log10(ratio: float) -> float:
    return float(np.log10(ratio)) if ratio > 0 else np.nan
