"""Spectra through the emulator's fit, block by block, and back as estimates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from draper.configs.fit import FitConfig
from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.exposures import Exposure
from draper.infer.fit import BOUNDS, Fitter
from draper.infer.outcome import Fit
from draper.nn.precision import fastest_mode, matmul_mode
from draper.results.estimates import Estimates

if TYPE_CHECKING:
    from draper.models.emulator import Emulator

ROWS = 1024
"""Stars that are fitted together."""

SAME = 0.01
"""Relative difference of resolving powers that counts as none."""

Note = Callable[[int, int], None]
"""Called with how many stars are done, and how many there are."""


def fitted(
    model: Emulator,
    spectra: Spectra | Sequence[Spectra],
    config: FitConfig,
    note: Note | None = None,
    *,
    models: bool = False,
) -> tuple[Estimates, list[Spectra]]:
    """Return labels, and for each exposure the spectra that go with them on the data's pixels, if wanted.

    Parameters
    ----------
    model
        The emulator.
    spectra
        One exposure of each star, or several with equal ids.
    config
        How to fit.
    note
        Progress.
    models
        Whether the spectra are wanted.
    """
    exposures = [spectra] if isinstance(spectra, Spectra) else list(spectra)
    config = matched(model, exposures, config)
    grid = model.own_grid
    fitter = Fitter(model.network, grid.vacuum, model.labels, config, ranges(grid))
    total = len(exposures[0])
    parts: list[Fit] = []
    with matmul_mode(fastest_mode()):
        for start in range(0, max(total, 1), ROWS):
            rows = slice(start, start + ROWS)
            parts.append(fitter([exposure(one[rows]) for one in exposures], models=models))
            if note is not None:
                note(min(start + ROWS, total), total)
    return estimates(model, parts, exposures[0].ids, config), [
        explained(one, parts, number) for number, one in enumerate(exposures) if models
    ]


def matched(model: Emulator, exposures: Sequence[Spectra], config: FitConfig) -> FitConfig:
    """Return the options after a look at the data, which must be about the same stars and the same light."""
    if not exposures:
        raise DraperError("there are no spectra to fit")
    first, own = exposures[0], model.own_grid
    powers = set()
    for one in exposures:
        if not one.grid.is_spectral:
            raise DraperError("labels are fitted to spectra", given=repr(one.grid), expected="wavelengths")
        if not np.array_equal(one.ids, first.ids):
            raise DraperError(
                "exposures that are fitted together are of the same stars",
                given=f"{len(one)} ids from {one.ids[:1]}", expected=f"{len(first)} ids from {first.ids[:1]}",
                hint="give them the same ids in the same order",
            )  # fmt: skip
        if one.grid.vacuum[0] > own.vacuum[-1] or one.grid.vacuum[-1] < own.vacuum[0]:
            raise DraperError(
                "the spectra are nowhere where the emulator is", given=repr(one.grid), expected=repr(own)
            )
        powers.add(power_of(one.grid))
    power, sharpest = powers.pop(), power_of(own)
    if config.resolving_power == "free":
        return config
    if config.resolving_power is not None:
        power = config.resolving_power
    elif powers or power is None:
        return config
    if sharpest is not None and power >= sharpest * (1 - SAME):
        return config.replace(resolving_power=None)
    left = power**-2 - (0 if sharpest is None else sharpest**-2)
    return config.replace(resolving_power=left**-0.5)


def power_of(grid: Grid) -> float | None:
    """Return the resolving power of a grid, its median where it changes."""
    return None if grid.resolving_power is None else float(np.median(grid.resolving_power))


def exposure(spectra: Spectra) -> Exposure:
    """Return spectra as the fit takes them; pieces between gaps have a continuum each."""
    return Exposure(spectra.grid.vacuum, spectra.flux, spectra.ivar, ranges(spectra.grid))


def ranges(grid: Grid) -> tuple[tuple[float, float], ...]:
    """Return the first and last pixel of each piece of a grid."""
    pieces = (grid.vacuum[piece] for piece in grid.segments())
    return tuple((float(piece[0]), float(piece[-1])) for piece in pieces)


def estimates(model: Emulator, parts: Sequence[Fit], ids: NDArray[np.str_], config: FitConfig) -> Estimates:
    """Return the results of all blocks in one."""
    names = parts[0].names
    covariance = np.concatenate([part.covariance for part in parts])
    conditional = np.concatenate([part.conditional for part in parts])
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    columns |= {f"{name}_conditional_err": conditional[:, number] for number, name in enumerate(names)}
    return Estimates(
        described(model, names, config),
        np.concatenate([part.values for part in parts]),
        np.sqrt(np.einsum("nii->ni", covariance)),
        ids,
        flags={name: np.concatenate([part.flags[name] for part in parts]) for name in parts[0].flags},
        covariance=covariance,
        columns=columns,
    )


def described(model: Emulator, names: Sequence[str], config: FitConfig) -> LabelSet:
    """Return what is free in a fit, with units and ranges."""
    most = config.rv_limit
    return LabelSet(
        model.labels[name]
        if name in model.labels.names
        else Label(name, "km/s", -most, most)
        if name.startswith("rv")
        else Label(name, "" if name == "resolving_power" else "km/s", *BOUNDS[name])
        for name in names
    )


def explained(spectra: Spectra, parts: Sequence[Fit], number: int) -> Spectra:
    """Return the model spectra of an exposure, and weights that tell which pixels were used."""
    return Spectra(
        spectra.grid,
        np.concatenate([part.models[number] for part in parts]),
        (spectra.ivar > 0).astype(np.float32),
        spectra.table,
        spectra.quantity,
        spectra.unit,
        meta={"source": "emulator's best fit"},
    )
