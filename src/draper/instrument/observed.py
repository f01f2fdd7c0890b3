"""Model spectra at an instrument: rotation, macroturbulence, resolving power and velocity, star by star."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.resample import COARSER
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.broadening import broaden, velocity_step
from draper.instrument.doppler import doppler_factor
from draper.instrument.resample import cubic
from draper.instrument.resolution import is_lower, require_reachable, resolving_power_of

ROWS = 256
"""Spectra that are broadened together."""


@dataclass(frozen=True)
class Widths:
    """Broadening and velocities of the spectra of n stars.

    Attributes
    ----------
    given
        ``vsini``, ``vmac`` [km/s], ``resolving_power`` and ``rv`` [km/s], each (n,).
    """

    given: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, n: int, **given: ArrayLike | None) -> Self:
        """Return widths of one value for all stars, or one for each of n stars."""
        columns = {}
        for name, values in given.items():
            if values is None:
                continue
            array = np.asarray(values, dtype=np.float64)
            if array.shape not in ((), (1,), (n,)):
                raise DraperError(
                    f"{name} has one value, or one for each spectrum",
                    given=f"shape {array.shape}",
                    expected=f"({n},)",
                )
            if not np.isfinite(array).all() or (name != "rv" and (array < 0).any()):
                raise DraperError(
                    f"{name} must be finite" + ("" if name == "rv" else " and not negative"), given=str(array)
                )
            columns[name] = np.full(n, array)
        return cls(columns)

    def __getitem__(self, rows: slice) -> Widths:
        return Widths({name: values[rows] for name, values in self.given.items()})


def observed(
    flux: Tensor, error: Tensor, source: Grid, widths: Widths, target: Grid | None = None
) -> tuple[Tensor, Tensor, Tensor, Grid]:
    """Broaden, shift and resample spectra at rest.

    Parameters
    ----------
    flux, error : Tensor (n, p)
        On the grid ``source``. Errors move with their pixels, and broadening does not reduce them: those of a
        model are alike in neighbouring pixels.
    widths
        Broadening and velocities; ``resolving_power`` is that of the result, by default the target's.
    target
        Pixels of the result, not much coarser than the source; by default the source.

    Returns
    -------
    Tensor (n, q), Tensor (n, q), Tensor (n, q) bool, Grid
        Flux, errors, which pixels the source covers, and the grid with its resolving power.
    """
    given = dict(widths.given)
    grid = source if target is None else target
    own = None if target is None else resolving_power_of(target)
    if own is not None:
        given.setdefault("resolving_power", np.full(len(flux), own))
    power = given.get("resolving_power")
    if power is not None and len(power):
        # The grid has the resolving power of the result, if it is the same for all spectra.
        grid = replace(grid, resolving_power=float(power[0]) if np.ptp(power) == 0 else None)
    elif grid is not source and source.resolving_power is not None:
        grid = replace(grid, resolving_power=resolving_power_of(source))
    given = _missing_changes(source, given)
    if not given and (target is None or target.matches(source)):
        return flux, error, torch.ones_like(flux, dtype=torch.bool), grid
    rv = torch.tensor(given.pop("rv", np.zeros(1)), device=flux.device)
    at = torch.log(torch.tensor(grid.vacuum, device=flux.device)) - torch.log(doppler_factor(rv))[:, None]
    at = at.expand(len(flux), -1)
    result = torch.zeros(len(flux), len(grid), dtype=torch.float64, device=flux.device)
    result_error, reached = torch.zeros_like(result), torch.zeros_like(result, dtype=torch.bool)
    tensors: dict[str, Any] = {
        name: torch.tensor(values, device=flux.device) for name, values in given.items()
    }
    for piece in source.segments():
        x = torch.log(torch.tensor(source.vacuum[piece], device=flux.device))
        if len(x) < 3:
            continue
        even, values = x, flux[:, piece].double()
        if tensors:
            count = int(torch.ceil((x[-1] - x[0]) / torch.diff(x).min() - 1e-6)) + 1
            even = torch.linspace(float(x[0]), float(x[-1]), count, dtype=x.dtype, device=x.device)
            values, _ = cubic(values, x, even)
            values = broaden(values, velocity_step(even.exp()), **tensors)
        moved, inside = cubic(values, even, at)
        moved_error, _ = cubic(error[:, piece].double(), x, at)
        result = torch.where(inside, moved, result)
        result_error = torch.where(inside, moved_error.abs(), result_error)
        reached |= inside
    return result.to(flux.dtype), result_error.to(flux.dtype), reached, grid


def at_resolving_power(spectra: Spectra, power: float) -> Spectra:
    """Return spectra that are broadened to a lower resolving power; weights stay as they are.

    Bad pixels are left out of the means. Broadening makes the noise of neighbouring pixels alike, so that
    fits with the old weights, which count each pixel once, have the right errors and a low chi2.

    Examples
    --------
    >>> sharp = Spectra(Grid.linear(5000, 5100, 0.1, medium="vacuum"), [[1.0] * 500 + [0.0] + [1.0] * 500])
    >>> round(float(at_resolving_power(sharp, 2000.0).flux.min()), 2)
    0.96
    """
    grid = replace(spectra.grid, resolving_power=power)
    parts = [spectra.flux[:0]]
    for start in range(0, len(spectra), ROWS):
        rows = spectra[start : start + ROWS]
        good = torch.from_numpy(rows.ivar > 0)
        kept = [torch.where(good, torch.from_numpy(np.array(rows.flux)), 0.0), good.float()]
        widths = Widths.of(len(good), resolving_power=power)
        total, share = (observed(each, torch.zeros_like(each), spectra.grid, widths)[0] for each in kept)
        parts.append((total / share.clamp(min=0.1)).numpy())
    return replace(spectra, grid=grid, flux=np.concatenate(parts))


def is_coarser(source: Grid, target: Grid) -> bool:
    """Return whether the pixels of a target are so wide that they average over those of the source."""
    return bool(np.median(target.step) > COARSER * np.median(source.step))


def only_resamples(source: Grid, widths: Widths, target: Grid) -> bool:
    """Return whether spectra on a target differ from those of the source in their pixels alone."""
    given = dict(widths.given)
    own = resolving_power_of(target)
    if own is not None:
        given.setdefault("resolving_power", np.full(1, own))
    return not (target.matches(source) or _missing_changes(source, given))


def _missing_changes(source: Grid, given: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return changes that are not zero; the resolving power is that of the Gaussian to broaden by."""
    changes = {name: values for name, values in given.items() if np.any(values != 0)}
    power, own = changes.get("resolving_power"), resolving_power_of(source)
    if power is None or own is None:
        return changes
    require_reachable(float(power.max()), own)
    if not np.any(is_lower(power, own)):
        del changes["resolving_power"]
    else:
        left = 1 / power**2 - 1 / own**2
        changes["resolving_power"] = 1 / np.sqrt(np.maximum(left, 1e-6 / own**2))
    return changes
