"""Import a network that another code has trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from draper.configs.read import ReadConfig
from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet, canonical
from draper.data.parsing import matrix, pixels
from draper.data.parsing.columns import describe, length_unit
from draper.data.parsing.source import Source, require_medium
from draper.data.readers.npz import KILOKELVIN
from draper.errors import DraperError, option_text
from draper.models.emulator.foreign.arrays import named_arrays
from draper.models.emulator.foreign.formats import MOST_UNITS, Weights, recognise
from draper.models.emulator.model import Emulator
from draper.nn.emulator import EmulatorNetwork
from draper.nn.pixelwise import PixelNetwork
from draper.nn.spectral import SpectralNetwork

FEWEST_PIXELS = 3
"""Networks with fewer outputs do not predict spectra, but radii for example."""

GAP = 3.0
"""Ratio of a gap to the steps on both sides of it, at least."""

LOGARITHMIC = {"logt": "teff", "logteff": "teff", "log10teff": "teff"}
"""Names of labels that are the logarithm of another label."""


def adopt(
    path: str | Path,
    *,
    labels: Sequence[str] = (),
    wavelength: str | Path | ArrayLike | None = None,
    unit: str | None = None,
    medium: Literal["air", "vacuum"] | None = None,
    resolving_power: float | None = None,
    quantity: Literal["flux", "normalised flux"] | None = None,
    format: str | None = None,
) -> Emulator:
    """Return the network in a file of another code as an :class:`~draper.models.emulator.model.Emulator`.

    Nothing in the file is executed: arrays are read without pickle.

    Parameters
    ----------
    path
        Weights of The Payne, one_payne, binspec (npz), or Cargile's Payne (HDF5).
    labels
        Names of the labels, in order, if the file does not have them. Temperatures below 100 are taken as
        kilokelvin; the model has them in kelvin.
    wavelength
        Wavelengths of the pixels, if the file does not have them: values (p,), or a file (npz, npy, text).
    unit, medium
        Unit and medium of the wavelengths; Angstrom by default. Air or vacuum is never guessed.
    resolving_power
        lambda / FWHM of the training spectra.
    quantity
        The predicted quantity; that of the format by default, mostly normalised flux.
    format
        Name of the format, one of :func:`~draper.models.emulator.foreign.formats`; recognised by default.

    Returns
    -------
    Emulator
        Its flux is that of the other code to single precision. Its label ranges are those of the training
        labels; it has no errors and no hull.
    """
    source = Source(path)
    if source.kind == "folder":
        raise source.error("a folder is not a file of weights", hint="name the file")
    arrays = named_arrays(source)
    layout = recognise(source, arrays, format)
    weights = layout.read(source, arrays)
    _check(source, weights)
    is_file = wavelength is None or isinstance(wavelength, (str, Path))
    config = ReadConfig(
        unit=unit,
        medium=medium,
        wavelengths=cast(Any, wavelength) if is_file else None,
        resolving_power=resolving_power,
    )
    axis = _axis(source, weights, config, None if is_file else np.asarray(wavelength))
    ranges = _labels(source, weights, tuple(labels))
    facts: dict[str, Any] = {
        "source": f"imported from {source.path.name} ({layout.what.partition(':')[0]})",
        "format": layout.name,
        "sha256": hashlib.sha256(source.path.read_bytes()).hexdigest(),
        "quantity": quantity or weights.quantity,
        "unit": weights.unit,
    }
    return Emulator.from_network(_network(source, weights, axis), in_pieces(axis.grid), ranges, **facts)


def in_pieces(grid: Grid) -> Grid:
    """Return the grid in pieces between gaps, so that nothing is broadened or interpolated across them.

    A gap is a step at least three times as wide as those on both sides of it.

    Examples
    --------
    >>> in_pieces(Grid(np.array([1.0, 2, 3, 8, 9, 10]))).windows
    ((1.0, 3.0), (8.0, 10.0))
    """
    if len(grid) < 4:
        return grid
    steps = np.diff(grid.vacuum)
    before, after = np.append(steps[1], steps[:-1]), np.append(steps[1:], steps[-2])
    gaps = np.flatnonzero(steps > GAP * np.maximum(before, after))
    ends = zip(np.append(0, gaps + 1), np.append(gaps, len(grid) - 1), strict=True)
    windows = tuple((float(grid.vacuum[first]), float(grid.vacuum[last])) for first, last in ends)
    return replace(grid, windows=windows) if len(gaps) else grid


def _check(source: Source, weights: Weights) -> None:
    """Raise an error for networks that do not predict spectra, and for absurdly wide layers."""
    inputs = weights.layers[0][0].shape[-1]
    widest = max(len(bias) for _, bias in weights.layers[:-1]) if not weights.pixelwise else 1
    if inputs != len(weights.low):
        raise source.error(
            "layers and ranges do not fit",
            given=f"{inputs} inputs, ranges of {len(weights.low)} labels",
            hint="write the file again",
        )
    if weights.pixels < FEWEST_PIXELS:
        raise source.error(
            "this network does not predict spectra",
            given=f"{weights.pixels} outputs",
            hint="import the networks that predict flux",
        )
    if widest > MOST_UNITS or weights.layers[0][1].shape[-1] > MOST_UNITS:
        raise source.error("the hidden layers are too wide", given=widest, expected=f"at most {MOST_UNITS}")


def _axis(source: Source, weights: Weights, config: ReadConfig, given: NDArray[Any] | None) -> pixels.Axis:
    """Return the grid that the user names, or that of the file or code."""
    name, values, medium = "wavelength", given, None
    if given is None and config.wavelengths is not None:
        name, values = matrix.wavelengths_elsewhere(source, config)
    elif given is None and weights.wavelength is not None:
        values, medium = weights.wavelength, weights.medium
    if values is None:
        raise source.error(
            "the file does not hold the wavelengths",
            given=f"{weights.pixels} pixels",
            hint=f"name a file (npz, npy or text), or LOW,HIGH,NUMBER: {option_text('wavelength')}",
        )
    if values.shape != (weights.pixels,) or values.dtype.kind not in "iuf":
        raise source.error(
            "network and wavelengths differ in length",
            given=f"{values.shape} {values.dtype}",
            expected=f"({weights.pixels},)",
            hint=f"name others: {option_text('wavelength')}",
        )
    if medium is not None and config.medium not in (None, medium):
        raise source.error(f"the wavelengths are in {medium}", given=config.medium, hint="leave out medium=")
    column = describe(name)
    return pixels.axis(
        source,
        values,
        config.unit or length_unit(column) or "angstrom",
        require_medium(source, config, medium or column.medium or None),
        resolving_power=config.resolving_power,
    )


def _labels(source: Source, weights: Weights, names: tuple[str, ...]) -> LabelSet:
    """Return the labels with the ranges of the file, in draper's names and units."""
    names = names or weights.names
    if len(names) != len(weights.low):
        given = f"; {', '.join(names)}" if names else ""
        ranges = ", ".join(f"{low:g}..{high:g}" for low, high in zip(weights.low, weights.high, strict=True))
        raise source.error(
            "the labels have no names" if not names else "there are not as many names as labels",
            given=f"{len(weights.low)} labels with ranges {ranges}{given}",
            hint=f"name all of them, in order: {option_text('labels')}",
        )
    return LabelSet(map(_label, names, weights.low.tolist(), weights.high.tolist()))


def _label(name: str, low: float, high: float) -> Label:
    label = canonical(name.strip())
    if label in LOGARITHMIC:
        try:
            return Label(LOGARITHMIC[label], low=10.0**low, high=10.0**high, scale="log10")
        except OverflowError:
            raise DraperError(
                f"'{name}' is not the logarithm of a temperature", given=f"{low} to {high}"
            ) from None
    if label == "teff" and high < KILOKELVIN:
        return Label(label, low=1000 * low, high=1000 * high)
    return Label(label, low=low, high=high)


def _network(source: Source, weights: Weights, axis: pixels.Axis) -> SpectralNetwork:
    """Return the network with the weights of the file, its pixels in order of wavelength."""
    order = slice(None) if axis.order is None else axis.order
    with np.errstate(over="ignore"):
        layers = [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in weights.layers]
    if not all(np.isfinite(values).all() for layer in layers for values in layer):
        raise source.error("weights are too large for single precision", hint="train the network again")
    weight, bias = layers[-1]
    layers[-1] = weight[order], bias[order]
    if weights.pixelwise:
        (inner, shift), (outer, level) = layers
        network: SpectralNetwork = PixelNetwork(inner.shape[2], len(inner), inner.shape[1])
        arrays = {"inner": inner[order], "shift": shift[order], "outer": outer, "level": level}
    else:
        hidden = [len(bias) for _, bias in layers[:-1]]
        network = EmulatorNetwork(
            len(weights.low), weights.pixels, hidden, weights.activation, bounded=weights.bounded
        )
        places = [f"layers.{k}" for k in range(len(hidden))] + ["last"]
        arrays = {
            f"{place}.{kind}": values
            for place, layer in zip(places, layers, strict=True)
            for kind, values in zip(("weight", "bias"), layer, strict=True)
        }
    network.load_state_dict(
        {**network.state_dict(), **{name: torch.from_numpy(values) for name, values in arrays.items()}}
    )
    return network
