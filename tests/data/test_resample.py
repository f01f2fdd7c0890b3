"""Interpolation onto other grids, with errors, bad pixels and gaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draper.data.grid import Grid
from draper.data.resample import averaging, common_grid, interpolation, resample
from draper.data.spectra import Correlation, Spectra
from draper.errors import DraperError

RNG = np.random.default_rng(1)


def linear(start: float, stop: float, step: float = 1, **more) -> Grid:
    return Grid.linear(start, stop, step, medium="vacuum", **more)


def noisy(grid: Grid, n: int = 4) -> Spectra:
    p = len(grid)
    flux, ivar = RNG.normal(1, 0.3, (n, p)), RNG.uniform(1, 100, (n, p))
    return Spectra(
        grid, flux, ivar, table={"id": [str(k) for k in range(n)]}, meta={"source": "x"}, unit="Jy"
    )


@given(
    st.lists(st.floats(0.05, 5), min_size=2, max_size=40),
    st.lists(st.floats(0.01, 7), min_size=1, max_size=40),
    st.floats(-10, 10),
)
def test_is_linear_interpolation(steps, other, shift: float) -> None:
    source = Grid(5000 + np.cumsum(steps))
    target = Grid(5000 + shift + np.cumsum(other))
    flux = np.cos(source.vacuum)
    inside = (target.vacuum >= source.vacuum[0]) & (target.vacuum <= source.vacuum[-1])
    result = interpolation(source, target) @ flux
    wanted = np.interp(target.vacuum, source.vacuum, flux)
    np.testing.assert_allclose(result[inside], wanted[inside], atol=2e-6)
    # A pixel within a millionth beside the end takes the value of the end.
    far = (target.vacuum < source.vacuum[0] - 1e-4) | (target.vacuum > source.vacuum[-1] + 1e-4)
    assert not result[far].any()


def test_spectra_follow_numpy_and_keep_everything_else() -> None:
    spectra = noisy(linear(5000, 5100, 0.7))
    target = linear(5003, 5090, 0.31)
    new = resample(spectra, target)
    for row in range(len(spectra)):
        np.testing.assert_allclose(
            new.flux[row],
            np.interp(target.vacuum, spectra.grid.vacuum, spectra.flux[row]),
            rtol=3e-7,
            atol=1e-7,
        )
    assert new.grid.vacuum.tobytes() == target.vacuum.tobytes()
    assert (new.unit, new.ids.tolist(), dict(new.meta)) == ("Jy", spectra.ids.tolist(), {"source": "x"})
    assert (new.ivar > 0).all()


def test_variance_is_that_of_the_weighted_mean() -> None:
    spectra = Spectra(linear(5000, 5002), [[1, 2, 4]], [[4, 1, 0.25]])
    new = resample(spectra, Grid([5000.0, 5000.25, 5000.5, 5001.0, 5001.75]))
    variance = [1 / 4, 0.75**2 / 4 + 0.25**2, 0.25 / 4 + 0.25, 1, 0.25**2 + 0.75**2 * 4]
    np.testing.assert_allclose(new.ivar[0], 1 / np.array(variance), rtol=1e-6)
    np.testing.assert_allclose(new.flux[0], [1, 1.25, 1.5, 2, 3.5], rtol=1e-6)


def test_variance_agrees_with_drawn_noise() -> None:
    source, target = linear(5000, 5020), linear(5000.5, 5019, 0.37)
    sigma = RNG.uniform(0.5, 2, len(source))
    drawn = Spectra(source, RNG.normal(0, 1, (20000, len(source))) * sigma, np.tile(sigma**-2, (20000, 1)))
    new = resample(drawn, target)
    # The standard deviation of 20,000 numbers is known to half a percent.
    np.testing.assert_allclose(new.flux.std(axis=0), new.ivar[0] ** -0.5, rtol=0.03)


def test_bad_pixels_spoil_what_they_touch() -> None:
    spectra = Spectra(linear(5000, 5004), [[1, 1, 1e30, 1, 1]], [[4, 4, 0, 4, 4]])
    new = resample(spectra, linear(5000, 5004, 0.5))
    assert (new.ivar[0] > 0).tolist() == [True, True, True, False, False, False, True, True, True]
    assert np.abs(new.flux).max() <= 1
    assert new.ivar[0, [0, 1]] == pytest.approx([4, 8])


def test_pixels_outside_are_bad() -> None:
    new = resample(Spectra(linear(5000, 5004), np.ones((2, 5))), linear(4998, 5006))
    assert new.ivar[1].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert new.flux[1].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]


def test_weights_without_errors_stay_one() -> None:
    mask = [[1, 1, 0, 1, 1, 1, 1]]
    new = resample(Spectra(linear(5000, 5006), np.ones((1, 7)), mask), linear(5000, 5006, 0.5))
    assert set(new.ivar[0].tolist()) == {0, 1}


def test_gaps_are_not_bridged() -> None:
    source = linear(5000, 5020).cut([(5000, 5005), (5015, 5020)])
    spectra = Spectra(source, np.ones((1, 12)), np.full((1, 12), 4.0))
    new = resample(spectra, linear(5000, 5020))
    assert (new.ivar[0] > 0).tolist() == [True] * 6 + [False] * 9 + [True] * 6
    # Rounding of the last pixel before a gap, and the first behind it, does not put it into the gap.
    nudged = Grid([5004.0, 5005.0 + 1e-8, 5006.0, 5014.5, 5015.0 - 1e-8, 5016.0])
    assert (resample(spectra, nudged).ivar[0] > 0).tolist() == [True, True, False, False, True, True]
    part = resample(spectra.pixels(slice(0, 4)), linear(5000, 5020))
    assert (part.ivar[0] > 0).sum() == 4


def test_the_same_grid_changes_nothing() -> None:
    spectra = noisy(linear(5000, 5010, resolving_power=3000))
    same = resample(spectra, linear(5000, 5010, resolving_power=7))
    assert same.flux is spectra.flux or np.shares_memory(same.flux, spectra.flux)
    assert same.ivar.tobytes() == spectra.ivar.tobytes()
    assert same.grid.resolving_power == 3000
    subset = resample(spectra, linear(5002, 5008))
    assert subset.flux.tobytes() == spectra.flux[:, 2:9].tobytes()
    np.testing.assert_allclose(subset.ivar, spectra.ivar[:, 2:9], rtol=1e-6)
    assert subset.grid.resolving_power == 3000


def test_resolving_power_is_the_spectrum_s_own() -> None:
    source = Grid(np.arange(5000.0, 5005), resolving_power=np.arange(100.0, 105))
    new = resample(noisy(source), linear(5000, 5004, 0.5, resolving_power=9))
    np.testing.assert_allclose(new.grid.resolving_power, np.arange(100, 104.1, 0.5))
    assert (
        resample(noisy(linear(5000, 5004)), linear(5000, 5004, 0.5, resolving_power=9)).grid.resolving_power
        is None
    )


def test_many_rows_and_no_rows() -> None:
    spectra = noisy(linear(5000, 5010), 700)
    target = linear(5000, 5010, 0.5)
    whole, parts = resample(spectra, target), [resample(part, target) for part in spectra.batches(99)]
    assert whole.flux.tobytes() == Spectra.concat(parts).flux.tobytes()
    assert whole.ivar.tobytes() == Spectra.concat(parts).ivar.tobytes()
    assert resample(spectra[:0], target).flux.shape == (0, 21)


def test_tiny_and_huge_weights() -> None:
    spectra = Spectra(linear(5000, 5003), np.ones((2, 4)), [[1e-37] * 4, [1e37] * 4])
    assert np.all(resample(spectra, linear(5000, 5003, 0.5)).ivar > 0)


@pytest.mark.parametrize(
    ("spectra", "target", "words"),
    [
        (noisy(linear(5000, 5010)), linear(6000, 6010), r"do not overlap[\s\S]*5000.000[\s\S]*6000.000"),
        (noisy(linear(5000, 5010)), Grid.coefficients("ab"), "coefficients"),
        (Spectra(Grid.coefficients("ab"), np.ones((1, 2))), linear(1, 9), "coefficients cannot be resampled"),
        (Spectra(Grid([5000.0]), np.ones((1, 1))), linear(4999, 5002), "one pixel cannot"),
        (
            Spectra(linear(1, 2), np.ones((1, 2)), correlation=Correlation(np.ones((1, 2, 2)), [0])),
            linear(1, 2, 0.5),
            "correlated pixels",
        ),
    ],
)
def test_refused(spectra: Spectra, target: Grid, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        resample(spectra, target)


def test_common_grid() -> None:
    fine, coarse = linear(5000, 5100, 0.1, resolving_power=9), linear(5010.5, 5200, 2)
    common = common_grid([fine, coarse, fine])
    assert common.vacuum.tolist() == np.arange(5010.5, 5100, 2).tolist()
    assert common.resolving_power is None
    assert common_grid([fine]).matches(fine)
    cut = linear(5000, 5100).cut([(5000, 5010), (5090, 5100)])
    assert common_grid([cut, linear(5005, 5200, 0.5)]).windows == ((5000, 5010), (5090, 5100))
    assert common_grid([cut, linear(5050, 5200, 0.5)]).windows == ((5090, 5100),)


@pytest.mark.parametrize("other", [linear(6000, 6010), linear(5009.5, 5020), linear(5010, 5020)])
def test_no_common_range(other: Grid) -> None:
    with pytest.raises(DraperError, match=r"no wavelength range in common[\s\S]*5000.000-5010.000"):
        common_grid([linear(5000, 5010), other])


@pytest.mark.parametrize("step", [2.0, 7.3, 25.0])
def test_averaging_conserves_flux(step: float) -> None:
    """The equivalent width of a line much narrower than the new pixels is kept."""
    fine = Grid.linear(5000, 5100, 0.01, medium="vacuum")
    depth = np.exp(-0.5 * ((fine.vacuum - 5050.03) / 0.04) ** 2)
    spectra = Spectra(fine, (1 - 0.9 * depth)[None], np.full((1, len(fine)), 100.0**2))
    coarse = resample(spectra, Grid.linear(5000 + step, 5100 - step, step, medium="vacuum"))
    width = ((1 - coarse.flux[0]) * coarse.grid.step).sum()
    assert width == pytest.approx(0.9 * 0.04 * np.sqrt(2 * np.pi), rel=1e-3)
    # as many times the weight as pixels go into one
    assert np.median(coarse.ivar) == pytest.approx(100.0**2 * step / 0.01, rel=0.01)


def test_averaging_leaves_bad_pixels_out() -> None:
    spectra = Spectra(
        Grid.linear(5000, 5011, 1, medium="vacuum"),
        [[1.0] * 4 + [9.0] + [3.0] * 3 + [9.0] * 3 + [1.0]],
        [[1.0] * 4 + [0.0] + [4.0] * 3 + [0.0] * 3 + [1.0]],
    )
    found = resample(spectra, Grid.linear(5001.5, 5009.5, 4, medium="vacuum"))
    assert found.flux[0, :2].tolist() == [1.0, 3.0]
    assert found.ivar[0].tolist() == [4.0, 12.0, 0.0]


def test_averaging_lowers_the_resolving_power() -> None:
    fine = Grid.linear(5000, 5100, 0.1, medium="vacuum", resolving_power=50_000.0)
    spectra = Spectra(fine, np.ones((1, len(fine))))
    coarse = resample(spectra, Grid.linear(5010, 5090, 2, medium="vacuum"))
    expected = 1 / np.hypot(1 / 50_000, 2 * 2.3548 / np.sqrt(12) / coarse.grid.vacuum)
    np.testing.assert_allclose(coarse.grid.resolving_power, expected, rtol=1e-4)


def test_bins_are_averaged_over_their_own_edges() -> None:
    source = Grid.linear(1, 10, 1, unit="um", medium="vacuum")
    edges = [[1.5, 4.5], [6.5, 9.5]]
    bins = Grid.from_wavelength([3, 8], unit="um", medium="vacuum", edges=edges)
    found = resample(Spectra(source, [np.arange(1.0, 11.0)], quantity="transit depth"), bins)
    assert found.flux[0].tolist() == [3.0, 8.0]


def test_a_bin_alone_needs_a_width() -> None:
    source = Grid.linear(5000, 5010, 1, medium="vacuum")
    with pytest.raises(DraperError, match=r"single pixel has no width[\s\S]*wavelength_min"):
        averaging(source, Grid.from_wavelength([5005.0], medium="vacuum"))
    alone = Grid.from_wavelength([5005.0], edges=[[5003.5, 5006.5]], medium="vacuum")
    assert averaging(source, alone).sum() == pytest.approx(1)
    partly = Grid.linear(5000, 5010, 1, medium="vacuum").cut([(5001.5, 5002.5), (5004.5, 5007.5)])
    assert averaging(source, partly).sum(axis=1).ravel().tolist() == [[0, 1, 1, 1]]
