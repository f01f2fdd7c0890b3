"""The spectral axis: how it is made, cut, compared, stored and refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draper.data import units
from draper.data.grid import Grid
from draper.errors import DraperError

NAN = float("nan")


def linear(start: float = 5000, stop: float = 5010, step: float = 1, **more) -> Grid:
    return Grid.linear(start, stop, step, medium="vacuum", **more)


# ---------------------------------------------------------------- making one


@pytest.mark.parametrize(
    ("start", "stop", "step", "count"),
    [
        (846, 870, 0.03, 801),  # (870 - 846) / 0.03 is 799.9999999999991
        (0.1, 0.3, 0.1, 3),  # 0.19999999999999998 / 0.1
        (3500, 9500, 0.1, 60001),
        (5000, 5010, 3, 4),
        (5000, 5010, 10.001, 1),
        (5000, 5010, 10, 2),
        (1, 2, 1 / 3, 4),
    ],
)
def test_linear_counts_at_rounding_edges(start: float, stop: float, step: float, count: int) -> None:
    grid = linear(start, stop, step)
    assert len(grid) == count
    np.testing.assert_allclose(grid.vacuum, start + step * np.arange(count), rtol=1e-14)


@given(
    st.integers(1, 3000), st.sampled_from([0.01, 0.03, 0.1, 0.2, 1 / 3, 0.7, 1e-3]), st.integers(1000, 9000)
)
def test_linear_holds_its_end(steps: int, step: float, start: float) -> None:
    grid = linear(start, start + steps * step, step)
    assert len(grid) == steps + 1
    assert grid.vacuum[-1] == pytest.approx(start + steps * step, rel=1e-12)


@pytest.mark.parametrize(("start", "stop", "step", "count"), [(3600, 10400, 1e-4, 4608), (10, 1000, 1, 3)])
def test_log(start: float, stop: float, step: float, count: int) -> None:
    grid = Grid.log(start, stop, step, medium="vacuum")
    assert len(grid) == count
    np.testing.assert_allclose(np.diff(np.log10(grid.vacuum)), step, rtol=1e-6)
    assert grid.vacuum[-1] <= stop * (1 + 1e-9) < grid.vacuum[-1] * 10**step


def test_apogee_grid() -> None:
    grid = Grid.log(10**4.179, 10**4.179 * 10 ** (6e-6 * 8574), 6e-6, medium="vacuum")
    assert len(grid) == 8575
    assert grid.vacuum[[0, -1]] == pytest.approx([15100.80, 16999.81], abs=0.01)


@pytest.mark.parametrize("unit", units.ANGSTROM)
@pytest.mark.parametrize("medium", units.MEDIA)
def test_from_wavelength_in_all_units_and_media(unit: str, medium: str) -> None:
    angstrom = np.array([4000.0, 5000.0, 8500.0])
    there = units.vacuum_to_air(angstrom) if medium == "air" else angstrom
    grid = Grid.from_wavelength(there / units.ANGSTROM[unit], unit=unit, medium=medium)
    np.testing.assert_allclose(grid.vacuum, angstrom, rtol=1e-12)
    np.testing.assert_allclose(grid.to(unit, medium), there / units.ANGSTROM[unit], rtol=1e-12)
    np.testing.assert_allclose(grid.air, units.vacuum_to_air(angstrom), rtol=1e-12)


@pytest.mark.parametrize("make", [Grid.linear, Grid.log])
def test_pixels_made_in_air(make) -> None:
    grid = make(500, 510, 0.001, unit="nm", medium="air")
    assert grid.vacuum[0] == pytest.approx(5001.394, abs=1e-3)
    assert grid.air[0] == pytest.approx(5000, abs=1e-9)


def test_edges_in_air_and_nanometres() -> None:
    centres = np.array([500.0, 501.0])
    edges = np.stack([centres - 0.5, centres + 0.5], axis=1)
    grid = Grid.from_wavelength(centres, unit="nm", medium="air", edges=edges)
    np.testing.assert_allclose(grid.edges, units.air_to_vacuum(10 * edges), rtol=1e-13)
    np.testing.assert_allclose(grid.step, 10.00266, rtol=1e-6)
    assert grid.edges[0, 1] == grid.edges[1, 0]


def test_resolving_power_is_a_number_or_one_for_each_pixel() -> None:
    assert linear(resolving_power=5000).resolving_power == 5000.0
    grid = Grid.from_wavelength([1.0, 2.0, 3.0], medium="vacuum", resolving_power=[10, 20, 30])
    assert grid[1:].resolving_power.tolist() == [20, 30]
    assert linear(resolving_power=7)[2:].resolving_power == 7.0
    assert repr(grid) == "Grid(3 px, 1.000-3.000 A vacuum, R=20)"


REFUSED = {
    "nothing": ({}, "either wavelengths or named"),
    "both": ({"wavelength": [1.0], "names": ("a",)}, "either wavelengths or named"),
    "empty": ({"wavelength": []}, "one row"),
    "two rows": ({"wavelength": [[1.0, 2.0]]}, "one row"),
    "a number": ({"wavelength": 5.0}, "one row"),
    "unsorted": ({"wavelength": [1.0, 3.0, 2.0]}, r"increase strictly[\s\S]*3 is followed by 2 \(pixel 2\)"),
    "decreasing": ({"wavelength": [3.0, 2.0, 1.0]}, "increase strictly"),
    "repeated": ({"wavelength": [1.0, 2.0, 2.0]}, "drop repeated"),
    "nan": ({"wavelength": [1.0, NAN, 3.0]}, "finite and positive"),
    "infinite": ({"wavelength": [1.0, np.inf]}, "finite and positive"),
    "negative": ({"wavelength": [-1.0, 2.0]}, "finite and positive"),
    "zero": ({"wavelength": [0.0, 2.0]}, "finite and positive"),
    "text": ({"wavelength": ["a", "b"]}, "consist of numbers"),
    "edges of one side": ({"edges": [1.0, 2.0, 3.0]}, "bin edges"),
    "too few edges": ({"edges": [[0.5, 1.5], [1.5, 2.5]]}, "bin edges"),
    "edges reversed": ({"edges": [[0.5, 1.5], [1.5, 2.5], [3.5, 2.5]]}, "bin edges"),
    "edges equal": ({"edges": [[0.5, 1.5], [2.0, 2.0], [2.5, 3.5]]}, "bin edges"),
    "edges nan": ({"edges": [[NAN, 1.5], [1.5, 2.5], [2.5, 3.5]]}, "bin edges"),
    "edges infinite": ({"edges": [[0.5, 1.5], [1.5, 2.5], [2.5, np.inf]]}, "bin edges"),
    "edges beside the centre": ({"edges": [[0.5, 1.5], [1.5, 2.5], [3.5, 4.5]]}, "bin edges"),
    "power zero": ({"resolving_power": 0.0}, "resolving power"),
    "power nan": ({"resolving_power": NAN}, "resolving power"),
    "power infinite": ({"resolving_power": np.inf}, "resolving power"),
    "power short": ({"resolving_power": [1.0, 2.0]}, "resolving power"),
    "windows overlap": ({"windows": ((1, 2.5), (2, 3))}, "windows must be ranges"),
    "windows unsorted": ({"windows": ((2.5, 3), (1, 2))}, "windows must be ranges"),
    "windows reversed": ({"windows": ((3, 1),)}, "windows must be ranges"),
    "windows leave out": ({"windows": ((1, 2),)}, "windows must be ranges"),
    "windows infinite": ({"windows": ((0, np.inf),)}, "windows must be ranges"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    options, words = REFUSED[case]
    known = (
        options if {"wavelength", "names"} & set(options) or not options else {"wavelength": [1.0, 2.0, 3.0]}
    )
    with pytest.raises(DraperError, match=words):
        Grid(**{**known, **options})


@pytest.mark.parametrize(
    ("start", "stop", "step"),
    [(5000, 5010, 0), (5010, 5000, 1), (5000, 5000, 1), (5000, 5010, -1), (NAN, 5010, 1), (5000, np.inf, 1),
     (5000, 5010, NAN), (5000, 5010, 1e-300), (5010, 5000, -1)],
)  # fmt: skip
def test_empty_or_endless(start: float, stop: float, step: float) -> None:
    for make in (Grid.linear, Grid.log):
        with pytest.raises(DraperError, match="no pixels, or too many"):
            make(start, stop, step, medium="vacuum")


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (-5, 10), (5, -10)])
def test_logarithms_need_positive_ends(start: float, stop: float) -> None:
    with pytest.raises(DraperError, match="no pixels, or too many"):
        Grid.log(start, stop, 0.1, medium="vacuum")


@pytest.mark.parametrize("values", [["x"], [None, "y"], "5000"])
def test_from_wavelength_takes_numbers(values: object) -> None:
    with pytest.raises(DraperError):
        Grid.from_wavelength(values, medium="air")


def test_medium_is_required_and_checked() -> None:
    with pytest.raises(TypeError, match="medium"):
        Grid.from_wavelength([1.0, 2.0])
    with pytest.raises(DraperError, match="unknown medium"):
        Grid.from_wavelength([1.0, 2.0], medium="water")
    with pytest.raises(DraperError, match="unknown medium"):
        linear().to(medium="water")
    with pytest.raises(DraperError, match="did you mean 'nm'"):
        linear().to("nmm")


# ------------------------------------------------------------------- pixels


def test_arrays_are_read_only_copies() -> None:
    values = np.array([1.0, 2.0])
    edges = np.array([[0.5, 1.5], [1.5, 2.5]])
    grid = Grid(values, edges=edges, resolving_power=np.array([1.0, 2.0]))
    for array in (grid.wavelength, grid.edges, grid.resolving_power, grid[1:].wavelength):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    values[0], edges[0, 0] = 0.7, 0.1
    assert grid.vacuum[0] == 1.0
    assert grid.edges[0, 0] == 0.5
    with pytest.raises(AttributeError):
        grid.wavelength = values


@pytest.mark.parametrize(
    "pixels",
    [slice(2, 5), slice(None), slice(0, 11, 3), np.arange(11) % 2 == 0, [1, 4, 9], np.array([-3, -1])],
    ids=str,
)
def test_pixels_by_slice_mask_and_index(pixels) -> None:
    edges = np.stack([np.arange(11) + 4999.5, np.arange(11) + 5000.5], axis=1)
    grid = Grid(np.arange(5000.0, 5011), edges=edges, resolving_power=np.arange(1.0, 12))
    some = grid[pixels]
    wanted = np.arange(11)[pixels]
    assert some.vacuum.tolist() == (wanted + 5000.0).tolist()
    assert some.edges.tolist() == edges[wanted].tolist()
    assert some.resolving_power.tolist() == (wanted + 1.0).tolist()


@pytest.mark.parametrize(
    "pixels", [slice(0, 0), slice(None, None, -1), [3, 1], [2, 2], 4, np.zeros(11, dtype=bool)]
)
def test_pixels_that_make_no_grid(pixels) -> None:
    with pytest.raises(DraperError):
        linear()[pixels]


def test_cut_remembers_its_pieces() -> None:
    grid = linear().cut([(5008, 5020), (5000, 5002.5)])
    assert grid.vacuum.tolist() == [5000, 5001, 5002, 5008, 5009, 5010]
    assert grid.windows == ((5000, 5002.5), (5008, 5010))
    assert grid.segments() == [slice(0, 3), slice(3, 6)]
    assert "2 windows" in repr(grid)
    assert grid.step.tolist() == [1] * 6


def test_cut_twice_keeps_the_gap() -> None:
    grid = linear().cut([(5000, 5002), (5006, 5010)]).cut([(5001, 5008)])
    assert grid.windows == ((5001, 5002), (5006, 5008))
    assert grid.segments() == [slice(0, 2), slice(2, 5)]


def test_windows_without_pixels_are_forgotten() -> None:
    grid = linear().cut([(5000, 5002), (5002.2, 5002.8), (5006, 5010)])
    assert grid.windows == ((5000, 5002), (5006, 5010))
    assert grid[:2].segments() == [slice(0, 2)]
    assert grid[4:].segments() == [slice(0, 4)]
    assert linear().cut([(0, np.inf)]).windows == ((5000, 5010),)


def test_windows_that_touch_or_overlap_are_merged() -> None:
    for windows in ([(5000, 5005), (5003, 5009)], [(5000, 5005), (5005, 5009)], [(5000, 5009), (5003, 5004)]):
        assert linear().cut(windows).segments() == [slice(0, 10)]


@given(st.lists(st.tuples(st.floats(4990, 5020), st.floats(0, 8)), min_size=1, max_size=5))
def test_segments_divide_the_pixels(windows) -> None:
    windows = [(low, low + width) for low, width in windows]
    grid = linear(4980, 5030, 0.7)
    if not grid.inside(windows).any():
        with pytest.raises(DraperError, match="no pixel"):
            grid.cut(windows)
        return
    cut = grid.cut(windows)
    assert cut.vacuum.tolist() == grid.vacuum[grid.inside(windows)].tolist()
    held = np.concatenate([np.arange(len(cut))[piece] for piece in cut.segments()])
    assert held.tolist() == list(range(len(cut)))
    assert Grid.from_json(json.loads(json.dumps(cut.to_json(), allow_nan=False))).windows == cut.windows


@pytest.mark.parametrize("windows", [[], [(1, 2)], [(5005, 5002)], [(NAN, 5002)]])
def test_cut_to_nothing(windows) -> None:
    with pytest.raises(DraperError, match="window"):
        linear().cut(windows)
    assert not linear().inside(windows).any()


INSTRUMENTS = np.concatenate([np.linspace(8000, 10000, 11), np.linspace(20000, 25000, 26)])


@pytest.mark.parametrize(
    ("grid", "widths"),
    [
        (Grid.from_wavelength(INSTRUMENTS, medium="vacuum"), 200.0),
        (Grid.from_wavelength(np.delete(np.arange(5000.0, 5020), [3, 9, 10]), medium="vacuum"), 1.0),
    ],
)
def test_pixels_do_not_reach_into_gaps(grid: Grid, widths: float) -> None:
    np.testing.assert_allclose(grid.step, widths)
    np.testing.assert_allclose(grid.bounds, grid.vacuum[:, None] + np.array([-0.5, 0.5]) * widths)


@pytest.mark.parametrize(
    "grid",
    [
        linear(),
        Grid.log(3600, 10400, 1e-4, medium="vacuum"),
        Grid.linear(846, 870, 0.03, unit="nm", medium="air"),
        Grid.log(3000, 100_000, 0.2, medium="vacuum"),
        Grid.from_wavelength(np.cumsum([5000, 1, 1, 1, 1.5, 2, 2, 2]), medium="vacuum"),
        Grid.from_wavelength([5000, 5001], medium="vacuum"),
    ],
    ids=repr,
)
def test_pixels_side_by_side_reach_half_the_way(grid: Grid) -> None:
    centre = grid.vacuum
    middle = (centre[1:] + centre[:-1]) / 2
    assert grid.bounds[1:, 0].tolist() == grid.bounds[:-1, 1].tolist() == middle.tolist()
    assert grid.bounds[[0, -1], [0, 1]].tolist() == (2 * centre[[0, -1]] - middle[[0, -1]]).tolist()
    assert grid.step.tolist() == np.gradient(centre).tolist()


def test_overlapping_orders_leave_no_holes() -> None:
    centre = np.sort(np.concatenate([np.arange(5000, 5010, 1.0), np.arange(5000.1, 5010, 1.0)]))
    bounds = Grid.from_wavelength(centre, medium="vacuum").bounds
    assert bounds[3:-2, 0].tolist() == bounds[2:-3, 1].tolist()


def test_step_of_one_pixel_is_unknown() -> None:
    assert np.isnan(Grid([5000.0]).step).all()
    assert Grid([5000.0], edges=[[4999.0, 5002.0]]).step.tolist() == [3.0]
    assert np.isnan(linear().cut([(5000, 5000), (5005, 5010)]).step).tolist() == [True] + [False] * 6


# -------------------------------------------------------------- comparisons


@pytest.mark.parametrize(
    ("shift", "same"), [(0, True), (0.9e-4, True), (1.1e-4, False), (-0.9e-4, True), (-1.1e-4, False)]
)
def test_matches_to_a_thousandth_of_a_pixel(shift: float, same: bool) -> None:
    grid = linear(5000, 5010, 0.1)
    moved = Grid(grid.vacuum + shift)
    assert grid.matches(moved) is same
    assert moved.matches(grid) is same


def test_a_gap_does_not_loosen_the_comparison() -> None:
    grid = Grid([5000.0, 5000.1, 6000.0, 6000.1])
    assert not grid.matches(Grid([5000.0, 5000.11, 6000.0, 6000.1]))
    assert not grid.matches(Grid([5000.0, 5000.1, 6000.01, 6000.1]))


def test_matches_needs_the_same_kind_and_length() -> None:
    assert not linear().matches(linear()[:-1])
    assert not linear().matches(Grid.coefficients("abc"))
    assert Grid.coefficients("abc").matches(Grid.coefficients("abc"))
    assert not Grid.coefficients("abc").matches(Grid.coefficients("abd"))
    assert Grid([5000.0]).matches(Grid([5000.0001]))
    assert not Grid([5000.0]).matches(Grid([5000.1]))


def test_require_shows_both_sides() -> None:
    with pytest.raises(DraperError, match=r"^other[\s\S]*6 px[\s\S]*11 px[\s\S]*do this$"):
        linear().require(linear(5000, 5005), "other", "do this")
    linear().require(linear(), "never", "raised")


def test_fingerprint() -> None:
    assert linear().fingerprint == linear(resolving_power=7).fingerprint
    assert linear().fingerprint != linear(5000, 5011).fingerprint
    assert Grid.coefficients("ab").fingerprint != Grid.coefficients("ac").fingerprint


# --------------------------------------------------------------------- JSON


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20),
    st.booleans(),
    st.none() | st.floats(1, 1e6) | st.just("array"),
)
def test_json_is_exact(steps: list[float], has_edges: bool, power) -> None:
    wavelength = 1000 + np.cumsum(steps)
    edges = np.stack([wavelength - 1e-4, wavelength + 2e-4], axis=1) if has_edges else None
    grid = Grid(wavelength, edges=edges, resolving_power=wavelength / 3 if power == "array" else power)
    back = Grid.from_json(json.loads(json.dumps(grid.to_json(), allow_nan=False)))
    assert back.wavelength.tobytes() == grid.wavelength.tobytes()
    assert (back.edges is None) == (edges is None)
    assert edges is None or back.edges.tobytes() == edges.tobytes()
    assert np.array_equal(back.resolving_power, grid.resolving_power)
    assert type(back.resolving_power) is type(grid.resolving_power)
    assert back.fingerprint == grid.fingerprint


def test_coefficients() -> None:
    grid = Grid.coefficients(["a", "b", "c"])
    assert (len(grid), grid.is_spectral, grid.extent) == (3, False, "a ... c")
    assert Grid.from_json(grid.to_json()).names == grid.names
    assert grid[[2, 0]].names == ("c", "a")
    assert repr(grid) == "Grid(3 coefficients, a ... c)"
    for ask in (lambda: grid.vacuum, lambda: grid.air, lambda: grid.cut([(1, 2)]), lambda: grid.to("nm")):
        with pytest.raises(DraperError, match="coefficients have no wavelengths"):
            ask()
    with pytest.raises(DraperError, match="same name"):
        Grid.coefficients(["a", "a"])
    with pytest.raises(DraperError, match="either"):
        Grid.coefficients([])
