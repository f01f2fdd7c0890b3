"""Two runs never share a folder, and what a killed run leaves stops nobody."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import draper
from draper import TrainConfig
from draper.errors import DraperError
from draper.models.lock import LOCK, is_empty, locked
from draper.models.search import sweep as sweeps
from draper.owner import UNKNOWN, Owner
from draper.testing import LinearAutoencoder, made_spectra

SHORT = TrainConfig(steps=4, batch_size=32, threads=1, matmul="highest", progress="none")


def leave_lock(folder: Path, owner: Owner) -> None:
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(json.dumps({**asdict(owner), "since": "2026-01-02T03:04:05+00:00"}))


@pytest.fixture(scope="module")
def gone() -> Owner:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return replace(Owner.here(), process=process.pid)


def living() -> Owner:
    return replace(Owner.here(), process=os.getppid(), began=UNKNOWN)


def fit(folder: Path, **options) -> LinearAutoencoder:
    return LinearAutoencoder(latent=2).fit(made_spectra(50), train=SHORT, out=folder, **options)


def test_a_folder_is_held_and_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder):
        assert is_empty(folder)
        with (
            pytest.raises(DraperError, match=f"another run writes[\\s\\S]*process {os.getpid()} on "),
            locked(folder),
        ):
            pass
    assert not folder.exists()
    with pytest.raises(ValueError, match="its own"), locked(folder):
        (folder / "file").write_text("")
        raise ValueError("its own")
    assert [file.name for file in folder.iterdir()] == ["file"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_is_refused(tmp_path: Path, resume: bool) -> None:
    folder = tmp_path / "run"
    leave_lock(folder, living())
    with pytest.raises(DraperError, match=r"another run writes[\s\S]*since 2026-01-02T03:04:05"):
        fit(folder, resume=resume)
    assert [file.name for file in folder.iterdir()] == [LOCK]
    with pytest.raises(DraperError, match="another run writes"):
        sweeps.sweep("linear", made_spectra(50), folder, train=SHORT)


@pytest.mark.parametrize("resume", [False, True])
def test_the_lock_of_a_killed_run_is_taken_over(tmp_path: Path, gone: Owner, resume: bool) -> None:
    folder = tmp_path / "run"
    leave_lock(folder, gone)
    (folder / f".model.json@{gone}.part.json").write_text("half")
    fit(folder, resume=resume)
    assert draper.load(folder).training["steps"] == 4
    assert not [file for file in folder.iterdir() if file.name == LOCK or ".part" in file.name]


@pytest.mark.parametrize("content", ["", "{}", "elsewhere"])
def test_what_is_not_known_is_left_and_explained(tmp_path: Path, gone: Owner, content: str) -> None:
    folder = tmp_path / "run"
    leave_lock(folder, replace(gone, host="elsewhere"))
    if content != "elsewhere":
        (folder / LOCK).write_text(content)
    with pytest.raises(DraperError, match=f"if it has ended, on another machine say, remove {folder / LOCK}"):
        fit(folder)
    assert (folder / LOCK).exists()
