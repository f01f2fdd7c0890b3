"""The radial form of the emulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from draper import Spectra, TrainConfig, load, samples
from draper.errors import DraperError
from draper.models.emulator.model import Emulator
from draper.nn.radial_emulator import RadialEmulator
from draper.simulate.made import made_spectra

QUICKLY = TrainConfig(steps=30, threads=1, progress="none")


def exact(n: int, seed: int = 0) -> Spectra:
    """Spectra without noise."""
    spectra = made_spectra(n, seed=seed, snr=1e6)
    return replace(spectra, ivar=np.ones_like(spectra.flux))


@pytest.fixture(scope="module")
def model() -> Emulator:
    return Emulator(architecture="radial", bends=8).fit(exact(200), valid=0, train=QUICKLY)


def columns(model: Emulator, spectra: Spectra) -> dict[str, np.ndarray]:
    return {name: spectra.table[name] for name in model.labels.names}


def error_on(model: Emulator, spectra: Spectra) -> np.ndarray:
    return model.generate(columns(model, spectra)).flux - spectra.flux


def test_is_more_exact_than_a_perceptron_where_spectra_are_few() -> None:
    train, test = samples.load("sed-grid").split(0.8, seed=0)
    flux = train.flux.mean()
    train, test = (replace(part, flux=part.flux / flux) for part in (train, test))
    radial = Emulator(architecture="radial", bends=8).fit(train, train=QUICKLY)
    other = Emulator(hidden=(100, 100)).fit(train, train=TrainConfig(epochs=100, progress="none"))
    assert np.std(error_on(radial, test)) < 0.7 * np.std(error_on(other, test))
    held_out = [row["valid/total"] for row in radial.history if "valid/total" in row]
    assert held_out[-1] < 0.9 * held_out[0]


def test_errors_are_those_of_new_spectra(model: Emulator) -> None:
    new = exact(300, 5)
    stated = model.network.uncertainty.square().mean().sqrt()
    assert np.std(error_on(model, new)) / float(stated) == pytest.approx(1, abs=0.3)


def test_left_out_error_is_that_without_the_spectrum(model: Emulator) -> None:
    network = model.network
    assert isinstance(network, RadialEmulator)
    spectra = exact(200)
    (kernel, part), row = next(network.parts()), 17
    others = torch.arange(200) != row
    x = 2 * torch.from_numpy(model.scaled(model.labels.read(spectra.table))).double()
    flux = torch.tensor(spectra.flux)
    condensed = network.condense({"labels": x / 2, "flux": flux, "ivar": torch.ones_like(flux)})
    scores = condensed["scores"].double()[:, part]
    with torch.no_grad():
        weights = kernel.inverse(x[others]) @ scores[others]
        made = kernel.similarity(x[[row]], x[others]) @ weights
        assert torch.allclose(kernel.left_out(x, scores)[row], (scores[row] - made)[0], atol=1e-6)


def test_error_grows_away_from_the_training_spectra(model: Emulator) -> None:
    inside, outside = torch.zeros(1, 3), torch.full((1, 3), 0.9)
    assert (model.network.error(outside) > 2 * model.network.error(inside)).all()


def test_labels_are_fitted(model: Emulator) -> None:
    stars = made_spectra(40, seed=7, snr=200)
    fit = model.predict(stars, rv=0.0)
    pulls = (fit["teff"] - stars.table["teff"]) / fit.sigma[:, 0]
    assert np.median(np.abs(pulls)) < 1.5


def test_saved_and_loaded(model: Emulator, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(error_on(load(tmp_path / "model"), exact(5)), error_on(model, exact(5)))


def test_bad_pixels_are_filled() -> None:
    spectra = exact(200)
    ivar = np.ones(spectra.flux.shape, dtype=np.float32)
    ivar[np.random.default_rng(0).random(ivar.shape) < 0.02] = 0
    flux = np.where(ivar > 0, spectra.flux, 1e6).astype(np.float32)
    gappy = Spectra(spectra.grid, flux, ivar, spectra.table, spectra.quantity)
    model = Emulator(architecture="radial", bends=8).fit(gappy, valid=0, train=QUICKLY)
    assert np.std(error_on(model, exact(100, 5))) < 0.01


@pytest.mark.parametrize(
    "option",
    [
        {"loss": "l1"},
        {"output": "bounded"},
        {"start": "ridge"},
        {"components": 0},
        {"censor": {"fe_h": ((8480.0, 8500.0),)}},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_of_other_forms_are_refused(option: dict) -> None:
    with pytest.raises(DraperError, match="the architecture radial learns components, and has no l1 loss"):
        Emulator(architecture="radial", **option)
