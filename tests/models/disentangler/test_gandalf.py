"""GANDALF's option files in draper's names: nothing is lost without a note."""

from pathlib import Path

import pytest

from draper.configs.disentangler import DisentanglerConfig
from draper.configs.read import ReadConfig
from draper.configs.train import TrainConfig
from draper.errors import DraperError
from draper.models.disentangler.gandalf import OPTION_FILE


def settings(data=None, models=None, train=None, **more) -> dict:
    """Return the options of a run of the paper's kind: four labels, a discriminator for each."""
    labels = ["teff", "logg", "M_H", "alpha"]
    return {
        "data": {"labels": labels, "cond_labels": labels, "discretize": True, **(data or {})},
        "models": {"multi_disc": True, **(models or {})},
        "train": {"lambda_values": [0.01, 0.02, -0.03, 0], **(train or {})},
        **more,
    }


def test_every_option_of_a_whole_file() -> None:
    found = OPTION_FILE.translate(
        {
            "id": None,
            "data": {
                "data_loader": "SampleDataLoader", "survey_data_path": "data/sample",
                "labels": ["teff", "logg"], "cond_labels": ["logg"], "normalize_spectra": False,
                "shuffle": True, "discretize": True, "nbins": 12, "seed": 42,
            },
            "models": {
                "encoder_hidden_layer_sizes": [64], "decoder_hidden_layer_sizes": [16, 32, 64],
                "disc_hidden_layer_sizes": [8], "latent_size": 5, "input_without_params": True,
                "batch_norm": False, "multi_disc": True, "conv_disc": False,
            },
            "train": {
                "epochs": 5, "batch_size": 64, "lambda_values": [-0.1], "lr_disc": "1e-3", "lr_ae": 0.002,
                "dl_no_change": None, "dl_lambda_steps": None,
            },
        }
    )  # fmt: skip
    assert found.model == {
        "labels": ("logg",), "remove": (), "keep": ("logg",), "engine": "bins", "strength": (0.1,),
        "latent": 5, "encoder": (64,), "decoder": (16, 32, 64), "critic": (8,), "bins": 12,
        "encoder_sees_labels": False,
    }  # fmt: skip
    assert found.train == {
        "epochs": 5, "batch_size": 64, "seed": 42, "schedule": "constant",
        "rates": {"model": 0.002, "critic": 0.001},
    }  # fmt: skip
    assert found.read == {"columns": ("teff", "logg")}
    assert found.inputs == {"spectra": Path("data/sample")}
    assert [note.partition(":")[0] for note in found.notes] == ["lambda_values"]


def test_ranks_have_another_scatter() -> None:
    options = settings()
    options["data"]["normalize_spectra"] = True
    assert OPTION_FILE.translate(options).model["strength"] == pytest.approx((0.12, 0.24, 0.36))


def test_what_a_file_leaves_out_is_as_on_their_command_line() -> None:
    found = OPTION_FILE.translate({"data": None, "models": {}})
    assert found.model["latent"] == 25
    assert found.model["encoder"] == (512, 256)
    assert found.model["encoder_sees_labels"] is True
    assert (found.train["epochs"], found.train["batch_size"]) == (200, 50)
    assert found.inputs == {}
    assert "seed" not in found.train


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"models": {"multi_disc": False}, "train": {"lambda_values": [0.1]}},
        {"train": {"lambda_values": [0]}},
        {"data": {"discretize": False}},
    ],
)
def test_what_comes_out_are_options_of_draper(changes: dict) -> None:
    found = OPTION_FILE.translate(settings(**changes))
    DisentanglerConfig(**found.model)
    TrainConfig(**found.train)
    ReadConfig(**found.read)


def test_the_sign_of_lambda_removes_keeps_or_only_tells() -> None:
    model = OPTION_FILE.translate(settings()).model
    assert model["labels"] == ("teff", "logg", "fe_h", "alpha_fe")
    assert model["remove"] == ("teff", "logg")
    assert model["keep"] == ("fe_h",)
    assert model["strength"] == (0.01, 0.02, 0.03)


def test_strengths_follow_remove_and_then_keep() -> None:
    model = OPTION_FILE.translate(settings(train={"lambda_values": [-1, 2, -3, 4]})).model
    assert model["remove"] + model["keep"] == ("logg", "alpha_fe", "teff", "fe_h")
    assert model["strength"] == (2, 4, 1, 3)


def test_one_lambda_is_shared_and_said() -> None:
    found = OPTION_FILE.translate(settings(train={"lambda_values": [0.01]}))
    assert found.model["strength"] == (0.0025,) * 4
    assert any("divided" in note and "0.0025" in note for note in found.notes)


def test_a_joint_discriminator_has_one_lambda() -> None:
    found = OPTION_FILE.translate(
        settings(models={"multi_disc": False}, train={"lambda_values": [-0.5, 0.2]})
    )
    assert found.model["engine"] == "joint"
    assert found.model["keep"] == ("teff", "logg", "fe_h", "alpha_fe")
    assert found.model["strength"] == (0.5,)
    assert any("the first, -0.5" in note for note in found.notes)


def test_engines() -> None:
    none = OPTION_FILE.translate(settings(train={"lambda_values": [0]}))
    assert none.model["engine"] == "none"
    assert none.train["rates"] == {"model": 0.001}  # there is no critic to have one
    assert "strength" not in none.model
    continuous = OPTION_FILE.translate(settings(data={"discretize": False, "nbins": 12}))
    assert continuous.model["engine"] == "continuous"
    assert "bins" not in continuous.model  # it has no classes
    bottleneck = OPTION_FILE.translate(settings(data={"nbins": 12}), {"engine"})
    assert not {"engine", "strength", "bins"} & set(bottleneck.model)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"models": {"batch_norm": True}}, "batch_norm"),
        ({"models": {"conv_disc": True}}, "conv_disc"),
        ({"train": {"dl_no_change": 5, "dl_lambda_steps": "10"}}, "dl_no_change, dl_lambda_steps"),
        ({"data": {"normalize_spectra": True}}, "normalize_spectra"),
        ({"data": {"shuffle": False}}, "shuffle"),
        ({"data": {"discretize": False}}, "discretize"),
        ({"data": {"data_loader": "ApogeeLoader"}}, "ApogeeLoader"),
        ({"id": "run-1", "root_folder": "out/"}, "id, root_folder"),
        ({"train": {"lambda_values": [0]}}, "lr_disc"),
        ({}, "M_H is fe_h, alpha is alpha_fe"),
    ],
)
def test_what_has_no_counterpart_is_named(changes: dict, word: str) -> None:
    assert sum(word in note for note in OPTION_FILE.translate(settings(**changes)).notes) == 1


def test_two_names_of_one_label_stay_two() -> None:
    labels = {"labels": ["feh", "M_H"], "cond_labels": ["M_H", "feh"]}
    found = OPTION_FILE.translate(settings(data=labels, train={"lambda_values": [1, 2]}))
    assert found.read["columns"] == ("fe_h", "m_h")
    assert found.model["labels"] == ("m_h", "fe_h")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"cond_labels": ["tef"]}}, "did you mean 'teff'"),
        ({"train": {"lambda_values": [1, 2]}}, "2 values for 4 labels"),
        ({"train": {"lambda_values": [float("nan")]}}, "lambda_values"),
        ({"train": {"lamda_values": [1]}}, "did you mean 'lambda_values'"),
        ({"modles": {}}, "did you mean 'models'"),
        ({"models": {"latent_size": 0}}, "latent_size"),
        ({"data": {1: 2}}, "does not know the option '1'"),
        ({"train": 3}, "'train'"),
    ],
)
def test_wrong_options_are_explained(changes: dict, words: str) -> None:
    whole = settings()
    for name, section in changes.items():
        both = isinstance(section, dict) and name in whole
        whole[name] = {**whole[name], **section} if both else section
    with pytest.raises(DraperError, match=words):
        OPTION_FILE.translate(whole)


def test_drapers_own_files_are_not_gandalfs() -> None:
    assert OPTION_FILE.recognises(settings())
    assert not OPTION_FILE.recognises({"latent": 3, "train": {"epochs": 2}, "read": {"unit": "nm"}})
    assert not OPTION_FILE.recognises(["data"])
