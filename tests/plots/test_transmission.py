"""The plot of a transmission spectrum shows the data, the model and what absorbs where, in one unit."""

from pathlib import Path

import numpy as np
import pytest

from draper import Grid, Spectra
from draper.errors import DraperError
from draper.plots.style import save
from draper.plots.transmission import plot_transmission

EDGES = np.concatenate([np.geomspace(1.1, 1.6, 13), np.geomspace(3, 5, 9)])
EDGES = np.stack([EDGES[:-1], EDGES[1:]], axis=1)
EDGES = EDGES[EDGES[:, 1] / EDGES[:, 0] < 1.2]
P = len(EDGES)
RNG = np.random.default_rng(0)


def made(level: float = 0.005, *, edges: bool = True) -> tuple[Spectra, np.ndarray]:
    """Return a spectrum with a bad bin and an outlier, and spectra of a posterior."""
    centre = EDGES.mean(axis=1)
    grid = Grid.from_wavelength(centre, unit="um", medium="vacuum", edges=EDGES if edges else None)
    grid = grid.cut([(1.1e4, 1.6e4), (3e4, 5e4)])
    model = level + 2e-4 * np.sin(5 * centre)
    flux = model + 3e-5 * RNG.standard_normal(P)
    flux[7] = model[7] + 30e-5
    ivar = np.full(P, 3e-5**-2)
    ivar[3] = 0
    spectra = Spectra(grid, flux[None], ivar[None], quantity="transit depth")
    return spectra, model + 2e-5 * RNG.standard_normal((100, 1))


def test_data_model_and_residuals(tmp_path: Path) -> None:
    spectrum, predicted = made()
    figure = plot_transmission(spectrum, predicted, title="a planet")
    upper, lower = figure.axes
    assert (upper.get_title(), upper.get_ylabel()) == ("a planet", "transit depth [ppm]")
    assert lower.get_xlabel() == "vacuum wavelength [um]"
    assert lower.get_xscale() == "log"
    (points, _, bars), (pulls, _, _) = upper.containers[0], lower.containers[0]
    good = spectrum.ivar[0] > 0
    np.testing.assert_allclose(points.get_xdata(), EDGES.mean(axis=1))
    np.testing.assert_allclose(points.get_ydata()[good], 1e6 * spectrum.flux[0][good], rtol=1e-6)
    assert np.isnan(points.get_ydata()[3])
    horizontal = np.array([segment[:, 0] for segment in bars[0].get_segments() if len(segment)])
    np.testing.assert_allclose(horizontal, EDGES[good], rtol=1e-9)
    assert pulls.get_ydata()[7] == pytest.approx(10, abs=1)
    assert lower.get_ylim()[1] > 10
    assert "in 19 bins" in lower.get_title(loc="right")
    medians = [line for line in upper.lines if line.get_label() == "median"]
    np.testing.assert_allclose(medians[0].get_ydata(), 1e6 * np.median(predicted, axis=0)[:12])
    assert len(upper.collections) >= 4  # two bands in each of two ranges: the gap is not bridged
    save(figure, tmp_path / "spectrum.png")


def test_the_unit_follows_the_depth(tmp_path: Path) -> None:
    deep = plot_transmission(*made(0.02, edges=False))
    assert deep.axes[0].get_ylabel() == "transit depth [%]"
    assert 1.9 < deep.axes[0].get_ylim()[0] < deep.axes[0].get_ylim()[1] < 2.1
    assert plot_transmission(*made(0.02), unit="ppm").axes[0].get_ylabel() == "transit depth [ppm]"
    save(deep, tmp_path / "spectrum.png")


def test_contributions_are_filled_from_what_they_share(tmp_path: Path) -> None:
    spectrum, predicted = made()
    water, cloud = np.full(P, 0.0049), np.full(P, 0.0048)
    water[11:] = 0.0047
    figure = plot_transmission(spectrum, predicted, {"cloud deck": cloud, "H2O": water})
    upper = figure.axes[0]
    texts = [text.get_text() for text in upper.get_legend().get_texts()]
    assert texts == ["data", "median", "68 %", "95 %", "H2O", "cloud deck"]
    areas = {area.get_label(): area.get_paths()[0].vertices[:, 1] for area in upper.collections}
    assert (areas["H2O"].min(), areas["H2O"].max()) == pytest.approx((4700, 4900))
    assert (areas["cloud deck"].min(), areas["cloud deck"].max()) == pytest.approx((4700, 4800))
    save(figure, tmp_path / "spectrum.png")


def test_one_bin_and_many(tmp_path: Path) -> None:
    centre = np.array([2.0])
    grid = Grid.from_wavelength(centre, unit="um", medium="vacuum", edges=[[1.9, 2.2]])
    one = Spectra(grid, [[0.005]], [[1e9]], quantity="transit depth")
    figure = plot_transmission(one, np.array([[0.0049], [0.0051]]))
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 0]
    assert (band.min(), band.max()) == pytest.approx((1.9, 2.2))
    assert "in 1 bin" in figure.axes[1].get_title(loc="right")
    save(figure, tmp_path / "one.png")
    grid = Grid.from_wavelength(np.geomspace(1, 5, 3000), unit="um", medium="vacuum")
    name = {"id": ["WASP-39b-NIRSpec-PRISM-" * 5]}
    many = Spectra(grid, np.full((1, 3000), 0.005), np.full((1, 3000), 1e9), name, "transit depth")
    upper = plot_transmission(many, np.full((2, 3000), 0.005)).axes[0]
    data = upper.containers[0].lines[0]
    assert data.get_zorder() < next(line for line in upper.lines if line.get_label() == "median").get_zorder()
    assert len(upper.get_title()) <= 40


def test_what_does_not_fit_is_refused() -> None:
    spectrum, predicted = made()
    with pytest.raises(DraperError, match=r"'predicted' are not those[\s\S]*\(draws, 20\)"):
        plot_transmission(spectrum, predicted[:, 1:])
    with pytest.raises(DraperError, match=r"'H2O' are not those"):
        plot_transmission(spectrum, predicted, {"H2O": np.ones(3)})
    with pytest.raises(DraperError, match="one spectrum"):
        plot_transmission(Spectra.concat([spectrum, spectrum]), predicted)
