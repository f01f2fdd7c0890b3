"""Plots of calibration show the numbers of the calibration."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from draper.errors import DraperError
from draper.infer.calibration import JOINT, Calibration
from draper.plots.calibration import plot_coverage, plot_ranks
from draper.plots.style import save

N = 800


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """Return calibrations of a right, a narrow and a shifted posterior; half of the simulations are faint."""
    uniform = np.random.default_rng(0).uniform(size=(N, 4))
    ranks = np.column_stack([uniform[:, 0], np.where(uniform[:, 1] < 0.5, 0.05, 0.95), uniform[:, 2] ** 2])
    return Calibration.from_ranks(
        ["planet_mass", "teff", "rv"],
        ranks,
        uniform[:, 3],
        {"star": np.array(["faint", "bright"])[np.arange(N) % 2]},
    )


def test_coverage_minus_level(calibration: Calibration, tmp_path: Path) -> None:
    ax = plot_coverage(calibration)
    curves = {line.get_label(): line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 99}
    assert list(curves) == ["planet_mass", "Teff", "RV", f"{JOINT} (TARP)"]
    whole = calibration["all"]
    for row, curve in enumerate(curves.values()):
        assert curve[67] == pytest.approx(100 * (whole.coverage(0.68)[row] - 0.68))
    assert curves["Teff"][67] == pytest.approx(-68)
    (band,) = ax.collections
    edges = band.get_paths()[0].vertices
    at = edges[np.isclose(edges[:, 0], 68), 1]
    low, high = binom.interval(0.95, N, 0.68)
    assert (at.min(), at.max()) == pytest.approx((100 * (low / N - 0.68), 100 * (high / N - 0.68)))
    assert ax.get_ylim()[0] < -68
    assert ax.get_title() == "800 simulations"
    save(ax, tmp_path / "coverage.png")


def test_one_simulation(tmp_path: Path) -> None:
    one = Calibration.from_ranks(["teff"], np.array([[0.4]]), np.array([0.5]))
    assert plot_coverage(one).get_title() == "1 simulation"
    figure = plot_ranks(one)
    save(figure, tmp_path / "ranks.png")
    assert all(tick == round(tick) for tick in figure.axes[0].get_yticks())


def test_a_probability_is_never_quoted_as_zero(calibration: Calibration) -> None:
    titles = [ax.get_title() for ax in plot_ranks(calibration).axes]
    assert "Teff: p < 0.0001" in titles


def test_groups_and_labels_can_be_chosen(calibration: Calibration, tmp_path: Path) -> None:
    ax = plot_coverage(calibration, "star = faint", ["rv"])
    assert ax.get_title() == "star = faint: 400 simulations"
    assert [line.get_label() for line in ax.lines if len(line.get_xdata()) == 99] == ["RV"]
    save(ax, tmp_path / "coverage.png")
    with pytest.raises(DraperError, match="did you mean 'star = faint'"):
        plot_coverage(calibration, "star=faint")
    with pytest.raises(DraperError, match="did you mean 'teff'"):
        plot_ranks(calibration, names=["tef"])


def test_histograms_and_bands_of_ranks(calibration: Calibration, tmp_path: Path) -> None:
    figure = plot_ranks(calibration, bins=10, columns=3)
    assert len(figure.axes) == 8
    uppers = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title().split(":")[0] for ax in uppers] == ["planet_mass", "Teff", "RV", f"{JOINT} (TARP)"]
    counts = calibration["all"].histogram(10)
    for row, ax in enumerate(uppers):
        stairs = [patch for patch in ax.patches if hasattr(patch, "get_data")]
        np.testing.assert_array_equal(stairs[0].get_data().values, counts[row])
        assert ax.get_ylim()[1] > counts[row].max()
    lowers = [ax for ax in figure.axes if not ax.get_title()]
    band = calibration["all"].cumulative(2)
    np.testing.assert_allclose(lowers[2].lines[-1].get_ydata(), band.values - band.levels)
    edges = lowers[2].collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx(
        ((band.low - band.levels).min(), (band.high - band.levels).max())
    )
    save(figure, tmp_path / "ranks.png")
    assert len(plot_ranks(calibration, names=["rv"]).axes) == 2
