"""Files are whole or absent, whatever happens while they are written."""

from pathlib import Path

import pytest

from draper import atomic_write
from draper.errors import DraperError


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
