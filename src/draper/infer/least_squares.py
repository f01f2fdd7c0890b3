"""Levenberg-Marquardt for thousands of small problems at once.

A problem computes chi2 of its rows and its derivatives (:class:`Normal`); bounds, priors, damping and
stopping are here. Rows stop one by one, and those that have stopped are computed no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

DAMPING, EASED, RAISED, LARGEST = 1e-3, 0.1, 10.0, 1e7
"""Damping at the start, its factors after a step that lowers chi2 and one that does not, and its largest."""

ROUNDING = 1e-6
"""Relative rounding error of chi2; no step needs to gain less."""

NEAR = 10.0
"""After a step whose expected gain is smaller, the curvature is used once more: it has hardly changed."""

STILL = 1e-4
"""After a last step whose expected gain is smaller, the curvature is not computed again."""

SHORT = 0.01
"""The longest last step, in units of the range: where a parameter changes nothing, no length is wrong."""

APART, ALIKE = 5.0, 9.0
"""A second minimum counts if it is this many sigma away, and its chi2 higher by at most the second number."""


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

    def double(self) -> Normal:
        """Return the same in double precision."""
        return Normal(self.chi2.double(), self.gradient.double(), self.curvature.double())

    def of(self, some: Tensor) -> Normal:
        """Return the normal equations of some parameters (k,), the others being fixed."""
        return Normal(self.chi2, self.gradient[:, some], self.curvature[:, some[:, None], some])


class Problem(ABC):
    """Rows of data that are fitted with the same model.

    Attributes
    ----------
    rows
        Number of rows.
    chunk
        Number of rows that are computed together.
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

    def chi2_and_gradient(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return chi2 (k,) and its gradient (k, m) alone, which may be faster."""
        normal = self.normal(x, rows)
        return normal.chi2, normal.gradient


class AnyPrior(Protocol):
    """Adds to chi2 what is known beforehand of parameters (k, m) of some rows (k,)."""

    def chi2(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the prior's part (k,) of chi2."""

    def gradient(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the prior's part (k, m) of the gradient."""

    def curvature(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the prior's part (k, m, m) of the curvature."""


@dataclass(frozen=True)
class Prior:
    """Independent Gaussian priors of each row's parameters; a sigma of infinity is no prior.

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
        return (x.double() - self.mean[rows]) / self.sigma[rows].double().square()

    def curvature(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the prior's part (k, m, m) of the curvature."""
        return torch.diag_embed(self.sigma[rows].double().pow(-2))


@dataclass(frozen=True)
class Solution:
    """The best parameters of all rows.

    Attributes
    ----------
    x : Tensor (n, m)
        Best parameters.
    normal : Normal
        chi2 and its derivatives there, prior included.
    converged : Tensor (n,) bool
    bound : Tensor (n, m) bool
        Which parameters are at a bound, beyond which chi2 would be lower.
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

    @property
    def misfit(self) -> Tensor:
        """chi2 (n,) of the pixels, without the prior's part."""
        return self.normal.chi2 - self.penalty


def best_solution(solutions: Sequence[Solution]) -> tuple[Solution, Tensor]:
    """Return the best solution of each row, and where (n,) another one is as good."""
    best = torch.stack([solution.normal.chi2 for solution in solutions]).argmin(0)
    rows = torch.arange(len(best))

    def pick(*tensors: Tensor) -> Tensor:
        return torch.stack(tensors)[best, rows]

    chosen = Solution(
        pick(*(s.x for s in solutions)),
        Normal(*(pick(*parts) for parts in zip(*(_fields(s.normal) for s in solutions), strict=True))),
        pick(*(s.converged for s in solutions)),
        pick(*(s.bound for s in solutions)),
        pick(*(s.iterations for s in solutions)),
        pick(*(s.penalty for s in solutions)),
    )
    several = torch.zeros(len(best), dtype=torch.bool)
    for solution in solutions:
        off = solution.x - chosen.x
        far = _form(chosen.normal.curvature, off) > APART**2
        several |= far & solution.converged & (solution.normal.chi2 < chosen.normal.chi2 + ALIKE)
    return chosen, several


def inverse_curvature(curvature: Tensor) -> Tensor:
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
    prior: AnyPrior | None = None,
    tolerance: float = 0.01,
    iterations: int = 50,
    exact: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> Solution:
    """Minimise chi2 of every row.

    Parameters
    ----------
    problem
        What to fit.
    start : Tensor (n, m)
        Parameters to start from; those outside of the bounds are moved to them.
    low, high : Tensor (m,) or (n, m)
        Bounds. A parameter whose bounds are equal is fixed.
    prior
        Priors of the parameters.
    tolerance
        A row has converged when the next step would lower chi2 by less; that step is taken unchecked.
    iterations
        Maximum number of steps.
    exact
        Whether the curvature at the end is computed in full precision.
    on_step
        Called with the number of rows that have not converged, after each step.

    Examples
    --------
    >>> class Line(Problem):
    ...     rows = 1
    ...     def normal(self, x, rows, *, rough=False):
    ...         r = x - torch.tensor([[3.0, -1.0]], dtype=torch.float64)
    ...         return Normal(r.square().sum(1), r, torch.eye(2, dtype=torch.float64).expand(len(x), 2, 2))
    >>> end = torch.tensor([2.0, 2.0], dtype=torch.float64)
    >>> solution = minimise(Line(), torch.zeros(1, 2, dtype=torch.float64), -end, end)
    >>> solution.x.round(decimals=3), solution.bound
    (tensor([[ 2., -1.]], dtype=torch.float64), tensor([[ True, False]]))
    """
    n, m = start.shape
    low, high = (end.double().expand(n, m) for end in (low, high))
    x = start.double().clamp(low, high)
    every = torch.arange(n)
    here = _evaluate(problem, prior, x, every, problem.rough)
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
        # A parameter at a bound that the step of the others would push beyond it is held, too.
        out = (at + step < floor) | (at + step > roof)
        held = held | (out & ((at == floor) | (at == roof)))
        again = out.any(1).nonzero()[:, 0]
        if len(again):
            step[again] = _step(normal[again], damping[active[again]], held[again])
        trial = (at + step).clamp(floor, roof)
        cut = (trial != at + step).any(1)
        step = trial - at
        gain = -(2 * (step * normal.gradient).sum(1) + _form(normal.curvature, step))
        small = (gain < (ROUNDING * normal.chi2).clamp(min=tolerance)) & ~cut
        count[active] += 1
        done = active[small]
        converged[done] = True
        x[done] = trial[small]
        fresh[done] &= gain[small] < STILL
        chi2 = here.chi2[done] - gain[small].clamp(min=0)
        gradient = here.gradient[done] + (here.curvature[done] @ step[small][:, :, None])[:, :, 0]
        here.chi2[done], here.gradient[done] = chi2, gradient
        active, trial, gain = active[~small], trial[~small], gain[~small]
        if len(active):
            reused = fresh[active] & (gain < NEAR)
            there = _evaluate_trial(problem, prior, trial, active, here, reused)
            better = there.chi2 <= here.chi2[active]
            moved = active[better]
            x[moved], fresh[moved] = trial[better], ~reused[better]
            _put(here, moved, there[better])
            damping[moved] *= EASED
            damping[active[~better]] *= RAISED
            active = active[damping[active] < LARGEST]
        if on_step is not None:
            on_step(len(active))
    # The last step was not checked, and may follow a rough curvature: now all is computed exactly.
    rest = every if problem.rough else (~fresh).nonzero()[:, 0]
    if exact and len(rest):
        there = _evaluate(problem, prior, x[rest], rest, False)
        _put(here, rest, there)
        # The error of a rough step is corrected where that leaves the curvature as it is.
        held = _held(x[rest], there.gradient, low[rest], high[rest])
        step = _step(there, torch.zeros(len(rest), dtype=torch.float64), held)
        ahead, reach = x[rest] + step, SHORT * (high - low)[rest]
        small = (_form(there.curvature, step) < STILL) & (step.abs() <= reach).all(1)
        small &= ((ahead >= low[rest]) & (ahead <= high[rest])).all(1)
        x[rest[small]] = ahead[small]
    penalty = torch.zeros(n, dtype=torch.float64) if prior is None else prior.chi2(x, every)
    return Solution(x, here, converged, _held(x, here.gradient, low, high) & (low < high), count, penalty)


def _fields(normal: Normal) -> tuple[Tensor, Tensor, Tensor]:
    return normal.chi2, normal.gradient, normal.curvature


def _put(normal: Normal, rows: Tensor, new: Normal) -> None:
    """Replace some rows."""
    for old, field in zip(_fields(normal), _fields(new), strict=True):
        old[rows] = field.double()


def _evaluate(problem: Problem, prior: AnyPrior | None, x: Tensor, rows: Tensor, rough: bool) -> Normal:
    """Return the normal equations of some rows (k,) at parameters (k, m)."""
    k, m = x.shape
    normal = Normal(*(torch.empty(k, *shape, dtype=torch.float64) for shape in ((), (m,), (m, m))))
    for some in torch.split(torch.arange(k), problem.chunk):
        if len(some):
            _put(normal, some, problem.normal(x[some], rows[some], rough=rough))
    if prior is not None:
        normal.chi2.add_(prior.chi2(x, rows))
        normal.gradient.add_(prior.gradient(x, rows))
        normal.curvature.add_(prior.curvature(x, rows))
    return normal


def _evaluate_trial(
    problem: Problem, prior: AnyPrior | None, x: Tensor, rows: Tensor, here: Normal, reused: Tensor
) -> Normal:
    """Return the normal equations of some rows (k,) at x (k, m); ``reused`` ones keep the curvature."""
    there = here[rows]
    new = (~reused).nonzero()[:, 0]
    if len(new):
        _put(there, new, _evaluate(problem, prior, x[new], rows[new], problem.rough))
    for some in torch.split(reused.nonzero()[:, 0], problem.chunk):
        if len(some):
            chi2, gradient = problem.chi2_and_gradient(x[some], rows[some])
            there.chi2[some], there.gradient[some] = chi2.double(), gradient.double()
            if prior is not None:
                there.chi2[some] += prior.chi2(x[some], rows[some])
                there.gradient[some] += prior.gradient(x[some], rows[some])
    return there


def _held(x: Tensor, gradient: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return which parameters (n, m) are fixed, or at a bound that chi2 would push them beyond."""
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
