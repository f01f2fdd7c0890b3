"""How well lines were found, where it is known which are missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.errors import DraperError
from draper.models.translator.line_mask import LineMask
from draper.results.missing_lines import LineTable


def average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean precision over all recalls, of pixels or features in order of falling scores.

    Parameters
    ----------
    scores
        Numbers (m,), larger where something is more surely missing, such as :attr:`.LineTable.statistic`.
    truth
        Which (m,) are missing, such as :attr:`.LineMask.pixels`.

    Examples
    --------
    >>> average_precision([4.0, 3.0, 2.0, 1.0], [True, False, True, False])
    0.8333333333333333
    """
    from sklearn.metrics import average_precision_score

    truth, scores = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != scores.shape:
        raise DraperError("scores and truth have different shapes", given=scores.shape, expected=truth.shape)
    return float(average_precision_score(truth, scores)) if truth.any() else np.nan


def feature_precision(found: LineTable, mask: LineMask, which: ArrayLike | None = None) -> float:
    """Return the mean precision over recalls of features, found ones in order of falling height.

    A masked feature is found if its peak is within a found one, or the other way round. To cover all recalls,
    ``found`` should hold all candidates: ``new_lines(..., q=1)``.

    Parameters
    ----------
    found
        Features that were found.
    mask
        Which features are missing.
    which
        Features (m,) of the mask that should have been found, such as those above the noise; all masked ones
        by default. Others that are masked are not false, and not missed either.

    Examples
    --------
    >>> import draper
    >>> from draper.models.translator.line_mask import mask_lines
    >>> from draper.models.translator.lines import new_lines
    >>> complete = draper.load("builtin:rvs-emulator")
    >>> mask = mask_lines(complete, 0.05)
    >>> found = new_lines(mask.forward_model(complete), complete, 4)
    >>> feature_precision(found, mask), feature_precision(found[:0], mask)
    (1.0, 0.0)
    """
    wanted = mask.masked if which is None else mask.masked & np.asarray(which, dtype=bool)
    if not wanted.any():
        return np.nan
    order = np.argsort(-found.height, kind="stable")
    is_true = true_features(found, mask)[order]
    covers = _covers(found, mask)[order][:, wanted]
    # Of features that are masked but need not be found, finding is neither right nor wrong.
    counts = covers.any(axis=1) | ~is_true
    recall = np.maximum.accumulate(covers, axis=0).mean(axis=1)[counts]
    precision = np.cumsum(is_true[counts]) / np.arange(1, counts.sum() + 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def true_features(found: LineTable, mask: LineMask) -> NDArray[np.bool_]:
    """Return which found features (m,) have their peak in a masked pixel."""
    return mask.pixels[found.peak]


def false_discovery_rate(found: LineTable, mask: LineMask) -> float:
    """Return the fraction of found features that are not masked; 0 if none was found.

    Examples
    --------
    >>> import draper
    >>> from draper.models.translator.line_mask import mask_lines
    >>> from draper.models.translator.lines import new_lines
    >>> complete = draper.load("builtin:rvs-emulator")
    >>> mask = mask_lines(complete, 0.05)
    >>> found = new_lines(mask.forward_model(complete), complete, 4)
    >>> false_discovery_rate(found, mask)
    0.0
    """
    return float(1 - true_features(found, mask).mean()) if len(found) else 0.0


def true_responses(
    found: LineTable, mask: LineMask, response: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return how much masked pixels of found features respond to elements (m, e).

    ``response`` (e, p) is that of the flux to each element of ``mask.elements``, such as the mean derivative
    over the stars that were compared; that of the reference star of the mask by default.
    """
    hidden = np.where(mask.pixels, -np.asarray(mask.change if response is None else response), 0.0)
    order = [mask.elements.index(name) for name in found.elements]
    sums = [hidden[order, a : b + 1].sum(axis=1) for a, b in zip(found.first, found.last, strict=True)]
    return np.array(sums).reshape(len(found), len(found.elements))


def element_attribution(
    found: LineTable, mask: LineMask, response: ArrayLike | None = None, *, least: float = 0.5
) -> float:
    """Return the fraction of truly missing features, among those found, that have a right element.

    Parameters
    ----------
    found
        Features that were found.
    mask
        Which features are missing.
    response
        True response (e, p) to each element of the mask; that of its reference star by default. Which element
        is the strongest of a blend differs from star to star: give the mean of the stars that were compared.
    least
        In a blend, each element is right that makes at least so much of it, as a part of the strongest; with
        1, only the strongest is.

    Examples
    --------
    >>> import draper
    >>> from draper.models.translator.line_mask import mask_lines
    >>> from draper.models.translator.lines import new_lines
    >>> complete = draper.load("builtin:rvs-emulator")
    >>> mask = mask_lines(complete, 0.05)
    >>> found = new_lines(mask.forward_model(complete), complete, 4)
    >>> element_attribution(found, mask) > 0.8
    True
    """
    truth = true_responses(found, mask, response)
    own = truth[np.arange(len(found)), [found.elements.index(name) for name in found.element]]
    true = true_features(found, mask)
    return float((own >= least * truth.max(axis=1))[true].mean()) if true.any() else np.nan


def _covers(found: LineTable, mask: LineMask) -> NDArray[np.bool_]:
    """Return which found features (k,) are which features of a mask (m,): (k, m)."""
    one = (found.first[:, None] <= mask.peak) & (mask.peak <= found.last[:, None])
    other = (mask.first <= found.peak[:, None]) & (found.peak[:, None] <= mask.last)
    return one | other
