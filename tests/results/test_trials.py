"""The Pareto front of a search and its knee, by hand and by trying all pairs."""

import json

import numpy as np
import pytest

from draper.results.trials import Figures, SearchResult, Trial, knee, pareto_front


def trial(number: int, *values: float, shortfall: float = 0.0, test: Figures | None = None) -> Trial:
    return Trial(number, {"latent": number + 2}, 1.5, figures(*values, shortfall=shortfall), test)


def figures(*values: float, shortfall: float = 0.0) -> Figures:
    return Figures(dict(zip(("loss", "leak"), values, strict=False)), {"error_teff": 9.0}, shortfall)


def search(*trials: Trial, objectives: int = 2, constraint: str = "") -> SearchResult:
    names = {"loss": "held-out loss", "leak": "largest leak"}
    return SearchResult("some", dict(list(names.items())[:objectives]), trials, constraint)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_no_trial_dominates_one_of_the_front(objectives: int) -> None:
    points = np.random.default_rng(0).integers(0, 12, (60, objectives)).astype(float)
    front = pareto_front(points)
    for row, point in enumerate(points):
        is_dominated = ((points <= point).all(1) & (points < point).any(1)).any()
        if row in front:
            assert not is_dominated
        else:
            assert is_dominated or (points[front] == point).all(1).any()
    assert (np.diff(points[front, 0]) >= 0).all()
    assert len(np.unique(points[front], axis=0)) == len(front)
    assert pareto_front(np.empty((0, objectives))).tolist() == []


def test_one_objective_has_one_best_trial() -> None:
    assert pareto_front([[3.0], [1.0], [2.0], [1.0]]).tolist() == [1]
    result = search(trial(0, 3.0), trial(1, 1.0), trial(2, 1.0), objectives=1)
    assert [one.number for one in result.front] == [1]
    assert result.chosen is result.trials[1]


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
    result = search(trial(0, 1.0, 0.9), trial(1, 3.0, 0.0), trial(2, 1.2, 0.1), trial(3, 3.0, 0.5))
    assert [one.number for one in result.front] == [0, 2, 1]
    assert result.chosen is result.front[1]
    assert len(result.admissible) == 4


def test_trials_that_miss_the_constraint_are_not_among_the_best() -> None:
    trials = trial(0, 1.0, 0.0, shortfall=0.5), trial(1, 2.0, 0.3, shortfall=-0.05), trial(2, 3.0, 0.4)
    assert [one.number for one in search(*trials, constraint="enough").front] == [1]
    hopeless = search(trials[0], trial(1, 2.0, 0.3, shortfall=1.0))
    assert not hopeless.admissible
    assert [one.number for one in hopeless.front] == [0]


def test_trials_that_diverged_stand_in_the_table_alone() -> None:
    diverged = Trial(0, {"latent": 2}, 0.5, None)
    table = search(diverged, trial(1, 1.0, 0.2, test=figures(1.1, 0.3))).table()
    assert table["diverged"].tolist() == [True, False]
    assert table["best"].tolist() == table["chosen"].tolist() == [False, True]
    np.testing.assert_array_equal(table["leak"], [np.nan, 0.2])
    np.testing.assert_array_equal(table["test_leak"], [np.nan, 0.3])
    assert list(table)[-1].startswith("test_")
    assert search(diverged).chosen is None
    assert search(diverged).front == ()
    assert search().table() == {}


def test_a_search_is_plain_json() -> None:
    result = search(Trial(0, {"latent": 2}, 0.5, None), trial(1, 1.0, 0.2))
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["chosen"] == 1
    assert [one["best"] for one in document["trials"]] == [False, True]
    assert document["trials"][1]["valid"]["objectives"] == {"loss": 1.0, "leak": 0.2}
    assert search().to_json()["chosen"] is None
