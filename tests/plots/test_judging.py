"""Plots that judge a model show what they are given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.collections import PathCollection

from draper import Estimates, Grid, Label, LabelSet, Spectra
from draper.data.lines import Lines, strong_lines
from draper.errors import DraperError
from draper.plots.overlay import plot_overlay, quality_of_fit, title_of_estimates
from draper.plots.pixels import plot_over_labels, plot_pixel_errors, plot_spectrum_errors
from draper.plots.recovery import plot_recovery
from draper.plots.style import free_figure, save
from draper.results.metrics import residuals
from draper.testing import made_spectra

N = 60


@pytest.fixture
def estimates() -> Estimates:
    truth = made_spectra(N).table
    names = ("teff", "logg", "fe_h")
    sigma = np.tile([50.0, 0.1, 0.05], (N, 1))
    values = np.stack([truth[name] for name in names], axis=1) + sigma
    labels = LabelSet(
        [Label("teff", low=4000, high=7000), Label("logg", low=0, high=5), Label("fe_h", low=-2)]
    )
    return Estimates(labels, values, sigma, truth["id"], {"outside": np.arange(N) < 7})


def texts(ax) -> str:
    return " ".join(text.get_text() for text in ax.texts)


@pytest.mark.parametrize("colour", [None, "fe_h"])
def test_recovery_shows_every_star_and_its_figures(estimates: Estimates, colour: str | None) -> None:
    figure = plot_recovery(estimates, made_spectra(N).table, colour=colour)
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["Teff [K]", "log g [dex]", "[Fe/H] [dex]"]
    assert len(figure.axes) == 6 + (colour is not None)
    for ax, bias in zip(panels, ("bias +50", "bias +0.10", "bias +0.050"), strict=True):
        assert bias in texts(ax)
        points = [c for c in ax.collections if isinstance(c, PathCollection)]
        assert sorted(len(c.get_offsets()) for c in points) == [7, N - 7]
        assert "flagged (7)" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_flagged_stars_do_not_hide_the_others(estimates: Estimates) -> None:
    upper, lower = plot_recovery(estimates, made_spectra(N).table, ["teff"]).axes
    for ax in (upper, lower):
        flagged, good = (c for c in ax.collections if isinstance(c, PathCollection))
        assert (len(flagged.get_offsets()), len(good.get_offsets())) == (7, N - 7)
        assert flagged.get_zorder() <= good.get_zorder()
    assert lower.get_xlabel() == "true Teff [K]"


def test_one_star_lies_inside_its_axes(estimates: Estimates, tmp_path: Path) -> None:
    table = {name: values[:1] for name, values in made_spectra(N).table.items()}
    figure = plot_recovery(estimates.rows([0]), table)
    for ax in figure.axes:
        ((x, y),) = next(c for c in ax.collections if isinstance(c, PathCollection)).get_offsets()
        assert ax.get_xlim()[0] < x < ax.get_xlim()[1]
        assert ax.get_ylim()[0] < y < ax.get_ylim()[1]
    assert texts(figure.axes[0]) == "bias +50"  # one star has no scatter
    save(figure, tmp_path / "plot.png")


def test_recovery_of_some_labels_and_of_none(estimates: Estimates, tmp_path: Path) -> None:
    table = made_spectra(N).table
    figure = plot_recovery(estimates, table, ["logg", "teff"], columns=1)
    assert len(figure.axes) == 4
    unknown = {**table, "logg": np.full(N, np.nan)}
    save(plot_recovery(estimates, unknown), tmp_path / "plot.png")  # draws without a warning
    with pytest.raises(DraperError, match="no label"):
        plot_recovery(estimates, {"id": table["id"]})


def test_outliers_do_not_set_the_scale(estimates: Estimates) -> None:
    values = np.array(estimates.median)
    values[3, 0] += 1e6
    figure = plot_recovery(
        Estimates(estimates.labels, values, estimates.sigma, estimates.ids), made_spectra(N).table
    )
    upper, lower = figure.axes[0], figure.axes[3]
    assert upper.get_ylim()[1] < 10_000
    assert lower.get_ylim()[1] < 1_000
    assert "1 at the edge" in texts(upper)


def test_pixel_errors_against_wavelength() -> None:
    observed = made_spectra(N)
    flux = np.array(observed.flux)
    flux[:, 40] += 0.5
    found = residuals(observed, Spectra(observed.grid, flux, quantity=observed.quantity))
    top, middle, _bottom = plot_pixel_errors(found).axes
    np.testing.assert_allclose(top.lines[0].get_xdata(), observed.grid.vacuum)
    drawn = middle.lines[0].get_ydata()
    assert np.argmax(drawn) == 40
    assert drawn.max() == pytest.approx(0.5, rel=1e-3)
    assert middle.get_ylim()[1] > 0.5
    ax = plot_spectrum_errors(found)
    assert sum(patch.get_height() for patch in ax.patches) == N
    assert len(ax.lines) == 2


def test_errors_over_labels_lack_only_what_the_table_lacks() -> None:
    table = made_spectra(N).table
    figure = plot_over_labels(np.linspace(0.01, 0.1, N), table)
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes[:-1]]
    teff, logg, fe_h = "Teff [K]", "log g [dex]", "[Fe/H] [dex]"
    assert labels == [(teff, logg), (teff, fe_h), (logg, fe_h)]
    kiel = figure.axes[0]
    assert kiel.xaxis_inverted()
    assert kiel.yaxis_inverted()


def test_one_error_has_a_colour_bar_with_a_range() -> None:
    table = {name: values[:1] for name, values in made_spectra(N).table.items()}
    low, high = plot_over_labels(np.array([0.02]), table).axes[0].collections[0].get_clim()
    assert (low, high) == pytest.approx((0.01, 0.04))


@pytest.mark.parametrize("values", [np.full(N, np.nan), np.zeros(N)])
def test_no_error_is_no_reason_to_fail(values: np.ndarray, tmp_path: Path) -> None:
    save(plot_over_labels(values, made_spectra(N).table), tmp_path / "plot.png")
    same = residuals(made_spectra(3), made_spectra(3))
    save(plot_spectrum_errors(same), tmp_path / "plot.png")
    save(plot_pixel_errors(same), tmp_path / "plot.png")


def dipped(depth: float = 0.5) -> Spectra:
    """Return a spectrum with one line of calcium at rest."""
    grid = Grid.linear(8480, 8580, 0.1, medium="vacuum")
    flux = 1 - depth * np.exp(-0.5 * ((grid.vacuum - 8544.435) / 0.3) ** 2)
    return Spectra(grid, flux[None], np.full((1, len(grid)), 1e4), {"id": ["star"]}, "normalised flux")


def names(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_lines_are_named_where_the_model_has_them() -> None:
    assert names(plot_overlay(dipped(), dipped())) == ["Ca II"]
    assert names(plot_overlay(dipped(0.0), dipped(0.0))) == []
    shifted = dipped().grid.vacuum * (1 + 50 / 299792.458)
    grid = Grid.from_wavelength(shifted, medium="vacuum")
    moved = Spectra(grid, dipped().flux, dipped().ivar, {"id": ["star"]}, "normalised flux")
    assert names(plot_overlay(moved, moved, rv=50.0)) == ["Ca II"]
    assert names(
        plot_overlay(dipped(), dipped(), lines=Lines(np.array(["X"]), np.array([8544.4]), np.ones(1)))
    ) == ["X"]


def test_a_narrow_dip_is_no_hydrogen() -> None:
    hydrogen = Lines(np.array(["H I"]), np.array([8544.435]), np.ones(1))
    assert names(plot_overlay(dipped(), dipped(), lines=hydrogen)) == []
    wide = dipped().grid
    flux = 1 - 0.3 * np.exp(-0.5 * ((wide.vacuum - 8544.435) / 2) ** 2)
    broad = Spectra(wide, flux[None], quantity="normalised flux")
    assert names(plot_overlay(broad, broad, lines=hydrogen)) == ["H I"]


def test_overlay_shows_residuals_over_errors_and_leaves_gaps() -> None:
    observed = dipped()
    ivar = np.array(observed.ivar)
    ivar[0, 100:110] = 0
    gappy = Spectra(observed.grid, observed.flux, ivar, observed.table, observed.quantity)
    model = Spectra(observed.grid, observed.flux + 0.02, quantity="normalised flux")
    figure = plot_overlay(gappy, model, title="star")
    upper, lower = figure.axes
    assert np.isnan(upper.lines[0].get_ydata()[100:110]).all()
    assert np.isfinite(upper.lines[1].get_ydata()).all()
    drawn = lower.lines[0].get_ydata()
    np.testing.assert_allclose(drawn[np.isfinite(drawn)], 2.0, rtol=1e-3)
    assert np.isnan(drawn).sum() == 10
    assert "chi2 per pixel 4" in figure.get_suptitle()
    assert len(plot_overlay(model, model, figure=free_figure()).axes) == 2


def test_overlay_leaves_gaps_between_chips_open() -> None:
    """Also where the grid does not say that there is one."""
    grid = Grid.from_wavelength(
        np.concatenate([np.arange(8480, 8500), np.arange(8520, 8540)]), medium="vacuum"
    )
    star = Spectra(grid, np.ones((1, 40)), np.ones((1, 40)), quantity="normalised flux")
    for ax in plot_overlay(star, star).axes:
        for line in ax.lines[:2] if len(ax.lines) > 2 else ax.lines[:1]:
            np.testing.assert_array_equal(np.flatnonzero(np.isnan(line.get_ydata())), [20])


def test_one_pixel_is_a_dot(tmp_path: Path) -> None:
    one = Spectra(dipped().grid[:1], np.ones((1, 1)), np.ones((1, 1)), quantity="normalised flux")
    figure = plot_overlay(one, one)
    assert figure.axes[0].lines[0].get_marker() == "."
    save(figure, tmp_path / "plot.png")  # draws without a warning


def test_overlay_says_what_the_table_says_of_the_fit(estimates: Estimates) -> None:
    columns = {"reduced_chi2": np.full(N, 1.004), "jitter": np.full(N, 0.01)}
    fit = quality_of_fit(replace(estimates, columns=columns), 3)
    assert quality_of_fit(estimates, 3) is None
    observed = dipped()
    model = Spectra(observed.grid, observed.flux + 0.02, quantity="normalised flux")
    figure = plot_overlay(observed, model, title="star", fit=fit)
    assert figure.get_suptitle() == "star   reduced chi2 1.004 with jitter 0.010"
    drawn = figure.axes[1].lines[0].get_ydata()  # errors of 0.01, and as much jitter
    np.testing.assert_allclose(drawn, 2 / np.sqrt(2), rtol=1e-3)


def test_long_titles_stay_on_the_figure(estimates: Estimates, tmp_path: Path) -> None:
    ids = np.array(["apogee-spectro-redux-dr17-stars-apo25m-" * 3 + f"{n}" for n in range(N)])
    flags = {f"a_flag_with_a_long_name_{n}": np.full(N, True) for n in range(8)}
    title = title_of_estimates(replace(estimates, ids=ids, flags=flags), 5)
    figure = plot_overlay(dipped(), dipped(), title=title)
    save(figure, tmp_path / "plot.png")
    extent = figure._suptitle.get_window_extent()
    assert extent.x0 > 0
    assert extent.x1 < figure.bbox.width
    assert "apogee-spectro-redux" in title
    assert title.split()[0].endswith("-5")


def test_titles_say_what_was_found(estimates: Estimates) -> None:
    table = made_spectra(N).table
    teff, logg, fe_h = (
        table[name][0] + error for name, error in (("teff", 50), ("logg", 0.1), ("fe_h", 0.05))
    )
    assert title_of_estimates(estimates, 0) == (
        f"star-0-0   Teff {teff:.0f} +- 50,  log g {logg:.2f} +- 0.10,  [Fe/H] {fe_h:.3f} +- 0.050\n"
        "flagged: outside"
    )
    assert "flagged" not in title_of_estimates(estimates, 8)


def test_long_spectra_take_several_rows(tmp_path: Path) -> None:
    grid = Grid.linear(15000, 17000, 0.3, medium="vacuum")
    long = Spectra(grid, np.ones((1, len(grid))), quantity="normalised flux")
    assert len(plot_overlay(long, long).axes) == 6
    bad = Spectra(grid, np.zeros((1, len(grid))), np.zeros((1, len(grid))), quantity="normalised flux")
    save(plot_overlay(bad, long), tmp_path / "plot.png")
    with pytest.raises(DraperError, match="one spectrum"):
        plot_overlay(made_spectra(2), made_spectra(2))


def test_lines_are_where_they_are() -> None:
    """Vacuum wavelengths of NIST."""
    table = strong_lines()
    assert (np.diff(table.wavelength) >= 0).all()
    for species, wavelength in (("H I", 6564.61), ("Ca II", 8544.44), ("Mg I", 5185.05), ("Na I", 5891.58),
                                ("Mg I", 15753.29), ("Ca II", 3934.78)):  # fmt: skip
        near = table.within(wavelength - 0.05, wavelength + 0.05)
        assert species in near.species, (species, wavelength)


def test_plots_leave_settings_alone(estimates: Estimates) -> None:
    before = dict(rcParams)
    plot_recovery(estimates, made_spectra(N).table)
    plot_overlay(dipped(), dipped())
    assert dict(rcParams) == before
