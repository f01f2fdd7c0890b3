"""Several exposures of each star, with labels in common and a velocity each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draper.infer.least_squares import Normal, Problem
from draper.infer.pixels import PixelProblem
from draper.nn.precision import bfloat16_helps


class JointProblem(Problem):
    """The sum of problems whose rows are the same stars.

    Parameters are labels, then the velocities (one for all exposures, or one for each), then widths.

    Parameters
    ----------
    parts
        One for each exposure or arm.
    shared
        Whether all have one velocity.
    """

    chunk = 32

    def __init__(self, parts: Sequence[PixelProblem], *, shared: bool) -> None:
        self.parts, self.rows, self.rough = parts, parts[0].rows, bfloat16_helps()
        layout = parts[0].layout
        d, velocities = layout.labels, (1 if shared else len(parts)) if layout.rv else 0
        self.size = d + velocities + len(layout.widths)
        self.names = (
            *(["rv"] if velocities == 1 else [f"rv_{number + 1}" for number in range(velocities)]),
            *layout.widths,
        )
        self.places = [
            torch.tensor(
                [
                    *range(d),
                    *([d + (0 if shared else number)] if layout.rv else []),
                    *range(d + velocities, self.size),
                ]
            )
            for number in range(len(parts))
        ]

    @property
    def each(self) -> list[tuple[PixelProblem, Tensor]]:
        """The parts, and which of the parameters are theirs."""
        return list(zip(self.parts, self.places, strict=True))

    def freedom(self) -> Tensor:
        """Return how many pixels (n,) there are beyond the coefficients of the continuum."""
        known = sum(0 if part.continuum is None else len(part.continuum) for part in self.parts)
        return torch.stack([(part.ivar > 0).sum(1) for part in self.parts]).sum(0) - known

    def normal(self, x: Tensor, rows: Tensor, *, rough: bool = False) -> Normal:
        """Return the normal equations of some rows (k,) at parameters (k, m)."""
        k = len(x)
        chi2 = torch.zeros(k, dtype=torch.float64)
        gradient = torch.zeros(k, self.size, dtype=torch.float64)
        curvature = torch.zeros(k, self.size, self.size, dtype=torch.float64)
        for part, place in self.each:
            own = part.normal(x[:, place], rows, rough=rough)
            chi2 += own.chi2.double()
            gradient[:, place] += own.gradient.double()
            curvature[:, place[:, None], place] += own.curvature.double()
        return Normal(chi2, gradient, curvature)

    def slope(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return chi2 (k,) and its gradient (k, m) alone."""
        chi2 = torch.zeros(len(x), dtype=torch.float64)
        gradient = torch.zeros(len(x), self.size, dtype=torch.float64)
        for part, place in self.each:
            own_chi2, own_gradient = part.slope(x[:, place], rows)
            chi2 += own_chi2.double()
            gradient[:, place] += own_gradient.double()
        return chi2, gradient
