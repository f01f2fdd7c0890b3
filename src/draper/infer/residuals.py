"""What real spectra say of the error of a model, from what is left over when they are fitted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.start import nearest_pixel
from draper.infer.weights import MAD, with_variance
from draper.instrument.doppler import doppler_factor

FEW = 5
"""Pixels that fewer spectra show are taken to be like the others."""

HALVINGS = 30


@torch.no_grad()
def residuals(fitter: Fitter, exposures: Sequence[Exposure]) -> tuple[Tensor, Tensor]:
    """Return squared residuals over the continuum, and the inverse variances that they should have.

    Both are (n times the number of exposures, p), at rest on the emulator's pixels; inverse variances are
    those of the noise and the emulator's own error, 0 where the fit has used no pixel.
    """
    settled = fitter.settled(exposures)
    free = int((settled.low < settled.high).sum())
    freedom = settled.problem.freedom()
    # Residuals of a fit are smaller than the errors.
    grown = freedom / (freedom - free).clamp(min=1)
    squares, weights = [], []
    for data, (part, place) in zip(exposures, settled.problem.each, strict=True):
        x = settled.solution.x[:, place]
        model, level = part.models(x)
        over = torch.where(level.abs() > 0, level, torch.inf)
        square = ((part.flux - model) / over).square() * grown[:, None]
        ivar = torch.tensor(data.ivar) * level.square() * (part.ivar > 0)
        rv = part.layout.split(x)[1] if part.rv is None else part.rv
        where, covered = nearest_pixel(part.observed, fitter.wavelength * doppler_factor(rv)[:, None])
        known = torch.zeros(1)
        if fitter.has_error:
            known = fitter.network.scatter().square() * part.spread[:, None].square()
        squares.append(square.gather(1, where))
        weights.append(with_variance(ivar.gather(1, where) * covered, known))
    return torch.cat(squares), torch.cat(weights)


def gap_of(squares: Tensor, ivar: Tensor) -> Tensor:
    """Return the error (p,) that is missing from inverse variances (n, p), judged by the median residual.

    Examples
    --------
    >>> squares = torch.tensor([[0.0001, 0.04]]).expand(9, 2)
    >>> gap_of(squares, torch.full((9, 2), 1e4))
    tensor([0.0109, 0.2963])
    """
    used = ivar > 0
    low = torch.zeros(squares.shape[1])
    high = (squares * used).amax(0).clamp(min=1e-20) / MAD**2
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        pull = torch.where(used, squares * with_variance(ivar, middle), torch.nan)
        large = pull.nanmedian(0).values > MAD**2
        low, high = torch.where(large, middle, low), torch.where(large, high, middle)
    gap = low.sqrt()
    seen = used.sum(0) >= FEW
    return torch.where(seen, gap, gap[seen].median() if bool(seen.any()) else 0.0)
