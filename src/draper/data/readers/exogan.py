"""Spectra for ExoGAN: micron, transit depth and error, with the planet in a parameter file beside them."""

from __future__ import annotations

from collections.abc import Iterator

from draper.configs.read import ReadConfig
from draper.data.parsing import parfile
from draper.data.parsing.source import Format, Source
from draper.data.readers.taurex import is_observation, observation
from draper.data.spectra import Spectra


def recognises(source: Source) -> bool:
    """Whether three columns of numbers lie beside a parameter file in the manner of TauREx 2."""
    return is_observation(source) and "atmosphere/active_gases" in parfile.beside(source.path)


def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the one spectrum of a file; parameters of the planet, if given, become columns."""
    yield observation(source, config)


FORMATS = (
    Format("exogan", "ExoGAN .dat text (um, depth, error), .par beside it optional", recognises, read),
)
