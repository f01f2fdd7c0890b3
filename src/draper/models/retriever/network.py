"""The network of the Retriever: features of spectra of any instrument, and a density of labels given them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from draper.models.retriever.coordinates import Coordinates
from draper.models.retriever.densities import Density, FlowMatching, SplineFlow
from draper.models.retriever.designs import GROUP, random_designs
from draper.models.retriever.summary import Reference, Statistics, Summary
from draper.nn.module import Batch, Batches, Module
from draper.nn.perceptron import Residual

CONTEXT = 96
"""Numbers by which the density knows a spectrum."""

STRETCH = 10.0
"""Small features are stretched by this before they are compressed by asinh."""


class RetrieverNetwork(Module):
    """Learns the posterior of labels from spectra that are observed anew at each step.

    Parameters
    ----------
    summary
        Features of spectra.
    coordinates
        Of the labels.
    presets : Tensor (k, m, 2)
        Ends of the bins of known instruments [pixels of the fine grid]; NaN where there is none.
    errors
        Range of the typical error of a bin that is added; none by default.
    density
        ``spline`` or ``matching``.
    transforms, width, blocks
        Couplings of the flow, width of their layers, residual blocks before.
    """

    presets: Tensor

    def __init__(
        self,
        summary: Summary,
        coordinates: Coordinates,
        presets: Tensor,
        errors: tuple[float, float] | None,
        density: Literal["spline", "matching"],
        transforms: int,
        width: int,
        blocks: int,
    ) -> None:
        super().__init__()
        self.summary, self.coordinates, self.errors = summary, coordinates, errors
        self.register_buffer("presets", presets)
        labels, inputs = len(coordinates.low), summary.features + summary.basis.shape[1]
        wide = 2 * width
        self.enter = nn.Linear(inputs, wide)
        self.blocks = nn.Sequential(*(Residual(wide) for _ in range(blocks)))
        self.leave = nn.Linear(wide, CONTEXT)
        self.skip = nn.Linear(inputs, CONTEXT)
        self.density: Density = (
            SplineFlow(labels, CONTEXT, transforms, width)
            if density == "spline"
            else FlowMatching(labels, CONTEXT, width)
        )

    def prepare(self, train: Batches) -> None:
        """Measure the principal components of the training spectra."""
        self.summary.prepare(train)

    def encode(self, features: Tensor) -> Tensor:
        """Return the context vectors (b, CONTEXT) of features (b, f)."""
        components = features[:, : self.summary.basis.shape[1]]
        x = torch.cat([features, torch.asinh(STRETCH * components) / 3], dim=1)
        context: Tensor = self.leave(self.blocks(self.enter(x))) + self.skip(x)
        return context

    def context(self, statistics: Statistics) -> tuple[Tensor, Reference]:
        """Return the context vectors and references of observed spectra."""
        features, reference = self.summary(statistics)
        return self.encode(features), reference

    def observed(self, batch: Batch) -> Statistics:
        """Return the statistics of the spectra of a batch, seen by random instruments."""
        numbers, kept = (torch.special.ndtr(batch[name]) for name in ("design", "kept"))
        errors = self.errors or (1.0, 1.0)
        # Held-out spectra are divided among processes at any row, so there each has its own bins.
        group = GROUP if self.training else 1
        design = random_designs(numbers, kept, self.presets, len(self.summary.mean), errors, group)
        if self.errors is None:  # the spectra hold their noise already
            sigma = torch.where(torch.isfinite(design.sigma), 0.0, math.inf)
            design = design._replace(sigma=sigma)
        return self.summary.observe(batch["values"], design, batch["noise"], batch["variance"])

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the mean negative log density of the true labels, or the error of the velocities."""
        with torch.no_grad():
            features, reference = self.summary(self.observed(batch))
            labels = self.coordinates.physical(batch["labels"])
            known = torch.isfinite(labels).all(1)
            labels = torch.where(
                known[:, None], labels, self.coordinates.physical(torch.full_like(labels, 0.5))
            )
            values = self.coordinates.of(labels, batch["values"], reference).float()
        losses = self.density.loss(values, self.encode(features), batch["time"])
        return {"total": torch.where(known, losses, 0.0).mean()}
