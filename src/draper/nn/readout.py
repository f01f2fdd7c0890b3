"""Last layers and principal components in closed form, over spectra that stream by and have bad pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = tuple(10.0**power for power in range(-10, 1))
"""Strengths that are tried, relative to the largest eigenvalue."""

USUAL = 1e-6
"""One of them, for a first guess."""

PASSES, MORE_PASSES = 2, 25
"""Passes over the training set that find the principal components, without bad pixels and with some."""

SPARE = 32
"""Directions that are followed beyond those that are wanted, so that the last of these are found as well."""

GROWTH = 1.3
"""Factor by which more components fill the bad pixels in each pass."""

TRUSTED = 4
"""Bad pixels are filled by no more components than this part of the pixels, or of the spectra."""

ROUNDS = 30
"""How often bad pixels are filled with what the others say, until they no longer change."""


def filled(values: Tensor, good: Tensor, fill: Callable[[Tensor], Tensor]) -> Tensor:
    """Return values (n, p) whose bad entries are what ``fill`` makes of the whole, to a fixed point."""
    values = torch.where(good, values, 0.0)
    rows = ~good.all(1)
    if not rows.any():
        return values
    known, some, good = values[rows], values[rows], good[rows]
    for _ in range(ROUNDS):
        some = torch.where(good, known, fill(some))
    values[rows] = some
    return values


def components(
    centred: Callable[[], Iterator[tuple[Tensor, Tensor]]], count: int, pixels: int
) -> tuple[Tensor, Tensor]:
    """Return principal components (p, count) and their mean power (count,), by iterating a subspace.

    ``centred`` starts a pass over batches of centred values (n, p) and their good pixels. Bad ones are filled
    by the first components themselves. Components that the spectra do not have are zero.
    """
    generator = torch.Generator().manual_seed(0)
    width = min(count + SPARE, pixels)
    space, total, few, left = torch.empty(0), torch.empty(0), 1, PASSES
    is_first = True
    while left >= 0:
        total, rows, is_whole = torch.zeros(()), 0, True
        for values, good in centred():
            if not len(space):
                space = torch.linalg.qr(torch.randn(pixels, width, generator=generator).to(values))[0]
            leading = space[:, : 0 if is_first else few]
            held = filled(values, good, lambda v, s=leading: (v @ s) @ s.T)  # type: ignore[misc]
            inner = held @ space
            total = total.to(inner) + (held.T @ inner if left else inner.T @ inner)
            rows, is_whole = rows + len(held), is_whole and bool(good.all())
        # One after the other, since components that come too early learn the shape of the gaps.
        few = min(trusted(count, pixels, rows), int(GROWTH ** (MORE_PASSES - left)) + 1)
        if left:
            space = torch.linalg.qr(total)[
                0
            ]  # the largest come first, the more so the more passes there were
        left = MORE_PASSES if is_first and not is_whole else left - 1
        is_first = False
    power, turn = torch.linalg.eigh(total.double())
    power, turn = power.flip(0)[:count].clamp(min=0) / rows, turn.flip(1)[:, :count]
    power = torch.where(power > 1e-12 * power[0], power, 0.0)
    found = (space.double() @ turn) * (power > 0)
    # The sign is free, and which one comes out would depend on the last digits.
    return (found * found.pow(3).sum(0).sign()).to(space), power.to(space)


def trusted(count: int, pixels: int, rows: int) -> int:
    """Return how many of the components bad pixels are filled by."""
    return max(1, min(count, pixels // TRUSTED, rows // TRUSTED))


@dataclass
class Ridge:
    """Ridge regression from features (n, h), the last of which is constant, to many targets.

    Attributes
    ----------
    features
        Of all rows, float64.
    """

    features: Tensor

    def __post_init__(self) -> None:
        power, self.turn = torch.linalg.eigh(self.features.T @ self.features)
        self.power = power.clamp(min=0)
        self.turned = self.features @ self.turn

    def strength(self, targets: Tensor, weight: Tensor) -> float:
        """Return the strength with the smallest leave-one-out error over targets (n, k) with weights.

        ``weight`` is (k,), or (n, k) with zeros where targets are bad.
        """
        inner = self.turned.T @ targets
        errors = []
        for ridge in RIDGES:
            shrunk = self.shrunk(ridge)
            missed = targets - self.turned @ (shrunk[:, None] * inner)
            leverage = (self.turned.square() * shrunk).sum(1, keepdim=True)
            errors.append(float(((missed / (1 - leverage).clamp(min=1e-10)).square() * weight).sum()))
        return RIDGES[errors.index(min(errors))]

    def shrunk(self, ridge: float) -> Tensor:
        """Return the diagonal (h,) of the regularised inverse in the turned space."""
        shrunk: Tensor = 1 / (self.power + ridge * self.power[-1])
        return shrunk

    def weights(self, targets: Tensor, ridge: float) -> Tensor:
        """Return the weights (h, k) for targets (n, k)."""
        # Pixel by pixel the product in double would cost twice as much, and targets are float32 anyway.
        inner = (self.turned.T.to(targets) @ targets).double()
        weights: Tensor = self.turn @ (self.shrunk(ridge)[:, None] * inner)
        return weights

    def completed(self, targets: Tensor, good: Tensor, ridge: float) -> Tensor:
        """Return targets (n, k) whose bad entries are what the regression makes of the others."""
        if good.all():
            return targets
        held = targets
        for _ in range(ROUNDS):
            guess = (self.features @ self.weights(held, ridge)).to(targets)
            held = torch.where(good, targets, guess)
        return held

    def spread(self, ridge: float) -> Tensor:
        """Return S (h, h) with which the leverage of features f is the squared length of f @ S."""
        spread: Tensor = self.turn * self.shrunk(ridge).sqrt()
        return spread
