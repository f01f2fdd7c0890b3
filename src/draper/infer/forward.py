"""Functions from labels to spectra, as a label fit needs them: networks, or any differentiable function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.errors import DraperError
from draper.nn.hull import facets


class SpectrumFunction(Protocol):
    """What a label fit needs of a function from labels to flux.

    Labels x (n, d) are scaled: -0.5 is the low end of a label's range and 0.5 the high end. Every
    :class:`draper.nn.spectral.SpectralNetwork` is such a function; an unbounded
    :class:`draper.nn.spectral.Perceptron` is fitted by a faster way, with the same result. Any other function
    of labels becomes one by :meth:`ForwardModel.from_function`.

    Attributes
    ----------
    uncertainty : Tensor (p,)
        Usual 1-sigma error of each pixel of the function itself; NaN where it is unknown.
    modes : Tensor (r, p)
        The part of that error that pixels have in common; r may be 0.
    gap : Tensor (p,) or (0,)
        Further 1-sigma error on real spectra, as :meth:`.LabelFit.learn_error` measures it.
    points : Tensor (m, d)
        Scaled labels at which the function is known to be good, where fits may start; m may be 0.
    facets : Tensor (f, d + 1)
        Half-planes around these points (:func:`draper.nn.hull.facets`): labels beyond any are flagged.
    """

    uncertainty: Tensor
    modes: Tensor
    gap: Tensor
    points: Tensor
    facets: Tensor

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return flux (n, p)."""

    def jacobian(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d)."""

    def error(self, x: Tensor, /) -> Tensor:
        """Return the 1-sigma error (n, p) at labels: ``uncertainty``, times one factor for each row."""

    def amplitude_covariance(self, x: Tensor, mixture: Tensor, /) -> Tensor | None:
        """Return the covariance (n, k, k) of amplitudes of ``modes``, over that factor, at labels.

        They are mixed (r, k); None where the covariance is that of unit variances everywhere.
        """


class DifferentiableFunction:
    """A function of physical labels as a :class:`SpectrumFunction`; derivatives by automatic differentiation.

    Parameters
    ----------
    function
        From labels (n, d) in physical units, float32, to flux (n, p), row by row; made of operations that
        ``torch.func.jvp`` and ``torch.func.vmap`` can differentiate.
    labels
        The labels, in the order of the columns.
    uncertainty : Tensor (p,)
        1-sigma error of each pixel.
    modes : Tensor (r, p)
        The part of it that pixels have in common.
    points : Tensor (m, d)
        Scaled labels at which the function is good.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        labels: LabelSet,
        uncertainty: Tensor,
        modes: Tensor,
        points: Tensor,
    ) -> None:
        self.function, self.uncertainty, self.modes = function, uncertainty, modes
        self.gap = torch.zeros(0)
        self.points, self.facets = points, facets(points)
        self.low, self.high = torch.from_numpy(labels.low), torch.from_numpy(labels.high)
        self.is_logarithmic = torch.tensor([label.scale == "log10" for label in labels])

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return flux (n, p) of scaled labels (n, d)."""
        return self.function(self._physical(x))

    def jacobian(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d) by scaled labels."""

        def derivative(direction: Tensor) -> Tensor:
            columns: Tensor = torch.func.jvp(self, (x,), (direction.expand_as(x),))[1]
            return columns

        columns = torch.func.vmap(derivative, out_dims=-1)(torch.eye(x.shape[1], dtype=x.dtype))
        return self(x), columns

    def error(self, x: Tensor, /) -> Tensor:
        """Return the 1-sigma error (n, p), the same at all labels."""
        return self.uncertainty.expand(len(x), -1)

    def amplitude_covariance(self, x: Tensor, mixture: Tensor, /) -> Tensor | None:
        """Return None: amplitudes of the modes have unit variances everywhere."""
        return None

    def _physical(self, x: Tensor) -> Tensor:
        share = x.double() + 0.5
        linear = self.low + share * (self.high - self.low)
        ratio = torch.where(self.is_logarithmic, self.high / self.low, 1.0)
        return torch.where(self.is_logarithmic, self.low * ratio.pow(share), linear).float()


@dataclass(frozen=True)
class ForwardModel:
    """A function from labels to flux, its pixels and its labels: all that a label fit needs.

    Attributes
    ----------
    function : SpectrumFunction
        From scaled labels (n, d) to flux (n, p).
    grid : Grid
        The p pixels, with the resolving power of the flux.
    labels : LabelSet
        The d labels with the ranges within which they are fitted.
    kept
        What one fit leaves for the next.
    """

    function: SpectrumFunction
    grid: Grid
    labels: LabelSet
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_function(
        cls,
        function: Callable[[Tensor], Tensor],
        grid: Grid,
        labels: LabelSet,
        *,
        error: ArrayLike | None = None,
        modes: ArrayLike | None = None,
        points: ArrayLike | None = None,
    ) -> Self:
        """Return the forward model of any differentiable function of physical labels.

        Parameters
        ----------
        function
            From labels (n, d) in physical units to flux (n, p), both float32 tensors. Rows must not depend on
            each other, and ``torch.func`` must be able to differentiate it (``jvp`` under ``vmap``).
        grid
            The p pixels. With a resolving power, spectra of a lower one are fitted by broadening the flux.
        labels
            Names, units and ranges of the d labels. Fits stay within the ranges.
        error
            1-sigma error of the function itself, one value or (p,), in the unit of the flux; it is added in
            quadrature to that of the data. Without it the function counts as exact.
        modes
            The part of ``error`` that pixels have in common: vectors (r, p) with amplitudes of variance 1.
        points
            Physical labels (m, d) at which the function is known to be good, such as those of its training
            spectra: fits start from them, and results unlike all of them are flagged ``outside``. Fits start
            from points all over the ranges unless given.

        Examples
        --------
        >>> from draper.data.labels import Label
        >>> grid = Grid.linear(5000, 5100, 0.5, medium="vacuum")
        >>> line = torch.exp(-0.5 * torch.linspace(-20, 20, len(grid)).square())
        >>> labels = LabelSet([Label("fe_h", low=-2.0, high=0.5)])
        >>> model = ForwardModel.from_function(
        ...     lambda values: 1 - 0.1 * 10 ** values * line, grid, labels, error=1e-3
        ... )
        >>> flux, derivatives = model.function.jacobian(torch.zeros(5, 1))
        >>> tuple(flux.shape), tuple(derivatives.shape)
        ((5, 201), (5, 201, 1))
        """
        rows = _rows(points, "points", len(labels))
        own_modes = _rows(modes, "modes", len(grid))
        usual = np.full(len(grid), np.nan) if error is None else np.asarray(error, dtype=np.float64)
        if usual.shape not in ((), (len(grid),)) or not (error is None or (usual >= 0).all()):
            raise DraperError(
                "error is one number, or one for each pixel, and not negative",
                given=f"shape {usual.shape}",
                expected=f"() or ({len(grid)},)",
            )
        return cls(
            DifferentiableFunction(
                function,
                labels,
                torch.from_numpy(np.broadcast_to(usual, len(grid)).astype(np.float32)),
                torch.from_numpy(own_modes.astype(np.float32)),
                torch.from_numpy((labels.scale(rows) - 0.5).astype(np.float32)),
            ),
            grid,
            labels,
        )


def _rows(values: ArrayLike | None, name: str, length: int) -> NDArray[np.float64]:
    """Return rows (k, length) of an argument; none (0, length) where it is not given."""
    array = np.zeros((0, length)) if values is None else np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != length:
        raise DraperError(f"{name} has the wrong shape", given=array.shape, expected=f"(any, {length})")
    return array
