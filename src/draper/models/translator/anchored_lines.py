"""Lines that the residual of the anchored method shows: missing ones, and those with another strength."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.lines import Lines
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.models.translator.anchored import AnchoredNetwork
from draper.models.translator.known_labels import KnownLabels, functions
from draper.models.translator.line_strength import LineChanges, line_changes
from draper.models.translator.lines import new_lines, search
from draper.models.translator.response_difference import Comparison, own_variance
from draper.models.translator.responses import (
    ABUNDANCE,
    Responses,
    depths,
    element_directions,
    stars_of,
)
from draper.results.missing_lines import UNKNOWN, LineTable

FloatArray = NDArray[np.float64]
Stars = ArrayLike | Mapping[str, ArrayLike] | Spectra | int


def attributable(network: AnchoredNetwork, labels: LabelSet) -> bool:
    """Return whether the residual depends on an abundance, so that it says which element makes a line."""
    known = labels.names[: network.known]
    return network.degree > 0 and any(ABUNDANCE.fullmatch(name) for name in known)


def find_lines(
    network: AnchoredNetwork,
    grid: Grid,
    labels: LabelSet,
    stars: Stars,
    *,
    q: float,
    least: float,
    lines: Lines | None,
    seed: int,
    by_depth: bool = False,
) -> LineTable:
    """Return the lines that synthetic spectra lack; see :meth:`.Translator.new_lines`."""
    synthetic, observed = functions(network, grid, labels)
    columns = stars_of(observed, stars, seed)
    error = residual_error(observed, columns)
    if attributable(network, labels) and not by_depth:
        return new_lines(synthetic, observed, columns, q=q, least=least, lines=lines, seed=seed, error=error)
    old, new = depths_of(synthetic, observed, columns)
    return search(old, new, observed, q=q, least=least, lines=lines, seed=seed, error=error)


def find_changes(
    network: AnchoredNetwork,
    grid: Grid,
    labels: LabelSet,
    lines: Lines,
    stars: Stars,
    *,
    q: float,
    seed: int,
) -> LineChanges:
    """Return changes of log gf; see :meth:`.Translator.line_changes`."""
    if not attributable(network, labels):
        raise DraperError(
            "the residual of this model does not depend on abundances, and shows no strengths of lines",
            given=f"degree {network.degree}, known labels {', '.join(labels.names[: network.known])}",
            expected="a residual of degree 1 or more, and known labels such as fe_h or mg_fe",
            hint="train it with more observed stars whose labels are known",
        )
    synthetic, observed = functions(network, grid, labels)
    columns = stars_of(observed, stars, seed)
    error = residual_error(observed, columns)
    return line_changes(synthetic, observed, lines, columns, q=q, seed=seed, error=error)


def depths_of(
    synthetic: ForwardModel, observed: ForwardModel, stars: Mapping[str, FloatArray]
) -> tuple[Responses, Responses]:
    """Return minus the depths of lines in both kinds of spectra, in place of responses to an element.

    A residual that is the same for all stars shows missing flux, and not on which element it depends.
    """
    x = _scaled(observed, stars)
    with torch.no_grad():
        old, new = (model.function(x).numpy() for model in (synthetic, observed))
    return depths(old, new)


def residual_error(
    observed: ForwardModel, stars: Mapping[str, FloatArray]
) -> Callable[[Comparison], FloatArray]:
    """Return a function to the error (e, p) that the residual's coefficients give a mean difference.

    The coefficients' covariance is that of the features, ``doubt``, times that of the pixels; so is that of
    the difference, which is linear in them.
    """
    function = observed.function
    assert isinstance(function, KnownLabels)
    network = function.network
    x = _scaled(observed, stars)
    value, slope = (part.double().numpy() for part in network.features(x))
    doubt = network.doubt.double().numpy()

    def error(compared: Comparison) -> FloatArray:
        own, flux = own_variance(observed, compared.width), compared.old.flux.astype(np.float64)
        variances = []
        for number, element in enumerate(compared.old.elements):
            weights = compared.weights[:, number]
            if element == UNKNOWN:
                rows = np.einsum("n,np,nf->fp", weights, flux, value)
            else:
                # (synthetic flux x residual)' has a term for the slope of each factor.
                change = np.einsum("nfk,nk->nf", slope, _directions(observed, stars)[:, number])
                rows = np.einsum("n,np,nf->fp", weights, flux, change, optimize=True)
                moved = compared.old.slopes[:, :, number].astype(np.float64)
                rows += np.einsum("n,np,nf->fp", weights, moved, value, optimize=True)
            variances.append(((doubt @ rows) * rows).sum(axis=0) * own)
        return np.asarray(np.sqrt(variances), dtype=np.float64)

    return error


def _scaled(model: ForwardModel, stars: Mapping[str, FloatArray]) -> Tensor:
    """Return the scaled labels (n, k) of stars."""
    return torch.from_numpy((model.labels.scale(model.labels.read(stars)) - 0.5).astype(np.float32))


def _directions(model: ForwardModel, stars: Mapping[str, FloatArray]) -> FloatArray:
    """Return by how much scaled labels change (n, e, k) per dex of each element."""
    scaled = model.labels.scale(model.labels.read(stars))
    widths = model.labels.unscale_error(scaled, np.ones_like(scaled))
    return np.asarray(element_directions(model.labels) / widths[:, None, :], dtype=np.float64)
