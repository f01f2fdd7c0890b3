"""Networks from the options of an emulator, and options from a network."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from draper.configs.emulator import EmulatorConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.errors import DraperError
from draper.nn.emulator import EmulatorNetwork
from draper.nn.pixelwise import PixelNetwork
from draper.nn.query import QueryNetwork
from draper.nn.radial_emulator import RadialEmulator
from draper.nn.spectral import Perceptron, SpectralNetwork

LEFT = 0.002
"""Share of the scatter of the spectra (rms) that components may leave out if their number is not given."""


def build_network(config: EmulatorConfig, grid: Grid, labels: LabelSet, components: int) -> SpectralNetwork:
    """Return a new network; ``components`` is the number of components of the training set."""
    if config.architecture == "pixelwise":
        return PixelNetwork(len(labels), len(grid), config.hidden[0])
    if config.architecture == "query":
        return QueryNetwork(
            len(labels),
            grid.vacuum,
            config.hidden,
            config.activation,
            waves=config.waves,
            decoder=config.decoder,
            loss=config.loss,
        )
    count = min(components if config.components is None else config.components, len(grid))
    tolerance = LEFT if config.components is None else 0.0
    if config.architecture == "radial":
        return RadialEmulator(
            len(labels),
            len(grid),
            bends=config.bends,
            kernels=config.kernels,
            components=count,
            tolerance=tolerance,
        )
    if unknown := set(config.censor) - set(labels.names):
        raise DraperError(
            "only a label of the model can be censored",
            given=", ".join(sorted(unknown)),
            expected=", ".join(labels.names),
        )
    return EmulatorNetwork(
        len(labels),
        len(grid),
        config.hidden,
        config.activation,
        bounded=config.output == "bounded",
        components=0 if config.needs_pixels else count,
        loss=config.loss,
        tolerance=tolerance,
        start=config.start == "ridge",
        solve=config.solve,
        censored={
            labels.names.index(name): torch.from_numpy(grid.inside(windows))
            for name, windows in config.censor.items()
        },
    )


def options_of_network(network: SpectralNetwork) -> dict[str, Any]:
    """Return the options that describe a network."""
    if isinstance(network, PixelNetwork):
        return {"architecture": "pixelwise", "hidden": (network.shift.shape[1],), "activation": "sigmoid"}
    if isinstance(network, QueryNetwork):
        return {
            "architecture": "query",
            "hidden": _sizes(network.layers),
            "activation": network.activation,
            "waves": len(network.periods),
            "decoder": (network.first.out_features, *_sizes(network.decoder)),
        }
    if isinstance(network, RadialEmulator):
        return {
            "architecture": "radial",
            "bends": next(network.parts())[0].inner.out_features,
            "kernels": len(network.kernels),
            "components": len(network.basis),
        }
    perceptron = cast(Perceptron, network)
    return {
        "hidden": _sizes(perceptron.layers),
        "activation": perceptron.activation,
        "output": "bounded" if perceptron.bounded else "linear",
        "components": len(perceptron.basis),
    }


def _sizes(layers: nn.ModuleList) -> tuple[int, ...]:
    return tuple(cast(nn.Linear, layer).out_features for layer in layers)
