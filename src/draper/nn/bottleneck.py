"""Removal by architecture: the encoder sees only what labels do not explain, through a noisy bottleneck."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from draper.nn.disentangle import Disentangling, Sizes
from draper.nn.kept_latents import KeptLatents
from draper.nn.label_head import (
    MAX_LOG_ERROR,
    MIN_LOG_ERROR,
    LabelHead,
    mean_over_known,
    negative_log_likelihood,
)
from draper.nn.module import Batch, Batches
from draper.nn.perceptron import Perceptrons, perceptron

PACE = 0.01
"""Relative change of the price of information in a step, and weight of a batch in the running misfit."""

MIN_LOG_VARIANCE, MAX_LOG_VARIANCE = -10.0, 2.0
"""Range of ln(variance) of the free latents."""

MIN_VARIANCE_FRACTION = 0.05
"""Minimum fraction of the regressor's variance attributed to the spectrum."""

REGRESSOR_WEIGHT = 0.1
"""Weight of the regressor's negative log-likelihood relative to the misfit of a pixel."""


class Bottleneck(Disentangling):
    """A regressor, a decoder of labels alone, and a noisy code of the residual.

    The regressor (``reader``) estimates all labels from the spectrum. One decoder (``plain``) predicts the
    spectrum from these labels alone; the encoder sees the *residual*, so that it has no use for the labels,
    and each number of its code costs information (a variational bottleneck), so that none is wasted on them.
    A second decoder predicts the residual from code and labels. Each label to keep is one latent, the
    regressor's estimate: a second copy in the code could hide others.

    The regressor's estimates are used also where labels are known. Published labels have errors that may
    exceed those of the spectrum, and the loss would reward an encoder for storing the difference. Also, a
    regression of flux on labels with errors has too flat a slope; a regression on their estimates has not.

    Where spectra are poor, estimates are less exact than published labels and scatter less. Both decoders
    therefore also learn the spectra of the combined labels: the mean of estimate and published value,
    weighted by their errors. Changed labels are decoded by this.

    Errors of estimates follow removed labels, which would be a leak to someone who knows the kept labels.
    The kept latents that :meth:`publish` returns are therefore corrected and get noise: see
    :class:`~draper.nn.kept_latents.KeptLatents`.

    Parameters
    ----------
    sizes, remove, keep, erase
        As for all engines.
    information_limit
        Information limit of the free latents (nats per spectrum, on average).
    critic
        Hidden layers of the discriminator that predicts removed labels from the latents, and of its
        reference, which predicts them from kept labels alone. The loss penalises what the discriminator
        knows beyond the reference.
    strength
        Penalty for each removed label: nats of the spectra's likelihood for each nat of leaked information.
    kept_cost
        Fraction of R2 of a kept label that noise in its latent may cost.
    """

    def __init__(
        self,
        sizes: Sizes,
        remove: Sequence[int],
        keep: Sequence[int],
        *,
        erase: bool,
        information_limit: float,
        critic: Sequence[int],
        strength: Sequence[float],
        kept_cost: float = 0.0,
    ) -> None:
        super().__init__(sizes, remove, keep, erase=erase)
        self.information_limit = information_limit
        free = sizes.latent - len(keep)
        self.noise_size = sizes.latent + sizes.pixels + 1
        self.kept_cost = kept_cost
        self.kept_latents = KeptLatents(sizes.labels, tuple(keep))
        self.by_star: Tensor  # whether a star has one draw by its name, or one by its spectrum
        self.register_buffer("by_star", torch.tensor(True))
        # Kept labels are not erased: what they imply of removed ones is no leak.
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
        self.price: Tensor  # of a nat of the code, in nats of likelihood
        self.noise: Tensor  # running misfit: the variance of residuals in units of the errors
        self.level: Tensor
        self.register_buffer("price", torch.tensor(1.0))
        self.register_buffer("noise", torch.tensor(torch.nan))
        self.pixels: Tensor
        self.register_buffer("level", torch.tensor([0.0, 1.0]))
        self.register_buffer("pixels", torch.tensor(float(sizes.pixels)))
        self.moving = (*self.moving, "price", "noise")

    def prepare(self, train: Batches) -> None:
        """Measure mean and scatter of the labels and of the noise levels of the training spectra."""
        super().prepare(train)
        levels = torch.cat([_log_mean_weight(batch) for batch in train()])
        self.pixels.copy_(torch.cat([(batch["ivar"] > 0).sum(1) for batch in train()]).float().mean())
        self.level.copy_(torch.stack([levels.mean(), levels.std(correction=0).clamp(min=1e-3)]))

    # ------------------------------------------------------------------ the parts

    def estimate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the regressor's labels (n, l) and the logarithms of their errors (n, l)."""
        level = self._noise_level(batch)
        labels, log_error = self.reader(torch.cat([batch["flux"], level[:, None]], dim=1))
        return labels, log_error

    def _noise_level(self, batch: Batch) -> Tensor:
        """Return ln(mean weight) (n,) of the good pixels, standardised."""
        return (_log_mean_weight(batch) - self.level[0]) / self.level[1]

    def code(self, batch: Batch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and ln(variance) (n, free) of the code of what labels do not explain."""
        return self._code_of(batch, self.plain(labels))

    def _code_of(self, batch: Batch, plain: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code, given the spectra (n, p) of labels alone."""
        residual = (batch["flux"] - plain.detach()) * (batch["ivar"] > 0)
        mean, log_variance = self.encoder(residual).chunk(2, dim=1)
        return mean, log_variance.clamp(MIN_LOG_VARIANCE, MAX_LOG_VARIANCE)

    def latents(self, batch: Batch) -> Tensor:
        """Return the estimates of the kept labels, and a sample of the code."""
        labels = self.decoder_labels(batch)
        return torch.cat([labels[:, self.keep], _sample(*self.code(batch, labels), batch)], dim=1)

    @property
    def kept_columns(self) -> int:
        """How many latents, the first ones, are estimates of kept labels."""
        return len(self.keep)

    def moments(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the means and variances (n, latent) that published latents are drawn from."""
        mean, log_variance = self.code(batch, self.decoder_labels(batch))
        kept, error = self._kept(batch)
        variance = torch.cat([error.square(), log_variance.exp()], dim=1)
        return torch.cat([kept, mean], dim=1), variance

    def publish(self, batch: Batch) -> Tensor:
        """Return latents (n, latent) for others: kept labels corrected and with noise."""
        z, (kept, error) = self.encode(batch), self._kept(batch)
        noise = batch["noise"][:, self.sizes.latent - len(self.keep) : self.sizes.latent]
        return torch.cat([kept + error * noise, z[:, len(self.keep) :]], dim=1)

    @torch.no_grad()
    def _kept(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the corrected estimates (n, k) of kept labels, and the noise (n, k) of their latents."""
        labels, log_error = self.estimate(batch)
        kept, noise = self.kept_latents(labels, self._noise_level(batch), log_error)
        return kept, noise

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Correct the kept latents, and choose their noise; then as for all engines."""
        if self.keep:
            parts = []
            for batch in train():
                labels, log_error = self.estimate(batch)
                errors = batch["label_errors"] / self.spread
                parts.append((labels, self._noise_level(batch), log_error, self.labels(batch), errors))
            estimates, level, log_error, published, errors = map(torch.cat, zip(*parts, strict=True))
            self.kept_latents.fit(estimates, level, log_error, published, errors, self.kept_cost)
        super().finish(train, valid)

    @torch.no_grad()
    def decoder_labels(self, batch: Batch) -> Tensor:
        """Return the regressor's labels."""
        return self.estimate(batch)[0]

    def with_added_noise(self, batch: Batch) -> Batch:
        """Return a batch with additional noise of up to its own size, which the regressor must not fit."""
        noise = batch["noise"][:, self.sizes.latent :]
        share = torch.special.ndtr(noise[:, -1:])
        scale = (self.noise.nan_to_num(0.0).clamp(max=1.0) / batch["ivar"]).sqrt()
        flux = batch["flux"] + torch.where(batch["ivar"] > 0, share * scale * noise[:, :-1], 0.0)
        return {**batch, "flux": flux}

    def with_kept_from(self, batch: Batch, z: Tensor, labels: Tensor) -> Tensor:
        """Return labels whose kept ones differ as much as the latents do from those of the spectra."""
        completed = labels.clone()
        completed[:, self.keep] += (z - self.publish(batch))[:, : len(self.keep)]
        return completed

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return spectra from latents and labels."""
        spectra: Tensor = self.plain(labels) + self._residual(z[:, len(self.keep) :], labels)
        return spectra

    def _residual(self, code: Tensor, labels: Tensor) -> Tensor:
        """Return what a code adds to the spectra of labels alone."""
        residual: Tensor = self.decoder(torch.cat([code, labels], dim=1))
        return residual

    # ------------------------------------------------------------------- training

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Estimate labels, encode and decode once for all players."""
        labels = self.decoder_labels(batch)
        plain = self.plain(labels)
        centre, log_variance = self._code_of(batch, plain)
        code = _sample(centre, log_variance, batch)
        mean, log_error = self.estimate(self.with_added_noise(batch) if self.training else batch)
        return {
            # The discriminator's loss also trains the estimates of kept labels.
            "z": torch.cat([mean[:, self.keep], code], dim=1),
            "mean": mean,
            "log_error": log_error,
            "centre": centre,
            "log_variance": log_variance,
            "plain": plain,
            "decoded": plain + self._residual(code, labels),
        }

    def losses(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the loss of the discriminators, or that of the autoencoder and the regressor."""
        if player == "critic":
            latents, kept = self.discriminator_losses(shared, batch)
            return {"total": (latents + kept).sum(), "from_latents": latents.sum(), "from_kept": kept.sum()}
        centre, log_variance = shared["centre"], shared["log_variance"]
        rate = 0.5 * (centre.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
        misfit = self.misfit(batch, shared["decoded"]).mean()
        plain = self.misfit(batch, shared["plain"]).mean()
        # Losses on held-out rows are compared with each other: there the prices are constant.
        noise, price = torch.ones_like(self.noise), torch.ones_like(self.price)
        if self.training:
            noise, price = self.noise.nan_to_num(1.0), self.price.clone()
            self.update_price_and_noise(rate.detach(), misfit.detach())
        labels = self.labels(batch)
        regressor = negative_log_likelihood(shared["mean"], shared["log_error"], labels).sum(1).mean()
        combined_labels = self.combined_labels(batch, shared)
        combined = self.misfit(batch, self.decode(shared["z"].detach(), combined_labels)).mean()
        total = (
            0.5 * (misfit + plain + combined) / noise
            + price * rate / self.pixels
            + REGRESSOR_WEIGHT * regressor
        )
        terms = {
            "misfit": misfit,
            "plain": plain,
            "combined": combined,
            "rate": rate,
            "regressor": regressor,
        }
        if self.remove:
            latents, kept = self.discriminator_losses(shared, batch)
            leak = self.strength * (kept.detach() - latents).clamp(min=0)
            total = total + leak.sum() / self.pixels
            terms["leak"] = leak.sum()
        return {"total": total, **terms}

    @torch.no_grad()
    def combined_labels(self, batch: Batch, shared: Batch) -> Tensor:
        """Return the means (n, l) of estimated and published labels, weighted by their variances.

        The regressor has learnt published labels, so its variance is the sum of that of the spectrum and that
        of the publication.
        """
        labels, mean = self.labels(batch), shared["mean"]
        published = (batch["label_errors"] / self.spread).square()
        whole = (2 * shared["log_error"]).exp()
        spectrum = torch.maximum(whole - published, MIN_VARIANCE_FRACTION * whole)
        combined = (mean * published + labels * spectrum) / (published + spectrum)
        return torch.where(torch.isfinite(labels), combined, mean)

    def discriminator_losses(self, shared: Batch, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the losses (k,) of predicting removed labels from latents, and from kept labels alone."""
        labels = self.labels(batch)
        removed = labels[:, self.remove]
        latents = _mean_loss(self.critic["latents"](shared["z"]), removed)
        if not self.keep:
            return latents, torch.full_like(latents, 0.5)  # a Gaussian of the labels' scatter
        # Where kept labels are unknown, the reference gets what the latents have in their place.
        kept = torch.where(torch.isfinite(labels), labels, shared["mean"].detach())[:, self.keep]
        return latents, _mean_loss(self.critic["kept"](kept), removed)

    @torch.no_grad()
    def update_price_and_noise(self, rate: Tensor, misfit: Tensor) -> None:
        """Raise the price while the rate exceeds its limit, else lower it; average the noise over batches."""
        self.noise.copy_(torch.where(self.noise.isnan(), misfit, self.noise.lerp(misfit, PACE)))
        excess = (rate / self.information_limit - 1).clamp(-1, 1)
        self.price.copy_((self.price * (1 + PACE * excess)).clamp(min=1.0, max=1e4))


def _sample(mean: Tensor, log_variance: Tensor, batch: Batch) -> Tensor:
    """Return a sample (n, free) of the code."""
    return mean + (0.5 * log_variance).exp() * batch["noise"][:, : mean.shape[1]]


def _mean_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean negative log-likelihood (k,) of labels (n, k), given means and errors (k, n, 2)."""
    mean, log_error = outputs[..., 0].T, outputs[..., 1].T.clamp(MIN_LOG_ERROR, MAX_LOG_ERROR)
    return mean_over_known(negative_log_likelihood(mean, log_error, labels), torch.isfinite(labels))


def _log_mean_weight(batch: Batch) -> Tensor:
    """Return ln(mean weight) (n,) of the good pixels."""
    good = (batch["ivar"] > 0).sum(1).clamp(min=1)
    return (batch["ivar"].sum(1) / good).clamp(min=1e-12).log()
