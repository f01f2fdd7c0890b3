"""The leakage plot shows what the report says."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams

from draper.latents.leakage import Leakage, measure_leakage
from draper.plots.leakage import plot_leakage
from draper.plots.style import save


def made(removed: tuple[str, ...], kept: tuple[str, ...]) -> Leakage:
    random = np.random.default_rng(0)
    labels = {name: random.normal(size=600) for name in removed + kept}
    spectra = np.column_stack([*labels.values(), random.normal(size=600)])
    z = spectra[:, len(removed) :]
    learnt, held_out = (
        {name: values[part] for name, values in labels.items()} for part in (slice(400), slice(400, 600))
    )
    return measure_leakage(
        z[:400], z[400:], learnt, held_out, removed=removed, kept=kept, spectra_train=spectra[:400],
        spectra_test=spectra[400:], probes=("ridge", "boosting"), seeds=(0, 1),
    )  # fmt: skip


def test_every_label_has_its_bar_and_dots(tmp_path: Path) -> None:
    found, before = made(("teff",), ("fe_h", "alpha_fe")), dict(rcParams)
    figure = plot_leakage(found)
    assert dict(rcParams) == before
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["Teff", "[Fe/H]", "[alpha/Fe]"]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    expected = np.column_stack([np.nan_to_num(found.value["floor"]), found.value["ceiling"]])
    np.testing.assert_allclose(bars, expected)
    ridge = ax.containers[1].lines[0]
    np.testing.assert_allclose(ridge.get_xdata(), found.value["latents"][:, 0])
    texts = [text.get_text() for text in ax.texts]
    assert texts[0].startswith("leak ")
    assert "given kept" in texts[0]
    assert texts[1].startswith("kept 1.0") or texts[1].startswith("kept 0.9")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["floor to ceiling", "ridge", "with kept labels", "boosting"]
    save(figure, tmp_path / "plot.png")


def test_a_probe_far_below_the_mean_is_marked(tmp_path: Path) -> None:
    found = made(("teff",), ("fe_h",))
    found.value["latents"][0, 1] = -0.88
    figure = plot_leakage(found)
    (ax,) = figure.axes
    (arrow,) = (line for line in ax.lines if line.get_marker() == "<")
    (number,) = (text for text in ax.texts if text.get_text() == "-0.88")
    assert number.xy == (arrow.get_xdata()[0], arrow.get_ydata()[0])
    assert ax.get_xlim()[0] < arrow.get_xdata()[0] < 0
    boosting = ax.containers[3].lines[0]
    assert np.isnan(boosting.get_xdata()[0])  # no R2 stands where it is not
    save(figure, tmp_path / "plot.png")


@pytest.mark.parametrize(("removed", "kept"), [(("teff",), ()), ((), ("teff",))])
def test_labels_of_one_kind_alone(removed: tuple[str, ...], kept: tuple[str, ...], tmp_path: Path) -> None:
    figure = plot_leakage(made(removed, kept))
    assert len(figure.legends[0].get_texts()) == 3
    save(figure, tmp_path / "plot.png")
