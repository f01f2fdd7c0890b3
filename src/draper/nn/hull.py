"""Which points lie inside the cloud of the training points, two coordinates at a time."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

SLACK = 1e-5
"""How far beyond a facet a point still counts as inside; coordinates are of order one, in float32."""

CLEARLY = 3.0
"""How many sigma beyond a facet a measured point must be to count as outside."""

ROWS, PAIRS = 64, 4096
"""Points that are compared with the half-planes at once, and pairs of the two whose errors are."""


def facets(points: Tensor) -> Tensor:
    """Return the half-planes (f, d + 1) of the convex hulls of points (m, d) in all pairs of coordinates.

    A point x is inside where ``normal @ x + offset <= 0`` for every row (normal, offset). Hulls are of pairs,
    since in ten dimensions nearly every one of a thousand points lies outside the hull of the others.
    """
    from scipy.spatial import ConvexHull, QhullError

    cloud = points.double().cpu().numpy()
    d = cloud.shape[1]
    parts = []
    for pair in combinations(range(d), 2):
        try:
            equations = np.unique(ConvexHull(cloud[:, pair]).equations.round(6), axis=0)
        except (QhullError, ValueError):
            continue  # fewer than three points, or all on a line: the box must suffice
        rows = np.zeros((len(equations), d + 1))
        rows[:, [*pair, d]] = equations
        parts.append(rows)
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, d + 1))).float()


def outside(x: Tensor, planes: Tensor) -> Tensor:
    """Return which points (n, d) lie beyond any of the half-planes (f, d + 1)."""
    # Few points at a time stay in the processor's cache, with their distances from all half-planes.
    return torch.cat(
        [(rows @ planes[:, :-1].T + planes[:, -1] > SLACK).any(1) for rows in torch.split(x, ROWS)]
    )


def beyond(x: Tensor, covariance: Tensor, planes: Tensor) -> Tensor:
    """Return which measured points (n, d) lie beyond any of the half-planes (f, d + 1), by more than errors.

    ``covariance`` (n, d, d) is that of the points. What was hardly measured is never beyond.
    """
    normal, offset = planes[:, :-1].to(x), planes[:, -1].to(x)
    found = torch.zeros(len(x), dtype=torch.bool)
    for rows in torch.split(torch.arange(len(x)), ROWS):
        # Most points are inside of most half-planes, whatever their errors.
        distance = x[rows] @ normal.T + offset
        for pairs in torch.split((distance > SLACK).nonzero(), PAIRS):
            row, plane = rows[pairs[:, 0]], normal[pairs[:, 1]]
            variance = ((plane[:, None] @ covariance[row])[:, 0] * plane).sum(1).clamp(min=0)
            limit = SLACK + CLEARLY * variance.sqrt().nan_to_num(torch.inf)
            found[row[distance[pairs[:, 0], pairs[:, 1]] > limit]] = True
    return found
