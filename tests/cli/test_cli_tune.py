"""``draper tune`` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from factor_spectra import stars

from draper import load
from draper.cli import main
from draper.data.io import write

pytest.importorskip("optuna")

QUICK = ["--train.steps", "15", "--train.batch-size", "128", "--train.threads", "1"]
SMALL = ["--engine", "none", "--encoder", "8", "--decoder", "8", "--probes", "ridge"]
LABELS = ["--remove", "teff", "--keep", "fe_h"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(stars(1050), tmp_path_factory.mktemp("tune") / "stars.h5")


def command(data: Path, out: Path, *more: str, search: tuple[str, ...] = ("latent=2,9",)) -> list[str]:
    where = ["--search", *search] if search else []
    return ["tune", "disentangler", str(data), "-o", str(out), *LABELS, *SMALL, *QUICK, *where, *more]


def tune(data: Path, out: Path, *more: str, **options) -> int:
    return main(command(data, out, *more, **options))


def test_searches_draws_and_goes_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "search", tmp_path / "pareto.png"
    assert tune(data, out, "--trials", "2", "--plot", str(plot)) == 0
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["trial 1/2", "trial 2/2"]
    assert "reconstruction" in lines[0]
    assert "kept" in lines[0]
    said = " ".join(told.out.split())
    assert "beaten by none (reconstruction: chi2 per pixel)" in said
    assert "test leak" in said
    assert f"draper train disentangler DATA... -o FOLDER --config {out / 'best.toml'}" in said
    assert plot.stat().st_size > 5000
    assert tune(data, out, "--trials", "2") == 2
    assert "--resume" in capsys.readouterr().err
    assert tune(data, out, "--trials", "3", "--resume", "--json") == 0
    told = capsys.readouterr()
    assert [line.split("  ")[0] for line in told.err.splitlines()] == ["trial 3/3"]
    found = json.loads(told.out)
    assert len(found["trials"]) == 3
    assert found["best"] == str(out / "best.toml")
    assert (
        load(out / "models" / f"trial-{found['chosen']:03d}").config.latent
        == (found["trials"][found["chosen"]]["settings"]["latent"])
    )


def test_the_best_options_are_taken_by_train(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "search"
    assert tune(data, out, "--trials", "1", search=("latent=2,9", "learning-rate=1e-3,1e-2")) == 0
    told = tomllib.loads((out / "best.toml").read_text())
    assert told["train"]["steps"] == 15
    capsys.readouterr()
    config = ["--config", str(out / "best.toml"), "--train.progress", "none", "--probe=false"]
    assert main(["train", "disentangler", str(data), "-o", str(tmp_path / "model"), *config, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["config"]["learning_rate"] == told["train"]["learning_rate"]
    assert load(tmp_path / "model").config.latent == told["latent"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--search", "latnt=2,4"], "did you mean 'latent'"),
        (["--search", "latent=2"], "latent=LOW,HIGH"),
        (["--search", "bins"], "no usual range"),
        (["--search", "latent", "--latent", "5"], "set or searched"),
        (["--search", "latent", "--trials", "0"], "greater than or equal to 1"),
        (["--search", "latent", "--probes", "tree"], '"ridge"'),
        (["--search", "latent", "--least-kept", "2"], "less than or equal to 1"),
        (["--search", "latent", "--valid", "0.05"], "larger part (valid=, --valid)"),
        (["--search", "latent", "--truth", "_true"], "lack a label"),
        (["--search", "latent", "--plot", "pareto.doc"], "cannot draw"),
        (["--latnt", "3"], "--latent"),
        (["--search", "latent", "--rate", "0"], "greater than 0"),
    ],
    ids=str,
)
def test_wrong_options(data: Path, tmp_path: Path, capsys, arguments: list[str], words: str) -> None:
    assert tune(data, tmp_path / "s", *arguments, search=()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["disentangler", "DATA", "-o", "s"], "no label to remove was named"),
        (["disentangler", "DATA", "-o", "s", "--remove", "tef"], "did you mean 'teff'"),
        (["disentangler", "-o", "s", "--remove", "teff"], "no data were named"),
        (["disentangler", "none.h5", "-o", "s", "--remove", "teff"], "no such file"),
        (["disentangler", "DATA", "--remove", "teff"], "--out"),
        (["linear", "DATA", "-o", "s"], "disentangler"),
    ],
    ids=str,
)
def test_what_there_is_nothing_to_search_by(
    data: Path, tmp_path: Path, monkeypatch, capsys, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *(str(data) if part == "DATA" else part for part in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_divergence_has_its_own_exit_code(data: Path, tmp_path: Path, capsys) -> None:
    wild = ["--train.learning-rate", "1e30", "--train.optimizer", "sgd", "--trials", "1"]
    assert tune(data, tmp_path / "s", *wild, "--plot", str(tmp_path / "p.png")) == 3
    error = capsys.readouterr().err
    assert "trial 1/1  diverged" in error
    assert "the training of every trial diverged" in error
    assert not (tmp_path / "p.png").exists()


def test_too_little_kept_is_said(data: Path, tmp_path: Path, capsys) -> None:
    assert tune(data, tmp_path / "s", "--trials", "1", "--least-kept", "1") == 0
    assert "no trial keeps 1 of the labels to keep" in " ".join(capsys.readouterr().out.split())


def test_help_has_an_example(capsys) -> None:
    assert main(["tune", "disentangler", "--help"]) == 0
    said = capsys.readouterr().out
    assert "Example: draper tune disentangler" in said
    for option in ("--search", "--least-kept", "--rate", "--train.epochs", "--read.unit", "--resume"):
        assert option in said


@pytest.mark.slow
def test_interrupted_in_a_terminal(data: Path, tmp_path: Path) -> None:
    """A signal while a trial learns: the program says how to go on, and keeps how far it was."""
    out, code = tmp_path / "s", "import sys; from draper.cli import main; sys.exit(main(sys.argv[1:]))"
    long = command(data, out, "--trials", "1", "--train.checkpoint-every", "20")
    long[long.index("--train.steps") + 1] = "4000"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *long],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    checkpoint, deadline = out / "models" / "trial-000" / "checkpoint", time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "the search was interrupted" in error
    assert "--resume" in error
    assert "Traceback" not in error
    assert checkpoint.exists()
