"""Lists of lines and masks of pixels: ours, one_payne's and The Payne's."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draper import Grid
from draper.data.grid import merged
from draper.data.lines import strong_lines
from draper.data.masks import ranges_of, read_masked, read_windows, write_windows
from draper.data.units import air_to_vacuum
from draper.errors import DraperError

GRID = Grid.from_wavelength(np.linspace(15168.0, 16936.0, 400), unit="Angstrom", medium="vacuum")


def vacuum(*air: float) -> list[float]:
    return air_to_vacuum(np.array(air)).tolist()


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "lines.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---------------------------------------------------------------------- csv


def test_lines_of_one_payne(real_data: Path) -> None:
    folder = real_data / "one_payne"
    assert read_windows(folder / "c.csv", medium="air") == [
        pytest.approx(vacuum(4290, 4330)),
        pytest.approx(vacuum(5163, 5165.5)),
        pytest.approx(vacuum(5379.82, 5380.82)),
        pytest.approx(vacuum(5630, 5636)),
    ]
    hydrogen = read_windows(folder / "h_cores.csv", medium="air", half_width=0.2)
    assert len(hydrogen) == 5
    assert hydrogen[-1] == pytest.approx(vacuum(6562.496, 6562.896))
    iron = read_windows(folder / "fe_lines_hr_good.csv", medium="air")
    # 4219.7-4220.4 and 4220.0-4220.7 overlap.
    assert iron[0] == pytest.approx(vacuum(4219.7, 4220.7))


def test_every_list_of_one_payne_is_read(real_data: Path) -> None:
    paths = sorted((real_data / "one_payne").glob("*.csv"))
    assert len(paths) == 19
    for path in paths:
        found = np.array(read_windows(path, medium="air", half_width=0.5))
        assert (np.diff(found.ravel()) > 0).all(), path.name
        assert found.min() > 3800, path.name
        assert found.max() < 9000, path.name


def test_our_lists_declare_their_medium(tmp_path: Path) -> None:
    calcium = strong_lines().within(8490, 8670).of("Ca II")
    for medium in ("air", "vacuum"):
        path = write_windows(tmp_path / f"{medium}.csv", calcium, 0.5, medium=medium)
        found = np.array(read_windows(path))
        assert found.mean(axis=1) == pytest.approx(calcium.wavelength, abs=2e-4)
        assert np.diff(found) == pytest.approx(1.0, abs=1e-3)
        with pytest.raises(DraperError, match="one medium"):
            read_windows(path, medium="vacuum" if medium == "air" else "air")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("ll,dlam\n5000,1\n", {}, "air or vacuum"),
        ("ll\n5000\n", {"medium": "air"}, "width of its lines"),
        ("wave,dlam\n5000,1\n", {"medium": "air"}, "column ll"),
        ("ll,dlam\nred,1\n", {"medium": "air"}, "not a number"),
        ("ll,dlam\n5000,-1\n", {"medium": "air"}, "positive"),
        ("ll,dlam\nnan,1\n", {"medium": "air"}, "positive"),
        ("ll,dlam,medium\n5000,1,water\n", {}, "one medium"),
        ("", {"medium": "air"}, "column ll"),
        (b"\xff\xfe\x00", {"medium": "air"}, "not a CSV"),
        (b"PK\x03\x04", {"medium": "air"}, "masked_files"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, options: dict, message: str) -> None:
    with pytest.raises(DraperError, match=message):
        read_windows(written(tmp_path, text), **options)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="cannot be read"):
        read_windows(tmp_path / "none.csv", medium="air")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9))))
def test_merged_ranges_cover_the_same(pairs: list[tuple[int, int]]) -> None:
    ranges = [(float(low), float(low + width)) for low, width in pairs]
    found = merged(ranges)
    points = np.arange(0, 60, 0.5)

    def inside(some: list[tuple[float, float]]) -> np.ndarray:
        return np.array([any(a <= x <= b for a, b in some) for x in points])

    assert (inside(found) == inside(ranges)).all()
    assert all(a[1] < b[0] for a, b in pairwise(found))


# ---------------------------------------------------------------------- npz


@given(st.lists(st.booleans(), min_size=400, max_size=400))
def test_masked_pixels_are_those_that_were_true(pixels: list[bool]) -> None:
    mask = np.array(pixels)
    lam = GRID.vacuum
    found = np.zeros(len(lam), dtype=bool)
    for low, high in ranges_of(GRID, mask):
        found |= (lam >= low) & (lam <= high)
    assert (found == mask).all()


def test_mask_of_the_payne(tmp_path: Path) -> None:
    mask = np.zeros(len(GRID), dtype=bool)
    mask[[0, 10, 11, 399]] = True
    np.savez(tmp_path / "mask.npz", apogee_mask=mask)
    found = read_masked(tmp_path / "mask.npz", GRID)
    assert len(found) == 3
    assert found[1][0] < GRID.vacuum[10] < GRID.vacuum[11] < found[1][1] < GRID.vacuum[12]


@pytest.mark.parametrize(
    "arrays",
    [
        {"apogee_mask": np.ones(7, dtype=bool)},
        {"a": np.ones(400, dtype=bool), "b": np.ones(400, dtype=bool)},
        {"a": np.ones(400)},
    ],
)
def test_masks_of_other_pixels_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "mask.npz", **arrays)
    with pytest.raises(DraperError, match=r"expected: one array of bool \(400,\)"):
        read_masked(tmp_path / "mask.npz", GRID)


@pytest.mark.parametrize("content", [b"PK", b"PK\x03\x04" + bytes(50)])
def test_broken_masks_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mask.npz").write_bytes(content)
    with pytest.raises(DraperError, match="cannot be read"):
        read_masked(tmp_path / "mask.npz", GRID)
    objects = {"mask": np.array([None] * 400)}
    np.savez(tmp_path / "mask.npz", **objects)
    with pytest.raises(DraperError, match="cannot be read"):
        read_masked(tmp_path / "mask.npz", GRID)
