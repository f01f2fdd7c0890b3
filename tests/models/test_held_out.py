"""Training ends with held-out errors beside those of the mean, and with a warning where it is as good."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import draper
from draper.errors import TrainingWarning
from draper.models.artifact import CARD, describe
from draper.models.held_out import LEAST, compared, spectrum_errors
from draper.registry import targets
from draper.testing import QUICK, LinearAutoencoder, made_spectra
from draper.testing.checks import fitted

LABELS = ("teff", "logg")


def shuffled(spectra: draper.Spectra, name: str) -> draper.Spectra:
    """Return spectra with one label of other stars."""
    return spectra.with_columns(**{name: np.random.default_rng(0).permutation(spectra.table[name])})


# The translator takes half a minute; it is tested with its anchors.
@pytest.mark.parametrize("name", sorted({*targets()} - {"translator"}))
def test_every_model_measures_what_it_is_made_for(name: str) -> None:
    model = fitted(name)
    errors = model.training["held_out_errors"]
    assert set(errors) <= {*model.labels.names, "labels", "spectra"}
    assert errors
    for of in errors.values():
        assert of["number"] >= LEAST
        assert of["rms"] > 0
        assert of["mean"] > 0
        assert isinstance(of["is_better"], bool)


def test_a_label_that_spectra_do_not_tell_is_warned_of(tmp_path: Path) -> None:
    model = LinearAutoencoder(latent=4, labels=LABELS, start="pca")
    with pytest.warns(
        TrainingWarning, match=r"no better than the mean \(rms error of logg \S+ against \S+\)"
    ):
        model.fit(shuffled(made_spectra(400), "logg"), train=QUICK, out=tmp_path / "model")
    errors = model.training["held_out_errors"]
    assert errors["teff"]["rms"] < 0.5 * errors["teff"]["mean"]
    assert describe(tmp_path / "model")["training"]["held_out_errors"] == errors
    assert "Warning: on 40 held-out objects" in (tmp_path / "model" / CARD).read_text()
    with pytest.warns(TrainingWarning, match="logg"):  # a complete run says it again
        LinearAutoencoder(latent=4, labels=LABELS, start="pca").fit(
            shuffled(made_spectra(400), "logg"), train=QUICK, out=tmp_path / "model", resume=True
        )


def test_a_good_model_is_not_warned_of() -> None:
    model = LinearAutoencoder(latent=4, labels=LABELS, start="pca")
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        model.fit(made_spectra(400), train=QUICK)
    assert model.training["warnings"] == []


def test_without_held_out_objects_nothing_is_said() -> None:
    model = LinearAutoencoder(latent=4, labels=LABELS).fit(made_spectra(100), valid=0, train=QUICK)
    assert "held_out_errors" not in model.training


def test_few_or_equal_values_are_not_compared() -> None:
    truth = np.random.default_rng(0).normal(size=(LEAST, 1))
    assert compared(truth, truth)["rms"] == 0
    assert compared(truth, truth)["is_better"]
    assert compared(truth[1:], truth[1:]) == {}
    missing = truth.copy()
    missing[0] = np.nan
    assert compared(truth, missing) == compared(missing, truth) == {}
    assert compared(truth, np.ones_like(truth)) == {}


def test_the_mean_is_that_of_the_other_objects() -> None:
    """So that noise alone makes no model worse than the mean: here both know nothing."""
    truth = np.random.default_rng(0).normal(size=(LEAST, 5000))
    found = compared(np.zeros_like(truth), truth)
    assert found["rms"] == pytest.approx(1, rel=0.02)
    others = [np.delete(truth, row, axis=0).mean(axis=0) for row in range(LEAST)]
    assert found["mean"] == pytest.approx(np.sqrt(np.mean((truth - others) ** 2)))


def test_bad_pixels_of_either_spectrum_do_not_count() -> None:
    spectra = made_spectra(20)
    flux, ivar = np.array(spectra.flux), np.array(spectra.ivar)
    flux[:, 3], ivar[:, 3] = 1e6, 0
    bad = draper.Spectra(spectra.grid, flux, ivar)
    assert spectrum_errors(spectra, bad)["spectra"]["rms"] == 0
    assert spectrum_errors(bad, spectra)["spectra"]["rms"] == 0
    assert spectrum_errors(spectra, None) == {}


def test_json_and_the_command_line_say_it_in_one_line(tmp_path: Path, capsys) -> None:
    from draper.cli import main
    from draper.data.io import write

    data = write(shuffled(made_spectra(400), "logg"), tmp_path / "stars.h5")
    options = ["--labels", *LABELS, "--start", "pca", "--train.epochs", "2", "--train.progress", "none"]
    out = tmp_path / "model"
    assert main(["train", "linear", str(data), "-o", str(out), *options, "--json"]) == 0
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("warning: on 40 held-out objects the model is no better than the mean")
    (text,) = json.loads(said.out)["warnings"]
    assert text in line
