"""The file formats of networks of other codes: what their arrays mean, and what their files do not state."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray

from draper.configs.emulator import Activation
from draper.data.parsing import payne
from draper.data.parsing.source import Source
from draper.errors import DraperError, did_you_mean, option_text
from draper.models.emulator.foreign.arrays import Arrays, list_names, numbers, words

FloatArray = NDArray[np.float64]

MOST_UNITS = 10_000
"""Largest width of a hidden layer."""

STELLAR = ("teff", "logg", "fe_h", "mg_fe", "vmac")
"""Labels of the networks of binspec; those without macroturbulence predict fluxes."""

BINSPEC_FLUX = "1e-6 erg / (s cm2 Hz sr)"

CARGILE = ("teff", "logg", "fe_h", "alpha_fe", "vmic")
"""Labels of the networks YST1 (the first four) and YST2."""

LAYERS: dict[str, Activation] = {"SiLU": "silu", "LeakyReLU": "leaky_relu", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class Weights:
    """A network as a file holds it.

    Attributes
    ----------
    layers
        Weights and biases of each layer; (p, h, d), (p, h) and (p, h), (p,) for one network a pixel.
    low, high : ndarray (d,)
        Labels that are scaled to -0.5 and 0.5.
    activation, bounded, pixelwise
        The form of the network.
    names
        Names of the labels, of the file or else of the code.
    wavelength
        Wavelengths of the pixels (p,) [Angstrom], if the file has them.
    medium
        Medium of the wavelengths, if file or code state it.
    quantity, unit
        The predicted quantity.
    """

    layers: tuple[tuple[FloatArray, FloatArray], ...]
    low: FloatArray
    high: FloatArray
    activation: Activation
    bounded: bool = False
    pixelwise: bool = False
    names: tuple[str, ...] = ()
    wavelength: FloatArray | None = None
    medium: str | None = None
    quantity: str = "normalised flux"
    unit: str = ""

    @property
    def pixels(self) -> int:
        """Number of outputs."""
        return len(self.layers[-1][1])


@dataclass(frozen=True)
class ForeignFormat:
    """A file format: its name, what it is, how it is recognised and how it is read."""

    name: str
    what: str
    recognises: Callable[[Source, Arrays], bool]
    read: Callable[[Source, Arrays], Weights]


def formats() -> dict[str, ForeignFormat]:
    """Return the formats of networks by name."""
    return {layout.name: layout for layout in FORMATS}


def recognise(source: Source, arrays: Arrays, name: str | None) -> ForeignFormat:
    """Return the format of a name, or the one that the arrays have."""
    if name is not None:
        if name not in formats():
            raise DraperError(
                "unknown format of networks",
                given=name,
                expected=", ".join(formats()),
                hint=did_you_mean(name, formats()),
            )
        return formats()[name]
    for layout in FORMATS:
        if layout.recognises(source, arrays):
            return layout
    raise source.error(
        "the file is of no known format of networks",
        given=list_names(arrays),
        expected="; ".join(layout.what for layout in FORMATS),
        hint="Emulator.from_network takes any network that you have built yourself",
    )


def _depth(arrays: Arrays) -> int:
    return next(k for k in count() if f"w_array_{k}" not in arrays)


def _axes(arrays: Arrays) -> int:
    return arrays["w_array_0"].ndim if "w_array_0" in arrays else 0


def _numbered(source: Source, arrays: Arrays, activation: Activation, *, bounded: bool) -> Weights:
    """Read ``w_array_0``, ``b_array_0``, ... and what stands beside them."""
    layers = tuple(
        (numbers(source, arrays, f"w_array_{k}", 2), numbers(source, arrays, f"b_array_{k}", 1))
        for k in range(max(2, _depth(arrays)))
    )
    weights = Weights(
        _fitting(source, layers), *_ranges(source, arrays, "x_min", "x_max"), activation, bounded=bounded
    )
    if "wavelength" in arrays:
        weights = replace(weights, wavelength=numbers(source, arrays, "wavelength", 1))
    medium = (*words(arrays, "medium"), "")[0]
    return replace(weights, names=words(arrays, "label_names"), medium=medium or None)


def _one_payne(source: Source, arrays: Arrays) -> Weights:
    parts = re.split(r"\W+", (*words(arrays, "model_architecture"), "")[0])
    hidden, end = {part for part in parts[:-1] if part not in ("Linear", "")}, parts[-1]
    if parts[0] and not (len(hidden) == 1 and hidden <= set(LAYERS) and end in ("Sigmoid", "Linear")):
        raise source.error(
            "unknown form of the network",
            given="-".join(parts),
            expected="one activation of " + ", ".join(LAYERS) + ", and Linear or Linear-Sigmoid at the end",
            hint="Emulator.from_network takes any network that you have built yourself",
        )
    activation = LAYERS[hidden.pop()] if hidden else "silu"
    return _numbered(source, arrays, activation, bounded=end != "Linear")


def _the_payne(source: Source, arrays: Arrays) -> Weights:
    weights = _numbered(source, arrays, "leaky_relu", bounded=False)
    names = weights.names or (payne.LABELS if len(weights.low) == len(payne.LABELS) else ())
    return _on_apogee_grid(replace(weights, names=names))


def _binspec(source: Source, arrays: Arrays) -> Weights:
    layers = (
        (numbers(source, arrays, "w_array_0", 3), numbers(source, arrays, "b_array_0", 2)),
        (numbers(source, arrays, "w_array_1", 2), numbers(source, arrays, "b_array_1", 1)),
    )
    (inner, shift), (outer, level) = layers
    if not inner.shape[:2] == shift.shape == outer.shape or outer.shape[:1] != level.shape:
        raise _shape_error(source, layers)
    low, high = _ranges(source, arrays, "x_min", "x_max")
    if inner.shape[2] != len(low):
        raise _shape_error(source, layers, f"{len(low)} labels")
    weights = Weights(layers, low, high, "sigmoid", pixelwise=True)
    if len(low) in (4, 5):
        weights = replace(weights, names=STELLAR[: len(low)])
    if len(low) == 4:
        weights = replace(weights, quantity="flux", unit=BINSPEC_FLUX)
    return _on_apogee_grid(weights)


def _yst(source: Source, arrays: Arrays) -> Weights:
    weights = _numbered(source, arrays, "leaky_relu", bounded=False)
    return replace(
        weights, names=CARGILE[: len(weights.low)] if len(weights.low) in (4, 5) else weights.names
    )


def _smlp(source: Source, arrays: Arrays) -> Weights:
    places = sorted(
        int(match[1])
        for name in arrays
        if (match := re.fullmatch(r"model/features\.(\d{1,3})\.weight", name))
    )
    layers = tuple(
        (
            numbers(source, arrays, f"model/features.{place}.weight", 2),
            numbers(source, arrays, f"model/features.{place}.bias", 1),
        )
        for place in places
    )
    if len(layers) < 2:
        raise source.error(
            "the file holds no 'model/features.0.weight'", hint=f"leave out {option_text('format')}"
        )
    keys = ("xmin", "xmax") if "xmin" in arrays else ("x_min", "x_max")
    weights = Weights(_fitting(source, layers), *_ranges(source, arrays, *keys), "leaky_relu")
    key = next((key for key in ("wavelengths", "wavelength") if key in arrays), None)
    wavelength = None if key is None else numbers(source, arrays, key, 1)
    return replace(weights, names=words(arrays, "label_i"), wavelength=wavelength)


def _on_apogee_grid(weights: Weights) -> Weights:
    grid = payne.apogee_grid().vacuum
    if weights.wavelength is not None or weights.pixels != len(grid):
        return weights
    return replace(weights, wavelength=grid, medium="vacuum")


def _ranges(source: Source, arrays: Arrays, low: str, high: str) -> tuple[FloatArray, FloatArray]:
    lows, highs = numbers(source, arrays, low, 1), numbers(source, arrays, high, 1)
    if lows.shape != highs.shape or not (lows < highs).all():
        raise source.error(
            f"'{low}' and '{high}' are not the ranges of labels",
            given=f"{lows.shape} and {highs.shape}",
            expected="one low and one high end for each label",
            hint="write the file again",
        )
    return lows, highs


def _fitting(
    source: Source, layers: tuple[tuple[FloatArray, FloatArray], ...]
) -> tuple[tuple[FloatArray, FloatArray], ...]:
    """Return layers that fit onto each other."""
    chained = all(len(before[0]) == after[0].shape[1] for before, after in pairwise(layers))
    if not chained or any(len(weight) != len(bias) for weight, bias in layers):
        raise _shape_error(source, layers)
    return layers


def _shape_error(
    source: Source, layers: tuple[tuple[FloatArray, FloatArray], ...], also: str = ""
) -> DraperError:
    shapes = ", ".join(f"{weight.shape} {bias.shape}" for weight, bias in layers)
    return source.error(
        "the layers do not fit onto each other",
        given=f"{shapes} {also}".strip(),
        hint=f"write the file again, or name its format: {option_text('format')}",
    )


FORMATS = (
    ForeignFormat(
        "binspec",
        "binspec (npz): one network of sigmoids for each pixel",
        lambda source, arrays: _axes(arrays) == 3,
        _binspec,
    ),
    ForeignFormat(
        "yst",
        "Cargile's YST1 and YST2 (HDF5): leaky ReLU",
        lambda source, arrays: source.kind == "hdf5" and _axes(arrays) == 2,
        _yst,
    ),
    ForeignFormat(
        "smlp",
        "Cargile's SMLP (HDF5): leaky ReLU",
        lambda source, arrays: "model/features.0.weight" in arrays,
        _smlp,
    ),
    ForeignFormat(
        "one-payne",
        "one_payne (npz): four layers or more, SiLU and a sigmoid at the end",
        lambda source, arrays: _axes(arrays) == 2 and _depth(arrays) > 3,
        _one_payne,
    ),
    ForeignFormat(
        "the-payne",
        "The Payne (npz): three layers, leaky ReLU",
        lambda source, arrays: _axes(arrays) == 2 and _depth(arrays) == 3,
        _the_payne,
    ),
)
