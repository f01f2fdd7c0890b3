"""Strided convolutions along a spectrum, normalised latents, and a discriminator of (spectrum, latent)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Layers = TypeVar("Layers", bound=nn.Module)

SLOPE = 0.1
"""Slope of the leaky ReLU for negative inputs."""

MIN_LENGTH = 8
"""Minimum number of positions over which each channel of a latent is normalised by itself."""


def downsampling(channels: int, filters: Sequence[int], strides: Sequence[int], kernel: int) -> nn.Sequential:
    """Return convolutions from (n, channels, l) to (n, filters[-1], l / product of strides).

    The kernel is odd; a length that the strides do not divide is rounded up.

    Examples
    --------
    >>> downsampling(1, [4, 8], [4, 2], 7)(torch.zeros(3, 1, 41)).shape
    torch.Size([3, 8, 6])
    """
    layers: list[nn.Module] = []
    for (inputs, outputs), stride in zip(pairwise([channels, *filters]), strides, strict=True):
        layers += [nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2), _activation()]
    return _initialised(nn.Sequential(*layers))


def upsampling(channels: int, filters: Sequence[int], strides: Sequence[int], kernel: int) -> nn.Sequential:
    """Return transposed convolutions from (n, channels, l) to (n, filters[-1], l * product of strides).

    Examples
    --------
    >>> upsampling(8, [4, 2], [2, 4], 7)(torch.zeros(3, 8, 6)).shape
    torch.Size([3, 2, 48])
    """
    layers: list[nn.Module] = []
    for (inputs, outputs), stride in zip(pairwise([channels, *filters]), strides, strict=True):
        # From l positions the layer alone makes (l - 1) * stride - 2 * padding + kernel of them, plus extra.
        padding = max(0, kernel - stride + 1) // 2
        extra = stride + 2 * padding - kernel
        layers += [
            nn.ConvTranspose1d(inputs, outputs, kernel, stride, padding, output_padding=extra),
            _activation(),
        ]
    return _initialised(nn.Sequential(*layers))


def projection(channels: int, outputs: int) -> nn.Conv1d:
    """Return a linear map of the channels of each position: (n, channels, l) to (n, outputs, l)."""
    return _initialised(nn.Conv1d(channels, outputs, 1))


class PixelWeights(nn.Module):
    """A linear map of the features of each pixel to its flux, with its own weights: (n, c, >= p) to (n, p).

    On a fixed grid of wavelengths, a pixel is in the same line in all spectra; what is made by weights that
    move along the spectrum would have to learn from the features where it is.

    Parameters
    ----------
    channels, pixels
        Numbers of features c and of pixels p; what lies beyond is left out.
    """

    def __init__(self, channels: int, pixels: int) -> None:
        super().__init__()
        # All pixels start alike, as they would with a convolution.
        self.weight = nn.Parameter(projection(channels, 1).weight.detach()[0].repeat(1, pixels))
        self.bias = nn.Parameter(torch.zeros(pixels))

    def forward(self, features: Tensor) -> Tensor:
        """Return fluxes (n, p)."""
        return (features[:, :, : len(self.bias)] * self.weight).sum(1) + self.bias


def normalised(codes: Tensor) -> Tensor:
    """Return codes (n, channels, l) with mean 0 and variance 1 over the positions of each channel.

    Short codes are normalised over channels and positions together: two positions of a channel would keep
    nothing but a sign, and one position nothing at all.

    Examples
    --------
    >>> normalised(torch.tensor([[[1.0, 3.0]]])).tolist()
    [[[-1.0, 1.0]]]
    """
    codes = codes.float()
    over = (2,) if codes.shape[2] >= MIN_LENGTH else (1, 2)
    centred = codes - codes.mean(over, keepdim=True)
    return centred / (centred.square().mean(over, keepdim=True) + 1e-8).sqrt()


class PairDiscriminator(nn.Module):
    """Tells apart pairs of a spectrum and its latents.

    The logit is that of convolutions, as published, plus that of a perceptron which sees all numbers of a
    pair at once: whether a spectrum is that of its latents is a matter of few directions in all pixels.

    Parameters
    ----------
    pixels
        Number of pixels p.
    latent
        Channels c and length l of the latents.
    filters, latent_filters
        Channels of the convolutions along the spectrum, and of those of each position of the latents.
    stride, kernel
        Of the convolutions along the spectrum.
    hidden
        Size of the hidden layers of the perceptron.
    """

    def __init__(
        self,
        pixels: int,
        latent: tuple[int, int],
        filters: Sequence[int],
        latent_filters: Sequence[int],
        *,
        stride: int = 4,
        kernel: int = 7,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        channels, length = latent
        numbers = [pixels + channels * length, hidden, hidden]
        layers = [part for sizes in pairwise(numbers) for part in (nn.Linear(*sizes), _activation())]
        self.whole = _initialised(nn.Sequential(*layers, nn.Linear(hidden, 1)))
        self.spectrum = downsampling(1, filters, [stride] * len(filters), kernel)
        self.latent = downsampling(channels, latent_filters, [1] * len(latent_filters), 1)
        for _ in filters:
            pixels = -(-pixels // stride)
        features = pixels * filters[-1] + length * latent_filters[-1]
        self.last = _initialised(nn.Linear(features, 1))

    def forward(self, spectra: Tensor, latents: Tensor) -> Tensor:
        """Return logits (n,) of being real, for spectra (n, p) and latents (n, c, l)."""
        features = [self.spectrum(spectra[:, None]).flatten(1), self.latent(latents).flatten(1)]
        pairs = torch.cat([spectra, latents.flatten(1)], dim=1)
        logits: Tensor = self.last(torch.cat(features, dim=1)) + self.whole(pairs)
        return logits[:, 0].float()


def discriminator_loss(
    real: Tensor,
    fake: Tensor,
    kind: str,
    real_weight: Tensor | float = 1.0,
    fake_weight: Tensor | float = 1.0,
) -> Tensor:
    """Return the mean loss of a discriminator with logits (n,) of real pairs and (m,) of fake ones.

    ``logits`` is the binary cross-entropy; with ``hinge``, a pair on the right side of the margin costs
    nothing. Pairs count by their weights (n,), (m,).

    Examples
    --------
    >>> float(discriminator_loss(torch.tensor([2.0]), torch.tensor([0.5]), "hinge"))
    1.5
    """
    if kind == "hinge":
        return _weighted(functional.relu(1 - real), real_weight) + _weighted(
            functional.relu(1 + fake), fake_weight
        )
    return _weighted(functional.softplus(-real), real_weight) + _weighted(
        functional.softplus(fake), fake_weight
    )


def generator_loss(fake: Tensor, kind: str, weight: Tensor | float = 1.0) -> Tensor:
    """Return the mean loss of a generator whose spectra, with weights (n,), have logits (n,) of being real.

    Examples
    --------
    >>> float(generator_loss(torch.tensor([2.0]), "hinge"))
    -2.0
    """
    return _weighted(-fake if kind == "hinge" else functional.softplus(-fake), weight)


def _weighted(losses: Tensor, weight: Tensor | float) -> Tensor:
    return (weight * losses).mean()


def gradient_penalty(
    discriminator: PairDiscriminator, spectra: Tensor, latents: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the logits (n,) of real pairs, and the mean squared gradient of a logit (R1).

    Mescheder et al. (2018) show that with this penalty the players converge where distributions agree.
    """
    with torch.enable_grad():
        pairs = [tensor.detach().requires_grad_() for tensor in (spectra, latents)]
        logits = discriminator(*pairs)
        slopes = torch.autograd.grad(logits.sum(), pairs, create_graph=True)
    return logits, sum(
        (slope.flatten(1).square().sum(1).mean() for slope in slopes), torch.zeros(()).to(logits)
    )


def _activation() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)


def _initialised(module: Layers) -> Layers:
    """Draw weights as published: Xavier's uniform law, and small positive biases."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, 0.01)
    return module
