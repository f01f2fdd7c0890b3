"""The population looks like the sky, and its labels agree with each other."""

import numpy as np
import pytest

from draper.data.labels import Label, LabelSet
from draper.errors import DraperError
from draper.simulate.population import ALPHA, GALAXY, PHASES, galactic, in_box

STARS = galactic(20_000, np.random.default_rng(1))


def phase(name: str) -> np.ndarray:
    return STARS["phase"] == list(PHASES).index(name)


def component(name: str) -> np.ndarray:
    return STARS["component"] == list(GALAXY).index(name)


def test_shares_are_as_stated() -> None:
    for name, share in PHASES.items():
        assert phase(name).mean() == pytest.approx(share, abs=0.01)
    for name, part in GALAXY.items():
        assert component(name).mean() == pytest.approx(part.share, abs=0.01)


def test_kiel_diagram_has_its_branches() -> None:
    teff, logg = STARS["teff"], STARS["logg"]
    assert logg[phase("main sequence")].min() > 3.9
    sun = phase("main sequence") & (abs(teff - 5777) < 60) & (abs(STARS["fe_h"]) < 0.1)
    assert np.median(logg[sun]) == pytest.approx(4.44, abs=0.1)
    giants = phase("giant branch")
    assert np.corrcoef(teff[giants], logg[giants])[0, 1] > 0.9
    tip = giants & (logg < 1) & (abs(STARS["fe_h"]) < 0.2)
    assert np.median(teff[tip]) == pytest.approx(3950, abs=150)
    assert np.median(logg[phase("red clump")]) == pytest.approx(2.45, abs=0.03)
    # nobody between the main sequence and the giants
    assert not ((teff > 5600) & (logg < 3)).any()
    assert not ((teff < 4800) & (logg > 3.6) & (logg < 4.4)).any()


def test_metal_poor_stars_are_hotter_at_the_same_gravity() -> None:
    giants = phase("giant branch") & (abs(STARS["logg"] - 2.0) < 0.2)
    rich, poor = giants & (STARS["fe_h"] > 0), giants & (STARS["fe_h"] < -0.8)
    assert np.median(STARS["teff"][poor]) > np.median(STARS["teff"][rich]) + 50


def test_two_disc_sequences_and_a_halo() -> None:
    at = abs(STARS["fe_h"] + 0.45) < 0.1
    thin, thick = (STARS["alpha_fe"][at & component(name)] for name in ("thin disc", "thick disc"))
    assert np.median(thick) - np.median(thin) == pytest.approx(0.16, abs=0.04)
    assert np.median(
        STARS["alpha_fe"][component("thin disc") & (abs(STARS["fe_h"]) < 0.05)]
    ) == pytest.approx(0.015, abs=0.03)
    assert np.median(STARS["fe_h"][component("halo")]) == pytest.approx(-1.4, abs=0.06)


def test_alpha_is_the_mean_of_its_elements() -> None:
    mean = np.mean([STARS[name] for name in ALPHA], axis=0)
    np.testing.assert_allclose(mean, STARS["alpha_fe"], atol=1e-12)
    assert np.std(STARS["mg_fe"] - STARS["alpha_fe"]) == pytest.approx(0.03 * np.sqrt(0.8), rel=0.05)


def test_stars_in_a_box() -> None:
    box = LabelSet([Label("teff", low=4500, high=6000), Label("fe_h", low=-1, high=0)])
    stars = in_box(box, 500, np.random.default_rng(0))
    assert all(len(column) == 500 for column in stars.values())
    assert box.inside(box.read(stars)).all()
    again = in_box(box, 500, np.random.default_rng(0))
    assert all(np.array_equal(stars[name], again[name]) for name in stars)
    with pytest.raises(DraperError, match="uniformly"):
        in_box(LabelSet([Label("teff", low=30_000, high=40_000)]), 5, np.random.default_rng(0))
    with pytest.raises(DraperError, match="no column 'eu_fe'"):
        in_box(LabelSet([Label("eu_fe")]), 5, np.random.default_rng(0))
