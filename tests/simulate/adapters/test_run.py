import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from made_code import Absent, Made

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
    made = compute(Made(), labels, tmp_path / "made.h5", workers=1)
    expected = [
        1 - 0.5 * np.sin(np.arange(5) * teff) + fe_h for teff, fe_h in zip(TEFF, labels["M_H"], strict=True)
    ]
    np.testing.assert_array_equal(made.spectra.flux, np.float32(expected))
    assert list(made.spectra.table) == ["teff", "fe_h", "name", "id"]
    assert made.spectra.table["name"].tolist() == list("abcdef")
    assert made.spectra.table["id"][3] == "row-0000003"
    assert made.spectra.quantity == "normalised flux"
    assert made.spectra.meta["settings"] == {"depth": 0.5}
    assert (made.kept, made.computed, made.failures) == (0, 6, ())
    assert files(tmp_path) == ["made.h5"]
    np.testing.assert_array_equal(draper.read(tmp_path / "made.h5").flux, made.spectra.flux)


def test_many_processes_equal_one_and_a_crash_costs_its_row_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MADE_WITHOUT_TORCH", "1")
    labels = {"teff": [10.0, 11.0, 2.0, 13.0, 1.0, 15.0]}
    notes: list[Row] = []
    made = compute(Made(), labels, tmp_path / "made.h5", workers=2, note=notes.append)
    monkeypatch.delenv("MADE_WITHOUT_TORCH")
    alone = compute(Made(), {"teff": [10.0, 11.0, 13.0, 15.0]}, workers=1)
    np.testing.assert_array_equal(made.spectra.flux, alone.spectra.flux)
    assert made.spectra.table["teff"].tolist() == [10, 11, 13, 15]
    assert [(row.number, row.reason.split(" (")[0]) for row in made.failures] == [
        (2, "the process died"),
        (4, "RuntimeError: no convergence"),
    ]
    assert sorted(note.number for note in notes) == list(range(6))
    # Nor does a crash end the run where only its row is left.
    again = compute(Made(), labels, tmp_path / "made.h5", workers=2)
    assert (again.kept, again.computed, len(again.failures)) == (4, 0, 2)
    assert [note.done for note in notes] == [1, 2, 3, 4, 5, 6]


def test_failures_are_listed_and_tried_again(tmp_path: Path) -> None:
    out = tmp_path / "made.h5"
    labels = {"teff": [10.0, 1.0, 3.0, 4.0, np.nan]}
    made = compute(Made(), labels, out, workers=1)
    assert len(made.spectra) == 1
    with (tmp_path / "made.h5.failures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["error"] for row in rows] == [
        "RuntimeError: no convergence",
        "5 pixels are not finite",
        "the spectrum has shape (3,) and not (5,)",
        "no value for teff",
    ]
    again = compute(Made(), {"teff": [10.0, 20.0, 30.0, 40.0, 50.0]}, out, workers=1)
    assert (again.kept, again.computed, again.failures) == (1, 4, ())
    assert files(tmp_path) == ["made.h5"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_goes_on_where_it_was_interrupted(tmp_path: Path, number: int) -> None:
    out = tmp_path / "made.h5"

    def interrupt(row: Row) -> None:
        if row.done == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(InterruptedRun, match=r"2 of 6 spectra are finished and kept in .*made.h5.rows"):
        compute(Made(), {"teff": TEFF}, out, workers=1, note=interrupt)
    assert not out.exists()
    (tmp_path / "made.h5.rows" / ".00000003-x.npy.99.part").write_text("of a process that was killed")
    notes: list[Row] = []
    made = compute(Made(), {"teff": TEFF}, out, workers=1, note=notes.append)
    assert states(notes) == ["kept", "kept", *["computed"] * 4]
    assert [note.done for note in notes] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(made.spectra.flux, compute(Made(), {"teff": TEFF}, workers=1).spectra.flux)
    assert files(tmp_path) == ["made.h5"]


def test_changed_settings_and_labels_are_not_reused(tmp_path: Path) -> None:
    out = tmp_path / "made.h5"
    compute(Made(), {"teff": [10.0, 11.0, 1.0]}, out, workers=1)
    changed = compute(Made(depth=0.25), {"teff": [10.0, 11.0, 1.0]}, out, workers=1)
    assert (changed.kept, changed.computed) == (0, 2)
    other = compute(Made(depth=0.25), {"teff": [10.0, 11.5, 1.0]}, out, workers=1)
    assert (other.kept, other.computed) == (1, 1)
    np.testing.assert_array_equal(
        other.spectra.flux, compute(Made(0.25), {"teff": [10.0, 11.5]}, workers=1).spectra.flux
    )


def test_a_changed_file_is_another_setting(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("1")
    before = Made(file).identity  # type: ignore[arg-type]
    assert Made(file).identity == before  # type: ignore[arg-type]
    file.write_text("12")
    assert Made(file).identity != before  # type: ignore[arg-type]
    assert Made(np.zeros(2)).identity != Made(np.ones(2)).identity  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "out", "message"),
    [
        ({"teff": [1.0]}, None, "none of the 1 rows could be computed"),
        ({"logg": [1.0]}, None, "the data have no column 'teff'"),
        ({"teff": [10.0, 11.0], "fe_h": [0.0]}, None, "the columns differ in length"),
        ({"teff": []}, None, "there is nothing to compute"),
        ({"teff": [10.0]}, "made.fits", "draper convert"),
        ({"teff": [10.0]}, "nowhere/made.h5", "the folder does not exist"),
    ],
)
def test_errors(tmp_path: Path, labels, out, message: str) -> None:
    with pytest.raises(DraperError, match=message):
        compute(Made(), labels, None if out is None else tmp_path / out, workers=1)


def test_no_process_computes_nothing() -> None:
    with pytest.raises(DraperError, match="must be at least 1"):
        compute(Made(), {"teff": [10.0]}, workers=0)


def test_missing_package() -> None:
    with pytest.raises(DraperError, match=r"pip install 'draper\[that\]'"):
        compute(Absent(), {"teff": [10.0]})
