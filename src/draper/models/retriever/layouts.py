"""How a spectrum and its labels lie in one array, which a generator makes and a discriminator sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from draper.data.labels import LabelSet
from draper.errors import DraperError
from draper.models.retriever import aspa

PIXELS_OF_A_LABEL = 22
"""Pixels of a spectrum for each repetition of a label in the plain layout; about as many as in ExoGAN's."""

LEAST = 4
"""Least number of repetitions: in fewer, a discriminator of few pixels hardly notices labels."""

FLATTEST = 1e-8
"""Smallest range of depths that known bins of a section are divided by."""


class Layout(nn.Module, ABC):
    """The array of p pixels of flux and l labels, which are scaled to their box (0 to 1).

    Attributes
    ----------
    shape : tuple of int
        Shape of one array.
    labels : LabelSet
        The labels.
    """

    def __init__(self, shape: tuple[int, ...], labels: LabelSet) -> None:
        super().__init__()
        self.shape, self.labels = shape, labels

    @abstractmethod
    def measure(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take the scaling from spectra (n, p) with labels (n, l), batch by batch."""

    @abstractmethod
    def encode(self, flux: Tensor, labels: Tensor) -> Tensor:
        """Return arrays (n, *shape) of spectra (n, p) and labels (n, l)."""

    @abstractmethod
    def decode(self, arrays: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectra (n, p) and labels (n, l) of arrays; NaN for what a layout does not keep."""

    @abstractmethod
    def context(self, arrays: Tensor, known: Tensor, given: Tensor) -> Tensor:
        """Return what is known of arrays (n, k), in the units of the array, differentiably.

        ``known`` (p,) says which pixels of the spectra are, ``given`` (l,) which labels. Where an array
        keeps a spectrum relative to a number of its own, such as its mean, and not all pixels that the
        number stands for are known, it is replaced by that of the known ones.
        """


class PlainLayout(Layout):
    """A row of numbers: the shape of the spectrum, its level, and the labels.

    The level is the mean over all pixels. It is separate because the radius of a planet moves all pixels
    together by far more than a gas moves any; a generator could not be accurate enough for both in one
    number. Each pixel of the shape has mean 0 and scatter 1 in the training set, and so has the level. Level
    and labels are repeated, to weigh something beside the pixels.

    Examples
    --------
    >>> from draper.data.labels import Label
    >>> layout = PlainLayout(50, LabelSet([Label("temperature", "K", 500, 2500)]))
    >>> layout.shape
    (58,)
    """

    def __init__(self, pixels: int, labels: LabelSet) -> None:
        self.pixels, self.repeats = pixels, max(LEAST, round(pixels / PIXELS_OF_A_LABEL))
        super().__init__((pixels + self.repeats * (1 + len(labels)),), labels)
        self.mean: Tensor
        self.scatter: Tensor
        self.register_buffer("mean", torch.zeros(pixels + 1))
        self.register_buffer("scatter", torch.ones(pixels + 1))

    def measure(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Measure mean and scatter of each pixel of the shape, and of the level."""
        total, square = (torch.zeros(self.pixels + 1, dtype=torch.float64) for _ in range(2))
        rows = 0
        for flux, _ in batches:
            parts = _shape_and_level(flux.double().cpu())
            total, square, rows = total + parts.sum(0), square + parts.square().sum(0), rows + len(flux)
        mean = total / rows
        scatter = (square / rows - mean.square()).clamp(min=0).sqrt()
        # A pixel that never changes says nothing, and must not become noise.
        scatter = scatter.clamp(min=float(scatter.max()) * 1e-4)
        self.mean.copy_(mean)
        self.scatter.copy_(torch.where(scatter > 0, scatter, 1.0))

    def encode(self, flux: Tensor, labels: Tensor) -> Tensor:
        """Return rows (n, size)."""
        parts = (_shape_and_level(flux) - self.mean) / self.scatter
        return torch.cat(
            [parts[:, :-1], *[parts[:, -1:]] * self.repeats, labels.repeat_interleave(self.repeats, 1)], dim=1
        )

    def decode(self, arrays: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectra and labels."""
        numbers = arrays[:, self.pixels :].reshape(len(arrays), 1 + len(self.labels), self.repeats).mean(2)
        parts = torch.cat([arrays[:, : self.pixels], numbers[:, :1]], dim=1) * self.scatter + self.mean
        return parts[:, :-1] + parts[:, -1:], numbers[:, 1:]

    def context(self, arrays: Tensor, known: Tensor, given: Tensor) -> Tensor:
        """Return the shape and the level of the known pixels, and the given labels."""
        flux, _ = self.decode(arrays)
        parts = _shape_and_level(flux[:, known])
        mean = self.mean[:-1][known]
        # The mean of the known pixels lies above or below that of all, by what it does in the training set.
        shape = (parts[:, :-1] - mean + mean.mean()) / self.scatter[:-1][known]
        level = (parts[:, -1:] - mean.mean() - self.mean[-1]) / self.scatter[-1]
        labels = arrays[:, -self.repeats * len(self.labels) :]
        return torch.cat(
            [shape, *[level] * self.repeats, labels[:, given.repeat_interleave(self.repeats)]], dim=1
        )


def _shape_and_level(flux: Tensor) -> Tensor:
    """Return spectra (n, p) relative to their mean, and the mean as a further column."""
    level = flux.mean(1, keepdim=True)
    return torch.cat([flux - level, level], dim=1)


class AspaLayout(Layout):
    """The picture of ExoGAN; see :mod:`draper.models.retriever.aspa`.

    Its labels are the seven of the published layout, in any order; their boxes may differ from its own.
    """

    def __init__(self, labels: LabelSet) -> None:
        super().__init__((aspa.SIDE, aspa.SIDE), labels)
        if set(labels.names) != set(aspa.LABELS):
            raise DraperError(
                "the published layout holds seven labels",
                given=", ".join(labels.names),
                expected=", ".join(aspa.LABELS),
                hint="layout='plain' takes any",
            )
        self.order = [labels.names.index(name) for name in aspa.LABELS]

    def measure(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Check that the layout, whose scaling is fixed, can hold the training set."""
        for flux, labels in batches:
            held = aspa.fits(flux.cpu().numpy(), self._physical(labels))
            if not held.all():
                raise DraperError(
                    "spectra lie outside of what the published layout can hold",
                    given=f"{(~held).sum()} of {len(held)} spectra of a batch",
                    expected=f"depths of {aspa.SHALLOWEST:.4f} to {aspa.DEEPEST:.4f}, at most 2 MJ, 1.5 RJ "
                    "and 2000 K, abundances of at least 1e-8",
                    hint="layout='plain' holds any",
                )

    def _physical(self, labels: Tensor) -> aspa.Array:
        return self.labels.unscale(labels.double().cpu().numpy())[:, self.order]

    def encode(self, flux: Tensor, labels: Tensor) -> Tensor:
        """Return pictures (n, 33, 33)."""
        pictures = aspa.encode(flux.cpu().numpy(), self._physical(labels))
        return torch.from_numpy(pictures).to(flux)

    def decode(self, arrays: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectra and labels; not differentiably."""
        flux, physical = aspa.decode(arrays.detach().cpu().numpy())
        values = torch.empty(len(arrays), len(self.order), dtype=torch.float64)
        values[:, self.order] = torch.from_numpy(physical)
        scaled = torch.from_numpy(self.labels.scale(values.numpy()))
        return torch.from_numpy(flux.copy()).to(arrays), scaled.to(arrays)

    def context(self, arrays: Tensor, known: Tensor, given: Tensor) -> Tensor:
        """Return the known pixels of pictures.

        Of a section with all its bins known, they are those of the picture itself, as in ExoGAN. Where some
        are missing, its normalisers are replaced by those of the known bins, with their weights.
        """
        mask = torch.from_numpy(aspa.known_pixels(known.cpu().numpy()))
        for name, is_given in zip(self.labels.names, given.tolist(), strict=True):
            mask[aspa.PATCHES[name]] = is_given
        parts = [arrays[:, mask.to(arrays.device)]]
        core = arrays[:, : aspa.CORE, : aspa.CORE].flatten(1)
        bins = known.flip(0)
        for number, section in enumerate(aspa.SECTIONS):
            places = torch.arange(section.start, section.stop, device=known.device)[bins[section]]
            if len(places) == 0 or mask[aspa.normaliser(number, smallest=False)].all():
                continue
            high = aspa.DEEPEST * arrays[:, *aspa.normaliser(number, smallest=False)].mean(1)
            low = aspa.SHALLOWEST / arrays[:, *aspa.normaliser(number, smallest=True)].mean(1)
            depth = low[:, None] + core[:, places] * (high - low)[:, None]
            low, high = depth.amin(1, keepdim=True), depth.amax(1, keepdim=True)
            parts += [
                (depth - low) / (high - low).clamp(min=FLATTEST),
                (high / aspa.DEEPEST).expand(-1, 12),
                (aspa.SHALLOWEST / low).expand(-1, 11),
            ]
        return torch.cat(parts, dim=1)
