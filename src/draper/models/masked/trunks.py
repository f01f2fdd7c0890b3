"""Two ways to read what is visible of a star: a perceptron with indicators, and attention among tokens."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from draper.nn.perceptron import Residual

STRETCH = 10.0
"""Small values are stretched by this before they are compressed by asinh."""

GROUP = 8
"""Components of a spectrum in one token."""

HEADS = 4
"""Heads of attention."""


class Visible(NamedTuple):
    """The inputs of the network, 0 where something is not visible.

    Attributes
    ----------
    z, sigma : Tensor (n, k)
        Components of the spectrum and their errors; 0 and 1 without a spectrum.
    has_pixels : Tensor (n,)
        Whether any pixel is visible.
    columns, errors, has_column : Tensor (n, c)
        Values, errors, and which are visible.
    reference : Tensor (n, 2)
        Brightness, and whether it is known.
    labels, has_label : Tensor (n, l)
        Values, and which are visible.
    """

    z: Tensor
    sigma: Tensor
    has_pixels: Tensor
    columns: Tensor
    errors: Tensor
    has_column: Tensor
    reference: Tensor
    labels: Tensor
    has_label: Tensor


def log_error(errors: Tensor) -> Tensor:
    """Return the logarithm of scaled errors, of the order of 1."""
    return (errors.clamp(1e-5, 1e3).log() + 3) / 3


class Trunk(nn.Module):
    """From what is visible to an embedding (n, width)."""

    @abstractmethod
    def last_layers(self) -> Iterable[nn.Parameter]:
        """Return the parameters that are trained where the encoder is in part."""

    @abstractmethod
    def label_layers(self) -> Iterable[nn.Parameter]:
        """Return the parameters that read labels in."""


class IndicatorPerceptron(Trunk):
    """A residual perceptron of all values, their errors, and which are visible."""

    def __init__(self, components: int, columns: int, labels: int, width: int, blocks: int) -> None:
        super().__init__()
        inputs = 3 * components + 1 + 4 * columns + 2
        self.enter = nn.Linear(inputs, width)
        self.read_labels = nn.Linear(2 * labels, width, bias=False) if labels else None
        self.blocks = nn.ModuleList(Residual(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def last_layers(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the last block."""
        return [*self.blocks[-1].parameters(), *self.norm.parameters()]

    def label_layers(self) -> Iterable[nn.Parameter]:
        """Return the weights of labels, and of which of them are visible."""
        return [] if self.read_labels is None else self.read_labels.parameters()

    def forward(self, visible: Visible) -> Tensor:
        """Return the embedding (n, width)."""
        small = torch.asinh(STRETCH * visible.columns) / 3
        parts = (
            visible.z,
            torch.asinh(STRETCH * visible.z) / 3,
            visible.sigma.log() / 3,
            visible.has_pixels[:, None],
            visible.columns.clamp(-20, 20),
            small,
            log_error(visible.errors) * visible.has_column,
            visible.has_column,
            visible.reference,
        )
        x = self.enter(torch.cat(parts, dim=1))
        if self.read_labels is not None:
            x = x + self.read_labels(torch.cat([visible.labels, visible.has_label], dim=1))
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class TokenTransformer(Trunk):
    """Attention among visible tokens: groups of components, columns, brightness, labels.

    What is not visible is not there: rows are sorted so that visible tokens come first, and cut where no star
    of the batch has any more.
    """

    def __init__(self, components: int, columns: int, labels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.groups = math.ceil(components / GROUP)
        self.pad = self.groups * GROUP - components
        self.of_group = nn.Parameter(torch.randn(self.groups, 3 * GROUP, width) / math.sqrt(3 * GROUP))
        self.of_value = nn.Parameter(torch.randn(columns + 1, 3, width) / math.sqrt(3))
        self.of_label = nn.Parameter(torch.randn(labels, 3, width) / math.sqrt(3))
        self.names = nn.Parameter(0.5 * torch.randn(1 + self.groups + columns + 1, width))
        self.label_names = nn.Parameter(0.5 * torch.randn(labels, width))
        layer = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def last_layers(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the last layer."""
        return [*self.blocks.layers[-1].parameters(), *self.norm.parameters()]

    def label_layers(self) -> Iterable[nn.Parameter]:
        """Return the weights of labels, and the names of their tokens."""
        return [self.of_label, self.label_names]

    def forward(self, visible: Visible) -> Tensor:
        """Return the embedding (n, width): that of the token that stands for the star."""
        rows = len(visible.z)
        values = torch.stack(
            [visible.z, torch.asinh(STRETCH * visible.z) / 3, visible.sigma.log() / 3], dim=2
        )
        values = nn.functional.pad(values, (0, 0, 0, self.pad)).reshape(rows, self.groups, 3 * GROUP)
        groups = torch.einsum("ngi,giw->ngw", values, self.of_group)
        plain = torch.cat([visible.columns, visible.reference[:, :1], visible.labels], dim=1)
        errors = torch.cat(
            [log_error(visible.errors), torch.zeros_like(visible.reference[:, :1]), 0 * visible.labels], dim=1
        )
        singles = torch.stack([plain.clamp(-20, 20), torch.asinh(STRETCH * plain) / 3, errors], dim=2)
        of_single = torch.cat([self.of_value, self.of_label])
        star = groups.new_zeros(rows, 1, groups.shape[2])
        tokens = torch.cat([star, groups, torch.einsum("nci,ciw->ncw", singles, of_single)], dim=1)
        tokens = tokens + torch.cat([self.names, self.label_names])
        shown = torch.cat(
            [
                torch.ones_like(visible.has_pixels)[:, None],
                visible.has_pixels[:, None].expand(-1, self.groups),
                visible.has_column,
                visible.reference[:, 1:],
                visible.has_label,
            ],
            dim=1,
        )
        order = (1 - shown).argsort(dim=1, stable=True)
        most = int(shown.sum(1).max())
        order = order[:, :most]
        tokens = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2]))
        absent = shown.gather(1, order) < 0.5
        out: Tensor = self.norm(self.blocks(tokens, src_key_padding_mask=absent)[:, 0])
        return out
