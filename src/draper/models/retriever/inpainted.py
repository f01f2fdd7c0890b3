"""Labels of spectra by completion: the method of ExoGAN, for comparison and for filling missing bands."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from draper.configs.retriever import RetrieveConfig
from draper.models.base import Progress
from draper.models.retriever.inpaint import Inpainting
from draper.models.retriever.observation import Observation
from draper.models.retriever.posterior import Retrieval
from draper.models.retriever.protocol import Sampling

FloatArray = NDArray[np.float64]

SHARE = 0.5
"""Least part of a pixel of the fine grid that bins must cover for it to count as known."""


def completions(
    model: Sampling,
    seen: list[Observation | None],
    options: RetrieveConfig,
    nothing: Retrieval,
    progress: Progress | None,
) -> list[Retrieval]:
    """Return the completions of observations; their scatter is no posterior (see :class:`Inpainting`)."""
    network = cast(Inpainting, model.own_module)
    found = []
    for row, one in enumerate(seen):
        if one is None:
            found.append(nothing)
        else:
            flux, error, known = (torch.from_numpy(part) for part in fine_pixels(one, len(model.own_grid)))
            generator = torch.Generator().manual_seed(1_000_003 * options.seed + one.digest)
            completed = network.complete(
                flux.float(), error.float(), known, generator=generator, restarts=options.restarts
            )
            # As many samples for each spectrum as are asked for, each completion in turn.
            places = np.arange(options.samples) % options.restarts
            labels = model.labels.unscale(completed.labels.double().numpy())[places]
            fine = completed.flux.double().numpy()
            found.append(Retrieval(labels, how="inpainted", bins=len(one.flux), completed=fine))
        if progress is not None:
            progress(row + 1, len(seen))
    return found


def fine_pixels(one: Observation, pixels: int) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return flux, error and which are known (p,) of the pixels of the fine grid that bins cover.

    Examples
    --------
    >>> variance, groups = np.full(2, 4.0), np.zeros(2, dtype=int)
    >>> one = Observation(np.eye(2), slice(1, 3), np.array([1.0, 2.0]), variance, groups)
    >>> [part.tolist() for part in fine_pixels(one, 4)]
    [[0.0, 1.0, 2.0, 0.0], [1.0, 2.0, 2.0, 1.0], [False, True, True, False]]
    """
    flux, error, known = np.zeros(pixels), np.ones(pixels), np.zeros(pixels, dtype=bool)
    width = 1 / np.maximum(one.operator.max(axis=1, keepdims=True), 1e-12)
    share = one.operator * width
    weight = share / one.variance[:, None]
    total = weight.sum(axis=0)
    covered = share.sum(axis=0) > SHARE
    place = np.arange(one.pixels.start, one.pixels.stop)[covered]
    flux[place] = (weight.T @ one.flux)[covered] / total[covered]
    error[place] = 1 / np.sqrt(total[covered])
    known[place] = True
    return flux, error, known
