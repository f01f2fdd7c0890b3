"""Arrays of spectra and labels: training sets of The Payne and one_payne, and others with known names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from draper.configs.read import ReadConfig
from draper.data.labels import IDS, canonical
from draper.data.parsing import matrix
from draper.data.parsing.columns import assign, describe
from draper.data.parsing.numpy_files import Archive, Array, read_npy
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra
from draper.errors import option_text

LABELS = "labels"
LABEL_NAMES = ("label_names", "labels_names", "names")
SCALE = "flux_scale"
"""Name of the factor by which integer-coded fluxes are multiplied."""

PIXEL_MAJOR = {"flxn"}
"""Arrays that hold one column for each spectrum, as one_payne writes them."""

KILOKELVIN = 100.0
"""Effective temperatures that all lie below this number are in kilokelvin, as in one_payne."""


def recognises_npz(source: Source) -> bool:
    """Whether a zip file holds numpy arrays."""
    return source.kind == "zip" and len(source.members) > 0


def recognises_npy(source: Source) -> bool:
    """Whether the file is a numpy array."""
    return source.kind == "npy"


def read_one(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra (n, p) of an npy file, whose wavelengths ``wavelengths=`` names."""
    if source.kind != "npy":
        raise source.error("the file is not an npy array", hint="leave out format=")
    flux = np.atleast_1d(read_npy(source.path))
    if flux.ndim > 2:
        raise source.error("spectra have two axes", given=flux.shape, expected="(spectra, pixels)")
    axis = matrix.axis_from(source, config, *matrix.wavelengths_elsewhere(source, config))
    flux = flux[None] if flux.ndim == 1 else flux
    yield from matrix.batches(source, axis, flux, {}, {}, quantity=config.quantity or "flux")


def read_archive(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectra of an npz file in batches."""
    archive = Archive(source.path, source.unpacked_limit)
    if any(name.startswith(("w_array_", "b_array_")) for name in archive):
        raise source.error(
            "these are network weights, not spectra",
            given=", ".join(archive),
            hint="`draper import` makes a model from them",
        )
    names = list(archive)
    roles = assign(source, names, config)
    if "flux" not in roles:
        raise source.error(
            "no array is recognised as spectra",
            given=", ".join(f"{name} {archive[name].shape}" for name in names) or "no arrays",
            hint=f"give its name: {option_text('read.flux_column')}; that of the wavelengths: "
            f"{option_text('read.wavelength_column')}",
        )
    flux_name = names[roles["flux"]]
    if "wavelength" in roles:
        wavelength_name = names[roles["wavelength"]]
        wavelength = archive[wavelength_name]
    else:
        wavelength_name, wavelength = matrix.wavelengths_elsewhere(source, config)
    axis = matrix.axis_from(source, config, wavelength_name, wavelength)
    pixel_major = flux_name in PIXEL_MAJOR
    flux = _rows(source, archive[flux_name], len(axis.grid), flux_name, pixel_major)
    weights: dict[str, Array] = {
        role: _weights(source, archive[names[place]], len(axis.grid), names[place], pixel_major)
        for role, place in roles.items()
        if role in matrix.PER_PIXEL
    }
    if "error" in weights:
        weights.pop("ivar", None)
    used = {names[place] for place in roles.values()}
    table = _table(source, config, archive, used, len(flux), transposed=flux_name in ("flxn", "spectra"))
    yield from matrix.batches(
        source,
        axis,
        flux,
        weights,
        table,
        scale=_scale(source, archive),
        quantity=matrix.quantity_of(config, describe(flux_name)),
    )


def _rows(source: Source, values: Array, pixels: int, name: str, pixel_major: bool) -> Array:
    """Return an array as rows (n, p), whichever way it lies in the file."""
    if values.shape == (pixels,):
        return values[None]
    if values.ndim == 2 and values.shape[0] == pixels and (pixel_major or values.shape[1] != pixels):
        return values.T
    if values.ndim != 2 or values.shape[1] != pixels:
        raise source.error(
            f"'{name}' does not fit the wavelengths",
            given=f"{values.shape}",
            expected=f"(n, {pixels})",
            hint="choose other arrays with flux_column= and wavelength_column=",
        )
    return values


def _weights(source: Source, values: Array, pixels: int, name: str, pixel_major: bool) -> Array:
    """Return errors, weights or flags as rows; one number, or one row, may stand for all spectra."""
    if values.shape in ((), (pixels,)):
        return values
    return _rows(source, values, pixels, name, pixel_major)


def _scale(source: Source, archive: Archive) -> float:
    if SCALE not in archive:
        return 1.0
    value = archive[SCALE]
    if value.size != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise source.error(
            f"'{SCALE}' is not a number", given=f"{value.dtype} {value.shape}", expected="one finite number"
        )
    return float(value.reshape(-1)[0])


def _table(
    source: Source, config: ReadConfig, archive: Archive, used: set[str], count: int, transposed: bool
) -> dict[str, Array]:
    """Return one column for each label and each array with one value a spectrum."""
    table: dict[str, Array] = {}
    names_key = next((name for name in LABEL_NAMES if name in archive), None)
    for name, values in ((name, archive[name]) for name in archive if name not in used):
        if name == LABELS:
            names = config.columns or (
                () if names_key is None else [str(name) for name in archive[names_key]]
            )
            labels = values.T if transposed and values.ndim == 2 and values.shape[1] == count else values
            table |= matrix.label_columns(source, labels, names, count)
        elif name != names_key and name != SCALE and values.shape == (count,):
            table[name] = values
    id_name = next((name for name in table if name.lower() in IDS), None)
    if id_name is not None and id_name != "id":
        table = {"id": table[id_name], **{name: column for name, column in table.items() if name != id_name}}
    for name, values in table.items():
        if canonical(name) == "teff" and values.dtype.kind == "f" and _largest(values) < KILOKELVIN:
            table[name] = np.asarray(values, dtype=np.float64) * 1000.0
    return table


def _largest(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else np.inf


FORMATS = (
    Format(
        "npz",
        "numpy arrays of spectra, labels and wavelengths (The Payne, one_payne, others)",
        recognises_npz,
        read_archive,
    ),
    Format("npy", "one numpy array of spectra (wavelengths=FILE goes with it)", recognises_npy, read_one),
)
