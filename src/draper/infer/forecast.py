"""How well an emulator's labels can be known from spectra that are yet to be taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.configs.fit import FitConfig
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.fisher import Forecaster
from draper.infer.forward import ForwardModel
from draper.infer.label_fit import described, exposure, matched, power_of, ranges
from draper.infer.pixels import WIDTHS
from draper.instrument.observed import SAME
from draper.nn.precision import fastest_mode, matmul_mode
from draper.results.information import Information

Table = dict[str, NDArray[Any]]


def informed(
    model: ForwardModel,
    table: Table,
    snr: ArrayLike | None,
    ivar: ArrayLike | None,
    grid: Grid | None,
    resolving_power: float | None,
    config: FitConfig,
) -> Information:
    """Return the bounds of :meth:`draper.models.emulator.model.Emulator.information`."""
    if (snr is None) == (ivar is None):
        raise DraperError(
            "say how large the noise is", given="both snr and ivar" if snr is not None else "nothing",
            expected="snr, or ivar", hint="snr=100 (--snr 100)",
        )  # fmt: skip
    target = at_power(model, model.grid if grid is None else grid, resolving_power)
    config, widths = broadened(model, table, config)
    n = len(next(iter(table.values())))
    weights = white(table["snr"], target) if ivar is None else each_pixel(ivar, n, target)
    data = Spectra(target, np.ones_like(weights), weights)
    config = matched(model, [data], config)
    rv = np.asarray(table.get("rv", np.zeros(n)) if config.rv == "free" else np.full(n, config.rv))
    values = model.labels.read(table)
    own = model.grid
    forecaster = Forecaster(model.network, own.vacuum, model.labels, config, ranges(own))
    with matmul_mode(fastest_mode()):
        found = forecaster.forecast(exposure(data), values, rv.astype(np.float64), widths)
    return Information(
        described(model, found.fit.names, config),
        found.fit.values,
        found.fit.covariance,
        found.fit.conditional,
        target,
        found.flux,
        found.ivar,
        found.gradients,
        found.fit.flags["outside"] | ~model.labels.inside(values),
    )


def at_power(model: ForwardModel, grid: Grid, resolving_power: float | None) -> Grid:
    """Return a grid with the instrument's resolving power, which must not exceed that of the emulator."""
    if resolving_power is not None:
        grid = replace(grid, resolving_power=float(resolving_power))
    power, own = power_of(grid), power_of(model.grid)
    if power is not None and own is not None and power > own * (1 + SAME):
        raise DraperError(
            "spectra cannot be sharper than what the model has learnt", given=f"R = {power:g}",
            expected=f"at most {own:g}", hint="train on spectra of a higher resolving power",
        )  # fmt: skip
    return grid


def broadened(
    model: ForwardModel, table: Table, config: FitConfig
) -> tuple[FitConfig, dict[str, NDArray[np.float64]]]:
    """Return the options with the widths that the table tells, and the values (n,) of those that are free."""
    free = {}
    for name in WIDTHS:
        if name in model.labels.names:
            continue
        wanted, told = getattr(config, name), table.get(name)
        if name == "resolving_power" and wanted != "free":
            continue  # that of the grid is the instrument's
        if wanted == "free":
            if told is None:
                raise DraperError(
                    f"{name} is free, and has no value where its error is wanted",
                    hint=f"give it beside the labels: {{..., '{name}': ...}} (--set {name}=...)",
                )
            free[name] = np.asarray(told, dtype=np.float64)
        elif told is not None:
            if len(told) and np.ptp(told) > 0:
                raise DraperError(
                    f"{name} differs between the stars, so it cannot be known", given=str(told),
                    hint=f"fit it: {name}='free' (--fit.{name.replace('_', '-')} free)",
                )  # fmt: skip
            if wanted is None and len(told):
                config = config.replace(**{name: float(told[0])})
    return config, free


def white(snr: NDArray[Any], grid: Grid) -> NDArray[np.float32]:
    """Return the weights (n, q) of a signal-to-noise ratio (n,) per pixel at a continuum of 1."""
    if not (snr > 0).all():
        raise DraperError("the signal-to-noise ratio is positive", given=str(snr))
    return np.repeat(np.square(snr.astype(np.float32))[:, None], len(grid), axis=1)


def each_pixel(ivar: ArrayLike, n: int, grid: Grid) -> NDArray[np.float32]:
    """Return weights (n, q) that were given for all stars alike (q,), or one by one."""
    weights = np.asarray(ivar, dtype=np.float32)
    if weights.shape not in ((len(grid),), (n, len(grid))):
        raise DraperError(
            "ivar has one value for each pixel", given=f"shape {weights.shape}",
            expected=f"({len(grid)},), or ({n}, {len(grid)})",
        )  # fmt: skip
    return np.broadcast_to(weights, (n, len(grid))).copy()
