"""What all disentangling autoencoders share: latents free of some labels and rich in others."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from draper.nn.independence import eraser
from draper.nn.label_head import LabelHead, negative_log_likelihood
from draper.nn.module import Batch, Batches, Module

HEAD = (200, 100)
"""Hidden layers of the head that predicts labels from latents."""

OUTSIDE = 0.99
"""Quantile of the held-out misfit above which a spectrum is flagged as unlike the training set."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of an autoencoder.

    Attributes
    ----------
    pixels, labels, latent
        Numbers of pixels, labels and latents.
    encoder, decoder
        Sizes of their hidden layers.
    """

    pixels: int
    labels: int
    latent: int
    encoder: Sequence[int]
    decoder: Sequence[int]


class Disentangling(Module):
    """What all engines share: the head that predicts labels from latents, erasure, and calibration.

    A batch holds ``flux`` and ``ivar`` (n, p), ``labels`` (n, l), NaN where unknown, and ``noise``
    (n, :attr:`noise_size`), standard normal numbers, of which verbs need only the first ``latent``. Inside,
    labels are centred and in units of their scatter.

    Parameters
    ----------
    sizes
        Sizes of the networks.
    remove, keep
        Numbers of the labels to remove from the latents, and to keep in them.
    erase
        Whether linear traces of removed labels are erased after training.
    """

    def __init__(self, sizes: Sizes, remove: Sequence[int], keep: Sequence[int], *, erase: bool) -> None:
        super().__init__()
        self.sizes, self.remove, self.keep, self.erase = sizes, tuple(remove), tuple(keep), erase
        self.noise_size = sizes.latent
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

    @property
    def kept_columns(self) -> int:
        """How many latents, the first ones, are estimates of kept labels."""
        return 0

    # -------------------------------------------------- what an engine defines

    @abstractmethod
    def latents(self, batch: Batch) -> Tensor:
        """Return latents (n, latent) before erasure."""

    @abstractmethod
    def decoder_labels(self, batch: Batch) -> Tensor:
        """Return the labels (n, l) that the decoder gets with the latents of spectra."""

    def with_kept_from(self, batch: Batch, z: Tensor, labels: Tensor) -> Tensor:
        """Return labels (n, l) with those that stand in published latents (n, latent) taken from there."""
        return labels

    @abstractmethod
    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return spectra (n, p) from latents (n, latent) and labels (n, l)."""

    # ------------------------------------------------------------- for the verbs

    def encode(self, batch: Batch) -> Tensor:
        """Return latents (n, latent)."""
        z = self.latents(batch)
        return z - (z - self.erased_mean) @ self.erased.T

    def publish(self, batch: Batch) -> Tensor:
        """Return latents (n, latent) for others, where these are not those that the networks work with."""
        return self.encode(batch)

    def misfit(self, batch: Batch, spectra: Tensor) -> Tensor:
        """Return the mean squared residual (n,) of spectra (n, p) in units of the errors."""
        good = batch["ivar"] > 0
        residual: Tensor = batch["ivar"] * (spectra - batch["flux"]).square()
        return residual.sum(1) / good.sum(1).clamp(min=1)

    def labels(self, batch: Batch) -> Tensor:
        """Return labels (n, l) centred and in units of their scatter, NaN where unknown."""
        return self.standardise(batch["labels"])

    def standardise(self, labels: Tensor) -> Tensor:
        """Return labels (n, l) centred and in units of their scatter."""
        return (labels - self.centre) / self.spread

    def unstandardise(self, labels: Tensor) -> Tensor:
        """Undo :meth:`standardise`."""
        return labels * self.spread + self.centre

    # ----------------------------------------------------------------- training

    def prepare(self, train: Batches) -> None:
        """Measure the mean and scatter of the labels."""
        labels = torch.cat([batch["labels"] for batch in train()]).double()
        centre = labels.nanmean(0)
        self.centre.copy_(centre)
        self.spread.copy_((labels - centre).square().nanmean(0).sqrt())

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the head's loss on known labels; the losses of other players are defined by the engine."""
        if player == "head":
            mean, log_error = self.head(shared["z"])
            if self.training:  # after the prediction, so that all processes have used the same scale
                self.head.update_scale(shared["z"])
            return {"total": negative_log_likelihood(mean, log_error, self.labels(batch)).sum(1).mean()}
        return self.losses(batch, shared, player, progress)

    @abstractmethod
    def losses(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the terms of the loss of the other players."""

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters that a player trains."""
        if player != "model":
            part: nn.Module = getattr(self, player)
            return part.parameters()
        others = {id(p) for name in self.players if name != "model" for p in self.parameters_of(name)}
        return [p for p in self.parameters() if id(p) not in others]

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Erase linear traces of removed labels, if configured; calibrate errors on held-out rows."""
        if self.erase and self.remove:
            self._erase(train)
        if valid is None:
            return
        means, log_errors, labels, misfits = [], [], [], []
        for batch in valid():
            z = self.encode(batch)
            mean, log_error = self.head(z)
            means.append(mean)
            log_errors.append(log_error)
            labels.append(self.labels(batch))
            misfits.append(self.misfit(batch, self.decode(z, self.decoder_labels(batch))))
        if self.sizes.labels:
            self.head.calibrate(torch.cat(means), torch.cat(log_errors), torch.cat(labels))
        held_out = torch.cat(misfits)
        self.limit.copy_(held_out.kthvalue(max(1, math.ceil(OUTSIDE * len(held_out)))).values)

    def _erase(self, train: Batches) -> None:
        rows, labels = [], []
        for batch in train():
            rows.append(self.latents(batch)[:, self.erasable])
            labels.append(self.labels(batch)[:, self.remove])
        mean, matrix = eraser(torch.cat(rows), torch.cat(labels))
        self.erased_mean[self.erasable] = mean
        self.erased[self.erasable, self.erasable] = matrix
