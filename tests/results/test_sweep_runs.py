"""The runs of a sweep: their table, and the spread over seeds."""

import json

import numpy as np

from draper.results.sweep import Run, SweepResult, spread
from draper.results.trials import Figures


def run(latent: str, seed: int, loss: float | None, **others: float) -> Run:
    test = None if loss is None else Figures({"loss": loss}, others)
    return Run(f"latent-{latent}_seed-{seed}", {"latent": latent}, seed, 1.0, test)


def result() -> SweepResult:
    runs = run("8", 0, 3.0, error_teff=10.0), run("8", 1, 1.0), run("16", 0, 2.0), run("16", 1, None)
    return SweepResult("some", {"loss": "held-out loss"}, runs)


def test_the_spread_is_median_and_range_of_what_is_finite() -> None:
    assert vars(spread([3.0, 1.0, np.nan, 2.0])) == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert str(spread([np.nan])) == "-"


def test_each_setting_has_its_spread_over_seeds() -> None:
    first, second = result().summary()
    assert (first["latent"], first["runs"], first["diverged"]) == ("8", 2, 0)
    assert (first["loss"].low, first["loss"].median, first["loss"].high) == (1.0, 2.0, 3.0)
    assert first["error_teff"].median == 10.0
    assert (second["runs"], second["diverged"], second["loss"].median) == (2, 1, 2.0)
    assert np.isnan(second["error_teff"].median)


def test_the_table_has_a_row_for_each_run() -> None:
    table = result().table()
    assert table["latent"].tolist() == [8, 8, 16, 16]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(table["loss"], [3.0, 1.0, 2.0, np.nan])
    np.testing.assert_array_equal(table["error_teff"], [10.0, np.nan, np.nan, np.nan])
    assert table["diverged"].tolist() == [False, False, False, True]


def test_a_sweep_is_json() -> None:
    document = json.loads(json.dumps(result().to_json()))
    assert len(document["runs"]) == 4
    assert document["settings"][0]["loss"] == {"median": 2.0, "low": 1.0, "high": 3.0}
