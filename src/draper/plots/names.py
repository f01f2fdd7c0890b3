"""Names of labels and of objects, and numbers, as they are written on plots."""

from __future__ import annotations

import re
from textwrap import wrap

import numpy as np

from draper.data.labels import Label

NAMES = {"teff": "Teff", "logg": "log g", "rv": "RV", "vmic": "vmic", "vsini": "v sin i", "vmac": "vmac"}

JOINED = "\u00a0"
"""A space at which no line ends."""


def label_name(name: str) -> str:
    """Return a label as astronomers write it.

    Examples
    --------
    >>> label_name("fe_h"), label_name("mg_fe"), label_name("teff")
    ('[Fe/H]', '[Mg/Fe]', 'Teff')
    """
    head, _, tail = name.rpartition("_")
    if head and tail in ("h", "fe"):
        return f"[{'alpha' if head == 'alpha' else head.capitalize()}/{tail.capitalize()}]"
    return NAMES.get(name, name)


def with_unit(label: Label) -> str:
    """Return the name of a label with its unit."""
    return f"{label_name(label.name)} [{label.unit}]" if label.unit else label_name(label.name)


def shortened(name: object, most: int = 40) -> str:
    """Return the name of an object, without its middle if it is long.

    Examples
    --------
    >>> shortened("apogee-dr17-apo25m-120-45-2M16505794+2118004", 24)
    'apogee-dr17-...4+2118004'
    """
    text = str(name)
    head, tail = most // 2, most - most // 2 - 3
    return text if len(text) <= most else f"{text[:head]}...{text[-tail:]}"


def wrapped(title: str, width: int = 110) -> str:
    r"""Return a title in lines of at most ``width`` characters, which end after commas and wide spaces.

    Examples
    --------
    >>> wrapped("Teff 5772 +- 20, log g 4.44", 18)
    'Teff 5772 +- 20,\nlog g 4.44'
    """
    lines = (re.sub(r"(?<![,: ]) (?! )", JOINED, line) for line in title.split("\n"))
    return "\n".join(part for line in lines for part in wrap(line, width)).replace(JOINED, " ")


def rounded(value: float, *, signed: bool = True) -> str:
    """Return a number to two significant digits, without an exponent where it can be.

    Examples
    --------
    >>> rounded(123.4), rounded(-0.0456), rounded(1.0, signed=False), rounded(0.0)
    ('+123', '-0.046', '1.0', '0')
    """
    if not np.isfinite(value):
        return "unknown"
    if value == 0:
        return "0"
    digits = max(0, 1 - int(np.floor(np.log10(abs(value)))))
    sign = "+" if signed else ""
    return f"{value:{sign}.{digits}f}" if digits < 6 else f"{value:{sign}.1e}"
