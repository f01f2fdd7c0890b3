import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from mock_code import Absent, MockCode

import draper
from draper.errors import DraperError
from draper.simulate.adapters.run import InterruptedRun, Row, compute

TEFF = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]


def states(notes: list[Row]) -> list[str]:
    return [note.state for note in notes]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_values_and_table(tmp_path: Path) -> None:
    labels = {"Teff": TEFF, "M_H": np.arange(6) / 10, "name": list("abcdef")}
    result = compute(MockCode(), labels, tmp_path / "out.h5", workers=1)
    expected = [
        1 - 0.5 * np.sin(np.arange(5) * teff) + fe_h for teff, fe_h in zip(TEFF, labels["M_H"], strict=True)
    ]
    np.testing.assert_array_equal(result.spectra.flux, np.float32(expected))
    assert list(result.spectra.table) == ["teff", "fe_h", "name", "id", "depth"]
    assert result.spectra.table["name"].tolist() == list("abcdef")
    assert result.spectra.table["depth"].tolist() == [0.5] * 6
    assert result.spectra.table["id"][3] == "row-0000003"
    assert result.spectra.quantity == "normalised flux"
    assert result.spectra.meta["settings"] == {"depth": 0.5}
    assert (result.kept, result.computed, result.failures) == (0, 6, ())
    assert files(tmp_path) == ["out.h5"]
    np.testing.assert_array_equal(draper.read(tmp_path / "out.h5").flux, result.spectra.flux)


def test_many_processes_equal_one_and_a_crash_loses_only_its_row(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MOCK_WITHOUT_TORCH", "1")
    labels = {"teff": [10.0, 11.0, 2.0, 13.0, 1.0, 15.0]}
    notes: list[Row] = []
    result = compute(MockCode(), labels, tmp_path / "out.h5", workers=2, note=notes.append)
    monkeypatch.delenv("MOCK_WITHOUT_TORCH")
    alone = compute(MockCode(), {"teff": [10.0, 11.0, 13.0, 15.0]}, workers=1)
    np.testing.assert_array_equal(result.spectra.flux, alone.spectra.flux)
    assert result.spectra.table["teff"].tolist() == [10, 11, 13, 15]
    assert [(row.number, row.reason.split(" (")[0]) for row in result.failures] == [
        (2, "the process died"),
        (4, "RuntimeError: no convergence"),
    ]
    assert sorted(note.number for note in notes) == list(range(6))
    # Nor does a crash end the run where only its row is left.
    again = compute(MockCode(), labels, tmp_path / "out.h5", workers=2)
    assert (again.kept, again.computed, len(again.failures)) == (4, 0, 2)
    assert [note.done for note in notes] == [1, 2, 3, 4, 5, 6]


def test_failures_are_listed_and_tried_again(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    labels = {"teff": [10.0, 1.0, 3.0, 4.0, np.nan]}
    result = compute(MockCode(), labels, out, workers=1)
    assert len(result.spectra) == 1
    with (tmp_path / "out.h5.failures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["error"] for row in rows] == [
        "RuntimeError: no convergence",
        "5 pixels are not finite",
        "the spectrum has shape (3,) and not (5,)",
        "no value for teff",
    ]
    again = compute(MockCode(), {"teff": [10.0, 20.0, 30.0, 40.0, 50.0]}, out, workers=1)
    assert (again.kept, again.computed, again.failures) == (1, 4, ())
    assert files(tmp_path) == ["out.h5"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_goes_on_where_it_was_interrupted(tmp_path: Path, number: int) -> None:
    out = tmp_path / "out.h5"

    def interrupt(row: Row) -> None:
        if row.done == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(InterruptedRun, match=r"2 of 6 spectra are finished and kept in .*out.h5.rows"):
        compute(MockCode(), {"teff": TEFF}, out, workers=1, note=interrupt)
    assert not out.exists()
    (tmp_path / "out.h5.rows" / ".00000003-x.npy.99.part").write_text("of a process that was killed")
    notes: list[Row] = []
    result = compute(MockCode(), {"teff": TEFF}, out, workers=1, note=notes.append)
    assert states(notes) == ["kept", "kept", *["computed"] * 4]
    assert [note.done for note in notes] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(
        result.spectra.flux, compute(MockCode(), {"teff": TEFF}, workers=1).spectra.flux
    )
    assert files(tmp_path) == ["out.h5"]


def test_changed_settings_and_labels_are_not_reused(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    compute(MockCode(), {"teff": [10.0, 11.0, 1.0]}, out, workers=1)
    changed = compute(MockCode(depth=0.25), {"teff": [10.0, 11.0, 1.0]}, out, workers=1)
    assert (changed.kept, changed.computed) == (0, 2)
    other = compute(MockCode(depth=0.25), {"teff": [10.0, 11.5, 1.0]}, out, workers=1)
    assert (other.kept, other.computed) == (1, 1)
    np.testing.assert_array_equal(
        other.spectra.flux, compute(MockCode(0.25), {"teff": [10.0, 11.5]}, workers=1).spectra.flux
    )


def test_a_changed_file_is_another_setting(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("1")
    before = MockCode(file).identity  # type: ignore[arg-type]
    assert MockCode(file).identity == before  # type: ignore[arg-type]
    file.write_text("12")
    assert MockCode(file).identity != before  # type: ignore[arg-type]
    assert MockCode(np.zeros(2)).identity != MockCode(np.ones(2)).identity  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "out", "message"),
    [
        ({"teff": [1.0]}, None, "none of the 1 rows could be computed"),
        ({"logg": [1.0]}, None, "the data have no column 'teff'"),
        ({"teff": [10.0, 11.0], "fe_h": [0.0]}, None, "the columns differ in length"),
        ({"teff": []}, None, "there is nothing to compute"),
        ({"teff": [10.0]}, "out.fits", "draper convert"),
        ({"teff": [10.0]}, "nowhere/out.h5", "the folder does not exist"),
    ],
)
def test_errors(tmp_path: Path, labels, out, message: str) -> None:
    with pytest.raises(DraperError, match=message):
        compute(MockCode(), labels, None if out is None else tmp_path / out, workers=1)


def test_no_process_computes_nothing() -> None:
    with pytest.raises(DraperError, match="must be at least 1"):
        compute(MockCode(), {"teff": [10.0]}, workers=0)


def test_missing_package() -> None:
    with pytest.raises(DraperError, match=r"pip install 'draper\[that\]'"):
        compute(Absent(), {"teff": [10.0]})
