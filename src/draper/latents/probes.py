"""Probes: fresh regressions that measure how well labels can be predicted from latents or spectra."""

from __future__ import annotations

from typing import cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.configs.disentangler import Probe as Probe
from draper.errors import DraperError, did_you_mean

FloatArray = NDArray[np.float64]

PROBES: tuple[Probe, ...] = get_args(Probe)
"""Ridge regression, boosted trees, and a perceptron with hidden layers of 200 and 100."""

DETERMINISTIC: tuple[Probe, ...] = ("ridge",)
"""Probes that do not depend on the seed."""

RIDGES = np.logspace(-2, 6, 17)
"""Regularisations that cross-validation chooses from, for standardised inputs."""

TREES = 300
"""Maximum number of boosted trees; training stops when the error on a tenth of the rows stops falling."""

MIN_ROWS = 20
"""Minimum number of rows with a label for a probe."""


def probe(
    kind: Probe, x_train: ArrayLike, y_train: ArrayLike, x_test: ArrayLike, seed: int = 0
) -> FloatArray:
    """Train a probe, a fresh one for each label, and return its predictions for other rows.

    All inputs are standardised by the training rows, so that nothing is hidden by a small amplitude. Each
    label has a probe of its own: together with a label that cannot be predicted, training would stop before
    the others are learnt.

    Parameters
    ----------
    kind
        ``ridge`` with a cross-validated strength, ``boosting`` of trees (histograms), or ``mlp``, see
        :func:`draper.train.regress.regress`.
    x_train, x_test : array (n, p), (m, p)
        Inputs, such as latents.
    y_train : array (n, d)
        Labels; NaN where missing.
    seed
        Seed of the random numbers of a probe.

    Returns
    -------
    ndarray (m, d)
        Predicted labels.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> probe("ridge", x[:100], 3 * x[:100, :1], x[100:]).shape
    (100, 1)
    """
    if kind not in PROBES:
        raise DraperError(
            "there is no such probe", given=kind, expected=", ".join(PROBES), hint=did_you_mean(kind, PROBES)
        )
    x, other = (np.asarray(values, dtype=np.float64) for values in (x_train, x_test))
    y = np.asarray(y_train, dtype=np.float64)
    if not (np.isfinite(x).all() and np.isfinite(other).all()):
        raise DraperError(
            "the inputs of a probe are finite numbers", given="inputs with NaN or infinite values"
        )
    predicted = np.empty((len(other), y.shape[1]))
    for number, column in enumerate(y.T):
        known = np.isfinite(column)
        if known.sum() < MIN_ROWS:
            raise DraperError(
                "too few rows have the label that a probe is to predict",
                given=f"{known.sum()} of column {number}",
                expected=f"at least {MIN_ROWS}",
            )
        predicted[:, number] = _PREDICTORS[kind](x[known], column[known], other, seed)
    return predicted


def r_squared(predicted: ArrayLike, truth: ArrayLike, weight: ArrayLike | None = None) -> FloatArray:
    """Return R2: 1 - squared errors / squared deviations from the mean of the same rows.

    Parameters
    ----------
    predicted : array (k, m)
        By k probes.
    truth : array (m,)
        NaN where unknown; such rows are left out.
    weight : array (b, m), optional
        Number of times that each row counts, in b bootstrap samples.

    Returns
    -------
    ndarray (k,) or (b, k)
        NaN where the truth does not vary.

    Examples
    --------
    >>> r_squared([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], [1.0, 2.0, 3.0])
    array([1., 0.])
    """
    values = np.asarray(truth, dtype=np.float64)
    known = np.isfinite(values)
    if not known.any():
        shape = (len(np.asarray(predicted)),)
        return np.full(shape if weight is None else (len(np.asarray(weight)), *shape), np.nan)
    error = (np.asarray(predicted, dtype=np.float64)[:, known] - values[known]) ** 2
    counts = np.ones((1, known.sum())) if weight is None else np.asarray(weight, dtype=np.float64)[:, known]
    centred = values[known] - values[known].mean()
    total = counts @ centred**2 - (counts @ centred) ** 2 / np.maximum(counts.sum(axis=1), 1)
    share = (counts @ error.T) / np.where(total > 0, total, np.nan)[:, None]
    r2: FloatArray = 1 - (share[0] if weight is None else share)
    return r2


def probe_r2(
    kind: Probe,
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    seed: int = 0,
) -> FloatArray:
    """Return R2 (d,) of a probe that is trained on some rows and tested on others; see :func:`probe`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> probe_r2("ridge", x[:100], x[:100], x[100:], x[100:]).round(3)
    array([1., 1.])
    """
    predicted = probe(kind, x_train, y_train, x_test, seed)
    truth = np.asarray(y_test, dtype=np.float64)
    return np.concatenate([r_squared(predicted[:, [j]].T, truth[:, j]) for j in range(truth.shape[1])])


def mutual_information(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return the mutual information [nats] of a probe's predictions (m,) and the truth (m,).

    It is estimated from nearest neighbours (Kraskov et al. 2004). A function of the inputs has at most the
    information of the inputs, so this is a lower bound of the latter, apart from its own noise.

    Examples
    --------
    >>> y = np.random.default_rng(0).normal(size=2000)
    >>> mutual_information(y[::-1], y) < 0.1 < mutual_information(y, y)
    True
    """
    from sklearn.feature_selection import mutual_info_regression

    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    known = np.isfinite(y)
    if known.sum() < MIN_ROWS:
        return np.nan
    return float(mutual_info_regression(x[known, None], y[known], random_state=0)[0])


def _ridge(x: FloatArray, y: FloatArray, other: FloatArray, seed: int) -> FloatArray:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return cast(FloatArray, make_pipeline(StandardScaler(), RidgeCV(RIDGES)).fit(x, y).predict(other))


def _boosting(x: FloatArray, y: FloatArray, other: FloatArray, seed: int) -> FloatArray:
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor(max_iter=TREES, early_stopping=True, random_state=seed)
    return cast(FloatArray, trees.fit(x, y).predict(other))


def _mlp(x: FloatArray, y: FloatArray, other: FloatArray, seed: int) -> FloatArray:
    from draper.train.regress import regress

    # In double precision: a scatter that is small compared with the mean would be lost by rounding.
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1
    return regress((x - mean) / scale, y, seed=seed).predict((other - mean) / scale)[:, 0].astype(np.float64)


_PREDICTORS = {"ridge": _ridge, "boosting": _boosting, "mlp": _mlp}
