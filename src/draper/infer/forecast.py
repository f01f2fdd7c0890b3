"""The smallest errors that a label fit can have, for spectra that are yet to be taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.configs.fit import FitConfig
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.infer.exposures import Exposure
from draper.infer.fisher import Forecaster
from draper.infer.forward import ForwardModel
from draper.infer.pixels import WIDTHS
from draper.infer.prepare import free_quantities, match_options
from draper.instrument.resolution import require_reachable, resolving_power_of
from draper.nn.precision import fit_mode
from draper.results.information import Information

Columns = dict[str, NDArray[Any]]


def forecast(
    model: ForwardModel,
    table: Columns,
    snr: NDArray[Any] | None,
    ivar: ArrayLike | None,
    grid: Grid | None,
    resolving_power: float | None,
    config: FitConfig,
) -> Information:
    """Return the bounds of :meth:`draper.infer.label_fit.LabelFit.information`.

    ``table`` holds columns (n,): all labels of the model, and maybe ``rv``, ``vsini``, ``vmac``. The noise
    follows from either ``snr`` (n,) or ``ivar``.
    """
    if (snr is None) == (ivar is None):
        raise DraperError(
            "the noise follows from snr or from ivar",
            given="both" if ivar is not None else "neither",
            expected="one of them",
            hint=option_text("snr", 100),
        )
    target = model.grid if grid is None else grid
    if resolving_power is not None:
        target = replace(target, resolving_power=float(resolving_power))
    require_reachable(resolving_power_of(target), resolving_power_of(model.grid))
    config, widths = split_widths(model, table, config)
    n = len(next(iter(table.values())))
    if snr is not None:
        weights = ivar_of_snr(snr, target)
    elif ivar is not None:
        weights = ivar_per_pixel(ivar, n, target)
    data = Spectra(target, np.ones_like(weights), weights)
    config = match_options(model, [data], config)
    rv = np.asarray(table.get("rv", np.zeros(n)) if config.rv == "free" else np.full(n, config.rv))
    values = model.labels.read(table)
    with fit_mode():
        result = Forecaster(model, config).forecast(Exposure.of(data), values, rv.astype(np.float64), widths)
    return Information(
        free_quantities(model.labels, result.fit.names, config),
        result.fit.values,
        result.fit.covariance,
        result.fit.conditional,
        target,
        result.flux,
        result.ivar,
        result.gradients,
        result.fit.flags["outside"] | ~model.labels.inside(values),
    )


def equal_columns(table: Mapping[str, ArrayLike]) -> Columns:
    """Return columns of equal length (n,); single values stand for all rows.

    Examples
    --------
    >>> equal_columns({"teff": [4000.0, 5000.0], "logg": 4.5})["logg"]
    array([4.5, 4.5])
    """
    columns = {name: np.atleast_1d(np.asarray(values)) for name, values in table.items()}
    length = max((len(column) for column in columns.values()), default=0)
    length = 0 if any(len(column) == 0 for column in columns.values()) else length
    for name, column in columns.items():
        if column.ndim != 1 or len(column) not in (1, length):
            raise DraperError(
                f"label '{name}' does not have one value for each spectrum",
                given=f"shape {column.shape}",
                expected=f"({length},), or one value for all",
            )
    return {name: np.broadcast_to(column, (length,)) for name, column in columns.items()}


def split_widths(
    model: ForwardModel, table: Columns, config: FitConfig
) -> tuple[FitConfig, dict[str, NDArray[np.float64]]]:
    """Return the options with the fixed widths of the table, and the values (n,) of the free ones."""
    free = {}
    for name in WIDTHS:
        if name in model.labels.names:
            continue
        option, values = getattr(config, name), table.get(name)
        if name == "resolving_power" and option != "free":
            continue  # that of the grid is the instrument's
        if option == "free":
            if values is None:
                raise DraperError(
                    f"{name} is free, but has no value at which its error could be computed",
                    hint=f"give it beside the labels: {name}=...",
                )
            free[name] = np.asarray(values, dtype=np.float64)
        elif values is not None:
            if len(values) and np.ptp(values) > 0:
                raise DraperError(
                    f"{name} differs between the stars, so it cannot be fixed",
                    given=str(values),
                    hint=f"fit it: {option_text(f'fit.{name}', 'free')}",
                )
            if option is None and len(values):
                config = config.replace(**{name: float(values[0])})
    return config, free


def ivar_of_snr(snr: NDArray[Any], grid: Grid) -> NDArray[np.float32]:
    """Return the weights (n, q) of a signal-to-noise ratio (n,) per pixel at a continuum of 1."""
    if not (snr > 0).all():
        raise DraperError("the signal-to-noise ratio must be positive", given=str(snr))
    return np.repeat(np.square(snr.astype(np.float32))[:, None], len(grid), axis=1)


def ivar_per_pixel(ivar: ArrayLike, n: int, grid: Grid) -> NDArray[np.float32]:
    """Return weights (n, q) that are given for all stars (q,), or for each of them (n, q)."""
    weights = np.asarray(ivar, dtype=np.float32)
    if weights.shape not in ((len(grid),), (n, len(grid))):
        raise DraperError(
            "ivar has one value for each pixel",
            given=f"shape {weights.shape}",
            expected=f"({len(grid)},), or ({n}, {len(grid)})",
        )
    return np.broadcast_to(weights, (n, len(grid))).copy()
