"""Densities of labels that depend on features: a normalising flow of splines, and flow matching."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from zuko.distributions import DiagNormal
from zuko.flows import ElementWiseTransform, Flow, GeneralCouplingTransform, UnconditionalDistribution
from zuko.transforms import DependentTransform, MonotonicRQSTransform, Transform
from zuko.utils import unpack

BINS = 8
"""Pieces of a spline."""

INTEGRATION_STEPS = 16
"""Runge-Kutta steps from noise to labels in flow matching."""


class Density(nn.Module, ABC):
    """Density of coordinates (n, l) given features."""

    @abstractmethod
    def loss(self, values: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Return what training makes small, for each row (b,).

        Parameters
        ----------
        values : Tensor (b, l)
            Coordinates of the true labels.
        features : Tensor (b, f)
            Features of the spectra.
        noise : Tensor (b, l + 1)
            Standard normal numbers.
        """

    @abstractmethod
    def draw(self, noise: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates (n, l) and their log densities (n,) of standard normal numbers (n, l).

        Features (n, f) may have one row for all.
        """

    @abstractmethod
    def log_density(self, values: Tensor, features: Tensor) -> Tensor:
        """Return the log density (n,) of coordinates (n, l)."""


class Spline(MonotonicRQSTransform):  # type: ignore[misc]
    """The spline of zuko, built in half the time: its softmax over a few numbers is slow on a processor."""

    def __init__(
        self, widths: Tensor, heights: Tensor, derivatives: Tensor, bound: float = 5.0, slope: float = 1e-3
    ) -> None:
        super(MonotonicRQSTransform, self).__init__()
        steepest = -math.log(slope)
        self.horizontal = bound * _knots(widths, steepest / 2)
        self.vertical = bound * _knots(heights, steepest / 2)
        self.derivatives = functional.pad(derivatives / (1 + derivatives.abs() / steepest), (1, 1)).exp()


def _knots(sizes: Tensor, limit: float) -> Tensor:
    """Return knots (..., k + 1) from -1 to 1, whose distances are as the exponentials of sizes (..., k)."""
    parts = (sizes / (1 + sizes.abs() / limit)).exp()
    sums = functional.pad(parts.cumsum(-1), (1, 0))
    return 2 * sums / sums[..., -1:] - 1


class Coupling(GeneralCouplingTransform):  # type: ignore[misc]
    """The coupling of zuko, whose first layer sees features that all rows share only once."""

    def meta(self, c: Tensor, x: Tensor) -> Transform:
        """Return the splines of the other coordinates, given some (n, k) and features (n or 1, f)."""
        first, *rest = self.hyper
        known, given = first.weight.split([x.shape[1], c.shape[1]], dim=1)
        hidden = functional.linear(x, known) + functional.linear(c, given, first.bias)
        for layer in rest:
            hidden = layer(hidden)
        parts = unpack(hidden.reshape(len(hidden), -1, self.total), self.shapes)
        return DependentTransform(self.univariate(*parts), 1)


class SplineFlow(Density):
    """A normalising flow: an affine map that the features choose, then couplings of monotonic splines."""

    def __init__(self, labels: int, features: int, transforms: int, width: int) -> None:
        super().__init__()
        spline = partial(Spline, slope=1e-3)
        shapes = [(BINS,), (BINS,), (BINS - 1,)]
        layers: list[nn.Module] = [ElementWiseTransform(labels, features, hidden_features=(width,))]
        generator = torch.Generator().manual_seed(0)
        mask = torch.arange(labels) % 2 == 0
        options = {"hidden_features": (width, width), "activation": nn.SiLU}
        if labels == 1:  # there is nothing to couple
            layers.append(ElementWiseTransform(labels, features, spline, shapes, **options))
        for number in range(transforms if labels > 1 else 0):
            halves = torch.randperm(labels, generator=generator) < labels // 2
            mask = ~mask if number % 2 else halves
            layers.append(Coupling(labels, features, mask, spline, shapes, **options))
        base = UnconditionalDistribution(DiagNormal, torch.zeros(labels), torch.ones(labels), buffer=True)
        self.flow = Flow(layers, base)

    def loss(self, values: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Return the negative log density (b,)."""
        return -self.log_density(values, features)

    def draw(self, noise: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates (n, l) and their log densities (n,)."""
        values, log_density = noise, _log_normal(noise)
        for layer in reversed(self.flow.transform.transforms):
            transform = layer(features)
            if isinstance(layer, Coupling):
                # Not ``transform.inv.call_and_ladj``, which computes the layers twice.
                same, changed = transform.split(values)
                spline = transform.meta(same)
                before = spline.inv(changed)
                log_density = log_density + spline.log_abs_det_jacobian(before, changed)
                values = transform.merge(same, before, values.shape)
            else:
                before = transform.inv(values)
                log_density = log_density + transform.log_abs_det_jacobian(before, values)
                values = before
        return values, log_density

    def log_density(self, values: Tensor, features: Tensor) -> Tensor:
        """Return the log density (n,) of coordinates (n, l)."""
        if len(values) == 0:  # what zuko refuses
            return values.new_zeros(0)
        noise, volume = self.flow.transform(features).call_and_ladj(values)
        log_density: Tensor = _log_normal(noise) + volume
        return log_density


class FlowMatching(Density):
    """A velocity field that carries noise to labels along straight lines; densities are integrated."""

    def __init__(self, labels: int, features: int, width: int) -> None:
        super().__init__()
        inputs = labels + 8 + features
        self.start = nn.Linear(inputs, 2 * width)
        self.hidden = nn.ModuleList(nn.Linear(2 * width, 2 * width) for _ in range(4))
        self.end = nn.Linear(2 * width, labels)

    def velocity(self, time: Tensor, values: Tensor, features: Tensor) -> Tensor:
        """Return the velocity (n, l) at times (n, 1)."""
        angles = math.pi * time * torch.arange(1, 5, device=time.device)
        h = self.start(torch.cat([values, angles.sin(), angles.cos(), features], dim=-1))
        for layer in self.hidden:
            h = h + layer(nn.functional.silu(h))
        field: Tensor = self.end(nn.functional.silu(h))
        return field

    def loss(self, values: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Return the squared error (b,) of the velocity at a random time, late times more often."""
        time = torch.special.ndtr(noise[:, -1:]) ** 0.5
        start = noise[:, :-1]
        field = self.velocity(time, start + time * (values - start), features)
        return (field - (values - start)).square().sum(1)

    def draw(self, noise: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return coordinates (n, l) and their log densities (n,)."""
        values, volume = self._integrated(noise, features.expand(len(noise), -1), 0.0, 1.0)
        return values, _log_normal(noise) - volume

    def log_density(self, values: Tensor, features: Tensor) -> Tensor:
        """Return the log density (n,) of coordinates (n, l)."""
        noise, volume = self._integrated(values, features.expand(len(values), -1), 1.0, 0.0)
        return _log_normal(noise) + volume

    def _integrated(
        self, values: Tensor, features: Tensor, start: float, end: float
    ) -> tuple[Tensor, Tensor]:
        """Return where the field carries coordinates, and the integral of its divergence."""
        step = (end - start) / INTEGRATION_STEPS
        total = values.new_zeros(len(values))
        for number in range(INTEGRATION_STEPS):
            time = start + number * step
            slopes: list[Tensor] = []
            changes: list[Tensor] = []
            for shift, share in ((0.0, 0.0), (0.5, 0.5), (0.5, 0.5), (1.0, 1.0)):
                place = values if not slopes else values + share * step * slopes[-1]
                slope, change = self._with_divergence(time + shift * step, place, features)
                slopes.append(slope)
                changes.append(change)
            values = values + step / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3])
            total = total + step / 6 * (changes[0] + 2 * changes[1] + 2 * changes[2] + changes[3])
        return values, total

    def _with_divergence(self, time: float, values: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        times = values.new_full((len(values), 1), time)

        def field(place: Tensor) -> Tensor:
            return self.velocity(times, place, features)

        divergence = values.new_zeros(len(values))
        slope = values
        for label in range(values.shape[1]):
            direction = torch.zeros_like(values)
            direction[:, label] = 1
            slope, change = torch.func.jvp(field, (values,), (direction,))  # type: ignore[misc]
            divergence = divergence + change[:, label]
        return slope, divergence


def _log_normal(noise: Tensor) -> Tensor:
    """Return the log density (n,) of standard normal numbers (n, l)."""
    return -noise.square().sum(1) / 2 - noise.shape[1] * math.log(2 * math.pi) / 2
