"""``draper train`` and ``draper show`` as a user runs them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import draper
from draper.cli import main
from draper.data.io import write
from draper.testing import made_spectra

FAST = [
    "--train.batch-size",
    "32",
    "--train.threads",
    "1",
    "--train.matmul",
    "highest",
    "--train.progress",
    "none",
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(made_spectra(300), tmp_path / "stars.h5")


def train(data: Path, out: Path, *more: str) -> int:
    return main(["train", "linear", str(data), "-o", str(out), "--labels", "teff", "logg", *FAST, *more])


def test_trains_and_shows(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "model"
    assert train(data, out, "--train.epochs", "3", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["spectra"] + said["held_out"] == 300
    assert said["valid"]["valid/total"] > 0
    assert {path.name for path in out.iterdir()} == {
        "model.json",
        "weights.safetensors",
        "history.csv",
        "README.md",
    }
    assert main(["show", str(out), "--json", "--plot", str(tmp_path / "history.png")]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["labels"] == ["teff", "logg"]
    assert (tmp_path / "history.png").stat().st_size > 5000
    assert main(["show", str(out)]) == 0
    assert "270 for training, 30 held out" in capsys.readouterr().out


def test_show_says_what_the_card_says(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "model"
    assert train(data, out, "--train.epochs", "1", "--start", "random") == 0
    assert "warning: on 30 held-out objects" in capsys.readouterr().err
    card = out / "README.md"
    card.write_text(f"{card.read_text()}\n## Leakage of the latents\n\nleak of teff 0.03\n")
    assert main(["show", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Leakage of the latents\nleak of teff 0.03" in said
    assert "bibtex" not in said
    words = " ".join(said.split())
    for line in card.read_text().partition("## ")[0].strip().splitlines()[6:]:
        name, value = line.strip("| ").split(" | ")
        assert f"{name} {value} " in words
    assert "held-out logg rms error" in words
    assert "Warning: on 30 held-out objects the model is no better than the mean" in words


def test_options_from_a_file_and_the_command_line(data: Path, tmp_path: Path, capsys) -> None:
    options = tmp_path / "run.toml"
    options.write_text('latent = 5\nlabels = ["teff"]\n[train]\nsteps = 7\nthreads = 1\nprogress = "none"\n')
    command = [
        "train",
        "linear",
        str(data),
        "-o",
        str(tmp_path / "m"),
        "--config",
        str(options),
        "--latent",
        "6",
    ]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 7
    assert main(["show", str(tmp_path / "m"), "--json"]) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["latent"], config["labels"]) == (6, ["teff"])


@pytest.mark.parametrize(
    ("content", "words"),
    [("latnt = 3\n", "--latent"), ("latent = [\n", "not TOML"), (None, "cannot be read")],
)
def test_wrong_file_of_options(data: Path, tmp_path: Path, capsys, content: str | None, words: str) -> None:
    options = tmp_path / "run.toml"
    if content is not None:
        options.write_text(content)
    assert main(["train", "linear", str(data), "-o", str(tmp_path / "m"), "--config", str(options)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--latent", "-3"], "greater than or equal to 1"),
        (["--latnt", "3"], "--latent"),
        (["--train.stepz", "3"], "--train.steps"),
        (["--train.schedule", "cosin"], "'cosine'"),
        (["--train.device", "gpu"], "unknown device"),
        (["--valid", "1.5"], "below 1"),
        (["--valid", "nowhere.h5"], "no such file"),
        (["--labels", "tef"], "did you mean 'teff'"),
        (["--from", "nowhere"], "no model here"),
    ],
)
def test_wrong_options(data: Path, tmp_path: Path, capsys, arguments: list[str], words: str) -> None:
    assert main(["train", "linear", str(data), "-o", str(tmp_path / "m"), *FAST, *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_wrong_model_and_missing_data(tmp_path: Path, capsys) -> None:
    assert main(["train", "liner", "x.h5", "-o", "m"]) == 2
    assert '"linear"' in capsys.readouterr().err
    assert main(["train", "linear", "-o", str(tmp_path / "m")]) == 2
    assert "no data were named" in capsys.readouterr().err
    assert main(["train", "linear", str(tmp_path / "none.h5"), "-o", str(tmp_path / "m")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_kept(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "model"
    assert train(data, out, "--train.epochs", "1") == 0
    before = (out / "weights.safetensors").read_bytes()
    assert train(data, out, "--train.epochs", "2") == 2
    assert "holds a model already" in capsys.readouterr().err
    assert (out / "weights.safetensors").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert train(data, tmp_path / "mine") == 2
    assert "not empty" in capsys.readouterr().err


def test_resuming_a_complete_run_does_nothing(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "m", "--train.epochs", "2") == 0
    before = (tmp_path / "m" / "weights.safetensors").read_bytes()
    assert train(data, tmp_path / "m", "--train.epochs", "2", "--resume") == 0
    assert (tmp_path / "m" / "weights.safetensors").read_bytes() == before


def test_fine_tuning_goes_on_from_the_weights(data: Path, tmp_path: Path, capsys) -> None:
    assert train(data, tmp_path / "a", "--train.epochs", "150") == 0
    assert train(data, tmp_path / "b", "--train.epochs", "1", "--from", str(tmp_path / "a"), "--json") == 0
    tuned = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["valid"]["valid/total"]
    assert train(data, tmp_path / "c", "--train.epochs", "1", "--json") == 0
    fresh = json.loads(capsys.readouterr().out)["valid"]["valid/total"]
    assert tuned < 0.5 * fresh
    assert train(data, tmp_path / "d", "--latent", "3", "--from", str(tmp_path / "a")) == 2
    assert "other options" in capsys.readouterr().err


def test_divergence_has_its_own_exit_code(data: Path, tmp_path: Path, capsys) -> None:
    code = train(data, tmp_path / "m", "--train.learning-rate", "1e30", "--train.optimizer", "sgd")
    error = capsys.readouterr().err
    assert code == 3
    assert "diverged at step" in error
    assert "player 'head'" in error


def start(data: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", "import sys; from draper.cli import main; sys.exit(main(sys.argv[1:]))"]
    options = [
        "--train.steps",
        "3000",
        "--train.checkpoint-every",
        "50",
        "--labels",
        "teff",
        "logg",
        "--resume",
    ]
    fresh = [option for option in options if option != "--resume" or out.exists()]
    return subprocess.Popen(
        [*command, "train", "linear", str(data), "-o", str(out), *fresh, *FAST],
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoint(out: Path, process: subprocess.Popen) -> None:
    """Wait until the process has written a checkpoint of its own."""
    path, started = out / "checkpoint" / "state.safetensors", time.time()
    deadline = time.monotonic() + 120
    while not path.exists() or path.stat().st_mtime < started:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(data: Path, tmp_path: Path) -> None:
    """SIGKILL in a first run, SIGTERM in a resumed one; the final weights are the same bit for bit."""
    whole = start(data, tmp_path / "whole")
    broken = tmp_path / "broken"
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        process = start(data, broken)
        wait_for_checkpoint(broken, process)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code
        assert code != 143 or "--resume" in error
        assert main(["show", str(broken)]) == 0
    for process in (start(data, broken), whole):
        _, error = process.communicate(timeout=180)
        assert process.returncode == 0, error
    one, other = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "whole", broken))
    assert one.keys() == other.keys()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    steps = [line.split(",")[0] for line in (broken / "history.csv").read_text().splitlines()]
    assert steps == [
        line.split(",")[0] for line in (tmp_path / "whole" / "history.csv").read_text().splitlines()
    ]


def test_ctrl_c_in_a_terminal_says_how_to_resume(data: Path, tmp_path: Path) -> None:
    process = start(data, tmp_path / "m")
    wait_for_checkpoint(tmp_path / "m", process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in error
    assert "Traceback" not in error


def test_tensorboard_by_option(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # TensorBoard's own imports warn
    code = "import sys; from draper.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [
        "train",
        "linear",
        str(data),
        "-o",
        str(tmp_path / "m"),
        "--train.tensorboard",
        "--train.steps",
        "3",
    ]
    subprocess.run([sys.executable, "-c", code, *command], env=environment, check=True, capture_output=True)
    assert any((tmp_path / "m" / "tensorboard").iterdir())


def test_held_out_files_are_read_with_the_same_hints(data: Path, tmp_path: Path, capsys) -> None:
    import numpy as np

    for name, seed in (("train", 0), ("valid", 1)):
        spectra = made_spectra(60, seed=seed)
        arrays = {"wavelength": spectra.grid.vacuum, "flux": spectra.flux, "teff": spectra.table["teff"]}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    hints = ["--read.unit", "angstrom", "--read.medium", "vacuum"]
    files = [str(tmp_path / "train.npz"), "-o", str(tmp_path / "m"), "--valid", str(tmp_path / "valid.npz")]
    assert (
        main(["train", "linear", *files, "--labels", "teff", *hints, *FAST, "--train.steps", "3", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["held_out"] == 60


def test_options_that_say_what_the_model_is_are_no_clash(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "a", "--latent", "5", "--train.steps", "3") == 0
    command = ["train", "linear", str(data), "-o", str(tmp_path / "b"), "--from", str(tmp_path / "a"), *FAST]
    assert main([*command, "--latent", "5", "--train.steps", "3"]) == 0


def test_several_files_with_filter_and_cut(data: Path, tmp_path: Path, capsys) -> None:
    more = write(made_spectra(100, seed=1), tmp_path / "more.h5")
    out, files = tmp_path / "model", [str(data), str(more)]
    told = ["--read.select", "teff=4500,6000", "logg=1,4", "--read.cut", "8500", "8600"]
    command = [
        "train",
        "linear",
        *files,
        "-o",
        str(out),
        "--labels",
        "teff",
        *FAST,
        "--train.steps",
        "2",
        *told,
    ]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    tables = [made_spectra(300).table, made_spectra(100, seed=1).table]
    kept = [(abs(t["teff"] - 5250) <= 750) & (abs(t["logg"] - 2.5) <= 1.5) for t in tables]
    assert said["spectra"] + said["held_out"] == sum(mask.sum() for mask in kept)
    described = json.loads((out / "model.json").read_text())
    wavelength = described["grid"]["wavelength"]
    assert wavelength[0] >= 8500
    assert wavelength[-1] <= 8600
    assert described["labels"][0]["low"] >= 4500


def test_filter_and_cut_from_a_file(data: Path, tmp_path: Path, capsys) -> None:
    options = tmp_path / "run.toml"
    options.write_text(
        'labels = ["teff"]\n[train]\nsteps = 2\nthreads = 1\nprogress = "none"\n'
        '[read]\ncut = [[8500.0, 8600.0]]\nselect = ["teff=4500,6000"]\n'
    )
    command = [
        "train",
        "linear",
        str(data),
        "-o",
        str(tmp_path / "model"),
        "--config",
        str(options),
        "--json",
    ]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    teff = made_spectra(300).table["teff"]
    assert said["spectra"] + said["held_out"] == ((teff >= 4500) & (teff <= 6000)).sum()


def test_wrong_filters_are_refused(data: Path, tmp_path: Path, capsys) -> None:
    for condition, says in (
        ("teff", "COLUMN=LOW,HIGH"),
        ("tef=1,2", "did you mean 'teff'"),
        ("teff=1,2", "relax the conditions"),
    ):
        command = ["train", "linear", str(data), "-o", str(tmp_path / "m"), "--read.select", condition]
        assert main(command) == 2
        assert says in capsys.readouterr().err


def test_a_flag_for_each_input(tmp_path: Path, capsys) -> None:
    """A model of two unpaired sets is trained with a flag for each, and refuses to train without one."""
    flags = []
    for name, spectra in (("synthetic", made_spectra(200)), ("observed", made_spectra(80, seed=1))):
        flags += [f"--{name}", str(write(spectra, tmp_path / f"{name}.h5"))]
    quick = ["--train.steps", "5", "--train.threads", "1", "--train.progress", "none"]
    command = ["train", "aligned", *quick, "-o"]
    out = tmp_path / "model"
    assert main([*command, str(out), *flags, "--valid", "observed=0.25", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["inputs"]["observed"]["held_out"] == 20
    assert result["inputs"]["synthetic"]["held_out"] == 20
    assert main(["predict", str(out), str(tmp_path / "observed.h5"), "-o", str(tmp_path / "labels.csv")]) == 0
    capsys.readouterr()
    assert main([*command, str(tmp_path / "other"), *flags[:2]]) == 2
    assert "--observed" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "other"), *flags, "--valid", "a=1", "b=2"]) == 2
    assert "NAME=FRACTION" in capsys.readouterr().err


def test_a_simulator_with_its_own_options(tmp_path: Path, capsys) -> None:
    quick = ["--train.steps", "3", "--train.threads", "1", "--train.progress", "none", "--valid", "0.02"]
    simulator = ["--simulator", "planets", "--simulator.instrument", "hst-wfc3-g141", "--simulator.snr", "50"]
    out = tmp_path / "model"
    assert main(["train", "simulated", *simulator, "-o", str(out), *quick, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["source"], found["held_out"]) == ("draws of Planets", 200)
    assert draper.load(out).own_grid.vacuum[0] > 11000
    assert main(["train", "simulated", "--simulator", "planets", "--help"]) == 0
    assert "--simulator.instrument" in capsys.readouterr().out
    assert main(["train", "simulated", *simulator, "--simulator.instrumnt", "x", "-o", str(out), *quick]) == 2
    assert "--simulator.instrument" in capsys.readouterr().err
    assert main(["train", "simulated", "--simulator", "comets", "-o", str(out), *quick]) == 2
    assert "planets" in capsys.readouterr().err


def test_a_folder_of_parquet_files_is_streamed(tmp_path: Path, capsys) -> None:
    from draper.data.partitions import write_partitions

    folder = write_partitions(made_spectra(200), tmp_path / "stars", rows=50)
    quick = ["--train.steps", "5", "--train.threads", "1", "--train.progress", "none"]
    command = ["train", "linear", str(folder), "-o", str(tmp_path / "model"), "--labels", "teff", *quick]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == str(folder)


def test_further_labels_by_fine_tuning(data: Path, tmp_path: Path, capsys) -> None:
    quick = ["--train.steps", "3", "--train.threads", "1", "--train.progress", "none"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", "linear", str(data), "-o", str(one), "--labels", "teff", *quick]) == 0
    more = ["--from", str(one), "--labels", "teff", "logg"]
    assert main(["train", "linear", str(data), "-o", str(two), *more, *quick]) == 0
    assert draper.load(two).labels.names == ("teff", "logg")


def test_the_help_shows_the_defaults_that_are_used(capsys) -> None:
    from draper.registry import config_class

    assert main(["train", "emulator", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    defaults = config_class("emulator").training
    assert f"[default: {defaults['learning_rate']}]" in text
    assert f"[default: {float(defaults['epochs'])}]" in text or f"[default: {defaults['epochs']}]" in text
