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
from draper.simulate.made import made_spectra

pytest.importorskip("optuna")

QUICK = ["--train.steps", "10", "--train.batch-size", "64", "--train.threads", "1"]
SMALL = ["--engine", "none", "--encoder", "8", "--decoder", "8"]
LABELS = ["--remove", "teff", "--keep", "fe_h"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(made_spectra(200, pixels=24), tmp_path_factory.mktemp("tune") / "made.h5")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough stars to measure a leak."""
    return write(stars(1050), tmp_path_factory.mktemp("tune") / "stars.h5")


def command(data: Path, out: Path, *more: str, search: tuple[str, ...] = ("latent=2,9",)) -> list[str]:
    ranges = ["--search", *search] if search else []
    return ["tune", "linear", str(data), "-o", str(out), "--labels", "teff", *QUICK, *ranges, *more]


def tune(data: Path, out: Path, *more: str, **options) -> int:
    return main(command(data, out, *more, **options))


def disentangler(data: Path, out: Path, *more: str) -> int:
    return main(["tune", "disentangler", str(data), "-o", str(out), *SMALL, *QUICK, *more])


def test_searches_draws_and_continues(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "search", tmp_path / "search.png"
    assert tune(data, out, "--trials", "2", "--plot", str(plot)) == 0
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["trial 1/2", "trial 2/2"]
    assert "loss" in lines[0]
    text = " ".join(output.out.split())
    assert "best trials (held-out loss)" in text
    assert "trial latent loss test loss" in text
    assert "error_teff" in text
    assert f"draper train linear stars.h5 -o FOLDER --config {out / 'best.toml'}" in text
    assert plot.stat().st_size > 5000
    assert tune(data, out, "--trials", "2") == 2
    assert "--resume" in capsys.readouterr().err
    assert tune(data, out, "--trials", "3", "--resume", "--json") == 0
    output = capsys.readouterr()
    assert [line.split("  ")[0] for line in output.err.splitlines()] == ["trial 3/3"]
    document = json.loads(output.out)
    assert len(document["trials"]) == 3
    assert document["best"] == str(out / "best.toml")
    best = document["trials"][document["chosen"]]
    assert load(out / "models" / f"trial-{best['number']:03d}").config.latent == best["settings"]["latent"]


def test_two_objectives_have_a_pareto_front(many: Path, tmp_path: Path, capsys) -> None:
    plot = tmp_path / "pareto.png"
    more = ["--search", "latent=2,9", "--trials", "1", "--probes", "ridge"]
    more += ["--least-kept", "1", "--plot", str(plot)]
    assert disentangler(many, tmp_path / "s", *LABELS, *more) == 0
    output = capsys.readouterr()
    assert all(word in output.err for word in ("reconstruction", "leak", "kept"))
    text = " ".join(output.out.split())
    assert "Pareto front (error of the reconstruction (chi2 per pixel), largest leak" in text
    assert "test leak" in text
    assert "conditional_teff" in text
    assert "no trial keeps 1 of the labels to keep" in text
    assert plot.stat().st_size > 5000


def test_the_best_options_are_taken_by_train(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "search"
    assert tune(data, out, "--trials", "1", search=("latent=2,9", "learning-rate=1e-3,1e-2")) == 0
    best = tomllib.loads((out / "best.toml").read_text())
    assert best["train"]["steps"] == 10
    capsys.readouterr()
    config = ["--config", str(out / "best.toml"), "--train.progress", "none"]
    assert main(["train", "linear", str(data), "-o", str(tmp_path / "model"), *config, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["config"]["learning_rate"] == best["train"]["learning_rate"]
    assert load(tmp_path / "model").config.latent == best["latent"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--search", "latnt=2,4"], "did you mean 'latent'"),
        (["--search", "latent=2"], "latent=LOW,HIGH"),
        (["--search", "clip"], "no default range"),
        (["--search", "latent", "--latent", "5"], "set or searched"),
        (["--search", "latent", "--trials", "0"], "greater than or equal to 1"),
        (["--search", "latent", "--test", "0.001"], "larger part (--test)"),
        (["--search", "latent", "--plot", "pareto.doc"], "cannot be written in this format"),
        (["--latnt", "3"], "--latent"),
        (["--search", "latent", "--train.clip", "0"], "greater than 0"),
        (["--probes", "ridge"], "--probes"),
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
        (["--probes=tree", *LABELS], "'ridge', 'boosting' or 'mlp'"),
        (["--least-kept", "2", *LABELS], "less than or equal to 1"),
        (["--truth", "_true", *LABELS], "lack a label"),
        (["--valid", "0.05", *LABELS], "larger part (--valid)"),
        ([], "no label to remove was named"),
        (["--remove", "tef"], "did you mean 'teff'"),
    ],
    ids=str,
)
def test_wrong_options_of_objectives(
    many: Path, tmp_path: Path, capsys, arguments: list[str], words: str
) -> None:
    assert disentangler(many, tmp_path / "s", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["linear", "-o", "s"], "no data were named"),
        (["linear", "none.h5", "-o", "s"], "no such file"),
        (["linear", "DATA"], "--out"),
        (["liner", "DATA", "-o", "s"], "linear"),
    ],
    ids=str,
)
def test_wrong_arguments(
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


def test_help_has_an_example_and_the_options_of_the_objectives(capsys) -> None:
    assert main(["tune", "disentangler", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example: draper tune disentangler" in text
    for option in (
        "--search",
        "--least-kept",
        "--information-limit",
        "--train.epochs",
        "--read.unit",
        "--resume",
    ):
        assert option in text
    assert main(["tune", "emulator", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--least-kept" not in text
    assert "hidden, learning_rate, epochs" in text


@pytest.mark.slow
def test_interrupted_in_a_terminal(data: Path, tmp_path: Path) -> None:
    """A signal while a trial is trained: the program says how to resume, and keeps a checkpoint."""
    out, code = tmp_path / "s", "import sys; from draper.cli import main; sys.exit(main(sys.argv[1:]))"
    long = command(data, out, "--trials", "1", "--train.checkpoint-every", "20")
    long[long.index("--train.steps") + 1] = "400000"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *long],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
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
