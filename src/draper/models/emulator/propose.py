"""Which synthetic spectra to compute next: those that would lower an emulator's error most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.data.labels import LabelSet
from draper.errors import DraperError
from draper.models.emulator.columns import complete_columns, draw_labels
from draper.nn.emulator import EmulatorNetwork
from draper.nn.spectral import SpectralNetwork

CANDIDATES = 4096
"""Labels among which to choose, or twice as many as are chosen, where there are so many."""

WANTED = 1024
"""Labels at which the error is to be low."""


def propose(
    network: SpectralNetwork,
    labels: LabelSet,
    n: int,
    *,
    among: Mapping[str, ArrayLike] | None = None,
    stars: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """Return columns (n,) of labels; see :meth:`draper.models.emulator.model.Emulator.propose`."""
    if not isinstance(network, EmulatorNetwork):
        raise DraperError(
            "this architecture does not know how its error would change",
            given=type(network).__name__,
            expected="radial or perceptron",
        )
    most = max(CANDIDATES, 2 * n)
    table = (
        draw_labels(network.points, labels, most, seed) if among is None else complete_columns(labels, among)
    )
    rows, pool = usable(network, labels, table, most, seed)
    if len(pool) < n:
        raise DraperError(
            "there are fewer labels to choose from than are asked for",
            given=f"n={n}",
            expected=f"at most {len(pool)}, the rows within the ranges of the labels",
        )
    wanted = pool
    if stars is not None:
        wanted = usable(network, labels, complete_columns(labels, stars), WANTED, seed)[1]
    some = torch.randperm(len(wanted), generator=torch.Generator().manual_seed(seed))[:WANTED]
    with torch.no_grad():
        chosen = rows[best(network, pool, wanted[some.to(wanted.device)], n).numpy()]
    return {name: column[chosen] for name, column in table.items()}


def usable(
    network: SpectralNetwork, labels: LabelSet, table: Mapping[str, NDArray[Any]], most: int, seed: int
) -> tuple[NDArray[np.int64], Tensor]:
    """Return rows (m,) within the ranges of the labels, and their scaled labels (m, d).

    Of more than ``most``, some are chosen at random.
    """
    values = labels.read(table)
    rows = np.flatnonzero(labels.inside(values))
    if not len(rows):
        raise DraperError(
            "no row of the table lies within the ranges of the labels",
            given=f"{len(values)} rows",
            expected=repr(labels),
        )
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    x = torch.from_numpy(labels.scale(values[rows]) - 0.5).float()
    return rows, x.to(network.uncertainty.device)


def best(network: EmulatorNetwork, among: Tensor, wanted: Tensor, n: int) -> Tensor:
    """Return the numbers (n,) of those of some labels (m, d) that would lower the error most, best first.

    The error is the mean variance of the flux at the ``wanted`` labels (k, d) by the network's
    :meth:`~draper.nn.emulator.EmulatorNetwork.posterior`, as that of one Gaussian process: each choice counts
    with all that were made before. That training on more spectra changes the network itself is not counted.
    """
    own, far = (network.posterior(among, labels).double() for labels in (among, wanted))
    if not bool((far != 0).any()):
        raise DraperError(
            "this emulator does not know where it is uncertain",
            given="a network that was trained elsewhere",
            hint="train one of your own on its spectra: model.distil()",
        )
    noise, left = network.posterior_noise, torch.ones(len(among), dtype=torch.bool, device=own.device)
    chosen: list[int] = []
    for _ in range(n):
        gain = far.square().sum(1) / (own.diagonal().clamp(min=0) + noise)
        number = int(torch.where(left, gain, -torch.inf).argmax())
        size = own[number, number].clamp(min=0) + noise
        column, row = own[number] / size.sqrt(), far[number] / size.sqrt()
        own.addr_(column, column, alpha=-1)
        far.addr_(column, row, alpha=-1)
        left[number] = False
        chosen.append(number)
    return torch.tensor(chosen, dtype=torch.int64)
