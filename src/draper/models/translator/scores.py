"""How well two domains are translated: the scores of StarNet Cycle-GAN over a whole set, and stricter ones.

Where pairs are needed, row i of all arrays is the same star. Fluxes are in physical units.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.errors import DraperError

FloatArray = NDArray[np.float64]

UNIT = 0.005
"""Unit of X2, and smallest error of X1, in the published code: 0.5 % of the continuum."""

MAX_ERROR = 0.05
"""Error above which the published code masks a pixel."""


def published_ivar(ivar: ArrayLike, floor: float = UNIT, limit: float = MAX_ERROR) -> FloatArray:
    """Return ivar (n, p) as the published code has it: errors have a floor, large ones mask the pixel.

    Examples
    --------
    >>> published_ivar([[1e6, 1e4, 1.0, 0.0]], floor=0.01).tolist()
    [[10000.0, 10000.0, 0.0, 0.0]]
    """
    values = np.asarray(ivar, dtype=np.float64)
    return np.where(values < limit**-2.0, 0.0, np.minimum(values, floor**-2.0))


def chi2(spectra: ArrayLike, observed: ArrayLike, ivar: ArrayLike) -> float:
    """Return the mean squared residual of the good pixels of a set, in units of their errors.

    Parameters
    ----------
    spectra, observed : array (n, p)
        What stands in bad pixels (ivar 0) does not matter.
    ivar : array (n, p)
        Of the observed spectra.

    Returns
    -------
    float
        1 for the noiseless truth, if errors are right; NaN without a good pixel.

    Examples
    --------
    >>> chi2([[1.0, 2.0, 5.0]], [[1.0, 1.0, np.nan]], [[4.0, 4.0, 0.0]])
    2.0
    """
    weight = np.asarray(ivar, dtype=np.float64)
    good = int((weight > 0).sum())
    return _squares(spectra, observed, weight) / good if good else np.nan


def x1(to_observed: ArrayLike, observed: ArrayLike, ivar: ArrayLike) -> float:
    """Return the published score X1: squared residuals over errors, averaged over all pixels.

    Bad pixels count in the denominator, as published, so that 1 minus their fraction is perfect; see
    :func:`chi2` for a mean over good ones, and :func:`published_ivar` for the errors of the published code.

    Examples
    --------
    >>> x1([[1.0, 2.0, 5.0, 0.0]], [[1.0, 1.0, np.nan, 0.0]], [[4.0, 4.0, 0.0, 0.0]])
    1.0
    """
    weight = np.asarray(ivar, dtype=np.float64)
    return _squares(to_observed, observed, weight) / weight.size if weight.size else np.nan


def x2(to_synthetic: ArrayLike, synthetic: ArrayLike, unit: float = UNIT) -> float:
    """Return the published score X2: the mean squared residual of synthetic spectra (n, p), over a unit.

    Examples
    --------
    >>> round(x2([[1.01, 1.0]], [[1.0, 1.0]]), 6)
    2.0
    """
    residual = np.asarray(to_synthetic, dtype=np.float64) - np.asarray(synthetic, dtype=np.float64)
    return float(np.mean((residual / unit) ** 2)) if residual.size else np.nan


def latent_scores(
    synthetic: ArrayLike,
    observed: ArrayLike,
    to_observed: ArrayLike,
    to_synthetic: ArrayLike,
    split: ArrayLike | None = None,
    split_to_observed: ArrayLike | None = None,
) -> dict[str, float]:
    """Return the published scores Z1 to Z4: mean distances of latents in units of their ranges.

    The range of each number of the latents is that over all stars and all four kinds of latents; the
    published code takes it over a batch of 128. A number that is the same everywhere (0/0, which made the
    published score NaN) has no distance.

    Parameters
    ----------
    synthetic, observed : array (n, ...)
        Shared latents of synthetic and observed spectra of the same stars.
    to_observed, to_synthetic : array (n, ...)
        Shared latents of translated spectra: of synthetic ones to the observed domain, and of observed ones
        to the synthetic domain.
    split, split_to_observed : array (n, ...), optional
        Split latents of observed spectra, and of synthetic ones translated with these.

    Returns
    -------
    dict
        ``z1`` (synthetic spectra before and after translation), ``z2`` (observed ones), ``z3`` (observed and
        synthetic spectra of a star), and ``z4`` (split latents lent and read again), if they are given.

    Examples
    --------
    >>> latent_scores([[0.0, 7.0], [4.0, 7.0]], [[1.0, 7.0], [4.0, 7.0]], [[0.0, 7.0], [2.0, 7.0]],
    ...     [[1.0, 7.0], [3.0, 7.0]])
    {'z1': 0.125, 'z2': 0.0625, 'z3': 0.0625}
    """
    z_s, z_o, z_so, z_os = _scaled(synthetic, observed, to_observed, to_synthetic)
    scores = {"z1": _distance(z_s, z_so), "z2": _distance(z_o, z_os), "z3": _distance(z_o, z_s)}
    if split is not None and split_to_observed is not None:
        scores["z4"] = _distance(*_scaled(split, split_to_observed))
    return scores


def split_codes(split: ArrayLike, typical: ArrayLike | None = None, seed: int = 0) -> dict[str, FloatArray]:
    """Return split latents with which to translate a paired set for an honest X1.

    The published X1 lends each star the split latents of its own observed spectrum, which may hold more of
    the star than they should. Those of other stars, or typical ones, tell nothing of it.

    Parameters
    ----------
    split : array (n, c, l)
        Split latents of observed spectra.
    typical : array (c, l) or (1, c, l), optional
        Those of a typical one; the mean by default.
    seed
        Decides which star gets whose.

    Returns
    -------
    dict
        ``own``, ``mean`` and ``other`` (n, c, l); with ``other``, no star gets its own (if there are two).

    Examples
    --------
    >>> codes = split_codes(np.arange(4.0).reshape(4, 1, 1))
    >>> codes["mean"].ravel().tolist(), bool((codes["other"] == codes["own"]).any())
    ([1.5, 1.5, 1.5, 1.5], False)
    """
    own = np.asarray(split, dtype=np.float64)
    mean = own.mean(axis=0) if typical is None else np.asarray(typical, dtype=np.float64)
    order = np.random.default_rng(seed).permutation(len(own))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)  # one circle through all stars
    return {"own": own, "mean": np.broadcast_to(mean, own.shape).copy(), "other": own[others]}


def excess_chi2(spectra: ArrayLike, observed: ArrayLike, ivar: ArrayLike, truth: ArrayLike) -> float:
    """Return by how much the :func:`chi2` of spectra (n, p) exceeds that of the noiseless truth (n, p).

    Examples
    --------
    >>> excess_chi2([[1.0, 3.0]], [[1.0, 2.0]], [[1.0, 1.0]], truth=[[1.0, 2.0]])
    0.5
    """
    return chi2(spectra, observed, ivar) - chi2(truth, observed, ivar)


def retrieval(queries: ArrayLike, candidates: ArrayLike) -> float:
    """Return the fraction of stars whose own latents are the nearest of all candidates (recall@1).

    Parameters
    ----------
    queries, candidates : array (n, ...)
        Shared latents of the same stars in the two domains. Chance is 1 / n.

    Examples
    --------
    >>> retrieval([[0.0], [1.0], [2.0]], [[0.1], [1.2], [0.9]])
    0.3333333333333333
    """
    a, b = _flat(queries), _flat(candidates)
    if not len(a):
        return np.nan
    # Distances need no term of the queries alone; latents that are all alike find their own by chance only.
    squared = (b**2).sum(axis=1) - 2 * a @ b.T
    own = np.diagonal(squared)
    nearest = squared.min(axis=1)
    ties = np.maximum((squared == nearest[:, None]).sum(axis=1), 1)
    return float(np.mean((own == nearest) / ties))


def domain_auc(
    first: ArrayLike,
    second: ArrayLike,
    kind: Literal["logistic", "boosting"] = "logistic",
    *,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """Return how well a fresh classifier tells two sets apart: the area under its ROC curve.

    Give it translated spectra and reconstructed observed ones: noise alone tells translated spectra from
    data. It is cross-validated; 0.5 means that the sets look the same to it, 1 that it is never wrong.

    Parameters
    ----------
    first, second : array (n, p), (m, p)
        Spectra or latents, finite numbers.
    kind
        ``logistic`` regression, or ``boosting`` of small trees, which also sees differences in shape.
    folds
        Number of parts, each of which is judged by a classifier that was trained on the others.
    seed
        Decides which rows are in a fold.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> domain_auc(x[:100], x[100:] + 5)
    1.0
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sets = [_flat(first), _flat(second)]
    if min(map(len, sets)) < folds:
        raise DraperError(
            "too few rows to cross-validate a classifier of domains",
            given=f"{len(sets[0])} and {len(sets[1])} rows, {folds} folds",
            expected="at least one row of each set in each fold",
        )
    x, y = np.concatenate(sets), np.repeat([0, 1], [len(values) for values in sets])
    if kind == "boosting":
        model = HistGradientBoostingClassifier(max_iter=100, max_leaf_nodes=8, random_state=seed)
    else:
        # With more pixels than spectra an unregularised fit has no end.
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    probability = cross_val_predict(model, x, y, cv=parts, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, probability))


def _squares(spectra: ArrayLike, observed: ArrayLike, weight: FloatArray) -> float:
    """Return the sum of squared residuals over errors of the good pixels."""
    residual = np.asarray(spectra, dtype=np.float64) - np.asarray(observed, dtype=np.float64)
    return float(np.sum(weight * np.where(weight > 0, residual, 0.0) ** 2))


def _scaled(*latents: ArrayLike) -> list[FloatArray]:
    """Return latents in units of the range of each number over all of them."""
    arrays = [np.asarray(values, dtype=np.float64) for values in latents]
    low = np.min([values.min(axis=0) for values in arrays], axis=0)
    width = np.max([values.max(axis=0) for values in arrays], axis=0) - low
    return [(values - low) / np.where(width > 0, width, 1.0) for values in arrays]


def _flat(values: ArrayLike) -> FloatArray:
    """Return an array (n, ...) as a matrix (n, p)."""
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(len(array), int(np.prod(array.shape[1:])))


def _distance(one: FloatArray, another: FloatArray) -> float:
    return float(np.mean(np.abs(one - another)))
