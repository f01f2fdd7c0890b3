"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from draper import atomic_write
from draper.errors import DraperError, OutputError
from draper.owner import UNKNOWN, Owner


def test_the_file_appears_only_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with atomic_write.replacing(path) as part:
        part.write_text("new")
        assert not path.exists()
        assert part.suffix == ".csv"
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no")])
def test_a_failed_block_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = atomic_write.write(tmp_path / "x.csv", "old")
    with pytest.raises(type(error)), atomic_write.replacing(path) as part:
        part.write_text("half")
        raise error
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == "old"


def test_what_the_system_refuses_is_one_clear_error(tmp_path: Path) -> None:
    full = pytest.raises(DraperError, match=r"cannot be written[\s\S]*x\.csv: the disk is full")
    with full, atomic_write.replacing(tmp_path / "x.csv"):
        raise OSError("the disk is full")
    with pytest.raises(DraperError, match="the folder does not exist"):
        atomic_write.write(tmp_path / "nowhere" / "x.csv", "")
    with pytest.raises(DraperError, match="a folder has this name"):
        atomic_write.write(tmp_path, b"")
    assert not list(tmp_path.iterdir())


def test_an_output_is_tried_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    atomic_write.require_output(path)
    path.write_text("old")
    with pytest.raises(OutputError, match=r"exists already[\s\S]*overwrite=True"):
        atomic_write.require_output(path)
    atomic_write.require_output(path, overwrite=True)
    with pytest.raises(OutputError, match=r"too little room[\s\S]*MB are free[\s\S]*1,000,000,000,000.0 MB"):
        atomic_write.require_output(path, overwrite=True, size=10**18)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match=r"x\.csv: No space left"):
        atomic_write.require_output(path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == "old"


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_only_what_ended_processes_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = Owner.here()
    stale, elsewhere = replace(here, process=gone.pid), replace(here, host="elsewhere")
    lives = replace(here, process=os.getppid(), began=UNKNOWN)
    kept = [f".x.h5@{owner}.part.h5" for owner in (elsewhere, lives)]
    kept += [f".y.h5@{stale}.part.h5", ".x.h5.99.part.h5"]
    for name in (*kept, f".x.h5@{stale}.part.h5", f".x.h5@{stale}.part.h5.flux"):
        (tmp_path / name).write_text("half")
    (tmp_path / f".x.h5@{stale}.part").mkdir()
    (tmp_path / f".x.h5@{stale}.part" / "part-000000.parquet").write_text("half")
    atomic_write.require_output(tmp_path / "x.h5")
    assert {file.name for file in tmp_path.iterdir()} == set(kept)
