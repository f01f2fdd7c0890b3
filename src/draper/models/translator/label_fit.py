"""Labels of observed spectra by least squares, with errors that all pixels of a spectrum have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draper.infer.least_squares import (
    Normal,
    Prior,
    Problem,
    Solution,
    best_solution,
    inverse_curvature,
    minimise,
)
from draper.models.translator.anchored import AnchoredNetwork
from draper.nn.error_modes import independent_error

STARTS = 3
"""Training spectra that look most like an observed one, whose labels fits start from."""

CANDIDATES = 512
"""Training spectra among which these are found."""

BOUND = 0.5
"""Largest absolute value of scaled labels: beyond the synthetic spectra networks are not to be trusted."""

FAR = 3.0**0.5
"""Largest number of standard deviations that other labels are off what they are in the synthetic set: all, if
they are spread evenly."""

ROUNDS = 2
"""Fits of each spectrum: errors of the second are those at the labels of the first."""

RIDGE = 1e-9
"""Added to the normal equations of the continuum, relative to their size."""


@dataclass(frozen=True)
class Nuisances:
    """What else may differ between a spectrum and its model.

    Attributes
    ----------
    continuum : Tensor (p, c)
        Polynomials that multiply the model.
    velocity : Tensor (p,)
        Change of ln(flux) by one standard deviation of the velocity, for a slope of one per pixel.
    """

    continuum: Tensor
    velocity: Tensor


class AnchoredProblem(Problem):
    """chi2 of spectra that an :class:`AnchoredNetwork` models.

    Continuum, errors that pixels have in common, and a small velocity are profiled: they are linear.

    Parameters
    ----------
    network
        From labels to flux, with errors as shares of it.
    flux, ivar : Tensor (n, p)
        Spectra of about the model's level.
    factor : Tensor (n,)
        How many times larger the model's errors are for each spectrum.
    nuisances
        What else may differ.
    """

    def __init__(
        self, network: AnchoredNetwork, flux: Tensor, ivar: Tensor, factor: Tensor, nuisances: Nuisances
    ) -> None:
        self.network, self.rows, self.nuisances = network, len(flux), nuisances
        good = ivar > 0
        self.flux = torch.where(good, flux, 0.0).double()
        own = independent_error(network.uncertainty, network.modes).double() * factor[:, None]
        # Where the flux itself is uncertain, so is this error, but there the noise exceeds it.
        variance = 1 / ivar.double().clamp(min=1e-30) + (own * self.flux).square()
        self.weight = torch.where(good, 1 / variance, 0.0)
        self.factor = factor.double()
        self.modes = network.modes.double()
        self.freedom = good.sum(1) - nuisances.continuum.shape[1] - network.known

    def columns(self, flux: Tensor, rows: Tensor) -> Tensor:
        """Return what is added to model spectra (k, p), as columns (k, p, q), the continuum's first."""
        count = len(rows)
        slope = torch.zeros_like(flux)
        slope[:, 1:-1] = (flux[:, 2:] - flux[:, :-2]) / 2 * self.nuisances.velocity[1:-1]
        return torch.cat(
            [
                flux[..., None] * self.nuisances.continuum.expand(count, -1, -1),
                flux[..., None] * self.modes.T * self.factor[rows, None, None],
                slope[..., None],
            ],
            dim=2,
        )

    def solve(self, flux: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return columns (k, p, q), weighted ones, their normal matrix and best coefficients (k, q, 1)."""
        columns = self.columns(flux, rows)
        weighted = self.weight[rows, :, None] * columns
        own = weighted.transpose(1, 2) @ columns
        count = self.nuisances.continuum.shape[1]
        known = torch.ones(own.shape[:2], dtype=own.dtype)
        size = own.diagonal(dim1=1, dim2=2)[:, :count].mean(1, keepdim=True).clamp(min=1e-30)
        known[:, :count] = RIDGE * size
        own = own + torch.diag_embed(known)
        target = weighted.transpose(1, 2) @ self.flux[rows, :, None]
        return columns, weighted, own, torch.linalg.solve(own, target)

    def normal(self, x: Tensor, rows: Tensor, *, rough: bool = False) -> Normal:
        """Return the normal equations of some rows (k,) at parameters (k, d)."""
        with torch.no_grad():
            flux, slope = (part.double() for part in self.network.jacobian(x.float()))
            columns, weighted, own, best = self.solve(flux, rows)
            count = self.nuisances.continuum.shape[1]
            total = (columns @ best)[..., 0]
            rest = total - self.flux[rows]
            # A change of the model changes all that is multiplied with it, but for the small velocity.
            level = (self._multiplied(rows) @ best[:, :-1])[..., 0]
            moved = slope * level[..., None]
            chi2 = (self.weight[rows] * rest.square()).sum(1) + best[:, count:, 0].square().sum(1)
            gradient = ((self.weight[rows] * rest)[:, None] @ moved)[:, 0]
            cross = moved.transpose(1, 2) @ weighted
            curvature = (moved * self.weight[rows, :, None]).transpose(1, 2) @ moved
            curvature = curvature - cross @ torch.linalg.solve(own, cross.transpose(1, 2))
        return Normal(chi2, gradient, curvature)

    def model(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return best-fitting spectra (n, p), and by what (n, p) they exceed the network's own."""
        parts = []
        for rows in torch.split(torch.arange(self.rows), self.chunk):
            flux = self.network(x[rows].float()).double()
            columns, _, _, best = self.solve(flux, rows)
            parts.append(((columns @ best)[..., 0], (self._multiplied(rows) @ best[:, :-1])[..., 0]))
        empty = self.flux[:0]
        return torch.cat([empty, *(a for a, _ in parts)]), torch.cat([empty, *(b for _, b in parts)])

    def _multiplied(self, rows: Tensor) -> Tensor:
        """Return the columns (k, p, q - 1) that multiply the model."""
        continuum = self.nuisances.continuum.expand(len(rows), -1, -1)
        return torch.cat([continuum, self.modes.T * self.factor[rows, None, None]], dim=2)

    def nearest(self, points: Tensor, starts: int) -> Tensor:
        """Return the points (n, starts, d) out of (m, d) whose spectra are most like the observed ones."""
        templates = self.network(points.float()).double()
        chosen = [torch.zeros(0, min(starts, len(points)), dtype=torch.int64)]
        for rows in torch.split(torch.arange(self.rows), self.chunk):
            if not len(rows):
                continue
            weight = self.weight[rows].mean(0)
            mean = templates.mean(0, keepdim=True)
            columns = self.columns(mean, rows[:1])[0]
            own = columns.T @ (weight[:, None] * columns)
            own = own + torch.diag(1e-6 * own.diagonal() + 1e-12)
            count = self.nuisances.continuum.shape[1]
            own[count:, count:] += torch.eye(len(own) - count, dtype=own.dtype)
            root = torch.linalg.cholesky(own)
            far = []
            for flux in (self.flux[rows], templates):
                inner = torch.linalg.solve_triangular(root, columns.T @ (flux * weight).T, upper=False).T
                far.append((flux * weight.sqrt(), inner))
            (a, b), (c, e) = far
            chi2 = _distances(a, c) - _distances(b, e)
            chosen.append(chi2.topk(min(starts, len(points)), largest=False).indices)
        return points[torch.cat(chosen)]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distances (n, m) of rows."""
    return a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T


@dataclass(frozen=True)
class AnchoredFit:
    """Labels of n spectra.

    Attributes
    ----------
    problem, solution
        What was fitted, and its best parameters.
    several : Tensor (n,) bool
        Where another minimum is as good.
    covariance : Tensor (n, d, d)
        Of the scaled labels.
    """

    problem: AnchoredProblem
    solution: Solution
    several: Tensor
    covariance: Tensor


def fit_labels(
    network: AnchoredNetwork,
    flux: Tensor,
    ivar: Tensor,
    nuisances: Nuisances,
    known: Tensor | None = None,
    error: Tensor | None = None,
    start: Tensor | None = None,
) -> AnchoredFit:
    """Fit coordinates of labels to spectra (n, p) that have about the level of the model's.

    Parameters
    ----------
    network
        The model.
    flux, ivar : Tensor (n, p)
        Spectra.
    nuisances
        What else may differ.
    known : Tensor (n, k), optional
        Scaled labels that are not fitted.
    error : Tensor (n, k), optional
        1-sigma errors of these; then they are fitted within them.
    start : Tensor (n, d), optional
        Coordinates where fits start, where they are known roughly.
    """
    n, d, k = len(flux), network.labels, network.known
    with torch.no_grad():
        points = network.points
        points = points[torch.linspace(0, len(points) - 1, min(CANDIDATES, len(points))).long()]
        high = torch.full((n, d), FAR, dtype=torch.float64)
        high[:, :k] = BOUND
        low = -high
        mean = torch.zeros(n, d, dtype=torch.float64)
        sigma = torch.ones(n, d, dtype=torch.float64)
        sigma[:, :k] = torch.inf
        if known is not None and error is not None:
            mean[:, :k], sigma[:, :k] = known, error
        prior = Prior(mean, sigma) if d > k or error is not None else None
        if start is not None:
            start = start[:, None]
        elif known is None:
            problem = AnchoredProblem(network, flux, ivar, torch.ones(n), nuisances)
            start = problem.nearest(points, STARTS).double()
        else:
            if error is None:
                low[:, :k] = high[:, :k] = known
            start = torch.cat([known, mean[:, k:]], dim=1)[:, None]
        several = torch.zeros(n, dtype=torch.bool)
        for _ in range(ROUNDS):
            problem = AnchoredProblem(network, flux, ivar, network.factor(start[:, 0].float()), nuisances)
            found = [
                minimise(problem, start[:, number], low, high, prior=prior)
                for number in range(start.shape[1])
            ]
            solution, other = best_solution(found)
            several |= other
            start = solution.x[:, None]
        curvature = solution.normal.curvature + torch.diag_embed(1e6 * (low == high).double())
        return AnchoredFit(problem, solution, several, inverse_curvature(curvature))
