"""Networks from labels to spectra, with their derivatives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from draper.configs.emulator import Activation
from draper.nn.module import Module
from draper.nn.nearby import nearby_covariance

SLOPE = 0.01
"""Slope of the leaky ReLU below 0."""


def activate(z: Tensor, activation: Activation) -> Tensor:
    """Return the activation of z."""
    if activation == "silu":
        return nn.functional.silu(z)
    if activation == "sigmoid":
        return torch.sigmoid(z)
    return nn.functional.leaky_relu(z, SLOPE)


def activation_slope(z: Tensor, activation: Activation) -> Tensor:
    """Return the derivative of the activation at z."""
    if activation == "leaky_relu":
        return torch.where(z > 0, 1.0, SLOPE).to(z.dtype)
    gate = torch.sigmoid(z)
    return gate * (1 - gate) if activation == "sigmoid" else gate * (1 + z * (1 - gate))


class SpectralNetwork(Module):
    """A network from labels x (n, d), scaled to -0.5 to 0.5 in the box, to flux (n, p).

    It also holds the labels of its training spectra, and its errors on held-out spectra.

    Attributes
    ----------
    points : Tensor (m, d)
        Scaled labels of training spectra, at most 4096.
    facets : Tensor (f, d + 1)
        Half-planes around those of all training spectra; see :mod:`draper.nn.hull`.
    uncertainty : Tensor (p,)
        Rms error of each pixel over held-out spectra; NaN where there were none.
    modes : Tensor (r, p)
        The part of these errors that pixels have in common; see :mod:`draper.nn.error_modes`.
    held_out, amplitudes, error_width : Tensor (n, d), (n, r), (d,)
        Scaled labels of held-out spectra, amplitudes of these modes in them, and how far from them in labels
        errors are alike; n is 0 where they are the same everywhere.
    gap : Tensor (p,) or (0,)
        1-sigma error on real spectra beyond their noise and the network's own error; of length 0 if that was
        not learnt.
    """

    labels: int
    pixels: int

    def __init__(self, labels: int, pixels: int) -> None:
        super().__init__()
        self.labels, self.pixels = labels, pixels
        self.points: Tensor
        self.facets: Tensor
        self.uncertainty: Tensor
        self.register_buffer("points", torch.zeros(0, labels))
        self.register_buffer("facets", torch.zeros(0, labels + 1))
        self.register_buffer("uncertainty", torch.full((pixels,), torch.nan))
        self.modes: Tensor
        self.register_buffer("modes", torch.zeros(0, pixels))
        self.held_out: Tensor
        self.amplitudes: Tensor
        self.error_width: Tensor
        self.register_buffer("held_out", torch.zeros(0, labels))
        self.register_buffer("amplitudes", torch.zeros(0, 0))
        self.register_buffer("error_width", torch.full((labels,), torch.inf))
        self.gap: Tensor
        self.register_buffer("gap", torch.zeros(0))

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""

    @abstractmethod
    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d)."""

    @property
    def can_correct_lines(self) -> bool:
        """Whether :meth:`correct_lines` can be applied."""
        return False

    def correct_lines(self, share: Tensor, extra: Tensor) -> None:
        """Change the depth d of all spectra to (1 + a) d + b m, with m its mean over the pixels.

        ``share`` (p,) is a and ``extra`` (p,) is b; see :func:`draper.infer.zero_point.line_correction`.
        """
        raise NotImplementedError

    def error(self, x: Tensor) -> Tensor:
        """Return the 1-sigma error (n, p) of the flux."""
        return self.uncertainty.expand(len(x), -1)

    def amplitude_covariance(self, x: Tensor, mixture: Tensor) -> Tensor | None:
        """Return the covariance (n, k, k) of mixed (r, k) amplitudes of the modes; None where it is 1."""
        if not len(self.held_out):
            return None
        return nearby_covariance(x, self.held_out, self.amplitudes @ mixture, self.error_width)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Load arrays, some of which have lengths that depend on the training data."""
        # Older files lack some.
        later = {name: getattr(self, name) for name in ("gap", "held_out", "amplitudes", "error_width")}
        state_dict = {**{f"{prefix}{name}": array for name, array in later.items()}, **state_dict}
        for name in ("points", "facets", "modes", "gap", "held_out", "amplitudes"):
            if f"{prefix}{name}" in state_dict:
                held = getattr(self, name)
                setattr(self, name, held.new_zeros(state_dict[f"{prefix}{name}"].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


class MaskedLinear(nn.Linear):
    """A linear layer whose masked weights stay zero."""

    mask: Tensor | None

    def __init__(self, inputs: int, outputs: int, mask: Tensor | None) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n, outputs); masked weights get no gradient."""
        return nn.functional.linear(
            x, self.weight if self.mask is None else self.weight * self.mask, self.bias
        )

    @torch.no_grad()
    def reset(self, weight: float, bias: float) -> None:
        """Draw weights of a standard deviation, and biases within a range."""
        self.weight.normal_(0, weight)
        self.bias.uniform_(-bias, bias)
        if self.mask is not None:
            self.weight.mul_(self.mask)


def hidden_layers(sizes: Sequence[int], masks: Sequence[Tensor | None]) -> nn.ModuleList:
    """Return linear layers of these sizes, the first of which is the number of labels."""
    return nn.ModuleList(MaskedLinear(*ends, mask) for ends, mask in zip(pairwise(sizes), masks, strict=True))


def initialise(layers: nn.ModuleList) -> None:
    """Draw the weights of hidden layers.

    Labels have a variance of 1/12. Weights half as large as that allows give a smoother function at first,
    which predicts spectra between the training points better.
    """
    for number, layer in enumerate(layers):
        assert isinstance(layer, MaskedLinear)
        layer.reset(((1 if number else 3) / layer.in_features) ** 0.5, 0.5)


def forward_jacobian(
    layers: nn.ModuleList, activation: Activation, x: Tensor, kind: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Return the last of some hidden layers (n, h) at x (n, d), and derivatives (n, h, d) of a precision."""
    (n, d), moved, kind = x.shape, None, kind or x.dtype
    for layer in layers:
        assert isinstance(layer, nn.Linear)
        z = layer(x)
        # Rows for each label lie together, so that a layer is one product of matrices.
        weight = layer.weight.T.to(kind)
        passed = weight.contiguous()[None] if moved is None else (moved @ weight).reshape(n, d, z.shape[1])
        moved = (activation_slope(z, activation).to(kind)[:, None] * passed).reshape(n * d, z.shape[1])
        x = activate(z, activation)
    assert moved is not None
    return x, moved.reshape(n, d, x.shape[1]).transpose(1, 2)


class Perceptron(SpectralNetwork):
    """A perceptron whose outputs are pixels, or principal components of them.

    With linear output, flux = ``weight`` @ hidden + ``bias`` (:meth:`readout`), with components or without,
    which is the form of The Payne; with bounded output a sigmoid follows, which is the form of one_payne.

    Parameters
    ----------
    labels, pixels
        Numbers of inputs d and outputs p.
    hidden
        Sizes of the hidden layers.
    components
        Number of principal components that the last layer predicts; with 0 it predicts pixels.
    censored
        For inputs that may change some pixels only, which (p,) bool. They get hidden units of their own, and
        the weights from these to all other pixels are 0.
    """

    def __init__(
        self,
        labels: int,
        pixels: int,
        hidden: Sequence[int] = (300, 300),
        activation: Activation = "silu",
        *,
        bounded: bool = False,
        components: int = 0,
        censored: Mapping[int, Tensor] | None = None,
    ) -> None:
        super().__init__(labels, pixels)
        self.activation, self.bounded = activation, bounded
        self._cached: tuple[Any, Tensor, Tensor] | None = None
        masks = _masks([labels, *hidden], pixels, censored) if censored else [None] * (len(hidden) + 1)
        self.layers = hidden_layers([labels, *hidden], masks[:-1])
        self.last = MaskedLinear(hidden[-1], components or pixels, masks[-1])
        self.mean: Tensor
        self.scale: Tensor
        self.basis: Tensor
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("basis", torch.zeros(components, pixels))
        initialise(self.layers)
        self.last.reset(0.2 / self.last.in_features**0.5, 0.0)

    # -------------------------------------------------------------- evaluation

    def hidden(self, x: Tensor) -> Tensor:
        """Return the last hidden layer (n, h)."""
        for layer in self.layers:
            x = activate(layer(x), self.activation)
        return x

    def hidden_jacobian(self, x: Tensor, kind: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Return the last hidden layer (n, h) and its derivatives (n, h, d), the latter of a precision."""
        return forward_jacobian(self.layers, self.activation, x, kind)

    def hidden_gradient(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the product (n, d) of weights (n, h) and the derivatives of the last hidden layer."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (pulled,) = torch.autograd.grad(self.hidden(x), x, weights)
        return pulled

    def readout(self) -> tuple[Tensor, Tensor]:
        """Return the weight (p, h) and bias (p,) from the last hidden layer to pixels."""
        if not len(self.basis):
            return self.scale * self.last.weight, self.mean + self.scale * self.last.bias
        return self.basis.T @ self.last.weight, self.mean + self.last.bias @ self.basis

    def cached_readout(self) -> tuple[Tensor, Tensor]:
        """Return :meth:`readout`, cached until a weight changes."""
        parts = (self.last.weight, self.last.bias, self.basis, self.mean, self.scale)
        state = [(id(part), part.data_ptr(), part._version, part.dtype, part.device) for part in parts]
        if self._cached is None or self._cached[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                self._cached = state, *self.readout()
        return self._cached[1:]

    @property
    def can_correct_lines(self) -> bool:
        """Whether flux is linear in the last layer, each pixel of which may use all hidden units."""
        return not self.bounded and self.last.mask is None

    @torch.no_grad()
    def correct_lines(self, share: Tensor, extra: Tensor) -> None:
        """Change the last layer, or its principal components, and the errors."""

        def corrected(depths: Tensor) -> Tensor:
            """Return depths (..., p)."""
            return (1 + share) * depths + extra * depths.mean(-1, keepdim=True)

        self.mean.copy_(1 - corrected(1 - self.mean))
        if len(self.basis):
            self.basis.copy_(corrected(self.basis))
        else:
            self.last.weight.copy_(corrected(self.last.weight.T).T)
            self.last.bias.copy_(corrected(self.last.bias))
        self.modes.copy_(corrected(self.modes))
        self.uncertainty.copy_((1 + share).abs() * self.uncertainty)

    @property
    def _is_direct(self) -> bool:
        """Whether the way from hidden units straight to pixels is faster than that over the components."""
        return len(self.basis) > self.last.in_features and not (self.bounded or torch.is_grad_enabled())

    def forward(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""
        hidden = self.hidden(x)
        if not self._is_direct:
            return self.flux(self.last(hidden))
        weight, bias = self.cached_readout()
        return torch.addmm(bias, hidden, weight.T)

    def flux(self, outputs: Tensor) -> Tensor:
        """Return flux (n, p) of outputs (n, k) of the last layer."""
        flux = self.mean + (outputs @ self.basis if len(self.basis) else self.scale * outputs)
        return torch.sigmoid(flux) if self.bounded else flux

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d)."""
        hidden, moved = self.hidden_jacobian(x)
        side = moved.permute(1, 0, 2).reshape(moved.shape[1], -1)
        if self._is_direct:
            weight, bias = self.cached_readout()
            flux, columns = torch.addmm(bias, hidden, weight.T), weight @ side
        else:
            flux, columns = self.flux(self.last(hidden)), self.last.weight @ side
            columns = self.basis.T @ columns if len(self.basis) else self.scale * columns
        columns = columns.reshape(self.pixels, len(x), -1).permute(1, 0, 2)
        return flux, columns * (flux * (1 - flux))[:, :, None] if self.bounded else columns


def _masks(sizes: list[int], pixels: int, censored: Mapping[int, Tensor]) -> list[Tensor]:
    """Return for each layer which inputs (b,) each output (a,) may use, as (a, b) bool.

    The units of a layer form blocks: one uses the uncensored labels alone, each other also a censored one.
    """
    owners = [torch.zeros(sizes[0], dtype=torch.int64)]
    for number, label in enumerate(censored, start=1):
        owners[0][label] = number
    for size in sizes[1:]:
        blocks = torch.arange(1, len(censored) + 1).repeat_interleave(size // (2 * len(censored)))
        owners.append(nn.functional.pad(blocks, (size - len(blocks), 0)))
    moved = torch.ones(pixels, len(censored) + 1, dtype=torch.bool)
    for number, where in enumerate(censored.values(), start=1):
        moved[:, number] = where
    seen = [(before == 0) | (before == after[:, None]) for before, after in pairwise(owners)]
    return [*seen, moved[:, owners[-1]]]
