"""The Fisher matrix of a fit at given labels.

With data that equal the model, the curvature of chi2 is the Fisher matrix, and its inverse the Cramer-Rao
bound. It is the same curvature that the errors of a fit follow from, with continuum, priors and model error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.fit_result import FitResult, Misfit, fit_result, physical_units
from draper.infer.pixels import PixelProblem

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """The errors of an ideal fit of n stars, and the gradients that they follow from.

    Attributes
    ----------
    fit : FitResult
        The true values of all free quantities, and the errors of an ideal fit.
    flux, ivar : ndarray (n, q)
        Spectra, and the weights that the fit gives them.
    gradients : ndarray (n, q, m)
        Derivatives of the flux by the free quantities, per physical unit.
    """

    fit: FitResult
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    gradients: NDArray[np.float32]


class Forecaster(Fitter):
    """Computes the smallest errors that a fit with the same options can have."""

    def forecast(
        self, exposure: Exposure, labels: FloatArray, rv: FloatArray, widths: dict[str, FloatArray]
    ) -> Forecast:
        """Return the smallest errors of a fit of n stars.

        Parameters
        ----------
        exposure
            Pixels and weights; its flux is ignored, that of the labels is used.
        labels : ndarray (n, d)
            Labels in physical units.
        rv : ndarray (n,)
            Velocities [km/s].
        widths
            Values (n,) of the free ones.
        """
        scaled = self.labels.scale(labels) - 0.5
        columns = [scaled, rv[:, None]] if self.layout.rv else [scaled]
        columns += [widths[name][:, None] for name in self.layout.widths]
        x = torch.from_numpy(np.concatenate(columns, axis=1))
        with torch.no_grad():
            bare, _, _ = self._prepare(replace(exposure, flux=np.ones_like(exposure.ivar)))
            data = self._add_error(replace(bare, rv=torch.from_numpy(rv)), x[:, : len(self.labels)])
            (part,) = self._problem([data], [data.ivar]).parts
            flux, gradients = ideal(part, x)
            problem = self._problem([replace(data, flux=flux)], [data.ivar])
            low, high = self._bounds(1)
            # Equal bounds keep all parameters fixed: errors are computed as after a fit.
            solution = self.minimise(problem, x, x, x)
            none = torch.zeros(len(x), dtype=torch.bool)
            result = fit_result(
                self.function,
                self.labels,
                problem,
                solution,
                none,
                Misfit.of(solution, "none"),
                low,
                high,
                self._prior(len(low)),
            )
            free = (low < high).nonzero()[:, 0]
            span = torch.ones_like(x)
            span[:, : len(self.labels)] = physical_units(self.labels, x[:, : len(self.labels)])
            physical = gradients[:, free] / span[:, free, None].float()
        return Forecast(result, flux.numpy(), data.ivar.numpy(), physical.transpose(1, 2).numpy())


def ideal(part: PixelProblem, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the spectra (n, q) of parameters (n, m), and their derivatives (n, m, q)."""
    rows = torch.split(torch.arange(len(x)), part.chunk)
    parts = [part.flux_and_derivatives(x[batch], batch) for batch in rows]
    return torch.cat([flux for flux, _ in parts]), torch.cat([columns for _, columns in parts])
