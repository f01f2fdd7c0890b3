"""Cycle-StarNet's option files in draper's names: nothing is lost without a note."""

from pathlib import Path
from typing import Any

import pytest

from draper.configs.train import TrainConfig
from draper.configs.translator import TranslatorConfig
from draper.errors import DraperError
from draper.models.translator.cyclestarnet import OPTION_FILE, Architecture, Data, Training

SIZES = {
    "ae_dom": ("[32, 64]", "[7, 7]", "[4, 4]"),
    "ae_sh": ("[128, 256, 512]", "[7, 7, 7]", "[4, 2, 2]"),
    "ae_sp": ("[32, 32, 32] ", "[7, 7, 7]", "[4, 2, 2]"),
    "dis_x": ("[16, 32, 64, 128, 256]", "[7, 7, 7, 7, 7]", "[4, 4, 4, 4, 4]"),
    "dis_z": ("[32, 64, 128, 256, 512]", "[1, 1, 1, 1, 1]", "[1, 1, 1, 1, 1] "),
    "dis_c": ("[128, 64]", "[2, 2]", "[2, 2]"),
}


def content(
    data: dict[str, str] | None = None,
    training: dict[str, str] | None = None,
    architecture: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return a whole file as the standard library reads it; an empty value is like a key that is missing."""
    keys = ("conv_filts", "conv_filt_lens", "conv_strides")
    sizes = {
        f"{key}_{layers}": value
        for layers, values in SIZES.items()
        for key, value in zip(keys, values, strict=True)
    }
    return {
        "DATA": {
            "spectra_norm_file": "mean_and_std.npy", "data_file_synth": "computed.h5",
            "data_file_obs": "survey.h5", "emulator_fn": "PAYNE.pth.tar", **(data or {}),
        },
        "TRAINING": {
            "batchsize": "8", "learning_rate_encoder": "0.0001", "learning_rate_decoder": "0.0001",
            "learning_rate_discriminator": "0.0001", "loss_weight_synth": "3", "loss_weight_obs": "9",
            "loss_weight_gen": "1", "loss_weight_dis": "1", "lr_decay_batch_iters_rg": "[5e4,10e4,25e5]",
            "lr_decay_batch_iters_dis": "[5e4,10e4,25e5]", "lr_decay_rg": "0.7", "lr_decay_dis": "0.7",
            "total_batch_iters": "5e5", "use_real_as_true": "False", "mask_synth_lines": "False",
            **(training or {}),
        },
        "ARCHITECTURE": {
            "num_pixels": "7167", "activation": "LeakyReLU", "enc_out_norm": "True",
            "shared_z_filters": "25", "split_z_filters": "4", **sizes, **(architecture or {}),
        },
        "Notes": {"comment": "of a run"},
    }  # fmt: skip


def keys(notes: tuple[str, ...]) -> set[str]:
    return {note.partition(":")[0] for note in notes}


USUAL = {
    "data_file_synth, data_file_obs", "learning_rate_*", "lr_decay_*", "spectra_norm_file", "emulator_fn",
    "loss_weight_synth, loss_weight_obs, loss_weight_gen, loss_weight_dis", "num_pixels",
    "conv_filts_dis_c, conv_filt_lens_dis_c, conv_strides_dis_c",
}  # fmt: skip
"""Keys that a note is about, where a file differs from draper as little as it can."""


def test_every_option_of_a_whole_file() -> None:
    assert OPTION_FILE.recognises(content())
    found = OPTION_FILE.translate(content())
    assert found.model == {
        "method": "cycle",
        "filters": (32, 64), "strides": (4, 4), "shared_filters": (128, 256, 512),
        "shared_strides": (4, 2, 2), "split_filters": (32, 32, 32), "shared": 25, "split": 4,
        "critic": (16, 32, 64, 128, 256), "kernel": 7,
    }  # fmt: skip
    assert found.train == {
        "batch_size": 8, "steps": 500_000, "learning_rate": 1e-4, "schedule": "cosine",
        "final_rate": pytest.approx(0.49),
    }  # fmt: skip
    assert found.inputs == {"synthetic": Path("computed.h5"), "observed": Path("survey.h5")}
    assert found.read == {"select": ("part=train",)}
    assert keys(found.notes) == USUAL
    assert TranslatorConfig(**found.model).kernel == 7
    assert TrainConfig(**found.train).steps == 500_000


def test_each_key_is_mapped_or_has_a_note() -> None:
    """A key alone, with a value that draper does not have, changes an option or is the subject of a note."""
    other = {
        "use_real_as_true": "True", "mask_synth_lines": "True", "activation": "ReLU", "enc_out_norm": "False",
        "lr_decay_rg": "0.5", "lr_decay_dis": "0.5",
    }  # fmt: skip
    for section, options in (("DATA", Data), ("TRAINING", Training), ("ARCHITECTURE", Architecture)):
        for key in options.model_fields:
            whole = {**content()["DATA"], **content()["TRAINING"], **content()["ARCHITECTURE"]}
            value = other.get(key, whole.get(key, "3"))
            if key in ("conv_strides_dis_z", "conv_filt_lens_dis_z", "conv_strides_dis_x"):
                value = "[2, 2]"
            alone = {section: {key: value}}
            if key == "conv_filts_dis_z":  # its size follows from that of another
                alone[section] |= {"conv_filts_dis_x": "[3, 3]"}
            found = OPTION_FILE.translate(alone)
            mapped = found.model or found.train or found.inputs
            subjects = [note.partition(":")[0] for note in found.notes]
            noted = any(key in one or ("_*" in one and key.startswith(one[:-1])) for one in subjects)
            assert mapped or noted, key


@pytest.mark.parametrize(
    ("section", "changes", "subject"),
    [
        ("data", {"mask_fn": "lines.npz"}, "mask_synth_lines, mask_fn"),
        ("training", {"mask_synth_lines": "True"}, "mask_synth_lines, mask_fn"),
        ("training", {"use_real_as_true": "True"}, "use_real_as_true"),
        ("training", {"learning_rate_decoder": "0.001"}, "learning_rate_decoder"),
        ("training", {"lr_decay_dis": "0.9"}, "lr_decay_*_dis"),
        ("architecture", {"activation": "ReLU"}, "activation"),
        ("architecture", {"enc_out_norm": "False"}, "enc_out_norm"),
        ("architecture", {"conv_strides_ae_sp": "[2, 2, 2]"}, "conv_strides_ae_sp"),
        ("architecture", {"conv_filts_dis_z": "[32, 32, 32, 32, 32]"}, "conv_filts_dis_z"),
        ("architecture", {"conv_strides_dis_x": "[4, 4, 4, 2, 2]"}, "conv_strides_dis_x"),
        (
            "architecture",
            {"conv_filt_lens_ae_sp": "[5, 5, 5]"},
            "conv_filt_lens_ae_dom, conv_filt_lens_ae_sh, conv_filt_lens_ae_sp, conv_filt_lens_dis_x",
        ),
    ],
)
def test_what_has_no_counterpart_is_named(section: str, changes: dict[str, str], subject: str) -> None:
    found = OPTION_FILE.translate(content(**{section: changes}))
    assert keys(found.notes) - USUAL == {subject}
    TranslatorConfig(**found.model)


def test_discriminators_with_a_rate_of_their_own() -> None:
    found = OPTION_FILE.translate(content(training={"learning_rate_discriminator": "0.001"}))
    assert (found.train["learning_rate"], found.train["rates"]) == (1e-4, {"discriminators": 1e-3})


def test_rates_that_never_fall() -> None:
    late = {"lr_decay_batch_iters_rg": "[9e9]", "lr_decay_batch_iters_dis": "[9e9]"}
    found = OPTION_FILE.translate(content(training=late))
    assert found.train["schedule"] == "constant"
    assert "lr_decay_*" not in keys(found.notes)
    found = OPTION_FILE.translate(content(training={"total_batch_iters": ""}))
    assert not {"schedule", "steps"} & set(found.train)
    assert "lr_decay_*" in keys(found.notes)


def test_a_model_without_split_latents() -> None:
    """As in the files of 2019, with the weights that they had."""
    layers = {"conv_filts_ae_sh": "[256, 512]", "conv_strides_ae_sh": "[2, 2]", "split_z_filters": "0"}
    found = OPTION_FILE.translate(content(training={"loss_weight_rec": "5e3"}, architecture=layers))
    assert found.model["split"] == 0
    assert TranslatorConfig(**found.model).shared_strides == (2, 2)


def test_data_that_the_command_line_names() -> None:
    found = OPTION_FILE.translate(content(), given={"observed", "out"})
    assert found.inputs == {"synthetic": Path("computed.h5")}
    assert found.read == {}
    assert any("--read.select part=train" in note for note in found.notes)


def test_data_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/survey.h5").touch()
    assert OPTION_FILE.translate(content()).inputs["observed"] == Path("data/survey.h5")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"TRAINING": {"batch_size": "8"}}, "did you mean 'batchsize'"),
        ({"TRAINIG": {}}, "did you mean 'TRAINING'"),
        ({"TRAINING": {"batchsize": "0"}}, "'batchsize' of Training is not valid"),
        ({"ARCHITECTURE": {"conv_filts_ae_sh": "[128, 256"}}, r"conv_filts_ae_sh='\[128, 256'"),
        ({"ARCHITECTURE": {"num_pixels": "__import__('os').abort()"}}, "'num_pixels' of Architecture"),
        ({"DATA": 3}, "'DATA' is no section"),
    ],
)
def test_wrong_files_are_explained(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DraperError, match=words):
        OPTION_FILE.translate({**content(), **changes})


@pytest.mark.parametrize("other", [{"data": {}, "models": {}}, {"filters": [8]}, ["DATA"], {"DATA": 1}, None])
def test_other_files_are_not_recognised(other: object) -> None:
    assert not OPTION_FILE.recognises(other)
