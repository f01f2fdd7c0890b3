"""The swap test: donors are alike, and figures are those of known moves."""

import json

import numpy as np
import pytest

from draper.errors import DraperError
from draper.latents.swap import MAX_DIFFERENCE, MIN_CHANGE, changes_by_label, donors, measure_swap

NAMES = ("teff", "logg", "fe_h")


@pytest.fixture
def stars() -> np.ndarray:
    random = np.random.default_rng(0)
    return random.uniform([4000, 0, -2], [7000, 5, 0.5], (3000, 3))


def test_a_donor_is_alike_but_for_the_label_that_it_gives(stars: np.ndarray) -> None:
    width = np.ptp(stars, axis=0)
    found = donors(stars[:200], stars, 1, width, seed=3)
    given = found >= 0
    assert given.mean() > 0.8
    apart = np.abs(stars[found[given]] - stars[:200][given]) / width
    assert apart[:, [0, 2]].max() < MAX_DIFFERENCE
    assert apart[:, 1].min() > MIN_CHANGE
    assert (donors(stars[:200], stars, 1, width, seed=3) == found).all()
    assert (donors(stars[:200], stars, 1, width, seed=4) != found).any()


def test_a_star_unlike_all_others_has_no_donor(stars: np.ndarray) -> None:
    width = np.ptp(stars, axis=0)
    assert donors(np.array([[9000.0, 2.0, 0.0]]), stars, 1, width, 0).tolist() == [-1]


def test_figures_are_those_of_the_moves(stars: np.ndarray) -> None:
    def move(rows, changed, change):
        moved = np.zeros((len(rows), 3))
        moved[:, changed] = 0.9 * change
        if changed == 0:
            moved[:, 2] = -0.0002 * change
        return moved

    found = measure_swap(move, stars[:100], stars, NAMES)
    width = np.subtract(*np.percentile(stars, (99, 1), axis=0))
    assert found.slope("teff") == pytest.approx(0.9)
    assert found.median_error("logg") == pytest.approx(0.1)
    assert found.slope("teff", "fe_h") == pytest.approx(-0.0002 * width[0] / width[2])
    assert found.median_error("teff", "fe_h") == pytest.approx(0.0002 * width[0] / width[2])
    assert found.slope("fe_h", "teff") == 0
    asked, read = changes_by_label(found)
    np.testing.assert_allclose(read["logg"], 0.9 * asked["logg"])
    assert "0.900   10.0%" in repr(found)


def test_too_few_donors_give_no_figure(stars: np.ndarray, tmp_path) -> None:
    found = measure_swap(lambda rows, k, change: np.zeros((len(rows), 3)), stars[:3], stars, NAMES)
    assert np.isnan(found.slope("teff"))
    figures = json.loads(found.write(tmp_path / "swap.json").read_text())
    assert figures["teff"]["slope"] is None
    assert figures["teff"]["stars"] <= 3
    text = found.write(tmp_path / "swap.csv").read_text().splitlines()
    assert text[0] == "label,row,asked,teff_read,logg_read,fe_h_read"
    assert len(text) - 1 == sum(map(len, found.asked))


def test_stars_that_lack_a_label_give_none(stars: np.ndarray) -> None:
    holes = stars.copy()
    holes[::2, 0] = np.nan
    found = measure_swap(lambda rows, k, change: np.zeros((len(rows), 3)), stars[:50], holes, NAMES)
    assert all(np.isfinite(asked).all() for asked in found.asked)
    with pytest.raises(DraperError, match="there is no donor"):
        measure_swap(lambda rows, k, change: change, stars[:5], np.full((4, 3), np.nan), NAMES)
    with pytest.raises(DraperError, match="one column each"):
        measure_swap(lambda rows, k, change: change, stars[:5, :2], stars, NAMES)
