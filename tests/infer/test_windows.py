"""Fits of the lines that a file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import draper
from draper.cli import main
from draper.data.io import write
from draper.data.lines import strong_lines
from draper.data.masks import ranges_of, read_windows, write_windows
from draper.errors import DraperError
from draper.models.emulator.model import Emulator
from draper.testing import made_spectra


@pytest.fixture(scope="module")
def model() -> Emulator:
    train = draper.TrainConfig(epochs=30, threads=1, matmul="highest", progress="none")
    return Emulator(hidden=(32,)).fit(made_spectra(300), train=train)


def test_windows_of_files_are_those_of_options(model: Emulator, tmp_path: Path) -> None:
    stars = made_spectra(20, seed=3)
    low, high = stars.grid.vacuum[[0, -1]]
    lines = strong_lines()
    path = write_windows(tmp_path / "lines.csv", lines, 2.0)
    windows = [pair for pair in read_windows(path) if pair[1] >= low and pair[0] <= high]
    assert windows
    whole = model.predict(stars, rv=0.0)
    named = model.predict(stars, rv=0.0, windows=windows)
    assert np.array_equal(model.predict(stars, rv=0.0, windows_files=[str(path)]).median, named.median)
    both = (named.label_flags == "measured") & (whole.label_flags == "measured")
    assert both.mean() > 0.5
    assert (named.sigma >= whole.sigma * 0.99)[both].all()
    assert not np.array_equal(named.median, whole.median)
    masked = model.predict(stars, rv=0.0, masked_files=[str(path)])
    assert np.array_equal(masked.median, model.predict(stars, rv=0.0, masked=windows).median)


def test_masked_pixels_do_not_count(model: Emulator, tmp_path: Path) -> None:
    stars = made_spectra(20, seed=3)
    bad = np.zeros(len(stars.grid), dtype=bool)
    bad[5:30] = True
    np.savez(tmp_path / "mask.npz", apogee_mask=bad)
    ivar = np.where(bad, 0, stars.ivar).astype(np.float32)
    gone = draper.Spectra(stars.grid, stars.flux, ivar, stars.table, stars.quantity)
    found = model.predict(stars, rv=0.0, masked_files=[str(tmp_path / "mask.npz")])
    assert found.median == pytest.approx(model.predict(gone, rv=0.0).median, rel=1e-4, abs=1e-3)
    assert ranges_of(stars.grid, bad)[0][0] > stars.grid.vacuum[4]


def test_lines_elsewhere_are_refused(model: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "far.csv"
    path.write_text("ll,dlam,medium\n25000,1,vacuum\n")
    with pytest.raises(DraperError, match="no line of the files"):
        model.predict(made_spectra(3), windows_files=[str(path)])


def test_command_line_takes_files(model: Emulator, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    write(made_spectra(5, seed=3), tmp_path / "stars.h5")
    (tmp_path / "lines.csv").write_text("ll\n8498\n8542\n")
    options = ["--fit.windows-files", str(tmp_path / "lines.csv"), "--fit.half-width", "20"]
    command = ["predict", str(tmp_path / "model"), str(tmp_path / "stars.h5"), "-o", str(tmp_path / "t.csv")]
    assert main([*command, *options]) == 2
    assert main([*command, *options, "--fit.mask-medium", "air"]) == 0
