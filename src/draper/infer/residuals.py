"""The error of a model on real spectra, from the residuals of their fits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.start import nearest_pixel
from draper.infer.weights import MAD, add_variance
from draper.instrument.doppler import doppler_factor
from draper.nn.error_modes import independent_error

FEW = 5
"""Pixels that fewer spectra cover get the typical error of the others."""

HALVINGS = 30
"""Halvings of the range in which each error is searched."""


@torch.no_grad()
def residuals(fitter: Fitter, exposures: Sequence[Exposure]) -> tuple[Tensor, Tensor]:
    """Return squared residuals over the continuum, and the inverse variances that they should have.

    Both are (n times the number of exposures, p), at rest on the model's pixels; inverse variances are those
    of the noise and the model's own error, 0 where the fit has used no pixel.
    """
    solved = fitter.solve(exposures)
    freedom = solved.problem.freedom()
    # A fit absorbs part of the errors: its residuals are smaller by the share of the free parameters.
    grown = freedom / (freedom - int(solved.free.sum())).clamp(min=1)
    squares, weights = [], []
    for data, (part, place) in zip(exposures, solved.problem.each, strict=True):
        x = solved.solution.x[:, place]
        model, level = part.models(x)
        over = torch.where(level.abs() > 0, level, torch.inf)
        square = ((part.flux - model) / over).square() * grown[:, None]
        ivar = torch.tensor(data.ivar) * level.square() * (part.ivar > 0)
        rv = part.layout.split(x)[1] if part.rv is None else part.rv
        where, covered = nearest_pixel(part.observed, fitter.wavelength * doppler_factor(rv)[:, None])
        own = torch.zeros(1)
        if fitter.has_error:
            usual = independent_error(fitter.function.uncertainty, fitter.function.modes)
            own = usual.square() * part.spread[:, None].square()
        squares.append(square.gather(1, where))
        weights.append(add_variance(ivar.gather(1, where) * covered, own))
    return torch.cat(squares), torch.cat(weights)


def excess_error(squares: Tensor, ivar: Tensor) -> Tensor:
    """Return the error (p,) that is missing from inverse variances (n, p), judged by the median residual.

    Examples
    --------
    >>> squares = torch.tensor([[0.0001, 0.04]]).expand(9, 2)
    >>> excess_error(squares, torch.full((9, 2), 1e4))
    tensor([0.0109, 0.2963])
    """
    used = ivar > 0
    low = torch.zeros(squares.shape[1])
    high = (squares * used).amax(0).clamp(min=1e-20) / MAD**2
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        pull = torch.where(used, squares * add_variance(ivar, middle), torch.nan)
        large = pull.nanmedian(0).values > MAD**2
        low, high = torch.where(large, middle, low), torch.where(large, high, middle)
    gap = low.sqrt()
    covered = used.sum(0) >= FEW
    return torch.where(covered, gap, gap[covered].median() if bool(covered.any()) else 0.0)
