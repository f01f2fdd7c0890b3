"""How spectra respond to each element: derivatives of the flux by abundances [X/H]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.models.emulator.columns import complete_columns
from draper.models.emulator.model import Emulator
from draper.results.missing_lines import UNKNOWN

FloatArray = NDArray[np.float64]

ABUNDANCE = re.compile(r"(alpha|[a-z]{1,2})_(fe|h)")
"""Names of labels that are abundances: [X/Fe] or [X/H]."""

CONTINUUM = 0.95
"""Quantile of the pixels of a spectrum that stands for its continuum, where depths are measured."""

ROWS = 16
"""Stars whose derivatives are computed at once; 20 labels and 7,000 pixels are 10 MB a star."""


def element_labels(labels: LabelSet) -> dict[str, str]:
    """Return the label of each element that has one, by the symbol of the element.

    Examples
    --------
    >>> from draper.data.labels import Label
    >>> element_labels(LabelSet([Label("teff", low=4000, high=6000), Label("fe_h"), Label("mg_fe")]))
    {'Fe': 'fe_h', 'Mg': 'mg_fe'}
    """
    matches = {name: ABUNDANCE.fullmatch(name) for name in labels.names}
    found = {
        match[1] if match[1] == "alpha" else match[1].capitalize(): name
        for name, match in matches.items()
        if match
    }
    if not found:
        raise DraperError(
            "no label is an abundance",
            given=", ".join(labels.names),
            expected="labels such as fe_h, mg_fe or mg_h",
        )
    return found


def element_directions(labels: LabelSet) -> FloatArray:
    """Return by how much each label changes (e, d) if one element's [X/H] grows by 1 and all others stay.

    Where other elements are given as [X/Fe], these fall as ``fe_h`` grows. Elements without a label of their
    own follow ``fe_h``: there the element "Fe" stands for all of these.

    Examples
    --------
    >>> from draper.data.labels import Label
    >>> element_directions(LabelSet([Label("fe_h"), Label("mg_fe")]))
    array([[ 1., -1.],
           [ 0.,  1.]])
    """
    names = list(element_labels(labels).values())
    directions = np.zeros((len(names), len(labels)))
    for row, name in enumerate(names):
        directions[row, labels.names.index(name)] = 1.0
        if name == "fe_h":
            directions[row, [label.endswith("_fe") for label in labels.names]] = -1.0
    return directions


@dataclass(frozen=True, eq=False)
class Responses:
    """Spectra of n stars, and their derivatives by the abundance of each of e elements.

    Attributes
    ----------
    elements : tuple of str
        Symbols of the elements.
    flux : ndarray (n, p)
        Spectra.
    slopes : ndarray (n, p, e)
        Change of the flux per dex of [X/H], all other elements staying as they are.
    """

    elements: tuple[str, ...]
    flux: NDArray[np.float32]
    slopes: NDArray[np.float32]


def depths(old: ArrayLike, new: ArrayLike) -> tuple[Responses, Responses]:
    """Return minus the depths of lines in spectra (n, p) of two kinds, in the place of responses."""
    before, after = (np.asarray(flux, dtype=np.float32) for flux in (old, new))
    level = np.quantile(after, CONTINUUM, axis=1, keepdims=True).astype(np.float32)
    first, second = (Responses((UNKNOWN,), flux, (flux - level)[..., None]) for flux in (before, after))
    return first, second


def responses(model: ForwardModel, values: ArrayLike) -> Responses:
    """Return spectra at labels (n, d), in physical units, and exact derivatives by the elements.

    Examples
    --------
    >>> from draper.data.grid import Grid
    >>> from draper.data.labels import Label
    >>> grid = Grid.linear(5000, 5010, 1, medium="vacuum")
    >>> labels = LabelSet([Label("fe_h", low=-2, high=0.5)])
    >>> model = ForwardModel.from_function(lambda x: 1 - 0.1 * 10**x * torch.ones(len(grid)), grid, labels)
    >>> responses(model, [[0.0]]).slopes[0, :2, 0].round(3)
    array([-0.23, -0.23], dtype=float32)
    """
    table = np.asarray(values, dtype=np.float64)
    labels = model.labels
    directions = element_directions(labels)
    n, p = len(table), len(model.grid)
    flux = np.empty((n, p), dtype=np.float32)
    slopes = np.empty((n, p, len(directions)), dtype=np.float32)
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        scaled = labels.scale(table[rows])
        x = torch.from_numpy((scaled - 0.5).astype(np.float32)).to(model.function.uncertainty.device)
        with torch.no_grad():
            spectra, derivatives = model.function.jacobian(x)
        widths = labels.unscale_error(scaled, np.ones_like(scaled))
        flux[rows] = spectra.cpu().numpy()
        # Labels that are no abundances are left out by the zeros of the directions.
        slopes[rows] = np.einsum(
            "npd,ned->npe", derivatives.cpu().numpy(), directions / widths[:, None, :], optimize=True
        )
    return Responses(tuple(element_labels(labels)), flux, slopes)


def as_forward_model(model: ForwardModel | Emulator) -> ForwardModel:
    """Return an emulator, or a function of labels with its grid, as a forward model."""
    if isinstance(model, Emulator):
        return ForwardModel(model.network, model.own_grid, model.labels)
    return model


def stars_of(
    model: ForwardModel, stars: ArrayLike | Mapping[str, ArrayLike] | Spectra | int, seed: int = 0
) -> dict[str, FloatArray]:
    """Return labels of stars as columns (n,): those given, or so many points at which the model is good."""
    labels = model.labels
    if isinstance(stars, (Mapping, Spectra)):
        values = labels.read(complete_columns(labels, stars))
    elif isinstance(stars, (int, np.integer)):
        points = model.function.points.detach().cpu().numpy()
        if not len(points):
            raise DraperError(
                "the observed function does not know labels of typical stars",
                given=f"{stars} stars",
                expected="labels (n, d)",
                hint="give the labels of some tens of stars",
            )
        chosen = np.random.default_rng(seed).permutation(len(points))[: int(stars)]
        values = labels.unscale(points[chosen] + 0.5)
    else:
        values = np.asarray(stars, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(labels):
            raise DraperError(
                "labels of stars have the wrong shape",
                given=values.shape,
                expected=f"(n, {len(labels)}): {', '.join(labels.names)}",
            )
    if len(values) < 2:
        raise DraperError("one star is too few to compare two functions", given=len(values), expected=">= 2")
    return dict(zip(labels.names, values.T, strict=True))
