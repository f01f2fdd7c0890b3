"""Whether posteriors hold: ranks of true labels among samples, by instrument and error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from draper.configs.retriever import RetrieveConfig
from draper.data.spectra import Spectra, has_errors
from draper.simulate.planets import INSTRUMENTS, Planets

if TYPE_CHECKING:
    from draper.models.retriever.model import Retriever

FloatArray = NDArray[np.float64]

DRAWS = 200
"""Samples among which a true label is ranked."""

ERRORS = (10.0, 30.0, 100.0, 300.0)
"""Errors of a bin [ppm] at which coverage is measured."""

CHECKED = 60
"""Spectra of each instrument whose residuals set the limit of the flag."""

PARTIAL = 0.5
"""Share of the bins that a random subset keeps."""

ROWS = 100
"""Spectra whose samples are drawn together."""

FALSE_FLAGS = 0.01
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


def strata(model: Retriever, held_out: Spectra, number: int, seed: int = 0) -> Iterator[Stratum]:
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


def ranked(model: Retriever, spectra: Spectra, draws: int = DRAWS, seed: int = 0) -> FloatArray:
    """Return the ranks (n, l), from 0 to ``draws``, of the true labels among samples of the network.

    NaN where a label is not known, or a spectrum has no good bin or no sample in the prior.
    """
    seen = model.observations(spectra, RetrieveConfig())
    truth = model.labels.read(spectra.table)
    ranks = np.full(truth.shape, np.nan)
    generator = torch.Generator().manual_seed(seed)
    good = [row for row, one in enumerate(seen) if one is not None]
    for start in range(0, len(good), ROWS):
        rows = good[start : start + ROWS]
        noise = torch.randn(len(rows) * draws, len(model.labels), generator=generator)
        samples = model.drawn([one for row in rows if (one := seen[row]) is not None], noise)
        below = (samples < truth[rows, None]).sum(axis=1).astype(float)
        ranks[rows] = np.where(np.isfinite(truth[rows] + samples[:, 0]), below, np.nan)
    return ranks


def calibrated(model: Retriever, held_out: Spectra) -> dict[str, Any]:
    """Return coverage by instrument and error, and the limits of flags, as plain values.

    The held-out spectra of a simulator are replaced by fresh ones of each instrument.
    """
    number = max(1, model.config.calibration // len(ERRORS))
    if model.physics is None:
        held_out = _noisy(model, held_out)
        number = model.config.calibration
    found, surprises, misfits = [], [], []
    options = RetrieveConfig(draws=1000, samples=500, refine="never")
    for stratum in strata(model, held_out, number):
        ranks = ranked(model, stratum.spectra)
        found.append(
            {
                "instrument": stratum.name,
                "error": None if math.isnan(stratum.error) else stratum.error,
                **coverage(model, ranks),
            }
        )
        seen = model.observations(stratum.spectra, options)
        surprises += [one.surprise(model.network.summary) for one in seen if one is not None]
        if model.physics is not None and stratum.error < 150:
            some = stratum.spectra[: CHECKED // len(ERRORS)]
            misfits += [one.misfit for one in model.retrievals(some, seen[: len(some)], options)]
    limits = {"surprise": float(np.quantile(surprises, 1 - FALSE_FLAGS))}
    if misfits:
        limits["misfit"] = float(np.nanquantile(misfits, 1 - FALSE_FLAGS))
    return {"draws": DRAWS, "strata": found, "limits": limits}


def coverage(model: Retriever, ranks: FloatArray) -> dict[str, Any]:
    """Return the share of spectra whose true label lies in the central 50, 68, 90 and 95 %, by label."""
    place = (ranks + 0.5) / (DRAWS + 1)
    known = np.isfinite(place)
    shares = {
        f"{level}": {
            label: float((np.abs(place[known[:, n], n] - 0.5) < level / 200).mean())
            for n, label in enumerate(model.labels.names)
            if known[:, n].any()
        }
        for level in (50, 68, 90, 95)
    }
    return {"number": len(ranks), "coverage": shares}


def _noisy(model: Retriever, spectra: Spectra) -> Spectra:
    """Return held-out spectra with the noise that the network is trained for, if they have none."""
    if model.config.errors is None or has_errors(spectra):
        return spectra
    rng = np.random.default_rng(1)
    low, high = (1e-6 * end for end in model.config.errors)
    sigma = low * (high / low) ** rng.uniform(size=(len(spectra), 1))
    flux = spectra.flux + sigma * rng.standard_normal(spectra.flux.shape)
    ivar = np.where(spectra.ivar > 0, 1 / sigma**2, 0)
    return Spectra(spectra.grid, flux, ivar, spectra.table, spectra.quantity, meta=spectra.meta)
