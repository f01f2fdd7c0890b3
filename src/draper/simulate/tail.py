"""Integrals over equally spaced nodes that begin anywhere between them, as weights of the nodes.

The weights depend smoothly on where the integral begins, so that all planets share their nodes, and all that
is computed there, whatever the height of their clouds.
"""

from __future__ import annotations

from functools import cache
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FIRST = (251 / 720, 299 / 240, 211 / 240, 739 / 720)
"""Weights of the first nodes of an integral that begins at the first: Gregory's rule."""

EULER_MACLAURIN = {0: 0.5, 1: 1 / 12, 3: -1 / 720, 5: 1 / 30240}
"""An integral that begins at a node is the sum over the nodes above, plus these times derivatives there."""

STENCIL, BELOW = 6, 2
"""Number of nodes whose polynomial gives the derivatives, and how many of them lie below the first cell."""


def tail_weights(start: Tensor, nodes: int) -> Tensor:
    """Return the weights (b, L) of an integral over nodes one apart, from places (b, 1) to the last node.

    The integrand is taken to vanish at the last nodes, where there is nothing to begin from.

    Examples
    --------
    >>> place, node = torch.tensor([[3.7]], dtype=torch.float64), torch.arange(40.0, dtype=torch.float64)
    >>> bool((tail_weights(place, 40) @ torch.exp(-node / 2) / 2 - torch.exp(-place / 2)).abs() < 1e-5)
    True
    """
    start = start.clamp(max=nodes - STENCIL - 1)
    cell = start.detach().floor()
    table = torch.from_numpy(_table()).to(start.dtype)[cell[:, 0].long().clamp(max=BELOW)]
    powers = (start - cell) ** torch.arange(STENCIL + 1, dtype=start.dtype)
    near = (table @ powers[:, :, None])[:, :, 0]
    place = torch.arange(nodes) - (cell - BELOW).clamp(min=0).long()
    weights = torch.gather(near, 1, place.clamp(0, STENCIL))
    weights = torch.where(place < 0, 0.0, torch.where(place <= STENCIL, weights, 1.0))
    return torch.cat([weights[:, :-1], weights[:, -1:] / 2], dim=1)


@cache
def _table() -> NDArray[np.float64]:
    """Return the weights (cell, node, power) as polynomials of the place in a cell: cells 0, 1, 2 and above.

    They are those from the lower end of the cell, less the integral up to the place over the polynomial
    through the nodes about it. At the upper end that is not quite what the next cell begins with: the
    difference, times the place in the cell, is added.
    """
    cells = []
    for cell in range(BELOW + 1):
        base = max(cell - BELOW, 0)
        partial = np.zeros((STENCIL + 1, STENCIL + 1))
        partial[:STENCIL, 1:] = (_taylor(cell - base) / np.arange(1, STENCIL + 1)[:, None]).T
        lower, upper = (_from_node(end)[base : base + STENCIL + 1] for end in (cell, cell + 1))
        weights = -partial
        weights[:, 0] += lower
        weights[:, 1] += upper + partial.sum(1) - lower
        cells.append(weights)
    return np.stack(cells)


def _from_node(node: int) -> NDArray[np.float64]:
    """Return the weights (2 STENCIL,) of an integral that begins at one of the first nodes."""
    weights = np.ones(2 * STENCIL)
    if node == 0:
        weights[: len(FIRST)] = FIRST
        return weights
    base = max(node - BELOW, 0)
    weights[: node + 1] = 0
    taylor = _taylor(node - base)
    for order, factor in EULER_MACLAURIN.items():
        weights[base : base + STENCIL] += factor * factorial(order) * taylor[order]
    return weights


def _taylor(node: int) -> NDArray[np.float64]:
    """Return the coefficients (power, node) about a node of the polynomial through values at the stencil."""
    places = np.arange(STENCIL, dtype=np.float64) - node
    return np.asarray(np.linalg.inv(np.vander(places, increasing=True)))
