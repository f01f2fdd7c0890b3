"""The network of the masked autoencoder: from what is visible of a star to distributions of everything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from draper.errors import DraperError, option_text
from draper.models.masked.columns import ColumnScales, Observed, columns_of
from draper.models.masked.masks import NUMBERS, random_masks
from draper.models.masked.statistics import (
    Components,
    Posterior,
    Products,
    SpectrumStatistics,
    small_batches,
    thinned,
)
from draper.models.masked.trunks import IndicatorPerceptron, TokenTransformer, Trunk, Visible
from draper.nn.module import Batch, Batches, Module

LEVELS = (0.025, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.975)
"""Probabilities of the quantiles of labels."""

HEADS = 3
"""Label heads; how far they disagree tells of stars unlike those of the training set."""

FREEDOM = 6.0
"""Degrees of freedom of Student's t: outliers count, but do not decide."""

LEAST, MOST = -8.0, 3.0
"""Smallest and largest log width of what the network predicts, in units of the scatter."""

MEASURED = 16_384
"""Largest number of rows on which the scales of columns and labels are measured."""

EMBEDDINGS = 16_384
"""Largest number of stars of whose embeddings mean and covariance are measured."""

RESTRAINT = 0.01
"""Weight of the divergence of expected components from their prior, where they are added to pixels: without
it, those that hidden pixels hardly tell drift off."""

DEPTH = 2.5 / math.log(10)
"""Magnitudes per unit of ln flux."""


class Seen(NamedTuple):
    """A batch as the network sees it.

    Attributes
    ----------
    visible : Visible
        Its inputs.
    columns : Observed
        Scaled columns.
    shown, hidden : Components
        What the pixels that are shown, and those that are hidden, say about the components of the spectrum.
    level : Tensor (n,)
        Brightness of the spectra.
    lacks_block : Tensor (n,)
        Whether no pixel of a whole block is shown.
    """

    visible: Visible
    columns: Observed
    shown: Components
    hidden: Components
    level: Tensor
    lacks_block: Tensor


class Predicted(NamedTuple):
    """Distributions that the network predicts, of scaled values.

    Attributes
    ----------
    components, components_var : Tensor (n, k)
        Mean and variance of the components of the spectrum; but for what the pixels that are shown say,
        where they are of all blocks.
    lacks_block : Tensor (n,)
        Whether a whole block is hidden.
    columns, columns_var : Tensor (n, c)
        Of the columns, without measurement errors.
    """

    components: Tensor
    components_var: Tensor
    lacks_block: Tensor
    columns: Tensor
    columns_var: Tensor

    def spectrum(self, shown: Components, rows: Tensor | slice = slice(None)) -> Posterior:
        """Return what is known of the spectrum of some rows, of which pixels are shown.

        Inside blocks, what the network expects is the prior of what these pixels say: without the network it
        is the linear posterior, and where hardly anything is missing hardly anything is left to the network.
        Of a whole block the linear posterior says little that is right, as spectra are more than their
        components: there the network speaks alone.
        """
        has_all = (~self.lacks_block[rows]).float()
        return shown.rows(rows).weighted(has_all).posterior(self.components[rows], self.components_var[rows])


class MaskedNetwork(Module):
    """Sees part of a star, and predicts the rest.

    Parameters
    ----------
    statistics, scales
        What reads spectra, and columns of the table.
    labels
        Number of labels.
    architecture
        ``mlp``: a perceptron of all inputs and of what is visible. ``tokens``: attention among the visible.
    width, blocks
        Of the layers.
    encoder
        Which layers are trained: full, the last block alone (partial), or none of the encoder (frozen).
    """

    normal: Tensor
    label_centre: Tensor
    label_scatter: Tensor
    embedding_mean: Tensor
    embedding_root: Tensor
    block: Tensor
    place: Tensor

    def __init__(
        self,
        statistics: SpectrumStatistics,
        scales: ColumnScales,
        labels: int,
        architecture: Literal["mlp", "tokens"],
        width: int,
        blocks: int,
        encoder: Literal["full", "partial", "frozen"] = "full",
    ) -> None:
        super().__init__()
        self.statistics, self.scales, self.labels = statistics, scales, labels
        self.components = statistics.basis.shape[1]
        count = len(scales.centre)
        kind = IndicatorPerceptron if architecture == "mlp" else TokenTransformer
        self.trunk: Trunk = kind(self.components, count, labels, width, blocks)
        self.spectrum = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4 * self.components)
        )
        for parameter in self.spectrum[2].parameters():  # training begins with the linear posterior
            nn.init.zeros_(parameter)
        self.columns = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2 * count))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2 * labels))
            for _ in range(HEADS if labels else 0)
        )
        last = nn.Linear(64, len(LEVELS) * labels) if labels else nn.Identity()
        if isinstance(last, nn.Linear):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.shape = nn.Sequential(nn.Linear(width, 64), nn.GELU(), last) if labels else nn.Sequential()
        self.register_buffer("normal", torch.special.ndtri(torch.tensor(LEVELS)))
        self.register_buffer("label_centre", torch.zeros(labels))
        self.register_buffer("label_scatter", torch.ones(labels))
        self.register_buffer("embedding_mean", torch.zeros(width))
        self.register_buffer("embedding_root", torch.eye(width))
        block, place = statistics.blocks
        self.register_buffer("block", block)
        self.register_buffer("place", place)
        self.set_trained(encoder)

    @torch.no_grad()
    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Measure mean and covariance of the embeddings of the training set, with and without spectra."""
        rows = []
        for batch in small_batches(thinned(train, EMBEDDINGS)):
            for pixels in (None, torch.zeros_like(batch["flux"])):
                rows.append(self.trunk(self.see(batch, pixels).visible).double())
        embeddings = torch.cat(rows)
        mean = embeddings.mean(0)
        centred = embeddings - mean
        covariance = centred.T @ centred / len(centred)
        covariance.diagonal().add_(1e-4 * covariance.trace() / len(mean))
        values, vectors = torch.linalg.eigh(covariance)
        self.embedding_mean.copy_(mean)
        self.embedding_root.copy_(vectors * values.clamp(min=1e-12).rsqrt())

    def set_trained(self, encoder: Literal["full", "partial", "frozen"]) -> None:
        """Choose which layers are trained; what reads labels in or off always is."""
        for part in (self.trunk, self.spectrum, self.columns):
            for parameter in part.parameters():
                parameter.requires_grad_(
                    encoder == "full" or (encoder == "partial" and part is not self.trunk)
                )
        for parameter in (
            *self.trunk.label_layers(),
            *(self.trunk.last_layers() if encoder == "partial" else ()),
        ):
            parameter.requires_grad_(True)
        if not any(parameter.requires_grad and parameter.numel() for parameter in self.parameters()):
            raise DraperError(
                "nothing of the network is left to train",
                given=f"encoder='{encoder}', without labels",
                hint=f"give {option_text('labels')}, or train the whole encoder",
            )

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        """Return the parameters that are trained."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def prepare(self, train: Batches) -> None:
        """Measure mean, basis and scales."""
        self.statistics.prepare(train)
        block, place = self.statistics.blocks
        self.block.copy_(block)
        self.place.copy_(place)
        some = thinned(train, MEASURED)
        columns = []
        for batch in small_batches(some):
            every, _ = self.statistics.products(batch)
            columns.append(columns_of(batch, *self._magnitude(every)))
        values, errors = (torch.cat(part) for part in zip(*columns, strict=True))
        self.scales.measure(values, errors)
        self.measure_labels(some.get("labels", values[:, :0]))

    @torch.no_grad()
    def measure_labels(self, labels: Tensor, known: int = 0) -> None:
        """Measure centre and scatter of labels (n, l), but of the first ones that are known."""
        centre = labels.nanmean(0).nan_to_num(0.5)
        self.label_centre[known:] = centre[known:]
        spread = (labels - centre).square().nanmean(0).sqrt().nan_to_num(1.0)
        self.label_scatter[known:] = torch.where(spread > 0, spread, 1.0)[known:]

    def _magnitude(self, products: Products) -> tuple[Tensor, Tensor]:
        """Return the brightness (n,) as a magnitude, NaN without any pixel, and its error."""
        ratio, error = self.statistics.brightness(products)
        magnitude = -DEPTH * (products.level * ratio).log()
        known = products.pixels > 0
        return torch.where(known, magnitude, torch.nan), torch.where(known, DEPTH * error, 0.0).clamp(max=5.0)

    def see(
        self,
        batch: Batch,
        pixels: Tensor | None = None,
        columns: Tensor | None = None,
        labels: Tensor | None = None,
        products: tuple[Products, Products, Products] | None = None,
    ) -> Seen:
        """Return a batch with some pixels (n, p) and columns (n, c) hidden, and some labels (n, l) shown.

        ``products``, of all pixels, of those that are shown and of those that are hidden, may be given in
        place of ``pixels``.
        """
        if products is not None:
            every, shown, hidden = products
        else:
            shown, hidden = self.statistics.products(batch, pixels)
            every = shown.with_rest(hidden)
        has_pixels = shown.pixels > 0
        ratio, _ = self.statistics.brightness(shown)
        whole, _ = self.statistics.brightness(every)
        ratio = torch.where(has_pixels, ratio, whole)
        some = self.statistics.components(shown, ratio)
        rest = self.statistics.components(hidden, ratio)
        linear = some.posterior()
        values, errors = columns_of(batch, *self._magnitude(products_where(has_pixels, shown, every)))
        keep = torch.ones_like(values) if columns is None else columns.clone()
        keep[:, 0] = keep[:, 0] * has_pixels
        observed = self.scales(values, errors, keep)
        if labels is None:
            labels = values.new_zeros(len(values), self.labels)
        known = self.scaled_labels(batch)
        has_label = labels * torch.isfinite(known)
        visible = Visible(
            linear.mean,
            linear.sigma(),
            has_pixels.float(),
            observed.value,
            observed.error,
            observed.visible,
            observed.reference,
            torch.nan_to_num(known) * has_label,
            has_label,
        )
        blocks = int(self.block.max()) + 1
        if products is None:
            left = (batch["ivar"] > 0).float() * (1.0 if pixels is None else pixels)
            per_block = left @ nn.functional.one_hot(self.block, blocks).float()
            lacks_block = (per_block == 0).any(1)
        else:  # halves are whole blocks, if there are several
            lacks_block = ~has_pixels | ((hidden.pixels > 0) & (blocks > 1))
        return Seen(visible, observed, some, rest, every.level * ratio, lacks_block)

    def scaled_labels(self, batch: Batch) -> Tensor:
        """Return the labels (n, l) relative to their mean and scatter; NaN where unknown."""
        if "labels" not in batch:
            return batch["flux"].new_full((len(batch["flux"]), self.labels), torch.nan)
        scaled: Tensor = (batch["labels"] - self.label_centre) / self.label_scatter
        return scaled

    def predicted(self, embedding: Tensor, seen: Seen) -> Predicted:
        """Return the distributions of spectrum and columns."""
        within, whole = self.spectrum(embedding).chunk(2, dim=1)
        mean, width = torch.where(seen.lacks_block[:, None], whole, within).chunk(2, dim=1)
        middle, spread = self.columns(embedding).chunk(2, dim=1)
        return Predicted(mean, _variance(width), seen.lacks_block, middle, _variance(spread))

    def label_parts(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return means and widths (heads, n, l) of labels, and quantiles (n, q, l) in units of widths."""
        parts = torch.stack([head(embedding) for head in self.heads])
        mean, width = parts.chunk(2, dim=2)
        return mean, width.clamp(LEAST, MOST).exp(), self._offsets(embedding)

    def _offsets(self, embedding: Tensor) -> Tensor:
        """Return increasing quantiles (n, q, l) for width 1; training begins with those of a Gaussian."""
        raw = self.shape(embedding).reshape(len(embedding), len(LEVELS), -1)
        middle = len(LEVELS) // 2
        steps = self.normal.diff()[:, None] * nn.functional.softplus(raw[:, 1:] + math.log(math.e - 1))
        above = steps[:, middle:].cumsum(1)
        below = steps[:, :middle].flip(1).cumsum(1).flip(1)
        centre = raw[:, :1]
        return torch.cat([centre - below, centre, centre + above], dim=1)

    def quantiles(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return quantiles (n, q, l) of labels on their scale, and the disagreement (n,) of the heads."""
        mean, width, offsets = self.label_parts(embedding)
        typical = width.log().mean(0).exp()
        centre = mean.mean(0)
        spread = (mean.std(0) / typical).square().mean(1).sqrt()
        scaled = centre[:, None] + typical[:, None] * offsets
        return self.label_centre + self.label_scatter * scaled, spread

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the negative log likelihood of what is hidden, and of labels."""
        numbers = torch.special.ndtr(batch["mask"])
        count = len(self.scales.centre)
        is_related = "template" in batch
        # Held-out losses are those of the end, so that they can be compared.
        progress = progress if self.training else 1.0
        masks = random_masks(numbers, self.block, self.place, count, self.labels, is_related, progress)
        with torch.no_grad():
            seen = self.see(batch, *masks)
        embedding = self.trunk(seen.visible)
        predicted = self.predicted(embedding, seen)
        spectrum = spectrum_loss(seen, predicted)
        hidden = seen.columns.known * (1 - seen.columns.visible)
        variance = predicted.columns_var + seen.columns.target_error.square()
        each = student(seen.columns.target - predicted.columns, variance)
        columns = (hidden * each).sum(1) / hidden.sum(1).clamp(min=1)
        terms = {"spectrum": spectrum, "columns": columns.mean()}
        # What speaks alone of whole blocks learns from all that is hidden.
        alone = self.predicted(embedding, seen._replace(lacks_block=torch.ones_like(seen.lacks_block)))
        terms["blocks"] = spectrum_loss(seen, alone)
        terms["total"] = terms["spectrum"] + terms["blocks"] + terms["columns"]
        if self.labels:
            terms["labels"] = self._label_loss(batch, seen, embedding).mean()
            terms["total"] = terms["total"] + 3 * terms["labels"]
        return terms

    def _label_loss(self, batch: Batch, seen: Seen, embedding: Tensor) -> Tensor:
        """Return the mean loss (n,) of the labels that are known and hidden."""
        truth = self.scaled_labels(batch)
        known = torch.isfinite(truth) * (1 - seen.visible.has_label)
        truth = torch.nan_to_num(truth)
        error = torch.nan_to_num(batch["labels_err"]) / self.label_scatter
        mean, width, offsets = self.label_parts(embedding)
        # Each head learns from two thirds of a batch.
        third = (torch.special.ndtr(batch["mask"][:, NUMBERS - 1]) * HEADS).long().clamp(max=HEADS - 1)
        taught = torch.arange(HEADS, device=third.device)[:, None] != third
        variance = width.square() + error.square()
        each = student(truth - mean, variance) * taught[:, :, None]
        with torch.no_grad():
            total = (width.log().mean(0).exp().square() + error.square()).sqrt()
            residual = (truth - mean.mean(0)) / total
        levels = torch.tensor(LEVELS, dtype=offsets.dtype, device=offsets.device)[:, None]
        off = residual[:, None] - offsets
        pinball = torch.where(off > 0, levels * off, (levels - 1) * off).clamp(max=10).mean(1)
        both = each.sum(0) / (HEADS - 1) + pinball
        mean_loss: Tensor = (known * both).sum(1) / known.sum(1).clamp(min=1)
        return mean_loss


def grow(network: MaskedNetwork, before: Mapping[str, Tensor], known: int) -> None:
    """Set the weights of a network that has more labels than before; inputs that are new have weight 0."""
    labels = network.labels
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name not in before:
                continue
            old = before[name]
            if old.shape == tensor.shape:
                tensor.copy_(old)
            elif name == "trunk.read_labels.weight":
                # Values of the labels, and which of them are shown.
                places = [*range(known), *range(labels, labels + known)]
                tensor.zero_()
                tensor[:, places] = old
            elif name.startswith("heads."):
                # Locations of the labels, and their widths.
                tensor[[*range(known), *range(labels, labels + known)]] = old
            elif name.startswith("shape.2"):
                shape = (len(LEVELS), labels, *tensor.shape[1:])
                tensor.reshape(shape)[:, :known] = old.reshape(len(LEVELS), known, *tensor.shape[1:])
            elif name.startswith("label_") or name in ("trunk.of_label", "trunk.label_names"):
                tensor[:known] = old


def products_where(condition: Tensor, first: Products, second: Products) -> Products:
    """Return the products of the first where a condition (n,) holds, else of the second."""
    return Products(
        *(
            torch.where(condition.reshape(-1, *[1] * (a.dim() - 1)), a, b)
            for a, b in zip(first, second, strict=True)
        )
    )


def spectrum_loss(seen: Seen, predicted: Predicted) -> Tensor:
    """Return the mean over stars of the negative log likelihood of hidden pixels, per pixel."""
    rows = (seen.hidden.pixels > 0.5).nonzero()[:, 0]
    hidden = seen.hidden.rows(rows)
    chi2, volume = hidden.misfit(predicted.spectrum(seen.shown, rows))
    number = hidden.pixels
    robust = (FREEDOM + number) / 2 * ((FREEDOM + chi2) / (FREEDOM + number)).log()
    mean, variance = predicted.components[rows], predicted.components_var[rows]
    divergence = (mean.square() + variance - variance.log() - 1).sum(1) / 2 * ~predicted.lacks_block[rows]
    return ((robust + volume / 2 + RESTRAINT * divergence) / number).sum() / len(seen.level)


def student(off: Tensor, variance: Tensor) -> Tensor:
    """Return the negative log density of Student's t, up to a constant."""
    density: Tensor = variance.log() / 2 + (FREEDOM + 1) / 2 * torch.log1p(
        off.square() / (FREEDOM * variance)
    )
    return density


def _variance(log_width: Tensor) -> Tensor:
    return (2 * log_width.clamp(LEAST, MOST)).exp()
