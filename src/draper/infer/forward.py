"""A network's spectra on the pixels and at the resolution that a fit wants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.instrument.broadening import EVEN, broaden, velocity_step
from draper.instrument.resample import cubic
from draper.nn.spectral import Perceptron, SpectralNetwork

BLOCK = 512
"""Pixels of the derivatives that are computed together: they stay in the processor's cache."""


@dataclass(frozen=True)
class ForwardModel:
    """What a label fit needs: a network from scaled labels to flux, its pixels and its labels.

    Attributes
    ----------
    network : SpectralNetwork
        From labels scaled to -0.5 to 0.5 to flux (n, p).
    grid : Grid
        The p pixels.
    labels : LabelSet
    """

    network: SpectralNetwork
    grid: Grid
    labels: LabelSet


class Maker(Protocol):
    """Makes spectra (n, p) of scaled labels (n, d)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""

    def around(self, x: Tensor) -> Local:
        """Return the spectra of labels (n, d), and how they change."""


class Local(ABC):
    """Spectra, and how they change with labels.

    Attributes
    ----------
    flux : Tensor (n, p)
    """

    flux: Tensor

    @abstractmethod
    def columns(self, pixels: slice, kind: torch.dtype = torch.float32) -> Tensor:
        """Return the derivatives (n, d, some p) of some pixels, in a precision."""

    def pulled(self, weights: Tensor) -> Tensor:
        """Return the product (n, d) of weights (n, p) and derivatives."""
        parts = ((self.columns(some) @ weights[:, some, None])[:, :, 0] for some in blocks(weights.shape[1]))
        return sum_of(parts)

    def curvature(self, density: Tensor, others: Tensor, *, rough: bool = False) -> Tensor:
        """Return the weighted products (n, d + e, d + e) of all derivatives, by labels first.

        Parameters
        ----------
        density : Tensor (n, p)
            Weights.
        others : Tensor (n, e, p)
            Derivatives by what is no label.
        rough
            In bfloat16, whose errors average out over pixels; sums are of float32.
        """
        kind = torch.bfloat16 if rough else torch.float32
        root, others = density.clamp(min=0).sqrt()[:, None].to(kind), others.to(kind)

        def part(some: slice) -> Tensor:
            rows = torch.cat([self.columns(some, kind), others[:, :, some]], dim=1) * root[:, :, some]
            return (rows @ rows.transpose(1, 2)).float()

        return sum_of(part(some) for some in blocks(density.shape[1]))


def blocks(pixels: int) -> Iterator[slice]:
    """Yield slices of at most ``BLOCK`` pixels."""
    for start in range(0, pixels, BLOCK):
        yield slice(start, min(start + BLOCK, pixels))


def sum_of(parts: Iterable[Tensor]) -> Tensor:
    """Return the sum of tensors, without keeping them."""
    return reduce(torch.Tensor.add_, parts)


class Linear:
    """The hidden layers of a perceptron, with a last layer (p, h) of one's own.

    What is done to all spectra alike, such as resampling, is done to the columns of the last layer once.
    """

    def __init__(self, network: Perceptron, weight: Tensor, bias: Tensor) -> None:
        self.network, self.weight, self.bias = network, weight.contiguous(), bias
        self.weights = {kind: self.weight.to(kind) for kind in (torch.float32, torch.bfloat16)}

    def at(self, wavelength: Tensor, target: Tensor) -> Linear:
        """Return the same on other pixels (q,)."""
        if len(target) == len(wavelength) and torch.equal(target, wavelength):
            return self
        change = Change(wavelength, target, {})
        return Linear(self.network, change(self.weight.T).T, change(self.bias[None])[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""
        return torch.addmm(self.bias, self.network.hidden(x), self.weight.T)

    def around(self, x: Tensor) -> Local:
        """Return the spectra of labels (n, d), and how they change."""
        return LinearLocal(self, x)


class LinearLocal(Local):
    """Derivatives that are computed block by block when they are wanted."""

    def __init__(self, maker: Linear, x: Tensor) -> None:
        self.weight, self.weights = maker.weight, maker.weights
        hidden, moved = maker.network.hidden_jacobian(x)
        self.moved = moved
        self.rows = moved.transpose(1, 2).reshape(len(x) * moved.shape[2], moved.shape[1])
        self.flux = torch.addmm(maker.bias, hidden, self.weight.T)

    def columns(self, pixels: slice, kind: torch.dtype = torch.float32) -> Tensor:
        """Return the derivatives (n, d, some p) of some pixels, in a precision."""
        n, _, d = self.moved.shape
        if self.rows.dtype != kind:
            self.rows = self.rows.to(kind)
        weight = self.weights[kind][pixels]
        return (self.rows @ weight.T).reshape(n, d, len(weight))

    def pulled(self, weights: Tensor) -> Tensor:
        """Return the product (n, d) of weights (n, p) and derivatives."""
        return ((weights @ self.weight)[:, None] @ self.moved)[:, 0]


class Whole(Local):
    """Derivatives (n, d, p) that are all there."""

    def __init__(self, flux: Tensor, columns: Tensor) -> None:
        self.flux, self.all = flux, columns

    def columns(self, pixels: slice, kind: torch.dtype = torch.float32) -> Tensor:
        """Return the derivatives (n, d, some p) of some pixels, in a precision."""
        return self.all[:, :, pixels].to(kind)


class Change:
    """Resampling of spectra (n, p) to even pixels, and broadening by widths that all share; linear."""

    def __init__(self, wavelength: Tensor, target: Tensor, widths: Mapping[str, Tensor]) -> None:
        self.same = target is wavelength
        middle = wavelength.mean()
        self.source, self.target = (wavelength - middle).float(), (target - middle).float()
        self.widths = dict(widths)
        self.step = velocity_step(target) if widths else 0.0

    def __call__(self, spectra: Tensor) -> Tensor:
        """Return spectra (n, q)."""
        if len(spectra) == 0:
            return spectra.new_zeros(0, len(self.target))
        moved = spectra if self.same else cubic(spectra, self.source, self.target)[0]
        if not self.widths:
            return moved
        return broaden(
            moved,
            self.step,
            vsini=self.widths.get("vsini"),
            vmac=self.widths.get("vmac"),
            resolving_power=self.widths.get("resolving_power"),
        )


class Changed:
    """Any network, with its spectra resampled and broadened each time."""

    def __init__(self, network: SpectralNetwork, change: Change | None = None) -> None:
        self.network, self.change = network, change

    def __call__(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""
        flux: Tensor = self.network(x)
        return flux if self.change is None else self.change(flux)

    def around(self, x: Tensor) -> Local:
        """Return the spectra of labels (n, d), and how they change."""
        flux, columns = self.network.jacobian(x)
        columns = columns.transpose(1, 2)
        if self.change is None:
            return Whole(flux, columns)
        n, d, p = columns.shape
        changed = self.change(columns.reshape(n * d, p))
        return Whole(self.change(flux), changed.reshape(n, d, len(self.change.target)))


def prepared(
    network: SpectralNetwork, wavelength: Tensor, *, even: bool, widths: Mapping[str, Tensor]
) -> tuple[Maker, Tensor]:
    """Return what makes a network's spectra broadened by known widths, and its pixels (p,).

    Parameters
    ----------
    network, wavelength
        The network and its pixels.
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
    change = Change(wavelength, target, widths)
    if isinstance(network, Perceptron) and not network.bounded:
        weight, bias = network.kept_readout()
        return Linear(network, change(weight.T).T, change(bias[None])[0]), target
    return Changed(network, None if change.same and not widths else change), target
