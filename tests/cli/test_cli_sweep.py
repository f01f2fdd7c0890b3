"""``draper sweep`` as a user runs it."""

import csv
import json
from pathlib import Path

import pytest

from draper import load
from draper.cli import main
from draper.data.io import write
from draper.errors import Interrupted
from draper.simulate.made import made_spectra
from draper.testing.reference import LinearAutoencoder

QUICK = ["--train.steps", "10", "--train.batch-size", "64", "--train.threads", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(made_spectra(200, pixels=24), tmp_path_factory.mktemp("sweep") / "made.h5")


def sweep(data: Path, out: Path, *more: str) -> int:
    return main(["sweep", "linear", str(data), "-o", str(out), "--labels", "teff", *QUICK, *more])


def test_trains_compares_and_draws(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "sweep", tmp_path / "sweep.png"
    vary = ["--vary", "latent=1,4", "start=random,pca", "--seeds", "2"]
    assert sweep(data, out, *vary, "--plot", str(plot), "--figure", "error_teff") == 0
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"run {n}/8" for n in range(1, 9)]
    assert "latent = 1, start = random, seed = 0  loss" in lines[0]
    text = " ".join(output.out.split())
    assert "median (and range) over seeds, on the test part" in text
    assert "latent start runs diverged loss reconstruction error teff" in text
    assert f"table: {out / 'sweep.csv'}" in text
    assert plot.stat().st_size > 5000
    with (out / "sweep.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(row["latent"], row["start"], row["seed"]) for row in rows][-1] == ("4", "pca", "1")
    assert load(out / "runs" / rows[-1]["run"]).config.latent == 4
    assert sweep(data, out, *vary) == 2
    assert "--resume" in capsys.readouterr().err
    assert sweep(data, out, "--vary", "latent=4,8", "start=pca", "--seeds", "2", "--resume", "--json") == 0
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 2, "only the two new runs are trained"
    document = json.loads(output.out)
    assert [run["settings"]["latent"] for run in document["runs"]] == ["4", "4", "8", "8"]
    assert document["settings"][1]["loss"]["low"] <= document["settings"][1]["loss"]["median"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vary", "latnt=2,4"], "did you mean 'latent'"),
        (["--vary", "latent"], "latent=VALUE,VALUE"),
        (["--vary", "latent=2,two"], "valid integer"),
        (["--vary", "latent=2", "--latent", "5"], "set or varied"),
        (["--vary", "train.clip=-1"], "greater than 0"),
        (["--seeds", "0"], "greater than or equal to 1"),
        (["--table", "sweep.doc"], "unknown table format"),
        (["--plot", "sweep.doc"], "cannot be written in this format"),
        (["--test", "0.001"], "larger part (--test)"),
    ],
    ids=str,
)
def test_wrong_options(data: Path, tmp_path: Path, capsys, arguments: list[str], words: str) -> None:
    assert sweep(data, tmp_path / "s", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "s").exists()


def test_divergence_has_its_own_exit_code(data: Path, tmp_path: Path, capsys) -> None:
    wild = ["--train.learning-rate", "1e30", "--train.optimizer", "sgd", "--seeds", "1"]
    assert sweep(data, tmp_path / "s", *wild, "--plot", str(tmp_path / "p.png")) == 3
    error = capsys.readouterr().err
    assert "run 1/1  seed = 0  diverged" in error
    assert "the training of every run diverged" in error
    assert not (tmp_path / "p.png").exists()


def test_an_interruption_says_how_to_resume(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    fit = LinearAutoencoder.fit

    def interrupted(self: LinearAutoencoder, *rest, train, **options) -> LinearAutoencoder:
        if train.seed == 1:
            raise Interrupted(15, "training was interrupted at step 3")
        return fit(self, *rest, train=train, **options)

    monkeypatch.setattr(LinearAutoencoder, "fit", interrupted)
    assert sweep(data, tmp_path / "s", "--seeds", "2") == 143
    error = capsys.readouterr().err
    assert "the sweep was interrupted: training was interrupted at step 3" in error
    assert "--resume" in error
    monkeypatch.undo()
    assert sweep(data, tmp_path / "s", "--seeds", "2", "--resume") == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_help_has_an_example(capsys) -> None:
    assert main(["sweep", "disentangler", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example: draper sweep disentangler" in text
    for option in ("--vary", "--seeds", "--least-kept", "--information-limit", "--train.epochs", "--resume"):
        assert option in text
