"""Latents that are free of a label, the same star with other labels, and labels with errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from factor_spectra import ENGINES, GRID, QUICK, RANGES, SMALL, flux_at, labelled, rms, stars, window

from draper import Spectra, load
from draper.configs.disentangler import DisentanglerConfig
from draper.data.spectra import Subset
from draper.errors import DraperError
from draper.models.card import run_facts
from draper.models.disentangler.model import MAX_LABEL_ERROR, Disentangler
from draper.testing import CHECKS
from draper.testing.checks import same_state
from draper.train import regress

LEARNT = QUICK.replace(steps=200)
BY_NAME = {check.__name__.removeprefix("check_"): check for check in CHECKS}


def new(engine: str = "bottleneck", **options) -> Disentangler:
    keep = () if engine == "joint" else ("fe_h",)
    given = {"remove": ("teff",), "keep": keep, "engine": engine, "probe": False, **SMALL}
    return Disentangler(**{**given, **options})


@pytest.fixture(scope="module")
def model() -> Disentangler:
    return new().fit(stars(800), train=LEARNT)


@pytest.fixture(scope="module")
def plain() -> Disentangler:
    """An autoencoder that removes nothing."""
    return new("none").fit(stars(800), train=LEARNT)


@pytest.fixture(scope="module")
def unseen() -> Spectra:
    """Spectra that no model has seen."""
    return stars(400, seed=5)


def relative(made: Spectra, truth: np.ndarray) -> float:
    """Return the error of made spectra in units of the scatter of the true ones."""
    return rms(made.flux - truth) / rms(truth - truth.mean(0))


# ----------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"remove": ["teff"], "keep": ["teff", "logg"]}, "removed and kept"),
        ({"remove": ["teff", "teff"]}, "remove names a label twice"),
        ({"keep": ["fe_h", "fe_h"]}, "keep names a label twice"),
        ({"encoder_sees_labels": True}, "estimates labels from the spectrum"),
        ({"keep": ["teff", "logg"], "latent": 2}, "latent of at least 3"),
        ({"remove": ["teff", "logg"], "keep": ["fe_h"], "strength": [1, 2, 3]}, "each label to remove"),
        ({"remove": ["teff"], "keep": ["fe_h", "logg"], "engine": "bins", "strength": [1, 2]}, "3 numbers"),
        ({"remove": ["teff"], "keep": ["fe_h"], "engine": "joint"}, "either removes or keeps"),
        ({"remove": ["teff", "logg"], "engine": "joint", "strength": [1, 2]}, "has one strength"),
        ({"remove": list("abcdef"), "engine": "joint"}, "at most 100,000 classes"),
        ({"strength": [-1]}, "greater than or equal to 0"),
        ({"strength": [float("inf")]}, "finite"),
        ({"information_limit": float("inf")}, "finite"),
        ({"latent": 0}, "greater than or equal to 1"),
        ({"encoder": []}, "at least 1 item"),
        ({"critic": []}, "at least 1 item"),
        ({"bins": 1}, "greater than or equal to 2"),
        ({"ramp": 1.5}, "less than or equal to 1"),
        ({"engine": "bin"}, "'bins'"),
        ({"engine": "bins", "information_limit": 4}, "bins has no information_limit"),
        ({"bins": 4}, "bottleneck has no bins"),
        ({"engine": "continuous", "bins": 4}, "continuous has no bins"),
        ({"ramp": 0.5}, "bottleneck has no ramp"),
        ({"engine": "none", "remove": ["teff"], "strength": [1]}, "none has no strength"),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: dict, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        DisentanglerConfig(**options)


def test_options_at_their_ends_are_taken() -> None:
    DisentanglerConfig(keep=["teff", "logg"], latent=3)
    DisentanglerConfig(remove=list("abcde"), engine="joint", strength=[0.0], ramp=1)
    DisentanglerConfig(remove=["teff"], keep=["fe_h"], engine="bins", strength=[1, 0.5], bins=2)


def test_labels_are_those_that_are_named_or_usual() -> None:
    assert DisentanglerConfig(labels=["logg", "teff"], remove=["teff"], keep=["fe_h"]).named == (
        "logg", "teff", "fe_h",
    )  # fmt: skip
    found = Disentangler(**SMALL).fit(stars(60), train=QUICK.replace(steps=1))
    assert found.labels.names == ("teff", "fe_h")
    with pytest.raises(DraperError, match="did you mean 'teff'"):
        new(remove=["tef"]).fit(stars(60), train=QUICK)


# ------------------------------------------------------------------- every engine


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_rebuilds_and_predicts(engine: str, unseen: Spectra) -> None:
    found = new(engine).fit(stars(600), valid=stars(300, seed=9), train=LEARNT)
    truth = flux_at(unseen.table)
    assert relative(found.generate(unseen), truth) < 0.7
    z, estimates = found.encode(unseen), found.predict(unseen)
    assert z.shape == (400, 4)
    assert np.isfinite(z).all()
    assert (z.std(0) > 1e-4).any()
    assert np.isfinite(estimates.sigma).all()
    assert (estimates.sigma > 0).all()
    for number, name in enumerate(found.labels.names):
        pull = (estimates[name] - unseen.table[name]) / estimates.sigma[:, number]
        assert 0.58 < np.mean(abs(pull) < 1) < 0.78
    assert estimates.flags["outside"].mean() < 0.08
    strange = Spectra(GRID, unseen.flux[:, ::-1] ** 3, unseen.ivar, unseen.table, unseen.quantity)
    assert found.predict(strange).flags["outside"].mean() > 0.9


QUICK_CHECKS = ("gradients_by_player", "moving_buffers_are_named", "save_and_load", "gaps_are_tolerated")


@pytest.mark.parametrize("name", QUICK_CHECKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_conforms(engine: str, name: str, tmp_path: Path, monkeypatch) -> None:
    """The public checks train what the example of the options says: one engine, which removes nothing."""
    keep = () if engine == "joint" else ("logg",)
    example = {"remove": ("teff", "fe_h"), "keep": keep, "engine": engine, "erase": True, **SMALL}
    example |= {"bins": 4} if engine in ("bins", "joint") else {}
    monkeypatch.setattr(DisentanglerConfig, "example", example)
    BY_NAME[name]("disentangler", tmp_path)


@pytest.mark.parametrize("engine", ["bottleneck", "bins"])
def test_runs_with_discriminators_resume_exactly(engine: str, tmp_path: Path, monkeypatch) -> None:
    example = {"remove": ("teff",), "keep": ("fe_h",), "engine": engine, **SMALL}
    example |= {"ramp": 0.5} if engine == "bins" else {}
    monkeypatch.setattr(DisentanglerConfig, "example", example)
    BY_NAME["resume_is_exact"]("disentangler", tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
def test_erasure_leaves_no_line_that_tells_the_label(engine: str) -> None:
    spectra = stars(300)
    kept = 1 if engine == "bottleneck" else 0
    before, after = (new(engine, erase=erase).fit(spectra, valid=0, train=QUICK) for erase in (False, True))
    for one, other in zip(before.own_module.parameters(), after.own_module.parameters(), strict=True):
        assert torch.equal(one, other), "erasure comes after training"
    z, free = (found.encode(spectra) for found in (before, after))
    np.testing.assert_array_equal(z[:, :kept], free[:, :kept])
    teff = spectra.table["teff"]
    correlations = [max(abs(np.corrcoef(values[:, kept:].T, teff)[-1, :-1])) for values in (z, free)]
    # The bottleneck's latents are drawn, other ones than those that were looked at.
    assert correlations[1] < (1e-3 if engine != "bottleneck" else 0.15)
    assert correlations[1] < correlations[0]


def test_kept_labels_among_the_latents_survive_erasure(unseen: Spectra) -> None:
    found = new(erase=True).fit(stars(800), train=LEARNT)
    z = found.encode(unseen)
    assert np.corrcoef(z[:, 0], unseen.table["fe_h"])[0, 1] > 0.97
    np.testing.assert_allclose(found.generate(unseen, latents=z).flux, found.generate(unseen).flux, atol=1e-5)


# ------------------------------------------------------------------------- encode


def test_a_spectrum_has_its_latents_in_any_company(model: Disentangler, unseen: Spectra) -> None:
    z = model.encode(unseen)
    np.testing.assert_allclose(model.encode(unseen[::-1])[::-1], z, atol=1e-5)
    np.testing.assert_allclose(model.encode(unseen[7]), z[7:8], atol=1e-5)
    order = np.array([3, 300, 3, 7])
    np.testing.assert_allclose(model.encode(unseen[order]), z[order], atol=1e-5)
    np.testing.assert_array_equal(model.encode(unseen.with_columns(teff=None, fe_h=None)), z)
    nameless = unseen.with_columns(id=None)
    np.testing.assert_array_equal(model.encode(nameless[order]), model.encode(nameless)[order])
    assert len(np.unique(z[:, 0])) == len(np.unique(z[:, 3])) == len(unseen)


def test_latents_of_the_bottleneck_are_drawn(
    model: Disentangler, plain: Disentangler, unseen: Spectra
) -> None:
    """Another draw is that of a star with another name, or of a nameless spectrum that has changed."""
    nudged = Spectra(GRID, unseen.flux + np.float32(1e-6), unseen.ivar, unseen.table, unseen.quantity)
    assert abs(model.encode(nudged) - model.encode(unseen)).max() < 1e-2
    moved = model.encode(nudged.with_columns(id=None)) - model.encode(unseen.with_columns(id=None))
    assert 0 < moved[:, 0].std() < 0.5
    assert moved[:, 1:].std(0).max() > 0.3
    assert abs(plain.encode(nudged) - plain.encode(unseen)).max() < 1e-3


def test_kept_labels_come_first_and_removed_ones_do_not(model: Disentangler, plain: Disentangler) -> None:
    train, test = stars(700, seed=7), stars(500, seed=8)
    z = model.encode(test)
    known = (test.table["fe_h"] - test.table["fe_h"].mean()) / test.table["fe_h"].std()
    assert rms(z[:, 0] - known) < 0.3
    options = {"probes": ("ridge",), "seeds": (0,)}
    found, other = (one.leakage(train, test, **options) for one in (model, plain))
    assert abs(found.leak["teff"]) < 0.05
    assert found.kept_ratio["fe_h"] > 0.94
    assert other.leak["teff"] > 0.3
    hidden = np.linalg.lstsq(np.column_stack([z, np.ones(500)]), test.table["hidden"], rcond=None)[1]
    assert hidden[0] / 500 < 0.1 * test.table["hidden"].var()


# ----------------------------------------------------------------------- generate


def test_without_changes_spectra_are_rebuilt(model: Disentangler, unseen: Spectra) -> None:
    made = model.generate(unseen)
    assert relative(made, flux_at(unseen.table)) < 0.25
    assert np.array_equal(made.ids, unseen.ids)
    assert made.meta["model"] == "disentangler"
    # The decoder got the labels estimated from the spectrum, not those of the table.
    assert rms(made.table["fe_h"] - unseen.table["fe_h"]) < 0.15 * unseen.table["fe_h"].std()
    assert not np.array_equal(made.table["fe_h"], unseen.table["fe_h"])
    bare = model.generate(unseen.with_columns(teff=None, fe_h=None))
    np.testing.assert_array_equal(bare.flux, made.flux)
    same = model.reconstruct(unseen)
    np.testing.assert_array_equal(same.flux, made.flux)
    assert dict(same.table) == dict(unseen.table)


def test_discriminators_tell_the_decoder_the_labels_of_the_table(
    plain: Disentangler, unseen: Spectra
) -> None:
    made = plain.generate(unseen)
    for name in ("teff", "fe_h"):
        np.testing.assert_allclose(made.table[name], unseen.table[name], rtol=1e-5, atol=1e-5)
    unlabelled = plain.generate(unseen.with_columns(teff=None, fe_h=None))
    assert 0 < rms(unlabelled.table["teff"] - unseen.table["teff"]) < 0.8 * unseen.table["teff"].std()


@pytest.mark.parametrize("engine", ["bottleneck", "none"])
def test_another_label_moves_the_spectrum_where_it_must(
    engine: str, model: Disentangler, plain: Disentangler, unseen: Spectra
) -> None:
    found = model if engine == "bottleneck" else plain
    hot = found.generate(unseen, teff=6800.0)
    truth = flux_at({**unseen.table, "teff": np.full(400, 6800.0)})
    before = flux_at(unseen.table)
    assert rms(hot.flux - truth) < 0.25 * rms(before - truth)
    assert np.all(hot.table["teff"] == 6800.0)
    moved = hot.flux - found.generate(unseen).flux
    assert rms(moved[:, window("hidden")]) < 0.1 * rms(moved[:, window("teff")])
    cool = unseen.table["teff"] < 6000
    assert (moved[cool, 5] < 0).all(), "the line becomes deeper"


def test_new_labels_by_keyword_mapping_and_spectrum(model: Disentangler, unseen: Spectra) -> None:
    part = unseen[:3]
    one = model.generate(part, teff=[4500.0, 5000.0, 6500.0], fe_h=-1.0)
    other = model.generate(part, {"fe_h": np.full(3, -1.0), "teff": [4500.0, 5000.0, 6500.0]})
    np.testing.assert_array_equal(one.flux, other.flux)
    np.testing.assert_array_equal(one.table["teff"], [4500.0, 5000.0, 6500.0])
    np.testing.assert_allclose(model.generate(part[2], teff=6500.0, fe_h=-1.0).flux, one.flux[2:], atol=1e-5)
    some = model.generate(part, teff=[np.nan, 5000.0, np.nan])
    np.testing.assert_allclose(some.flux[[0, 2]], model.generate(part).flux[[0, 2]], atol=1e-6)
    assert len(model.generate(part[:0], teff=5000.0)) == 0


def test_edited_latents(model: Disentangler, unseen: Spectra) -> None:
    z = model.encode(unseen)
    np.testing.assert_allclose(model.generate(unseen, latents=z).flux, model.generate(unseen).flux, atol=1e-5)
    # The latents hold everything but the removed label, which the spectrum tells.
    swapped = model.generate(unseen, latents=z[::-1])
    donor = {**{name: unseen.table[name][::-1] for name in RANGES}, "teff": unseen.table["teff"]}
    assert relative(swapped, flux_at(donor)) < 0.25
    richer = z.copy()
    richer[:, 0] += 0.5
    made = model.generate(unseen, latents=richer)
    spread = float(model.network.spread[model.labels.names.index("fe_h")])
    width = float(np.ptp([model.labels["fe_h"].low, model.labels["fe_h"].high]))
    moved = made.table["fe_h"] - model.generate(unseen).table["fe_h"]
    np.testing.assert_allclose(moved, 0.5 * spread * width, rtol=1e-3)
    assert (made.flux[:, 15] < model.generate(unseen).flux[:, 15]).mean() > 0.95


def test_what_cannot_be_generated_is_explained(model: Disentangler, unseen: Spectra) -> None:
    with pytest.raises(DraperError, match="did you mean 'teff'"):
        model.generate(unseen[:3], tef=5000.0)
    with pytest.raises(DraperError, match="the choices are teff, fe_h"):
        model.generate(unseen[:3], {"colour": 1.0})
    for latents in (np.zeros((3, 5)), np.zeros((2, 4)), np.zeros(4)):
        with pytest.raises(DraperError, match=r"\(3, 4\)"):
            model.generate(unseen[:3], latents=latents)
    for values in ([1.0, 2.0], [[1.0, 2.0, 3.0]], "hot"):
        with pytest.raises(DraperError, match="one number for all, or 3 of them"):
            model.generate(unseen[:3], teff=values)
    with pytest.raises(DraperError, match="not on the model's grid"):
        model.generate(unseen[:3].pixels(slice(0, 20)))


def test_labels_outside_what_was_learnt_are_flagged(model: Disentangler, unseen: Spectra) -> None:
    part = unseen[:3]
    flagged = model.generate(part, teff=[3000.0, 5000.0, 7500.0]).table["outside_box"]
    assert flagged.tolist() == [True, False, True]
    assert model.generate(part, fe_h=0.9).table["outside_box"].all()
    assert model.generate(unseen).table["outside_box"].mean() < 0.1


# ------------------------------------------------- what is learnt from what there is


def test_spectra_without_labels_teach_how_to_rebuild(unseen: Spectra) -> None:
    """Those that have labels lack one side of what no label tells."""
    everything = stars(600)
    known = everything.table["hidden"] < 0.2
    some = labelled(everything, known, "teff", "fe_h")
    valid, truth = stars(60, seed=3), flux_at(unseen.table)
    bare = unseen.with_columns(teff=None, fe_h=None)
    errors = [
        relative(new("none").fit(part, valid=valid, train=LEARNT).generate(bare), truth)
        for part in (everything[known], some)
    ]
    assert errors[1] < 0.6 * errors[0]
    assert errors[1] < 0.5


@pytest.mark.parametrize("engine", ENGINES)
def test_labels_may_be_missing_one_by_one(engine: str) -> None:
    """Of most stars one label, of some none: whole batches lack a label, and held-out rows, too."""
    spectra, random = stars(200), np.random.default_rng(0)
    some = labelled(labelled(spectra, random.random(200) < 0.1, "teff"), random.random(200) < 0.3, "fe_h")
    found = new(engine, erase=True).fit(some, train=QUICK.replace(batch_size=8))
    assert all(np.isfinite(value) for row in found.history for value in row.values())
    assert np.isfinite(found.predict(some).median).all()
    assert np.isfinite(found.generate(some).flux).all()


def test_no_star_needs_to_have_all_removed_labels() -> None:
    spectra = stars(120)
    half = np.arange(120) < 60
    parted = labelled(labelled(spectra, half, "teff"), ~half, "fe_h")
    found = new("none", remove=("teff", "fe_h"), keep=(), erase=True).fit(parted, valid=0, train=QUICK)
    z = found.encode(parted)
    for name, known in (("teff", half), ("fe_h", ~half)):
        assert max(abs(np.corrcoef(z[known].T, spectra.table[name][known])[-1, :-1])) < 1e-3


@pytest.mark.parametrize("engine", ["bottleneck", "none"])
def test_spectra_without_any_label_are_rebuilt(engine: str, tmp_path: Path) -> None:
    bare = stars(200).with_columns(teff=None, fe_h=None)
    found = Disentangler(engine=engine, **SMALL).fit(bare, train=LEARNT)
    assert found.labels.names == ()
    assert rms(found.generate(bare).flux - bare.flux) < 0.8 * rms(bare.flux - bare.flux.mean(0))
    assert load(found.save(tmp_path / "model")).encode(bare).shape == (200, 4)


def test_pixels_count_by_their_weights() -> None:
    """Half of the spectra have a line that is all noise; their errors say so, or hide it."""
    clean, line = stars(300), window("hidden")
    flux, ivar = np.array(clean.flux), np.array(clean.ivar)
    flux[::2, line] += np.random.default_rng(0).normal(0, 1, flux[::2, line].shape)
    ivar[::2, line] = 1.0
    errors = {}
    for name, weights in (("honest", ivar), ("hidden", clean.ivar)):
        noisy = Spectra(GRID, flux, weights, clean.table, clean.quantity)
        made = new("none").fit(noisy, train=LEARNT).generate(stars(100, seed=5))
        errors[name] = rms((made.flux - flux_at(stars(100, seed=5).table))[:, line])
    assert errors["honest"] < 0.7 * errors["hidden"]


def test_bad_pixels_of_a_spectrum_are_filled_in(model: Disentangler, unseen: Spectra) -> None:
    ivar = np.array(unseen.ivar)
    ivar[:, 24] = 0
    holed = Spectra(GRID, np.where(ivar > 0, unseen.flux, np.nan), ivar, unseen.table, unseen.quantity)
    made = model.generate(holed)
    scatter = rms(flux_at(unseen.table)[:, 24] - flux_at(unseen.table)[:, 24].mean())
    assert rms(made.flux[:, 24] - flux_at(unseen.table)[:, 24]) < 0.6 * scatter
    dark = Spectra(GRID, unseen.flux[:2], np.zeros_like(unseen.ivar[:2]), quantity=unseen.quantity)
    assert np.isnan(model.encode(dark)).all()
    assert (model.generate(dark).ivar == 0).all()
    assert model.predict(dark).flags["no_data"].all()


# ------------------------------------------------------------------------ predict


def test_errors_are_those_of_held_out_spectra(model: Disentangler, unseen: Spectra) -> None:
    estimates = model.predict(unseen)
    pull = (estimates["fe_h"] - unseen.table["fe_h"]) / estimates.sigma[:, model.labels.names.index("fe_h")]
    assert 0.7 < pull.std() < 1.4
    assert np.std(estimates["fe_h"] - unseen.table["fe_h"]) < 0.12 * unseen.table["fe_h"].std()
    # Of the removed label only its scatter is known, and the error says so.
    sigma = np.median(estimates.sigma[:, model.labels.names.index("teff")])
    assert 0.8 < sigma / unseen.table["teff"].std() < 1.6


def test_predictions_outside_of_the_labels_are_flagged(model: Disentangler) -> None:
    edge = {"teff": np.full(100, 5500.0), "fe_h": np.full(100, 1.5), "hidden": np.full(100, 0.5)}
    far = Spectra(GRID, flux_at(edge), np.full((100, 30), 1e4), quantity="normalised flux")
    estimates = model.predict(far)
    assert estimates.flags["label_range"].mean() > 0.9
    assert model.predict(stars(200, seed=6)).flags["label_range"].mean() < 0.1


def test_errors_are_unknown_where_nothing_is_held_out(unseen: Spectra) -> None:
    estimates = new().fit(stars(60), valid=0, train=QUICK.replace(steps=2)).predict(unseen)
    assert np.isnan(estimates.sigma).all()
    assert not estimates.flags["outside"].any()
    unlabelled = stars(60, seed=2).with_columns(teff=None)
    some = new().fit(stars(60), valid=unlabelled, train=QUICK.replace(steps=2)).predict(unseen)
    assert np.isnan(some.sigma[:, some.labels.names.index("teff")]).all()
    assert np.isfinite(some.sigma[:, some.labels.names.index("fe_h")]).all()


# ------------------------------------------------------------ labels for the encoder


def test_an_encoder_may_get_the_labels(unseen: Spectra) -> None:
    sees, blind = (
        new("bins", encoder_sees_labels=value).fit(stars(200), train=QUICK) for value in (True, False)
    )
    hotter = unseen.with_columns(teff=unseen.table["teff"] + 1000)
    assert abs(sees.encode(hotter) - sees.encode(unseen)).max() > 1e-3
    np.testing.assert_array_equal(blind.encode(hotter), blind.encode(unseen))
    # Labels that are not known count as the mean.
    learnt = Subset(stars(200), stars(200).split_rows(0.9, seed=0)[0])
    mean = unseen.with_columns(teff=np.full(400, learnt.table["teff"].mean()))
    np.testing.assert_allclose(sees.encode(unseen.with_columns(teff=None)), sees.encode(mean), atol=1e-5)


# ------------------------------------------------------------- seeds and artifacts


@pytest.mark.parametrize("engine", ENGINES)
def test_the_seed_decides_all_weights(engine: str) -> None:
    one, other, third = (
        new(engine).fit(stars(100), train=QUICK.replace(steps=5, seed=seed)) for seed in (3, 3, 4)
    )
    assert same_state(one, other)
    assert not same_state(one, third)
    np.testing.assert_array_equal(one.encode(stars(5, seed=1)), other.encode(stars(5, seed=1)))


def test_a_loaded_model_draws_the_same_latents(model: Disentangler, unseen: Spectra, tmp_path: Path) -> None:
    again = load(model.save(tmp_path / "model"))
    assert again.config == model.config
    np.testing.assert_array_equal(again.encode(unseen), model.encode(unseen))
    np.testing.assert_array_equal(
        again.generate(unseen, teff=5000.0).flux, model.generate(unseen, teff=5000.0).flux
    )
    np.testing.assert_array_equal(again.predict(unseen).sigma, model.predict(unseen).sigma)


@pytest.fixture
def hasty(monkeypatch) -> None:
    """Probes that learn little: what matters here is where their report goes."""
    monkeypatch.setattr(regress, "MIN_STEPS", 20)
    monkeypatch.setattr(regress, "EPOCHS", 1)


def test_the_leakage_report_travels_with_the_model(hasty: None, tmp_path: Path) -> None:
    train = QUICK.replace(steps=3)
    found = new(probe=True).fit(stars(100), valid=stars(250, seed=2), train=train, out=tmp_path / "model")
    report = found.training["leakage"]
    assert set(report["labels"]) == {"teff", "fe_h"}
    assert report["rows"] == {"learnt": 125, "held_out": 250}
    assert report["crossed"]
    # The card, the artifact and a report on the same spectra say the same.
    again = found.leakage(stars(250, seed=2), seeds=(0,))
    assert again.summary() == report["summary"]
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    assert description["complete"]
    assert description["training"]["leakage"] == report
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Leakage of the latents" in card
    assert report["summary"] in card
    assert load(tmp_path / "model").training["leakage"] == report
    # A complete run is not probed again.
    resumed = new(probe=True).fit(
        stars(100), valid=stars(250, seed=2), train=train, out=tmp_path / "model", resume=True
    )
    assert resumed.training["leakage"] == report


@pytest.mark.parametrize(
    ("options", "number", "lacking"),
    [
        ({"probe": False}, 250, None),
        ({"probe": True}, 150, None),
        ({"probe": True}, 250, "teff"),
        ({"probe": True, "remove": (), "keep": (), "labels": ("teff",)}, 250, None),
    ],
    ids=["not asked for", "too few", "no labels held out", "nothing removed or kept"],
)
def test_no_report_where_there_is_nothing_to_probe(
    hasty: None, options: dict, number: int, lacking: str | None
) -> None:
    valid = stars(number, seed=2)
    valid = valid if lacking is None else valid.with_columns(**{lacking: None})
    found = new(**options).fit(stars(60), valid=valid, train=QUICK.replace(steps=1))
    assert "leakage" not in found.training


def test_stars_without_the_labels_are_not_probed(hasty: None) -> None:
    known = np.arange(500) % 2 == 0
    valid = labelled(stars(500, seed=2), known, "teff")
    found = new(probe=True).fit(stars(60), valid=valid, train=QUICK.replace(steps=1))
    assert found.training["leakage"]["rows"]["held_out"] == 250


def test_leakage_wants_labels_of_spectra_and_of_the_model(model: Disentangler, unseen: Spectra) -> None:
    true = unseen.with_columns(
        teff=None, fe_h=None, teff_true=unseen.table["teff"], fe_h_true=unseen.table["fe_h"]
    )
    options = {"probes": ("ridge",), "seeds": (0,)}
    with pytest.raises(DraperError, match=r"lack labels[^?]*teff"):
        model.leakage(true[:200], true[200:], **options)
    one = model.leakage(true[:200], true[200:], truth="_true", **options)
    assert one.to_json() == model.leakage(unseen[:200], unseen[200:], **options).to_json()
    with pytest.raises(DraperError, match="removes no label and keeps none"):
        Disentangler(**SMALL).fit(stars(60), train=QUICK.replace(steps=1)).leakage(unseen, unseen)


# ----------------------------------------------------- what a reviewer found


def test_an_encoder_that_gets_labels_predicts_none(unseen: Spectra) -> None:
    model = Disentangler(engine="bins", keep=("teff",), encoder_sees_labels=True, probe=False, **SMALL)
    model.fit(stars(60), train=QUICK)
    with pytest.raises(DraperError, match="would repeat them"):
        model.predict(unseen)


def test_errors_of_labels_count_or_are_unknown() -> None:
    part = stars(4).with_columns(teff_err=np.array([150.0, -9999.0, np.nan, np.inf]))
    model = Disentangler(remove=("teff",), keep=("fe_h",), probe=False, **SMALL).fit(stars(60), train=QUICK)
    errors = model.arrays(part)["label_errors"]
    width = float(model.labels["teff"].high - model.labels["teff"].low)
    np.testing.assert_allclose(
        errors[:, 0], [150.0 / width, MAX_LABEL_ERROR, MAX_LABEL_ERROR, MAX_LABEL_ERROR], rtol=1e-6
    )
    assert (errors[:, 1] == 0).all(), "without a column of errors labels are exact"


def test_what_is_not_finite_is_no_new_label(model: Disentangler, unseen: Spectra) -> None:
    with pytest.raises(DraperError, match="are finite"):
        model.generate(unseen[:2], teff=np.inf)
    with pytest.raises(DraperError, match="not finite"):
        model.generate(unseen[:2], latents=np.full((2, model.config.latent), np.nan))


def test_held_out_losses_do_not_move_with_prices(model: Disentangler, unseen: Spectra) -> None:
    network = model.network.eval()
    train = QUICK.replace(batch_size=1000)
    dataset = model.gather(unseen, 0, 0)
    feed = model.feed(dataset, dataset.training, train, device=torch.device("cpu"), world=1)
    (batch,) = list(feed.sweep())
    with torch.no_grad():
        totals = []
        for noise in (0.5, 2.0):
            network.noise.fill_(noise)
            network.price.fill_(10 * noise)
            totals.append(float(network.loss(batch, network.shared(batch), "model", 1.0)["total"]))
    assert totals[0] == totals[1]


# ------------------------------------------------------------------ what users get wrong


def test_one_value_where_one_is_meant() -> None:
    assert DisentanglerConfig(remove="teff", strength=50).strength == (50.0,)
    assert DisentanglerConfig(remove="teff").remove == ("teff",)


def test_a_text_with_a_sign_is_a_change(model: Disentangler, unseen: Spectra) -> None:
    some = unseen[:5]
    before = model.generate(some)
    after = model.generate(some, teff="+500")
    np.testing.assert_allclose(after.table["teff"] - before.table["teff"], 500, atol=0.5)
    cooler = model.generate(some, {"teff": "-500", "fe_h": 0.0})
    np.testing.assert_allclose(cooler.table["teff"] - before.table["teff"], -500, atol=0.5)
    assert (cooler.table["fe_h"] == 0).all()
    expected = model.generate(some, teff=before.table["teff"] + 500)
    np.testing.assert_allclose(after.flux, expected.flux, atol=1e-4)
    with pytest.raises(DraperError, match="no new values of 'teff'"):
        model.generate(some, teff="+warm")


def test_labels_that_are_no_quantities_are_refused() -> None:
    spectra = stars(60)
    with pytest.raises(DraperError, match="'teff' holds infinite values"):
        infinite = np.where(np.arange(60) == 3, np.inf, spectra.table["teff"])
        new().fit(spectra.with_columns(teff=infinite), train=QUICK)
    with pytest.raises(DraperError, match="'teff' seems to hold classes"):
        new().fit(spectra.with_columns(teff=np.arange(60) % 3), train=QUICK)
    with pytest.raises(DraperError, match="1 objects by their column 'id'"):
        new().fit(spectra.with_columns(id=np.full(60, "a")), train=QUICK)


def test_probes_are_not_judged_on_what_they_have_learnt(model: Disentangler, unseen: Spectra) -> None:
    with pytest.raises(DraperError, match="spectra that they have learnt"):
        model.leakage(unseen, unseen[:50], probes=("ridge",), seeds=(0,))


def test_models_are_public_names() -> None:
    import draper

    assert draper.Disentangler is Disentangler
    names = {"Disentangler", "Emulator", "MaskedAutoencoder", "Retriever", "Translator"}
    assert names <= set(dir(draper))
    assert {getattr(draper, name).__name__ for name in names} == names


def test_few_spectra_are_learnt_in_fewer_steps_with_early_stopping() -> None:
    few, many = (DisentanglerConfig().training_for(rows) for rows in (6_400, 25_600))
    assert many == DisentanglerConfig.training
    assert few["steps"] == 1000
    one = new().fit(stars(80, seed=1), train=QUICK)  # the number of steps or epochs that is given counts
    assert one.training["config"]["steps"] == QUICK.steps
    assert one.training["config"]["patience"] == few["patience"]
    assert one.training["config"]["metric"] == "valid/misfit"
    assert f"{few['patience']} validations without improvement" in run_facts(one.training)["steps"]
