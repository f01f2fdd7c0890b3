"""Samples of posteriors for other programs: one long table, or ArviZ."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.data.labels import LabelSet
from draper.errors import DraperError


def long_table(labels: LabelSet, ids: NDArray[Any], samples: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return samples (n, draws, l) as columns (n x draws,): ``id``, ``draw`` and each label.

    Examples
    --------
    >>> from draper.data.labels import Label
    >>> draws = np.array([[[5000.0], [5100.0]]])
    >>> long_table(LabelSet([Label("teff")]), np.array(["sun"]), draws)["teff"]
    array([5000., 5100.])
    """
    spectra, draws, _ = samples.shape
    columns: dict[str, NDArray[Any]] = {
        "id": np.repeat(ids, draws),
        "draw": np.tile(np.arange(draws), spectra),
    }
    return columns | {name: samples[..., number].ravel() for number, name in enumerate(labels.names)}


def inference_data(labels: LabelSet, ids: NDArray[Any] | None, samples: NDArray[Any]) -> Any:
    """Return samples as ArviZ's InferenceData (from version 1 on a DataTree), with one chain.

    Parameters
    ----------
    labels
        The l labels.
    ids : ndarray (n,), optional
        Names of the spectra, which are a dimension of each label; None for samples (draws, l) of one.
    samples : ndarray (n, draws, l) or (draws, l)
        Draws of equal weight.
    """
    try:
        arviz = import_module("arviz")
    except ModuleNotFoundError:
        raise DraperError("ArviZ is not installed", hint="pip install arviz") from None
    # ArviZ wants chain and draw first.
    drawn = samples[None] if ids is None else samples.swapaxes(0, 1)[None]
    posterior = {name: drawn[..., number] for number, name in enumerate(labels.names)}
    options: dict[str, Any] = {}
    if ids is not None:
        options = {"coords": {"spectrum": ids}, "dims": {name: ["spectrum"] for name in posterior}}
    if int(arviz.__version__.split(".")[0]) >= 1:
        return arviz.from_dict({"posterior": posterior}, **options)
    return arviz.from_dict(posterior=posterior, **options)
