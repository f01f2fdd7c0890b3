"""Errors on real stars, from what the emulator lacks in all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from draper import Spectra, TrainConfig, load
from draper.errors import DraperError
from draper.infer.residuals import excess_error
from draper.models.emulator.model import Emulator
from draper.testing import made_spectra

NOISE = 0.004
LINE = slice(40, 48)


@pytest.fixture(scope="module")
def model() -> Emulator:
    train = TrainConfig(epochs=100, batch_size=64, threads=1, matmul="highest", progress="none")
    return Emulator(hidden=(64, 64)).fit(made_spectra(600, snr=1e6), train=train)


def stars(model: Emulator, n: int, seed: int, scale: float = 1.0) -> Spectra:
    """Return what the emulator makes, its error, noise, and a line that it does not know."""
    generator = np.random.default_rng(seed)
    made = model.generate(made_spectra(n, seed=seed).table)
    flux = made.flux + NOISE * generator.standard_normal(made.flux.shape)
    flux[:, LINE] -= 0.2 * generator.random((n, 1))
    ivar = np.full_like(made.flux, (scale * NOISE) ** -2)
    return replace(made, flux=(scale * flux).astype(np.float32), ivar=ivar)


def pulls(model: Emulator, spectra: Spectra, **options: object) -> np.ndarray:
    found = model.predict(spectra, rv=0.0, **options)
    truth = np.stack([spectra.table[name] for name in found.labels.names], axis=1)
    inside = (found.label_flags == "measured").all(axis=1) & ~found.flags["outside"]
    assert (found.sigma > 0).all()
    return ((found.median - truth) / found.sigma)[inside]


def size(pull: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(np.square(pull), axis=0))


def test_pulls_become_right(model: Emulator, tmp_path: Path) -> None:
    test = stars(model, 200, seed=8)
    before = size(pulls(model, test))
    assert (before > 3).all()
    assert model.learn_error(stars(model, 200, seed=7), rv=0.0) is model
    assert size(pulls(model, test)) == pytest.approx(1, abs=0.15)
    assert size(pulls(model, test, model_error=False)) == pytest.approx(before)
    gap = model.network.gap.numpy()
    # Half of a uniform distribution up to 0.2 lies within 0.1; a Gaussian's within 0.67 sigma.
    assert gap[LINE] == pytest.approx(0.1 / 0.6745, rel=0.25)
    assert np.median(np.delete(gap, range(LINE.start, LINE.stop))) < 0.5 * NOISE
    again = load(model.save(tmp_path / "model"))
    assert np.array_equal(again.network.gap.numpy(), gap)
    assert np.array_equal(again.predict(test, rv=0.0).median, model.predict(test, rv=0.0).median)
    assert again.training["error_learnt_from"] == 200


def test_spectra_without_errors_tell_as_much(model: Emulator) -> None:
    told = stars(model, 60, seed=7)
    untold = replace(told, ivar=np.ones_like(told.ivar))
    learnt = model.learn_error(untold, rv=0.0).network.gap.numpy()
    # Here noise is part of what is missing.
    assert learnt[LINE] == pytest.approx(model.learn_error(told, rv=0.0).network.gap.numpy()[LINE], rel=0.2)
    assert np.median(learnt) == pytest.approx(NOISE, rel=0.3)


@pytest.mark.parametrize("rv", [0.0, "free"])
def test_units_of_the_flux_do_not_matter(model: Emulator, rv: float | str) -> None:
    learnt = [
        model.learn_error(stars(model, 60, seed=7, scale=scale), continuum=1, rv=rv).network.gap.numpy()
        for scale in (1.0, 1000.0)
    ]
    assert learnt[1] == pytest.approx(learnt[0], abs=0.3 * NOISE)
    sigma = [
        model.predict(stars(model, 20, seed=8, scale=scale), continuum=1, rv=rv).sigma
        for scale in (1.0, 1000.0)
    ]
    assert sigma[1] == pytest.approx(sigma[0], rel=0.05)


def test_pixels_that_few_spectra_show_are_like_the_others() -> None:
    squares, ivar = torch.full((9, 3), 0.01), torch.full((9, 3), 1e6)
    ivar[2:, 1] = 0
    gap = excess_error(squares, ivar)
    assert gap[1] == gap[0] == gap[2] > 0.1


def test_few_spectra_are_refused(model: Emulator) -> None:
    with pytest.raises(DraperError, match="at least 10"):
        model.learn_error(stars(model, 9, seed=7))


def test_files_without_a_gap_are_read() -> None:
    assert len(load("builtin:rvs-emulator").network.gap) == 0
