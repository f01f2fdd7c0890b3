"""The picture of ExoGAN with its areas."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from draper.errors import DraperError
from draper.models.retriever import aspa
from draper.plots.aspa import plot_aspa


def drawn_on(figure: Figure, **options: object) -> tuple[np.ndarray, object]:
    picture = aspa.encode(np.linspace(0.01, 0.02, 515)[None], [[1, 1000, 1, -3, -4, -5, -6]])[0]
    return picture, plot_aspa(picture, aspa.areas(), figure.subplots(), **options)


def test_the_numbers_are_drawn_with_the_names_of_their_areas():
    picture, ax = drawn_on(Figure())
    np.testing.assert_array_equal(ax.images[0].get_array(), picture)
    assert ax.images[0].get_clim() == (0, 1)
    names = {text.get_text(): text.get_position() for text in ax.texts}
    assert set(names) == set(aspa.areas())
    for name, (column, row) in names.items():
        assert aspa.areas()[name][round(row), round(column)]
    # The corner of water is a square, the column of a gas a strip.
    outlines = dict(zip(aspa.areas(), ax.collections, strict=True))
    assert len(outlines["log_h2o"].get_segments()) == 4 * 10
    assert len(outlines["log_co"].get_segments()) == 2 * (23 + 1)
    ends = np.concatenate(outlines["log_h2o"].get_segments())
    assert (ends.min(0).tolist(), ends.max(0).tolist()) == ([22.5, 22.5], [32.5, 32.5])


def test_filled_pixels_get_a_cross():
    known = aspa.masks()["wfc3"]
    _, ax = drawn_on(Figure(), known=known)
    columns, rows = ax.collections[-1].get_offsets().T
    assert (~known).sum() == len(rows)
    assert not known[rows.astype(int), columns.astype(int)].any()


def test_pictures_are_drawn_one_at_a_time():
    with pytest.raises(DraperError, match="differ in shape"):
        plot_aspa(np.zeros((2, 33, 33)), aspa.areas())
