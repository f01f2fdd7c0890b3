"""The anchored method: observed = synthetic(labels) x (1 + residual(labels)), with a known uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations_with_replacement
from math import comb
from typing import Any, cast

import torch
from torch import Tensor

from draper.nn.emulator import EmulatorNetwork
from draper.nn.module import Batch, Batches
from draper.nn.spectral import SpectralNetwork

SPREAD = 12.0**-0.5
"""Standard deviation of labels that are spread evenly over their box, which is 1 wide."""

LENGTHS = ("residual", "doubt")
"""Buffers whose lengths depend on the training data."""


def number_of_features(labels: int, degree: int) -> int:
    """Return the number of features of a residual: the products of up to ``degree`` labels.

    Examples
    --------
    >>> [number_of_features(3, degree) for degree in range(4)]
    [1, 4, 10, 20]
    """
    return comb(labels + degree, degree)


def features(x: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """Return the features (n, f) of scaled labels x (n, d), and their derivatives (n, f, d).

    Examples
    --------
    >>> value, slope = features(torch.tensor([[0.5]]), 2)
    >>> value.round(decimals=2), slope[0, :, 0].round(decimals=2)
    (tensor([[1.0000, 1.7300, 3.0000]]), tensor([ 0.0000,  3.4600, 12.0000]))
    """
    d = x.shape[1]
    z, unit = x / SPREAD, torch.eye(d, dtype=x.dtype, device=x.device) / SPREAD
    value, slope = [torch.ones_like(z[:, :1])], [torch.zeros_like(z[:, None])]
    for order in range(1, degree + 1):
        # The labels (q, order) of each product.
        which = torch.tensor(list(combinations_with_replacement(range(d), order)), device=x.device)
        factors = z[:, which]
        value.append(factors.prod(dim=2))
        others = [factors[:, :, [m for m in range(order) if m != n]].prod(dim=2) for n in range(order)]
        slope.append(cast(Tensor, sum(rest[..., None] * unit[which[:, n]] for n, rest in enumerate(others))))
    return torch.cat(value, dim=1), torch.cat(slope, dim=1)


class AnchoredNetwork(SpectralNetwork):
    """A network from labels to observed spectra: that of synthetic ones, times one plus a residual.

    Errors (``uncertainty``, ``modes``) are shares of the flux: how far observed spectra with equal labels
    differ. They are zero before the residual has been learnt.

    Parameters
    ----------
    synthetic
        The network from labels to synthetic spectra, which is all that is trained step by step.

    Attributes
    ----------
    residual : Tensor (f, p)
        Coefficients of the features of labels.
    doubt : Tensor (f, f)
        Covariance of these coefficients, in units of the variance of a pixel.
    """

    def __init__(self, synthetic: EmulatorNetwork) -> None:
        super().__init__(synthetic.labels, synthetic.pixels)
        self.synthetic = synthetic
        self.residual: Tensor
        self.doubt: Tensor
        self.register_buffer("residual", torch.zeros(1, self.pixels))
        self.register_buffer("doubt", torch.zeros(1, 1))
        self.uncertainty.zero_()

    @property
    def degree(self) -> int:
        """How many labels the products have that the residual is a sum of."""
        return next(
            n for n in range(len(self.residual)) if number_of_features(self.labels, n) == len(self.residual)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""
        flux: Tensor = self.synthetic(x) * (1 + self.ratio(x))
        return flux

    def ratio(self, x: Tensor) -> Tensor:
        """Return the residual (n, p): observed over synthetic flux, minus one."""
        return features(x, self.degree)[0] @ self.residual

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d)."""
        flux, slope = self.synthetic.jacobian(x)
        value, by_label = features(x, self.degree)
        ratio = 1 + value @ self.residual
        change = (by_label.transpose(1, 2) @ self.residual).transpose(1, 2)
        return flux * ratio, slope * ratio[..., None] + flux[..., None] * change

    def factor(self, x: Tensor) -> Tensor:
        """Return by how much (n,) errors are larger than those of spectra with a known residual."""
        value = features(x, self.degree)[0]
        return (1 + ((value @ self.doubt) * value).sum(1)).sqrt()

    def error(self, x: Tensor) -> Tensor:
        """Return the 1-sigma error (n, p) as a share of the flux."""
        return self.uncertainty * self.factor(x)[:, None]

    # ---------------------------------------------------------------- training

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        """Return the misfit of synthetic spectra."""
        return self.synthetic.loss(_synthetic(batch), shared, player, progress)

    def prepare(self, train: Batches) -> None:
        """Prepare the network of synthetic spectra."""
        self.synthetic.prepare(_only_synthetic(train))

    def finish(self, train: Batches, valid: Batches | None) -> None:
        """Finish the network of synthetic spectra."""
        self.synthetic.finish(_only_synthetic(train), None if valid is None else _only_synthetic(valid))
        self.points, self.facets = self.synthetic.points, self.synthetic.facets

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name in LENGTHS:
            held = getattr(self, name)
            setattr(self, name, held.new_zeros(state_dict[f"{prefix}{name}"].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _synthetic(batch: Batch) -> Batch:
    """Return the arrays of synthetic spectra alone."""
    first = "synthetic."
    return {name.removeprefix(first): array for name, array in batch.items() if name.startswith(first)}


def _only_synthetic(batches: Batches) -> Callable[[], Iterator[Batch]]:
    return lambda: map(_synthetic, batches())
