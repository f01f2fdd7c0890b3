"""The network of the reference model: linear encoder, decoder and head."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from draper.nn.module import Batch, Batches, Module
from draper.nn.readout import Ridge

OUTSIDE = 0.99
"""Quantile of the held-out misfit above which a spectrum is flagged as unlike the training set."""

FIRST_ROWS = 4096
"""Number of rows that principal components, and the regression on them, are computed from."""


class LinearNetwork(Module):
    """Two players: the head predicts labels from detached latents, the autoencoder trains the latents."""

    def __init__(self, pixels: int, latent: int, labels: int, start: str) -> None:
        super().__init__()
        self.encoder = nn.Linear(pixels, latent)
        self.decoder = nn.Linear(latent, pixels)
        self.head = nn.Linear(latent, labels) if labels else None
        self.players = ("head", "autoencoder") if labels else ("autoencoder",)
        self.start = start
        self.sigma: Tensor
        self.limit: Tensor
        self.register_buffer("sigma", torch.full((labels,), torch.nan))
        self.register_buffer("limit", torch.tensor(torch.inf))

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Encode once for both players."""
        return {"z": self.encoder(batch["flux"])}

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the head's error on known labels, or the weighted misfit of the reconstruction."""
        if player == "head":
            known = torch.isfinite(batch["labels"])
            # NaN is replaced before computing: even where it is masked later, its gradient would be NaN.
            error = known * (self.predicted(shared["z"]) - torch.nan_to_num(batch["labels"])).square()
            return {"total": (error.sum(1) / known.sum(1).clamp(min=1)).mean()}
        return {"total": self.misfit(batch["flux"], batch["ivar"], shared["z"]).mean()}

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters that a player trains."""
        if player == "head" and self.head is not None:
            return self.head.parameters()
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    def predicted(self, z: Tensor) -> Tensor:
        """Return scaled labels (n, l) from latents (n, k)."""
        labels: Tensor = z[:, :0] if self.head is None else self.head(z)
        return labels

    def misfit(self, flux: Tensor, ivar: Tensor, z: Tensor) -> Tensor:
        """Return the mean squared residual (n,), weighted by the relative weights of the pixels."""
        residual: Tensor = self.decoder(z) - flux
        return (ivar * residual.square()).sum(1) / ivar.sum(1).clamp(min=1e-30)

    def prepare(self, train: Batches) -> None:
        """Start from the principal components of the first rows, and a regression on them, if configured."""
        if self.start != "pca":
            return
        rows: list[Batch] = []
        for batch in train():
            rows.append(batch)
            if sum(len(one["flux"]) for one in rows) >= FIRST_ROWS:
                break
        flux = torch.cat([one["flux"] for one in rows])
        _, _, components = torch.linalg.svd(flux - flux.mean(0), full_matrices=False)
        k = min(len(components), self.encoder.out_features)
        self.encoder.weight.zero_()
        self.decoder.weight.zero_()
        self.encoder.weight[:k] = components[:k]
        self.decoder.weight[:, :k] = components[:k].T
        self.decoder.bias.copy_(flux.mean(0))
        self.encoder.bias.copy_(-self.encoder.weight @ flux.mean(0))
        if self.head is not None:
            self._regress(self.head, self.encoder(flux), torch.cat([one["labels"] for one in rows]))

    def _regress(self, head: nn.Linear, z: Tensor, labels: Tensor) -> None:
        """Set the head to the ridge regression of known labels (n, l) on latents (n, k)."""
        features = torch.cat([z, torch.ones_like(z[:, :1])], dim=1).double()
        for number, known in enumerate(torch.isfinite(labels).T):
            if not known.any():
                continue
            ridge, targets = Ridge(features[known]), labels[known, number, None].double()
            strength = ridge.strength(targets, targets.new_ones(1))
            *weight, bias = ridge.weights(targets, strength)[:, 0]
            head.weight[number], head.bias[number] = torch.stack(weight), bias

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Measure the errors of the labels and the limit of the misfit on held-out rows."""
        if valid is None:
            return
        squares, known, misfits = [], [], []
        for batch in valid():
            z = self.encoder(batch["flux"])
            error = (self.predicted(z) - batch.get("labels", z[:, :0])).square()
            known.append(torch.isfinite(error).sum(0))
            squares.append(torch.nansum(error, 0))
            misfits.append(self.misfit(batch["flux"], batch["ivar"], z))
        self.sigma.copy_((torch.stack(squares).sum(0) / torch.stack(known).sum(0)).sqrt())
        held_out = torch.cat(misfits)
        self.limit.copy_(held_out.kthvalue(max(1, math.ceil(OUTSIDE * len(held_out)))).values)
