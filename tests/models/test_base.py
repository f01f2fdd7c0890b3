"""The contract: what fit, save and load refuse, and what they keep."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import draper
from draper import atomic_write
from draper.errors import DraperError, OutputError
from draper.models import artifact
from draper.testing import QUICK, LinearAutoencoder, made_spectra
from draper.testing.checks import same_state
from draper.train import checkpoint
from draper.train.tracking import read_history


def linear(**options) -> LinearAutoencoder:
    return LinearAutoencoder(latent=4, labels=["teff", "logg"], **options)


@pytest.fixture(scope="module")
def model() -> LinearAutoencoder:
    return linear(start="pca").fit(made_spectra(2000), train=QUICK.replace(epochs=60, learning_rate=0.01))


def test_predictions_quote_honest_errors(model: LinearAutoencoder) -> None:
    """On spectra that were never seen, about 68 % lie within the quoted error."""
    test = made_spectra(1500, seed=8)
    estimates = model.predict(test)
    for number, name in enumerate(("teff", "logg")):
        pull = (estimates[name] - test.table[name]) / estimates.sigma[:, number]
        assert 0.9 < pull.std() < 1.1
        assert np.mean(abs(pull) < 1) == pytest.approx(0.68, abs=0.06)
    assert np.mean(estimates.flags["outside"]) < 0.03


def test_strange_spectra_are_flagged(model: LinearAutoencoder) -> None:
    test = made_spectra(50, seed=9)
    broken = draper.Spectra(test.grid, test.flux[:, ::-1], test.ivar, quantity=test.quantity)
    assert model.predict(broken).flags["outside"].mean() > 0.9


def test_no_held_out_spectra_mean_unknown_errors() -> None:
    estimates = linear().fit(made_spectra(100), valid=0, train=QUICK).predict(made_spectra(3))
    assert np.isnan(estimates.sigma).all()


def test_pca_start_is_the_best_linear_reconstruction() -> None:
    spectra = made_spectra(400)
    model = LinearAutoencoder(latent=5, start="pca")
    model.fit(spectra, valid=0, train=QUICK.replace(steps=1, learning_rate=1e-12))
    flux = np.asarray(spectra.flux, dtype=np.float64)
    centred = flux - flux.mean(0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    best = (u[:, :5] * s[:5]) @ v[:5] + flux.mean(0)
    np.testing.assert_allclose(model.generate(spectra).flux, best, atol=2e-5)


@pytest.mark.parametrize("known", [1.0, 0.5])
def test_the_quickstart_gives_good_labels(known: float) -> None:
    """Fluxes and labels of very different size, where a regression from random weights gets nowhere."""
    train, test = draper.samples.load("sed-grid").split(0.8, seed=0)
    names = ("teff", "logg", "fe_h")
    missing = np.random.default_rng(0).random((len(names), len(train))) > known
    table = {n: np.where(m, np.nan, train.table[n]) for n, m in zip(names, missing, strict=True)}
    model = LinearAutoencoder(labels=names, start="pca")
    model.fit(train.with_columns(**table), train=QUICK.replace(epochs=50))
    estimates = model.predict(test)
    for number, name in enumerate(names):
        error = estimates[name] - test.table[name]
        assert np.sqrt(np.mean(error**2)) < 0.3 * np.std(test.table[name])
        assert 0.5 < np.std(error) / estimates.sigma[0, number] < 2


def test_bad_pixels_are_filled_in(model: LinearAutoencoder) -> None:
    test = made_spectra(20, seed=4)
    ivar = np.array(test.ivar)
    ivar[:, 10:14] = 0
    holed = draper.Spectra(test.grid, np.where(ivar > 0, test.flux, np.nan), ivar, quantity=test.quantity)
    filled = model.generate(holed).flux[:, 10:14]
    assert abs(filled - test.flux[:, 10:14]).mean() < 0.03


def test_estimates_are_written(model: LinearAutoencoder, tmp_path: Path) -> None:
    from astropy.table import Table

    estimates = model.predict(made_spectra(4))
    for suffix in (".csv", ".ecsv", ".fits"):
        table = Table.read(estimates.write(tmp_path / f"labels{suffix}"))
        np.testing.assert_array_equal(table["teff"], estimates["teff"])
        assert list(table.colnames)[:3] == ["id", "teff", "teff_err"]
    assert str(Table.read(tmp_path / "labels.ecsv")["teff"].unit) == "K"
    with pytest.raises(DraperError, match=r"\.csv"):
        estimates.write(tmp_path / "labels.xlsx")
    with pytest.raises(DraperError, match="did you mean 'teff'"):
        estimates["tef"]


def test_before_the_first_fit(tmp_path: Path) -> None:
    for call in (
        lambda m: m.predict(made_spectra(1)),
        lambda m: m.save(tmp_path / "model"),
        lambda m: m.encode(made_spectra(1)),
    ):
        with pytest.raises(DraperError, match="call fit"):
            call(linear())
    assert not (tmp_path / "model").exists()
    assert "not fitted" in repr(linear())


def test_options_as_keywords_or_config() -> None:
    config = linear().config
    assert LinearAutoencoder(config).config == config
    assert LinearAutoencoder(config, latent=9).config.latent == 9


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "weights.safetensors").unlink(), "damaged"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"junk"), "not of one run"),
        (lambda f: (f / "model.json").write_text("{"), "damaged"),
        (lambda f: (f / "model.json").write_text("[]"), "damaged"),
        (lambda f: (f / "model.json").unlink(), "no model here"),
    ],
)
def test_damaged_artifacts(model: LinearAutoencoder, tmp_path: Path, damage, words: str) -> None:
    folder = model.save(tmp_path / "model")
    damage(folder)
    with pytest.raises(DraperError, match=words):
        draper.load(folder)


def test_newer_and_unknown_artifacts(model: LinearAutoencoder, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**description, "version": 99}))
    with pytest.raises(DraperError, match="newer draper"):
        draper.load(folder)
    description["model"] = "lineax"
    description["sha256"] = artifact.checksum(description)
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(DraperError, match="did you mean 'linear'"):
        draper.load(folder)


def test_unfinished_artifact_is_not_loaded(tmp_path: Path) -> None:
    model = linear().fit(made_spectra(100), train=QUICK, out=tmp_path / "model")
    artifact.write(model, tmp_path / "model", complete=False)
    with pytest.raises(DraperError, match="resume=True"):
        draper.load(tmp_path / "model")


def test_resume_refuses_other_data_and_options(tmp_path: Path) -> None:
    linear().fit(made_spectra(100), train=QUICK, out=tmp_path / "model")
    with pytest.raises(DraperError, match="other data"):
        linear().fit(made_spectra(100, seed=5), train=QUICK, out=tmp_path / "model", resume=True)
    with pytest.raises(DraperError, match="other options"):
        linear(start="pca").fit(made_spectra(100), train=QUICK, out=tmp_path / "model", resume=True)


def test_fit_takes_a_file(tmp_path: Path) -> None:
    draper.write(made_spectra(120), tmp_path / "a.h5")
    draper.write(made_spectra(30, seed=2), tmp_path / "b.h5")
    by_file = linear().fit(tmp_path / "a.h5", valid=tmp_path / "b.h5", train=QUICK)
    by_hand = linear().fit(made_spectra(120), valid=made_spectra(30, seed=2), train=QUICK)
    assert np.array_equal(by_file.encode(made_spectra(5)), by_hand.encode(made_spectra(5)))
    assert by_file.training["held_out"] == 30


def test_fit_refuses_what_it_cannot_learn_from() -> None:
    spectra = made_spectra(20)
    with pytest.raises(DraperError, match="no spectra"):
        linear().fit(spectra[:0], train=QUICK)
    with pytest.raises(DraperError, match="no spectrum has a good pixel"):
        linear().fit(draper.Spectra(spectra.grid, spectra.flux, spectra.ivar * 0, spectra.table), train=QUICK)
    with pytest.raises(DraperError, match="single pixel"):
        linear().fit(spectra.pixels([3]), train=QUICK)
    with pytest.raises(DraperError, match="does not vary"):
        linear().fit(spectra.with_columns(teff=np.full(20, 5000.0)), train=QUICK)


def test_card_says_what_matters(model: LinearAutoencoder, tmp_path: Path) -> None:
    card = (model.save(tmp_path / "model") / "README.md").read_text()
    for words in (
        "1,800 for training, 200 held out",
        "| teff | K |",
        "valid/total",
        "96 px",
        "influenced no",
        "bibtex",
    ):
        assert words in card


def test_history_comes_back(model: LinearAutoencoder, tmp_path: Path) -> None:
    assert draper.load(model.save(tmp_path / "model")).history == model.history


def test_mapped_and_resident_training_agree(tmp_path: Path) -> None:
    path = draper.write(made_spectra(150), tmp_path / "a.h5")
    one, other = (linear().fit(path, train=QUICK.replace(data=data)) for data in ("resident", "mapped"))
    assert all(torch.equal(one.state()[name], tensor) for name, tensor in other.state().items())


def test_verbs_compute_where_they_are_told(model: LinearAutoencoder) -> None:
    assert model.to("cpu") is model
    with pytest.raises(DraperError, match="unknown device"):
        model.to("gpu")


def test_the_card_quotes_the_weights_that_are_shipped(tmp_path: Path) -> None:
    """With early stopping the best weights are kept, and the numbers are theirs."""
    train = QUICK.replace(epochs=200, patience=3, learning_rate=0.05, ema=0.9)
    model = linear().fit(made_spectra(200), train=train)
    best = min(row["valid/total"] for row in model.history if "valid/total" in row)
    assert model.training["valid"]["valid/total"] == pytest.approx(best, rel=1e-6)
    assert "Held-out data chose when" in (model.save(tmp_path / "model") / "README.md").read_text()


def test_pca_start_is_not_repeated_by_fine_tuning() -> None:
    model = linear(start="pca").fit(made_spectra(200), train=QUICK.replace(epochs=20, learning_rate=0.01))
    before = model.network.encoder.weight.detach().clone()
    model.fit(made_spectra(200), train=QUICK.replace(steps=1, learning_rate=1e-12))
    torch.testing.assert_close(model.network.encoder.weight.detach(), before)


def test_a_kill_between_the_last_two_files_is_survived(tmp_path: Path, monkeypatch) -> None:
    whole = linear().fit(made_spectra(100), train=QUICK)
    write = atomic_write.write
    written = []

    def dies(path: Path, content: bytes | str) -> Path:
        written.append(path.name)
        if written.count("model.json") == 2:
            raise ProcessLookupError
        return write(path, content)

    monkeypatch.setattr(atomic_write, "write", dies)
    with pytest.raises(ProcessLookupError):
        linear().fit(made_spectra(100), train=QUICK, out=tmp_path / "model")
    monkeypatch.undo()
    resumed = linear().fit(made_spectra(100), train=QUICK, out=tmp_path / "model", resume=True)
    assert same_state(whole, resumed)


def test_resume_starts_a_run_that_is_not_there(tmp_path: Path) -> None:
    linear().fit(made_spectra(100), train=QUICK, out=tmp_path / "model", resume=True)
    assert draper.load(tmp_path / "model").training["spectra"] == 90


def test_resume_of_a_complete_run_keeps_its_options_and_history(tmp_path: Path) -> None:
    first = linear().fit(made_spectra(100), train=QUICK, out=tmp_path / "model")
    again = linear().fit(made_spectra(100), train=QUICK, out=tmp_path / "model", resume=True)
    assert again.history == first.history
    with pytest.raises(DraperError, match=r"epochs=7\.0"):
        linear().fit(made_spectra(100), train=QUICK.replace(epochs=7), out=tmp_path / "model", resume=True)


def test_resume_notices_other_held_out_spectra(tmp_path: Path) -> None:
    linear().fit(made_spectra(100), valid=made_spectra(20, seed=1), train=QUICK, out=tmp_path / "model")
    with pytest.raises(DraperError, match="other data"):
        linear().fit(
            made_spectra(100),
            valid=made_spectra(20, seed=2),
            train=QUICK,
            out=tmp_path / "model",
            resume=True,
        )


def test_wrong_trainer_options_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="did you mean 'head'"):
        linear().fit(made_spectra(100), train=QUICK.replace(rates={"heads": 1e-3}), out=tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(DraperError, match="greater than 0"):
        QUICK.replace(rates={"head": -1.0})


def test_a_diverged_model_can_still_be_looked_at(tmp_path: Path) -> None:
    model = linear()
    with pytest.raises(DraperError, match="diverged"):
        model.fit(made_spectra(100), train=QUICK.replace(optimizer="sgd", learning_rate=1e30))
    assert not model.own_module.training
    assert "not complete" in (model.save(tmp_path / "model") / "README.md").read_text()


def test_saving_does_not_replace_another_model(model: LinearAutoencoder, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    with pytest.raises(DraperError, match="holds a model already"):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", overwrite=True)


def test_too_few_objects_to_hold_some_out() -> None:
    with pytest.raises(DraperError, match="valid=0"):
        linear().fit(made_spectra(4), train=QUICK)


def test_logarithmic_labels_have_logarithmic_errors() -> None:
    labels = draper.LabelSet.from_table({"vsini": [1.0, 100.0]}, ["vsini"], log=["vsini"])
    error = labels.unscale_error([[0.9]], [[1e-4]])
    around = labels.unscale([[0.9 + 1e-4]]) - labels.unscale([[0.9 - 1e-4]])
    np.testing.assert_allclose(error, around / 2, rtol=1e-5)


def test_estimates_are_checked_and_have_quantiles(model: LinearAutoencoder) -> None:
    estimates = model.predict(made_spectra(3))
    np.testing.assert_allclose(estimates.quantile(0.5), estimates.median)
    np.testing.assert_allclose(estimates.quantile(0.8413447), estimates.median + estimates.sigma, rtol=1e-6)
    with pytest.raises(DraperError, match="the flag 'odd'"):
        draper.Estimates(
            estimates.labels, estimates.median, estimates.sigma, estimates.ids, {"odd": np.zeros(3)}
        )
    with pytest.raises(DraperError, match="sigma has the wrong shape"):
        draper.Estimates(estimates.labels, estimates.median, estimates.sigma[:1], estimates.ids)


@pytest.mark.parametrize("full_from", [1, 2])
def test_a_full_disk_ends_a_run_that_can_be_resumed(tmp_path: Path, monkeypatch, full_from: int) -> None:
    whole = linear().fit(made_spectra(100), train=QUICK)
    save, written = checkpoint.save_file, []

    def fills_up(tensors: dict, path: Path, **options) -> None:
        written.append(path)
        if len(written) == full_from:
            path.write_bytes(b"half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save(tensors, path, **options)

    monkeypatch.setattr(checkpoint, "save_file", fills_up)
    often = QUICK.replace(checkpoint_every=2)
    with pytest.raises(
        OutputError, match=r"No space left on device[\s\S]*make room, then continue[\s\S]*resume=True"
    ):
        linear().fit(made_spectra(100), train=often, out=tmp_path / "model")
    left = [file.name for file in (tmp_path / "model" / "checkpoint").iterdir()]
    assert left == ["state.safetensors"][: full_from - 1]
    resumed = linear().fit(made_spectra(100), train=often, out=tmp_path / "model", resume=True)
    assert same_state(whole, resumed)
    assert [row["step"] for row in resumed.history] == [row["step"] for row in whole.history]


def test_a_history_that_was_cut_is_read_up_to_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("step,train/total\n10,0.5\n20,0.4\n3")
    assert [row["step"] for row in read_history(path)] == [10, 20]
