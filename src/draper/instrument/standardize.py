"""Standardisation: spectra minus their mean, over one scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.transform import Transform


class Standardize(Transform):
    """Subtract the mean training spectrum and divide by one scale; bad pixels become 0, the mean.

    One scale for all pixels keeps their relative strength: noise in flat pixels is not blown up.

    Examples
    --------
    >>> from draper.data.grid import Grid
    >>> grid = Grid.linear(5000, 5001, 1, medium="vacuum")
    >>> transform = Standardize.fit([Spectra(grid, [[1.0, 2.0], [3.0, 4.0]])])
    >>> transform(torch.tensor([[3.0, 3.0]]), torch.ones(1, 2))[0]
    tensor([[1., 0.]])
    """

    kind = "standardize"

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def fit(cls, batches: Iterable[Spectra]) -> Self:
        """Measure mean and scale on the good pixels of a training set, in one pass."""
        count = total = square = np.zeros(())
        for batch in batches:
            good = batch.ivar > 0
            flux = np.where(good, batch.flux, 0.0).astype(np.float64)
            count, total, square = count + good.sum(0), total + flux.sum(0), square + (flux**2).sum(0)
        if not count.any():
            raise DraperError("the training set has no good pixel", hint="check the inverse variance")
        mean = np.divide(total, count, where=count > 0, out=np.zeros_like(total))
        variance = np.clip(square.sum() - (mean**2 * count).sum(), 0, None) / count.sum()
        transform = cls(len(mean))
        transform.mean.copy_(torch.from_numpy(mean))
        transform.scale.fill_(float(np.sqrt(variance)) or 1.0)
        return transform

    def forward(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return standardised flux, and its inverse variance."""
        standard = (flux - self.mean) / self.scale
        return torch.where(ivar > 0, standard, 0.0), ivar * self.scale**2

    def inverse(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return physical flux, and its inverse variance."""
        return flux * self.scale + self.mean, ivar / self.scale**2

    def to_json(self) -> dict[str, Any]:
        """Return the number of pixels."""
        return {"pixels": len(self.mean)}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return a transform with empty arrays of the right shape."""
        return cls(int(state["pixels"]))
