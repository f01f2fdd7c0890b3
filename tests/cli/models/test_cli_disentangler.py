"""The disentangler from the command line: ``train``, ``encode``, ``generate``, ``leakage`` and ``map``."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from factor_spectra import QUICK, SMALL, stars

from draper import load, read
from draper.cli import main
from draper.data.io import write
from draper.models.disentangler.model import Disentangler
from draper.models.emulator.model import Emulator
from draper.testing import LinearAutoencoder
from draper.train import regress

FAST = ["--train.steps", "5", "--train.threads", "1", "--train.progress", "none", "--probe=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, and spectra that they have not seen."""
    folder = tmp_path_factory.mktemp("disentangler")
    train = QUICK.replace(steps=100)
    options = {"remove": ("teff",), "keep": ("fe_h",), "probe": False, **SMALL}
    Disentangler(**options).fit(stars(400), train=train, out=folder / "model")
    Disentangler(labels=("teff",), **SMALL).fit(stars(60), train=QUICK, out=folder / "plain")
    LinearAutoencoder(latent=3).fit(stars(60), train=QUICK, out=folder / "linear")
    write(stars(250, seed=5), folder / "test.h5")
    write(stars(40, seed=6).with_columns(teff=None), folder / "bare.h5")
    write(stars(4, seed=7).pixels(slice(0, 20)), folder / "short.h5")
    return folder


def run(folder: Path, *command: str) -> int:
    return main([part.replace("@", f"{folder}/") for part in command])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


# ------------------------------------------------------------------------- train


def test_train_takes_every_option(folder: Path, tmp_path: Path, capsys) -> None:
    options = ["--remove", "teff", "hidden", "--keep", "fe_h", "--engine", "continuous", "--strength", "0.1"]
    options += ["0.2", "0.3", "--latent", "3", "--encoder", "8", "6", "--decoder", "6", "--critic", "4"]
    options += ["--ramp", "0.5", "--erase"]
    out = tmp_path / "model"
    assert run(folder, "train", "disentangler", "@test.h5", "-o", str(out), *options, *FAST, "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "disentangler"
    config = load(out).config
    assert config.remove == ("teff", "hidden")
    assert config.strength == (0.1, 0.2, 0.3)
    assert (config.encoder, config.decoder, config.critic) == ((8, 6), (6,), (4,))
    assert config.erase
    assert not config.probe


def test_without_labels_to_remove_or_keep_it_says_what_it_does(folder: Path, tmp_path: Path, capsys) -> None:
    sizes = ["--latent", "3", "--encoder", "8", "--decoder", "6", "--critic", "4", *FAST]
    for name, labels, is_said in (("plain", [], True), ("kept", ["--keep", "fe_h"], False)):
        out = str(tmp_path / name)
        assert run(folder, "train", "disentangler", "@test.h5", "-o", out, *sizes, *labels) == 0
        note = "note: no labels to remove or to keep are named (--remove, --keep): this trains"
        assert (note in capsys.readouterr().err) == is_said


def test_train_probes_what_was_held_out(folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(regress, "MIN_STEPS", 20)
    monkeypatch.setattr(regress, "EPOCHS", 1)
    out, options = (
        tmp_path / "model",
        ["--remove", "teff", "--latent", "3", "--encoder", "8", "--decoder", "8"],
    )
    command = ["train", "disentangler", "@bare.h5", "-o", str(out), *options, *FAST[:-1]]
    assert run(folder, *command, "--valid", "@test.h5") == 2, "there is no label to remove"
    assert "no column 'teff'" in capsys.readouterr().err
    write(stars(60), tmp_path / "stars.h5")
    command[2] = str(tmp_path / "stars.h5")
    assert run(folder, *command, "--valid", "@test.h5", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["held_out"] == 250
    assert list(found["leakage"]["labels"]) == ["teff"]
    assert main(["show", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["leakage"] == found["leakage"]
    assert main(["show", str(out)]) == 0
    assert f"Leakage of the latents {found['leakage']['summary']}" in said(capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--remove", "teff", "--keep", "teff"], "removed and kept"),
        (["--engine", "bin"], "'bins'"),
        (["--remove", "tef"], "did you mean 'teff'"),
        (["--remove", "teff", "--strength", "1", "2"], "1 numbers"),
        (["--ramp", "2"], "less than or equal to 1"),
        (["--encoder-sees-labels"], "estimates labels from the spectrum"),
    ],
    ids=str,
)
def test_wrong_options(folder: Path, tmp_path: Path, capsys, options: list[str], words: str) -> None:
    command = ["train", "disentangler", "@test.h5", "-o", str(tmp_path / "m"), *FAST, *options]
    assert run(folder, *command) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "m").exists()


# ------------------------------------------------------------------------- encode


def test_encode(folder: Path, tmp_path: Path) -> None:
    expected = load(folder / "model").encode(stars(250, seed=5))
    assert run(folder, "encode", "@model", "@test.h5", "-o", str(tmp_path / "z.npz")) == 0
    with np.load(tmp_path / "z.npz") as arrays:
        np.testing.assert_array_equal(arrays["latent"], expected)
    assert run(folder, "encode", "@model", "@bare.h5", "-o", str(tmp_path / "z.csv")) == 0
    assert len(Table.read(tmp_path / "z.csv")) == 40


# ----------------------------------------------------------------------- generate


def test_generate_sets_labels(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "hot.h5"
    command = ["generate", "@model", "@test.h5", "-o", str(out)]
    assert run(folder, *command, "--set", "Teff=6500", "[Fe/H]=-1") == 0
    expected = load(folder / "model").generate(stars(250, seed=5), teff=6500.0, fe_h=-1.0)
    made = read(out)
    np.testing.assert_allclose(made.flux, expected.flux, rtol=1e-6)
    assert (made.table["teff"] == 6500).all()
    assert made.ids.tolist() == stars(250, seed=5).ids.tolist()
    assert "outside_box" not in said(capsys)
    assert run(folder, *command, "--set", "teff=9000", "--overwrite") == 0
    assert "250 lie outside" in said(capsys)
    assert run(folder, *command, "--json", "--overwrite") == 0
    assert json.loads(capsys.readouterr().out)["spectra"] == 250
    rebuilt = load(folder / "model").generate(stars(250, seed=5))
    np.testing.assert_allclose(read(out).flux, rebuilt.flux, rtol=1e-6)


def test_generate_takes_labels_of_a_table(folder: Path, tmp_path: Path, capsys) -> None:
    """Its other columns, such as names and errors, are no labels."""
    values = np.linspace(4500, 6500, 40)
    table = Table({"id": [f"x{n}" for n in range(40)], "T_eff": values, "teff_err": np.ones(40)})
    table.write(tmp_path / "labels.csv")
    command = ["generate", "@model", "@bare.h5", "-o", str(tmp_path / "o.h5")]
    assert run(folder, *command, "--labels", str(tmp_path / "labels.csv")) == 0
    np.testing.assert_allclose(read(tmp_path / "o.h5").table["teff"], values)
    Table({"id": ["a"], "mass": [1.0]}).write(tmp_path / "none.csv")
    assert run(folder, *command, "--overwrite", "--labels", str(tmp_path / "none.csv")) == 2
    assert "no label of the model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["@test.h5", "--set", "tef=6500"], "did you mean 'teff'"),
        (["@test.h5", "--set", "teff=hot"], "NAME=VALUE"),
        (["@test.h5", "--set", "teff=5000,6000"], "one number for all, or 250 of them"),
        (["@none.h5", "--set", "teff=5000"], "no such file"),
        (["--set", "teff=5000"], "no data were named"),
        (["@short.h5", "--set", "teff=5000"], "not on the model's grid"),
        (["@test.h5", "--vsini", "5"], "--vsini"),
    ],
    ids=str,
)
def test_generate_explains(folder: Path, tmp_path: Path, capsys, command: list[str], words: str) -> None:
    assert run(folder, "generate", "@model", *command, "-o", str(tmp_path / "o.h5")) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "o.h5").exists()


# ------------------------------------------------------------------------ leakage


def test_leakage_says_and_writes_what_the_model_says(folder: Path, tmp_path: Path, capsys) -> None:
    out, plot = tmp_path / "leakage.json", tmp_path / "leakage.png"
    command = ["leakage", "@model", "@test.h5", "-o", str(out), "--probes", "ridge"]
    assert run(folder, *command, "--seeds", "1", "--plot", str(plot)) == 0
    words = said(capsys)
    assert "Leakage of 4 latents" in words
    assert str(plot) in words
    assert plot.stat().st_size > 5000
    expected = load(folder / "model").leakage(stars(250, seed=5), probes=("ridge",), seeds=(0,))
    assert json.loads(out.read_text()) == expected.to_json()
    command[4] = str(tmp_path / "leakage.csv")
    assert run(folder, *command, "--seed", "3", "--seeds", "2", "--json", "--overwrite") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seeds"] == [3, 4]
    with (tmp_path / "leakage.csv").open() as lines:
        assert [row["label"] for row in csv.DictReader(lines)] == ["teff", "fe_h"]


def test_leakage_by_true_labels(folder: Path, tmp_path: Path, capsys) -> None:
    survey = stars(250, seed=5)
    noise = np.random.default_rng(0).normal(size=250)
    columns = {"teff_true": survey.table["teff"], "fe_h_true": survey.table["fe_h"], "teff": noise}
    data = str(write(survey.with_columns(**columns), tmp_path / "survey.h5"))
    command = ["--probes", "ridge", "--seeds", "1", "--json", "--overwrite", "-o", str(tmp_path / "l.json")]
    found = []
    for spectra, end in (("@test.h5", ""), (data, "_true")):
        assert run(folder, "leakage", "@model", spectra, *command, "--truth", end) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["@linear", "@test.h5"], "has no verb 'leakage'"),
        (["@plain", "@test.h5"], "train with remove= and keep="),
        (["@none", "@test.h5"], "no model here"),
        (["@model", "@none.h5"], "no such file"),
        (["@model"], "no data were named"),
        (["@model", "@bare.h5"], "lack labels"),
        (["@model", "@test.h5", "--truth", "_x"], "teff_x"),
        (["@model", "@test.h5", "--probes", "tree"], "the choices are ridge"),
        (["@model", "@test.h5", "--plot", "plot.doc"], "plots cannot be written"),
        (["@model", "@short.h5"], "not on the model's grid"),
    ],
    ids=str,
)
def test_leakage_explains(folder: Path, tmp_path: Path, capsys, command: list[str], words: str) -> None:
    assert run(folder, "leakage", *command, "-o", str(tmp_path / "l.json")) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "l.json").exists()
    assert run(folder, "leakage", "@model", "@test.h5", "-o", str(tmp_path / "l.txt")) == 2
    assert "unknown table format" in capsys.readouterr().err


# ---------------------------------------------------------------------------- map


def test_map_draws_and_takes_new_stars(folder: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("openTSNE")
    out = tmp_path / "map.png"
    few = ["-n", "60", "--perplexity", "5"]
    assert run(folder, "map", "@model", "@test.h5", "-o", str(out), *few, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spectra"] == 60
    assert set(found["neighbour_r2"]) == {"spectra", "latents"}
    assert set(found["neighbour_r2"]["latents"]) == {"teff", "fe_h"}
    assert found["neighbour_r2"]["latents"]["teff"] < found["neighbour_r2"]["spectra"]["teff"]
    assert out.stat().st_size > 10_000
    again = [*few, "--into", str(tmp_path / "map.npz"), "--spectra=false", "--labels", "hidden"]
    assert run(folder, "map", "@model", "@bare.h5", "-o", str(tmp_path / "new.png"), *again) == 0
    assert "40 spectra drawn" in said(capsys)
    assert not (tmp_path / "new.npz").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["@none", "@test.h5"], "no model here"),
        (["@model"], "no data were named"),
        (["@model", "@none.h5"], "no such file"),
        (["@model", "@test.h5", "--labels", "tef"], "did you mean 'teff'"),
        (["@model", "@test.h5", "--into", "nowhere.npz"], "no such file"),
    ],
    ids=str,
)
def test_map_explains(folder: Path, tmp_path: Path, capsys, command: list[str], words: str) -> None:
    pytest.importorskip("openTSNE")
    options = ["-n", "60", "--perplexity", "5", "--spectra=false", "-o", str(tmp_path / "map.png")]
    assert run(folder, "map", *command, *options) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "map.png").exists()


def test_predict_flags_and_writes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.ecsv"
    assert run(folder, "predict", "@model", "@test.h5", "-o", str(out)) == 0
    found, expected = Table.read(out), load(folder / "model").predict(stars(250, seed=5))
    np.testing.assert_allclose(found["fe_h"], expected["fe_h"], rtol=1e-6)
    assert {"teff_err", "flag_outside", "flag_label_range", "flag_no_data"} <= set(found.colnames)


# -------------------------------------------------------------------------- swap


@pytest.fixture(scope="module")
def reader(folder: Path) -> Path:
    """An emulator of the same spectra."""
    Emulator(labels=("teff", "fe_h"), hidden=(24, 24)).fit(stars(400), train=QUICK.replace(steps=300)).save(
        folder / "reader"
    )
    return folder / "reader"


def test_swap_reads_changes_back(folder: Path, reader: Path, tmp_path: Path, capsys) -> None:
    out, plot = tmp_path / "swap.json", tmp_path / "swap.png"
    options = ["--emulator", str(reader), "-n", "60", "--fit.rv", "0", "--plot", str(plot)]
    assert run(folder, "swap", "@model", "@test.h5", "-o", str(out), *options) == 0
    assert "change of" in said(capsys)
    figures = json.loads(out.read_text())
    assert set(figures) == {"teff", "fe_h"}
    assert figures["teff"]["stars"] > 30
    # A network that has learnt for a moment: changes go the right way, and stay with their label.
    for name, other in (("teff", "fe_h"), ("fe_h", "teff")):
        assert 0.5 < figures[name]["slope"] < 1.5
        assert abs(figures[name]["others"][other]["slope"]) < 0.4
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["swap", "@linear", "@test.h5", "-o", "@swap.json"], "has no verb 'swap'"),
        (["swap", "@model", "@bare.h5", "-o", "@swap.json", "--emulator", "@reader"], "lack labels"),
        (["swap", "@model", "@test.h5", "-o", "@swap.txt", "--emulator", "@reader"], "unknown table format"),
        (["swap", "@model", "@none.h5", "-o", "@swap.json", "--emulator", "@reader"], "none.h5"),
        (["swap", "@model", "@test.h5", "-o", "@swap.json", "--emulator", "@linear"], "has none of"),
    ],
)
def test_swap_refuses(folder: Path, reader: Path, command: list[str], words: str, capsys) -> None:
    assert run(folder, *command) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (folder / "swap.json").exists()
