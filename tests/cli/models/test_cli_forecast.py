"""``draper information`` as a user runs it, and the plot that it draws."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from draper import Grid, Spectra, TrainConfig, load
from draper.cli import main
from draper.errors import DraperError
from draper.models.emulator.model import Emulator
from draper.plots.gradients import plot_gradients
from draper.plots.style import save
from draper.testing import LinearAutoencoder, made_spectra

TRAIN = TrainConfig(epochs=30, batch_size=32, threads=1, matmul="highest", progress="none")
SUN = {"teff": 5777.0, "logg": 3.4, "fe_h": -0.5}
SET = ["--set", "teff=5777", "logg=3.4", "fe_h=-0.5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("information")
    clean = made_spectra(300, snr=1e6)
    clean = Spectra(clean.grid, clean.flux, table=clean.table, quantity=clean.quantity)
    Emulator(hidden=(32, 32)).fit(clean, train=TRAIN, out=folder / "emulator")
    LinearAutoencoder(latent=3).fit(made_spectra(100), train=TRAIN.replace(epochs=1), out=folder / "linear")
    return folder


def test_bounds_are_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(folder / "emulator")
    assert main(["information", model, *SET, "--snr", "5", "500", "--fit.rv", "0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["labels"]
    expected = load(model).information(SUN, snr=[5, 500], rv=0.0)
    assert list(said) == ["teff", "logg", "fe_h"]
    np.testing.assert_allclose(said["teff"]["bound"], expected["teff"])
    assert said["teff"]["measurable"] == expected.measurable()["teff"].tolist()
    out, plot = tmp_path / "bounds.csv", tmp_path / "gradients.png"
    assert main(["information", model, *SET, "--snr", "5", "500", "-o", str(out), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    assert "S/N 500" in text
    assert "too weak" in text
    assert "measured" in text
    assert len(Table.read(out)) == 2
    assert plot.stat().st_size > 10_000


def test_the_spectrograph_is_the_users(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(folder / "emulator")
    command = [
        "information",
        model,
        *SET,
        "rv=20",
        "--grid",
        "8470,8690,5",
        "--resolving-power",
        "900",
        "--json",
    ]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    grid = Grid.linear(8470, 8690, 5, medium="vacuum", resolving_power=900)
    expected = load(model).information({**SUN, "rv": 20.0}, snr=100, grid=grid)
    np.testing.assert_allclose(said["labels"]["rv"]["bound"], expected["rv"])
    assert said["labels"]["rv"]["value"] == [20]
    assert "45 px" in said["grid"]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["emulator"], "no labels are given"),
        (["emulator", "--set", "teff=5000"], "logg"),
        (["emulator", *SET, "--grid", "1,2"], "cannot read the grid"),
        (["emulator", *SET, "--resolving-power", "90000"], "cannot be sharper"),
        (["linear", *SET], "has no verb 'information'"),
    ],
)
def test_errors_are_plain(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], text: str
) -> None:
    assert main(["information", str(folder / command[0]), *command[1:]]) == 2
    assert text in capsys.readouterr().err


def test_the_plot_shows_each_label(folder: Path, tmp_path: Path) -> None:
    found = load(folder / "emulator").information(
        {**SUN, "teff": [5000.0, 6000.0]}, snr=100, masked=((8500, 8520),)
    )
    figure = plot_gradients(found, ["logg", "teff"], star=1)
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in panels] == ["log g", "Teff"]
    drawn = np.asarray(panels[1].lines[0].get_ydata())
    np.testing.assert_array_equal(np.isnan(drawn), found.ivar[1] == 0)
    np.testing.assert_allclose(
        drawn[found.ivar[1] > 0], 1e4 * found.gradients[1, found.ivar[1] > 0, 0], rtol=1e-6
    )
    gathered = [ax for ax in figure.axes if ax.get_ylim() == (0, 1.02)]
    assert len(gathered) == 2
    assert all(np.asarray(ax.lines[0].get_ydata())[-1] == 1 for ax in gathered)
    save(figure, tmp_path / "plot.png")
    empty = load(folder / "emulator").information(SUN, ivar=np.zeros(96))
    save(plot_gradients(empty), tmp_path / "empty.png")  # draws without a warning
    for names, star in ((["mg_fe"], 0), (["teff"], 2)):
        with pytest.raises(DraperError):
            plot_gradients(found, names, star=star)
