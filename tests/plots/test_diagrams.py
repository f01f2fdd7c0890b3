"""Diagrams of labels, and plots of relabelled spectra, show what they are given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import LogNorm

from draper import Spectra
from draper.errors import DraperError
from draper.plots.diagrams import density, plot_abundances, plot_kiel
from draper.plots.relabelled import plot_error_grid, plot_relabelled, plot_swap
from draper.plots.style import save
from draper.testing import made_spectra

N = 500

Columns = dict[str, np.ndarray]


@pytest.fixture
def truth() -> Columns:
    random = np.random.default_rng(0)
    ranges = {"teff": (4000, 7000), "logg": (0.5, 5), "fe_h": (-2, 0.5), "alpha_fe": (-0.1, 0.4)}
    return {name: random.uniform(*ends, N) for name, ends in ranges.items()}


def shifted(columns: Columns, **shifts: float) -> Columns:
    return {name: values + shifts.get(name, 0.0) for name, values in columns.items()}


def words(ax) -> str:
    return " ".join(text.get_text() for text in ax.texts)


def test_kiel_diagrams_run_backwards_and_share_axes_and_colours(truth: Columns) -> None:
    wrong = shifted(truth, teff=100, logg=-0.2, fe_h=3.0)
    figure = plot_kiel({"truth": truth, "spectra": wrong, "latents": truth})
    panels, bar = figure.axes[:3], figure.axes[3]
    assert [ax.get_title() for ax in panels] == ["truth", "spectra", "latents"]
    assert bar.get_ylabel() == "[Fe/H] [dex]"
    assert panels[0].get_ylabel() == "log g [dex]"
    for ax in panels:
        assert ax.xaxis_inverted()
        assert ax.yaxis_inverted()
        assert ax.get_xlabel() == "Teff [K]"
        assert ax.get_xlim() == panels[0].get_xlim()
        (points,) = ax.collections
        assert len(points.get_offsets()) == N
        assert points.get_rasterized()
        np.testing.assert_allclose(points.get_clim(), np.percentile(truth["fe_h"], (2, 98)))
    assert words(panels[0]).strip() == ""
    assert "mean |error| 100 K, 0.20 dex" in words(panels[1])
    assert "mean |error| 0 K, 0 dex" in words(panels[2])


def test_colours_stand_at_their_stars(truth: Columns) -> None:
    (points,) = plot_kiel({"truth": truth | {"fe_h": truth["teff"]}}).axes[0].collections
    np.testing.assert_allclose(np.asarray(points.get_offsets())[:, 0], points.get_array())


def test_abundances_are_coloured_by_density(truth: Columns) -> None:
    figure = plot_abundances({"truth": truth, "latents": shifted(truth, fe_h=0.5)})
    first, second, bar = figure.axes
    assert (first.get_xlabel(), first.get_ylabel()) == ("[Fe/H] [dex]", "[alpha/Fe] [dex]")
    assert not first.xaxis_inverted()
    assert not first.yaxis_inverted()
    assert isinstance(first.collections[0].norm, LogNorm)
    assert bar.get_ylabel() == "stars nearby"
    beyond = np.count_nonzero(truth["fe_h"] + 0.5 > first.get_xlim()[1])
    assert f"{beyond} beyond" in words(second)
    assert plot_abundances({"truth": truth}, colour="teff").axes[1].get_ylabel() == "Teff [K]"


def test_few_stars_are_on_the_axes_of_all_panels(truth: Columns, tmp_path: Path) -> None:
    one = {name: values[:1] for name, values in truth.items()}
    figure = plot_kiel({"truth": one, "estimated": shifted(one, teff=110, logg=0.1)})
    for ax in figure.axes[:2]:
        ((x, y),) = ax.collections[0].get_offsets()
        assert min(ax.get_xlim()) < x < max(ax.get_xlim())
        assert min(ax.get_ylim()) < y < max(ax.get_ylim())
    save(figure, tmp_path / "kiel.png")


def test_density_counts_stars() -> None:
    """In an even field, stars in the area of the smoothing, 4 pi cells."""
    random = np.random.default_rng(1)
    x, y = random.uniform(size=(2, 200_000))
    inner = (np.abs(x - 0.5) < 0.4) & (np.abs(y - 0.5) < 0.4)
    found = density(x, y, [(0.0, 1.0), (0.0, 1.0)])
    assert found[inner].mean() == pytest.approx(4 * np.pi * 200_000 / 90**2, rel=0.02)
    assert density(np.array([np.nan, 5.0]), np.zeros(2), [(0.0, 1.0), (0.0, 1.0)]).tolist() == [1.0, 1.0]


def test_many_panels_take_rows_and_missing_values_are_left_out(truth: Columns, tmp_path: Path) -> None:
    gappy = truth | {"teff": np.where(truth["teff"] > 6000, np.nan, truth["teff"])}
    figure = plot_kiel({f"panel {number}": gappy if number else truth for number in range(5)})
    assert len(figure.axes) == 5 + 1
    rows = {round(ax.get_subplotspec().rowspan.start) for ax in figure.axes[:5]}
    assert rows == {0, 1}
    save(figure, tmp_path / "kiel.png")
    unknown = plot_kiel({"truth": truth, "none": truth | {"teff": np.full(N, np.nan)}})
    assert "mean |error| unknown K, 0 dex" in words(unknown.axes[1])
    save(plot_abundances({"truth": truth, "few": {n: v[:9] for n, v in truth.items()}}), tmp_path / "a.pdf")


def test_errors_of_diagrams_name_what_is_missing(truth: Columns) -> None:
    del truth["logg"]
    with pytest.raises(DraperError, match="panel 'truth' has no column 'logg'"):
        plot_kiel({"truth": truth})
    with pytest.raises(DraperError, match="no panel"):
        plot_kiel({})
    with pytest.raises(DraperError, match="no values"):
        plot_abundances({"truth": {"fe_h": np.full(3, np.nan), "alpha_fe": np.zeros(3)}})


def moved(spectra: Spectra, step: float, **labels: float) -> Spectra:
    table = {**spectra.table} | {name: spectra.table[name] + change for name, change in labels.items()}
    return replace(spectra, flux=spectra.flux + np.float32(step), table=table)


def curve(ax, name: str) -> np.ndarray:
    return next(line.get_ydata() for line in ax.lines if line.get_label() == name)


def test_relabelled_spectra_stand_beside_the_original_and_the_truth(tmp_path: Path) -> None:
    original = made_spectra(5)
    figure = plot_relabelled(
        original,
        moved(original, 0.3, teff=500.0),
        2,
        reconstruction=moved(original, 0.1),
        truth=moved(original, 0.25),
    )
    top, change, error = figure.axes
    assert {line.get_label() for line in top.lines} >= {"original", "reconstruction", "relabelled", "truth"}
    np.testing.assert_allclose(curve(top, "original"), original.flux[2])
    np.testing.assert_allclose(curve(change, "relabelled"), 0.2, atol=1e-6)
    np.testing.assert_allclose(curve(change, "truth"), 0.25, atol=1e-6)
    np.testing.assert_allclose(curve(error, "reconstruction"), 0.1, atol=1e-6)
    np.testing.assert_allclose(curve(error, "relabelled"), 0.05, atol=1e-6)
    assert "reconstruction 0.10, relabelled 0.050" in error.get_title(loc="right")
    assert change.get_ylabel() == "change from\nreconstruction"
    teff = original.table["teff"][2]
    assert figure.get_suptitle() == f"star-0-2,   Teff {teff:.0f} to {teff + 500:.0f} K"
    save(figure, tmp_path / "relabelled.png")


def test_relabelled_spectra_without_more_have_two_panels_and_gaps() -> None:
    original = made_spectra(3)
    ivar = np.array(original.ivar)
    ivar[0, 10:20] = 0
    figure = plot_relabelled(replace(original, ivar=ivar), moved(original, 0.1), 0)
    top, change = figure.axes
    assert np.isnan(curve(top, "original")[10:20]).all()
    assert np.isfinite(curve(top, "relabelled")).all()
    assert np.isnan(curve(change, "relabelled")).sum() == 10
    with pytest.raises(DraperError, match="same stars"):
        plot_relabelled(original, made_spectra(2))
    with pytest.raises(DraperError, match="no such star"):
        plot_relabelled(original, original, 3)
    with pytest.raises(DraperError, match="other grids"):
        plot_relabelled(original, made_spectra(3, pixels=50))


def test_the_error_grid_has_from_across_and_to_upward(tmp_path: Path) -> None:
    old, new = np.array([4000.0, 5000, 6000]), np.array([4500.0, 5500])
    error = np.array([[0.01, 0.02], [0.03, 0.04], [0.05, np.nan]])
    ax = plot_error_grid(old, new, error)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Teff [K] of the star", "Teff [K] requested")
    assert ax.get_xlim() == (3500, 6500)
    assert ax.get_ylim() == (4000, 6000)
    (mesh,) = ax.collections
    np.testing.assert_allclose(np.ma.filled(mesh.get_array(), np.nan).reshape(2, 3), error.T)
    assert mesh.get_clim() == (0, 0.05)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written[5000.0, 4500.0] == "0.030"
    assert (6000.0, 5500.0) not in written
    wide = plot_error_grid(np.arange(20), np.arange(20), np.geomspace(1e-3, 1, 400).reshape(20, 20), name="x")
    assert isinstance(wide.collections[0].norm, LogNorm)
    assert not wide.texts
    save(plot_error_grid([1.0], [1.0], [[np.nan]]), tmp_path / "grid.png")
    with pytest.raises(DraperError, match="one row for each"):
        plot_error_grid(new, old, error)
    with pytest.raises(DraperError, match="increase"):
        plot_error_grid(old[::-1], new, error)


def test_changes_read_back_are_held_against_those_asked_for(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    asked = {"teff": random.uniform(-1000, 1000, N), "logg": random.uniform(0, 2, N), "vmic": np.ones(N)}
    asked["teff"][0] = np.nan
    figure = plot_swap(asked, {"teff": asked["teff"], "logg": 0.8 * asked["logg"]})
    assert [ax.get_title() for ax in figure.axes] == ["Teff [K]", "log g [dex]"]
    teff, logg = figure.axes
    assert "slope 1.000" in words(teff)
    assert "100 % within 10 %" in words(teff)
    assert len(teff.collections[1].get_offsets()) == N - 1
    assert "slope 0.800\n0 % within 10 %" in words(logg)
    assert "100 % within 25 %" in words(plot_swap(asked, {"logg": 0.8 * asked["logg"]}, band=0.25).axes[0])
    median = next(line for line in logg.lines if line.get_label() == "median").get_xydata()
    np.testing.assert_allclose(median[:, 1], 0.8 * median[:, 0])
    few = plot_swap({"teff": np.arange(1.0, 4)}, {"teff": np.arange(1.0, 4)}).axes[0]
    assert "median" not in few.get_legend_handles_labels()[1]  # it would hide the stars
    save(plot_swap({"teff": np.zeros(3)}, {"teff": np.ones(3)}), tmp_path / "swap.png")
    with pytest.raises(DraperError, match="was measured"):
        plot_swap(asked, {"fe_h": np.ones(N)})
    with pytest.raises(DraperError, match="differ in number"):
        plot_swap(asked, {"teff": np.ones(3)})
