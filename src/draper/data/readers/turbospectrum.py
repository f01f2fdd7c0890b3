"""Spectra of Turbospectrum and TSFitPy: air wavelength [Angstrom], normalised and absolute flux."""

from __future__ import annotations

from collections.abc import Iterator

from draper.configs.read import ReadConfig
from draper.data.parsing import pixels
from draper.data.parsing.source import Format, Source
from draper.data.readers import text
from draper.data.spectra import Spectra

ABSOLUTE = "erg / (s cm2 Angstrom)"


def recognises(source: Source) -> bool:
    """Whether the comments name the code.

    Three columns of numbers alone cannot tell an air from a vacuum wavelength, so files without such a
    comment need ``format="turbospectrum"``.
    """
    if source.kind != "text":
        return False
    parsed = text.parse(source.lines[:200])
    words = " ".join(parsed.comments).lower()
    return parsed.width == 3 and ("turbospectrum" in words or "tsfitpy" in words)


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the one spectrum of a file: its normalised flux, or with ``quantity="flux"`` the absolute one."""
    parsed = text.parse(source.text().splitlines())
    if parsed.width != 3:
        raise source.error(
            f"the file has {parsed.width} columns",
            expected="3: air wavelength [Angstrom], normalised flux, absolute flux",
            hint="read it without format='turbospectrum', or convert it to three columns",
        )
    absolute = config.quantity == "flux"
    wavelength, flux = text.numbers(source, parsed, [0, 2 if absolute else 1]).T
    table, comments = text.facts(parsed.comments)
    yield pixels.spectra(
        source,
        pixels.axis(source, wavelength, config.unit or "angstrom", config.medium or "air"),
        flux,
        table=table,
        quantity=config.quantity or "normalised flux",
        unit=ABSOLUTE if absolute else "",
        meta={"comments": comments} if comments else {},
    )


FORMATS = (
    Format(
        "turbospectrum",
        "Turbospectrum and TSFitPy .spec text (give --format unless a comment names the code)",
        recognises,
        read,
    ),
)
