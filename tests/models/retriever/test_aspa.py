"""The picture of ExoGAN: where each number lies, and what comes out again."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import draper
from draper.models.retriever import aspa

LOST = [1, 2, 3, 4]
"""Pixels that the layout does not keep, in order of increasing wavelength."""

depths = arrays(np.float64, (2, 515), elements=st.floats(aspa.SHALLOWEST, aspa.DEEPEST))
planets = st.tuples(*(st.floats(min(0.0, high), max(0.0, high)) for high in aspa.LABELS.values()))


def spectrum() -> np.ndarray:
    """Return depths that differ in each pixel."""
    return 0.02 + 0.005 * np.sin(np.arange(515.0)) + 1e-6 * np.arange(515)


PLANET = (0.8, 1100.0, 0.9, -1.0, -5.0, -2.5, -6.0)


@settings(max_examples=50, deadline=None)
@given(depths=depths, labels=st.lists(planets, min_size=2, max_size=2))
def test_what_comes_out_is_what_went_in(depths, labels):
    pictures = aspa.encode(depths, labels)
    assert aspa.fits(depths, labels).all()
    assert pictures.min() >= 0
    assert pictures.max() <= 1 + 1e-12
    spectra, again = aspa.decode(pictures)
    np.testing.assert_allclose(again, labels, rtol=1e-13, atol=1e-300)
    assert np.isnan(spectra[:, LOST]).all()
    kept = np.delete(np.arange(515), LOST)
    np.testing.assert_allclose(spectra[:, kept], depths[:, kept], rtol=1e-12)


def test_single_precision_keeps_a_hundredth_of_a_ppm():
    picture = aspa.encode(spectrum()[None], [PLANET]).astype(np.float32)
    spectra, labels = aspa.decode(picture)
    assert np.nanmax(np.abs(spectra[0] - spectrum())) < 1e-8
    np.testing.assert_allclose(labels[0], PLANET, rtol=1e-6)


def test_where_numbers_lie():
    depth = spectrum()
    picture = aspa.encode(depth[None], [PLANET])[0]
    falling = depth[::-1]
    # The first row begins with the longest wavelengths, of which 162 are scaled together.
    first = falling[:162]
    scaled = (first - first.min()) / (first.max() - first.min())
    np.testing.assert_allclose(picture[0, :23], scaled[:23])
    np.testing.assert_allclose(picture[7, 0], scaled[161])
    np.testing.assert_allclose(picture[:12, 23], first.max() / 0.0301803471629)
    np.testing.assert_allclose(picture[12:23, 23], 0.00650370296635 / first.min())
    # The eighth section, 1.81 to 1.26 um, has its normalisers below.
    eighth = falling[334:371]
    np.testing.assert_allclose(picture[23, :12], eighth.max() / 0.0301803471629)
    np.testing.assert_allclose(picture[23, 12:23], 0.00650370296635 / eighth.min())
    assert (picture[:23, :23].ravel()[510:514] == 0).all()
    assert picture[:23, :23].ravel()[514] == depth[0]
    np.testing.assert_allclose(picture[:23, :23].ravel()[515:], depth.mean() / 0.0301803471629)
    np.testing.assert_allclose(picture[:23, -3:], np.tile([5 / 8, 6 / 8, 2.5 / 8], (23, 1)))
    np.testing.assert_allclose(picture[-3:, :23].T, np.tile([0.4, 0.6, 0.55], (23, 1)))
    np.testing.assert_allclose(picture[23:, 23:], 1 / 8)


def test_water_is_read_from_the_last_corner():
    picture = np.full((1, 33, 33), 0.5)
    picture[0, 30:, 30:] = 0.25
    assert aspa.decode(picture)[1][0, 3] == -2


@pytest.mark.parametrize(
    ("change", "held"),
    [((0, 2.1), False), ((1, 2001.0), False), ((2, 1.6), False), ((3, -8.5), False), ((4, -8.0), True)],
)
def test_planets_that_the_layout_cannot_hold(change, held):
    planet = np.array(PLANET)
    planet[change[0]] = change[1]
    assert aspa.fits(spectrum()[None], planet[None]).tolist() == [held]


@pytest.mark.parametrize(("factor", "held"), [(1.0, True), (0.3, False), (2.0, False)])
def test_depths_that_the_layout_cannot_hold(factor, held):
    assert aspa.fits(factor * spectrum()[None], [PLANET]).tolist() == [held]


def test_every_pixel_has_one_meaning():
    areas = aspa.areas()
    assert sum(mask.astype(int) for mask in areas.values()).tolist() == np.ones((33, 33)).tolist()
    named = [name for name in areas if "-" in name]
    assert named[7] == "1.26-1.81"
    assert [areas[name].sum() for name in named] == np.diff(aspa.STARTS).tolist()
    assert areas["log_h2o"].sum() == 100
    assert areas["max 8"].sum() == 12
    assert areas["min 14"].sum() == 11


def test_masks():
    areas = aspa.areas()
    hidden = ~aspa.masks()["parameters"]
    assert (hidden == sum(areas[name] for name in aspa.LABELS)).all()
    seen = aspa.masks()["wfc3"]
    wanted = ("1.26-1.81", "1.11-1.25", "max 8", "min 8", "max 9", "min 9")
    assert (seen == sum(areas[name] for name in wanted)).all()


def test_a_section_is_known_if_all_its_bins_are():
    bins = aspa.bins_of(13)
    assert bins.sum() == 74
    assert aspa.known_pixels(bins).sum() == 74 + 23
    bins[LOST] = False  # the layout does not keep them anyway
    assert aspa.known_pixels(bins).sum() == 74 + 23
    bins[10] = False
    assert aspa.known_pixels(bins).sum() == 0
    assert aspa.known_pixels(np.arange(515) == 0).sum() == 1  # the shortest wavelength is in no section


def test_the_example_of_exogan(real_data: Path):
    spectra = draper.read(real_data / "exogan" / "input_spectrum.dat", format="exogan")
    labels = [[0.8, 1111.1, 0.8778, -1, -4.889, -2.556, -5.667]]
    picture = aspa.encode(spectra.flux, labels)
    assert aspa.fits(spectra.flux, labels).all()
    again, _ = aspa.decode(picture)
    assert np.nanmax(np.abs(again - spectra.flux)) < 1e-8
