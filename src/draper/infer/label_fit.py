"""The label fit: labels of spectra, by any differentiable function from labels to flux."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper import processes
from draper.configs.fit import FitConfig
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.fit_result import FitResult
from draper.infer.forecast import equal_columns, forecast
from draper.infer.forward import ForwardModel
from draper.infer.limits import Side, limits
from draper.infer.model_error import learn_error
from draper.infer.prepare import free_quantities, prepare, row_blocks, within
from draper.infer.truncated import LEVELS
from draper.nn.precision import fit_mode
from draper.processes import cores, side_by_side
from draper.results.estimates import Estimates
from draper.results.information import Information

Progress = Callable[[int, int], None]
"""Called with the number of stars that are done, and the number of all."""

WORTH_SHARING = 30.0
"""Seconds of work that are left from which on commands start processes, which takes them some seconds."""


@dataclass(frozen=True)
class LabelFit:
    """Fits labels to spectra by least squares, with a forward model.

    Every method takes options as one :class:`~draper.configs.fit.FitConfig`, as keywords, or both; the
    keywords come first.

    Attributes
    ----------
    model : ForwardModel
        A function from labels to flux, with its pixels and labels; :meth:`ForwardModel.from_function` makes
        one of any differentiable function of physical labels.

    Examples
    --------
    >>> import torch
    >>> from draper.data.labels import Label, LabelSet
    >>> grid = Grid.linear(5000, 5100, 0.5, medium="vacuum")
    >>> lines = torch.exp(-0.5 * torch.linspace(-60, 60, len(grid)).remainder(10).sub(5).square())
    >>> def flux(labels):
    ...     return 1 - 0.3 * 10 ** labels[:, :1] * lines
    >>> labels = LabelSet([Label("fe_h", low=-2.0, high=0.5)])
    >>> fit = LabelFit(ForwardModel.from_function(flux, grid, labels))
    >>> seen = Spectra(grid, flux(torch.tensor([[-0.4], [0.1]])).numpy(), np.full((2, len(grid)), 1e4))
    >>> estimates = fit.predict(seen, rv=0.0)
    >>> estimates["fe_h"].round(3)
    array([-0.4,  0.1])
    """

    model: ForwardModel

    def predict(
        self,
        spectra: Spectra | Sequence[Spectra],
        options: FitConfig | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return the labels of spectra, with covariance and flags.

        Parameters
        ----------
        spectra
            On any pixels that overlap the model's; or several exposures of the same stars, with equal ids,
            which are fitted jointly.
        options, changes
            How to fit.
        progress
            Called with the number of stars that are done, and the number of all.
        """
        return self._fit(spectra, options, progress, changes, models=False)[0]

    def explain(
        self,
        spectra: Spectra | Sequence[Spectra],
        options: FitConfig | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> tuple[Estimates, list[Spectra]]:
        """Return labels as :meth:`predict` does, and the best-fitting spectra of each exposure."""
        return self._fit(spectra, options, progress, changes, models=True)

    def upper_limits(
        self,
        spectra: Spectra | Sequence[Spectra],
        names: Sequence[str],
        level: float = 0.95,
        options: FitConfig | None = None,
        *,
        side: Side = "upper",
        **changes: Any,
    ) -> dict[str, NDArray[np.float64]]:
        """Return limits (n,) of labels or free widths by profile likelihood; see :func:`.limits.limits`."""
        exposures, fitter, _ = prepare(self.model, spectra, (options or FitConfig()).replace(**changes))
        with fit_mode():
            parts = [
                limits(fitter, [Exposure.of(exposure[rows]) for exposure in exposures], names, level, side)
                for rows in row_blocks(len(exposures[0]))
            ]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def information(
        self,
        labels: Mapping[str, ArrayLike],
        options: FitConfig | None = None,
        *,
        snr: ArrayLike | None = None,
        ivar: ArrayLike | None = None,
        grid: Grid | None = None,
        resolving_power: float | None = None,
        **changes: Any,
    ) -> Information:
        """Return the smallest errors that :meth:`predict` could have: the Cramer-Rao bound at given labels.

        Parameters
        ----------
        labels
            Columns by name, of equal length or one value for all; ``rv``, ``vsini``, ``vmac`` of the stars
            may be among them.
        options, changes
            How the spectra will be fitted.
        snr, ivar
            Signal-to-noise ratio per pixel at a continuum of 1, or inverse variances (q,) or (n, q).
        grid, resolving_power
            Pixels and lambda / FWHM of the spectrograph; the model's own unless given.
        """
        config = (options or FitConfig()).replace(**changes)
        columns = equal_columns({**labels, **config.fixed} | ({} if snr is None else {"snr": snr}))
        ratio = None if snr is None else columns["snr"]
        return forecast(self.model, columns, ratio, ivar, grid, resolving_power, config)

    def learn_error(self, spectra: Spectra, options: FitConfig | None = None, **changes: Any) -> int:
        """Set the function's ``gap`` from the residuals of real spectra; returns how many were used."""
        return learn_error(self.model, spectra, (options or FitConfig()).replace(**changes))

    def _fit(
        self,
        spectra: Spectra | Sequence[Spectra],
        options: FitConfig | None,
        progress: Progress | None,
        changes: Mapping[str, Any],
        *,
        models: bool,
    ) -> tuple[Estimates, list[Spectra]]:
        config = (options or FitConfig()).replace(**changes)
        parts: list[FitResult] = []
        with fit_mode():
            whole, fitter, config = prepare(self.model, spectra, config, whole=True)
            exposures = [within(exposure, self.model.grid, config.windows) for exposure in whole]
            total = len(exposures[0])
            blocks = row_blocks(total)
            for rows, part in zip(
                blocks, self._parts(fitter, exposures, blocks, config, models), strict=True
            ):
                parts.append(part)
                if progress is not None:
                    progress(min(rows.stop, total), total)
        return self._estimates(parts, exposures[0].ids, config), [
            on_all_pixels(best_fit(exposure, parts, number), whole[number])
            for number, exposure in enumerate(exposures)
            if models
        ]

    def _parts(
        self,
        fitter: Fitter,
        exposures: Sequence[Spectra],
        blocks: Sequence[slice],
        config: FitConfig,
        models: bool,
    ) -> Iterator[FitResult]:
        """Yield the fits of blocks of stars, by this process or by several."""
        tasks = ([Exposure.of(exposure[rows]) for exposure in exposures] for rows in blocks)
        workers = min(config.workers or (cores() if processes.may_start else 1), len(blocks))
        if config.workers is None and workers > 1:
            start = time.perf_counter()
            yield fitter(next(tasks), models=models)
            rest = (time.perf_counter() - start) * (len(blocks) - 1)
            workers = min(workers, len(blocks) - 1) if rest > WORTH_SHARING else 1
        if workers == 1:
            yield from (fitter(task, models=models) for task in tasks)
            return
        make = partial(Fitter, replace(self.model, kept={}), config)
        yield from side_by_side(make, partial(_fit_block, models=models), tasks, workers)

    def _estimates(self, parts: Sequence[FitResult], ids: NDArray[np.str_], config: FitConfig) -> Estimates:
        """Return the results of all blocks of stars as one."""
        names = parts[0].names
        quantiles = np.concatenate([part.quantiles for part in parts])
        conditional = np.concatenate([part.conditional for part in parts])
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        columns |= {f"{name}_conditional_err": conditional[:, number] for number, name in enumerate(names)}
        return Estimates.from_quantiles(
            free_quantities(self.model.labels, names, config),
            LEVELS,
            quantiles,
            ids,
            flags={name: np.concatenate([part.flags[name] for part in parts]) for name in parts[0].flags},
            covariance=np.concatenate([part.posterior_covariance for part in parts]),
            label_flags=np.concatenate([part.label_flags for part in parts]),
            columns=columns,
        )


def on_all_pixels(made: Spectra, spectra: Spectra) -> Spectra:
    """Return model spectra on the pixels of spectra, some of which the fit has left out."""
    if len(made.grid) == len(spectra.grid):
        return made
    start = int(np.searchsorted(spectra.grid.vacuum, made.grid.vacuum[0]))
    flux, ivar = np.zeros((2, *spectra.flux.shape), dtype=np.float32)
    reached = slice(start, start + len(made.grid))
    flux[:, reached], ivar[:, reached] = made.flux, made.ivar
    return replace(made, grid=spectra.grid, flux=flux, ivar=ivar)


def best_fit(spectra: Spectra, parts: Sequence[FitResult], number: int) -> Spectra:
    """Return the best-fitting spectra of an exposure; pixels that were not used have no weight."""
    return Spectra(
        spectra.grid,
        np.concatenate([part.models[number] for part in parts]),
        (spectra.ivar > 0).astype(np.float32),
        spectra.table,
        spectra.quantity,
        spectra.unit,
        meta={"source": "best fit of a forward model"},
    )


def _fit_block(fitter: Fitter, exposures: list[Exposure], *, models: bool) -> FitResult:
    with fit_mode():
        return fitter(exposures, models=models)
