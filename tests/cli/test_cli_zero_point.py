"""``draper zero-point``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from draper.cli import main
from draper.data.io import write
from draper.data.spectra import Spectra
from draper.models.emulator.model import Emulator
from draper.testing import made_spectra

FIT = ("--fit.rv", "0", "--fit.jitter", "fit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from draper import TrainConfig

    folder = tmp_path_factory.mktemp("zero-point")
    train = TrainConfig(epochs=60, batch_size=64, threads=1, progress="none")
    Emulator(hidden=(32, 32)).fit(made_spectra(400, snr=1e6), train=train).save(folder / "model")
    stars: Spectra = made_spectra(12, snr=200, seed=5)
    write(stars, folder / "stars.h5")
    rows = [f"{value + 100}" for value in stars.table["teff"]]
    (folder / "known.csv").write_text("\n".join(["teff", *rows]) + "\n")
    return folder


def test_labels_that_are_known_become_the_zero_point(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, known = folder / "moved", folder / "known.csv"
    command = ["zero-point", str(folder / "model"), str(folder / "stars.h5"), *FIT, "-o", str(out)]
    assert main([*command, "--labels", str(known), "--no-lines"]) == 0
    said = capsys.readouterr().out
    assert "written to" in said
    table = folder / "fitted.csv"
    assert main(["predict", str(out), str(folder / "stars.h5"), *FIT, "-o", str(table)]) == 0
    fitted = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding="utf-8")
    truth = np.genfromtxt(known, names=True)["teff"]
    assert abs(np.median(fitted["teff"] - truth)) < 60
    assert fitted["zero_point"][0].endswith("stars (labels)")
    capsys.readouterr()
    assert main([*command, "--labels", str(known), "--json", "--overwrite"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["lines"] is True
    assert facts["labels"]["teff"]["before"] == pytest.approx(-100, abs=40)


def test_what_is_no_zero_point_is_a_usage_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stars, model = str(folder / "stars.h5"), str(folder / "model")
    for command, word in (
        (["builtin:planets", stars], "no verb 'zero_point'"),
        ([model], "no data were named"),
        ([model, stars, "--sun", "--set", "teff=5777"], "labels of the Sun are known"),
        ([model, stars, "--set", "mass=1"], "no such label"),
        ([model, stars, "--set", "teff=90000"], "within the labels of the model"),
    ):
        assert main(["zero-point", *command, "-o", str(folder / "new"), *FIT[:2]]) == 2
        assert word in capsys.readouterr().err
    assert not (folder / "new").exists()
