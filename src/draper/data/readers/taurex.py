"""TauREx: observations as text (um, depth, error, bin width) and spectra in its HDF5 output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.hdf5 import opened
from draper.data.parsing import parfile, pixels
from draper.data.parsing.source import Format, Source
from draper.data.readers import text
from draper.data.spectra import Spectra
from draper.errors import DraperError

GROUPS = ("Output/Spectra", "Output/Spectrum", "Spectra", "Spectrum")
"""Groups in which different versions of TauREx store the spectra."""

PARAMETERS = "ModelParameters"
"""Group of the parameters of the forward model, named as in parameter files."""

KINDS = ("instrument", "native", "binned")
"""Spectra that the output may hold; by default the first that exists is read (see flux_column)."""

DEPTHS = ((0.2, 60.0), (1e-5, 0.3), (1e-7, 0.03))
"""Ranges of the first three columns that can be nothing but wavelengths [um], transit depths and errors."""

OBSERVATION = "TauREx text has 2 to 4 columns: wavelength [um], transit depth, error, bin width [um]"


def is_observation(source: Source) -> bool:
    """Whether a file holds columns of numbers such as TauREx and ExoGAN read."""
    if source.kind != "text":
        return False
    parsed = text.parse(source.lines[:200])
    return parsed.names is None and 2 <= parsed.width <= 4


def recognises_text(source: Source) -> bool:
    """Whether a TauREx 3 parameter file lies beside the numbers, or they can only be transit depths."""
    if not is_observation(source):
        return False
    beside = parfile.beside(source.path)
    if beside:
        return any(place.startswith("chemistry/") for place in beside)
    return _are_depths(source, text.parse(source.lines[:200]))


def _are_depths(source: Source, parsed: text.Text) -> bool:
    """Whether the columns are wavelengths in um, depths and errors: in other units there is no such light."""
    if parsed.width < 3 or len(parsed.rows) < 2:
        return False
    try:
        columns = text.numbers(source, parsed, range(3))
    except DraperError:
        return False
    low, high = np.array(DEPTHS).T
    return bool(((columns >= low) & (columns <= high)).all())


def observation(source: Source, config: ReadConfig) -> Spectra:
    """Return the one spectrum of a text file, with the planet of the parameter file beside it."""
    parsed = text.parse(source.text().splitlines())
    if not 2 <= parsed.width <= 4:
        raise source.error(
            f"the file has {parsed.width} columns", expected=OBSERVATION, hint="drop the others"
        )
    columns = text.numbers(source, parsed, range(parsed.width)).T
    wavelength, width = columns[0], columns[3] if parsed.width == 4 else None
    with np.errstate(all="ignore"):
        edges = None if width is None else np.stack([wavelength - width / 2, wavelength + width / 2], axis=1)
    return pixels.spectra(
        source,
        pixels.axis(source, wavelength, config.unit or "um", config.medium or "vacuum", edges),
        columns[1],
        error=columns[2] if parsed.width > 2 else None,
        table=parfile.truths(parfile.beside(source.path)),
        quantity=config.quantity or "transit depth",
    )


def read_text(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the one spectrum of an observation."""
    yield observation(source, config)


def _spectra_group(file: h5py.File) -> h5py.Group | None:
    for place in GROUPS:
        group = file.get(place)
        if isinstance(group, h5py.Group) and "native_spectrum" in group:
            return group
    return None


def recognises_output(source: Source) -> bool:
    """Whether an HDF5 file holds the spectra that TauREx writes."""
    if source.kind != "hdf5":
        return False
    try:
        with opened(source.path, source.unpacked_limit) as file:
            return _spectra_group(file) is not None
    except DraperError:
        return False


def read_output(source: Source, config: ReadConfig) -> Iterator[Spectra]:
    """Yield the spectrum of an output file: at the instrument's resolution, else on the native grid.

    The planet of its forward model becomes columns, as do those of parameter files.
    ``flux_column="binned_spectrum"`` reads another one.
    """
    with opened(source.path, source.unpacked_limit) as file:
        group = _spectra_group(file)
        arrays = {} if group is None else {name: group[name][()] for name in group if "tau" not in name}
        parameters = _parameters(file)
    offered = [kind for kind in KINDS if f"{kind}_spectrum" in arrays]
    kind = (config.flux_column or next(iter(offered), "native")).removesuffix("_spectrum")
    if kind not in offered:
        raise source.error(
            f"the file holds no '{kind}_spectrum'",
            given=", ".join(arrays) or "no spectra",
            hint="choose a spectrum with flux_column=, one of the names that end in _spectrum",
        )
    yield _from_output(source, config, arrays, kind, parfile.truths(parameters))


def _parameters(file: h5py.File) -> dict[str, str]:
    """Return the numbers among the parameters of the forward model, as a parameter file would name them."""
    parameters: dict[str, str] = {}

    def keep(place: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.shape == () and item.dtype.kind in "iuf":
            parameters[place.lower()] = str(item[()])

    group = file.get(PARAMETERS)
    if isinstance(group, h5py.Group):
        group.visititems(keep)
    return parameters


def _from_output(
    source: Source,
    config: ReadConfig,
    arrays: dict[str, Any],
    kind: str,
    planet: Mapping[str, NDArray[np.float64]],
) -> Spectra:
    try:
        flux, noise, width, grid = (
            np.asarray(arrays[name], dtype=np.float64).reshape(-1) if name in arrays else None
            for name in (f"{kind}_spectrum", f"{kind}_noise", f"{kind}_wnwidth", f"{kind}_wngrid")
        )
        if grid is None:
            grid = 1e4 / np.asarray(arrays[f"{kind}_wlgrid"], dtype=np.float64).reshape(-1)
    except (KeyError, TypeError, ValueError):
        raise source.error(
            f"the file holds no wavenumbers for its {kind} spectrum",
            given=", ".join(arrays),
            hint="write the output again with TauREx",
        ) from None
    assert flux is not None
    if any(other is not None and other.shape != grid.shape for other in (flux, noise, width)):
        raise source.error(
            "spectrum and wavenumbers differ in length",
            given=f"{flux.size} and {grid.size}",
            hint="write the output again with TauREx",
        )
    with np.errstate(all="ignore"):
        edges = (
            None if width is None else np.stack([1e8 / (grid + width / 2), 1e8 / (grid - width / 2)], axis=1)
        )
        wavelength = 1e8 / grid
    return pixels.spectra(
        source,
        pixels.axis(source, wavelength, "angstrom", "vacuum", edges),
        flux,
        error=noise,
        table=planet,
        quantity=config.quantity or "transit depth",
        meta={"spectrum": f"{kind}_spectrum"},
    )


FORMATS = (
    Format("taurex", "TauREx observation text: um, depth, error[, bin width]", recognises_text, read_text),
    Format("taurex-output", "TauREx 3 output (HDF5)", recognises_output, read_output),
)
