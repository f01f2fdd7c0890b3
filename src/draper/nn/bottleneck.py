"""Removal by architecture: what labels explain is taken away before the rest is encoded, through noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from draper.nn.disentangle import Disentangling, Sizes
from draper.nn.label_head import LEAST, MOST, LabelHead, surprise
from draper.nn.module import Batch, Batches
from draper.nn.perceptron import Perceptrons, perceptron

PACE = 0.01
"""How fast the price of information follows the rate, and the running misfit the latest batch."""

NARROW, WIDE = -10.0, 2.0
"""Ends of ln(variance) of the free latents."""


class Bottleneck(Disentangling):
    """A reader, a decoder of labels alone, and a noisy code of what is left.

    The reader estimates all labels from the spectrum. One decoder makes the spectrum that these labels
    explain; the encoder sees the *residual*, so that it has no use for the labels, and each number of its
    code costs information (a variational bottleneck), so that none is wasted on them. A second decoder makes
    the residual from code and labels. Labels that are to be kept are one number each, the reader's estimate:
    no second copy could hide others.

    Labels come from the reader also where they are known. The known ones have errors, that the spectrum is
    more exact than: an encoder would be paid for telling the difference. And the regression of flux on
    labels with errors is too flat, that on their estimates is not.

    Estimates know less than the published labels where spectra are poor, and spread less over their plane.
    Both decoders therefore also learn the spectra of the likeliest labels, given estimate and published value
    with their errors: this is what a changed label is decoded by.

    Parameters
    ----------
    sizes, remove, keep, erase
        As for all engines.
    rate
        The most nats that the free latents may tell of a spectrum, on average.
    critic
        Hidden layers of what reads removed labels from the latents, and of its rival, that reads them from
        kept labels. Where it knows more than the rival, what it knows is paid for.
    strength
        Nats of likelihood that a nat told of each removed label costs.
    """

    def __init__(
        self,
        sizes: Sizes,
        remove: Sequence[int],
        keep: Sequence[int],
        *,
        erase: bool,
        rate: float,
        critic: Sequence[int],
        strength: Sequence[float],
    ) -> None:
        super().__init__(sizes, remove, keep, erase=erase)
        self.rate = rate
        free = sizes.latent - len(keep)
        self.chance = sizes.latent + sizes.pixels + 1
        # Kept labels stay as they are read: what they tell of removed ones is no leak.
        self.erasable = slice(len(keep), None)
        self.reader = LabelHead(sizes.pixels + 1, sizes.encoder, sizes.labels)
        self.plain = perceptron(sizes.labels, sizes.decoder, sizes.pixels)
        self.encoder = perceptron(sizes.pixels, sizes.encoder, 2 * free)
        self.decoder = perceptron(free + sizes.labels, sizes.decoder, sizes.pixels)
        self.strength: Tensor
        self.register_buffer("strength", torch.tensor(strength), persistent=False)
        if remove:
            self.critic = nn.ModuleDict({"latents": Perceptrons(len(remove), sizes.latent, critic, 2)})
            if keep:
                self.critic["kept"] = Perceptrons(len(remove), len(keep), critic, 2)
            self.players = ("critic", *self.players)
        self.price: Tensor
        self.noise: Tensor
        self.level: Tensor
        self.register_buffer("price", torch.tensor(1.0))
        self.register_buffer("noise", torch.tensor(torch.nan))
        self.pixels: Tensor
        self.register_buffer("level", torch.tensor([0.0, 1.0]))
        self.register_buffer("pixels", torch.tensor(float(sizes.pixels)))
        self.moving = (*self.moving, "price", "noise")

    def prepare(self, train: Batches) -> None:
        """Measure how labels, and the levels of noise, of the training spectra scatter."""
        super().prepare(train)
        levels = torch.cat([_level(batch) for batch in train()])
        self.pixels.copy_(torch.cat([(batch["ivar"] > 0).sum(1) for batch in train()]).float().mean())
        self.level.copy_(torch.stack([levels.mean(), levels.std(correction=0).clamp(min=1e-3)]))

    # ------------------------------------------------------------------ the parts

    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return estimates of all labels (n, l) and the logarithms of their errors."""
        level = (_level(batch) - self.level[0]) / self.level[1]
        found: tuple[Tensor, Tensor] = self.reader(torch.cat([batch["flux"], level[:, None]], dim=1))
        return found

    def code(self, batch: Batch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and ln(variance) (n, free) of the code of what labels do not explain."""
        left = (batch["flux"] - self.plain(labels)) * (batch["ivar"] > 0)
        mean, spread = self.encoder(left.detach()).chunk(2, dim=1)
        return mean, spread.clamp(NARROW, WIDE)

    def latents(self, batch: Batch) -> Tensor:
        """Return the kept labels as they are read, and a sample of the code."""
        labels = self.told(batch)
        mean, spread = self.code(batch, labels)
        free = mean + (0.5 * spread).exp() * batch["chance"][:, : mean.shape[1]]
        return torch.cat([labels[:, self.keep], free], dim=1)

    @torch.no_grad()
    def told(self, batch: Batch) -> Tensor:
        """Return what the spectra tell of their labels."""
        return self.read(batch)[0]

    def _blurred(self, batch: Batch) -> Batch:
        """Return a batch with further noise of up to the size of its own, which is not to be learnt."""
        chance = batch["chance"][:, self.sizes.latent :]
        share = torch.special.ndtr(chance[:, -1:])
        scale = (self.noise.nan_to_num(0.0).clamp(max=1.0) / batch["ivar"]).sqrt()
        flux = batch["flux"] + torch.where(batch["ivar"] > 0, share * scale * chance[:, :-1], 0.0)
        return {**batch, "flux": flux}

    def recalled(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return labels with the kept ones as the latents have them."""
        found = labels.clone()
        found[:, self.keep] = z[:, : len(self.keep)]
        return found

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return spectra of the code and of labels."""
        made: Tensor = self.plain(labels) + self.decoder(torch.cat([z[:, len(self.keep) :], labels], dim=1))
        return made

    # ------------------------------------------------------------------- training

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Read, encode and decode once for both players."""
        labels = self.told(batch)
        mean, error = self.read(self._blurred(batch) if self.training else batch)
        centre, spread = self.code(batch, labels)
        free = centre + (0.5 * spread).exp() * batch["chance"][:, : centre.shape[1]]
        plain = self.plain(labels)
        made = plain + self.decoder(torch.cat([free, labels], dim=1))
        # The estimates of kept labels learn from the critic, too.
        z = torch.cat([mean[:, self.keep], free], dim=1)
        return {
            "z": z, "mean": mean, "error": error, "centre": centre, "spread": spread,
            "plain": plain, "made": made,
        }  # fmt: skip

    def losses(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the price of code and misfit in nats a pixel, and the surprise of the reader."""
        if player == "critic":
            told, known = self._opinions(shared, batch)
            return {"total": (told + known).sum(), "told": told.sum(), "known": known.sum()}
        centre, spread = shared["centre"], shared["spread"]
        rate = 0.5 * (centre.square() + spread.exp() - spread - 1).sum(1).mean()
        misfit = self.misfit(batch, shared["made"]).mean()
        plain = self.misfit(batch, shared["plain"]).mean()
        # Held out, losses are compared with each other: there the prices do not move.
        noise, price = torch.ones_like(self.noise), torch.ones_like(self.price)
        if self.training:
            noise, price = self.noise.nan_to_num(1.0), self.price.clone()
            self._follow(rate.detach(), misfit.detach())
        reading = surprise(shared["mean"], shared["error"], self.labels(batch)).sum(1).mean()
        likely = self.misfit(batch, self.decode(shared["z"].detach(), self._likely(batch, shared))).mean()
        total = 0.5 * (misfit + plain + likely) / noise + price * rate / self.pixels + READING * reading
        terms = {"misfit": misfit, "plain": plain, "likely": likely, "rate": rate, "reading": reading}
        if self.remove:
            told, known = self._opinions(shared, batch)
            leak = self.strength * (known.detach() - told).clamp(min=0)
            total = total + leak.sum() / self.pixels
            terms["leak"] = leak.sum()
        return {"total": total, **terms}

    @torch.no_grad()
    def _likely(self, batch: Batch, shared: Batch) -> Tensor:
        """Return labels (n, l) given both the spectrum and what is published of them.

        The reader has learnt published labels, so its error is that of the spectrum and theirs together.
        """
        labels, mean = self.labels(batch), shared["mean"]
        published = (batch["label_errors"] / self.spread).square()
        read = (2 * shared["error"]).exp()
        own = torch.maximum(read - published, SHARE * read)
        found = (mean * published + labels * own) / (published + own)
        return torch.where(torch.isfinite(labels), found, mean)

    def _opinions(self, shared: Batch, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return how badly (k,) removed labels are known from latents, and from kept labels alone."""
        labels = self.labels(batch)
        removed = labels[:, self.remove]
        told = _failure(self.critic["latents"](shared["z"]), removed)
        if not self.keep:
            return told, torch.full_like(told, 0.5)  # a Gaussian of their scatter
        # Kept labels that are not known are what the latents have in their place.
        kept = torch.where(torch.isfinite(labels), labels, shared["mean"].detach())[:, self.keep]
        return told, _failure(self.critic["kept"](kept), removed)

    @torch.no_grad()
    def _follow(self, rate: Tensor, misfit: Tensor) -> None:
        """Let the price rise while more is told than is allowed, and the noise follow the misfit."""
        self.noise.copy_(torch.where(self.noise.isnan(), misfit, self.noise.lerp(misfit, PACE)))
        excess = (rate / self.rate - 1).clamp(-1, 1)
        self.price.copy_((self.price * (1 + PACE * excess)).clamp(min=1.0, max=1e4))


SHARE = 0.05
"""Part of a reader's variance that is the spectrum's at least."""

READING = 0.1
"""Weight of the reader's surprise beside the misfit of a pixel."""


def _failure(opinions: Tensor, labels: Tensor) -> Tensor:
    """Return the mean surprise (k,) of labels (n, k), given means and errors (k, n, 2)."""
    mean, error = opinions[..., 0].T, opinions[..., 1].T.clamp(LEAST, MOST)
    return surprise(mean, error, labels).sum(0) / torch.isfinite(labels).sum(0).clamp(min=1)


def _level(batch: Batch) -> Tensor:
    """Return ln(mean weight) (n,) of the good pixels."""
    good = (batch["ivar"] > 0).sum(1).clamp(min=1)
    return (batch["ivar"].sum(1) / good).clamp(min=1e-12).log()
