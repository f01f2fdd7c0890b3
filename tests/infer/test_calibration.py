"""Right posteriors pass the tests of calibration, wrong ones fail, and both agree with sbi."""

import json

import numpy as np
import pytest
from scipy import stats

from draper.errors import DraperError
from draper.infer.calibration import (
    CELLS,
    JOINT,
    Calibration,
    Group,
    fractional_ranks,
    joint_ranks,
    uniform_band,
)

LABELS = ("teff", "logg", "rv")
N, DRAWS = 2000, 99
BOX = {"low": [-4, -4, -4], "high": [4, 4, 4]}


def simulated(
    width: float = 1.0, shift: float = 0.0, correlation: float = 0.0, seed: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Return true labels, and samples of posteriors that are right at width 1, shift 0 and correlation 0.

    The prior of each label is N(0, 1), its datum has the error 0.5: the posterior is a Gaussian.
    """
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((N, 3))
    data = truth + 0.5 * rng.standard_normal((N, 3))
    mean, sigma = data / 1.25, np.sqrt(0.25 / 1.25)
    matrix = np.eye(3) + correlation * (1 - np.eye(3))
    noise = rng.standard_normal((N, DRAWS, 3)) @ np.linalg.cholesky(matrix).T
    return truth, mean[:, None] + sigma * (shift + width * noise)


@pytest.fixture(scope="module")
def right() -> Calibration:
    return Calibration.measure(LABELS, *simulated(), **BOX)


@pytest.fixture(scope="module")
def narrow() -> Calibration:
    return Calibration.measure(LABELS, *simulated(width=0.8), **BOX)


def test_a_right_posterior_passes(right: Calibration) -> None:
    whole = right["all"]
    assert whole.ks_p.min() > 0.02
    assert whole.chi2_p.min() > 0.02
    for level in (0.5, 0.68, 0.9, 0.95):
        assert np.all(np.abs(whole.coverage(level) - level) < 3 * whole.coverage_err(level))
    for row in range(4):
        band = whole.cumulative(row)
        assert np.all((band.low <= band.values) & (band.values <= band.high))
    tarp = whole.expected_coverage()
    assert np.mean((tarp.low <= tarp.levels) & (tarp.levels <= tarp.high)) > 0.8


def test_errors_that_are_too_small_fail(narrow: Calibration) -> None:
    whole = narrow["all"]
    assert whole.ks_p.max() < 1e-3
    assert whole.chi2_p.max() < 1e-3
    expected = 2 * stats.norm.cdf(0.8 * stats.norm.ppf(0.84)) - 1  # 57 % instead of 68 %
    np.testing.assert_allclose(whole.coverage(0.68)[:3], expected, atol=3 * whole.coverage_err(0.68)[0])
    for row in range(4):
        band = whole.cumulative(row)
        assert np.any((band.values < band.low) | (band.values > band.high))
    histogram = whole.histogram(20)[:3]
    assert histogram[:, [0, -1]].min() > 1.4 * N / 20  # too many truths in the tails
    assert whole.coverage(0.9)[3] < 0.9 - 3 * whole.coverage_err(0.9)[3]  # TARP: regions are too small


def test_a_shift_tilts_the_ranks() -> None:
    whole = Calibration.measure(LABELS, *simulated(shift=0.5), **BOX)["all"]
    histogram = whole.histogram(2)[:3]
    assert np.all(histogram[:, 0] > 1.3 * histogram[:, 1])


def test_wrong_correlations_are_seen_by_the_joint_test_alone() -> None:
    whole = Calibration.measure(LABELS, *simulated(correlation=0.8), **BOX)["all"]
    assert whole.ks_p[:3].min() > 0.02
    assert whole.ks_p[3] < 1e-3


def test_ranks_are_uniform_with_few_samples_and_ties() -> None:
    rng = np.random.default_rng(0)
    integers = rng.integers(0, 3, (20_000, 5, 1))
    ranks = fractional_ranks(integers[:, 0], integers[:, 1:], rng)
    assert stats.kstest(ranks[:, 0], "uniform").pvalue > 0.02
    assert ((ranks > 0) & (ranks < 1)).all()
    exact = fractional_ranks([[0.5, 9.0]], np.array([[[0.0, 0], [1, 1], [2, 2]]]), rng)
    assert 0.25 < exact[0, 0] < 0.5
    assert 0.75 < exact[0, 1] < 1


def test_joint_ranks_count_smaller_distances() -> None:
    class Fixed:
        """Random numbers that are 0.5."""

        def uniform(self, size: tuple[int, ...]) -> np.ndarray:
            return np.full(size, 0.5)

    # Reference point (0, 5): distances in the unit box are 0.4 (truth), 0.1, 0.3, 0.45.
    samples = np.array([[[0.2, 5.0], [0.0, 8.0], [0.9, 5.0]]])
    rank = joint_ranks([[-0.8, 5.0]], samples, [-1, 0], [1, 10], Fixed())
    np.testing.assert_allclose(rank, [2.5 / 4])


def test_rows_with_nan_do_not_count() -> None:
    truth, samples = simulated()
    truth[:100, 0] = np.nan
    samples[50:200] = np.nan
    calibration = Calibration.measure(LABELS, truth, samples, **BOX)
    assert calibration["all"].numbers.tolist() == [N - 200, N - 150, N - 150, N - 200]
    assert calibration["all"].ks_p.min() > 0.02
    nothing = Calibration.measure(LABELS, truth * np.nan, samples, **BOX)["all"]
    assert np.isnan(nothing.coverage(0.68)).all()
    assert np.isnan(nothing.ks_p).all()
    assert np.isnan(nothing.chi2_p).all()
    np.testing.assert_array_equal(nothing.expected_coverage().values, 0)


def test_groups_are_parts_of_the_whole() -> None:
    truth, samples = simulated()
    error = np.repeat([10, 30], N // 2)
    samples[error == 30] *= 0.5
    strata = {"error [ppm]": error, "instrument": np.array(["a", "b"])[np.arange(N) % 2]}
    calibration = Calibration.measure(LABELS, truth, samples, strata=strata, **BOX)
    names = [group.name for group in calibration.groups]
    assert names == ["all", "error [ppm] = 10", "error [ppm] = 30", "instrument = a", "instrument = b"]
    for first in (1, 3):
        total = calibration.groups[first].counts + calibration.groups[first + 1].counts
        np.testing.assert_array_equal(total, calibration["all"].counts)
    assert calibration["error [ppm] = 10"].ks_p.min() > 0.02
    assert calibration["error [ppm] = 30"].ks_p.max() < 1e-3
    table = calibration.table()
    assert table["group"][4] == "error [ppm] = 10"
    assert table["label"][:4].tolist() == [*LABELS, JOINT]
    assert {len(column) for column in table.values()} == {20}
    np.testing.assert_array_equal(table["coverage_68"][4:8], calibration.groups[1].coverage(0.68))
    with pytest.raises(DraperError, match="did you mean 'instrument = a'"):
        calibration["instrument=a"]


def test_blocks_of_simulations_can_be_joined(right: Calibration) -> None:
    truth, samples = simulated()
    rng = np.random.default_rng(0)
    parts = [
        (
            fractional_ranks(truth[rows], samples[rows], rng),
            joint_ranks(truth[rows], samples[rows], *BOX.values(), rng),
        )
        for rows in (slice(0, 700), slice(700, N))
    ]
    ranks, joint = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = Calibration.from_ranks(LABELS, ranks, joint)
    np.testing.assert_allclose(found["all"].coverage(0.68)[:3], right["all"].coverage(0.68)[:3], atol=0.01)


def test_json_keeps_everything(right: Calibration) -> None:
    groups = (*right.groups, Group.count("none", np.full((0, 4), np.nan)))
    calibration = Calibration(right.labels, groups)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
    assert (again.labels, repr(again)) == (calibration.labels, repr(calibration))
    for name, column in calibration.table().items():
        np.testing.assert_array_equal(again.table()[name], column)


@pytest.mark.parametrize("number", [40, 1000])
def test_the_band_holds_95_percent_of_uniform_sets(number: int) -> None:
    low, high = uniform_band(number)
    assert low.shape == high.shape == (CELLS + 1,)
    ranks = np.random.default_rng(1).uniform(size=(2000, number))
    steps = np.stack([np.histogram(row, CELLS, (0, 1))[0] for row in ranks]).cumsum(axis=1) / number
    inside = np.all((steps >= low[1:] - 1e-12) & (steps <= high[1:] + 1e-12), axis=1)
    assert inside.mean() == pytest.approx(0.95, abs=0.03)


def test_what_does_not_fit_is_refused(right: Calibration) -> None:
    truth, samples = simulated()
    for level in (0.685, 0, 1.01):
        with pytest.raises(DraperError, match=r"steps of 0\.01"):
            right["all"].coverage(level)
    with pytest.raises(DraperError, match="divides 200"):
        right["all"].histogram(30)
    with pytest.raises(DraperError, match="one true value"):
        fractional_ranks(truth[:5], samples, np.random.default_rng(0))
    with pytest.raises(DraperError, match="finite lower and upper"):
        Calibration.measure(LABELS, truth, samples, low=[-4] * 3, high=[4, np.inf, 4])
    with pytest.raises(DraperError, match="does not group"):
        Calibration.measure(LABELS, truth, samples, strata={"error": [1, 2]}, **BOX)
    with pytest.raises(DraperError, match="a column of ranks"):
        Calibration.from_ranks(LABELS[:2], np.zeros((5, 3)), np.zeros(5))


@pytest.mark.parametrize("width", [1.0, 0.8])
def test_sbi_agrees(width: float) -> None:
    pytest.importorskip("sbi")
    import torch
    from sbi.diagnostics.sbc import check_uniformity_frequentist
    from sbi.diagnostics.tarp import _run_tarp

    truth, samples = simulated(width)
    ours = Calibration.measure(LABELS, truth, samples, **BOX)["all"]
    counts = torch.from_numpy((samples < truth[:, None]).sum(axis=1))
    theirs = check_uniformity_frequentist(counts, DRAWS).numpy()
    np.testing.assert_array_equal(theirs > 0.01, ours.ks_p[:3] > 0.01)

    theta, drawn = (torch.from_numpy(part) for part in (truth, samples.transpose(1, 0, 2)))
    references = torch.from_numpy(np.random.default_rng(0).uniform(-4, 4, truth.shape))
    expected, levels = _run_tarp(drawn.contiguous(), theta, references, num_bins=50)
    found = ours.expected_coverage()
    np.testing.assert_allclose(
        np.interp(levels.numpy(), found.levels, found.values), expected.numpy(), atol=0.04
    )
