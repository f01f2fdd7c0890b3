"""The emulator that draper ships, on spectra that it has not seen and on a real star."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import draper
from draper.data import samples
from draper.errors import DraperError
from draper.models.artifact import located
from draper.models.emulator.model import Emulator

NAME = "builtin:rvs-emulator"


@pytest.fixture(scope="module")
def model() -> Emulator:
    loaded = draper.load(NAME)
    assert isinstance(loaded, Emulator)
    return loaded


def test_its_error_is_the_one_it_states(model: Emulator) -> None:
    """It was trained on all spectra; its errors are those of cross-validation."""
    grid = samples.load("rvs-grid")
    found = model.training["cross_validation"]
    assert found["all"]["spectra"] == len(grid)
    labels = torch.from_numpy(model.scaled(model.labels.read(grid.table)))
    usual = float(model.network.uncertainty.square().mean().sqrt())
    assert 0.7 * found["all"]["native median"] < usual < 3 * found["all"]["native median"]
    # Near the points that it knows it errs less than between them.
    between = (labels[:-1] + labels[1:]) / 2
    assert model.network.error(labels[:50]).mean() < model.network.error(between[:50]).mean()


def test_it_is_small() -> None:
    assert max(path.stat().st_size for path in located(NAME).iterdir()) < 11e6


def test_kepler_93_is_where_the_literature_has_it(model: Emulator, real_data: Path) -> None:
    star = draper.read(real_data / "gaia_rvs" / "Kepler-93.csv")
    # Known of a star of the thin disc: elements go with iron, microturbulence is as in the Sun. Three strong
    # lines do not tell ten labels apart, and the model is off by about a hundredth.
    known = {name: (0.0, 0.05) for name in model.labels.names if name.endswith("_fe")} | {"vmic": (1.0, 0.2)}
    found, seen = model.explain(star, continuum=2, jitter=0.01, priors=known)
    literature = {"teff": (5669, 75), "logg": (4.47, 0.01), "fe_h": (-0.18, 0.10)}
    for name, (value, error) in literature.items():
        own = found.sigma[0, found.labels.names.index(name)]
        assert abs(found[name][0] - value) < 2 * np.hypot(own, error), name
    good = star.ivar[0] > 0
    assert np.std((star.flux - seen.flux)[0][good]) < 0.0105


def test_a_single_pixel_is_refused(model: Emulator) -> None:
    grid = draper.Grid([8500.0], resolving_power=11500)
    pixel = draper.Spectra(grid, np.ones((1, 1)), np.full((1, 1), 100.0), quantity="normalised flux")
    with pytest.raises(DraperError, match="single pixel"):
        model.predict(pixel)


def test_other_names_are_refused() -> None:
    with pytest.raises(DraperError, match="did you mean 'builtin:rvs-emulator'"):
        draper.load("builtin:rvs-emulater")
