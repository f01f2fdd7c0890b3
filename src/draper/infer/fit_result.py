"""The result of a fit in physical units, with errors and flags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.data.labels import LabelSet
from draper.infer.compressed import CompressedProblem
from draper.infer.exposures import JointProblem
from draper.infer.forward import SpectrumFunction
from draper.infer.least_squares import Solution, inverse_curvature
from draper.infer.posterior import Posterior, label_flags, posterior
from draper.infer.priors import MixturePrior
from draper.infer.truncated import LEVELS
from draper.nn.hull import beyond

FloatArray = NDArray[np.float64]

BAD_FIT = 4.5
"""A fit is bad if its reduced chi2 exceeds 1 by more than so many times its expected scatter."""

AGAIN, APART = 2, 0.3
"""How often chi2 is expanded again, about medians that are off the best fit by more than so many sigma."""

MEDIAN = LEVELS.index(0.5)


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
    quantiles : ndarray (n, q, m)
        Of the posterior between the bounds, at :data:`draper.infer.truncated.LEVELS`.
    posterior_covariance : ndarray (n, m, m)
        Of the posterior between the bounds.
    label_flags : ndarray (n, m) of str
        How well each quantity is known.
    labels : ndarray (n, l)
        All labels of the model, fixed ones included.
    columns : dict of str to ndarray (n,)
        ``chi2``, ``reduced_chi2``, ``jitter`` [unit of the flux], ``pixels_alike`` and ``iterations``.
    flags : dict of str to bool ndarray (n,)
    models, levels : list of ndarray (n, q)
        For each exposure the best-fitting spectra, and the continuum in them; empty unless asked for.
    """

    names: tuple[str, ...]
    values: FloatArray
    conditional: FloatArray
    covariance: FloatArray
    quantiles: FloatArray
    posterior_covariance: FloatArray
    label_flags: NDArray[np.str_]
    labels: FloatArray
    columns: dict[str, NDArray[np.float64]]
    flags: dict[str, NDArray[np.bool_]]
    models: list[NDArray[np.float32]] = field(default_factory=list)
    levels: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(frozen=True)
class Misfit:
    """What the residuals of n fits say.

    Attributes
    ----------
    chi2 : Tensor (n,)
        Of all pixels, before the weights were divided by ``alike``.
    jitter : Tensor (n,)
        Further error that is in the weights.
    alike : Tensor (n,)
        Neighbouring pixels that count as one, as their residuals are alike.
    is_poor, fits_jitter : Tensor (n,) bool, optional
        Whether a fitted jitter, which brings chi2 to 1, is about as large as the lines that are fitted; and
        which spectra have one.
    """

    chi2: Tensor
    jitter: Tensor
    alike: Tensor
    is_poor: Tensor | None = None
    fits_jitter: Tensor | None = None

    def is_bad(self, limit: Tensor, freedom: Tensor) -> Tensor:
        """Return which fits (n,) are bad: by their reduced chi2, or by a jitter that brings this to 1."""
        by_chi2 = self.chi2 / freedom.clamp(min=1) > limit
        if self.is_poor is None or self.fits_jitter is None:
            return by_chi2
        return torch.where(self.fits_jitter, self.is_poor, by_chi2)

    @classmethod
    def of(cls, solution: Solution, jitter: float | Literal["none", "fit"]) -> Self:
        """Return what a solution says if nothing is learnt from residuals."""
        plain = torch.full_like(solution.misfit, jitter if isinstance(jitter, float) else 0.0).float()
        return cls(solution.misfit, plain, torch.ones_like(plain))


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
    misfit
        What the residuals say.
    low, high : Tensor (m,)
        Bounds; equal where a parameter is fixed.
    prior
        What is known beforehand.
    """

    problem: JointProblem
    solution: Solution
    several: Tensor
    misfit: Misfit
    low: Tensor
    high: Tensor
    prior: MixturePrior | None = None

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
    misfit: Misfit,
    low: Tensor,
    high: Tensor,
    prior: MixturePrior | None,
) -> FitResult:
    """Return a solution in physical units, with covariance, quantiles and flags.

    Parameters
    ----------
    function, labels, problem
        The model and the problem that was solved.
    solution, several, misfit, low, high, prior
        See :class:`SolvedFit`.
    """
    d, free = len(labels), low < high
    names = [*labels.names, *problem.names]
    chosen, x = free.nonzero()[:, 0], solution.x
    is_rv = torch.tensor([number >= d and names[number].startswith("rv") for number in chosen.tolist()])
    span = torch.cat([physical_units(labels, x[:, :d]), torch.ones(len(x), len(names) - d).double()], dim=1)[
        :, free
    ]
    normal = solution.normal.of(chosen)
    prior = None if prior is None else prior.given(~free, low[~free])
    inverse = inverse_curvature(normal.curvature)
    found = posterior(normal, x[:, chosen], prior, low[chosen], high[chosen])
    for _ in range(AGAIN):
        found = _about_the_median(found, problem, solution.x, chosen, prior, low, high)
    quantiles = x[:, None].repeat(1, found.quantiles.shape[1], 1)
    quantiles[:, :, chosen] = found.quantiles
    mean = x[:, chosen] - (inverse @ normal.gradient[:, :, None])[:, :, 0]
    sigma = inverse.diagonal(dim1=1, dim2=2).sqrt()
    of_labels = label_flags(found, mean, sigma, prior, low[chosen], high[chosen])
    whole = torch.zeros(len(x), d, d).double()
    is_label = chosen < d
    whole[:, chosen[is_label][:, None], chosen[is_label]] = inverse[:, is_label][:, :, is_label]
    squares = span[:, :, None] * span[:, None]
    diagonal = normal.curvature.diagonal(dim1=1, dim2=2)
    conditional = torch.where(diagonal > 0, diagonal, torch.nan).rsqrt() * span
    freedom = problem.freedom() - len(chosen)
    reduced = misfit.chi2 / freedom.clamp(min=1)
    flags = {
        "not_converged": ~solution.converged,
        "rv_limit": (solution.bound[:, free] & is_rv).any(1),
        "outside": beyond(x[:, :d], whole, function.facets)
        | torch.from_numpy((of_labels[:, is_label.numpy()] == "edge").any(axis=1)),
        "bad_fit": misfit.is_bad(1 + BAD_FIT * (2 / freedom.clamp(min=1)).sqrt(), freedom),
        "several_minima": several,
    }
    empty = (freedom <= 0).numpy()

    def unless_empty(values: Tensor) -> FloatArray:
        return np.where(empty.reshape(-1, *[1] * (values.ndim - 1)), np.nan, values.numpy())

    return FitResult(
        tuple(names[number] for number in chosen.tolist()),
        unless_empty(_physical(labels, x)[:, chosen]),
        unless_empty(conditional),
        unless_empty(inverse * squares),
        unless_empty(_physical(labels, quantiles)[:, :, chosen]),
        unless_empty(found.covariance * squares),
        of_labels,
        unless_empty(_physical(labels, x)[:, :d]),
        {
            "chi2": misfit.chi2.numpy(),
            "reduced_chi2": reduced.numpy(),
            "jitter": misfit.jitter.double().numpy(),
            "pixels_alike": misfit.alike.double().numpy(),
            "iterations": solution.iterations.double().numpy(),
        },
        {name: flag.numpy() & ~empty for name, flag in flags.items()},
    )


def _about_the_median(
    found: Posterior,
    problem: JointProblem | CompressedProblem,
    best: Tensor,
    chosen: Tensor,
    prior: MixturePrior | None,
    low: Tensor,
    high: Tensor,
) -> Posterior:
    """Return posteriors with chi2 taken as quadratic about their medians, where these are not the best fit.

    At a wall of the box chi2 may be far steeper than in most of the box: lines grow with 10 to the abundance.
    """
    sigma = found.covariance.diagonal(dim1=1, dim2=2).sqrt()
    off = (found.quantiles[:, MEDIAN] - best[:, chosen]).abs() > APART * sigma
    moved = (off.any(1) & found.quantiles.isfinite().all(2).all(1)).nonzero()[:, 0]
    for rows in torch.split(moved, problem.chunk):
        if len(rows):
            x = best[rows].clone()
            x[:, chosen] = found.quantiles[rows, MEDIAN]
            here = problem.normal(x, rows).of(chosen).double()
            if prior is not None:
                here.gradient.add_(prior.gradient(x[:, chosen], rows))
                here.curvature.add_(prior.curvature(x[:, chosen], rows))
            new = posterior(here, x[:, chosen], prior, low[chosen], high[chosen])
            found.quantiles[rows], found.covariance[rows] = new.quantiles, new.covariance
    return found


def _physical(labels: LabelSet, x: Tensor) -> Tensor:
    """Return parameters (..., m) with their labels in physical units."""
    d = len(labels)
    return torch.cat([torch.from_numpy(labels.unscale((x[..., :d] + 0.5).numpy())), x[..., d:]], dim=-1)


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
