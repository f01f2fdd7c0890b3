"""``draper simulate`` as a user runs it."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import draper
from draper.cli import main
from draper.configs.simulators import PlanetsConfig
from draper.data.spectra import Spectra
from draper.simulate.survey import Survey


def test_stars_are_those_of_python(tmp_path: Path, capsys) -> None:
    out = tmp_path / "stars.h5"
    command = ["simulate", "stars", "-n", "300", "-o", str(out), "--preset", "gaia-rvs-800", "--seed", "4"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spectra"] == 300
    found, expected = draper.read(out), Survey("gaia-rvs-800").simulate(300, seed=4)
    assert np.array_equal(found.flux, expected.flux)
    assert np.array_equal(found.table["teff_true"], expected.table["teff_true"])


def test_stars_of_a_table(tmp_path: Path) -> None:
    first = Survey("ideal", population="box").simulate(3, seed=1)
    names = Survey("ideal").prior.names
    rows = [",".join(names)] + [",".join(repr(float(first.table[n][row])) for n in names) for row in range(3)]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    out = tmp_path / "stars.h5"
    labels = ["--labels", str(tmp_path / "labels.csv"), "--preset", "ideal"]
    assert main(["simulate", "stars", "-o", str(out), *labels]) == 0
    np.testing.assert_allclose(draper.read(out).flux, first.flux, atol=2e-6)


def test_planets(tmp_path: Path) -> None:
    out = tmp_path / "planets.h5"
    options = [
        "--instrument",
        "hst-wfc3-g141",
        "--clouds",
        "--haze",
        "--box",
        "exogan",
        "--star-radius",
        "0.8",
    ]
    assert main(["simulate", "planets", "-n", "20", "-o", str(out), *options]) == 0
    planets = draper.read(out)
    assert (len(planets), len(planets.grid), planets.quantity) == (20, 18, "transit depth")
    assert planets.table["planet_mass"].min() >= 0.8
    assert {"log_h2o", "log_cloud_top", "log_haze", "temperature"} <= set(planets.table)


def test_xp_of_a_table_without_magnitudes(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("teff,logg,[Fe/H],alpha_fe\n5777,4.44,0,0\n4700,2.5,-0.5,0.2\n")
    out = tmp_path / "xp.h5"
    arguments = ["--labels", str(tmp_path / "labels.csv"), "--preset", "gaia-xp-sampled", "--snr", "inf"]
    assert main(["simulate", "xp", "-o", str(out), *arguments]) == 0
    stars = draper.read(out)
    assert stars.flux.shape == (2, 343)
    assert stars.table["radius"][1] > 5 * stars.table["radius"][0]


def test_ratios(tmp_path: Path) -> None:
    out = tmp_path / "stars.h5"
    assert main(["simulate", "stars", "-n", "50", "-o", str(out), "--snr", "20,40"]) == 0
    snr = draper.read(out).table["snr"]
    assert snr.min() >= 20
    assert snr.max() <= 40
    assert main(["simulate", "stars", "-n", "2", "-o", str(tmp_path / "clean.h5"), "--snr", "inf"]) == 0
    assert "snr" not in draper.read(tmp_path / "clean.h5").table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stars"], "either a number of spectra or a table"),
        (["stars", "-n", "5", "--labels", "x.csv"], "one of the two"),
        (["stars", "-n", "0"], "nothing to simulate"),
        (["stars", "-n", "5", "--preset", "gaia"], "did you mean 'gaia-rvs'"),
        (["stars", "-n", "5", "--population", "cluster"], "galaxy"),
        (["stars", "--labels", "nowhere.csv"], "no such table"),
        (["planets", "-n", "5", "--instrument", "hst"], "hst-wfc3-g141"),
        (["planets", "-n", "5", "--box", "narrow"], "exogan"),
        (["galaxies", "-n", "5"], "galaxies"),
        (["xp", "-n", "5", "--preset", "gaia-px"], "gaia-xp"),
        (["xp", "-n", "5", "--snr", "200,20"], "no range of ratios"),
        (["stars", "-n", "5", "--snr", "20,inf"], "no range of ratios"),
        (["stars", "-n", "5", "--snr", "many"], "no range of ratios"),
        (["stars", "-n", "5", "--snr", "1,2,3"], "no range of ratios"),
        (["planets", "-n", "5", "--snr", "0"], "no range of ratios"),
        (["stars", "-n", "5", "--seed", "-1"], "a seed cannot be negative"),
        (["stars", "-n", "5", "--vsini", "-3"], "vsini cannot be negative"),
    ],
)
def test_wrong_use(tmp_path: Path, capsys, arguments: list[str], words: str) -> None:
    assert main(["simulate", *arguments, "-o", str(tmp_path / "x.h5")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_two_columns_of_one_label(tmp_path: Path, capsys) -> None:
    (tmp_path / "labels.csv").write_text("teff,logg,M_H,FeH,alpha_fe\n5777,4.44,0,0.1,0\n")
    out = tmp_path / "xp.h5"
    assert main(["simulate", "xp", "-o", str(out), "--labels", str(tmp_path / "labels.csv")]) == 2
    assert "'M_H' and 'FeH', both 'fe_h'" in capsys.readouterr().err
    assert not out.exists()


def test_a_file_for_one_spectrum_is_refused_at_once(tmp_path: Path, capsys, monkeypatch) -> None:
    blocks = []
    compute = Survey.compute
    monkeypatch.setattr(Survey, "compute", lambda *given: (blocks.append(given[-1]), compute(*given))[1])
    assert main(["simulate", "stars", "-n", "600", "-o", str(tmp_path / "stars.csv")]) == 2
    assert "holds one spectrum" in capsys.readouterr().err
    assert blocks == [0]


@pytest.mark.parametrize(("suffix", "number"), [("h5", signal.SIGTERM), ("npz", signal.SIGINT)])
def test_a_signal_stops_between_blocks_and_leaves_nothing(
    tmp_path: Path, capsys, monkeypatch, suffix: str, number: int
) -> None:
    compute = Survey.compute

    def interrupted(survey: Survey, labels: np.ndarray, seed: int, block: int) -> Spectra:
        if block == 1:
            os.kill(os.getpid(), number)
        return compute(survey, labels, seed, block)

    monkeypatch.setattr(Survey, "compute", interrupted)
    command = ["simulate", "stars", "-n", "5000", "-o", str(tmp_path / f"stars.{suffix}")]
    assert main([*command, "--preset", "gaia-rvs-800"]) == 128 + number
    assert "interrupted after 512 spectra; nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "text", "ends"),
    [(50, "50", (50, 50)), ((20, 200.5), "20,200.5", (20, 200.5)), (np.inf, "inf", (np.inf, np.inf))],
)
def test_ratios_of_python_are_those_of_the_command_line(given: object, text: str, ends: object) -> None:
    config = PlanetsConfig(snr=given)
    assert (
        config == PlanetsConfig(snr=text) == PlanetsConfig.from_json(json.loads(json.dumps(config.to_json())))
    )
    assert config.build().snr == ends


@pytest.mark.parametrize("command", ["stars", "planets", "xp"])
def test_help(command: str, capsys) -> None:
    assert main(["simulate", command, "--help"]) == 0
    assert f"draper simulate {command} -n" in capsys.readouterr().out
