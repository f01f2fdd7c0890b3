"""The anchored method: observed = synthetic(labels) x (1 + residual(labels)), with a known uncertainty."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from math import comb
from typing import Any, Self, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.labels import LabelSet
from draper.nn.emulator import EmulatorNetwork
from draper.nn.footprint import complete_rows
from draper.nn.module import Batch, Batches
from draper.nn.spectral import SpectralNetwork

SPREAD = 12.0**-0.5
"""Standard deviation of labels that are spread evenly over their box, which is 1 wide."""

LENGTHS = ("mixture", "shapes", "doubt", "units")
"""Buffers whose sizes depend on the training data."""

RELATION = 2
"""Largest number of labels in a product that other labels depend on in the synthetic set."""

MAIN = ("teff", "logg", "fe_h")
"""Labels by which others may follow where no observed star has any."""

FOLLOWS = 0.5
"""Largest scatter about these, as a share of the whole, with which another label follows them."""

FIRST = 0.02
"""Error as a share of the flux before the residual is learnt."""


def number_of_features(labels: int, degree: int) -> int:
    """Return the number of features of a residual: the products of up to ``degree`` labels.

    Examples
    --------
    >>> [number_of_features(3, degree) for degree in range(4)]
    [1, 4, 10, 20]
    """
    return comb(labels + degree, degree)


def features(x: Tensor, degree: int, units: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the features (n, f) of scaled labels x (n, d), and their derivatives (n, f, d).

    Parameters
    ----------
    x : Tensor (n, d)
        Scaled labels.
    degree
        Features are the products of up to so many labels.
    units : Tensor (d + 1, h), optional
        And hidden units tanh(x w + b), by weights and biases, the last row.

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
    if units is not None and units.shape[1]:
        units = units.to(x)
        value.append(torch.tanh(z @ units[:-1] + units[-1]))
        slope.append((1 - value[-1].square())[..., None] * units[:-1].T / SPREAD)
    return torch.cat(value, dim=1), torch.cat(slope, dim=1)


def related(first: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return how scaled labels (n, g) follow others (n, k): coefficients (f, g) of features, scatter (g,).

    Examples
    --------
    >>> first = torch.linspace(-0.5, 0.5, 9)[:, None]
    >>> relation, scatter = related(first, 0.3 * first)
    >>> bool(scatter < 1e-3)
    True
    """
    value = features(first, RELATION)[0]
    ridge = 1e-6 * len(first) * torch.eye(value.shape[1], dtype=value.dtype)
    relation = torch.linalg.solve(value.T @ value + ridge, value.T @ others)
    return relation, (others - value @ relation).square().mean(0).sqrt()


def independent(table: Mapping[str, NDArray[Any]], names: Sequence[str]) -> list[str]:
    """Return the labels of a table but those that nearly follow from the main ones."""
    main = [name for name in names if name in MAIN]
    others = [name for name in names if name not in MAIN]
    if not main or not others:
        return list(names)
    labels = LabelSet.from_table(table, [*main, *others])
    x = torch.from_numpy(labels.scale(labels.read(table)) - 0.5)
    x = x[torch.isfinite(x).all(dim=1)]
    scatter = related(x[:, : len(main)], x[:, len(main) :])[1] / x[:, len(main) :].std(dim=0)
    return [*main, *(name for name, share in zip(others, scatter, strict=True) if share > FOLLOWS)]


class AnchoredNetwork(SpectralNetwork):
    """A network from labels to observed spectra: that of synthetic ones, times one plus a residual.

    Labels that observed stars are known by come first (coordinates x: scaled labels). Others follow those in
    the synthetic set; their coordinates are how far they are off that, in standard deviations. Errors
    (``uncertainty``, ``modes``) are shares of the flux: how far observed spectra with equal labels differ.

    Parameters
    ----------
    synthetic
        The network from labels to synthetic spectra, which is all that is trained step by step.
    known
        Number k of labels that observed stars are known by; the residual depends on these alone.
    free
        How many of these are fitted without knowing them beforehand; all by default.

    Attributes
    ----------
    units : Tensor (k + 1, h)
        Hidden units of the residual, beside products of labels; usually none.
    mixture, shapes : Tensor (f, r), (r, p)
        The residual: how much of each shape the features of the known labels add.
    doubt : Tensor (f, f)
        Covariance of the coefficients of the features, in units of the variance of a pixel.
    relation, scatter : Tensor (g, d - k), (d - k,)
        The other labels in the synthetic set, by features of the known ones, and their scatter.
    expected, precision : Tensor (k,)
        What the known labels are expected to be in a fit, and how well (0: not at all).
    """

    def __init__(self, synthetic: EmulatorNetwork, known: int, free: int | None = None) -> None:
        super().__init__(synthetic.labels, synthetic.pixels)
        self.synthetic, self.known = synthetic, known
        self.free = known if free is None else free
        others = synthetic.labels - known
        self.units: Tensor
        self.mixture: Tensor
        self.shapes: Tensor
        self.doubt: Tensor
        self.relation: Tensor
        self.scatter: Tensor
        self.expected: Tensor
        self.precision: Tensor
        self.register_buffer("units", torch.zeros(known + 1, 0))
        self.register_buffer("mixture", torch.ones(1, 1))
        self.register_buffer("shapes", torch.zeros(1, self.pixels))
        self.register_buffer("doubt", torch.zeros(1, 1))
        self.register_buffer("relation", torch.zeros(number_of_features(known, RELATION), others))
        self.register_buffer("scatter", torch.zeros(others))
        self.register_buffer("expected", torch.zeros(known))
        self.register_buffer("precision", torch.zeros(known))
        self.uncertainty.fill_(FIRST)

    def replaced(self, **buffers: Tensor) -> Self:
        """Return the same network with other buffers; both share all else."""
        result = copy.copy(self)
        result._buffers = {**self._buffers, **buffers}
        return result

    def without_residual(self) -> Self:
        """Return the network as it is before a residual has been learnt."""
        return self.replaced(
            units=self.units[:, :0],
            mixture=self.mixture.new_ones(1, 1),
            shapes=self.shapes.new_zeros(1, self.pixels),
            doubt=self.doubt.new_zeros(1, 1),
            modes=self.modes[:0],
            uncertainty=torch.full_like(self.uncertainty, FIRST),
        )

    @property
    def degree(self) -> int:
        """How many labels the products have that the residual is a sum of."""
        count = len(self.mixture) - self.units.shape[1]
        return next(n for n in range(count) if number_of_features(self.known, n) == count)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (n, f) of the residual at coordinates (n, d), and derivatives (n, f, k)."""
        return features(x[:, : self.known], self.degree, self.units)

    def labels_at(self, x: Tensor) -> Tensor:
        """Return the scaled labels (n, d) at coordinates (n, d)."""
        first = x[:, : self.known]
        others = features(first, RELATION)[0] @ self.relation.to(x) + x[:, self.known :] * self.scatter.to(x)
        return torch.cat([first, others], dim=1)

    def label_slopes(self, x: Tensor) -> Tensor:
        """Return the derivatives (n, d, d) of scaled labels by coordinates, the last axis."""
        k, slope = self.known, features(x[:, : self.known], RELATION)[1]
        result = torch.eye(self.labels, dtype=x.dtype, device=x.device).repeat(len(x), 1, 1)
        result[:, k:, :k] = torch.einsum("nfk,fo->nok", slope, self.relation.to(x))
        result[:, k:, k:] = torch.diag(self.scatter.to(x))
        return result

    def coordinates(self, labels: Tensor) -> Tensor:
        """Return the coordinates (n, d) of scaled labels (n, d)."""
        first = labels[:, : self.known]
        off = labels[:, self.known :] - features(first, RELATION)[0] @ self.relation.to(labels)
        return torch.cat([first, off / self.scatter.to(labels).clamp(min=1e-6)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return flux (n, p)."""
        flux: Tensor = self.synthetic(self.labels_at(x)) * (1 + self.ratio(x))
        return flux

    def ratio(self, x: Tensor) -> Tensor:
        """Return the residual (n, p): observed over synthetic flux, minus one."""
        return self.features(x)[0] @ self.mixture @ self.shapes

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d) by coordinates."""
        flux, slope = self.synthetic.jacobian(self.labels_at(x))
        slope = slope @ self.label_slopes(x)
        value, by_label = self.features(x)
        ratio = 1 + value @ self.mixture @ self.shapes
        change = (by_label.transpose(1, 2) @ self.mixture @ self.shapes).transpose(1, 2)
        slope = slope * ratio[..., None]
        slope[..., : self.known] += flux[..., None] * change
        return flux * ratio, slope

    def factor(self, x: Tensor) -> Tensor:
        """Return by how much (n,) errors are larger than those of spectra with a known residual."""
        value = self.features(x)[0]
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
        self._relate(train)
        self.points, self.facets = self.coordinates(self.synthetic.points), self.synthetic.facets

    def _relate(self, train: Batches) -> None:
        """Measure how labels are distributed in the synthetic set: the others follow the known ones."""
        rows = [complete_rows(batch)["labels"].double() for batch in _only_synthetic(train)()]
        labels = torch.cat(rows)
        relation, scatter = related(labels[:, : self.known], labels[:, self.known :])
        self.relation, self.scatter = relation.float(), scatter.float()
        if self.free < self.known:
            self.expected[self.free :] = labels[:, self.free : self.known].mean(0)
            self.precision[self.free :] = 1 / labels[:, self.free : self.known].var(0)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # Older models have no hidden units.
        state_dict = {f"{prefix}units": self.units[:, :0], **state_dict}
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
