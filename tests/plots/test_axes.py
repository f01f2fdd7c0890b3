"""Curves of spectra leave gaps open."""

import numpy as np
from matplotlib.figure import Figure

from draper import Grid
from draper.plots.axes import broken, draw_band, draw_curve, limit_to


def test_gaps_are_found_where_the_grid_does_not_mark_them() -> None:
    chips = np.concatenate([np.linspace(15150, 15800, 300), np.linspace(15880, 16430, 300)])
    axis, values = broken(Grid.from_wavelength(chips, medium="vacuum"), np.ones(600))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [300])
    np.testing.assert_array_equal(np.delete(axis, 300), chips)
    marked = Grid.from_wavelength(chips, medium="vacuum").cut([(15150, 15800), (15880, 16430)])
    np.testing.assert_array_equal(broken(marked, np.ones(600))[1], values)


def test_other_steps_are_no_gaps() -> None:
    """Two pixels, logarithmic steps, a change of resolution, orders that overlap."""
    for wave in (
        [4000, 5000],
        np.geomspace(1000, 100_000, 30),
        [*range(4000, 4020), *range(4020, 4220, 20)],
        np.sort(np.concatenate([np.arange(4000, 4020), np.arange(4000.1, 4020)])),
    ):
        assert np.isfinite(broken(Grid.from_wavelength(wave, medium="vacuum"))[0]).all()
    assert broken(Grid.coefficients("abc"), [1, 2, 3])[1].tolist() == [1, 2, 3]


def test_pixels_alone_are_dots() -> None:
    ax = Figure().subplots()
    grid = Grid.from_wavelength(np.arange(4000, 4008), medium="vacuum")
    draw_curve(ax, grid, [1, 1, np.nan, 1, np.nan, 1, 1, 1])
    assert ax.lines[0].get_markevery().tolist() == [3]
    draw_curve(ax, grid, np.ones(8))
    assert ax.lines[1].get_marker() == "None"
    draw_band(ax, grid, np.ones(8))
    assert ax.collections[0].get_paths()[0].vertices[:, 1].min() == 0
    before = ax.get_xlim()
    limit_to(ax, grid[:1])
    assert ax.get_xlim() == before
    limit_to(ax, grid)
    assert ax.get_xlim() == (4000, 4007)
