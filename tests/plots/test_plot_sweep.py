"""The plot of a sweep shows every run, and the range over seeds."""

from pathlib import Path

import numpy as np
import pytest

from draper.errors import DraperError
from draper.plots.style import save
from draper.plots.sweep import plot_sweep
from draper.results.sweep import Run, SweepResult
from draper.results.trials import Figures


def run(settings: dict[str, str], seed: int, loss: float | None) -> Run:
    test = None if loss is None else Figures({"loss": loss}, {"error_teff": 100 * loss})
    return Run(f"run-{seed}", settings, seed, 1.0, test)


def sweep(*runs: Run) -> SweepResult:
    return SweepResult("some", {"loss": "held-out loss"}, runs)


def test_runs_are_dots_and_medians_are_lines(tmp_path: Path) -> None:
    runs = [
        run({"latent": latent, "engine": engine}, seed, float(latent) + seed)
        for latent in ("8", "16")
        for engine in ("bins", "hsic")
        for seed in range(3)
    ]
    ax = plot_sweep(sweep(*runs))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["8", "16"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent", "held-out loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["engine = bins", "engine = hsic"]
    medians = [bars[0].get_ydata() for bars in ax.containers]
    np.testing.assert_array_equal(medians, [[9.0, 17.0], [9.0, 17.0]])
    save(ax, tmp_path / "sweep.png")


def test_words_are_not_joined_by_a_line_and_diverged_runs_are_left_out(tmp_path: Path) -> None:
    runs = [run({"engine": name}, 0, loss) for name, loss in (("bins", 1.0), ("hsic", None), ("none", 2.0))]
    ax = plot_sweep(sweep(*runs), "error_teff")
    (bars,) = ax.containers
    assert bars[0].get_linestyle() == "None"
    np.testing.assert_array_equal(bars[0].get_ydata(), [100.0, np.nan, 200.0])
    assert ax.get_ylabel() == "error teff"
    save(ax, tmp_path / "words.png")
    save(plot_sweep(sweep(run({}, 0, 1.0), run({}, 1, 2.0))), tmp_path / "seeds.png")


def test_many_settings_stay_apart(tmp_path: Path) -> None:
    runs = [
        run({"hidden": f"{width},{width}", "engine": f"engine{engine}"}, 0, 1.0 + engine)
        for width in range(1000, 1020)
        for engine in range(30)
    ]
    ax = plot_sweep(sweep(*runs))
    x = [bars[0].get_xdata() for bars in ax.containers]
    assert max(x[29]) - max(x[0]) < 1  # lines of one value end before the next
    looks = {(bars[0].get_color(), bars[0].get_marker()) for bars in ax.containers}
    assert len(looks) == 30
    save(ax, tmp_path / "many.png")
    assert ax.get_xticklabels()[0].get_rotation() > 0


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(DraperError, match="no figure 'los'") as error:
        plot_sweep(sweep(run({}, 0, 1.0)), "los")
    assert "did you mean 'loss'" in str(error.value)
    with pytest.raises(DraperError, match="no run of the sweep has finished"):
        plot_sweep(sweep(run({}, 0, None)))
