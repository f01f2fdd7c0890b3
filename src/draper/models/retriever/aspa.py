"""The picture in which ExoGAN keeps a spectrum and its planet: an atmospheric spectrum and parameters array.

33 x 33 numbers between 0 and 1, after Zingales & Waldmann (2018):

- ``[:23, :23]``: the 515 depths, from the longest wavelength to the shortest, row by row. Each of 14 sections
  is scaled to its own range, so that faint bands count as much as the radius of the planet. The last 14
  pixels repeat the mean depth, and the pixel before them is the depth at the shortest wavelength, unscaled.
- columns (for the sections of longer wavelengths) and rows 23 to 29 beside it: the largest depth of each
  section, repeated 12 times, and its smallest one, 11 times.
- the last three columns and rows, and the corner: the labels, repeated 23 times, that of water 100 times.

What the layout cannot hold: another wavelength grid; depths beyond ``SHALLOWEST`` and ``DEEPEST``; a star of
another size than the Sun (depths must be multiplied by the squared radius of the star first); a planet above
2 MJ, 1.5 RJ or 2000 K; abundances below 1e-8, as that of an absent gas; further labels such as clouds. The
shortest section loses its last four depths. Spectra are in order of increasing wavelength here, as in
:func:`draper.data.readers.exogan_chunks.exogan_grid`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data.readers.exogan_chunks import PIXELS, exogan_grid

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIDE, CORE = 33, 23
"""Pixels on a side of the picture, and of the square of depths in it."""

SHALLOWEST, DEEPEST = 0.00650370296635, 0.0301803471629
"""Depths by which the smallest and the largest one of a section are divided."""

ROUNDING = 1e-5
"""What a number may leave the range from 0 to 1 by, such as a temperature at the end of a box in float32."""

STARTS = (0, 162, 195, 208, 241, 255, 318, 334, 371, 384, 394, 406, 420, 440, 514)
"""First pixel of each section, counted from the longest wavelength; the last pixel of all is in none."""

SECTIONS = tuple(slice(*ends) for ends in pairwise(STARTS))
"""Sections, as pixels counted from the longest wavelength."""

LOST = slice(510, 514)
"""Pixels, counted from the longest wavelength, in whose place the layout keeps zeros."""

LABELS = MappingProxyType(
    {
        "planet_mass": 2.0,
        "temperature": 2000.0,
        "planet_radius": 1.5,
        "log_h2o": -8.0,
        "log_co2": -8.0,
        "log_ch4": -8.0,
        "log_co": -8.0,
    }
)
"""Labels, in the order of arrays of labels, and the numbers by which they are divided."""

Place = tuple[slice | int, slice | int]
"""Rows and columns of a patch."""

_WHOLE = slice(0, CORE)
PATCHES: Mapping[str, Place] = MappingProxyType(
    {
        "planet_mass": (SIDE - 3, _WHOLE),
        "temperature": (SIDE - 1, _WHOLE),
        "planet_radius": (SIDE - 2, _WHOLE),
        "log_h2o": (slice(CORE, SIDE), slice(CORE, SIDE)),
        "log_co2": (_WHOLE, SIDE - 3),
        "log_ch4": (_WHOLE, SIDE - 1),
        "log_co": (_WHOLE, SIDE - 2),
    }
)
"""Rows and columns of each label."""

READ: Mapping[str, Place] = MappingProxyType(
    {**PATCHES, "log_h2o": (slice(SIDE - 3, SIDE), slice(SIDE - 3, SIDE))}
)
"""Rows and columns whose mean is the label: of water's, the published decoder reads a corner only."""


def normaliser(section: int, smallest: bool) -> Place:
    """Return rows and columns of the largest or the smallest depth of a section."""
    along = slice(12, CORE) if smallest else slice(0, 12)
    across = CORE + section % 7
    return (along, across) if section < 7 else (across, along)


def encode(spectra: ArrayLike, labels: ArrayLike) -> Array:
    """Return pictures (n, 33, 33) of depths (n, 515), increasing in wavelength, and labels (n, 7).

    The labels are those of ``LABELS``, in that order and in physical units. Nothing is clipped: of what the
    layout cannot hold (see :func:`fits`), the numbers leave the range from 0 to 1.

    Examples
    --------
    >>> depths = np.linspace(0.01, 0.02, 515)[None]
    >>> pictures = encode(depths, [[1.0, 1000.0, 1.2, -3.0, -5.0, -4.0, -6.0]])
    >>> pictures.shape, float(pictures[0, -1, 0])
    ((1, 33, 33), 0.5)
    """
    depths = np.asarray(spectra, dtype=np.float64)[:, ::-1]
    pictures = np.zeros((len(depths), SIDE, SIDE))
    scaled = np.repeat(depths.mean(axis=1, keepdims=True) / DEEPEST, CORE**2, axis=1)
    scaled[:, :PIXELS] = depths
    for number, section in enumerate(SECTIONS):
        low, high = depths[:, section].min(axis=1), depths[:, section].max(axis=1)
        width = np.where(high > low, high - low, 1.0)
        scaled[:, section] = (depths[:, section] - low[:, None]) / width[:, None]
        pictures[:, *normaliser(number, smallest=False)] = high[:, None] / DEEPEST
        pictures[:, *normaliser(number, smallest=True)] = SHALLOWEST / low[:, None]
    scaled[:, LOST] = 0.0
    pictures[:, :CORE, :CORE] = scaled.reshape(-1, CORE, CORE)
    coded = np.asarray(labels, dtype=np.float64) / np.array(list(LABELS.values()))
    for name, column in zip(LABELS, coded.T, strict=True):
        target = pictures[:, *PATCHES[name]]
        target[:] = column.reshape(-1, *[1] * (target.ndim - 1))
    return pictures


def decode(pictures: ArrayLike) -> tuple[Array, Array]:
    """Return depths (n, 515), increasing in wavelength, and labels (n, 7) of pictures (n, 33, 33).

    Depths that the layout does not keep (``LOST``) are NaN.

    Examples
    --------
    >>> depths, labels = decode(np.full((1, 33, 33), 0.5))
    >>> labels[0].tolist()
    [1.0, 1000.0, 0.75, -4.0, -4.0, -4.0, -4.0]
    """
    pictures = np.asarray(pictures, dtype=np.float64)
    depths = pictures[:, :CORE, :CORE].reshape(-1, CORE**2)[:, :PIXELS].copy()
    for number, section in enumerate(SECTIONS):
        high = DEEPEST * pictures[:, *normaliser(number, smallest=False)].mean(axis=1)
        low = SHALLOWEST / pictures[:, *normaliser(number, smallest=True)].mean(axis=1)
        depths[:, section] = low[:, None] + depths[:, section] * (high - low)[:, None]
    depths[:, LOST] = np.nan
    coded = [pictures[:, *READ[name]].reshape(len(pictures), -1).mean(axis=1) for name in LABELS]
    return depths[:, ::-1], np.stack(coded, axis=1) * np.array(list(LABELS.values()))


def fits(spectra: ArrayLike, labels: ArrayLike) -> Mask:
    """Return for each row (n,) whether the picture of depths and labels stays between 0 and 1.

    Examples
    --------
    >>> labels = [[1.0, 1000.0, 1.2, -3.0, -5.0, -4.0, -6.0], [1.0, 2100.0, 1.2, -3.0, -5.0, -4.0, -6.0]]
    >>> fits(np.full((2, 515), 0.01), labels).tolist()
    [True, False]
    """
    pictures = encode(spectra, labels)
    return np.asarray(((pictures >= -ROUNDING) & (pictures <= 1 + ROUNDING)).all(axis=(1, 2)))


def known_pixels(bins: ArrayLike) -> Mask:
    """Return the pixels (33, 33) that follow from the depths of some of the 515 bins.

    Those are the sections of which every bin is known, with their normalisers, and the mean depth if all are
    known. Labels are unknown. ``bins`` (515,) is in order of increasing wavelength.
    """
    known = np.asarray(bins, dtype=bool)[::-1].copy()
    known[LOST] |= known[LOST.start - 1]
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    core = np.zeros(CORE**2, dtype=bool)
    for number, section in enumerate(SECTIONS):
        if known[section].all():
            core[section] = True
            for smallest in (False, True):
                mask[normaliser(number, smallest)] = True
    core[PIXELS - 1] = known[PIXELS - 1]
    core[PIXELS:] = known.all()
    mask[:CORE, :CORE] = core.reshape(CORE, CORE)
    return mask


def bins_of(*sections: int) -> Mask:
    """Return the bins (515,) of some sections, numbered from the longest wavelength, 0 to 13."""
    bins = np.zeros(PIXELS, dtype=bool)
    for section in sections:
        bins[SECTIONS[section]] = True
    return bins[::-1]


def masks() -> dict[str, Mask]:
    """Return the known pixels (33, 33) by the published name of the mask.

    ``parameters``: the whole spectrum is known; ``wfc3``: its sections from 1.11 to 1.81 um are.

    Examples
    --------
    >>> {name: int(mask.sum()) for name, mask in masks().items()}
    {'parameters': 851, 'wfc3': 96}
    """
    return {"parameters": known_pixels(np.ones(PIXELS)), "wfc3": known_pixels(bins_of(7, 8))}


def areas() -> dict[str, Mask]:
    """Return which pixels (33, 33) hold what, by name.

    Sections are named by their wavelengths [um], their normalisers by the number of the section from 1 to 14.
    The pixel of the shortest wavelength holds the depth itself.

    Examples
    --------
    >>> list(areas())[:2], len(areas())
    (['10.1-50.2', '7.28-10'], 51)
    """
    micron = exogan_grid().vacuum[::-1] / 1e4
    named: dict[str, Mask] = {}
    for section in SECTIONS:
        core = np.zeros(CORE**2, dtype=bool)
        core[section] = True
        ends = micron[section.stop - 1], micron[section.start]
        named[f"{ends[0]:.3g}-{ends[1]:.3g}"] = _in_picture(core)
    for name, place in (("raw", slice(PIXELS - 1, PIXELS)), ("mean", slice(PIXELS, None))):
        core = np.zeros(CORE**2, dtype=bool)
        core[place] = True
        named[name] = _in_picture(core)
    for smallest, word in ((False, "max"), (True, "min")):
        for number in range(len(SECTIONS)):
            named[f"{word} {number + 1}"] = _patch(normaliser(number, smallest))
    return named | {name: _patch(place) for name, place in PATCHES.items()}


def _in_picture(core: Mask) -> Mask:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[:CORE, :CORE] = core.reshape(CORE, CORE)
    return mask


def _patch(place: Place) -> Mask:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[place] = True
    return mask
