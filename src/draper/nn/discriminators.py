"""Adversarial removal: discriminators read labels from latents; the encoder's loss rewards their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from draper.configs.disentangler import Engine
from draper.nn.disentangle import Disentangling, Sizes
from draper.nn.independence import dependence
from draper.nn.label_head import MAX_LOG_ERROR, MIN_LOG_ERROR, mean_over_known, negative_log_likelihood
from draper.nn.module import Batch, Batches
from draper.nn.perceptron import Perceptrons, perceptron


@dataclass(frozen=True)
class Discriminators:
    """The discriminators of an encoder.

    Attributes
    ----------
    engine
        ``bins``: one classifier of bins for each label; ``joint``: one classifier of all labels together;
        ``continuous``: one regressor with errors for each label; ``hsic``: no network, but a measure of
        dependence; ``none``: none.
    hidden
        Sizes of the hidden layers of each.
    bins
        Number of bins of a label.
    strength
        Weights of their losses: one for each label to remove and then to keep.
    ramp
        Fraction of the training over which the weights rise from 0.
    """

    engine: Engine
    hidden: Sequence[int]
    bins: int
    strength: Sequence[float]
    ramp: float


class Adversarial(Disentangling):
    """GANDALF's autoencoder: latents between 0 and 1, a decoder with labels as inputs, and discriminators.

    The encoder's loss is the misfit minus the sum of ``lambda_i`` times the loss of the discriminator of
    label i, where ``lambda_i`` is positive for labels to remove and negative for those to keep (Manteiga et
    al. 2025).
    """

    def __init__(
        self,
        sizes: Sizes,
        remove: Sequence[int],
        keep: Sequence[int],
        *,
        erase: bool,
        sees_labels: bool,
        discriminators: Discriminators,
    ) -> None:
        super().__init__(sizes, remove, keep, erase=erase)
        self.discriminators, self.sees_labels = discriminators, sees_labels
        self.target_labels = (*self.remove, *self.keep)
        signs = torch.tensor([1.0] * len(remove) + [-1.0] * len(keep))
        self.signed_strength: Tensor
        self.register_buffer(
            "signed_strength", signs * torch.tensor(discriminators.strength), persistent=False
        )
        label_inputs = sizes.labels if sees_labels else 0
        self.encoder = perceptron(sizes.pixels + label_inputs, sizes.encoder, sizes.latent, nn.ReLU)
        self.decoder = perceptron(sizes.latent + sizes.labels, sizes.decoder, sizes.pixels, nn.ReLU)
        engine, number, bins = discriminators.engine, len(self.target_labels), discriminators.bins
        if engine in ("bins", "joint", "continuous") and number:
            outputs = {"bins": bins, "joint": bins**number, "continuous": 2}[engine]
            copies = 1 if engine == "joint" else number
            self.critic = Perceptrons(copies, sizes.latent, discriminators.hidden, outputs)
            self.players = ("critic", *self.players)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.zeros(number))
        self.register_buffer("high", torch.ones(number))

    def prepare(self, train: Batches) -> None:
        """Measure the scatter of the labels and the ranges that are divided into bins."""
        super().prepare(train)
        for number, batch in enumerate(train()):
            labels = self.labels(batch)[:, self.target_labels]
            low = labels.nan_to_num(math.inf, posinf=math.inf).amin(0)
            high = labels.nan_to_num(-math.inf, neginf=-math.inf).amax(0)
            self.low.copy_(low if number == 0 else torch.minimum(self.low, low))
            self.high.copy_(high if number == 0 else torch.maximum(self.high, high))

    def decoder_labels(self, batch: Batch) -> Tensor:
        """Return the given labels, and the head's prediction from the latents where they are missing."""
        return self._completed_labels(self.latents(batch), batch)

    def _completed_labels(self, z: Tensor, batch: Batch) -> Tensor:
        """Return labels (n, l), with the head's prediction from latents where they are missing."""
        labels = self.labels(batch)
        known = torch.isfinite(labels)
        if bool(known.all()):
            return labels
        with torch.no_grad():
            return torch.where(known, labels, 0.0 if self.sees_labels else self.head(z)[0])

    def latents(self, batch: Batch) -> Tensor:
        """Return the output of the encoder."""
        inputs = [batch["flux"]]
        if self.sees_labels:
            inputs.append(torch.nan_to_num(self.labels(batch)))
        return torch.sigmoid(self.encoder(torch.cat(inputs, dim=1)))

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return spectra from latents and labels."""
        spectra: Tensor = self.decoder(torch.cat([z, labels], dim=1))
        return spectra

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Encode once for all players."""
        return {"z": self.latents(batch)}

    def losses(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the loss of the discriminators, or that of the autoencoder."""
        z, number = shared["z"], len(self.target_labels)
        labels = self.labels(batch)[:, self.target_labels]
        if player == "critic":
            return {"total": self.discriminator_losses(z, labels).sum()}
        decoded = self.decode(z, self._completed_labels(z, batch))
        weight = batch["ivar"] / batch["ivar"].sum(1, keepdim=True).clamp(min=1e-30)
        misfit = (weight * (decoded - batch["flux"]).square()).sum(1).mean()
        if not number or self.discriminators.engine == "none":
            return {"total": misfit, "misfit": misfit}
        ramp = self.discriminators.ramp
        weight_now = min(1.0, progress / ramp) if ramp else 1.0
        losses = self.discriminator_losses(z, labels)
        if self.discriminators.engine == "continuous":
            # A loss above that of the label's scatter is no success of the encoder, and has no bound.
            losses = torch.where(self.signed_strength > 0, losses.clamp(max=0.5), losses)
        signed = self.signed_strength if len(losses) == number else self.signed_strength[:1]
        total = misfit - weight_now * (signed * losses).sum()
        return {"total": total, "misfit": misfit, "discriminators": losses.sum()}

    def discriminator_losses(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the losses on latents and labels (n, k): one for each label (k,), or for all (1,)."""
        known = torch.isfinite(labels)
        match self.discriminators.engine:
            case "hsic":
                return torch.stack(
                    [1 - _dependence(z, labels[:, k], known[:, k]) for k in range(labels.shape[1])]
                )
            case "continuous":
                outputs = self.critic(z)
                mean, log_error = outputs[..., 0].T, outputs[..., 1].T.clamp(MIN_LOG_ERROR, MAX_LOG_ERROR)
                return mean_over_known(negative_log_likelihood(mean, log_error, labels), known)
            case "joint":
                digits = self.bin_numbers(labels)
                bases = [self.discriminators.bins**k for k in range(digits.shape[1])]
                classes = (digits * torch.tensor(bases, device=z.device)).sum(1)
                losses = functional.cross_entropy(self.critic(z)[0], classes, reduction="none")
                return mean_over_known(losses[:, None], known.all(1, keepdim=True))
            case _:
                logits = self.critic(z).permute(1, 2, 0)
                losses = functional.cross_entropy(logits, self.bin_numbers(labels), reduction="none")
                return mean_over_known(losses, known)

    def bin_numbers(self, labels: Tensor) -> Tensor:
        """Return the numbers (n, k) of the bins of labels, 0 for those that are unknown."""
        share = (torch.nan_to_num(labels) - self.low) / (self.high - self.low)
        bins = self.discriminators.bins
        return (share * bins).long().clamp(0, bins - 1)


def _dependence(z: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Return how much latents (n, d) depend on a label (n,), from the rows where it is known."""
    scaled = (z - z.detach().mean(0)) / z.detach().std(0, correction=0).clamp(min=1e-6)
    return dependence(scaled[known], label[known, None])
