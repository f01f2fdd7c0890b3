"""The label fit: spectra in, block by block, and estimates out, for any network from labels to flux."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from draper.configs.fit import FitConfig
from draper.data.grid import Grid, merged
from draper.data.labels import Label, LabelSet
from draper.data.masks import read_masked, read_windows
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.fit_result import Fit
from draper.infer.forward import ForwardModel
from draper.infer.limits import Side, limits
from draper.infer.pixels import BOUNDS
from draper.instrument.observed import is_coarser
from draper.instrument.resample import FWHM
from draper.nn.precision import fastest_mode, matmul_mode
from draper.results.estimates import Estimates

ROWS = 1024
"""Stars that are fitted together."""

SAME = 0.01
"""Relative difference of resolving powers that counts as none."""

Note = Callable[[int, int], None]
"""Called with how many stars are done, and how many there are."""


def fitted(
    model: ForwardModel,
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
        The network with its grid and labels.
    spectra
        One exposure of each star, or several with equal ids.
    config
        How to fit.
    note
        Progress.
    models
        Whether the spectra are wanted.
    """
    exposures, fitter, config = ready(model, spectra, config)
    total = len(exposures[0])
    parts: list[Fit] = []
    with matmul_mode(fastest_mode()):
        for rows in blocks(total):
            parts.append(fitter([exposure(one[rows]) for one in exposures], models=models))
            if note is not None:
                note(min(rows.stop, total), total)
    return estimates(model, parts, exposures[0].ids, config), [
        explained(one, parts, number) for number, one in enumerate(exposures) if models
    ]


def limited(
    model: ForwardModel,
    spectra: Spectra | Sequence[Spectra],
    names: Sequence[str],
    level: float,
    side: Side,
    config: FitConfig,
) -> dict[str, NDArray[np.float64]]:
    """Return the limits (n,) of some labels or widths; see :func:`draper.infer.limits.limits`."""
    exposures, fitter, _ = ready(model, spectra, config)
    with matmul_mode(fastest_mode()):
        parts = [
            limits(fitter, [exposure(one[rows]) for one in exposures], names, level, side)
            for rows in blocks(len(exposures[0]))
        ]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def ready(
    model: ForwardModel, spectra: Spectra | Sequence[Spectra], config: FitConfig
) -> tuple[list[Spectra], Fitter, FitConfig]:
    """Return exposures, what fits them, and the options after a look at them."""
    exposures = [spectra] if isinstance(spectra, Spectra) else list(spectra)
    config = matched(model, exposures, config)
    grid = model.grid
    return exposures, Fitter(model.network, grid.vacuum, model.labels, config, ranges(grid)), config


def blocks(total: int) -> list[slice]:
    """Return slices of stars that are fitted together, at least one."""
    return [slice(start, start + ROWS) for start in range(0, max(total, 1), ROWS)]


def matched(model: ForwardModel, exposures: Sequence[Spectra], config: FitConfig) -> FitConfig:
    """Return the options after a look at the data, which must be about the same stars and the same light."""
    if not exposures:
        raise DraperError("there are no spectra to fit")
    first, own = exposures[0], model.grid
    config = with_masks(config, exposures)
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
    if config.resolving_power == "free":
        return config
    return config.replace(resolving_power=kernel(own, first.grid, powers, config.resolving_power))


def kernel(own: Grid, grid: Grid, powers: set[float | None], wanted: float | None) -> float | None:
    """Return the resolving power of what is left to broaden the emulator's spectra by; none if nothing is.

    Parameters
    ----------
    own, grid
        Pixels of the emulator and of the data. Those that are much wider average over the spectrum: a box is
        taken as the Gaussian of its variance.
    powers
        What the files say; all exposures must agree.
    wanted
        What the user says, which comes first.
    """
    known = sorted(power for power in powers if power is not None)
    if wanted is None and known and (known[-1] > known[0] * (1 + SAME) or None in powers):
        raise DraperError(
            "exposures that are fitted together must have one resolving power", given=known,
            hint="broaden the sharper ones, fit them one by one, or say which with resolving_power=",
        )  # fmt: skip
    power, sharpest = wanted or (known[0] if known else None), power_of(own)
    if power is not None and sharpest is not None and power > sharpest * (1 + SAME):
        raise DraperError(
            "the spectra are sharper than what the emulator has learnt", given=f"R = {power:g}",
            expected=f"at most {sharpest:g}", hint="broaden them, or train on spectra of a higher power",
        )  # fmt: skip
    left = 0.0
    if power is not None and (sharpest is None or power < sharpest * (1 - SAME)):
        left = power**-2 - (0.0 if sharpest is None else sharpest**-2)
    if is_coarser(own, grid):
        boxes = (float(np.median(one.step / one.vacuum)) for one in (grid, own))
        wide, narrow = (FWHM**2 * box**2 / 12 for box in boxes)
        left += wide - narrow
    return left**-0.5 if left > 0 else None


def with_masks(config: FitConfig, exposures: Sequence[Spectra]) -> FitConfig:
    """Return the options with the ranges that files tell; masks of pixels are those of the first exposure."""
    grid, medium, half_width = exposures[0].grid, config.mask_medium, config.half_width
    windows = list(config.windows)
    for path in config.windows_files:
        windows += read_windows(path, medium=medium, half_width=half_width)
    masked = list(config.masked)
    for path in config.masked_files:
        masked += read_masked(path, grid, medium=medium, half_width=half_width)
    if config.windows_files:
        ends = [one.grid.vacuum[[0, -1]] for one in exposures]
        windows = [pair for pair in merged(windows) if any(pair[1] >= a and pair[0] <= b for a, b in ends)]
        if not windows:
            raise DraperError(
                "no line of the files is in the spectra", given=", ".join(config.windows_files),
                expected=repr(grid),
            )  # fmt: skip
    return config.replace(windows=tuple(windows), masked=tuple(masked), windows_files=(), masked_files=())


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


def estimates(
    model: ForwardModel, parts: Sequence[Fit], ids: NDArray[np.str_], config: FitConfig
) -> Estimates:
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


def described(model: ForwardModel, names: Sequence[str], config: FitConfig) -> LabelSet:
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
