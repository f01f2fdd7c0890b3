"""Simulated stars beside real Gaia RVS spectra, by the fit that draws the figure of the docs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import draper
from draper.data.spectra import Spectra
from draper.simulate.population import ALPHA, microturbulence
from draper.simulate.survey import Survey

SCRIPTS = Path(__file__).parents[2] / "scripts"
LITERATURE = {"teff": 5670, "logg": 4.47, "fe_h": -0.18}


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Spectra], object]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import plot_simulators

    return plot_simulators.fit


def test_fit_finds_the_labels_of_a_simulated_star(fit) -> None:  # type: ignore[no-untyped-def]
    star = {
        "teff": [5200.0],
        "logg": [3.9],
        "fe_h": [-0.4],
        "ni_fe": [0.0],
        **{name: [0.2] for name in ALPHA},
    }
    vmic = microturbulence(np.array(star["teff"]), np.array(star["logg"]))
    observed = Survey("ideal", snr=(300.0, 300.0)).simulate({**star, "vmic": vmic}, seed=1)
    # Smooth errors of the continuum are fitted, too.
    tilted = 1.05 - 0.03 * np.linspace(-1, 1, 2401) ** 2
    best = fit(Spectra(observed.grid, observed.flux * tilted, observed.ivar))
    assert best.labels["teff"] == pytest.approx(5200, abs=20)
    assert best.labels["logg"] == pytest.approx(3.9, abs=0.04)
    assert best.labels["fe_h"] == pytest.approx(-0.4, abs=0.03)
    assert best.labels["alpha_fe"] == pytest.approx(0.2, abs=0.03)
    assert best.labels["rv"] == pytest.approx(0, abs=0.1)
    assert best.rms == pytest.approx(1 / 300, rel=0.05)


def test_kepler_93(fit, real_data: Path) -> None:  # type: ignore[no-untyped-def]
    """Microturbulence and rotation are not fitted, and [Fe/H] comes out 0.2 dex low."""
    best = fit(draper.read(real_data / "gaia_rvs" / "Kepler-93.csv"))
    assert len(best.model) == 2394
    assert best.rms < 0.0105
    assert best.labels["teff"] == pytest.approx(LITERATURE["teff"], abs=100)
    assert best.labels["logg"] == pytest.approx(LITERATURE["logg"], abs=0.15)
    assert best.labels["fe_h"] == pytest.approx(LITERATURE["fe_h"], abs=0.25)
    assert abs(best.labels["rv"]) < 1


def test_an_active_star_fits_worse(fit, real_data: Path) -> None:  # type: ignore[no-untyped-def]
    """The simulated stars have no chromosphere; the cores of the calcium triplet give such a star away."""
    best = fit(draper.read(real_data / "gaia_rvs" / "GaiaDR3-3174658066485297152.csv"))
    left = best.observed - best.model
    core = np.abs(best.wavelength[:, None] - [8500.35, 8544.44, 8664.52]).min(axis=1) < 1
    assert best.rms > 0.015
    assert left[core].mean() > 0.02
