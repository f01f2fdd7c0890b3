"""GANDALF's results folders: both parts, named labels, and not a pickle opened."""

import pickle

import numpy as np
import pytest

import draper
from draper.errors import DraperError

VACUUM = {"unit": "angstrom", "medium": "vacuum"}
WAVE = np.array([15168.0, 15169.0, 15170.0])


@pytest.fixture
def results(tmp_path):
    """A run of three spectra, two of them for training, as ``results/data/ID`` holds it."""
    folder = tmp_path / "20250211"
    folder.mkdir()
    flux = np.arange(9.0).reshape(3, 3)
    for part, rows in (("train", slice(0, 2)), ("test", slice(2, 3))):
        arrays = {
            "X": flux[rows],
            "params": np.array([[4000.0, 1.0], [5000.0, 2.0], [6000.0, 3.0]])[rows],
            "cond_params": np.zeros((3, 1))[rows],
            "z": np.zeros((3, 25))[rows],
            "decoded": flux[rows],
            "ids": np.array(["2M1", "2M2", "2M3"])[rows],
        }
        for name, values in arrays.items():
            np.save(folder / f"{name}_{part}.npy", values)
    np.save(folder / "axis_labels.npy", WAVE)
    np.save(folder / "params_names.npy", ["teff", "m_h"])
    np.save(folder / "cond_params_names.npy", ["teff"])
    for name in ("X_scaler.pkl", "param_scaler.pkl"):
        (folder / name).write_bytes(pickle.dumps(None))
    return folder


def test_both_parts_are_read(results):
    spectra = draper.read(results, **VACUUM)
    assert spectra.meta["format"] == "gandalf-results"
    assert spectra.flux.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert spectra.ids.tolist() == ["2M1", "2M2", "2M3"]
    assert spectra.table["part"].tolist() == ["train", "train", "test"]
    assert spectra.table["teff"].tolist() == [4000, 5000, 6000]
    assert spectra.table["fe_h"].tolist() == [1, 2, 3]
    test = draper.read(results, select=("part=test",), **VACUUM)
    assert test.ids.tolist() == ["2M3"]


def test_names_of_the_file_come_before_the_hint(results):
    assert "fe_h" in draper.read(results, columns=("a", "b"), **VACUUM).table
    (results / "params_names.npy").unlink()
    assert draper.read(results, columns=("a", "b"), **VACUUM).table["b"].tolist() == [1, 2, 3]


def test_one_part_alone_and_no_ids(results):
    (results / "X_train.npy").unlink()
    assert draper.read(results, **VACUUM).table["part"].tolist() == ["test"]
    (results / "ids_test.npy").unlink()
    assert draper.read(results, **VACUUM).ids.tolist() == ["20250211-test-0"]


def test_ranks_are_not_taken_for_fluxes(results):
    (results / "X_scaler.pkl").write_bytes(pickle.dumps({"quantiles": [0, 1]}))
    with pytest.raises(DraperError, match="ranks of pixels"):
        draper.read(results, **VACUUM)
    assert len(draper.read(results, quantity="normalised flux", **VACUUM)) == 3


def test_scalers_stay_closed(results, monkeypatch):
    (results / "param_scaler.pkl").write_bytes(b"not a pickle at all")
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    assert len(draper.read(results, **VACUUM)) == 3


@pytest.mark.parametrize("name", ["params_names", "ids_test", "params_train", "X_train", "axis_labels"])
def test_an_array_that_needs_pickle_is_refused_by_name(results, name):
    values = np.load(results / f"{name}.npy")
    np.save(results / f"{name}.npy", values.astype(object), allow_pickle=True)
    with pytest.raises(DraperError, match=rf"{name}.npy[\s\S]*what needs pickle is never read"):
        draper.read(results, **VACUUM)


def test_ids_in_bytes(results):
    np.save(results / "ids_train.npy", np.array([b"2M1", b"2M2"]))
    assert draper.read(results, **VACUUM).ids.tolist() == ["2M1", "2M2", "2M3"]


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("ids_test", np.array(["a", "b"]), "'id' does not have one value"),
        ("params_test", np.zeros((5, 2)), "one row for each spectrum"),
        ("params_names", np.array(["teff"]), "2 label columns and 1 names"),
        ("X_train", np.zeros(3), "X_train.npy has two axes"),
        ("X_test", np.zeros((1, 2)), "differ in length"),
    ],
)
def test_wrong_arrays_are_explained(results, name, values, words):
    np.save(results / f"{name}.npy", values)
    with pytest.raises(DraperError, match=words):
        draper.read(results, **VACUUM)


@pytest.mark.parametrize(("name", "first"), [("gandalf", "X.npy"), ("gandalf-results", "X_train.npy")])
def test_a_file_is_no_folder(results, name, first):
    with pytest.raises(DraperError, match=f"holds no {first}"):
        draper.read(results / "axis_labels.npy", format=name, **VACUUM)
