"""The plot of a search shows what was tried, and what is best."""

from pathlib import Path

import numpy as np
import pytest

from draper.errors import DraperError
from draper.plots.pareto import plot_pareto
from draper.plots.style import save
from draper.results.trials import Judged, Tried, Tuning


def judged(reconstruction: float, leak: float) -> Judged:
    return Judged(reconstruction, {"teff": leak}, {}, {})


def search(*trials: Tried) -> Tuning:
    return Tuning("disentangler", "rms of flux", trials)


def test_front_and_knee_stand_out(tmp_path: Path) -> None:
    found = search(
        Tried(0, {}, 1.0, judged(1.0, 0.9), judged(1.1, 0.8)),
        Tried(1, {}, 1.0, judged(1.2, 0.1), judged(1.3, 0.2)),
        Tried(2, {}, 1.0, judged(1.5, 0.5)),
        Tried(3, {}, 1.0, None),
        Tried(4, {}, 1.0, judged(2.0, 0.0), judged(2.1, 0.0)),
    )
    ax = plot_pareto(found)
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["beaten by others"], [[1.5, 0.5], [np.nan, np.nan]])
    np.testing.assert_array_equal(drawn["beaten by none"], [[1.0, 0.9], [1.2, 0.1], [2.0, 0.0]])
    np.testing.assert_array_equal(drawn["test part"], [[1.1, 0.8], [1.3, 0.2], [2.1, 0.0]])
    np.testing.assert_array_equal(drawn["chosen"], [[1.2, 0.1]])
    assert [text.get_text() for text in ax.texts] == ["0", "1", "4"]
    assert "rms of flux" in ax.get_xlabel()
    assert ax.get_xscale() == "linear"
    assert ax.get_ylim()[0] < 0
    save(ax, tmp_path / "pareto.png")


def test_figures_that_differ_by_factors_get_a_logarithm(tmp_path: Path) -> None:
    far = search(Tried(0, {}, 1.0, judged(1.0, 0.9)), Tried(1, {}, 1.0, judged(40.0, 0.1)))
    ax = plot_pareto(far)
    assert ax.get_xscale() == "log"
    save(ax, tmp_path / "pareto.png")
    save(plot_pareto(search(Tried(0, {}, 1.0, judged(1.0, 0.0)))), tmp_path / "one.png")


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(DraperError, match="no trial of the search has ended"):
        plot_pareto(search(Tried(0, {}, 1.0, None)))
