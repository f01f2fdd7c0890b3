"""Maps side by side show every star, in colours that outliers do not spoil."""

from pathlib import Path

import numpy as np
import pytest

from draper.errors import DraperError
from draper.plots.latent import plot_maps
from draper.plots.style import save

N = 400


@pytest.fixture
def places() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {"spectra": random.uniform(-30, 30, (N, 2)), "latents": random.uniform(-9, 9, (N, 2))}


def test_one_row_a_label_one_column_a_map(places: dict[str, np.ndarray], tmp_path: Path) -> None:
    teff = 5000 + 20 * places["spectra"][:, 0]
    alpha = places["latents"][:, 1] / 50
    alpha[3] = 1e6
    alpha[:40] = np.nan
    figure = plot_maps(places, {"teff": teff, "alpha_fe": alpha})
    panels, bars = figure.axes[:4], figure.axes[4:]
    assert [ax.get_title() for ax in panels] == ["spectra", "latents", "", ""]
    assert [bar.get_ylabel() for bar in bars] == ["Teff [K]", "[alpha/Fe] [dex]"]
    for ax in panels:
        unknown, known = ax.collections
        assert len(unknown.get_offsets()) + len(known.get_offsets()) == N
        assert known.get_rasterized()
    np.testing.assert_allclose(panels[0].collections[1].get_clim(), np.percentile(teff, (2, 98)))
    for ax in panels[2:]:
        assert len(ax.collections[0].get_offsets()) == 40
        assert ax.collections[1].get_clim()[1] < 0.2
    save(figure, tmp_path / "maps.png")


def test_colours_stand_at_their_stars(places: dict[str, np.ndarray]) -> None:
    figure = plot_maps(places, {"fe_h": places["latents"][:, 0]})
    drawn = figure.axes[1].collections[1]
    np.testing.assert_allclose(np.asarray(drawn.get_offsets())[:, 0], drawn.get_array())


def test_scores_tell_order_from_disorder(places: dict[str, np.ndarray]) -> None:
    def scores(**options: bool) -> list[float]:
        figure = plot_maps(places, {"logg": places["spectra"][:, 0]}, **options)
        return [float(text.get_text().split()[-1]) for ax in figure.axes for text in ax.texts]

    ordered, mixed = scores()
    assert ordered > 0.9
    assert mixed < 0.1
    assert scores(score=False) == []


def test_labels_that_nobody_knows_or_that_do_not_vary(places: dict[str, np.ndarray], tmp_path: Path) -> None:
    save(plot_maps(places, {"teff": np.full(N, np.nan), "logg": np.ones(N)}), tmp_path / "maps.png")


def test_maps_of_other_stars_are_refused(places: dict[str, np.ndarray]) -> None:
    with pytest.raises(DraperError, match="map 'latents'"):
        plot_maps(places | {"latents": np.ones((3, 2))}, {"teff": np.ones(N)})
    with pytest.raises(DraperError, match="label 'logg'"):
        plot_maps(places, {"teff": np.ones(N), "logg": np.ones(3)})
    with pytest.raises(DraperError, match="nothing to draw"):
        plot_maps(places, {})
