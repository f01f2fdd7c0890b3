"""StarNet Cycle-GAN: two domains of spectra with one shared latent space, learnt from unpaired sets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from draper.configs.translator import Domain
from draper.errors import DraperError
from draper.nn.convolutions import (
    PairDiscriminator,
    PixelWeights,
    discriminator_loss,
    downsampling,
    generator_loss,
    gradient_penalty,
    normalised,
    projection,
    upsampling,
)
from draper.nn.module import Batch, Batches, Module

DOMAINS: tuple[Domain, ...] = get_args(Domain)

SATURATION = 0.1
"""chi2 per pixel, in units of the floored errors, below which a better reconstruction gains little."""

UNKNOWN_ERROR = 0.1
"""Error of spectra that come without errors, in units of the scatter about the mean spectrum."""

ADVERSARIAL = (0.05, 0.3)
"""Weight of the adversarial terms at the start and at the end of training.

That of the others is 1; see :meth:`CycleNetwork.misfit` for their scale. Too much of it at first, and all
spectra become the mean one, which no discriminator can tell from itself.
"""

SHARED_NOISE, SPLIT_NOISE = 0.15, 2.0
"""Noise (1 sigma) of latents in training, in units of their own scatter along the spectrum."""


class CycleNetwork(Module):
    """Encoders and generators of two domains around shared layers, and a discriminator for each domain.

    Written after the description of StarNet Cycle-GAN (O'Briain et al. 2021). Both domains share a latent;
    observed spectra also have a split latent for what synthetic ones lack, such as instrumental effects. In
    training, row i of the observed batch lends its split code to row i of the synthetic one. Discriminators
    judge pairs of a spectrum and its latents, and their real spectra are reconstructions, so that they see
    neither noise nor bad pixels.

    Five things are not as published, without which a training of an hour ends far from the data. Networks see
    and make differences from the mean spectrum of their domain: else hardly anything in the latents would
    depend on the star at first. Both domains start from the same weights, hence with the same latents for the
    same star. The last layer has weights of its own for each pixel, as lines stay where they are. Features of
    split codes are added to those of the shared ones, not appended. And latents are noisy in training: little
    of the noise of spectra is learnt by heart. Split codes are much noisier: what shared latents can hold is
    cheaper to put there, so that a star's own lines do not hide in what is taken for the instrument.

    A batch holds ``synthetic.flux``, ``synthetic.ivar``, ``observed.flux`` and ``observed.ivar`` (n, p), in
    physical units; the numbers of rows may differ. It may hold ``synthetic.frequency`` (n,): how much each
    synthetic spectrum counts for the discriminators.

    Inside, flux is standardised by the mean spectrum of each
    domain and one scale, that of the scatter of synthetic pixels about theirs.

    Parameters
    ----------
    pixels
        Number of pixels p; any number, as spectra are padded and outputs are cropped.
    filters, strides
        Channels and strides of the convolutions of each domain; generators have them in reverse order.
    shared_filters, shared_strides
        The same of the layers that both domains share.
    split_filters
        Channels of the layers of the split latent, with ``shared_strides``.
    shared, split
        Channels of the shared and the split latent; with ``split=0`` there is no split latent.
    kernel
        Length of all convolutions along the spectrum, an odd number.
    discriminator_filters, discriminator_latent_filters
        Channels of the discriminators: along the spectrum (stride 4), and of each position of the latents.
    adversarial
        Loss of the discriminators: ``logits`` (binary cross-entropy) or ``hinge``.
    penalty
        Weight of the R1 penalty, half the squared gradient of a discriminator at real pairs; 0 for none.
    best_of
        In training, use of each group of so many synthetic spectra the one whose translation the
        discriminator finds most real, so that both sets have similar stars; 1 uses all.
    floor
        Error that is added to those of all pixels, in units of the mean absolute synthetic flux, so that a
        few almost perfect pixels do not decide.
    """

    players = ("discriminators", "generators")

    def __init__(
        self,
        pixels: int,
        *,
        filters: Sequence[int] = (32, 64),
        strides: Sequence[int] = (4, 4),
        shared_filters: Sequence[int] = (128, 256, 512),
        shared_strides: Sequence[int] = (4, 2, 2),
        split_filters: Sequence[int] = (32, 32, 32),
        shared: int = 25,
        split: int = 4,
        kernel: int = 7,
        discriminator_filters: Sequence[int] = (16, 32, 64, 128, 256),
        discriminator_latent_filters: Sequence[int] = (32, 64, 128, 256, 512),
        adversarial: Literal["logits", "hinge"] = "logits",
        penalty: float = 0.0,
        best_of: int = 1,
        floor: float = 0.005,
    ) -> None:
        super().__init__()
        stride = math.prod(strides) * math.prod(shared_strides)
        self.pixels, self.padding = pixels, -pixels % stride
        self.length = (pixels + self.padding) // stride
        self.split, self.best_of, self.floor_fraction = split, best_of, floor
        self.adversarial, self.penalty = adversarial, penalty
        if shared * self.length < 3 or 0 < split * self.length < 3:
            raise DraperError(
                "the latents hold too few numbers to be normalised",
                given=f"{self.length} positions for {pixels} px and a total stride of {stride}",
                hint="use smaller strides, or more channels of the latents",
            )
        # The second channel of the input says which pixels are bad.
        first = downsampling(2, filters, strides, kernel)
        self.encoders = nn.ModuleDict({name: deepcopy(first) for name in DOMAINS})
        self.shared_encoder = nn.Sequential(
            downsampling(filters[-1], shared_filters, shared_strides, kernel),
            projection(shared_filters[-1], shared),
        )
        back, back_strides = shared_filters[::-1], shared_strides[::-1]
        self.shared_decoder = upsampling(shared, back, back_strides, kernel)
        if split:
            self.split_encoder = nn.Sequential(
                downsampling(filters[-1], split_filters, shared_strides, kernel),
                projection(split_filters[-1], split),
            )
            back = (*split_filters[:0:-1], shared_filters[0])
            self.split_decoder = upsampling(split, back, back_strides, kernel)
        last = nn.Sequential(
            upsampling(shared_filters[0], filters[::-1], strides[::-1], kernel),
            PixelWeights(filters[0], pixels),
        )
        self.generators = nn.ModuleDict({name: deepcopy(last) for name in DOMAINS})
        channels = {"synthetic": shared, "observed": shared + split}
        self.discriminators = nn.ModuleDict(
            {
                name: PairDiscriminator(
                    pixels,
                    (channels[name], self.length),
                    discriminator_filters,
                    discriminator_latent_filters,
                    kernel=kernel,
                )
                for name in DOMAINS
            }
        )
        self.mean: Tensor
        self.scale: Tensor
        self.unknown_error: Tensor
        self.floor: Tensor
        self.split_mean: Tensor
        self.split_factor: Tensor
        numbers = split * self.length
        self.register_buffer("mean", torch.zeros(2, pixels))
        self.register_buffer("scale", torch.ones(()))
        # In standardised units, for the two domains:
        self.register_buffer("unknown_error", torch.ones(2))
        self.register_buffer("floor", torch.tensor(floor))
        # Before the end of training, the prior of split codes is white noise.
        self.register_buffer("split_mean", torch.zeros(numbers))
        self.register_buffer("split_factor", torch.eye(numbers))

    # ------------------------------------------------------------- for the verbs

    def encode(self, flux: Tensor, ivar: Tensor, domain: Domain) -> tuple[Tensor, Tensor | None]:
        """Return the shared latents (n, shared, l) of spectra (n, p), and the split ones of observed spectra.

        What stands in bad pixels (``ivar`` 0) does not matter.
        """
        features = self.encoders[domain](self._inputs(flux, ivar, domain))
        has_split = self.split and domain == "observed"
        split = normalised(self.split_encoder(features)) if has_split else None
        return normalised(self.shared_encoder(features)), split

    def decode(self, shared: Tensor, split: Tensor | None, domain: Domain) -> Tensor:
        """Return spectra (n, p) from shared latents (n, shared, l) and split ones (n or 1, split, l).

        Observed spectra without split latents get the typical ones; synthetic spectra have none.
        """
        features = self.shared_decoder(shared)
        if domain == "observed" and self.split:
            features = features + self.split_decoder(self.typical_split() if split is None else split)
        return self._spectra(features, domain) * self.scale + self.mean[DOMAINS.index(domain)]

    def translate(self, flux: Tensor, ivar: Tensor, to: Domain, split: Tensor | None = None) -> Tensor:
        """Return spectra (n, p) of the other domain as those of the domain ``to`` would look.

        ``split`` (n or 1, split, l) are the split latents of observed spectra; the typical ones by default.
        """
        shared, _ = self.encode(flux, ivar, other(to))
        return self.decode(shared, split, to)

    def cycle(self, flux: Tensor, ivar: Tensor, domain: Domain) -> Tensor:
        """Return spectra (n, p) translated to the other domain and back, with their own split latents."""
        shared, split = self.encode(flux, ivar, domain)
        there = self.decode(shared, split, other(domain))
        shared, _ = self.encode(there, torch.ones_like(there), other(domain))
        return self.decode(shared, split, domain)

    def reconstruct(self, flux: Tensor, ivar: Tensor, domain: Domain) -> Tensor:
        """Return spectra (n, p) encoded and decoded in their own domain."""
        return self.decode(*self.encode(flux, ivar, domain), domain)

    def typical_split(self) -> Tensor:
        """Return the split latents (1, split, l) of a typical observed spectrum: their mean."""
        return self.split_mean.reshape(1, self.split, self.length)

    def sampled_split(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n split latents (n, split, l) drawn from the prior that :meth:`finish` has measured."""
        numbers = torch.randn(n, len(self.split_mean), generator=generator).to(self.split_mean)
        codes = self.split_mean + numbers @ self.split_factor.T
        return codes.reshape(n, self.split, self.length)

    # ------------------------------------------------------------------ the parts

    def _inputs(self, flux: Tensor, ivar: Tensor, domain: Domain) -> Tensor:
        """Return the input (n, 2, padded p) of an encoder for spectra in physical units."""
        return self._with_mask(*self._filled(flux, ivar, domain))

    def _filled(self, flux: Tensor, ivar: Tensor, domain: Domain) -> tuple[Tensor, Tensor]:
        """Return standardised spectra (n, p), 0 (the mean) in bad pixels, and which pixels are good."""
        good = ivar > 0
        return torch.where(good, (flux - self.mean[DOMAINS.index(domain)]) / self.scale, 0.0), good

    def _with_mask(self, spectra: Tensor, good: Tensor) -> Tensor:
        """Return standardised spectra (n, p) with their mask, padded: (n, 2, padded p)."""
        return functional.pad(torch.stack([spectra, (~good).to(spectra)], dim=1), (0, self.padding))

    def _encode_both(self, synthetic: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the shared latents of inputs of both domains, and the split ones of the observed domain.

        Shared layers work on both at once. Without a split latent, it has no channels.
        """
        n = len(synthetic)
        features = [self.encoders["synthetic"](synthetic), self.encoders["observed"](observed)]
        shared = normalised(self.shared_encoder(torch.cat(features)))
        split = normalised(self.split_encoder(features[1])) if self.split else shared[n:, :0]
        return shared[:n], shared[n:], split

    def _spectra(self, features: Tensor, domain: Domain) -> Tensor:
        """Return standardised spectra (n, p) from the features (n, c, l) of decoders."""
        spectra: Tensor = self.generators[domain](features)
        return spectra.float()

    def _observed(self, features: Tensor, split: Tensor) -> Tensor:
        """Return standardised observed spectra (n, p) from shared and split features (n, c, l)."""
        return self._spectra(features + split if self.split else features, "observed")

    def _noisy(self, latents: Tensor, sigma: float) -> Tensor:
        """Return latents (n, c, l) with noise in training, as they are at other times."""
        return latents + sigma * torch.randn_like(latents) if self.training else latents

    def _lent(self, codes: Tensor, n: int) -> Tensor:
        """Return what n synthetic rows borrow from observed rows (m, ...): row i lends to row i."""
        return codes if len(codes) == n else codes[torch.arange(n, device=codes.device) % len(codes)]

    # ----------------------------------------------------------------- training

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Reconstruct, translate and cycle both sets once for all players.

        The layers of shared decoders run once for each latent, which serves both domains: 4 times in place
        of 6. In names, ``to_observed`` is made of synthetic spectra, and ``to_synthetic`` of observed ones.
        """
        synthetic, observed = (self._targets(batch, domain) for domain in DOMAINS)
        inputs = [self._with_mask(target["flux"], target["good"]) for target in (synthetic, observed)]
        if self.training and self.best_of > 1:
            rows = self._most_real(*inputs)
            synthetic = {name: tensor[rows] for name, tensor in synthetic.items()}
            inputs[0] = inputs[0][rows]
        z_synthetic, z_observed, split = self._encode_both(*inputs)
        split = self._noisy(split, SPLIT_NOISE)
        n, own = len(z_synthetic), self.split_decoder(split) if self.split else split
        features = self.shared_decoder(self._noisy(torch.cat([z_synthetic, z_observed]), SHARED_NOISE))
        as_synthetic = self._spectra(features, "synthetic")
        as_observed = self._observed(features, torch.cat([self._lent(own, n), own]))
        to_synthetic, to_observed = as_synthetic[n:], as_observed[:n]
        translated = (self._with_mask(one, torch.ones_like(one) > 0) for one in (to_synthetic, to_observed))
        z_to_synthetic, z_to_observed, split_to_observed = self._encode_both(*translated)
        split_to_observed = self._noisy(split_to_observed, SPLIT_NOISE)
        again = torch.cat([z_to_synthetic, z_to_observed])
        features = self.shared_decoder(self._noisy(again, SHARED_NOISE))
        m = len(z_to_synthetic)
        return {
            **{f"synthetic.{name}": tensor for name, tensor in synthetic.items()},
            **{f"observed.{name}": tensor for name, tensor in observed.items()},
            "synthetic.reconstruction": as_synthetic[:n],
            "observed.reconstruction": as_observed[n:],
            "synthetic.cycle": self._spectra(features[m:], "synthetic"),
            "observed.cycle": self._observed(features[:m], own),
            "to_synthetic": to_synthetic,
            "to_observed": to_observed,
            "synthetic.latents": z_synthetic,
            "observed.latents": torch.cat([z_observed, split], dim=1),
            "to_synthetic.latents": z_observed,
            # The split code as read from the translated spectrum: one that is ignored is found out.
            "to_observed.latents": torch.cat([z_synthetic, split_to_observed], dim=1),
        }

    def _targets(self, batch: Batch, domain: Domain) -> dict[str, Tensor]:
        """Return standardised spectra (n, p), their good pixels, and weights with the floor of the error."""
        flux, good = self._filled(batch[f"{domain}.flux"], batch[f"{domain}.ivar"], domain)
        ivar = batch[f"{domain}.ivar"]
        has_no_errors = ((ivar == 0) | (ivar == 1)).all(1, keepdim=True)
        default = good / self.unknown_error[DOMAINS.index(domain)].square()
        # In two steps: the square of a scale in physical units may be too small a number.
        weight = torch.where(has_no_errors, default, ivar * self.scale * self.scale)
        even = torch.ones_like(flux[:, 0])
        return {
            "flux": flux,
            "good": good,
            "weight": weight / (1 + weight * self.floor.square()),
            "frequency": batch.get("synthetic.frequency", even) if domain == "synthetic" else even,
        }

    @torch.no_grad()
    def _most_real(self, synthetic: Tensor, observed: Tensor) -> Tensor:
        """Return the row of each group whose translation is the most real, for inputs of encoders."""
        n = len(synthetic)
        if n < self.best_of:
            return torch.arange(n, device=synthetic.device)
        z, _, split = self._encode_both(synthetic, observed)
        split = self._lent(split, n)
        features = self.shared_decoder(z)
        spectra = self._observed(features, self.split_decoder(split) if self.split else split)
        logits: Tensor = self.discriminators["observed"](spectra, torch.cat([z, split], dim=1))
        # Groups, not the best of the whole batch: no kind of star can take all places, and processes that
        # share a batch choose the same rows as one.
        groups = logits[: n // self.best_of * self.best_of].reshape(-1, self.best_of)
        best: Tensor = groups.argmax(1)
        return best + self.best_of * torch.arange(len(groups), device=logits.device)

    def misfit(self, spectra: Tensor, shared: Batch, domain: Domain) -> Tensor:
        """Return the mean over spectra (n, p) of ln(chi2 per good pixel + a constant).

        The logarithm has no units: errors that are wrong by a factor only shift it, noisy and noiseless sets
        count alike, and no weight need be tuned (the published code had weights from 3 to 5,000). It is the
        likelihood of a pixel where the scale of the errors of each spectrum is unknown. A mean over rows, as
        it is, may be shared among processes, which the logarithm of a mean may not. The constant stops the
        gain where synthetic spectra are reproduced to a fraction of the floor.
        """
        residual = shared[f"{domain}.weight"] * (spectra - shared[f"{domain}.flux"]).square()
        chi2 = residual.sum(1) / shared[f"{domain}.good"].sum(1).clamp(min=1)
        mean: Tensor = (chi2 + SATURATION).log().mean()
        return mean

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the loss of the discriminators, or that of the encoders and generators."""
        terms: dict[str, Tensor] = {}
        first, last = ADVERSARIAL
        weights = {"adversarial": first + (last - first) * progress, "penalty": 0.5 * self.penalty}
        for domain in DOMAINS:
            discriminator = cast(PairDiscriminator, self.discriminators[domain])
            # What looks like one domain is made of spectra of the other.
            own, lent = (shared[f"{one}.frequency"] for one in (domain, other(domain)))
            fake = discriminator(shared[f"to_{domain}"], shared[f"to_{domain}.latents"])
            if player == "generators":
                for term in ("reconstruction", "cycle"):
                    terms[f"{term}_{domain}"] = self.misfit(shared[f"{domain}.{term}"], shared, domain)
                terms[f"adversarial_{domain}"] = generator_loss(fake, self.adversarial, lent)
                continue
            pair = shared[f"{domain}.reconstruction"], shared[f"{domain}.latents"]
            if self.penalty:
                real, terms[f"penalty_{domain}"] = gradient_penalty(discriminator, *pair)
            else:
                real = discriminator(*pair)
            terms[f"judgement_{domain}"] = discriminator_loss(real, fake, self.adversarial, own, lent)
        weighted = [weights.get(name.split("_")[0], 1.0) * term for name, term in terms.items()]
        return {"total": torch.stack(weighted).sum(), **terms}

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters that a player trains."""
        discriminators = list(self.discriminators.parameters())
        if player == "discriminators":
            return discriminators
        theirs = {id(parameter) for parameter in discriminators}
        return [parameter for parameter in self.parameters() if id(parameter) not in theirs]

    def prepare(self, train: Batches) -> None:
        """Measure the standardisation, mean spectra, and the errors of sets that come without."""
        shape = (2, self.pixels)
        count, total, square = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        magnitude = 0.0
        for batch in train():
            for number, domain in enumerate(DOMAINS):
                good = (batch[f"{domain}.ivar"] > 0).cpu()
                flux = torch.where(good, batch[f"{domain}.flux"].cpu().double(), 0.0)
                count[number] += good.sum(0)
                total[number] += flux.sum(0)
                square[number] += flux.square().sum(0)
                magnitude += float(flux.abs().sum()) if domain == "synthetic" else 0.0
        pixels = count.sum(1).clamp(min=1)
        # A pixel that is bad in all spectra of a set gets the mean of all pixels.
        overall = (total.sum(1) / pixels)[:, None]
        mean = torch.where(count > 0, total / count.clamp(min=1), overall)
        scatter = ((square - total * mean).sum(1) / pixels).clamp(min=0).sqrt()
        scale = scatter[0] if float(scatter[0]) > 0 else torch.ones(())
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.floor.copy_(self.floor_fraction * magnitude / float(pixels[0]) / scale)
        self.unknown_error.copy_((UNKNOWN_ERROR * scatter / scale).clamp(min=1e-3))

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Measure mean and covariance of the split codes of observed spectra: their prior.

        This needs no term in the loss. Discriminators compare pairs with lent codes to those with own ones,
        which already keeps split codes independent of the shared latents.
        """
        if not self.split:
            return
        codes = []
        for batch in train():
            flux, ivar = batch["observed.flux"], batch["observed.ivar"]
            rows = (ivar > 0).any(1)
            _, split = self.encode(flux[rows], ivar[rows], "observed")
            assert split is not None
            codes.append(split.flatten(1))
        numbers = torch.cat(codes).double()
        mean = numbers.mean(0)
        covariance = (numbers - mean).T @ (numbers - mean) / len(numbers)
        values, vectors = torch.linalg.eigh(covariance)
        self.split_mean.copy_(mean)
        self.split_factor.copy_(vectors * values.clamp(min=0).sqrt())


def other(domain: Domain) -> Domain:
    """Return the other domain.

    Examples
    --------
    >>> other("synthetic")
    'observed'
    """
    return "observed" if domain == "synthetic" else "synthetic"
