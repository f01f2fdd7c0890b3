"""Model spectra as they would be seen: rotation, macroturbulence, resolution and velocity, star by star."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.resample import COARSER
from draper.errors import DraperError
from draper.instrument.broadening import broaden, velocity_step
from draper.instrument.doppler import doppler_factor
from draper.instrument.resample import cubic
from draper.instrument.resolution import is_lower, require_reachable, resolving_power_of


@dataclass(frozen=True)
class Widths:
    """What happens to the spectra of n stars; what is left out does not happen.

    Attributes
    ----------
    given
        ``vsini``, ``vmac`` [km/s], ``resolving_power`` and ``rv`` [km/s], each (n,).
    """

    given: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, n: int, **given: ArrayLike | None) -> Self:
        """Take one value for all, or one for each of n stars."""
        held = {}
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
                raise DraperError(f"{name} is a finite number that is not negative", given=str(array))
            held[name] = np.full(n, array)
        return cls(held)

    def __getitem__(self, rows: slice) -> Widths:
        return Widths({name: values[rows] for name, values in self.given.items()})


def observed(
    flux: Tensor, error: Tensor, source: Grid, widths: Widths, target: Grid | None = None
) -> tuple[Tensor, Tensor, Tensor, Grid]:
    """Broaden and shift spectra at rest, and bring them onto other pixels.

    Parameters
    ----------
    flux, error : Tensor (n, p)
        On the grid ``source``. Errors are moved with their pixels, and not made smaller by broadening, since
        those of a model are alike in neighbouring pixels.
    widths
        By what; ``resolving_power`` is that of the result. It is the target's unless given, if that has one.
    target
        Pixels of the result, not much coarser than the source; the source unless given.

    Returns
    -------
    Tensor (n, q), Tensor (n, q), Tensor (n, q) bool, Grid
        Flux, errors, which pixels the source reaches, and the grid with its resolving power.
    """
    given = dict(widths.given)
    grid = source if target is None else target
    own = None if target is None else resolving_power_of(target)
    if own is not None:
        given.setdefault("resolving_power", np.full(len(flux), own))
    power = given.get("resolving_power")
    if power is not None and len(power):
        # Pixels alone do not change the power: it is what was asked for, where all asked for the same.
        grid = replace(grid, resolving_power=float(power[0]) if np.ptp(power) == 0 else None)
    elif grid is not source and source.resolving_power is not None:
        grid = replace(grid, resolving_power=resolving_power_of(source))
    given = _missing_changes(source, given)
    if not given and (target is None or target.matches(source)):
        return flux, error, torch.ones_like(flux, dtype=torch.bool), grid
    rv = torch.tensor(given.pop("rv", np.zeros(1)), device=flux.device)
    at = torch.log(torch.tensor(grid.vacuum, device=flux.device)) - torch.log(doppler_factor(rv))[:, None]
    at = at.expand(len(flux), -1)
    made, made_error = (
        torch.zeros(len(flux), len(grid), dtype=torch.float64, device=flux.device) for _ in "fe"
    )
    reached = torch.zeros_like(made, dtype=torch.bool)
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
        made = torch.where(inside, moved, made)
        made_error = torch.where(inside, moved_error.abs(), made_error)
        reached |= inside
    return made.to(flux.dtype), made_error.to(flux.dtype), reached, grid


def is_coarser(source: Grid, target: Grid) -> bool:
    """Return whether the pixels of a target are so wide that they average over those of the source."""
    return bool(np.median(target.step) > COARSER * np.median(source.step))


def are_pixels_alone(source: Grid, widths: Widths, target: Grid) -> bool:
    """Return whether spectra on a target differ from those of the source in nothing but where pixels are."""
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
