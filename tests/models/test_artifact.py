"""What model.json must be before a model is made of it, and the checksum that it carries."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import draper
from draper.errors import DraperError
from draper.models import artifact
from draper.testing import QUICK, LinearAutoencoder, made_spectra

VERSION_2 = Path(__file__).parent / "version2" / "linear"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = LinearAutoencoder(latent=4, labels=["teff", "logg"]).fit(made_spectra(60), train=QUICK)
    return model.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def held(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


def put(folder: Path, description: dict[str, Any], *, signed: bool = True) -> None:
    """Write a description, by default with a checksum that fits, as a forger would."""
    if signed:
        description = {**description, "sha256": artifact.checksum(description)}
    (folder / "model.json").write_text(json.dumps(description))


REQUIRED = (
    "format", "version", "model", "complete", "config", "grid", "labels", "transforms", "weights_sha256",
    "made", "training",
)  # fmt: skip


@pytest.mark.parametrize("entry", REQUIRED)
def test_entries_that_are_missing_or_of_another_type_are_named(folder: Path, entry: str) -> None:
    whole = held(folder)
    for value in (None, "x", 1.5, -1, [1], {"a": 1}):
        if type(value) is not type(whole[entry]) or entry in ("version", "labels", "transforms"):
            put(folder, {**whole, entry: value})
            with pytest.raises(DraperError, match=f"damaged[\\s\\S]*{entry}"):
                draper.load(folder)
    whole.pop(entry)
    put(folder, whole)
    with pytest.raises(DraperError, match=f"damaged[\\s\\S]*{entry}"):
        draper.load(folder)


def test_unknown_entries_and_deep_nesting_are_refused(folder: Path) -> None:
    put(folder, {**held(folder), "hook": "os:system"})
    with pytest.raises(DraperError, match="hook"):
        draper.load(folder)
    (folder / "model.json").write_text('{"version": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(DraperError, match="damaged"):
        draper.load(folder)


def test_labels_that_change_places_are_noticed(folder: Path) -> None:
    description = held(folder)
    first, second = description["labels"]
    first["name"], second["name"] = second["name"], first["name"]
    put(folder, description, signed=False)
    with pytest.raises(DraperError, match="changed since draper wrote it"):
        draper.load(folder)
    with pytest.raises(DraperError, match="changed since draper wrote it"):
        artifact.describe(folder)


def test_the_checksum_is_of_the_content_not_of_its_spacing(folder: Path) -> None:
    description = held(folder)
    assert description["sha256"] == artifact.checksum(description)
    (folder / "model.json").write_text(json.dumps(dict(reversed(description.items())), indent=4))
    assert draper.load(folder).labels.names == ("teff", "logg")


def test_only_registered_models_are_imported(folder: Path) -> None:
    (folder / "planted.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(folder))
    try:
        for name in ("planted:Config", "planted", "draper.configs.linear:LinearConfig"):
            put(folder, {**held(folder), "model": name})
            with pytest.raises(DraperError, match="there is no model called"):
                draper.load(folder)
    finally:
        sys.path.remove(str(folder))
    assert "planted" not in sys.modules


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"latent": 10**30}},
        {"labels": [{"name": "teff"}]},
        {"labels": [{"name": "teff", "unit": "K", "low": "a", "high": None, "scale": "linear"}]},
        {"grid": {"wavelength": "x"}},
        {"grid": {"wavelength": [[1.0], [2.0, 3.0]]}},
        {"transforms": [{"kind": "standardize"}]},
        {"transforms": [{"kind": ["standardize"]}]},
        {"transforms": [{}]},
    ],
)
def test_what_does_not_fit_together_is_refused(folder: Path, change: dict[str, Any]) -> None:
    put(folder, {**held(folder), **change})
    with pytest.raises(DraperError):
        draper.load(folder)


def test_a_model_of_version_2_loads_and_its_weights_are_checked(tmp_path: Path) -> None:
    """It has no checksum of its description: what was renamed there cannot be noticed."""
    assert "sha256" not in held(VERSION_2)
    model = draper.load(VERSION_2)
    again = draper.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.encode(made_spectra(3)), model.encode(made_spectra(3)))
    assert held(tmp_path / "model")["version"] == artifact.VERSION
    put(tmp_path / "model", {**held(VERSION_2), "weights_sha256": "0" * 64}, signed=False)
    with pytest.raises(DraperError, match="not of one run"):
        draper.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["rvs-emulator", "planets"])
def test_packed_models_carry_a_checksum(name: str) -> None:
    assert artifact.describe(f"builtin:{name}")["sha256"]
