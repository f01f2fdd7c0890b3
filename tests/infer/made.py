"""A small emulator with lines as wide as a spectrograph makes them, and data drawn from it."""

from __future__ import annotations

import numpy as np
import torch

from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet
from draper.infer.forward import ForwardModel, SpectrumFunction
from draper.nn.module import Batch
from draper.nn.spectral import Perceptron

LABELS = LabelSet(
    [Label("teff", low=4000, high=7000), Label("logg", low=0, high=5), Label("fe_h", low=-2, high=0.5)]
)


class Made(Perceptron):
    """A perceptron that is not trained."""

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, torch.Tensor]:
        raise NotImplementedError


def wavelength(pixels: int = 900) -> np.ndarray:
    """Pixels even in ln(lambda), 10 km/s wide."""
    return 8450.0 * np.exp(np.arange(pixels) * 10 / 299792.458)


def network(pixels: int = 900, *, bounded: bool = False, width: float = 2.5) -> Made:
    """Return flux = 1 - lines whose depths follow from labels, ``width`` pixels wide (sigma)."""
    generator = torch.Generator().manual_seed(3)
    made = Made(3, pixels, (16, 16), "silu", bounded=bounded)
    place = torch.arange(pixels).float()
    centre = torch.rand(60, generator=generator) * pixels
    profiles = torch.exp(-0.5 * ((place[:, None] - centre) / width) ** 2)
    with torch.no_grad():
        for layer in made.layers:
            layer.weight.normal_(0, 1.2, generator=generator)
            layer.bias.normal_(0, 0.5, generator=generator)
        strength = torch.randn(60, 16, generator=generator) * 0.06
        made.last.weight.copy_(-profiles @ strength)
        made.last.bias.copy_(1 - profiles @ torch.rand(60, generator=generator) * 0.3)
        if bounded:
            made.last.bias.add_(1.0)
    made.points = torch.rand(512, 3, generator=generator) - 0.5
    return made.requires_grad_(False).eval()


def forward(function: SpectrumFunction, wavelength: np.ndarray) -> ForwardModel:
    """Return a function with its pixels and the labels."""
    return ForwardModel(function, Grid(wavelength), LABELS)


def drawn(n: int, seed: int = 0, reach: float = 0.35) -> torch.Tensor:
    """Return scaled labels (n, 3) inside the box."""
    return (torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) - 0.5) * 2 * reach


def noise(flux: torch.Tensor, sigma: float, seed: int = 1) -> torch.Tensor:
    """Return spectra with noise."""
    return flux + sigma * torch.randn(flux.shape, generator=torch.Generator().manual_seed(seed))
