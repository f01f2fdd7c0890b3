"""The plot of a search shows all trials and the best of them."""

from pathlib import Path

import numpy as np
import pytest

from draper.errors import DraperError
from draper.plots.pareto import plot_objective, plot_pareto, plot_search
from draper.plots.style import save
from draper.results.trials import Figures, SearchResult, Trial


def figures(loss: float, leak: float) -> Figures:
    return Figures({"loss": loss, "leak": leak})


def search(*trials: Trial, objectives: int = 2) -> SearchResult:
    names = [("loss", "held-out loss"), ("leak", "largest leak")]
    return SearchResult("some", dict(names[:objectives]), trials)


TRIALS = (
    Trial(0, {"latent": 4}, 1.0, figures(1.0, 0.9), figures(1.1, 0.8)),
    Trial(1, {"latent": 8}, 1.0, figures(1.2, 0.1), figures(1.3, 0.2)),
    Trial(2, {"latent": 2}, 1.0, figures(1.5, 0.5)),
    Trial(3, {"latent": 5}, 1.0, None),
    Trial(4, {"latent": 50}, 1.0, figures(2.0, 0.0), figures(2.1, 0.0)),
)


def test_front_and_knee_stand_out(tmp_path: Path) -> None:
    ax = plot_search(search(*TRIALS))
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["dominated"], [[1.5, 0.5], [np.nan, np.nan]])
    np.testing.assert_array_equal(drawn["Pareto front"], [[1.0, 0.9], [1.2, 0.1], [2.0, 0.0]])
    np.testing.assert_array_equal(drawn["test part"], [[1.1, 0.8], [1.3, 0.2], [2.1, 0.0]])
    np.testing.assert_array_equal(drawn["chosen"], [[1.2, 0.1]])
    assert [text.get_text() for text in ax.texts] == ["0", "1", "4"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("held-out loss", "largest leak")
    assert ax.get_xscale() == "linear"
    save(ax, tmp_path / "pareto.png")


def test_many_trials_neither_hide_each_other_nor_overlap_in_numbers(tmp_path: Path) -> None:
    loss = np.linspace(1, 2, 600)
    ax = plot_pareto(search(*(Trial(n, {}, 1.0, figures(x, 1 / x)) for n, x in enumerate(loss))))
    assert len(ax.texts) <= 3
    front = next(line for line in ax.lines if line.get_label() == "Pareto front")
    assert len(front.get_xdata()) == 600
    assert front.get_markersize() < 2.5
    save(ax, tmp_path / "many.png")


def test_figures_that_differ_by_factors_get_a_logarithm(tmp_path: Path) -> None:
    far = search(Trial(0, {}, 1.0, figures(1.0, 0.9)), Trial(1, {}, 1.0, figures(40.0, 0.1)))
    ax = plot_pareto(far)
    assert ax.get_xscale() == "log"
    save(ax, tmp_path / "pareto.png")
    save(plot_pareto(search(Trial(0, {}, 1.0, figures(1.0, 0.0)))), tmp_path / "one.png")


def test_one_objective_is_drawn_against_the_option_or_the_trial(tmp_path: Path) -> None:
    result = search(*TRIALS, objectives=1)
    ax = plot_search(result)
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    values = [[4, 1.0], [8, 1.2], [2, 1.5], [5, np.nan], [50, 2.0]]
    np.testing.assert_array_equal(drawn["validation part"], values)
    np.testing.assert_array_equal(drawn["chosen"], [[4, 1.0]])
    assert (ax.get_xlabel(), ax.get_xscale()) == ("latent", "log")
    save(ax, tmp_path / "option.png")
    ax = plot_objective(result)
    best = next(line for line in ax.lines if line.get_label() == "best so far")
    np.testing.assert_array_equal(best.get_xydata(), [[n, 1.0] for n in range(5)])
    assert ax.get_xlabel() == "trial"
    save(ax, tmp_path / "trial.png")
    with pytest.raises(DraperError, match="has not varied 'latnt'"):
        plot_objective(result, "latnt")


@pytest.mark.parametrize("objectives", [1, 2])
def test_nothing_to_draw_is_said(objectives: int) -> None:
    with pytest.raises(DraperError, match="no trial of the search has finished"):
        plot_search(search(Trial(0, {}, 1.0, None), objectives=objectives))
