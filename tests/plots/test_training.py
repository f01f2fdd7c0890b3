"""The plot of a history is readable for every model."""

from pathlib import Path

import numpy as np
import pytest

from draper.errors import DraperError
from draper.plots.style import save
from draper.plots.training import plot_history

TERMS = {
    "critic": ("total", "from_latents", "from_kept"),
    "head": ("total",),
    "model": ("total", "misfit", "plain", "combined", "rate", "regressor", "leak"),
}
"""Those of a disentangler: 22 columns with the held-out losses."""


def history(rows: int = 30) -> list[dict[str, float]]:
    made = []
    for number in range(1, rows + 1):
        row: dict[str, float] = {"step": 10 * number, "epoch": number, "rate": 1e-3}
        for player, terms in TERMS.items():
            group = "valid" if player == "model" else f"valid/{player}"
            for term in terms:
                value = 100.0 / number - (50 if term == "regressor" else 0)
                row |= {f"{player}/{term}": value, f"{group}/{term}": 1.1 * value}
        made.append(row)
    return made


def test_every_term_has_a_panel_with_both_losses_in_one_colour(tmp_path: Path) -> None:
    figure = plot_history(history())
    panels = {ax.get_title(): ax for ax in figure.axes}
    assert list(panels) == [
        *(f"model: {term}" for term in TERMS["model"]), "head: total", "critic: total", "critic: from",
    ]  # fmt: skip
    for title, ax in panels.items():
        pairs = list(zip(ax.lines[::2], ax.lines[1::2], strict=True))
        assert len(pairs) == (2 if title == "critic: from" else 1)
        for train, valid in pairs:
            assert train.get_color() == valid.get_color()
            assert train.get_linewidth() < valid.get_linewidth()
            np.testing.assert_allclose(valid.get_ydata(), 1.1 * train.get_ydata())
        assert ax.get_legend() is None
        assert ax.get_yscale() == ("linear" if title == "model: regressor" else "log")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "held out", "latents", "kept"]
    save(figure, tmp_path / "history.png")
    assert all(legend.get_window_extent().y0 >= ax.bbox.y1 for ax in figure.axes)


def test_terms_of_two_domains_share_a_panel() -> None:
    """The six curves of a cycle."""
    terms = [f"{kind}_{domain}" for kind in ("reconstruction", "cycle", "adversarial") for domain in "ab"]
    rows = [{"step": n, **{f"train/{term}": 1.0 / n for term in terms}} for n in range(1, 9)]
    figure = plot_history(rows)
    assert [ax.get_title() for ax in figure.axes] == ["reconstruction", "cycle", "adversarial"]
    colors = [[line.get_color() for line in ax.lines[::2]] for ax in figure.axes]
    assert colors[0] == colors[1] == colors[2]
    assert colors[0][0] != colors[0][1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "a", "b"]


@pytest.mark.parametrize("rows", [1, 3000])
def test_short_and_long_histories(rows: int, tmp_path: Path) -> None:
    figure = plot_history(history(rows))
    save(figure, tmp_path / "history.png")  # draws without a warning
    assert (figure.axes[0].lines[0].get_marker() == "o") == (rows == 1)


def test_losses_that_hardly_change_have_a_linear_axis() -> None:
    rows = [{"step": n, "train/total": 1 + 0.01 * n} for n in range(9)]
    assert plot_history(rows).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("rows", [[], [{"step": 1.0, "rate": 1e-3}]])
def test_no_history_is_said(rows: list[dict[str, float]]) -> None:
    with pytest.raises(DraperError, match="no history"):
        plot_history(rows)
