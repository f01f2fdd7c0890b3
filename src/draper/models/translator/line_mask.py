"""Synthetic spectra that lack lines on purpose: known truth for a search of lines that a line list lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.forward import ForwardModel, SpectrumFunction
from draper.models.emulator.model import Emulator
from draper.models.translator.responses import as_forward_model, element_directions, element_labels

GIANT = {"teff": 4750.0, "logg": 2.5, "vmic": 1.5, "vturb": 1.5, "c12_c13": 7.5, "vmac": 6.0}
"""The published reference star; its abundances are solar."""


class MaskedFunction:
    """A function from labels to flux, some pixels of which are 1 whatever the labels.

    Parameters
    ----------
    function
        The function.
    pixels : Tensor (p,) bool
        Pixels to set to 1.
    """

    def __init__(self, function: SpectrumFunction, pixels: Tensor) -> None:
        self.function, self.pixels = function, pixels
        for name in ("uncertainty", "modes", "gap", "points", "facets"):
            setattr(self, name, getattr(function, name))

    uncertainty: Tensor
    modes: Tensor
    gap: Tensor
    points: Tensor
    facets: Tensor

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return flux (n, p) of scaled labels (n, d)."""
        return torch.where(self.pixels, 1.0, self.function(x))

    def jacobian(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return flux (n, p) and its derivatives (n, p, d), which are 0 at masked pixels."""
        flux, derivatives = self.function.jacobian(x)
        return torch.where(self.pixels, 1.0, flux), torch.where(self.pixels[:, None], 0.0, derivatives)

    def error(self, x: Tensor, /) -> Tensor:
        """Return the 1-sigma error (n, p) of the unmasked function."""
        return self.function.error(x)

    def amplitude_covariance(self, x: Tensor, mixture: Tensor, /) -> Tensor | None:
        """Return the covariance (n, k, k) of mixed amplitudes of the unmasked function's modes."""
        return self.function.amplitude_covariance(x, mixture)


@dataclass(frozen=True, eq=False)
class LineMask:
    """Strong features of each element, and which of them are masked.

    A feature is the pixels ``first`` to ``last`` (both included), in which the flux of a reference star falls
    as one element grows. Pixels may belong to features of several elements.

    Attributes
    ----------
    grid : Grid
        The p pixels.
    elements : tuple of str
        Symbols of the e elements.
    change : ndarray (e, p)
        Change of the reference star's flux with each element.
    element : ndarray (m,) of str
        Element of each strong feature.
    first, last, peak : ndarray (m,) of int
        Its pixels.
    depth : ndarray (m,)
        Its largest change of flux, positive.
    masked : ndarray (m,) bool
        Which features are masked.
    """

    grid: Grid
    elements: tuple[str, ...]
    change: NDArray[np.float64]
    element: NDArray[np.str_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    peak: NDArray[np.int64]
    depth: NDArray[np.float64]
    masked: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.element)

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """Pixels (p,) of masked features."""
        pixels = np.zeros(len(self.grid), dtype=bool)
        for first, last in zip(self.first[self.masked], self.last[self.masked], strict=True):
            pixels[first : last + 1] = True
        return pixels

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of masked and of all strong features of each element."""
        of = {name: self.element == name for name in self.elements}
        return {name: (int(self.masked[own].sum()), int(own.sum())) for name, own in of.items()}

    def apply(self, spectra: Spectra) -> Spectra:
        """Return spectra whose masked pixels are 1, as those of a line list without these lines."""
        self.grid.require(spectra.grid, "mask and spectra have different grids", "resample the spectra")
        return replace(spectra, flux=np.where(self.pixels, np.float32(1), spectra.flux))

    def forward_model(self, model: ForwardModel | Emulator) -> ForwardModel:
        """Return a forward model that lacks the masked lines."""
        whole = as_forward_model(model)
        self.grid.require(whole.grid, "mask and model have different grids", "mask the lines of this model")
        pixels = torch.from_numpy(self.pixels).to(whole.function.uncertainty.device)
        return ForwardModel(MaskedFunction(whole.function, pixels), whole.grid, whole.labels)


def mask_lines(
    model: ForwardModel | Emulator,
    fraction: float = 1 / 3,
    *,
    reference: Mapping[str, float] | None = None,
    step: float = 0.05,
    edge: float = 0.001,
    strong: float = 0.005,
    least: int = 3,
    total: bool = False,
    seed: int = 0,
) -> LineMask:
    """Choose strong lines to mask at random, as the test of Cycle-StarNet does.

    Parameters
    ----------
    model
        An emulator or forward model, some labels of which are abundances.
    fraction
        Fraction of the strong features to mask, 0 to 1, rounded down; the published one is a third.
    reference
        Labels of the reference star; those of a giant (4750 K, logg 2.5) of solar abundances by default, and
        the middle of the range of any other label.
    step
        Change of each element's [X/H] [dex].
    edge, strong
        A feature is a run of pixels whose flux falls by more than ``edge``, and strong if it falls by more
        than ``strong`` somewhere.
    least
        Smallest number of strong features of an element of which any are masked.
    total
        Draw the fraction from the features of all elements together, not of each element.
    seed
        Decides which features are masked.

    Examples
    --------
    >>> import draper
    >>> emulator = draper.load("builtin:rvs-emulator")
    >>> mask = mask_lines(emulator, 0.2)
    >>> mask.counts()["Mg"], mask.counts()["Si"]
    ((0, 3), (2, 13))
    >>> incomplete = mask.forward_model(emulator)
    """
    if not 0 <= fraction <= 1:
        raise DraperError("the fraction of masked lines is not valid", given=fraction, expected="0 to 1")
    if not (0 <= edge <= strong and step > 0):
        raise DraperError(
            "thresholds of features are not valid",
            given=f"step {step:g}, edge {edge:g}, strong {strong:g}",
            expected="step > 0, 0 <= edge <= strong",
        )
    whole = as_forward_model(model)
    labels = whole.labels
    elements = element_labels(labels)
    middle = dict(zip(labels.names, labels.unscale(np.full(len(labels), 0.5)), strict=True))
    star = middle | GIANT | dict.fromkeys(elements.values(), 0.0) | dict(reference or {})
    if unknown := set(reference or {}) - set(labels.names):
        raise DraperError("the model has no such label", given=sorted(unknown), expected=labels.names)
    at = np.clip([star[name] for name in labels.names], labels.low, labels.high)
    change = _flux(whole, at + step * element_directions(labels)) - _flux(whole, at[None])
    features = [
        (name, first, last, first + int(np.argmin(row[first : last + 1])))
        for name, row in zip(elements, change, strict=True)
        for first, last in runs(row < -edge)
        if row[first : last + 1].min() < -strong
    ]
    element = np.array([feature[0] for feature in features], dtype=str)
    first, last, peak = np.array([feature[1:] for feature in features], dtype=np.int64).reshape(-1, 3).T
    masked = np.zeros(len(features), dtype=bool)
    own = [np.flatnonzero(element == name) for name in elements]
    random = np.random.default_rng(seed)
    for group in [np.arange(len(features))] if total else [rows for rows in own if len(rows) >= least]:
        # Rounding protects fractions such as 0.1 of 10 from becoming 0.
        masked[random.permutation(group)[: int(round(fraction * len(group), 9))]] = True
    depth = -change[[list(elements).index(name) for name in element], peak]
    return LineMask(whole.grid, tuple(elements), change, element, first, last, peak, depth, masked)


def runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and last pixel of each run of chosen ones (p,).

    Examples
    --------
    >>> runs(np.array([True, True, False, True]))
    [(0, 1), (3, 3)]
    """
    steps = np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]]))
    return list(
        zip(np.flatnonzero(steps == 1).tolist(), (np.flatnonzero(steps == -1) - 1).tolist(), strict=True)
    )


def _flux(model: ForwardModel, values: ArrayLike) -> NDArray[np.float64]:
    """Return spectra (n, p) of physical labels (n, d)."""
    x = torch.from_numpy((model.labels.scale(values) - 0.5).astype(np.float32))
    with torch.no_grad():
        flux = model.function(x.to(model.function.uncertainty.device))
    return flux.cpu().numpy().astype(np.float64)
