"""Weights of synthetic spectra by which their labels are distributed as those of observed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.data.labels import label_columns
from draper.errors import DraperError, MissingLabels, option_text

LARGEST = 10.0
"""Largest weight: few spectra that count for many would be learnt by heart."""

FEWEST = 20
"""Least number of labelled stars of each set."""


@dataclass(frozen=True)
class LabelWeights:
    """How many times more frequent a combination of labels is among observed stars than among synthetic ones.

    Attributes
    ----------
    names
        Labels.
    classifier
        Of scikit-learn; tells both sets apart by these: a logistic regression on their products, which is
        exact where both are normally distributed.
    even
        Logit of a star that is as frequent in both.
    """

    names: tuple[str, ...]
    classifier: Any
    even: float

    @classmethod
    def measure(
        cls, synthetic: Mapping[str, ArrayLike], observed: Mapping[str, ArrayLike], names: Sequence[str] = ()
    ) -> LabelWeights:
        """Return the weights that tables of both sets ask for, by all labels that both have by default.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> cool, warm = {"teff": rng.normal(5000, 300, 2000)}, {"teff": rng.normal(5300, 300, 2000)}
        >>> weights = LabelWeights.measure(cool, warm).of(cool)
        >>> bool(abs(np.average(cool["teff"], weights=weights) - 5300) < 30)
        True
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures, StandardScaler

        both = tuple(name for name in label_columns(synthetic) if name in label_columns(observed))
        chosen = tuple(names) or both
        if not chosen:
            raise DraperError(
                "synthetic spectra are weighed by labels that both sets have, and there are none",
                given=f"observed: {', '.join(observed) or 'no columns'}",
                expected=f"synthetic: {', '.join(synthetic) or 'no columns'}",
                hint=f"add columns of labels to the observed spectra, or leave out {option_text('reweight')}",
            )
        for table in (synthetic, observed):
            missing = [name for name in chosen if name not in table]
            if missing:
                raise MissingLabels(missing, table, chosen)
        first, second = (_complete(table, chosen) for table in (synthetic, observed))
        if min(len(first), len(second)) < FEWEST:
            raise DraperError(
                "too few stars with labels to compare both sets",
                given=f"{len(first)} synthetic and {len(second)} observed ones with {', '.join(chosen)}",
                expected=f"at least {FEWEST} of each",
            )
        classifier = make_pipeline(
            StandardScaler(), PolynomialFeatures(2), StandardScaler(), LogisticRegression(max_iter=1000)
        )
        classifier.fit(np.concatenate([first, second]), np.repeat([False, True], [len(first), len(second)]))
        return cls(chosen, classifier, float(np.log(len(second) / len(first))))

    def of(self, table: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the weights (n,) of stars, at most 10; that of one without all labels is 1."""
        values = _values(table, self.names)
        complete = np.isfinite(values).all(axis=1)
        result = np.ones(len(values), dtype=np.float32)
        if complete.any():
            odds = self.classifier.decision_function(values[complete]) - self.even
            result[complete] = np.exp(np.minimum(odds, np.log(LARGEST)))
        return result


def effective(weights: NDArray[Any]) -> float:
    """Return the share of spectra with equal weights that would say as much.

    Examples
    --------
    >>> effective(np.array([1.0, 1.0, 0.0, 0.0]))
    0.5
    """
    return float(weights.sum() ** 2 / np.square(weights).sum() / len(weights))


def _values(table: Mapping[str, ArrayLike], names: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([np.asarray(table[name], dtype=np.float64) for name in names], axis=1)


def _complete(table: Mapping[str, ArrayLike], names: Sequence[str]) -> NDArray[np.float64]:
    values = _values(table, names)
    return np.asarray(values[np.isfinite(values).all(axis=1)])
