"""Whether posteriors hold: ranks of true labels among samples, by instrument and error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from draper.configs.retriever import RetrieveConfig
from draper.data.spectra import Spectra, has_errors
from draper.infer.calibration import Calibration, fractional_ranks, joint_ranks
from draper.models.held_out import Errors, compared
from draper.models.retriever.protocol import Sampling
from draper.simulate.planets import INSTRUMENTS, Planets

FloatArray = NDArray[np.float64]

DRAWS = 200
"""Samples among which a true label is ranked."""

ERRORS = (10.0, 30.0, 100.0, 300.0)
"""Errors of a bin [ppm] at which coverage is measured."""

CHECKED = 60
"""Spectra of each instrument whose residuals set the limit of the flag."""

FAINT = 150.0
"""Errors [ppm] from which on residuals have nothing to say of the model."""

ENOUGH = 100
"""Effective samples without which residuals say more of the samples than of the spectrum."""

PARTIAL = 0.5
"""Share of the bins that a random subset keeps."""

MAX_HELD_OUT, HELD_OUT_DRAWS = 100, 50
"""Held-out spectra, and samples of each, whose mean is compared with the true labels after training."""

ROWS = 100
"""Spectra whose samples are drawn together."""

FALSE_FLAGS = 0.02
"""Share of good spectra that each flag may spoil."""


class Stratum(NamedTuple):
    """Spectra of one kind.

    Attributes
    ----------
    name : str
        Of the instrument.
    error : float
        Error of a bin [ppm].
    spectra : Spectra
        With true labels as columns.
    """

    name: str
    error: float
    spectra: Spectra

    @property
    def title(self) -> str:
        """Instrument and error."""
        return self.name if math.isnan(self.error) else f"{self.name}, {self.error:g} ppm"


def strata(model: Sampling, held_out: Spectra, number: int, seed: int = 0) -> Iterator[Stratum]:
    """Iterate over fresh spectra by instrument and error, or the held-out ones of a model of files."""
    physics = model.physics
    if physics is None:
        yield Stratum("held-out", math.nan, held_out[: number or len(held_out)])
        return
    for place, name in enumerate((*INSTRUMENTS, "random bins")):
        instrument = name if name in INSTRUMENTS else "jwst-nirspec-prism"
        for level, error in enumerate(ERRORS):
            settings = {**physics.settings, "instrument": instrument, "error": error}
            own = 1000 * seed + 10 * place + level
            made = Planets(**settings).simulate(number, seed=own + 7_000_000)
            if name not in INSTRUMENTS:
                kept = np.random.default_rng(own).uniform(size=made.flux.shape) < PARTIAL
                ivar = np.where(kept, made.ivar, 0)
                made = Spectra(made.grid, made.flux, ivar, made.table, made.quantity, meta=made.meta)
            yield Stratum(name, error, made)


class Ranks(NamedTuple):
    """Ranks of the true labels of n spectra among samples of the network, between 0 and 1.

    Attributes
    ----------
    labels : ndarray (n, l)
        Of each label. NaN where it is not known, or the spectrum has no good bin.
    joint : ndarray (n,)
        Of all labels together.
    """

    labels: FloatArray
    joint: FloatArray


def ranked(model: Sampling, spectra: Spectra, draws: int = DRAWS, seed: int = 0) -> Ranks:
    """Return the ranks of the true labels of spectra among samples of the network."""
    seen = model.observations(spectra, RetrieveConfig())
    truth = model.labels.read(spectra.table)
    low, high = np.transpose([(label.low, label.high) for label in model.labels]).astype(np.float64)
    labels, joint = np.full(truth.shape, np.nan), np.full(len(truth), np.nan)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    good = [row for row, one in enumerate(seen) if one is not None]
    for start in range(0, len(good), ROWS):
        rows = good[start : start + ROWS]
        noise = torch.randn(len(rows) * draws, len(model.labels), generator=generator)
        samples = model.drawn([one for row in rows if (one := seen[row]) is not None], noise)
        labels[rows] = fractional_ranks(truth[rows], samples, rng)
        joint[rows] = joint_ranks(truth[rows], samples, low, high, rng)
    return Ranks(labels, joint)


def calibrated(model: Sampling, held_out: Spectra) -> dict[str, Any]:
    """Return the calibration of the network and the limits of flags, as plain values.

    Of a model that was trained on a simulator the held-out spectra are replaced by fresh ones, of each
    instrument and error.
    """
    number = max(1, model.config.calibration // len(ERRORS))
    if model.physics is None:
        held_out, number = _noisy(model, held_out), model.config.calibration
    labels, joint, names, novelties, misfits = [], [], [], [], []
    options = RetrieveConfig(draws=2000, samples=500)
    for stratum in strata(model, held_out, number):
        ranks = ranked(model, stratum.spectra)
        labels.append(ranks.labels)
        joint.append(ranks.joint)
        names += [stratum.title] * len(stratum.spectra)
        seen = model.observations(stratum.spectra, options)
        novelties += [one.novelty(model.network.summary) for one in seen if one is not None]
        if model.physics is not None and stratum.error < FAINT:
            some = stratum.spectra[: CHECKED // len(ERRORS)]
            found = model.retrievals(some, seen[: len(some)], options)
            misfits += [one.misfit for one in found if one.effective > ENOUGH]
    limits = {"novelty": float(np.quantile(novelties, 1 - FALSE_FLAGS))}
    if len(misfits) >= 1 / FALSE_FLAGS:
        limits["misfit"] = float(np.quantile(misfits, 1 - FALSE_FLAGS))
    measured = Calibration.from_ranks(
        model.labels.names,
        np.concatenate(labels),
        np.concatenate(joint),
        {"spectra": names} if model.physics is not None else None,
    )
    return {"draws": DRAWS, "ranks": measured.to_json(), "limits": limits}


def network_errors(model: Sampling, held_out: Spectra) -> Errors:
    """Return the error of means of the network's samples, in units of the ranges of all labels together.

    Those of single labels would say little: spectra need not depend on every one.
    """
    spectra = _noisy(model, held_out)
    seen = model.observations(spectra, RetrieveConfig())
    good = np.array([one is not None for one in seen], dtype=bool)
    truth = model.labels.scale(model.labels.read(spectra.table))
    size, generator = (int(good.sum()) * HELD_OUT_DRAWS, len(model.labels)), torch.Generator().manual_seed(0)
    samples = model.drawn([one for one in seen if one is not None], torch.randn(size, generator=generator))
    means = np.full(truth.shape, np.nan)
    means[good] = model.labels.scale(samples).mean(axis=1)
    return {"labels": compared(means, truth)}


def _noisy(model: Sampling, spectra: Spectra) -> Spectra:
    """Return held-out spectra with the noise that the network is trained for, if they have none."""
    if model.config.errors is None or has_errors(spectra):
        return spectra
    rng = np.random.default_rng(1)
    low, high = (1e-6 * end for end in model.config.errors)
    sigma = low * (high / low) ** rng.uniform(size=(len(spectra), 1))
    flux = spectra.flux + sigma * rng.standard_normal(spectra.flux.shape)
    ivar = np.where(spectra.ivar > 0, 1 / sigma**2, 0)
    return Spectra(spectra.grid, flux, ivar, spectra.table, spectra.quantity, meta=spectra.meta)
