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
"""Training spectra that look most like an observed one, whose labels fits start from by default."""

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

    Continuum, errors that pixels have in common, and a small velocity are profiled: they are linear. The
    common errors are shares of the flux at given labels, which saves most of the time: where these are those
    of the fit, all else is as if they were shares of the fitted flux.

    Parameters
    ----------
    network
        From labels to flux, with errors as shares of it.
    flux, ivar : Tensor (n, p)
        Spectra of about the model's level.
    at : Tensor (n, d)
        Coordinates at which the model's errors are taken.
    nuisances
        What else may differ.
    """

    def __init__(
        self, network: AnchoredNetwork, flux: Tensor, ivar: Tensor, at: Tensor, nuisances: Nuisances
    ) -> None:
        self.network, self.rows, self.nuisances = network, len(flux), nuisances
        good = ivar > 0
        self.flux = torch.where(good, flux, 0.0).double()
        factor = network.factor(at.float()).double()[:, None]
        own = independent_error(network.uncertainty, network.modes).double() * factor
        # Where the flux itself is uncertain, so is this error, but there the noise exceeds it.
        variance = 1 / ivar.double().clamp(min=1e-30) + (own * self.flux).square()
        self.weight = torch.where(good, 1 / variance, 0.0)
        self.modes = network.modes.double()
        self.freedom = good.sum(1) - nuisances.continuum.shape[1] - network.known
        self.share = torch.empty_like(self.weight)
        roots = []
        for rows in torch.split(torch.arange(self.rows), self.chunk):
            self.share[rows] = network(at[rows].float()).double() * factor[rows]
            strength = (self.weight[rows] * self.share[rows].square())[:, None] * self.modes
            own_matrix = strength @ self.modes.T + torch.eye(len(self.modes), dtype=strength.dtype)
            roots.append(torch.linalg.cholesky(own_matrix))
        self.roots = torch.cat(roots) if roots else self.weight.new_zeros(0, len(self.modes), len(self.modes))

    def reduced(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return weighted columns (k, p, q), and what common errors (k, m, q) take off their products."""
        weighted = self.weight[rows, :, None] * columns
        common = self.modes @ (self.share[rows, :, None] * weighted)
        return weighted, torch.linalg.solve_triangular(self.roots[rows], common, upper=False)

    def solve(self, flux: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return linear columns (k, p, q) of fluxes (k, p), the velocity's last, and what belongs to them.

        That is what :meth:`reduced` makes of them, their normal matrix, and the best coefficients (k, q, 1).
        """
        slope = torch.zeros_like(flux)
        slope[:, 1:-1] = (flux[:, 2:] - flux[:, :-2]) / 2 * self.nuisances.velocity[1:-1]
        columns = torch.cat([flux[..., None] * self.nuisances.continuum, slope[..., None]], dim=2)
        weighted, common = self.reduced(rows, columns)
        _, seen = self.reduced(rows, self.flux[rows, :, None])
        own = weighted.transpose(1, 2) @ columns - common.transpose(1, 2) @ common
        ridge = torch.ones(own.shape[:2], dtype=own.dtype)
        size = own.diagonal(dim1=1, dim2=2)[:, :-1].mean(1, keepdim=True).clamp(min=1e-30)
        ridge[:, :-1] = RIDGE * size
        own = own + torch.diag_embed(ridge)
        target = weighted.transpose(1, 2) @ self.flux[rows, :, None] - common.transpose(1, 2) @ seen
        return columns, weighted, common, own, torch.linalg.solve(own, target)

    def normal(self, x: Tensor, rows: Tensor, *, rough: bool = False) -> Normal:
        """Return the normal equations of some rows (k,) at parameters (k, d)."""
        with torch.no_grad():
            flux, slope = (part.double() for part in self.network.jacobian(x.float()))
            columns, weighted, common, own, best = self.solve(flux, rows)
            rest = columns @ best - self.flux[rows, :, None]
            heavy, shared = self.reduced(rows, rest)
            chi2 = (heavy * rest).sum((1, 2)) - shared.square().sum((1, 2)) + best[:, -1, 0].square()
            # A change of the model changes all that is multiplied with it, but for the small velocity.
            moved = slope * (self.nuisances.continuum @ best[:, :-1])
            pulled, with_common = self.reduced(rows, moved)
            gradient = (pulled.transpose(1, 2) @ rest - with_common.transpose(1, 2) @ shared)[..., 0]
            cross = moved.transpose(1, 2) @ weighted - with_common.transpose(1, 2) @ common
            curvature = pulled.transpose(1, 2) @ moved - with_common.transpose(1, 2) @ with_common
            curvature = curvature - cross @ torch.linalg.solve(own, cross.transpose(1, 2))
        return Normal(chi2, gradient, curvature)

    def model(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return best-fitting spectra (n, p), and by what (n, p) they exceed the network's own."""
        parts = []
        for rows in torch.split(torch.arange(self.rows), self.chunk):
            flux = self.network(x[rows].float()).double()
            columns, _, _, _, best = self.solve(flux, rows)
            total = columns @ best
            _, shared = self.reduced(rows, self.flux[rows, :, None] - total)
            mixed = torch.linalg.solve_triangular(self.roots[rows].transpose(1, 2), shared, upper=True)
            common = self.share[rows] * (self.modes.T @ mixed)[..., 0]
            level = (self.nuisances.continuum @ best[:, :-1])[..., 0] + common / flux.clamp(min=1e-30)
            parts.append((total[..., 0] + common, level))
        empty = self.flux[:0]
        return torch.cat([empty, *(a for a, _ in parts)]), torch.cat([empty, *(b for _, b in parts)])

    def nearest(self, points: Tensor, starts: int) -> Tensor:
        """Return the points (n, starts, d) out of (m, d) whose spectra are most like the observed ones."""
        templates = self.network(points.float()).double()
        mean = templates.mean(0)[:, None]
        columns = torch.cat([mean * self.nuisances.continuum, mean * self.modes.T], dim=1)
        count = self.nuisances.continuum.shape[1]
        chosen = [torch.zeros(0, min(starts, len(points)), dtype=torch.int64)]
        for rows in torch.split(torch.arange(self.rows), self.chunk):
            if not len(rows):
                continue
            weight = self.weight[rows].mean(0)
            own = columns.T @ (weight[:, None] * columns)
            own = own + torch.diag(1e-6 * own.diagonal() + 1e-12)
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
    starts: int = STARTS,
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
    starts
        Number of training spectra where fits start, where they are not.
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
        mean[:, :k], sigma[:, :k] = network.expected, network.precision.rsqrt()
        if known is not None and error is not None:
            mean[:, :k], sigma[:, :k] = known, error
        prior = Prior(mean, sigma) if torch.isfinite(sigma).any() else None
        if start is not None:
            start = start[:, None]
        elif known is None:
            middle = torch.zeros(n, d, dtype=torch.float64)
            problem = AnchoredProblem(network, flux, ivar, middle, nuisances)
            start = problem.nearest(points, starts).double()
        else:
            if error is None:
                low[:, :k] = high[:, :k] = known
            start = torch.cat([known, mean[:, k:]], dim=1)[:, None]
        several = torch.zeros(n, dtype=torch.bool)
        for _ in range(ROUNDS):
            problem = AnchoredProblem(network, flux, ivar, start[:, 0], nuisances)
            found = [
                minimise(problem, start[:, number], low, high, prior=prior)
                for number in range(start.shape[1])
            ]
            solution, other = best_solution(found)
            several |= other
            start = solution.x[:, None]
        curvature = solution.normal.curvature + torch.diag_embed(1e6 * (low == high).double())
        return AnchoredFit(problem, solution, several, inverse_curvature(curvature))
