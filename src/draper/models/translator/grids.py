"""One grid for synthetic and observed spectra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from draper.data.grid import Grid
from draper.data.resample import resample
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.observed import Widths
from draper.instrument.observed import observed as observed_at
from draper.instrument.resolution import is_lower, resolving_power_of

ROWS = 256
"""Spectra that are broadened together."""


def overlap(synthetic: Grid, observed: Grid) -> Grid:
    """Return those pixels of the observed grid that lie in the range of the synthetic one.

    Examples
    --------
    >>> computed = Grid.linear(5000, 5010, 0.5, medium="vacuum")
    >>> overlap(computed, Grid.linear(4996, 5008, 2, medium="vacuum")).vacuum
    array([5000., 5002., 5004., 5006., 5008.])
    """
    low, high = synthetic.bounds[0, 0], synthetic.bounds[-1, 1]
    inside = (observed.vacuum >= low) & (observed.vacuum <= high)
    if not inside.any():
        raise DraperError(
            "synthetic and observed spectra do not overlap",
            given=f"synthetic: {synthetic!r}",
            expected=f"observed: {observed!r}",
        )
    return observed if inside.all() else observed[np.flatnonzero(inside)]


def on_common_grid(
    synthetic: Spectra, observed: Spectra, *, broaden: bool = False
) -> tuple[Spectra, Spectra]:
    """Return both sets on the observed pixels that the synthetic spectra cover.

    Synthetic spectra are averaged or interpolated. With ``broaden`` they also get the resolving power of the
    observed ones, if that is known and lower; else it need not be the same, since a translation changes it.
    """
    target = overlap(synthetic.grid, observed.grid)
    power, own = resolving_power_of(observed.grid), resolving_power_of(synthetic.grid)
    if broaden and power is not None and (own is None or bool(is_lower(power, own))):
        synthetic = at_resolving_power(synthetic, power)
    return (
        on_pixels_of(target, resample(synthetic, target)),
        on_pixels_of(target, resample(observed, target)),
    )


def on_pixels_of(grid: Grid, spectra: Spectra) -> Spectra:
    """Return spectra with a grid of equal pixels, whose resolving power may differ; others as they are."""
    return replace(spectra, grid=grid) if spectra.grid.matches(grid) else spectra


def at_resolving_power(spectra: Spectra, power: float) -> Spectra:
    """Return spectra that are broadened to a lower resolving power; weights stay as they are.

    Examples
    --------
    >>> sharp = Spectra(Grid.linear(5000, 5100, 0.1, medium="vacuum"), [[1.0] * 500 + [0.0] + [1.0] * 500])
    >>> round(float(at_resolving_power(sharp, 2000.0).flux.min()), 2)
    0.96
    """
    parts = []
    for start in range(0, len(spectra), ROWS):
        flux = torch.from_numpy(np.array(spectra.flux[start : start + ROWS]))
        widths = Widths.of(len(flux), resolving_power=power)
        parts.append(observed_at(flux, torch.zeros_like(flux), spectra.grid, widths)[0].numpy())
    grid = replace(spectra.grid, resolving_power=power)
    return replace(spectra, grid=grid, flux=np.concatenate([spectra.flux[:0], *parts]))
