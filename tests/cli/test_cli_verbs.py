"""``draper predict``, ``generate``, ``encode``, ``evaluate`` and ``cite`` as a user runs them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from draper import Label, LabelSet, Spectra, TrainConfig, load, read
from draper.cli import main
from draper.configs.fit import FitConfig
from draper.data.io import write
from draper.models.emulator.model import Emulator
from draper.results.arrays import read_arrays
from draper.results.estimates import Estimates
from draper.testing import LinearAutoencoder, made_spectra

TRAIN = TrainConfig(
    epochs=30, batch_size=32, learning_rate=1e-2, threads=1, matmul="highest", progress="none"
)
LABELS = ("teff", "logg", "fe_h")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with two models, and spectra that they have not seen."""
    folder = tmp_path_factory.mktemp("verbs")
    clean = made_spectra(400, snr=1e6)
    clean = Spectra(clean.grid, clean.flux, table=clean.table, quantity=clean.quantity)
    Emulator(hidden=(32, 32)).fit(clean, train=TRAIN, out=folder / "emulator")
    LinearAutoencoder(latent=5, labels=LABELS, start="pca").fit(
        made_spectra(300), train=TRAIN, out=folder / "linear"
    )
    LinearAutoencoder(latent=3).fit(made_spectra(100), train=TRAIN.replace(epochs=1), out=folder / "bare")
    write(made_spectra(12, seed=9), folder / "test.h5")
    write(made_spectra(4, pixels=90), folder / "other.h5")
    return folder


def run(folder: Path, *command: str) -> int:
    return main([part.replace("@", f"{folder}/") for part in command])


def test_predict_writes_what_the_model_says(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "labels.ecsv"
    assert run(folder, "predict", "@linear", "@test.h5", "-o", str(out), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["spectra"], said["labels"]) == (12, list(LABELS))
    table = Table.read(out)
    estimates = load(folder / "linear").predict(made_spectra(12, seed=9))
    np.testing.assert_allclose(table["teff"], estimates["teff"], rtol=1e-6)
    assert str(table["teff"].unit) == "K"
    assert list(table["id"]) == list(estimates.ids)


def test_options_of_the_fit_reach_the_emulator(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "labels.csv"
    command = ["predict", "@emulator", "@test.h5", "-o", str(out), "--json"]
    options = ["--fit.rv", "0", "--fit.fixed.teff", "5000", "--fit.windows", "8470", "8560", "8600", "8690"]
    assert run(folder, *command, *options) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["labels"]) == {"logg", "fe_h"}
    expected = load(folder / "emulator").predict(
        made_spectra(12, seed=9), rv=0.0, fixed={"teff": 5000.0}, windows=((8470, 8560), (8600, 8690))
    )
    np.testing.assert_allclose(Table.read(out)["logg"], expected["logg"], rtol=1e-4)
    assert run(folder, *command, "--overwrite", "--fit.priors", '{"logg": [2.5, 0.001]}') == 0
    np.testing.assert_allclose(Table.read(out)["logg"], 2.5, atol=0.05)


def test_predict_writes_the_posterior(folder: Path, tmp_path: Path, capsys) -> None:
    out, posterior = tmp_path / "labels.csv", tmp_path / "posterior.h5"
    command = ["predict", "@emulator", "@test.h5", "-o", str(out), "--fit.rv", "0"]
    assert run(folder, *command, "--posterior", str(posterior)) == 0
    assert str(posterior) in "".join(capsys.readouterr().out.split())
    held = Estimates.load(posterior)
    expected = load(folder / "emulator").predict(made_spectra(12, seed=9), rv=0.0)
    np.testing.assert_allclose(held.covariance, expected.covariance, rtol=1e-3, atol=1e-9)
    assert held.ids.tolist() == expected.ids.tolist()


def test_predict_writes_samples_as_a_table(
    folder: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(self: LinearAutoencoder, spectra: Spectra, *_: object, **__: object) -> Estimates:
        draws = np.random.default_rng(0).standard_normal((len(spectra), 5, 3))
        return Estimates.from_samples(LabelSet([Label(name) for name in LABELS]), draws, spectra.ids)

    monkeypatch.setattr(LinearAutoencoder, "predict", predict)
    out, posterior = tmp_path / "labels.csv", tmp_path / "samples.csv"
    assert run(folder, "predict", "@linear", "@test.h5", "-o", str(out), "--posterior", str(posterior)) == 0
    assert str(posterior) in "".join(capsys.readouterr().out.split())
    held = Table.read(posterior)
    assert (held.colnames, len(held)) == (["id", "draw", *LABELS], 60)


def test_plots_of_predictions(folder: Path, tmp_path: Path, capsys) -> None:
    for model in ("linear", "emulator"):
        command = ["predict", f"@{model}", "@test.h5", "-o", str(tmp_path / f"{model}.csv"), "--json"]
        assert run(folder, *command, "--plot", str(tmp_path / f"{model}.png")) == 0
        drawn = json.loads(capsys.readouterr().out)["plots"]
        assert len(drawn) == 3
        assert all(Path(path).stat().st_size > 10_000 for path in drawn)


def test_plots_pass_over_spectra_without_estimates(folder: Path, tmp_path: Path, capsys) -> None:
    stars = read(folder / "test.h5")[:4]
    for name, empty in (("some", [0, 2]), ("none", [0, 1, 2, 3])):
        ivar = np.array(stars.ivar)
        ivar[empty] = 0
        write(replace(stars, ivar=ivar), tmp_path / f"{name}.h5")
        command = ["predict", "@linear", str(tmp_path / f"{name}.h5"), "-o", str(tmp_path / f"{name}.csv")]
        assert run(folder, *command, "--plot", str(tmp_path / f"{name}.png")) == 0
    assert "no spectrum has an estimate" in capsys.readouterr().out
    assert run(folder, "evaluate", "@linear", str(tmp_path / "none.h5"), "-o", str(tmp_path / "r.json")) == 0
    assert [path.name for path in sorted(tmp_path.glob("*.png"))] == ["some-2.png", "some.png"]


def test_generate_of_labels(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "made.h5"
    values = ["--set", "Teff=5000,6000,9000", "logg=2.5", "[Fe/H]=-1"]
    command = [
        "generate",
        "@emulator",
        "-o",
        str(out),
        *values,
        "--rv",
        "30",
        "--plot",
        str(tmp_path / "p.png"),
    ]
    assert run(folder, *command) == 0
    assert "1 lie outside" in capsys.readouterr().out
    made = read(out)
    expected = load(folder / "emulator").generate(
        {"teff": [5000, 6000, 9000], "logg": 2.5, "fe_h": -1.0}, rv=30.0
    )
    np.testing.assert_allclose(made.flux, expected.flux, rtol=1e-6)
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_generate_of_a_table_on_other_pixels(folder: Path, tmp_path: Path, capsys) -> None:
    Table({"Teff": [5000.0, 6000.0], "logg": [2.0, 4.0], "feh": [-1.0, 0.0]}).write(tmp_path / "labels.csv")
    out = tmp_path / "made.h5"
    command = ["generate", "@emulator", "-o", str(out), "--labels", str(tmp_path / "labels.csv"), "--json"]
    assert run(folder, *command, "--grid", "@other.h5") == 0
    assert json.loads(capsys.readouterr().out)["spectra"] == 2
    made = read(out)
    assert made.grid.matches(made_spectra(1, pixels=90).grid)
    assert made.table["teff"].tolist() == [5000, 6000]


def test_generate_of_spectra(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.npz"
    assert run(folder, "generate", "@linear", "@test.h5", "-o", str(out)) == 0
    expected = load(folder / "linear").generate(made_spectra(12, seed=9))
    np.testing.assert_allclose(read(out).flux, expected.flux, rtol=1e-6)


def test_encode(folder: Path, tmp_path: Path) -> None:
    expected = load(folder / "linear").encode(made_spectra(12, seed=9))
    assert run(folder, "encode", "@linear", "@test.h5", "-o", str(tmp_path / "z.npz")) == 0
    with np.load(tmp_path / "z.npz") as arrays:
        np.testing.assert_allclose(arrays["latent"], expected, rtol=1e-5)
        assert arrays["id"].tolist() == made_spectra(12, seed=9).ids.tolist()
    assert run(folder, "encode", "@linear", "@test.h5", "-o", str(tmp_path / "z.h5")) == 0
    np.testing.assert_allclose(read_arrays(tmp_path / "z.h5")["latent"], expected, rtol=1e-5)
    assert run(folder, "encode", "@linear", "@test.h5", "-o", str(tmp_path / "z.csv"), "--json") == 0
    np.testing.assert_allclose(Table.read(tmp_path / "z.csv")["latent_4"], expected[:, 4], rtol=1e-5)


@pytest.mark.parametrize("model", ["linear", "emulator", "bare"])
def test_evaluate_works_for_every_model(folder: Path, tmp_path: Path, capsys, model: str) -> None:
    report = tmp_path / "report.html"
    assert run(folder, "evaluate", f"@{model}", "@test.h5", "-o", str(report), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["labels"]) == (set() if model == "bare" else set(LABELS))
    assert said["spectra"]["number"] == 12
    assert report.read_text().startswith("<!DOCTYPE html>")


def test_evaluate_speaks_plainly(folder: Path, tmp_path: Path, capsys) -> None:
    data = write(made_spectra(300), tmp_path / "seen.h5")
    assert run(folder, "evaluate", "@linear", str(data), "-o", str(tmp_path / "r.json")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the model was trained on" in said
    assert "teff bias" in said


def test_cite(folder: Path, capsys) -> None:
    assert run(folder, "cite", "@emulator") == 0
    assert capsys.readouterr().out.startswith("@article{ting2019payne")
    assert run(folder, "cite", "@linear", "--json") == 0
    assert "draper" in json.loads(capsys.readouterr().out)["bibtex"]


@pytest.mark.parametrize("verb", ["predict", "generate", "encode", "evaluate"])
def test_help_shows_the_options_of_the_named_model(folder: Path, capsys, verb: str) -> None:
    options = {"predict": "--fit.rv-limit", "evaluate": "--fit.rv-limit", "generate": "--vsini"}
    helps = {}
    for model in ("emulator", "linear"):
        assert run(folder, verb, f"@{model}", "--help") == 0
        helps[model] = capsys.readouterr().out
    assert run(folder, verb, "--help", "@emulator") == 0, "the order does not matter"
    assert capsys.readouterr().out == helps["emulator"]
    assert run(folder, verb, "--help") == 0
    plain = capsys.readouterr().out
    assert f"draper {verb} ARTIFACT --help" in plain
    assert plain == helps["linear"], "which has no options"
    if verb in options:
        assert options[verb] in helps["emulator"]
        assert "Options of this model (Emulator)" in helps["emulator"]
    else:
        assert helps["emulator"] == plain


def test_help_shows_defaults(folder: Path, capsys) -> None:
    assert run(folder, "predict", "@emulator", "--help") == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    help_text = FitConfig.model_fields["rv_limit"].description or "none"
    assert f"{' '.join(help_text.split())} [default: 500.0]" in text


SUN = ["--set", "teff=5777", "logg=4.44", "fe_h=0"]


def test_the_example_of_the_help_works_with_the_built_in_emulator(tmp_path: Path, capsys) -> None:
    out = tmp_path / "sun.h5"
    assert main(["generate", "builtin:rvs-emulator", *SUN, "--vsini", "5", "-o", str(out)]) == 0
    said = capsys.readouterr().err
    assert said.startswith("note: not given, and assumed: vmic = 1.0")
    assert "mg_fe = 0, si_fe = 0" in said
    labels = {"teff": 5777.0, "logg": 4.44, "fe_h": 0.0}
    expected = load("builtin:rvs-emulator").generate(labels, vsini=5.0)
    np.testing.assert_allclose(read(out).flux, expected.flux, rtol=1e-6)
    assert main(["generate", "builtin:rvs-emulator", *SUN, "-o", str(out), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["assumed"]["mg_fe"] == "0"


@pytest.mark.parametrize(("verb", "end"), [("generate", " -o {out}"), ("information", "")])
def test_missing_labels_end_with_the_whole_command(tmp_path: Path, capsys, verb: str, end: str) -> None:
    out = tmp_path / "sun.h5"
    command = [verb, "builtin:rvs-emulator", "--set", "teff=5777", "mg_fe=0.1", *end.format(out=out).split()]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "not given: logg, fe_h\n  given:    teff, mg_fe\n  expected: teff, logg, fe_h\n" in said
    hint = f"draper {verb} builtin:rvs-emulator --set teff=5777 mg_fe=0.1 logg=... fe_h=..."
    assert said.endswith(f"hint:     {hint}{end.format(out=out)}\n")


def test_generate_takes_one_value_for_each(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.h5"
    stars = ["--set", "teff=5000,6000", "logg=2.5", "fe_h=-1"]
    assert run(folder, "generate", "@emulator", "-o", str(out), *stars, "--vsini", "0,150") == 0
    expected = load(folder / "emulator").generate(
        {"teff": [5000, 6000], "logg": 2.5, "fe_h": -1.0}, vsini=np.array([0.0, 150.0])
    )
    np.testing.assert_allclose(read(out).flux, expected.flux, rtol=1e-6)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["predict", "@linear", "@nothing.h5", "-o", "#t.csv"], "no such file"),
        (["predict", "@nothing", "@test.h5", "-o", "#t.csv"], "no model here"),
        (["predict", "@linear", "-o", "#t.csv"], "no data were named"),
        (["predict", "@linear", "@test.h5", "-o", "#t.txt"], "unknown table format"),
        (["predict", "@linear", "@test.h5", "-o", "#no/t.csv"], "folder does not exist"),
        (["predict", "@linear", "@other.h5", "-o", "#t.csv"], "not on the model's grid"),
        (["predict", "@linear", "@test.h5", "-o", "#t.csv", "--fit.rv", "0"], "options of this model: none"),
        (["predict", "@emulator", "@test.h5", "-o", "#t.csv", "--vsini", "0"], "--fit.rv, --fit.rv-limit"),
        (["predict", "@nothing", "@test.h5", "-o", "#t.csv", "--fit.rv", "0"], "no model here"),
        (
            ["predict", "@emulator", "@test.h5", "-o", "#t.csv", "--fit.rv", "fast"],
            "'free', or a valid number",
        ),
        (["predict", "@bare", "@test.h5", "-o", "#t.csv"], "without labels"),
        (["predict", "@emulator", "@test.h5", "-o", "#t.csv", "--fit.fixed.tef", "5"], "teff"),
        (["predict", "@emulator", "@test.h5", "-o", "#t.csv", "--fit.windws", "5"], "--fit.windows"),
        (["predict", "@linear", "@test.h5", "-o", "#t.csv", "--plot", "#p.docx"], ".png"),
        (["predict", "@linear", "@test.h5", "-o", "#t.csv", "--posterior", "#p.csv"], ".npz, .h5"),
        (
            ["predict", "@linear", "@test.h5", "-o", "#t.csv", "--posterior", "#no/p.h5"],
            "folder does not exist",
        ),
        (["encode", "@emulator", "@test.h5", "-o", "#z.npz"], "has no verb 'encode'"),
        (["encode", "@linear", "@test.h5", "-o", "#z.xyz"], ".npz"),
        (["generate", "@emulator", "@test.h5", "-o", "#o.h5"], "from labels, not from spectra"),
        (["generate", "@emulator", "-o", "#o.h5"], "--set teff=..."),
        (["generate", "@emulator", "-o", "#o.h5", "--set", "tef=5000"], "did you mean 'teff'"),
        (["generate", "@emulator", "-o", "#o.h5", "--set", "teff=hot"], "NAME=VALUE"),
        (["generate", "@emulator", "-o", "#o.h5", "--set", "teff=5000"], "logg"),
        (["generate", "@linear", "-o", "#o.h5", "--set", "teff=5000"], "takes no labels"),
        (["generate", "@linear", "@test.h5", "-o", "#o.h5", "--vsini", "3"], "options of this model: none"),
        (["generate", "@linear", "@test.h5", "-o", "#o.h5", "--grid", "@other.h5"], "own pixels alone"),
        (["generate", "@emulator", "-o", "#o.h5", "--vsini", "5,x", "--set", "teff=5000"], "a valid number"),
        (["evaluate", "@linear", "@test.h5", "-o", "#r.pdf"], ".html"),
        (["evaluate", "@linear", "@test.h5", "-o", "#r.html", "--snr", "30"], "noise already"),
        (["evaluate", "@linear", "@test.h5", "-o", "#r.html", "--fit.continuum", "2"], "--fit.continuum"),
        (["cite", "@nothing"], "no model here"),
    ],
)
def test_what_cannot_be_is_refused(
    folder: Path, tmp_path: Path, capsys, command: list[str], words: str
) -> None:
    assert run(folder, *(part.replace("#", f"{tmp_path}/") for part in command)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------- several spectra a star


@pytest.fixture
def arms(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A blue and a red arm of six stars; the red one lacks the first two, and its order is another."""
    stars = made_spectra(6, seed=9, snr=200)
    middle = float(stars.grid.vacuum[60])
    blue, red = stars.cut([(0, middle)]), stars.cut([(middle + 1, 1e6)])
    return write(blue, tmp_path / "blue.h5"), write(red[[5, 3, 4, 2]], tmp_path / "red.h5")


def test_spectra_that_share_an_id_are_fitted_together(folder: Path, arms, tmp_path: Path, capsys) -> None:
    out = tmp_path / "stars.npz"
    command = ["predict", "@emulator", *map(str, arms), "-o", str(out), "--fit.velocities", "one", "--json"]
    assert run(folder, *command, "--group-by", "id") == 0
    assert json.loads(capsys.readouterr().out)["spectra"] == 6
    found, model = Estimates.load(out), load(folder / "emulator")
    blue, red = (read(path) for path in arms)
    assert found.ids.tolist() == blue.ids.tolist()
    assert found.columns["exposures"].tolist() == [1, 1, 2, 2, 2, 2]
    both = model.predict([blue[2:], red[[3, 1, 2, 0]]], velocities="one")
    np.testing.assert_allclose(found.median[2:], both.median, rtol=1e-9)
    np.testing.assert_allclose(found.covariance[2:], both.covariance, rtol=1e-6)
    np.testing.assert_allclose(found.median[:2], model.predict(blue[:2]).median, rtol=1e-9)
    assert run(folder, *command, "--jointly", "--overwrite") == 0
    np.testing.assert_array_equal(Estimates.load(out).median, found.median)


def test_velocities_of_exposures_have_numbers_and_rows_lack_those_of_others(
    folder: Path, arms, tmp_path: Path
) -> None:
    out = tmp_path / "stars.csv"
    assert run(folder, "predict", "@emulator", *map(str, arms), "-o", str(out), "--group-by", "id") == 0
    table = Table.read(out)
    assert np.isnan(np.ma.filled(table["rv_2"], np.nan)).tolist() == [True, True, False, False, False, False]
    assert np.isfinite(np.ma.filled(table["rv"], np.nan)).tolist() == [True, True, False, False, False, False]


def test_files_of_one_spectrum_each_are_of_one_star(folder: Path, arms, tmp_path: Path) -> None:
    blue, red = read(arms[0])[2], read(arms[1])[3]
    files = [write(blue, tmp_path / "b.h5"), write(red.with_columns(id=["another"]), tmp_path / "r.h5")]
    out = tmp_path / "star.npz"
    assert run(folder, "predict", "@emulator", *map(str, files), "-o", str(out), "--jointly") == 0
    (star,) = Estimates.load(out).ids
    assert star == blue.ids[0]
    both = load(folder / "emulator").predict([blue, red])
    np.testing.assert_allclose(Estimates.load(out).median, both.median, rtol=1e-9)


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        ("@linear", ["--group-by", "id"], "predicts labels of one spectrum at a time"),
        ("@emulator", ["--group-by", "star"], "no column 'star'"),
        ("@emulator", ["--group-by", "id", "--plot", "x.png"], "--group-by does not go with --plot"),
        ("@emulator", ["--group-by", "id", "--jointly"], "--group-by does not go with --jointly"),
    ],
)
def test_what_cannot_be_fitted_together(folder: Path, tmp_path: Path, capsys, model, more, words) -> None:
    assert run(folder, "predict", model, "@test.h5", "-o", str(tmp_path / "x.csv"), *more) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------- bad files


@pytest.mark.parametrize("together", [[], ["--group-by", "id"]])
def test_predict_skips_bad_files(folder: Path, tmp_path: Path, capsys, together) -> None:
    bad, out = tmp_path / "bad.fits", tmp_path / "labels.csv"
    bad.write_bytes(b"\x00\x01\xfe" * 40)
    command = ["predict", "@emulator", str(bad), "@test.h5", "-o", str(out), *together]
    assert run(folder, *command) == 2
    assert not out.exists()
    capsys.readouterr()
    assert run(folder, *command, "--skip-bad", "--json") == 4
    said, errors = capsys.readouterr()
    assert json.loads(said)["spectra"] == len(Table.read(out)) == 12
    assert json.loads(said)["skipped"] == [
        {"name": str(bad), "reason": "no reader recognises this binary file"}
    ]
    assert "1 file was skipped" in errors
    assert "bad.fits: no reader" in errors
    assert run(folder, "predict", "@emulator", str(bad), "-o", str(out), "--skip-bad") == 2
