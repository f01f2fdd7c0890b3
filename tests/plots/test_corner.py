"""A corner plot shows the posterior that it is given."""

from pathlib import Path

import numpy as np
import pytest

from draper import Estimates, Label, LabelSet
from draper.errors import DraperError
from draper.plots.style import save

LABELS = LabelSet([Label("teff", low=3000, high=8000), Label("logg", low=0, high=5), Label("fe_h", low=-2)])
COVARIANCE = np.array([[6400.0, 4.0, 0.0], [4.0, 0.01, 0.0], [0.0, 0.0, 0.0025]])
TRUTH = {"teff": np.array([0.0, 5700.0, 0.0]), "fe_h": np.array([0.0, np.nan, 0.0])}


def made(kind: str) -> Estimates:
    rng = np.random.default_rng(0)
    samples = rng.multivariate_normal([5800, 4.4, -0.1], COVARIANCE, size=(3, 3000))
    samples[2] = np.nan
    estimates = Estimates.from_samples(LABELS, samples, np.arange(3))
    if kind == "samples":
        return estimates
    covariance = np.tile(COVARIANCE, (3, 1, 1)) if kind == "covariance" else None
    return Estimates(LABELS, estimates.median, estimates.sigma, estimates.ids, covariance=covariance)


def lines(ax, color: str = "#D55E00") -> list[float]:
    return [float(line.get_xdata()[0]) for line in ax.lines if line.get_color() == color]


@pytest.mark.parametrize("kind", ["samples", "covariance", "sigma"])
def test_a_panel_for_each_label_and_each_pair(kind: str, tmp_path: Path) -> None:
    estimates = made(kind)
    figure = estimates.corner(1, TRUTH)
    titles = [ax.get_title().split(" =")[0] for ax in figure.axes if ax.get_title()]
    assert titles == ["Teff", "log g", "[Fe/H]"]
    assert len(figure.axes) == 6
    first, below = figure.axes[0], figure.axes[1]
    assert lines(first) == [5700.0]
    assert below.get_xlim() == first.get_xlim()
    assert first.get_xlim()[0] < 5600 < 6000 < first.get_xlim()[1]
    assert [float(line.get_xdata()[0]) for line in first.lines[:3]] == pytest.approx(
        [estimates.quantile(q)[1, 0] for q in (0.5, 0.16, 0.84)]
    )
    assert len(estimates.corner(0, names=["logg"]).axes) == 1
    save(figure, tmp_path / "corner.png")  # draws without a warning


def test_contours_hold_what_they_say(tmp_path: Path) -> None:
    for kind in ("samples", "covariance"):
        estimates = made(kind)
        below = estimates.corner(0, names=["teff", "logg"]).axes[1]
        shapes = below.patches or below.collections
        paths = [
            path for shape in shapes for path in ([shape.get_path()] if below.patches else shape.get_paths())
        ]
        draws = made("samples").samples[0, :, :2]
        outer = np.mean(paths[0].contains_points(draws) | paths[-1].contains_points(draws))
        assert outer == pytest.approx(0.95, abs=0.02)
        inner = np.mean(paths[-1].contains_points(draws))
        assert inner == pytest.approx(0.68, abs=0.04)


def test_rows_and_labels_without_an_estimate_are_refused() -> None:
    with pytest.raises(DraperError, match="with an error"):
        made("samples").corner(2)
    with pytest.raises(DraperError, match="no such spectrum"):
        made("samples").corner(3)
    with pytest.raises(DraperError, match="unknown label"):
        made("samples").corner(0, names=["tef"])
