"""Fits of labels to many observed spectra: their continuum, what was fitted, and the result in units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra, lacks_errors
from draper.instrument.continuum import chebyshev_basis
from draper.instrument.doppler import SPEED_OF_LIGHT
from draper.models.translator.anchored import AnchoredNetwork
from draper.models.translator.label_fit import Nuisances, fit_labels
from draper.nn.hull import outside
from draper.results.estimates import Estimates

FloatArray = NDArray[np.float64]

BAD_FIT = 1.5
"""A fit is bad if its reduced chi2 exceeds this by more than five times its expected scatter."""

ROWS = 512
"""Spectra that are fitted together."""

NO_NOISE = 1e8
"""Inverse variance that stands for no noise."""

SMALLEST = 1e-3
"""Least continuum, as a share of the mean absolute flux: what is below has no continuum."""


def level_of(flux: NDArray[Any], ivar: NDArray[Any], degree: int) -> NDArray[np.float32]:
    """Return polynomials (n, p) in pixel number through the good pixels of spectra, all with one weight.

    Examples
    --------
    >>> level_of(np.array([[1.0, 2.0, 3.0, 9.0]]), np.array([[1, 1, 1, 0]]), 1).round(3)
    array([[1., 2., 3., 4.]], dtype=float32)
    """
    basis = chebyshev_basis(torch.arange(flux.shape[1]).double(), degree).numpy()
    good = (np.asarray(ivar) > 0).astype(np.float64)
    normal = np.einsum("np,pa,pb->nab", good, basis, basis)
    normal += 1e-9 * flux.shape[1] * np.eye(basis.shape[1])
    target = np.einsum("np,pa->na", np.where(good > 0, flux, 0.0), basis)
    level: FloatArray = np.linalg.solve(normal, target[..., None])[..., 0] @ basis.T
    size = np.abs(np.where(good > 0, flux, 0.0)).sum(axis=1, keepdims=True) / good.sum(
        axis=1, keepdims=True
    ).clip(1)
    return np.where(level > SMALLEST * size, level, np.maximum(size, 1e-30)).astype(np.float32)


def prepared(spectra: Spectra, degree: int) -> dict[str, NDArray[np.float32]]:
    """Return ``flux`` and ``ivar`` (n, p) over polynomials of a degree, and these as ``level``.

    Of spectra without errors the weight 1 is no error: all their scatter is that of the model.

    Examples
    --------
    >>> plain = Spectra(Grid.linear(5000, 5003, 1, medium="vacuum"), [[2.0, 4.0, 2.0, 4.0]])
    >>> prepared(plain, 0)["ivar"]
    array([[1.e+08, 1.e+08, 1.e+08, 1.e+08]], dtype=float32)
    """
    level = level_of(spectra.flux, spectra.ivar, degree)
    ivar = (spectra.ivar * np.square(level)).astype(np.float32)
    ivar = np.where(lacks_errors(spectra)[:, None], NO_NOISE * (spectra.ivar > 0), ivar)
    return {
        "flux": (spectra.flux / level).astype(np.float32),
        "ivar": ivar.astype(np.float32),
        "level": level,
    }


def nuisances(grid: Grid, degree: int, rv_error: float) -> Nuisances:
    """Return what may differ between a spectrum and its model: a polynomial, and a small velocity [km/s]."""
    basis = chebyshev_basis(torch.arange(len(grid)).double(), degree)
    steps = np.gradient(np.log(grid.vacuum))
    return Nuisances(basis, torch.from_numpy(-rv_error / SPEED_OF_LIGHT / steps))


@dataclass(frozen=True)
class Fitted:
    """Fits of n spectra.

    Attributes
    ----------
    ids : ndarray (n,)
    x, covariance : ndarray (n, d), (n, d, d)
        Scaled labels.
    columns, flags
        Of the result.
    spectra
        Arrays (n, p) if they were asked for: the best-fitting spectra ``flux``; ``level``, what multiplies
        synthetic ones in them besides the residual (continuum and common errors); ``ratio``, one plus the
        residual; and ``share``, the error as a share of the flux.
    """

    ids: NDArray[np.str_]
    x: FloatArray
    covariance: FloatArray
    columns: dict[str, FloatArray]
    flags: dict[str, NDArray[np.bool_]]
    spectra: dict[str, FloatArray]

    def estimates(self, labels: LabelSet, widths: Sequence[float], shift: Sequence[float]) -> Estimates:
        """Return labels in physical units.

        Of the first ones, ``shift`` is taken off the scaled labels, and errors are ``widths`` times larger.
        """
        x, factors = self.x + 0.5, np.ones(len(labels))
        factors[: len(widths)] = widths
        x[:, : len(shift)] -= shift
        values = labels.unscale(x)
        unit = labels.unscale_error(x, np.ones_like(x)) * factors
        covariance = self.covariance * unit[:, :, None] * unit[:, None]
        sigma = np.sqrt(np.einsum("nii->ni", covariance))
        return Estimates(
            labels,
            values,
            sigma,
            self.ids,
            flags=self.flags,
            covariance=covariance,
            columns=self.columns,
        )


def fitted(
    network: AnchoredNetwork,
    spectra: Spectra,
    degree: int,
    allowed: Nuisances,
    progress: Callable[[int, int], None] | None = None,
    *,
    keep: bool = False,
) -> Fitted:
    """Fit labels to observed spectra on the network's pixels, block by block.

    Parameters
    ----------
    network, degree, allowed
        The model, the degree of the continuum, and what else may differ.
    spectra
        Observed spectra.
    progress
        Called with the number of spectra that are done, and the number of all.
    keep
        Whether the spectra that were fitted are in the result.
    """
    parts = []
    for start in range(0, max(len(spectra), 1), ROWS):
        parts.append(_block(network, spectra[start : start + ROWS], degree, allowed, keep))
        if progress is not None:
            progress(min(start + ROWS, len(spectra)), len(spectra))

    def joined(group: str) -> dict[str, Any]:
        members = getattr(parts[0], group)
        return {name: np.concatenate([getattr(part, group)[name] for part in parts]) for name in members}

    return Fitted(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.covariance for part in parts]),
        joined("columns"),
        joined("flags"),
        joined("spectra"),
    )


def _block(network: AnchoredNetwork, spectra: Spectra, degree: int, allowed: Nuisances, keep: bool) -> Fitted:
    """Return the fit of some spectra."""
    arrays = prepared(spectra, degree)
    level, flux, ivar = arrays["level"], *(torch.from_numpy(arrays[name]) for name in ("flux", "ivar"))
    fit = fit_labels(network, flux, ivar, allowed)
    solution, problem = fit.solution, fit.problem
    x = solution.x
    freedom = problem.freedom.clamp(min=1)
    chi2 = solution.normal.chi2
    empty = (problem.freedom <= 0).numpy()
    labels, slopes = network.labels_at(x), network.label_slopes(x)
    flags = {
        "not_converged": ~solution.converged,
        "at_bound": solution.bound[:, : network.known].any(1),
        "outside": outside(labels.float(), network.facets),
        "bad_fit": chi2 / freedom > BAD_FIT + 5 * (2 / freedom).sqrt(),
        "several_minima": fit.several,
    }
    blank = np.where(empty, np.nan, 1.0)
    made: dict[str, FloatArray] = {}
    if keep:
        with torch.no_grad():
            best, multiplied = problem.model(x)
            made = {
                "flux": (best.numpy() * level * blank[:, None]).astype(np.float64),
                "level": (multiplied.numpy() * level).astype(np.float64),
                "ratio": 1 + network.ratio(x.float()).double().numpy(),
                "share": network.error(x.float()).double().numpy(),
            }
    return Fitted(
        spectra.ids,
        labels.numpy() * blank[:, None],
        (slopes @ fit.covariance @ slopes.transpose(1, 2)).numpy() * blank[:, None, None],
        {"chi2": chi2.numpy() * blank, "reduced_chi2": (chi2 / freedom).numpy() * blank},
        {name: flag.numpy() & ~empty for name, flag in flags.items()},
        made,
    )
