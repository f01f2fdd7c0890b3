"""How well a fit could know its parameters: the Fisher matrix at stars whose labels are known.

With data that equal the model, the curvature of chi2 is the Fisher matrix, and its inverse the Cramer-Rao
bound. It is the very curvature that errors of a fit follow from, with continuum, priors and emulator error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.fit_result import Fit, outcome, slopes
from draper.infer.pixels import PixelProblem

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """What a fit could find of n stars.

    Attributes
    ----------
    fit : Fit
        The true values of what is free, and the errors of an ideal fit.
    flux, ivar : ndarray (n, q)
        Spectra, and the weights that the fit gives them.
    gradients : ndarray (n, q, m)
        Derivatives of the flux by what is free, per physical unit.
    """

    fit: Fit
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    gradients: NDArray[np.float32]


class Forecaster(Fitter):
    """Tells what a fit with the same options would find at best."""

    def forecast(
        self, exposure: Exposure, labels: FloatArray, rv: FloatArray, widths: dict[str, FloatArray]
    ) -> Forecast:
        """Return how well a fit of n stars could do.

        Parameters
        ----------
        exposure
            Pixels and weights; the flux follows from the rest.
        labels : ndarray (n, d)
            Labels in physical units.
        rv : ndarray (n,)
            Velocities [km/s].
        widths
            Those that are free, (n,) each.
        """
        scaled = self.labels.scale(labels) - 0.5
        columns = [scaled, rv[:, None]] if self.layout.rv else [scaled]
        columns += [widths[name][:, None] for name in self.layout.widths]
        x = torch.from_numpy(np.concatenate(columns, axis=1))
        with torch.no_grad():
            bare, _, _ = self._normalised(replace(exposure, flux=np.ones_like(exposure.ivar)))
            data = self._with_error(replace(bare, rv=torch.from_numpy(rv)), x[:, : len(self.labels)])
            (part,) = self._problem([data], [data.ivar]).parts
            flux, gradients = ideal(part, x)
            problem = self._problem([replace(data, flux=flux)], [data.ivar])
            low, high = self._bounds(1)
            # Between ends that are equal everything stays where it is, and is looked at as after a fit.
            solution = self.minimised(problem, x, x, x)
            none = torch.zeros(len(x), dtype=torch.bool)
            found = outcome(
                self.network, self.labels, problem, solution, none, torch.zeros(len(x)), low < high
            )
            free = (low < high).nonzero()[:, 0]
            span = torch.ones_like(x)
            span[:, : len(self.labels)] = slopes(self.labels, x[:, : len(self.labels)])
            physical = gradients[:, free] / span[:, free, None].float()
        return Forecast(found, flux.numpy(), data.ivar.numpy(), physical.transpose(1, 2).numpy())


def ideal(part: PixelProblem, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the spectra (n, q) of parameters (n, m), and their derivatives (n, m, q)."""
    rows = torch.split(torch.arange(len(x)), part.chunk)
    found = [part.slopes(x[some], some) for some in rows]
    return torch.cat([flux for flux, _ in found]), torch.cat([columns for _, columns in found])
