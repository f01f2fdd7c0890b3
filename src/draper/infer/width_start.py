"""The start of fits with a free width: guesses of the labels at some widths, and the best between these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from draper.infer.compressed import CompressedProblem, Compression, Guess
from draper.infer.instrument_model import PerceptronModel
from draper.infer.least_squares import minimise
from draper.instrument.broadening import broaden

TRIALS: Mapping[str, tuple[float, ...]] = {
    "vsini": (0.0, 7.0, 16.0, 30.0, 55.0, 110.0, 220.0),
    "vmac": (0.0, 7.0, 16.0, 30.0, 60.0),
    "resolving_power": (1e5, 4e4, 2e4, 1e4, 6e3, 3e3, 1.5e3),
}
"""Widths at which labels are guessed; neighbours differ by what spectra can tell apart at a low S/N."""

WORSE = 3.0
"""Guesses are improved where their chi2 is below that of the best one so far times this."""


def guess_width(
    model: PerceptronModel,
    step: float,
    name: str,
    others: Mapping[str, float],
    points: Tensor,
    low: Tensor,
    high: Tensor,
    flux: Tensor,
    ivar: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return labels (n, d) and values (n,) of one width from which fits can start.

    Parameters
    ----------
    model
        Spectra before they are broadened, on pixels of equal width ``step`` [km/s].
    name, others
        The width, and typical values of the other free ones.
    points : Tensor (m, d)
        Scaled labels that guesses are learnt from.
    low, high : Tensor (d,)
        Bounds of the labels.
    flux, ivar : Tensor (n, p)
        Spectra at rest on the pixels of the model.
    """
    bad, usual = ivar <= 0, ivar.median(dim=0).values
    least, labels, width = torch.full((len(flux),), torch.inf), points[:1].repeat(len(flux), 1), flux[:, 0]
    before: tuple[float, Tensor, Tensor] | None = None
    for trial in TRIALS[name]:
        widths: dict[str, Any] = {key: torch.tensor(value) for key, value in {**others, name: trial}.items()}
        weight, bias = broaden(model.weight.T, step, **widths).T, broaden(model.bias[None], step, **widths)[0]
        broadened = PerceptronModel(model.network, weight, bias)
        guess, found = Guess(Compression(broadened, usual), points), points[:1] * 0
        for _ in range(2):  # bad pixels are filled with the middle of the box, then with a guess
            short, left = guess.compression(torch.where(bad, broadened(found), flux))
            found = guess(short)
        residual = broadened(found) - flux
        promising = ((residual.square() * ivar).sum(1) < WORSE * least).nonzero()[:, 0]
        if len(promising):
            problem = CompressedProblem(guess.compression, short[promising], left[promising])
            solution = minimise(
                problem, found[promising], low, high, tolerance=1.0, iterations=6, exact=False
            )
            found[promising] = solution.x.float()
            residual[promising] = broadened(found[promising]) - flux[promising]
        here = trial, found, residual
        share, chi2 = between(before[2] if before else residual, residual, ivar)
        better = chi2 < least
        last, last_found, _ = before or here
        # Lines are the shallower, the larger the square of a small width.
        square = torch.lerp(torch.tensor(last).square(), torch.tensor(trial).square(), share)
        width = torch.where(better, square.sqrt(), width)
        labels = torch.where(better[:, None], torch.lerp(last_found, found, share[:, None]), labels)
        least, before = torch.minimum(least, chi2), here
    return labels, width


def between(first: Tensor, second: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far (n,), from 0 to 1, between two residuals (n, p) chi2 is lowest, and that chi2.

    Examples
    --------
    >>> first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[-3.0, 2.0]])
    >>> between(first, second, torch.ones(1, 2))
    (tensor([0.2500]), tensor([4.]))
    """
    change = second - first
    weighted = ivar * change
    size = (weighted * change).sum(1)
    share = torch.where(size > 0, -(weighted * first).sum(1) / size, 0.0).clamp(0, 1)
    return share, (torch.addcmul(first, share[:, None], change).square_() * ivar).sum(1)
