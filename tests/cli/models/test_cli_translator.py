"""``draper lines`` as a user runs it, with a residual that is the same for all stars, and one that is not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table

from draper import Spectra, TrainConfig, load, read, write
from draper.cli import main
from draper.models.translator.anchored import number_of_features
from draper.models.translator.model import Translator
from draper.testing import LinearAutoencoder, made_spectra

TRAIN = TrainConfig(epochs=8, batch_size=32, learning_rate=1e-2, threads=1, progress="none")
LIST = "element,ion,wave_vac_A,loggf\nTi,1,8599.5,-1\nFe,1,8500,-2\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    data = Translator.example_data(200)
    few = data["observed"][:4]  # too few to leave some out: the residual is the same for all stars
    assert isinstance(few, Spectra)
    Translator(hidden=(16,)).fit(
        synthetic=data["synthetic"], observed=few, valid=0, train=TRAIN, out=folder / "few"
    )
    model = load(folder / "few")
    network = model.anchored
    network.mixture = torch.zeros(number_of_features(3, 1), 1)
    network.mixture[0], network.mixture[3] = 1.0, 0.5
    network.doubt = 0.01 * torch.eye(4)
    model.save(folder / "many")
    quick = TrainConfig(steps=1, batch_size=16, threads=1, progress="none")
    small = {**model.config.cycle_example}
    Translator(**small).fit(**Translator.example_data(60), train=quick, out=folder / "cycle")
    LinearAutoencoder(latent=3).fit(made_spectra(60), train=TRAIN.replace(epochs=1), out=folder / "linear")
    stars = Translator.example_spectra(20, seed=3)
    write(stars, folder / "stars.h5")
    write(Spectra(stars.grid, stars.flux, stars.ivar), folder / "unlabelled.h5")
    (folder / "list.csv").write_text(LIST)
    return folder


def test_a_missing_line_is_found_by_depth(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["lines", str(folder / "few"), "--lines", str(folder / "list.csv")]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["lines"]
    assert said["element"] == ["unknown"]
    assert said["wavelength"] == [pytest.approx(8600, abs=3)]
    assert said["known"] == ["Ti I"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "names no element" in text
    assert "Ti I 8599.50" in text


def test_its_element_is_found_by_its_response(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot, changes = (tmp_path / name for name in ("lines.csv", "lines.png", "changes.csv"))
    paths = ["-o", str(out), "--plot", str(plot), "--changes", str(changes)]
    command = ["lines", str(folder / "many"), "--lines", str(folder / "list.csv")]
    assert main([*command, str(folder / "stars.h5"), *paths]) == 0
    assert "Fe" in capsys.readouterr().out
    table = Table.read(out)
    row = np.argmax(table["height"])
    assert table["element"][row] == "Fe"
    assert table["wavelength"][row] == pytest.approx(8600, abs=3)
    assert plot.stat().st_size > 10_000
    assert changes.exists()
    assert main([*command, "--by-depth", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"]["element"] == ["unknown"]


def test_labels_of_unlabelled_spectra_are_fitted(folder: Path) -> None:
    model = load(folder / "few")
    given, fitted = (model.new_lines(read(folder / f"{name}.h5")) for name in ("stars", "unlabelled"))
    assert len(fitted) == len(given) == 1
    np.testing.assert_allclose(fitted.flux, given.flux, atol=0.02)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["cycle"], "the method cycle uses no labels"),
        (["linear"], "has no verb 'new_lines'"),
        (["few", "--q", "2"], "false discovery rate is not valid"),
        (["few", "--lines", "none.csv"], "no such table"),
        (["few", "--changes", "changes.csv"], "does not depend on abundances"),
        (["few", "-o", "lines.doc"], "unknown table format"),
        (["few", "-n", "1"], "Must be >= 2"),
    ],
)
def test_errors_are_plain(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lines", str(folder / command[0]), *command[1:]]) == 2
    assert text in capsys.readouterr().err
