"""Ctrl-C and SIGTERM at any moment, full disks, files that exist: one message, and nothing half written."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from draper import Spectra
from draper.cli import main
from draper.cli.output import results
from draper.data import io
from draper.data.io import write
from draper.errors import OutputError
from draper.results.estimates import Estimates
from draper.testing import QUICK, LinearAutoencoder, made_spectra
from draper.train.signals import CAUGHT

IMPORTS = """
import os, signal, sys, time, weakref
from contextlib import suppress
from draper.cli import main

def send(*_):
    os.kill(os.getpid(), signal.{name})

class Finder:
    # Sends a signal when a module is imported.
    def find_spec(self, name, path=None, target=None):
        if name == "cyclopts":
            held = Finder()
            {how}
            time.sleep(20)

sys.meta_path.insert(0, Finder())
sys.exit(main(["formats"]))
"""

LOST = ("with suppress(BaseException): send()", "reference = weakref.ref(held, send); del held")
"""A library swallows the interruption, or it arrives in a callback, which cannot raise."""


@pytest.mark.parametrize("number", CAUGHT)
@pytest.mark.parametrize("how", ["send()", *LOST])
def test_a_signal_while_modules_are_imported_is_one_line(number: signal.Signals, how: str) -> None:
    script = IMPORTS.format(name=number.name, how=how)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + number, f"interrupted by {number.name}\n")


@pytest.mark.parametrize("number", CAUGHT)
def test_a_repeated_signal_does_not_disturb_the_cleaning_up(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def stream(*_: object) -> Iterator[Spectra]:
        try:
            yield made_spectra(5)
            os.kill(os.getpid(), number)
            yield made_spectra(5)
        finally:
            time.sleep(0.1)  # the signal comes several times
            (tmp_path / "cleaned").touch()

    monkeypatch.setattr("draper.cli.REPEAT_AFTER", 0.01)
    monkeypatch.setattr(io, "stream", stream)
    assert main(["convert", "spectra", "-o", str(tmp_path / "x.h5")]) == 128 + number
    assert capsys.readouterr().err == f"interrupted by {number.name}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["cleaned"]


@pytest.mark.parametrize("number", CAUGHT)
@pytest.mark.parametrize("name", ["x.h5", "x.fits", "x"])
def test_a_signal_leaves_nothing_half_written(
    tmp_path: Path, number: signal.Signals, name: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def stream(*_: object) -> Iterator[Spectra]:
        yield made_spectra(5)
        os.kill(os.getpid(), number)
        yield made_spectra(5)

    handlers = [signal.getsignal(one) for one in CAUGHT]
    monkeypatch.setattr(io, "stream", stream)
    assert main(["convert", "spectra", "-o", str(tmp_path / name)]) == 128 + number
    assert capsys.readouterr().err == f"interrupted by {number.name}\n"
    assert not list(tmp_path.iterdir())
    assert [signal.getsignal(one) for one in CAUGHT] == handlers


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: No space left on device"),
        (
            MemoryError("Unable to allocate 7.00 TiB"),
            "too little memory\n  given:    Unable to allocate 7.00 TiB",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes"), "too little memory"),
    ],
)
def test_what_the_system_refuses_is_no_error_of_draper(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def read(*_: object, **__: object) -> Spectra:
        raise error

    monkeypatch.setattr(io, "read", read)
    assert main(["info", "x.h5"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "hint:" in said
    assert "please report" not in said
    assert main(["info", "x.h5", "--debug"]) == 2
    assert type(error).__name__ in capsys.readouterr().err


# --------------------------------------------------------------- results that are not lost


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    LinearAutoencoder(latent=3, labels=["teff"]).fit(made_spectra(80), train=QUICK, out=folder / "model")
    write(made_spectra(5), folder / "test.h5")
    return folder


def test_a_file_that_exists_is_replaced_on_request_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    data, model = str(folder / "test.h5"), str(folder / "model")
    monkeypatch.chdir(tmp_path)
    for command in (
        ["samples", "sed-grid", "-o", "a.h5"],
        ["convert", data, "-o", "b.h5"],
        ["simulate", "stars", "-n", "2", "-o", "c.h5"],
        ["predict", model, data, "-o", "d.csv", "--posterior", "e.npz"],
        ["encode", model, data, "-o", "f.npz"],
        ["evaluate", model, data, "-o", "report.json"],
        ["generate", model, data, "-o", "g.fits", "--plot", "h.png"],
        ["info", data, "--plot", "i.png"],
        ["show", model, "--plot", "j.png"],
    ):
        assert main(command) == 0, capsys.readouterr().err
        before = {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
        assert main(command) == 2, command
        assert "exists already" in capsys.readouterr().err
        assert {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()} == before
        assert main([*command, "--overwrite"]) == 0, capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def load(path: Path) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("draper.models.base.load", load)
    for verb, name in (
        ("predict", "x.csv"),
        ("encode", "x.npz"),
        ("evaluate", "x.html"),
        ("generate", "x.h5"),
    ):
        out = folder / "nowhere" / name
        assert main([verb, str(folder / "model"), str(folder / "test.h5"), "-o", str(out)]) == 2
        assert "the folder does not exist" in capsys.readouterr().err


def test_finished_results_are_kept_elsewhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The disk fills up, or another program writes the file, while labels are fitted."""
    out, posterior, elsewhere = tmp_path / "labels.csv", tmp_path / "all.npz", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    predict = LinearAutoencoder.predict

    def slow(*arguments, **options) -> Estimates:
        out.write_text("of another program")
        return predict(*arguments, **options)

    monkeypatch.setattr(LinearAutoencoder, "predict", slow)
    files = ["-o", str(out), "--posterior", str(posterior)]
    assert main(["predict", str(folder / "model"), str(folder / "test.h5"), *files]) == 2
    (kept,) = elsewhere.rglob("labels.csv")
    assert f"{out} is kept as {kept}" in capsys.readouterr().err
    assert len(kept.read_text().splitlines()) == 6
    assert out.read_text() == "of another program"
    assert len(Estimates.load(posterior)) == 5


def test_where_a_result_is_kept_is_said_also_if_what_follows_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "full" / "labels.csv"

    def written(to: Path, *, overwrite: bool) -> Path:
        if to == path:
            raise OutputError("the file cannot be written")
        to.write_text("labels")
        return to

    with pytest.raises(KeyboardInterrupt), results(overwrite=False) as files:
        kept = files.write(written, path)
        raise KeyboardInterrupt
    assert capsys.readouterr().err == f"{path} is kept as {kept}\n"
    assert kept.read_text() == "labels"
