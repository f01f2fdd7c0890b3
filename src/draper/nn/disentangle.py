"""Autoencoders of spectra whose latents tell some labels and not others."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from draper.nn.independence import eraser
from draper.nn.label_head import LabelHead, surprise
from draper.nn.module import Batch, Batches, Module

HEAD = (200, 100)
"""Hidden layers of what reads labels from latents."""

OUTSIDE = 0.99
"""Quantile of the held-out misfit beyond which a spectrum counts as unlike the training set."""


@dataclass(frozen=True)
class Sizes:
    """How large an autoencoder is.

    Attributes
    ----------
    pixels, labels, latent
        Numbers of each.
    encoder, decoder
        Sizes of the hidden layers.
    """

    pixels: int
    labels: int
    latent: int
    encoder: Sequence[int]
    decoder: Sequence[int]


class Disentangling(Module):
    """What all engines share: heads that read labels from latents, erasure, and what is measured at the end.

    A batch holds ``flux`` and ``ivar`` (n, p), ``labels`` (n, l), NaN where unknown, and ``chance``
    (n, :attr:`chance`), standard normal numbers, of which verbs need but ``latent``. Inside, labels are
    centred and in units of their scatter.

    Parameters
    ----------
    sizes
        How large.
    remove, keep
        Which labels latents are to be free of, and rich in.
    erase
        Whether linear traces of removed labels are erased after training.
    """

    def __init__(self, sizes: Sizes, remove: Sequence[int], keep: Sequence[int], *, erase: bool) -> None:
        super().__init__()
        self.sizes, self.remove, self.keep, self.erase = sizes, tuple(remove), tuple(keep), erase
        self.chance = sizes.latent
        self.erasable = slice(None)
        self.head = LabelHead(sizes.latent, HEAD, sizes.labels)
        self.limit: Tensor
        self.erased_mean: Tensor
        self.erased: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(sizes.labels))
        self.register_buffer("spread", torch.ones(sizes.labels))
        self.register_buffer("limit", torch.tensor(torch.inf))
        self.register_buffer("erased_mean", torch.zeros(sizes.latent))
        self.register_buffer("erased", torch.zeros(sizes.latent, sizes.latent))
        self.players = ("head", "model")
        self.moving = ("head.centre", "head.variance")

    # -------------------------------------------------- what an engine defines

    @abstractmethod
    def latents(self, batch: Batch) -> Tensor:
        """Return latents (n, latent) before erasure."""

    @abstractmethod
    def told(self, batch: Batch) -> Tensor:
        """Return the labels (n, l) that the decoder is told of spectra."""

    def recalled(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return labels (n, l) with those that latents (n, latent) are made of taken from them."""
        return labels

    @abstractmethod
    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return spectra (n, p) of latents and labels (n, l)."""

    # ------------------------------------------------------------- for the verbs

    def encode(self, batch: Batch) -> Tensor:
        """Return latents (n, latent)."""
        z = self.latents(batch)
        return z - (z - self.erased_mean) @ self.erased.T

    def misfit(self, batch: Batch, made: Tensor) -> Tensor:
        """Return the mean squared residual (n,) of spectra (n, p) in units of the errors."""
        good = batch["ivar"] > 0
        residual: Tensor = batch["ivar"] * (made - batch["flux"]).square()
        return residual.sum(1) / good.sum(1).clamp(min=1)

    def labels(self, batch: Batch) -> Tensor:
        """Return labels (n, l) centred and in units of their scatter, NaN where unknown."""
        return self.standard(batch["labels"])

    def standard(self, labels: Tensor) -> Tensor:
        """Return labels (n, l) centred and in units of their scatter."""
        return (labels - self.centre) / self.spread

    def plainly(self, labels: Tensor) -> Tensor:
        """Undo :meth:`standard`."""
        return labels * self.spread + self.centre

    # ----------------------------------------------------------------- training

    def prepare(self, train: Batches) -> None:
        """Measure mean and scatter of the labels."""
        labels = torch.cat([batch["labels"] for batch in train()]).double()
        centre = labels.nanmean(0)
        self.centre.copy_(centre)
        self.spread.copy_((labels - centre).square().nanmean(0).sqrt())

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the head's error on labels that are known; other players belong to the engine."""
        if player == "head":
            mean, error = self.head(shared["z"])
            if self.training:  # afterwards, so that processes have used the same
                self.head.follow(shared["z"])
            return {"total": surprise(mean, error, self.labels(batch)).sum(1).mean()}
        return self.losses(batch, shared, player, progress)

    @abstractmethod
    def losses(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the terms of the loss of the other players."""

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters that a player moves."""
        if player != "model":
            part: nn.Module = getattr(self, player)
            return part.parameters()
        others = {id(p) for name in self.players if name != "model" for p in self.parameters_of(name)}
        return [p for p in self.parameters() if id(p) not in others]

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Erase what a linear function can tell, where asked for; calibrate errors on held-out rows."""
        if self.erase and self.remove:
            self._erase(train)
        if valid is None:
            return
        means, errors, labels, misfits = [], [], [], []
        for batch in valid():
            z = self.encode(batch)
            mean, error = self.head(z)
            means.append(mean)
            errors.append(error)
            labels.append(self.labels(batch))
            misfits.append(self.misfit(batch, self.decode(z, self.told(batch))))
        if self.sizes.labels:
            self.head.calibrate(torch.cat(means), torch.cat(errors), torch.cat(labels))
        found = torch.cat(misfits)
        self.limit.copy_(found.kthvalue(max(1, math.ceil(OUTSIDE * len(found)))).values)

    def _erase(self, train: Batches) -> None:
        rows, labels = [], []
        for batch in train():
            rows.append(self.latents(batch)[:, self.erasable])
            labels.append(self.labels(batch)[:, self.remove])
        mean, matrix = eraser(torch.cat(rows), torch.cat(labels))
        self.erased_mean[self.erasable] = mean
        self.erased[self.erasable, self.erasable] = matrix
