"""The result of a fit in physical units, with errors and flags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.labels import LabelSet
from draper.infer.compressed import CompressedProblem
from draper.infer.exposures import JointProblem
from draper.infer.forward import SpectrumFunction
from draper.infer.least_squares import Solution, inverse_curvature
from draper.nn.hull import outside

FloatArray = NDArray[np.float64]

BAD_FIT = 1.5
"""A fit is bad if its reduced chi2 exceeds this by more than five times its expected scatter."""


@dataclass(frozen=True)
class FitResult:
    """The result of the fit of n stars, in physical units.

    Attributes
    ----------
    names : tuple of str
        Free labels; then velocities, ``rv`` or ``rv_1``, ``rv_2``, ...; then free widths.
    values, conditional : ndarray (n, m)
        Best values, and their errors if all other quantities were known.
    covariance : ndarray (n, m, m)
    labels : ndarray (n, l)
        All labels of the model, fixed ones included.
    columns : dict of str to ndarray (n,)
        ``chi2``, ``reduced_chi2``, ``jitter`` [unit of the flux] and ``iterations``.
    flags : dict of str to bool ndarray (n,)
    models, levels : list of ndarray (n, q)
        For each exposure the best-fitting spectra, and the continuum in them; empty unless asked for.
    """

    names: tuple[str, ...]
    values: FloatArray
    conditional: FloatArray
    covariance: FloatArray
    labels: FloatArray
    columns: dict[str, NDArray[np.float64]]
    flags: dict[str, NDArray[np.bool_]]
    models: list[NDArray[np.float32]] = field(default_factory=list)
    levels: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(frozen=True)
class SolvedFit:
    """A problem with its final weights, and its solution.

    Attributes
    ----------
    problem
        With the final weights of the pixels.
    solution
        Its best parameters.
    several : Tensor (n,) bool
        Where another minimum is as good.
    jitter : Tensor (n,)
        Further error that is in the weights.
    low, high : Tensor (m,)
        Bounds; equal where a parameter is fixed.
    """

    problem: JointProblem
    solution: Solution
    several: Tensor
    jitter: Tensor
    low: Tensor
    high: Tensor

    @property
    def free(self) -> Tensor:
        """Which parameters (m,) are not fixed."""
        return self.low < self.high


def fit_result(
    function: SpectrumFunction,
    labels: LabelSet,
    problem: JointProblem | CompressedProblem,
    solution: Solution,
    several: Tensor,
    jitter: Tensor,
    free: Tensor,
) -> FitResult:
    """Return a solution in physical units, with covariance and flags.

    Parameters
    ----------
    function, labels, problem
        The model and the problem that was solved.
    solution, several, jitter
        See :class:`SolvedFit`.
    free : Tensor (m,) bool
        Which parameters were not fixed.
    """
    d = len(labels)
    names = [*labels.names, *problem.names]
    is_rv = torch.tensor([name.startswith("rv") and number >= d for number, name in enumerate(names)])
    chosen, is_rv, x = free.nonzero()[:, 0], is_rv[free], solution.x
    span = torch.cat([physical_units(labels, x[:, :d]), torch.ones(len(x), len(names) - d).double()], dim=1)[
        :, free
    ]
    curvature = solution.normal.curvature[:, chosen][:, :, chosen]
    covariance = inverse_curvature(curvature) * span[:, :, None] * span[:, None]
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    conditional = torch.where(diagonal > 0, diagonal, torch.nan).rsqrt() * span
    physical = labels.unscale((x[:, :d] + 0.5).numpy())
    values = np.concatenate([physical, x[:, d:].numpy()], axis=1)[:, chosen.numpy()]
    freedom = problem.freedom() - len(chosen)
    chi2 = solution.normal.chi2 - solution.penalty
    reduced = chi2 / freedom.clamp(min=1)
    bound = solution.bound[:, free]
    flags = {
        "not_converged": ~solution.converged,
        "at_bound": (bound & ~is_rv).any(1),
        "rv_limit": (bound & is_rv).any(1),
        "outside": outside(x[:, :d].float(), function.facets),
        "bad_fit": reduced > BAD_FIT + 5 * (2 / freedom.clamp(min=1)).sqrt(),
        "several_minima": several,
    }
    empty = (freedom <= 0).numpy()
    for array in (values, physical):
        array[empty] = np.nan
    covariance[torch.from_numpy(empty)] = torch.nan
    return FitResult(
        tuple(names[number] for number in chosen.tolist()),
        values,
        np.where(empty[:, None], np.nan, conditional.numpy()),
        covariance.numpy(),
        physical,
        {
            "chi2": chi2.numpy(),
            "reduced_chi2": reduced.numpy(),
            "jitter": jitter.double().numpy(),
            "iterations": solution.iterations.double().numpy(),
        },
        {name: flag.numpy() & ~empty for name, flag in flags.items()},
    )


def add_model_spectra(result: FitResult, problem: JointProblem, solution: Solution) -> FitResult:
    """Return the result with the best-fitting spectra of each exposure."""
    spectra = [part.models(solution.x[:, place]) for part, place in problem.each]
    return replace(
        result, models=[model.numpy() for model, _ in spectra], levels=[level.numpy() for _, level in spectra]
    )


def physical_units(labels: LabelSet, x: Tensor) -> Tensor:
    """Return the size of a unit of scaled labels (n, d) in physical units; it varies for logarithmic ones."""
    apart = 1e-4
    more, less = (labels.unscale((x + 0.5 + sign * apart).numpy()) for sign in (1, -1))
    return torch.from_numpy((more - less) / (2 * apart))
