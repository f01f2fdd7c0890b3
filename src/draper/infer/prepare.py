"""Checks of spectra and options before a fit: same stars, overlap, resolving power, windows and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from draper.configs.fit import FitConfig
from draper.data.grid import Grid, merged
from draper.data.labels import Label, LabelSet
from draper.data.masks import read_masked, read_windows
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.fit import Fitter
from draper.infer.forward import ForwardModel
from draper.infer.pixels import BOUNDS
from draper.instrument.observed import at_resolving_power, is_coarser
from draper.instrument.resample import FWHM
from draper.instrument.resolution import is_higher, is_lower, require_reachable, resolving_power_of

ROWS = 1024
"""Stars that are fitted together."""

MARGIN = 0.01
"""What is kept of a spectrum beyond the ends of a model, relative to the wavelength: 3,000 km/s."""


def prepare(
    model: ForwardModel, spectra: Spectra | Sequence[Spectra], config: FitConfig, *, whole: bool = False
) -> tuple[list[Spectra], Fitter, FitConfig]:
    """Return the exposures, the fitter for them, and its options.

    Pixels that no fit can reach are left out of the exposures, unless these are to be ``whole``.
    """
    exposures = [spectra] if isinstance(spectra, Spectra) else list(spectra)
    exposures, config = as_sharp_as_the_model(model.grid, exposures, config)
    config = match_options(model, exposures, config)
    if not whole:
        exposures = [within(exposure, model.grid, config.windows) for exposure in exposures]
    return exposures, _fitter(model, config), config


def _fitter(model: ForwardModel, config: FitConfig) -> Fitter:
    """Return the fitter of a model, the last one again if nothing has changed."""
    if not isinstance(model.function, torch.nn.Module):
        return Fitter(model, config)
    tensors = [*model.function.parameters(), *model.function.buffers()]
    # Numbers that change in place count their versions up; no other tensor has the address of a kept one.
    state = [(id(each), 0 if each.is_inference() else each._version) for each in tensors]
    if model.kept.get("state") != (config, state):
        model.kept.update(state=(config, state), tensors=tensors, fitter=Fitter(model, config))
    fitter: Fitter = model.kept["fitter"]
    return fitter


def as_sharp_as_the_model(
    own: Grid, exposures: Sequence[Spectra], config: FitConfig
) -> tuple[list[Spectra], FitConfig]:
    """Return exposures, those that are sharper than the model's spectra broadened to its resolving power."""
    power = resolving_power_of(own)
    if power is None or config.resolving_power == "free":
        return list(exposures), config
    chosen, softened = config.resolving_power, []
    for exposure in exposures:
        stated = chosen or resolving_power_of(exposure.grid)
        if stated is not None and is_higher(stated, power):
            exposure = within(exposure, own)
            exposure = replace(exposure, grid=replace(exposure.grid, resolving_power=stated))
            exposure = at_resolving_power(exposure, power)
        softened.append(exposure)
    if chosen is not None and is_higher(chosen, power):
        config = config.replace(resolving_power=power)
    return softened, config


def within(spectra: Spectra, own: Grid, windows: Sequence[tuple[float, float]] = ()) -> Spectra:
    """Return the pixels between the ends of windows that a model may reach at a velocity; all if none are."""
    first, last = own.vacuum[0] * (1 - MARGIN), own.vacuum[-1] * (1 + MARGIN)
    if windows:
        first, last = max(first, min(windows)[0]), min(last, max(windows)[1])
    inside = (spectra.grid.vacuum >= first) & (spectra.grid.vacuum <= last)
    return spectra.pixels(inside) if inside.any() and not inside.all() else spectra


def row_blocks(total: int) -> list[slice]:
    """Return slices of stars that are fitted together, at least one."""
    return [slice(start, start + ROWS) for start in range(0, max(total, 1), ROWS)]


def match_options(model: ForwardModel, exposures: Sequence[Spectra], config: FitConfig) -> FitConfig:
    """Return the options with windows, masks and resolving power that follow from the data.

    Exposures must be of the same stars, and overlap the model's wavelengths.
    """
    if not exposures:
        raise DraperError("there are no spectra to fit")
    first, own = exposures[0], model.grid
    config = read_masks(config, [exposure.grid for exposure in exposures])
    for exposure in exposures:
        grid = exposure.grid
        if not grid.is_spectral:
            raise DraperError("labels are fitted to spectra", given=repr(grid), expected="wavelengths")
        grid.require_several_pixels()
        if not np.array_equal(exposure.ids, first.ids):
            raise DraperError(
                "exposures that are fitted together must be of the same stars",
                given=f"{len(exposure)} ids from {exposure.ids[:1]}",
                expected=f"{len(first)} ids from {first.ids[:1]}",
                hint="give them the same ids in the same order",
            )
        if grid.vacuum[0] > own.vacuum[-1] or grid.vacuum[-1] < own.vacuum[0]:
            raise DraperError(
                "the spectra do not overlap the model's wavelength range",
                given=repr(grid),
                expected=repr(own),
            )
    if config.resolving_power == "free":
        return config
    powers = [resolving_power_of(exposure.grid) for exposure in exposures]
    return config.replace(resolving_power=broadening_power(own, first.grid, powers, config.resolving_power))


def broadening_power(
    own: Grid, grid: Grid, powers: Sequence[float | None], chosen: float | None
) -> float | None:
    """Return the resolving power of the Gaussian that broadens the model's spectra to the data's; or none.

    Parameters
    ----------
    own, grid
        Pixels of the model and of the data. Pixels that are much wider average over the spectrum: a box is
        taken as the Gaussian of its variance.
    powers
        Resolving power of each exposure as its file states it; all must agree.
    chosen
        The resolving power that the user names, which replaces those of the files.
    """
    stated = sorted(power for power in powers if power is not None)
    if chosen is None and stated and (None in powers or is_higher(stated[-1], stated[0])):
        raise DraperError(
            "exposures that are fitted together must have one resolving power",
            given=stated,
            hint="broaden the sharper ones, fit them one by one, or say which with resolving_power=",
        )
    power, sharpest = chosen or (stated[0] if stated else None), resolving_power_of(own)
    require_reachable(power, sharpest)
    left = 0.0
    if power is not None and (sharpest is None or is_lower(power, sharpest)):
        left = power**-2 - (0.0 if sharpest is None else sharpest**-2)
    if is_coarser(own, grid):
        boxes = (float(np.median(pixels.step / pixels.vacuum)) for pixels in (grid, own))
        wide, narrow = (FWHM**2 * box**2 / 12 for box in boxes)
        left += wide - narrow
    return left**-0.5 if left > 0 else None


def read_masks(config: FitConfig, grids: Sequence[Grid]) -> FitConfig:
    """Return the options with the ranges of their files; masks of pixels are those of the first exposure."""
    grid, medium, half_width = grids[0], config.mask_medium, config.half_width
    windows = list(config.windows)
    for path in config.windows_files:
        windows += read_windows(path, medium=medium, half_width=half_width)
    masked = list(config.masked)
    for path in config.masked_files:
        masked += read_masked(path, grid, medium=medium, half_width=half_width)
    if config.windows_files:
        ends = [each.vacuum[[0, -1]] for each in grids]
        windows = [pair for pair in merged(windows) if any(pair[1] >= a and pair[0] <= b for a, b in ends)]
        if not windows:
            raise DraperError(
                "no line of the files is in the spectra",
                given=", ".join(config.windows_files),
                expected=repr(grid),
            )
    return config.replace(windows=tuple(windows), masked=tuple(masked), windows_files=(), masked_files=())


def free_quantities(labels: LabelSet, names: Sequence[str], config: FitConfig) -> LabelSet:
    """Return the free quantities of a fit, with units and ranges: labels, velocities and widths."""
    limit = config.rv_limit
    return LabelSet(
        labels[name]
        if name in labels.names
        else Label(name, "km/s", -limit, limit)
        if name.startswith("rv")
        else Label(name, "" if name == "resolving_power" else "km/s", *BOUNDS[name])
        for name in names
    )
