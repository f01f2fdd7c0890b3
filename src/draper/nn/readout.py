"""Ridge regression and principal components of batches of spectra with bad pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = tuple(10.0**power for power in range(-10, 1))
"""Strengths to choose from, relative to the largest eigenvalue."""

USUAL = 1e-6
"""Strength for a first guess."""

PASSES, MORE_PASSES = 2, 25
"""Passes over the training set that compute principal components, without bad pixels and with some."""

SPARE = 32
"""Further directions in the iterated subspace, so that the last of the wanted ones converge, too."""

GROWTH = 1.3
"""Factor by which the number of components that fill bad pixels grows in each pass."""

TRUSTED = 4
"""Least number of pixels, and of spectra, for each component that fills bad pixels."""

ROUNDS = 30
"""Iterations in which bad pixels are filled with predictions from the others, until they converge."""


def fill_bad(values: Tensor, good: Tensor, fill: Callable[[Tensor], Tensor]) -> Tensor:
    """Return values (n, p) whose bad entries are a fixed point of the function ``fill``."""
    values = torch.where(good, values, 0.0)
    rows = ~good.all(1)
    if not rows.any():
        return values
    measured, current, good = values[rows], values[rows], good[rows]
    for _ in range(ROUNDS):
        current = torch.where(good, measured, fill(current))
    values[rows] = current
    return values


def components(
    centred: Callable[[], Iterator[tuple[Tensor, Tensor]]], count: int, pixels: int
) -> tuple[Tensor, Tensor]:
    """Return principal components (p, count) and their mean power (count,), by iterating a subspace.

    ``centred`` yields batches of centred values (n, p) and their good pixels. Bad ones are filled by the
    first components. Components beyond the rank of the spectra are zero.
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
            whole = fill_bad(values, good, lambda v, s=leading: (v @ s) @ s.T)  # type: ignore[misc]
            inner = whole @ space
            total = total.to(inner) + (whole.T @ inner if left else inner.T @ inner)
            rows, is_whole = rows + len(whole), is_whole and bool(good.all())
        # One after the other: components that are used too early would describe the shape of the gaps.
        few = min(trusted(count, pixels, rows), int(GROWTH ** (MORE_PASSES - left)) + 1)
        if left:
            space, _ = torch.linalg.qr(total)  # in order of power, the better the more passes
        left = MORE_PASSES if is_first and not is_whole else left - 1
        is_first = False
    power, turn = torch.linalg.eigh(total.double())
    power, turn = power.flip(0)[:count].clamp(min=0) / rows, turn.flip(1)[:, :count]
    power = torch.where(power > 1e-12 * power[0], power, 0.0)
    directions = (space.double() @ turn) * (power > 0)
    # The sign is arbitrary: it is fixed, so that it does not depend on the last digits.
    return (directions * directions.pow(3).sum(0).sign()).to(space), power.to(space)


def trusted(count: int, pixels: int, rows: int) -> int:
    """Return the number of components that may fill bad pixels."""
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
            error = targets - self.turned @ (shrunk[:, None] * inner)
            leverage = (self.turned.square() * shrunk).sum(1, keepdim=True)
            errors.append(float(((error / (1 - leverage).clamp(min=1e-10)).square() * weight).sum()))
        return RIDGES[errors.index(min(errors))]

    def shrunk(self, ridge: float) -> Tensor:
        """Return the diagonal (h,) of the regularised inverse in the eigenbasis."""
        shrunk: Tensor = 1 / (self.power + ridge * self.power[-1])
        return shrunk

    def weights(self, targets: Tensor, ridge: float) -> Tensor:
        """Return the weights (h, k) for targets (n, k)."""
        # In float32, as the targets are: in double precision the product would take twice as long.
        inner = (self.turned.T.to(targets) @ targets).double()
        weights: Tensor = self.turn @ (self.shrunk(ridge)[:, None] * inner)
        return weights

    def fill_bad(self, targets: Tensor, good: Tensor, ridge: float) -> Tensor:
        """Return targets (n, k) whose bad entries are predicted by the regression on the others."""
        if good.all():
            return targets
        current = targets
        for _ in range(ROUNDS):
            prediction = (self.features @ self.weights(current, ridge)).to(targets)
            current = torch.where(good, targets, prediction)
        return current

    def spread(self, ridge: float) -> Tensor:
        """Return the matrix S (h, h) such that the leverage of features f is the squared length of f @ S."""
        spread: Tensor = self.turn * self.shrunk(ridge).sqrt()
        return spread
