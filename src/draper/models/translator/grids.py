"""One grid for synthetic and observed spectra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from draper.data.grid import Grid
from draper.data.resample import resample
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.observed import at_resolving_power
from draper.instrument.resolution import is_lower, resolving_power_of


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
