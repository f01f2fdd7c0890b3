"""Random instruments: which bins a spectrum has, how wide they are, and their error bars.

A network that is to serve any instrument must have seen many. Places are counted in pixels of the fine grid,
0 at its lower end, and may be fractions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SEGMENTS = 3
"""Most ranges that a random instrument joins, such as a spectrograph and photometric bands."""

SEGMENT_BINS = 50
"""Most bins of one range."""

WIDEST = 8.0
"""Width of the widest random bins [pixels]."""

PRESETS = 0.5
"""Share of spectra that are observed with one of the instruments known by name, or on the whole grid."""

DROPPED = 0.4
"""Share of spectra that lack some of their bins."""

SLOPE, JUMP = 0.4, 0.4
"""Scatter of the logarithm of the errors: from the one end of an instrument to the other, between ranges."""

GROUP = 8
"""Neighbouring spectra of a training batch that share their bins: this halves the time of a step."""

NUMBERS = 4 + 5 * SEGMENTS
"""Random numbers that choose an instrument."""


class Design(NamedTuple):
    """Instruments of b spectra.

    Attributes
    ----------
    edges : Tensor (b, m, 2)
        Lower and upper ends of the bins [pixels].
    sigma : Tensor (b, m)
        1-sigma errors; infinite where there is no bin.
    group : int
        Number of neighbouring spectra that have the same bins.
    """

    edges: Tensor
    sigma: Tensor
    group: int = 1


def bins_of(presets: Tensor) -> int:
    """Return the number of bins that every design is padded to, for known instruments (k, m, 2)."""
    return max(SEGMENTS * SEGMENT_BINS, presets.shape[1])


def random_designs(
    numbers: Tensor,
    kept: Tensor,
    presets: Tensor,
    pixels: int,
    errors: tuple[float, float],
    group: int = GROUP,
) -> Design:
    """Return instruments that follow from random numbers, with errors of log-uniform size.

    Parameters
    ----------
    numbers : Tensor (b, NUMBERS)
        Uniform in 0 to 1.
    kept : Tensor (b, m)
        Uniform in 0 to 1, one for each bin.
    presets : Tensor (k, n, 2)
        Ends of the bins of known instruments; NaN where there is none.
    pixels
        Of the fine grid.
    errors
        Smallest and largest typical error of a bin.
    group
        Number of neighbouring spectra that share their bins.
    """
    level, fraction, slope = numbers[:, :3].unbind(1)
    shared = numbers[::group].repeat_interleave(group, dim=0)[: len(numbers)]
    kind = shared[:, 3]
    count = kept.shape[1]
    parts, jumps = [], []
    for number in range(SEGMENTS):
        length, place, width, jump, exists = shared[:, 4 + 5 * number : 9 + 5 * number].unbind(1)
        extent = pixels ** (1 - length * (1 - math.log(2) / math.log(pixels + 1)))
        low = place * (pixels - extent)
        bins = (extent / WIDEST**width).ceil().clamp(1, SEGMENT_BINS)
        steps = torch.arange(SEGMENT_BINS + 1, device=numbers.device) / bins[:, None]
        ends = low[:, None] + extent[:, None] * steps
        missing = (steps[:, 1:] > 1 + 1e-6) | (exists > 0.5**number)[:, None]
        part = torch.stack([ends[:, :-1], ends[:, 1:]], dim=2)
        parts.append(torch.where(missing[..., None], math.nan, part))
        jumps.append((JUMP * torch.special.ndtri(jump.clamp(1e-6, 1 - 1e-6))).repeat(SEGMENT_BINS, 1).T)
    edges = _padded(torch.cat(parts, dim=1), count)
    jump = torch.nn.functional.pad(torch.cat(jumps, dim=1), (0, count - SEGMENTS * SEGMENT_BINS))
    chosen = (kind / PRESETS * len(presets)).long()
    is_preset = chosen < len(presets)
    known = _padded(presets, count)[chosen.clamp(max=len(presets) - 1)]
    edges = torch.where(is_preset[:, None, None], known, edges)
    jump = torch.where(is_preset[:, None], 0.0, jump)
    drop = (fraction / DROPPED).clamp(max=1.0)[:, None]  # 1 keeps every bin
    exists = ~edges[..., 0].isnan() & (kept < 0.15 + 0.85 * drop)
    exists[:, 0] |= ~exists.any(1) & ~edges[:, 0, 0].isnan()
    tilt = (
        SLOPE * torch.special.ndtri(slope.clamp(1e-6, 1 - 1e-6))[:, None] * (2 * edges[..., 0] / pixels - 1)
    )
    low_error, high_error = errors
    size = low_error * (high_error / low_error) ** level
    sigma = size[:, None] * torch.exp(tilt + jump)
    return Design(edges.nan_to_num(nan=0.0), torch.where(exists, sigma, math.inf), group)


def _padded(edges: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(edges, (0, 0, 0, count - edges.shape[1]), value=math.nan)


def sums_between(cumulative: Tensor, edges: Tensor) -> Tensor:
    """Return sums (b, m, k) between places of cumulative sums (b or 1, p + 1, k) along the pixels.

    Parameters
    ----------
    cumulative
        Sum over the pixels below each place.
    edges : Tensor (b, m, 2)
        Ends of the bins [pixels].
    """
    places = edges.flatten(1).clamp(0, cumulative.shape[1] - 1)
    below = places.floor().clamp(max=cumulative.shape[1] - 2)
    share = (places - below)[..., None].to(cumulative.dtype)
    index = below.long()
    if len(cumulative) == 1:
        lower, upper = cumulative[0][index], cumulative[0][index + 1]
    else:
        wide = index[..., None].expand(-1, -1, cumulative.shape[2])
        lower, upper = cumulative.gather(1, wide), cumulative.gather(1, wide + 1)
    value = torch.lerp(lower, upper, share).reshape(*edges.shape, -1)
    return value[:, :, 1] - value[:, :, 0]
