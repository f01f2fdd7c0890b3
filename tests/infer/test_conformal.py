"""Split-conformal calibration: coverage on fresh rows, in groups, and p values."""

from __future__ import annotations

import numpy as np
import pytest

from draper.errors import DraperError
from draper.infer.conformal import ConformalQuantiles, ConformalScores, conformal_rank

LEVELS = (0.05, 0.16, 0.5, 0.84, 0.95)
Z = np.array([-1.644854, -0.994458, 0.0, 0.994458, 1.644854])


def gaussian(rng: np.random.Generator, n: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return quantiles whose widths are wrong by a factor, and values."""
    mean, width = rng.normal(size=(n, 2)), rng.uniform(0.5, 2, (n, 2))
    truth = mean + width * rng.normal(size=(n, 2))
    return mean[:, None] + factor * width[:, None] * Z[:, None], truth


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.5])
def test_intervals_hold_on_fresh_rows_whether_they_were_too_wide_or_too_narrow(factor: float) -> None:
    rng = np.random.default_rng(1)
    quantiles, truth = gaussian(rng, 8000, factor)
    groups = ["all"] * 8000
    measured = ConformalQuantiles.measure(LEVELS, quantiles[:4000], truth[:4000], groups[:4000])
    moved = measured(quantiles[4000:], groups[4000:])
    for number, level in enumerate(LEVELS):
        below = (truth[4000:] <= moved[:, number]).mean(axis=0)
        assert np.abs(below - level).max() < 0.02
    assert (np.diff(moved, axis=1) >= 0).all()


def test_groups_of_their_own_and_those_with_few_rows() -> None:
    rng = np.random.default_rng(2)
    narrow, truth_n = gaussian(rng, 3000, 0.5)
    wide, truth_w = gaussian(rng, 3000, 2.0)
    quantiles, truth = np.concatenate([narrow, wide]), np.concatenate([truth_n, truth_w])
    groups = ["narrow"] * 3000 + ["wide"] * 2990 + ["rare"] * 10
    measured = ConformalQuantiles.measure(LEVELS, quantiles, truth, groups)
    rows = np.random.default_rng(3)
    for factor, name in ((0.5, "narrow"), (2.0, "wide")):
        fresh, values = gaussian(rows, 4000, factor)
        moved = measured(fresh, [name] * 4000)
        inside = ((values > moved[:, 1]) & (values < moved[:, 3])).mean()
        assert abs(inside - 0.68) < 0.02
    assert np.isnan(measured.shifts["rare"]).all()
    assert np.array_equal(measured(fresh[:5], ["rare"] * 5), measured(fresh[:5], ["unknown"] * 5))


def test_few_rows_of_a_kind_are_not_moved_as_those_of_another_kind() -> None:
    """Stars with whole spectra have narrow intervals that are too narrow; those with gaps have wide ones."""
    rng = np.random.default_rng(7)
    inside = []
    for _ in range(40):
        narrow, truth_n = gaussian(rng, 120, 0.5)
        wide, truth_w = gaussian(rng, 240, 2.0)
        measured = ConformalQuantiles.measure(
            LEVELS,
            np.concatenate([narrow, wide]),
            np.concatenate([truth_n, truth_w]),
            ["spectrum 0"] * 60 + ["spectrum 1"] * 60 + ["gap 0"] * 240,
        )
        fresh, values = gaussian(rng, 500, 0.5)
        moved = measured(fresh, ["spectrum 1"] * 500)
        inside.append(((values > moved[:, 1]) & (values < moved[:, 3])).mean())
    assert abs(np.mean(inside) - 0.68) < 0.03


def test_small_sets_are_conservative() -> None:
    rng = np.random.default_rng(4)
    inside = []
    for _ in range(400):
        quantiles, truth = gaussian(rng, 60, 1.0)
        measured = ConformalQuantiles.measure(LEVELS, quantiles, truth, [""] * 60)
        fresh, values = gaussian(rng, 50, 1.0)
        moved = measured(fresh, [""] * 50)
        inside.append(((values >= moved[:, 0]) & (values <= moved[:, -1])).mean())
    assert 0.89 < np.mean(inside) < 0.96
    assert conformal_rank(19, 0.95) == 18
    assert conformal_rank(19, 0.05) == 0


def test_labels_without_held_out_values_stay_as_they_are() -> None:
    rng = np.random.default_rng(5)
    quantiles, truth = gaussian(rng, 500, 0.5)
    truth[:, 1] = np.nan
    measured = ConformalQuantiles.measure(LEVELS, quantiles, truth, [""] * 500)
    np.testing.assert_allclose(measured(quantiles, [""] * 500)[..., 1], quantiles[..., 1])
    again = ConformalQuantiles.from_json(measured.to_json())
    assert np.array_equal(again(quantiles, [""] * 500), measured(quantiles, [""] * 500))
    with pytest.raises(DraperError, match="levels"):
        measured(quantiles[:, 1:], [""] * 500)


def test_p_values_are_uniform_and_fall_beyond_what_was_seen() -> None:
    rng = np.random.default_rng(6)
    known = ConformalScores.measure(rng.chisquare(3, 3000), [""] * 3000)
    p = known(rng.chisquare(3, 20_000), [""] * 20_000)
    for level in (0.01, 0.1, 0.5):
        assert abs((p < level).mean() - level) < 0.25 * level + 0.002
    far = known([50.0, 100.0, 200.0], [""] * 3)
    assert (np.diff(far) < 0).all()
    assert far[0] < 1e-3
    again = ConformalScores.from_json(known.to_json())
    np.testing.assert_allclose(again([1.0, 9.0], ["", "new"]), known([1.0, 9.0], ["", ""]), rtol=1e-3)
