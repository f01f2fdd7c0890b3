"""The swap test of a model that relabels spectra: a fit measures the changed labels again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from draper.data.labels import ALPHA
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.latents.swap import Swap, measure_swap
from draper.results.estimates import Estimates

FloatArray = NDArray[np.float64]

SNR = 200.0
"""S/N per pixel that is assumed in the fit of generated spectra, which have no noise."""

MeasureLabels = Callable[[Spectra], FloatArray]
"""Returns labels (n, d) of generated spectra."""


Generate = Callable[[Spectra, Mapping[str, FloatArray]], Spectra]
"""Returns spectra with the given labels changed; their reconstructions if none is given."""


def swap_labels(
    generate: Generate,
    measure: MeasureLabels,
    stars: Spectra,
    others: Spectra,
    names: Sequence[str],
    *,
    truth: str = "",
    seed: int = 0,
) -> Swap:
    """Return the swap test of a model.

    Parameters
    ----------
    generate
        Changes the labels of spectra.
    measure
        Measures the d labels of generated spectra, such as :func:`label_fit`.
    stars, others
        Spectra whose labels are changed, and donors of labels.
    names
        The d labels.
    truth
        Suffix of the columns with true labels, such as ``_true``.
    seed
        Seed of the choice of donors.
    """
    columns = [f"{name}{truth}" for name in names]
    for part in (stars, others):
        if missing := [column for column in columns if column not in part.table]:
            raise DraperError(
                "the spectra lack labels that are to be swapped",
                given=", ".join(missing),
                hint=f"join them from a table, or give the suffix of their columns: {option_text('truth')}",
            )
    reconstructed = generate(stars, {})
    before = measure(reconstructed)

    def move(rows: NDArray[np.int64], number: int, change: FloatArray) -> FloatArray:
        # The change starts from the model's own label, so that its error is no part of the change.
        new = reconstructed.column(names[number])[rows] + change
        return measure(generate(stars[rows], {names[number]: new})) - before[rows]

    return measure_swap(move, stars.columns(columns), others.columns(columns), names, seed)


def measurable(names: Sequence[str], fitted: Sequence[str]) -> tuple[str, ...]:
    """Return those of the labels that a fit with other labels measures; alpha_fe is a mean of elements.

    Examples
    --------
    >>> measurable(["teff", "rv"], ["teff", "logg"])
    ('teff',)
    """
    both = tuple(
        name for name in names if name in fitted or (name == "alpha_fe" and set(ALPHA) <= set(fitted))
    )
    if not both:
        raise DraperError(
            "the emulator has none of the model's labels",
            given=", ".join(fitted),
            expected=", ".join(names),
        )
    return both


def label_fit(predict: Callable[[Spectra], Estimates], names: Sequence[str]) -> MeasureLabels:
    """Return a function that measures labels of generated spectra by the fit of an emulator.

    Parameters
    ----------
    predict
        Fits labels, such as ``predict`` of an Emulator.
    names
        The labels to return; see :func:`measurable`.
    """

    def measure(generated: Spectra) -> FloatArray:
        level = np.abs(np.median(generated.flux, axis=1, keepdims=True))
        weight = np.where(generated.ivar > 0, (SNR / np.maximum(level, 1e-30)) ** 2, 0.0).astype(np.float32)
        estimates = predict(Spectra(generated.grid, generated.flux, weight, quantity=generated.quantity))
        fitted = estimates.labels.names
        return np.stack(
            [
                estimates[name]
                if name in fitted
                else np.mean([estimates[element] for element in ALPHA], axis=0)
                for name in names
            ],
            axis=1,
        )

    return measure
