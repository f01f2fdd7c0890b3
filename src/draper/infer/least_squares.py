"""Levenberg-Marquardt for thousands of small problems at once.

A problem says how far its rows are from their data, and how that changes (:class:`Normal`); everything else,
bounds, priors, damping, stopping, is here. Rows stop one by one; those that have are computed no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DAMPING, EASED, RAISED, MOST = 1e-3, 0.1, 10.0, 1e7
"""Damping at the start, its factors after a step that helps and one that does not, and where it ends."""

ROUNDING = 1e-6
"""Share of chi2 that is lost in its rounding; no step is asked to gain less."""

NEAR = 10.0
"""A step that promises less leads to where the curvature is much the same; it serves for one more."""

STILL = 1e-4
"""A last step that promises less leaves the curvature as it was."""

APART, ALIKE = 5.0, 9.0
"""A second minimum counts if it is so many sigma away, and its chi2 is higher by no more than this."""


@dataclass(frozen=True)
class Normal:
    """Normal equations of n rows with m parameters.

    Attributes
    ----------
    chi2 : Tensor (n,)
        Weighted sum of squared residuals r.
    gradient : Tensor (n, m)
        Half the derivative of chi2: J^T W r with r = model - data.
    curvature : Tensor (n, m, m)
        J^T W J.
    """

    chi2: Tensor
    gradient: Tensor
    curvature: Tensor

    def __getitem__(self, rows: Tensor) -> Normal:
        return Normal(self.chi2[rows], self.gradient[rows], self.curvature[rows])


class Problem(ABC):
    """Rows of data with a model in common.

    Attributes
    ----------
    rows
        How many.
    chunk
        How many are computed together.
    rough
        Whether steps take a curvature that is computed faster and less precisely. Where a fit ends depends on
        the gradient alone, and the curvature there is computed in full.
    """

    rows: int
    chunk: int = 64
    rough: bool = False

    @abstractmethod
    def normal(self, x: Tensor, rows: Tensor, *, rough: bool = False) -> Normal:
        """Return the normal equations of some rows (k,) at parameters (k, m)."""

    def slope(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return chi2 (k,) and its gradient (k, m) alone, which a problem may have for less."""
        normal = self.normal(x, rows)
        return normal.chi2, normal.gradient


@dataclass(frozen=True)
class Prior:
    """Gaussian knowledge of parameters; a sigma of infinity is none.

    Attributes
    ----------
    mean, sigma : Tensor (n, m)
    """

    mean: Tensor
    sigma: Tensor

    def chi2(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the prior's part (k,) of chi2."""
        return ((x.double() - self.mean[rows]) / self.sigma[rows]).square().sum(1)

    def gradient(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the prior's part (k, m) of the gradient."""
        return (x.double() - self.mean[rows]) * self.weight(rows)

    def weight(self, rows: Tensor) -> Tensor:
        """Return the prior's part (k, m) of the diagonal of the curvature."""
        return self.sigma[rows].double().pow(-2)


@dataclass(frozen=True)
class Solution:
    """Where the rows ended.

    Attributes
    ----------
    x : Tensor (n, m)
        Best parameters.
    normal : Normal
        There, prior included.
    converged : Tensor (n,) bool
    bound : Tensor (n, m) bool
        Which parameters are held by a bound that chi2 would have them pass.
    iterations : Tensor (n,)
    penalty : Tensor (n,)
        The prior's part of chi2.
    """

    x: Tensor
    normal: Normal
    converged: Tensor
    bound: Tensor
    iterations: Tensor
    penalty: Tensor

    def covariance(self) -> Tensor:
        """Return the inverse curvature (n, m, m); rows and columns of bounded parameters count as free."""
        return inverted(self.normal.curvature)


def best_of(found: Sequence[Solution]) -> tuple[Solution, Tensor]:
    """Return the best solution of each row, and where (n,) another one is as good."""
    best = torch.stack([one.normal.chi2 for one in found]).argmin(0)
    rows = torch.arange(len(best))

    def picked(get: Callable[[Solution], Tensor]) -> Tensor:
        return torch.stack([get(one) for one in found])[best, rows]

    solution = Solution(
        picked(lambda one: one.x),
        Normal(
            picked(lambda one: one.normal.chi2),
            picked(lambda one: one.normal.gradient),
            picked(lambda one: one.normal.curvature),
        ),
        picked(lambda one: one.converged),
        picked(lambda one: one.bound),
        picked(lambda one: one.iterations),
        picked(lambda one: one.penalty),
    )
    several = torch.zeros(len(best), dtype=torch.bool)
    for one in found:
        off = one.x - solution.x
        far = torch.einsum("ni,nij,nj->n", off, solution.normal.curvature, off) > APART**2
        several |= far & one.converged & (one.normal.chi2 < solution.normal.chi2 + ALIKE)
    return solution, several


def inverted(curvature: Tensor) -> Tensor:
    """Return the inverse (n, m, m) of curvatures; NaN where one is singular."""
    scale = curvature.diagonal(dim1=1, dim2=2).clamp(min=1e-300).sqrt()
    unit = curvature / scale[:, :, None] / scale[:, None, :]
    inverse, failed = torch.linalg.inv_ex(unit)
    inverse = inverse / scale[:, :, None] / scale[:, None, :]
    wrong = (failed != 0) | (inverse.diagonal(dim1=1, dim2=2) <= 0).any(1)
    return torch.where(wrong[:, None, None], torch.nan, inverse)


def minimise(
    problem: Problem,
    start: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    prior: Prior | None = None,
    tolerance: float = 0.01,
    iterations: int = 50,
    exact: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> Solution:
    """Lower chi2 of every row.

    Parameters
    ----------
    problem
        What to fit.
    start : Tensor (n, m)
        Parameters to start from; those outside of the bounds are moved to them.
    low, high : Tensor (m,) or (n, m)
        Bounds. A parameter whose bounds are equal is fixed.
    prior
        Knowledge beside the data.
    tolerance
        A row has converged when the next step would lower chi2 by less; that step is taken, on trust.
    iterations
        Most steps that are tried.
    exact
        Whether the curvature at the end is wanted, in full precision.
    on_step
        Called with the number of rows that go on, after each step.

    Examples
    --------
    >>> class Line(Problem):
    ...     rows = 1
    ...     def normal(self, x, rows, *, rough=False):
    ...         r = x - torch.tensor([[3.0, -1.0]], dtype=torch.float64)
    ...         return Normal(r.square().sum(1), r, torch.eye(2, dtype=torch.float64).expand(len(x), 2, 2))
    >>> end = torch.tensor([2.0, 2.0], dtype=torch.float64)
    >>> found = minimise(Line(), torch.zeros(1, 2, dtype=torch.float64), -end, end)
    >>> found.x.round(decimals=3), found.bound
    (tensor([[ 2., -1.]], dtype=torch.float64), tensor([[ True, False]]))
    """
    n, m = start.shape
    low, high = (end.double().expand(n, m) for end in (low, high))
    x = start.double().clamp(low, high)
    every = torch.arange(n)
    here = _evaluated(problem, prior, x, every, problem.rough)
    # Where (n,) the curvature is that at x.
    fresh = torch.ones(n, dtype=torch.bool)
    damping = torch.full((n,), DAMPING, dtype=torch.float64)
    converged = torch.zeros(n, dtype=torch.bool)
    count = torch.zeros(n, dtype=torch.int64)
    active = every
    for _ in range(iterations):
        if not len(active):
            break
        at, normal = x[active], here[active]
        floor, roof = low[active], high[active]
        held = _held(at, normal.gradient, floor, roof)
        step = _step(normal, damping[active], held)
        # What stands at a bound and would pass it, pushed by the others, is held, too.
        out = (at + step < floor) | (at + step > roof)
        held = held | (out & ((at == floor) | (at == roof)))
        again = out.any(1).nonzero()[:, 0]
        if len(again):
            step[again] = _step(normal[again], damping[active[again]], held[again])
        trial = (at + step).clamp(floor, roof)
        cut = (trial != at + step).any(1)
        step = trial - at
        promised = -(2 * (step * normal.gradient).sum(1) + _form(normal.curvature, step))
        small = (promised < (ROUNDING * normal.chi2).clamp(min=tolerance)) & ~cut
        count[active] += 1
        done = active[small]
        converged[done] = True
        x[done] = trial[small]
        fresh[done] &= promised[small] < STILL
        chi2 = here.chi2[done] - promised[small].clamp(min=0)
        gradient = here.gradient[done] + (here.curvature[done] @ step[small][:, :, None])[:, :, 0]
        here.chi2[done], here.gradient[done] = chi2, gradient
        active, trial, promised = active[~small], trial[~small], promised[~small]
        if len(active):
            kept = fresh[active] & (promised < NEAR)
            there = _ahead(problem, prior, trial, active, here, kept)
            better = there.chi2 <= here.chi2[active]
            won = active[better]
            x[won], fresh[won] = trial[better], ~kept[better]
            _put(here, won, there[better])
            damping[won] *= EASED
            damping[active[~better]] *= RAISED
            active = active[damping[active] < MOST]
        if on_step is not None:
            on_step(len(active))
    # A last step is taken on trust, and may follow a rough curvature: here it is wanted as it is.
    rest = every if problem.rough else (~fresh).nonzero()[:, 0]
    if exact and len(rest):
        there = _evaluated(problem, prior, x[rest], rest, False)
        _put(here, rest, there)
        # What is left of a rough step is made good where it leaves the curvature as it is.
        held = _held(x[rest], there.gradient, low[rest], high[rest])
        step = _step(there, torch.zeros(len(rest), dtype=torch.float64), held)
        ahead = x[rest] + step
        small = (_form(there.curvature, step) < STILL) & ((ahead >= low[rest]) & (ahead <= high[rest])).all(1)
        x[rest[small]] = ahead[small]
    penalty = torch.zeros(n, dtype=torch.float64) if prior is None else prior.chi2(x, every)
    return Solution(x, here, converged, _held(x, here.gradient, low, high) & (low < high), count, penalty)


def _fields(normal: Normal) -> tuple[Tensor, Tensor, Tensor]:
    return normal.chi2, normal.gradient, normal.curvature


def _put(normal: Normal, rows: Tensor, new: Normal) -> None:
    """Replace some rows."""
    for kept, field in zip(_fields(normal), _fields(new), strict=True):
        kept[rows] = field.double()


def _evaluated(problem: Problem, prior: Prior | None, x: Tensor, rows: Tensor, rough: bool) -> Normal:
    """Return the normal equations of some rows (k,) at parameters (k, m)."""
    k, m = x.shape
    made = Normal(*(torch.empty(k, *shape, dtype=torch.float64) for shape in ((), (m,), (m, m))))
    for some in torch.split(torch.arange(k), problem.chunk):
        if len(some):
            _put(made, some, problem.normal(x[some], rows[some], rough=rough))
    if prior is not None:
        made.chi2.add_(prior.chi2(x, rows))
        made.gradient.add_(prior.gradient(x, rows))
        made.curvature.add_(torch.diag_embed(prior.weight(rows)))
    return made


def _ahead(
    problem: Problem, prior: Prior | None, x: Tensor, rows: Tensor, here: Normal, kept: Tensor
) -> Normal:
    """Return the normal equations of some rows (k,) at x (k, m), some (k,) with the curvature from here."""
    there = here[rows]
    new = (~kept).nonzero()[:, 0]
    if len(new):
        _put(there, new, _evaluated(problem, prior, x[new], rows[new], problem.rough))
    for some in torch.split(kept.nonzero()[:, 0], problem.chunk):
        if len(some):
            chi2, gradient = problem.slope(x[some], rows[some])
            there.chi2[some], there.gradient[some] = chi2.double(), gradient.double()
            if prior is not None:
                there.chi2[some] += prior.chi2(x[some], rows[some])
                there.gradient[some] += prior.gradient(x[some], rows[some])
    return there


def _held(x: Tensor, gradient: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return which parameters (n, m) a bound keeps from going downhill."""
    return ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0)) | (low == high)


def _form(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.einsum("ni,nij,nj->n", vector, matrix, vector)


def _step(normal: Normal, damping: Tensor, held: Tensor) -> Tensor:
    """Return the damped step (n, m), in units that make the curvature's diagonal one."""
    free = (~held).double()
    scale = normal.curvature.diagonal(dim1=1, dim2=2).clamp(min=1e-300).rsqrt() * free
    unit = normal.curvature * scale[:, :, None] * scale[:, None, :]
    unit = unit + torch.diag_embed(damping[:, None] * free + (1 - free))
    solved, failed = torch.linalg.solve_ex(unit, -(scale * normal.gradient)[:, :, None])
    return torch.where(failed[:, None] == 0, scale * solved[:, :, 0], 0.0)
