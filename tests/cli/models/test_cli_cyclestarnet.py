"""Cycle-StarNet's training files and option files, as ``draper convert`` and ``draper train`` take them."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import draper
from draper import registry
from draper.cli import main
from draper.models.translator.model import Translator

INI = """\
[DATA]
spectra_norm_file = mean_and_std_PAYNE_specs.npy
data_file_synth = computed.h5
data_file_obs = survey.h5
emulator_fn = PAYNE.pth.tar

[TRAINING]
batchsize = 4
learning_rate_encoder = 0.0001
learning_rate_decoder = 0.0001
learning_rate_discriminator = 0.0001
loss_weight_synth = 3
lr_decay_batch_iters_rg = [1e0,5e3]
lr_decay_batch_iters_dis = [1e0,5e3]
lr_decay_rg = 0.5
lr_decay_dis = 0.5
total_batch_iters = 2e0
use_real_as_true = False
mask_synth_lines = False

[ARCHITECTURE]
num_pixels = 7167
activation = LeakyReLU
conv_filts_ae_dom = [4, 4]
conv_filt_lens_ae_dom = [7, 7]
conv_strides_ae_dom = [4, 4]
conv_filts_ae_sh = [4, 4, 4]
conv_filt_lens_ae_sh = [7, 7, 7]
conv_strides_ae_sh = [4, 2, 2]
conv_filts_ae_sp = [2, 2, 2]
conv_filt_lens_ae_sp = [7, 7, 7]
conv_strides_ae_sp = [4, 2, 2]
enc_out_norm = True
shared_z_filters = 3
split_z_filters = 1
conv_filts_dis_x = [2, 2]

[Notes]
comment = 100 % made up
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data as published, in their folder, and a file of options."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    random = np.random.default_rng(0)
    for name in ("computed", "survey"):
        with h5py.File(tmp_path / "data" / f"{name}.h5", "w") as file:
            for part, n in (("train", 12), ("val", 2)):
                file[f"spectra {part}"] = random.uniform(0.9, 1, (n, 7214)).astype("f4")
                file[f"labels {part}"] = random.uniform(0, 1, (n, 25))
                if name == "survey":
                    file[f"spectra_err {part}"] = np.full((n, 7214), 0.01, "f4")
    (tmp_path / "run.ini").write_text(INI)
    return tmp_path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the model was asked to do: in place of training, it is noted."""
    asked: list[dict] = []

    class Noted:
        name = "translator"
        training = {"valid": {}}

        def __init__(self, options) -> None:
            self.config, self.options = options, options.model_dump(exclude_unset=True)

        def fit(self, synthetic, observed, *, train, **_) -> None:
            told = train.model_dump(exclude_unset=True)
            asked.append({"data": (synthetic, observed), "model": self.options, "train": told})

    monkeypatch.setattr(registry, "model_class", lambda name: Noted)
    return asked


def train(*more: str) -> int:
    return main(["train", "translator", *more, "-o", "model"])


def test_a_training_file_converts(here: Path) -> None:
    assert main(["convert", "data/survey.h5", "-o", "val.h5", "--select", "part=val"]) == 0
    spectra = draper.read("val.h5")
    assert (spectra.flux.shape, len(spectra.grid.segments())) == ((2, 7214), 3)
    assert spectra.table["part"].tolist() == ["val", "val"]


def test_a_file_of_their_options(here: Path, runs: list[dict], capsys) -> None:
    assert train("--config", "run.ini") == 0
    (run,) = runs
    assert [len(spectra) for spectra in run["data"]] == [12, 12]
    assert run["model"] == {
        "filters": (4, 4), "strides": (4, 4), "shared_filters": (4, 4, 4), "shared_strides": (4, 2, 2),
        "split_filters": (2, 2, 2), "shared": 3, "split": 1, "critic": (2, 2), "kernel": 7, "method": "cycle",
    }  # fmt: skip
    assert run["train"] == {
        "batch_size": 4, "steps": 2, "learning_rate": 1e-4, "schedule": "cosine", "final_rate": 0.5,
    }  # fmt: skip
    notes = capsys.readouterr().err.splitlines()
    assert {note.partition(":")[0] for note in notes} == {"note"}
    assert all(any(word in note for note in notes) for word in ("num_pixels", "emulator_fn", "loss_weight"))


def test_flags_and_named_data_come_before_the_file(here: Path, runs: list[dict]) -> None:
    (here / "data" / "survey.h5").rename(here / "mine.h5")
    more = ["--observed", "mine.h5", "--shared", "7", "--train.learning-rate", "0.002"]
    assert train("--config=run.ini", *more) == 0
    (run,) = runs
    assert [len(spectra) for spectra in run["data"]] == [14, 14]
    assert run["model"]["shared"] == 7
    assert run["train"]["learning_rate"] == 0.002
    assert train("--config=run.ini", *more, "--read.select", "part=train") == 0
    assert [len(spectra) for spectra in runs[1]["data"]] == [12, 12]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("batchsize = 8\n", "not INI"),
        ("[train]\nsteps = 3\n", "of no code that draper knows"),
        (INI.replace("batchsize", "batchsise"), "did you mean 'batchsize'"),
        (INI.replace("survey.h5", "nowhere.h5"), "no such file"),
        (INI.replace("[4, 4]", "[4, 4"), "conv_filts_ae_dom='[4, 4'"),
    ],
)
def test_wrong_files_are_explained(here: Path, runs: list[dict], capsys, content: str, words: str) -> None:
    (here / "wrong.ini").write_text(content)
    assert train("--config", "wrong.ini") == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not runs


def test_their_options_are_for_the_translator(here: Path, capsys) -> None:
    assert main(["train", "linear", "-o", "model", "--config", "run.ini"]) == 2
    assert "draper train translator --config run.ini" in capsys.readouterr().err


def test_trains_from_a_file(here: Path) -> None:
    assert train("--config", "run.ini", "--train.threads", "1", "--train.progress", "none") == 0
    model = draper.load("model")
    assert isinstance(model, Translator)
    assert len(model.own_grid) == 7214
