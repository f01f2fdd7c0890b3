"""What a fit found, in physical units, with errors and flags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.labels import LabelSet
from draper.infer.compressed import CompressedProblem
from draper.infer.joint import JointProblem
from draper.infer.least_squares import Solution, inverted
from draper.nn.spectral import SpectralNetwork

FloatArray = NDArray[np.float64]

BAD_FIT = 1.5
"""Reduced chi2 from which on, beyond five times its expected scatter, a fit is bad."""


@dataclass(frozen=True)
class Fit:
    """What a fit found for n stars, in physical units.

    Attributes
    ----------
    names : tuple of str
        Free labels; then velocities, ``rv`` or ``rv_1``, ``rv_2``, ...; then free widths.
    values, conditional : ndarray (n, m)
        Best values, and their errors if all others were known.
    covariance : ndarray (n, m, m)
    labels : ndarray (n, l)
        All labels of the network, those that were fixed among them.
    columns : dict of str to ndarray (n,)
        ``chi2``, ``reduced_chi2``, ``jitter`` [unit of the flux] and ``iterations``.
    flags : dict of str to bool ndarray (n,)
    models, levels : list of ndarray (n, q)
        For each exposure what was compared with the data, and the continuum in it; where they were wanted.
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
class Settled:
    """A fit when its weights are settled.

    Attributes
    ----------
    problem
        With these weights.
    solution
    several : Tensor (n,) bool
        Where another minimum is as good.
    jitter : Tensor (n,)
        Error of the model beyond its own that is in the weights.
    low, high : Tensor (m,)
        Bounds; equal where a parameter is known.
    """

    problem: JointProblem
    solution: Solution
    several: Tensor
    jitter: Tensor
    low: Tensor
    high: Tensor


def outcome(
    network: SpectralNetwork,
    labels: LabelSet,
    problem: JointProblem | CompressedProblem,
    solution: Solution,
    several: Tensor,
    jitter: Tensor,
    free: Tensor,
) -> Fit:
    """Return what a solution means.

    Parameters
    ----------
    network, labels, problem
        What was fitted.
    solution, several, jitter
        What came out.
    free : Tensor (m,) bool
        Which parameters were not known.
    """
    d = len(labels)
    names = [*labels.names, *problem.names]
    is_rv = torch.tensor([name.startswith("rv") and number >= d for number, name in enumerate(names)])
    chosen, is_rv, x = free.nonzero()[:, 0], is_rv[free], solution.x
    span = torch.cat([slopes(labels, x[:, :d]), torch.ones(len(x), len(names) - d).double()], dim=1)[:, free]
    curvature = solution.normal.curvature[:, chosen][:, :, chosen]
    covariance = inverted(curvature) * span[:, :, None] * span[:, None]
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
        "outside": network.outside_hull(x[:, :d].float()),
        "bad_fit": reduced > BAD_FIT + 5 * (2 / freedom.clamp(min=1)).sqrt(),
        "several_minima": several,
    }
    empty = (freedom <= 0).numpy()
    for array in (values, physical):
        array[empty] = np.nan
    covariance[torch.from_numpy(empty)] = torch.nan
    return Fit(
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


def with_models(fit: Fit, problem: JointProblem, solution: Solution) -> Fit:
    """Return the same with the spectra that the labels stand for."""
    found = [part.models(solution.x[:, place]) for part, place in problem.each]
    return replace(
        fit, models=[model.numpy() for model, _ in found], levels=[level.numpy() for _, level in found]
    )


def slopes(labels: LabelSet, x: Tensor) -> Tensor:
    """Return physical units per unit of scaled labels (n, d); for logarithms they differ between stars."""
    apart = 1e-4
    more, less = (labels.unscale((x + 0.5 + sign * apart).numpy()) for sign in (1, -1))
    return torch.from_numpy((more - less) / (2 * apart))
