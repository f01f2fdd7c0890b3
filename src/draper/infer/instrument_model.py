"""The forward model at the instrument: flux and derivatives on the pixels and at the resolution of a fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, Protocol

import torch
from torch import Tensor

from draper.infer.forward import SpectrumFunction
from draper.infer.places import Pixels
from draper.instrument.broadening import EVEN, Kernels, broaden, velocity_step
from draper.instrument.doppler import SPEED_OF_LIGHT
from draper.instrument.resample import FWHM
from draper.nn.spectral import Perceptron

FINE = 6.0
"""Pixels per sigma of a Gaussian line spread that are enough: cubic interpolation is then off by 0.0002."""

BLOCK = 512
"""Pixels whose derivatives are computed together: they stay in the processor's cache."""


class InstrumentModel(Protocol):
    """Flux (n, p) of scaled labels (n, d), on the pixels of a fit."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""

    def linearise(self, x: Tensor) -> Linearised:
        """Return flux at labels (n, d), with its derivatives."""


class Linearised(ABC):
    """Flux at some labels, and its derivatives by them.

    Attributes
    ----------
    flux : Tensor (n, p)
    size
        Number of labels.
    """

    flux: Tensor
    size: int

    @abstractmethod
    def columns(self, pixels: slice, kind: torch.dtype = torch.float32) -> Tensor:
        """Return the derivatives (n, d, q) in a slice of q pixels, as numbers of some precision."""

    def project(self, weights: Tensor) -> Tensor:
        """Return the product (n, d) of weights (n, p) and derivatives."""
        return add_up(
            (self.columns(pixels) @ weights[:, pixels, None])[:, :, 0] for pixels in blocks(weights.shape[1])
        )

    def curvature(self, density: Tensor, others: Tensor, shared: Tensor, *, rough: bool = False) -> Tensor:
        """Return weighted products (n, d + e + r, d + e + r) of derivatives: by labels, others, shared ones.

        Parameters
        ----------
        density : Tensor (n, p)
            Weights.
        others : Tensor (n, e, p)
            Derivatives by parameters other than labels.
        shared : Tensor (r, p)
            Derivatives that are the same for all rows.
        rough
            Compute in bfloat16, whose errors average out over pixels; sums are float32.
        """
        kind = torch.bfloat16 if rough else torch.float32
        density = density.clamp(min=0)
        root, others, shared = density.sqrt()[:, None].to(kind), others.to(kind), shared.to(kind)

        def part(pixels: slice) -> tuple[Tensor, Tensor]:
            rows = torch.cat([self.columns(pixels, kind), others[:, :, pixels]], dim=1) * root[:, :, pixels]
            cross = (rows * root[:, :, pixels]).flatten(0, 1) @ shared[:, pixels].T
            return (rows @ rows.transpose(1, 2)).float(), cross.reshape(*rows.shape[:2], -1).float()

        parts = [part(pixels) for pixels in blocks(density.shape[1])]
        own, cross = (add_up(iter(each)) for each in zip(*parts, strict=True))
        both = weighted_products(shared, density.to(kind))
        upper = torch.cat([own, cross], dim=2)
        return torch.cat([upper, torch.cat([cross.transpose(1, 2), both], dim=2)], dim=1)


def weighted_products(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the products (n, r, r) of rows (r, p) with each other, with weights (n, p) of the pixels.

    One after the other, which fits in the cache.
    """
    products = torch.empty(len(weights), len(rows), len(rows))
    for product, weight in zip(products, weights, strict=True):
        product.copy_((rows * weight) @ rows.T)
    return products


def blocks(pixels: int) -> Iterator[slice]:
    """Yield slices of at most ``BLOCK`` pixels."""
    for start in range(0, pixels, BLOCK):
        yield slice(start, min(start + BLOCK, pixels))


def add_up(parts: Iterable[Tensor]) -> Tensor:
    """Return the sum of tensors, holding one at a time; the first one is overwritten."""
    return reduce(torch.Tensor.add_, parts)


class PerceptronModel:
    """A perceptron whose last layer is resampled and broadened once, instead of every spectrum.

    Flux is linear in the last hidden layer, and so are resampling and broadening by widths that all spectra
    share: they act on the columns of the last layer (p, h).
    """

    def __init__(self, network: Perceptron, weight: Tensor, bias: Tensor) -> None:
        self.network, self.weight, self.bias = network, weight.contiguous(), bias
        self.weights = {kind: self.weight.to(kind) for kind in (torch.float32, torch.bfloat16)}

    def at(self, wavelength: Tensor, target: Tensor) -> PerceptronModel:
        """Return the same model on other pixels (q,)."""
        if len(target) == len(wavelength) and torch.equal(target, wavelength):
            return self
        change = ResampleAndBroaden(wavelength, target, {})
        return PerceptronModel(self.network, change(self.weight.T).T, change(self.bias[None])[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""
        return torch.addmm(self.bias, self.network.hidden(x), self.weight.T)

    def linearise(self, x: Tensor) -> Linearised:
        """Return flux at labels (n, d), with its derivatives."""
        return LinearisedPerceptron(self, x)


class LinearisedPerceptron(Linearised):
    """Derivatives that are computed block by block, when they are asked for."""

    def __init__(self, model: PerceptronModel, x: Tensor) -> None:
        self.weight, self.weights = model.weight, model.weights
        hidden, moved = model.network.hidden_jacobian(x)
        self.moved, self.size = moved, moved.shape[2]
        self.rows = moved.transpose(1, 2).reshape(len(x) * moved.shape[2], moved.shape[1])
        self.flux = torch.addmm(model.bias, hidden, self.weight.T)

    def columns(self, pixels: slice, kind: torch.dtype = torch.float32) -> Tensor:
        """Return the derivatives (n, d, q) in a slice of q pixels, as numbers of some precision."""
        n, _, d = self.moved.shape
        if self.rows.dtype != kind:
            self.rows = self.rows.to(kind)
        weight = self.weights[kind][pixels]
        return (self.rows @ weight.T).reshape(n, d, len(weight))

    def project(self, weights: Tensor) -> Tensor:
        """Return the product (n, d) of weights (n, p) and derivatives."""
        return ((weights @ self.weight)[:, None] @ self.moved)[:, 0]


class LinearisedArrays(Linearised):
    """Derivatives that are held as one array (n, d, p)."""

    def __init__(self, flux: Tensor, derivatives: Tensor) -> None:
        self.flux, self.derivatives, self.size = flux, derivatives, derivatives.shape[1]

    def columns(self, pixels: slice, kind: torch.dtype = torch.float32) -> Tensor:
        """Return the derivatives (n, d, q) in a slice of q pixels, as numbers of some precision."""
        return self.derivatives[:, :, pixels].to(kind)


class BroadenedLinearised(Linearised):
    """Flux and derivatives that are broadened, derivatives when they are asked for.

    Parameters
    ----------
    bare
        What is broadened.
    kernels, transform
        The map, and the transforms (n or 1, f) of the profiles of each row.
    spectrum : Tensor (n, f)
        The transform of the bare flux.
    """

    def __init__(self, bare: Linearised, kernels: Kernels, transform: Tensor, spectrum: Tensor) -> None:
        self.bare, self.kernels, self.transform, self.size = bare, kernels, transform, bare.size
        self.flux = kernels.back(spectrum * transform)
        self.broadened: dict[torch.dtype, Tensor] = {}

    def columns(self, pixels: slice, kind: torch.dtype = torch.float32) -> Tensor:
        """Return the derivatives (n, d, q) in a slice of q pixels, as numbers of some precision."""
        if kind not in self.broadened:
            parts = ((some, self.bare.columns(some, kind)) for some in blocks(self.flux.shape[1]))
            spectrum = self.kernels.spectrum_of_blocks(parts, (len(self.flux), self.bare.size))
            self.broadened[kind] = self.kernels.back(spectrum.mul_(self.transform[:, None])).to(kind)
        return self.broadened[kind][:, :, pixels]

    def project(self, weights: Tensor) -> Tensor:
        """Return the product (n, d) of weights (n, p) and derivatives."""
        return self.bare.project(self.kernels.transpose(weights, self.transform))


class ResampleAndBroaden:
    """A linear map of spectra (n, p): cubic resampling, then broadening by widths that all spectra share.

    Where spectra of a low resolving power need no more, every second, third ... pixel is kept.

    Attributes
    ----------
    pixels : Tensor (q,)
        Wavelengths of the result.
    """

    def __init__(self, wavelength: Tensor, target: Tensor, widths: Mapping[str, Tensor]) -> None:
        still = torch.zeros(1, dtype=torch.float64)
        self.places = None if target is wavelength else Pixels(wavelength).places(target, still)
        self.widths: dict[str, Any] = dict(widths)
        self.step = velocity_step(target) if widths else 0.0
        self.every = 1
        if "resolving_power" in widths:
            sigma = SPEED_OF_LIGHT / (FWHM * float(widths["resolving_power"]))
            self.every = max(1, int(sigma / (FINE * self.step)))
        self.pixels = target[:: self.every].contiguous()

    def __call__(self, spectra: Tensor) -> Tensor:
        """Return spectra (n, q)."""
        if len(spectra) == 0:
            return spectra.new_zeros(0, len(self.pixels))
        moved = spectra if self.places is None else self.places.interpolate(spectra)[0]
        return broaden(moved, self.step, **self.widths)[:, :: self.every] if self.widths else moved


class ResampledModel:
    """Any function of labels; its spectra are resampled and broadened each time."""

    def __init__(self, function: SpectrumFunction, change: ResampleAndBroaden | None = None) -> None:
        self.function, self.change = function, change

    def __call__(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""
        flux = self.function(x)
        return flux if self.change is None else self.change(flux)

    def linearise(self, x: Tensor) -> Linearised:
        """Return flux at labels (n, d), with its derivatives."""
        flux, derivatives = self.function.jacobian(x)
        derivatives = derivatives.transpose(1, 2)
        if self.change is None:
            return LinearisedArrays(flux, derivatives)
        n, d, p = derivatives.shape
        changed = self.change(derivatives.reshape(n * d, p))
        return LinearisedArrays(self.change(flux), changed.reshape(n, d, len(self.change.pixels)))


def instrument_model(
    function: SpectrumFunction, wavelength: Tensor, *, even: bool, widths: Mapping[str, Tensor]
) -> tuple[InstrumentModel, ResampleAndBroaden]:
    """Return the model of spectra that are broadened by fixed widths, and what it does to spectra.

    Parameters
    ----------
    function, wavelength
        From scaled labels to flux, and the pixels (p,) of that flux.
    even
        Whether the pixels must be even in ln(lambda).
    widths
        ``vsini``, ``vmac``, ``resolving_power`` that all spectra have.
    """
    target = wavelength
    steps = torch.diff(torch.log(wavelength))
    if (even or widths) and float(steps.max() - steps.min()) > EVEN * float(steps.mean()):
        count = int(torch.log(wavelength[-1] / wavelength[0]) / steps.min()) + 1
        ends = torch.log(wavelength[[0, -1]])
        target = torch.exp(ends[0] + (ends[1] - ends[0]) * torch.arange(count).double() / (count - 1))
    change = ResampleAndBroaden(wavelength, target, widths)
    if isinstance(function, Perceptron) and not function.bounded:
        weight, bias = function.cached_readout()
        return PerceptronModel(function, change(weight.T).T, change(bias[None])[0]), change
    return ResampledModel(function, None if change.places is None and not widths else change), change
