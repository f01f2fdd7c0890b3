"""Which synthetic spectra to compute next: those that would lower an emulator's error most."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import qmc
from torch import Tensor

from draper.data.labels import LabelSet, columns
from draper.errors import DraperError, option_text
from draper.nn.emulator import EmulatorNetwork
from draper.nn.hull import outside

CANDIDATES = 4096
"""Labels among which to choose, if no table is given."""

WANTED = 1024
"""Labels at which the error is to be low."""

DRAWN = 2**18
"""Largest number of labels that are drawn in the box, to find some inside the cloud of training spectra."""


def candidates(
    network: EmulatorNetwork, labels: LabelSet, table: Mapping[str, ArrayLike] | None, seed: int, limit: int
) -> Tensor:
    """Return scaled labels (m, d) of a table, or even ones inside the cloud of the training spectra.

    There are at most ``limit`` of the latter; rows of a table that lie outside the box do not count.
    """
    if table is not None:
        values = columns(table, labels.names)
        inside = np.isfinite(values).all(axis=1) & labels.inside(values)
        if not inside.any():
            raise DraperError(
                "no row of the table lies within the ranges of the labels",
                given=f"{len(values)} rows",
                expected=repr(labels),
            )
        return torch.from_numpy(labels.scale(values[inside]) - 0.5).float()
    unit = qmc.Sobol(len(labels), seed=seed).random(DRAWN).astype(np.float32)
    x = torch.from_numpy(unit - 0.5)
    return x[~outside(x, network.facets)][:limit]


def best(network: EmulatorNetwork, among: Tensor, wanted: Tensor, n: int) -> Tensor:
    """Return the numbers (n,) of those of some labels (m, d) that would lower the error most, best first.

    The error is the mean variance of the flux at the ``wanted`` labels (k, d), as the network's own Gaussian
    process has it: each choice counts with all that were made before. How a network would be trained anew on
    more spectra is not taken into account.
    """
    with torch.no_grad():
        own = network.posterior(among, among).double()
        far = network.posterior(among, wanted).double()
        ridge = network.posterior_noise
        left = torch.ones(len(among), dtype=torch.bool)
        chosen = []
        for _ in range(n):
            gain = far.square().sum(1) / (own.diagonal() + ridge)
            number = int(torch.where(left, gain, -torch.inf).argmax())
            size = own[number, number] + ridge
            column, row = own[number].clone(), far[number].clone()
            own -= column[:, None] * (column / size)
            far -= column[:, None] * (row / size)
            left[number] = False
            chosen.append(number)
    return torch.tensor(chosen, dtype=torch.int64)


def propose(
    network: EmulatorNetwork,
    labels: LabelSet,
    n: int,
    *,
    among: Mapping[str, ArrayLike] | None = None,
    stars: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return columns (n,) of labels; see :meth:`draper.models.emulator.model.Emulator.propose`."""
    pool = candidates(network, labels, among, seed, max(CANDIDATES, 2 * n))
    if len(pool) < n:
        raise DraperError(
            "there are fewer labels to choose from than are asked for",
            given=f"n={n}",
            expected=f"at most {len(pool)}",
            hint=f"give a longer table with {option_text('among', 'TABLE')}" if among is not None else "",
        )
    wanted = candidates(network, labels, among if stars is None else stars, seed + 1, WANTED)
    some = np.random.default_rng(seed).permutation(len(wanted))[:WANTED]
    chosen = pool[best(network, pool, wanted[some], n)]
    values = labels.unscale(chosen.double().numpy() + 0.5)
    return dict(zip(labels.names, values.T, strict=True))
