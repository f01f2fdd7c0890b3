"""Plots of one spectrum, of a few and of many."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from draper import Spectra
from draper.plots.spectrum import plot_spectra
from draper.plots.style import COLORS, save
from draper.testing import made_spectra


def names(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_normalised_spectra_do_not_overlap_and_stand_in_the_order_of_the_legend(tmp_path: Path) -> None:
    ax = plot_spectra(made_spectra(3))
    for below, above in zip(ax.lines[:-1], ax.lines[1:], strict=True):
        assert (above.get_ydata() >= below.get_ydata().max()).all()
    assert ax.get_ylabel() == "normalised flux + offset"
    assert names(ax) == ["star-0-2", "star-0-1", "star-0-0"]
    assert [to_rgb(line.get_color()) for line in ax.lines] == [to_rgb(color) for color in COLORS[:3]]
    save(ax, tmp_path / "three.png")
    assert ax.get_legend().get_window_extent().x0 >= ax.bbox.x1  # beside the curves, not on them


def test_other_spectra_have_no_offset() -> None:
    stars = made_spectra(3)
    ax = plot_spectra(Spectra(stars.grid, stars.flux, quantity="flux", unit="Jy"))
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), stars.flux[2])
    assert ax.get_ylabel() == "flux [Jy]"


@pytest.mark.parametrize("n", [9, 3000])
def test_many_spectra_are_a_distribution(n: int, tmp_path: Path) -> None:
    stars = made_spectra(n)
    ivar = np.array(stars.ivar)
    ivar[:, 7], ivar[0, 9] = 0, 0
    ax = plot_spectra(Spectra(stars.grid, stars.flux, ivar, stars.table, stars.quantity))
    assert len(ax.lines) == 1
    median = ax.lines[0].get_ydata()
    assert np.flatnonzero(np.isnan(median)).tolist() == [7]
    assert median[9] == pytest.approx(np.median(stars.flux[1:, 9]))
    assert names(ax) == [f"95 % of {n:,}", f"68 % of {n:,}", "median"]
    save(ax, tmp_path / "many.png")


def test_spectra_without_an_id_are_named_by_the_labels_that_differ() -> None:
    stars = made_spectra(2)
    labels = {"teff": [5000.0, 6000.0], "logg": [4.0, 4.0]}
    two = Spectra(stars.grid, stars.flux, table=labels, quantity="flux")
    assert names(plot_spectra(two)) == ["Teff 5000", "Teff 6000"]
    assert names(plot_spectra(two[:1])) == ["Teff 5000,\nlog g 4"]
    assert names(plot_spectra(Spectra(stars.grid, stars.flux, quantity="flux"))) == [
        "spectrum 1",
        "spectrum 2",
    ]
