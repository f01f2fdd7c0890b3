"""Inpainting after ExoGAN: a generator of spectra with labels, and the completion of what is not known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from draper.data.labels import LabelSet
from draper.data.readers.exogan_chunks import PIXELS
from draper.errors import DraperError, option_text
from draper.models.retriever.layouts import AspaLayout, Layout, PlainLayout
from draper.nn.module import Batch, Batches, Module
from draper.nn.perceptron import perceptron

LATENT = 100
"""Numbers from which a spectrum and its labels are generated; a row of a batch brings them as ``z``."""

ANY_DEPTH = 0.01
"""Stands in spectra that are left out."""


class PictureGenerator(nn.Module):
    """Transposed convolutions from (n, LATENT) to pictures (n, 33, 33) between 0 and 1, as in a DCGAN.

    Groups of channels are normalised within each image, not over the batch: images would else depend on
    each other, losses on how a batch is divided among processes, and a completion on its neighbours.

    Examples
    --------
    >>> PictureGenerator(width=8)(torch.zeros(2, LATENT)).shape
    torch.Size([2, 33, 33])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [8 * width, 4 * width, 2 * width, width]
        layers: list[nn.Module] = [nn.Linear(LATENT, 9 * channels[0]), nn.Unflatten(1, (channels[0], 3, 3))]
        for before, after in zip(channels, [*channels[1:], 1], strict=True):
            layers += [_normalised(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 5, 2, 2)]
        self.layers = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, z: Tensor) -> Tensor:
        """Return pictures (n, 33, 33) of numbers z (n, LATENT)."""
        pictures: Tensor = self.layers(z)
        return pictures[:, 0]


class PictureDiscriminator(nn.Module):
    """Convolutions from pictures (n, 33, 33) to one logit for each (n,), positive where it looks real.

    Examples
    --------
    >>> PictureDiscriminator(width=8)(torch.zeros(2, 33, 33)).shape
    torch.Size([2])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [1, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 5, 2, 2), nn.LeakyReLU(0.2)]
            if before > 1:
                layers.insert(-1, _normalised(after))
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(9 * channels[-1], 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (n,)."""
        logits: Tensor = self.layers(pictures[:, None])
        return logits[:, 0]


def _normalised(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)


class RowGenerator(nn.Module):
    """A perceptron from (n, LATENT) to rows of ``free`` numbers and ``bounded`` ones between 0 and 1."""

    def __init__(self, hidden: Sequence[int], free: int, bounded: int) -> None:
        super().__init__()
        self.free = free
        self.layers = perceptron(LATENT, hidden, free + bounded)

    def forward(self, z: Tensor) -> Tensor:
        """Return rows (n, free + bounded) of numbers z (n, LATENT)."""
        rows: Tensor = self.layers(z)
        return torch.cat([rows[:, : self.free], torch.sigmoid(rows[:, self.free :])], dim=1)


class RowDiscriminator(nn.Module):
    """A perceptron from rows (n, size) to one logit for each (n,)."""

    def __init__(self, size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = perceptron(size, hidden, 1, nn.LeakyReLU)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits (n,)."""
        logits: Tensor = self.layers(rows)
        return logits[:, 0]


class Completion(NamedTuple):
    """Completions of one spectrum, one for each restart; they are not draws from a posterior.

    Attributes
    ----------
    flux : Tensor (restarts, p)
        Generated spectra at all pixels; NaN where the layout keeps none.
    labels : Tensor (restarts, l)
        Generated labels, scaled to their box.
    distance : Tensor (restarts,)
        Sum of the absolute differences from what is known, in the units of the layout.
    """

    flux: Tensor
    labels: Tensor
    distance: Tensor


class Inpainting(Module):
    """A generative adversarial network of spectra with their labels, for completing either.

    Batches hold ``flux`` and ``ivar`` (n, p), ``labels`` (n, l) scaled to their box, and ``z`` (n, LATENT)
    standard normal numbers. Rows with a bad pixel or a missing label are left out of what the discriminator
    learns as real.

    Parameters
    ----------
    layout
        How spectrum and labels lie in one array.
    generator
        From numbers between -1 and 1 (n, LATENT) to arrays ``(n, *shape)``.
    discriminator
        From arrays ``(n, *shape)`` to one logit for each (n,).
    """

    players = ("discriminator", "generator")
    condenses = True

    def __init__(self, layout: Layout, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.layout, self.generator, self.discriminator = layout, generator, discriminator

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters of the discriminator or the generator."""
        return self.get_submodule(player).parameters()

    def prepare(self, train: Batches) -> None:
        """Measure the scaling of the layout on the rows that have all pixels and labels."""
        whole = ((batch, _is_whole(batch)) for batch in train())
        chosen = ((batch["flux"][rows], batch["labels"][rows]) for batch, rows in whole if bool(rows.any()))
        first = next(chosen, None)
        if first is None:
            raise DraperError(
                "no spectrum of the training set has all its pixels and labels",
                hint=f"cut the range to pixels that are always good ({option_text('read.cut')}), "
                f"name only labels that are known, or take {option_text('method', 'flow')}, which learns "
                "from incomplete spectra",
            )
        self.layout.measure(part for parts in ((first,), chosen) for part in parts)

    def condense(self, batch: Batch) -> Batch:
        """Return the arrays of spectra and labels, and the weight (n,) of each: 1, or 0 where incomplete."""
        if "array" in batch:
            return batch
        whole = _is_whole(batch)
        flux = torch.where(whole[:, None], batch["flux"], ANY_DEPTH)
        labels = torch.where(whole[:, None], batch["labels"], 0.5)
        return {"array": self.layout.encode(flux, labels), "weight": whole.to(flux)}

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        """Generate arrays, and lay out the real ones."""
        # Normal numbers become uniform ones between -1 and 1.
        made = self.generator(torch.erf(batch["z"] / math.sqrt(2)))
        real = self.condense(batch)
        return {"real": real["array"], "weight": real["weight"], "made": made}

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the binary cross-entropy of a player; that of the generator does not saturate."""
        if player == "generator":
            return {"total": functional.softplus(-self.discriminator(shared["made"])).mean()}
        real = (shared["weight"] * functional.softplus(-self.discriminator(shared["real"]))).mean()
        made = functional.softplus(self.discriminator(shared["made"])).mean()
        return {"total": real + made, "real": real, "made": made}

    def complete(
        self,
        flux: Tensor,
        error: Tensor,
        known: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator,
        restarts: int = 64,
        steps: int = 1000,
        rate: float = 0.01,
        prior: float = 0.1,
    ) -> Completion:
        """Complete one spectrum: find inputs of the generator that give what is known of it.

        Each restart begins at other inputs and sees the spectrum with other noise, which is added to the
        depths before anything is scaled. Its inputs are then moved (Adam) so as to reduce the sum of
        absolute differences from what is known plus ``prior`` times the generator's loss, which keeps the
        arrays credible to the discriminator.

        **The result is not a posterior.** There is no likelihood in it: errors enter as the scatter of the
        noise alone, which is added to that which the data already have; restarts end where an optimiser
        stops; and what the generator never makes is never found. The scatter of the restarts is a measure of
        repeatability. Use ``method="flow"`` for error bars.

        Parameters
        ----------
        flux, error : Tensor (p,)
            The spectrum and its 1-sigma errors; both are ignored where it is not known.
        known : Tensor (p,) bool
            Which pixels are known.
        labels : Tensor (l,), optional
            Labels that are known, scaled to their box; NaN for the others. By default none is.
        generator
            Source of random numbers, on the CPU.
        restarts, steps
            Number of restarts, and of steps of each.
        rate
            Learning rate; inputs lie between -1 and 1.
        prior
            Weight of the generator's loss.

        Examples
        --------
        >>> from draper.data.labels import Label
        >>> module = inpainting(50, LabelSet([Label("temperature", "K", 500, 2500)]), hidden=(8,))
        >>> flux, known = torch.full((50,), 0.01), torch.arange(50) < 25
        >>> seeded = torch.Generator().manual_seed(0)
        >>> filled = module.complete(flux, 1e-3 * flux, known, restarts=3, steps=2, generator=seeded)
        >>> filled.flux.shape, filled.labels.shape
        (torch.Size([3, 50]), torch.Size([3, 1]))
        """
        self.eval()
        given = torch.zeros(len(self.layout.labels), dtype=torch.bool)
        if labels is not None:
            given = torch.isfinite(labels).cpu()
        known_labels = torch.full((len(given),), 0.5, device=flux.device)
        known_labels = known_labels if labels is None else torch.where(given.to(labels.device), labels, 0.5)
        target = self._target(flux, error, known, known_labels, given, restarts, generator)
        start = 2 * torch.rand(restarts, LATENT, generator=generator) - 1
        z = start.to(flux).requires_grad_()
        optimizer = torch.optim.Adam([z], rate)
        for _ in range(steps):
            made = self.generator(z)
            distance = (self.layout.context(made, known, given) - target).abs().sum(1)
            implausible = functional.softplus(-self.discriminator(made))
            (z.grad,) = torch.autograd.grad((distance + prior * implausible).sum(), [z])
            optimizer.step()
            with torch.no_grad():
                z.clamp_(-1, 1)
        with torch.no_grad():
            made = self.generator(z)
            distance = (self.layout.context(made, known, given) - target).abs().sum(1)
            return Completion(*self.layout.decode(made), distance)

    @torch.no_grad()
    def _target(
        self,
        flux: Tensor,
        error: Tensor,
        known: Tensor,
        labels: Tensor,
        given: Tensor,
        restarts: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Return what each restart is to reproduce (restarts, k)."""
        if not known.any():
            raise DraperError("no pixel of the spectrum is known", hint="give one with good pixels")
        noise = torch.randn(restarts, len(flux), generator=generator).to(flux)
        seen = torch.where(known, flux + error * noise, 0.0)
        # Any number within the range will do where nothing is known: the context leaves it out.
        mean = seen.sum(1, keepdim=True) / known.sum()
        arrays = self.layout.encode(torch.where(known, seen, mean), labels.expand(restarts, -1))
        return self.layout.context(arrays, known, given)


def _is_whole(batch: Batch) -> Tensor:
    """Return which rows (n,) have all pixels and labels."""
    return (batch["ivar"] > 0).all(1) & torch.isfinite(batch["labels"]).all(1)


def inpainting(
    pixels: int,
    labels: LabelSet,
    layout: Literal["plain", "aspa"] = "plain",
    *,
    width: int = 64,
    hidden: Sequence[int] = (256, 256),
) -> Inpainting:
    """Return a new network for spectra of some pixels, increasing in wavelength, and labels.

    Parameters
    ----------
    pixels
        Number of pixels; 515, those of ExoGAN, for its layout.
    labels
        The labels, whose scaled values come with the batches.
    layout
        ``plain``: a row of numbers for perceptrons; ``aspa``: the published picture for convolutions.
    width
        Channels of the first convolution of the discriminator; 64 as published.
    hidden
        Sizes of the hidden layers of the perceptrons.
    """
    if layout == "aspa":
        if pixels != PIXELS:
            raise DraperError(
                "the published layout holds the 515 wavelengths of ExoGAN",
                given=f"{pixels} pixels",
                hint="layout='plain' takes any grid",
            )
        return Inpainting(AspaLayout(labels), PictureGenerator(width), PictureDiscriminator(width))
    plain = PlainLayout(pixels, labels)
    free = pixels + plain.repeats
    return Inpainting(
        plain,
        RowGenerator(hidden, free, plain.shape[0] - free),
        RowDiscriminator(plain.shape[0], hidden),
    )
