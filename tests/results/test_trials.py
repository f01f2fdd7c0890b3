"""The front of a search and its knee, by hand and by trying all pairs."""

import json

import numpy as np
import pytest

from draper.results.trials import Judged, Tried, Tuning, front, knee


def tried(number: int, reconstruction: float, leak: float, kept: float = 1.0, **more) -> Tried:
    judged = Judged(reconstruction, {"teff": leak, "logg": leak / 2}, {"teff": leak}, {"fe_h": kept})
    return Tried(number, {"latent": number + 2}, 1.5, judged, **more)


def search(*trials: Tried, least_kept: float | None = None) -> Tuning:
    return Tuning("disentangler", "chi2 per pixel", trials, least_kept)


def test_the_front_is_what_no_other_beats() -> None:
    points = np.random.default_rng(0).integers(0, 12, (60, 2)).astype(float)
    found = front(points)
    for row, point in enumerate(points):
        beats = ((points <= point).all(1) & (points < point).any(1)).any()
        if row in found:
            assert not beats
        else:
            assert beats or (points[found] == point).all(1).any()
    assert (np.diff(points[found, 0]) > 0).all()
    assert (np.diff(points[found, 1]) < 0).all()
    assert front(np.empty((0, 2))).tolist() == []


def test_the_knee_is_nearest_to_the_best_of_both() -> None:
    assert knee([[1, 1], [2, 0.5], [3, 0]]) == 1
    assert knee([[1, 1], [1.1, 0.9], [3, 0]]) == 1
    assert knee([[1, 1], [2.9, 0.9], [3, 0]]) == 0
    # Units do not count.
    points = np.array([[1.0, 0.4], [1.3, 0.1], [2.0, 0.0]])
    assert knee(points) == knee(points * [1e6, 1e-3] + 5) == 1
    assert knee([[7.0, 0.2]]) == 0
    assert knee([[7.0, 0.2], [7.0, 0.1]]) == 1


def test_a_search_chooses_the_knee_of_its_front() -> None:
    found = search(tried(0, 1.0, 0.9), tried(1, 3.0, 0.0), tried(2, 1.2, 0.1), tried(3, 3.0, 0.5))
    assert [one.number for one in found.front] == [0, 2, 1]
    assert found.chosen is found.front[1]
    assert found.keeps_enough


def test_less_than_the_floor_is_chance() -> None:
    assert tried(0, 1.0, -0.2).valid.leak == 0
    assert tried(0, 1.0, 0.3).valid.leak == 0.3
    assert np.isnan(Judged(1.0, {"teff": 0.1}, {}, {}).least_kept)


def test_trials_that_keep_too_little_do_not_count() -> None:
    trials = tried(0, 1.0, 0.0, kept=0.4), tried(1, 2.0, 0.3, kept=0.95), tried(2, 3.0, 0.4, kept=0.99)
    assert [one.number for one in search(*trials).front] == [0]
    strict = search(*trials, least_kept=0.9)
    assert [one.number for one in strict.front] == [1]
    assert strict.keeps_enough
    hopeless = search(*trials, least_kept=0.999)
    assert not hopeless.keeps_enough
    assert [one.number for one in hopeless.front] == [0]


def test_trials_that_diverged_stand_in_the_table_alone() -> None:
    diverged = Tried(0, {"latent": 2}, 0.5, None)
    found = search(diverged, tried(1, 1.0, 0.2, test=Judged(1.1, {"teff": 0.3}, {}, {"fe_h": 0.9})))
    table = found.table()
    assert table["diverged"].tolist() == [True, False]
    assert table["best"].tolist() == table["chosen"].tolist() == [False, True]
    np.testing.assert_array_equal(table["leak"], [np.nan, 0.2])
    np.testing.assert_array_equal(table["test_leak"], [np.nan, 0.3])
    assert list(table)[-1].startswith("test_")
    assert search(diverged).chosen is None
    assert search(diverged).front == ()
    assert search().table() == {}


def test_a_search_is_plain_json() -> None:
    found = search(Tried(0, {"latent": 2}, 0.5, None), tried(1, 1.0, 0.2))
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert said["chosen"] == 1
    assert [one["best"] for one in said["trials"]] == [False, True]
    assert said["trials"][1]["valid"]["leaks"] == pytest.approx({"teff": 0.2, "logg": 0.1})
    assert search().to_json()["chosen"] is None
