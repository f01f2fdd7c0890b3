"""Removal by opponents: networks read labels from latents, and the encoder is paid for their failure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from draper.nn.disentangle import Disentangling, Sizes
from draper.nn.independence import dependence
from draper.nn.label_head import LEAST, MOST, surprise
from draper.nn.module import Batch, Batches
from draper.nn.perceptron import Perceptrons, perceptron

Engine = Literal["bins", "joint", "continuous", "hsic", "none"]


@dataclass(frozen=True)
class Opposition:
    """Who opposes the encoder.

    Attributes
    ----------
    engine
        ``bins``: one classifier of bins for each label; ``joint``: one of all labels together;
        ``continuous``: one for each label that says a mean and an error; ``hsic``: none, a measure of
        dependence takes its place.
    hidden
        Hidden layers of each.
    bins
        Bins of a label.
    strength
        One for each label to remove and then to keep.
    ramp
        Part of the run over which strengths rise to their values.
    """

    engine: Engine
    hidden: Sequence[int]
    bins: int
    strength: Sequence[float]
    ramp: float


class Adversarial(Disentangling):
    """GANDALF's autoencoder: latents between 0 and 1, a decoder that is told labels, and signed opponents.

    The encoder's loss is the misfit minus the sum of ``lambda_i`` times the loss of the opponent of label i,
    where ``lambda_i`` is positive for labels to remove and negative for those to keep (Manteiga et al. 2025).
    """

    def __init__(
        self,
        sizes: Sizes,
        remove: Sequence[int],
        keep: Sequence[int],
        *,
        erase: bool,
        sees_labels: bool,
        opposition: Opposition,
    ) -> None:
        super().__init__(sizes, remove, keep, erase=erase)
        self.opposition, self.sees_labels = opposition, sees_labels
        self.opposed = (*self.remove, *self.keep)
        signs = torch.tensor([1.0] * len(remove) + [-1.0] * len(keep))
        self.signed: Tensor
        self.register_buffer("signed", signs * torch.tensor(opposition.strength), persistent=False)
        shown = sizes.labels if sees_labels else 0
        self.encoder = perceptron(sizes.pixels + shown, sizes.encoder, sizes.latent, nn.ReLU)
        self.decoder = perceptron(sizes.latent + sizes.labels, sizes.decoder, sizes.pixels, nn.ReLU)
        engine, number = opposition.engine, len(self.opposed)
        if engine in ("bins", "joint", "continuous") and number:
            outputs = {"bins": opposition.bins, "joint": opposition.bins**number, "continuous": 2}[engine]
            copies = 1 if engine == "joint" else number
            self.critic = Perceptrons(copies, sizes.latent, opposition.hidden, outputs)
            self.players = ("critic", *self.players)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.zeros(number))
        self.register_buffer("high", torch.ones(number))

    def prepare(self, train: Batches) -> None:
        """Measure how labels scatter, and find the ranges that are divided into bins."""
        super().prepare(train)
        for number, batch in enumerate(train()):
            labels = self.labels(batch)[:, self.opposed]
            low = labels.nan_to_num(math.inf, posinf=math.inf).amin(0)
            high = labels.nan_to_num(-math.inf, neginf=-math.inf).amax(0)
            self.low.copy_(low if number == 0 else torch.minimum(self.low, low))
            self.high.copy_(high if number == 0 else torch.maximum(self.high, high))

    def told(self, batch: Batch) -> Tensor:
        """Return the labels as they are given, and as the head reads them from latents where they are not."""
        return self._given(self.latents(batch), batch)

    def _given(self, z: Tensor, batch: Batch) -> Tensor:
        """Return labels that are known, and what the head reads from latents for the others."""
        labels = self.labels(batch)
        known = torch.isfinite(labels)
        if bool(known.all()):
            return labels
        with torch.no_grad():
            return torch.where(known, labels, 0.0 if self.sees_labels else self.head(z)[0])

    def latents(self, batch: Batch) -> Tensor:
        """Return the output of the encoder."""
        shown = [batch["flux"], torch.nan_to_num(self.labels(batch))] if self.sees_labels else [batch["flux"]]
        return torch.sigmoid(self.encoder(torch.cat(shown, dim=1)))

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the spectra of latents and labels."""
        made: Tensor = self.decoder(torch.cat([z, labels], dim=1))
        return made

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Encode once for all players."""
        return {"z": self.latents(batch)}

    def losses(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the opponents' losses, or the misfit and what they do to the encoder."""
        z, number = shared["z"], len(self.opposed)
        opposed = self.labels(batch)[:, self.opposed]
        if player == "critic":
            return {"total": self._opponents(z, opposed).sum()}
        made = self.decode(z, self._given(z, batch))
        weight = batch["ivar"] / batch["ivar"].sum(1, keepdim=True).clamp(min=1e-30)
        misfit = (weight * (made - batch["flux"]).square()).sum(1).mean()
        terms = {"misfit": misfit}
        if number and self.opposition.engine != "none":
            rise = min(1.0, progress / self.opposition.ramp) if self.opposition.ramp else 1.0
            failure = self._opponents(z, opposed)
            if self.opposition.engine == "continuous":
                # Worse than the scatter of a removed label is no success, and has no bounds.
                failure = torch.where(self.signed > 0, failure.clamp(max=0.5), failure)
            signed = self.signed if len(failure) == number else self.signed[:1]
            terms["opponents"] = failure.sum()
            return {"total": misfit - rise * (signed * failure).sum(), **terms}
        return {"total": misfit, **terms}

    def _opponents(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return how badly each label (n, k) is known from latents (k,), or all together (1,)."""
        known = torch.isfinite(labels)
        match self.opposition.engine:
            case "hsic":
                return torch.stack(
                    [1 - _dependence(z, labels[:, k], known[:, k]) for k in range(labels.shape[1])]
                )
            case "continuous":
                found = self.critic(z)
                mean, error = found[..., 0].T, found[..., 1].T.clamp(LEAST, MOST)
                return _mean(surprise(mean, error, labels), known)
            case "joint":
                digits = self._bins(labels)
                place = torch.tensor(
                    [self.opposition.bins**k for k in range(digits.shape[1])], device=z.device
                )
                every = known.all(1, keepdim=True)
                lost = functional.cross_entropy(self.critic(z)[0], (digits * place).sum(1), reduction="none")
                return _mean(lost[:, None], every)
            case _:
                found = self.critic(z).permute(1, 2, 0)
                return _mean(functional.cross_entropy(found, self._bins(labels), reduction="none"), known)

    def _bins(self, labels: Tensor) -> Tensor:
        """Return the numbers (n, k) of the bins of labels, 0 for those that are unknown."""
        share = (torch.nan_to_num(labels) - self.low) / (self.high - self.low)
        return (share * self.opposition.bins).long().clamp(0, self.opposition.bins - 1)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Return the means (k,) of the values (n, k) of which something is known."""
    return (values * known).sum(0) / known.sum(0).clamp(min=1)


def _dependence(z: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Return how much latents (n, d) depend on a label (n,), by the rows where it is known."""
    scaled = (z - z.detach().mean(0)) / z.detach().std(0, correction=0).clamp(min=1e-6)
    return dependence(scaled[known], label[known, None])
