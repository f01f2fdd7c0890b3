"""The anchored model as a function of the known labels, for label fits, forecasts and lines."""

from __future__ import annotations

import torch
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.infer.forward import ForwardModel
from draper.models.translator.anchored import AnchoredNetwork
from draper.nn.hull import facets

SURE = 2.0
"""Stars are drawn where errors of the residual make the variance of spectra larger by at most this factor."""


class KnownLabels:
    """An anchored network as a function of the known labels; others are typical of the synthetic spectra.

    It is a :class:`draper.infer.forward.SpectrumFunction` of scaled labels (n, k).

    Parameters
    ----------
    network
        The network.
    observed
        Whether it makes observed spectra; else synthetic ones.
    """

    def __init__(self, network: AnchoredNetwork, *, observed: bool) -> None:
        self.network, self.observed = network, observed
        self.uncertainty, self.modes, self.gap = network.uncertainty, network.modes, network.gap
        points = network.points[:, : network.known]
        with torch.no_grad():
            sure = network.factor(points).square() <= SURE
        # Labels of anchors are not stored: near them the residual is known well.
        self.points = points[sure] if sure.sum() > 1 else points
        self.facets = points.new_zeros(0, network.known + 1)

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return flux (n, p)."""
        whole, network = self._coordinates(x), self.network
        flux: Tensor = network(whole) if self.observed else network.synthetic(network.labels_at(whole))
        return flux

    def jacobian(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, k)."""
        whole, network = self._coordinates(x), self.network
        if self.observed:
            flux, slopes = network.jacobian(whole)
        else:
            flux, slopes = network.synthetic.jacobian(network.labels_at(whole))
            slopes = slopes @ network.label_slopes(whole)
        return flux, slopes[..., : network.known]

    def error(self, x: Tensor, /) -> Tensor:
        """Return the 1-sigma error (n, p)."""
        return self.network.error(x)

    def amplitude_covariance(self, x: Tensor, mixture: Tensor, /) -> Tensor | None:
        """Return None: amplitudes of the modes have unit variances everywhere."""
        return None

    def _coordinates(self, x: Tensor) -> Tensor:
        """Return coordinates (n, d)."""
        return torch.cat([x, x.new_zeros(len(x), self.network.labels - self.network.known)], dim=1)


def functions(network: AnchoredNetwork, grid: Grid, labels: LabelSet) -> tuple[ForwardModel, ForwardModel]:
    """Return the functions from known labels to synthetic and to observed spectra.

    Parameters
    ----------
    network
        The network of an anchored model.
    grid
        Its p pixels.
    labels
        Its labels, the known ones first.
    """
    known = labels[labels.names[: network.known]]
    synthetic, observed = (
        ForwardModel(KnownLabels(network, observed=observed), grid, known) for observed in (False, True)
    )
    return synthetic, observed


class ObservedFlux(KnownLabels):
    """The function to observed spectra of true labels, with errors in units of its flux, for label fits.

    Errors that are shares of the flux count as shares of the mean spectrum.

    Parameters
    ----------
    network
        The network.
    shift : Tensor (k,)
        By how much its own scaled labels are larger than true ones.
    """

    def __init__(self, network: AnchoredNetwork, shift: Tensor) -> None:
        super().__init__(network, observed=True)
        self.shift = shift.float()
        self.points = network.points[:, : network.known] - self.shift
        self.facets = facets(self.points)
        with torch.no_grad():
            mean = self(self.points).mean(0).abs()
        self.uncertainty, self.modes = mean * network.uncertainty, mean * network.modes
        self.gap = mean.new_zeros(0)

    def error(self, x: Tensor, /) -> Tensor:
        """Return the 1-sigma error (n, p)."""
        return self.uncertainty * self.network.factor(self._coordinates(x))[:, None]

    def _coordinates(self, x: Tensor) -> Tensor:
        return super()._coordinates(x + self.shift)


def observed_model(network: AnchoredNetwork, grid: Grid, labels: LabelSet, shift: Tensor) -> ForwardModel:
    """Return the function from known labels to observed spectra, with its errors."""
    return ForwardModel(ObservedFlux(network, shift), grid, labels[labels.names[: network.known]])
