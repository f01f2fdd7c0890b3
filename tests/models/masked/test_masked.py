"""The masked autoencoder: what it sees, fills and predicts, and how it is fine-tuned."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import draper
from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.models.masked.columns import ColumnScales, read_columns
from draper.models.masked.ledger import ledger, steps_for
from draper.models.masked.masks import NUMBERS, random_masks
from draper.models.masked.model import MaskedAutoencoder
from draper.models.masked.msa import OPTION_FILE
from draper.results.table import write_table
from draper.simulate.made import made_spectra
from draper.simulate.xp import LowResolution

SMALL = {"components": 12, "width": 48, "blocks": 1}


def quick(steps: int = 400, **changes: object) -> TrainConfig:
    return TrainConfig(steps=steps, batch_size=128, learning_rate=3e-3, threads=1, progress="none", **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stars() -> Spectra:
    return LowResolution().simulate(3000, seed=3)


@pytest.fixture(scope="module")
def pretrained(stars: Spectra) -> MaskedAutoencoder:
    return MaskedAutoencoder(**SMALL).fit(stars, train=quick(500))


@pytest.fixture(scope="module")
def model(
    pretrained: MaskedAutoencoder, stars: Spectra, tmp_path_factory: pytest.TempPathFactory
) -> MaskedAutoencoder:
    tuned = draper.load(pretrained.save(tmp_path_factory.mktemp("masked") / "pre"))
    assert isinstance(tuned, MaskedAutoencoder)
    held_out = LowResolution().simulate(1500, seed=4)  # fewer would leave coverage to chance
    return tuned.fit(stars, held_out, labels=["teff", "fe_h"], train=quick(700))


@pytest.fixture(scope="module")
def test_stars() -> Spectra:
    return LowResolution().simulate(1200, seed=9)


def without_pixels(spectra: Spectra) -> Spectra:
    return Spectra(spectra.grid, spectra.flux, 0 * spectra.ivar, spectra.table, spectra.quantity)


def test_labels_with_and_without_spectrum(model: MaskedAutoencoder, test_stars: Spectra) -> None:
    truth = test_stars.columns(["teff", "fe_h"])
    shown, hidden = model.predict(test_stars), model.predict(test_stars, spectrum=False)
    scatter = [1.4826 * np.median(np.abs(one.median - truth), axis=0) for one in (shown, hidden)]
    assert scatter[0][0] < 80
    assert scatter[0][1] < 0.15
    assert (scatter[0] < 0.8 * scatter[1]).all()
    assert (scatter[1] < np.std(truth, axis=0)).all()
    absent = model.predict(without_pixels(test_stars))
    np.testing.assert_allclose(absent.median, hidden.median, rtol=1e-3, atol=1e-3)
    assert absent.flags["no_spectrum"].all()
    for one in (shown, hidden):
        for level in (0.5, 0.68, 0.9):
            low, high = one.interval(level)
            inside = ((truth >= low) & (truth <= high)).mean(axis=0)
            assert np.abs(inside - level).max() < 0.06, (level, inside)


def test_any_levels_and_their_order(model: MaskedAutoencoder, test_stars: Spectra) -> None:
    found = model.predict(test_stars[:50], levels=(0.1, 0.5, 0.6, 0.99))
    assert found.quantiles is not None
    assert (np.diff(found.quantiles, axis=1) >= 0).all()
    with pytest.raises(DraperError, match="increase"):
        model.predict(test_stars[:2], levels=(0.5, 0.1))
    raw = model.predict(test_stars[:50], calibrated=False)
    assert not np.allclose(raw.quantile(0.16), found.quantile(0.16))


def test_missing_columns_and_their_order(model: MaskedAutoencoder, test_stars: Spectra) -> None:
    some = test_stars[:200]
    shuffled = dict(reversed(list(some.table.items())))
    same = Spectra(some.grid, some.flux, some.ivar, shuffled, some.quantity, correlation=some.correlation)
    assert np.array_equal(model.predict(same).median, model.predict(some).median)
    fewer = some.with_columns(w1_mag=None, w2_mag=None, parallax=np.full(200, np.nan))
    assert np.isfinite(model.predict(fewer).median).all()
    names = model.columns or ()
    nothing = without_pixels(some).with_columns(**dict.fromkeys((*names, *model.labels.names)))
    for verb in (model.predict, model.encode, model.generate, model.impute):
        with pytest.raises(DraperError, match="neither a spectrum nor any column"):
            verb(nothing)
    missing = nothing.with_columns(g_mag=np.full(200, np.nan))
    assert np.isnan(model.encode(missing)).all()
    misspelt = some.with_columns(parallax=None, paralax=some.table["parallax"])
    for verb in (model.predict, model.encode, model.generate, model.impute):
        with pytest.raises(DraperError, match="paralax"):
            verb(misspelt)
    ivar = np.array(some[:2].ivar)
    ivar[1] = 0
    bare = some[:2].with_columns(**dict.fromkeys(model.columns or ()))
    one = Spectra(bare.grid, bare.flux, ivar, bare.table, bare.quantity, correlation=bare.correlation)
    assert model.predict(one).flags["no_data"].tolist() == [False, True]


def test_a_catalogue_without_spectra(
    model: MaskedAutoencoder, test_stars: Spectra, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from draper.cli import main

    names = ["g_mag", "g_mag_err", "bp_mag", "bp_mag_err", "rp_mag", "parallax", "parallax_err"]
    columns = {name: test_stars.table[name][:40] for name in names}
    table = tmp_path / "stars.csv"
    rows = np.column_stack(list(columns.values()))
    np.savetxt(table, rows, delimiter=",", header=",".join(columns), comments="")
    folder = model.save(tmp_path / "model")
    assert main(["predict", str(folder), "--catalogue", str(table), "-o", str(tmp_path / "labels.csv")]) == 0
    found = model.predict(Spectra.from_table(model.own_grid, columns))
    written = (tmp_path / "labels.csv").read_text().splitlines()
    assert len(written) == 41
    assert float(written[1].split(",")[1]) == pytest.approx(found["teff"][0], rel=1e-3)
    both = ["predict", str(folder), str(table), "--catalogue", str(table), "-o", str(tmp_path / "no.csv")]
    assert main(both) != 0
    assert "leave out one" in capsys.readouterr().err
    table.write_text("gmag,bpmag\n12,13\n")
    assert main(["predict", str(folder), "--catalogue", str(table), "-o", str(tmp_path / "no.csv")]) != 0
    assert "expected: g_mag" in capsys.readouterr().err
    table.write_text("colour,size\n12,13\n")
    assert main(["predict", str(folder), "--catalogue", str(table), "-o", str(tmp_path / "no.csv")]) != 0
    assert "neither a spectrum" in capsys.readouterr().err


def test_catalogues_are_read_like_spectra(
    model: MaskedAutoencoder, test_stars: Spectra, tmp_path: Path
) -> None:
    from draper.cli import main

    names = ("g_mag", "bp_mag", "rp_mag", "parallax")
    some = test_stars[:6]
    columns = {"Source_ID": np.arange(10, 16), **{name.upper(): some.table[name] for name in names[1:]}}
    write_table({**columns, "gee": some.table["g_mag"]}, tmp_path / "stars.parquet", units={})
    folder = str(model.save(tmp_path / "model"))
    told = ["--catalogue", str(tmp_path / "stars.parquet"), "-o", str(tmp_path / "a.csv")]
    assert main(["predict", folder, *told, "--read.rename.gee", "g_mag", "--read.select", "id=11,13"]) == 0
    rows = [line.split(",")[:2] for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == ["11", "12", "13"]
    found = model.predict(Spectra.from_table(model.own_grid, {name: some.table[name] for name in names}))
    assert float(rows[0][1]) == pytest.approx(found["teff"][1], rel=1e-3)
    assert main(["predict", folder, *told, "--read.unit", "nm"]) != 0


def test_what_is_filled_in_tells_nothing_new(model: MaskedAutoencoder, test_stars: Spectra) -> None:
    some = test_stars[:300]
    again = model.generate(some)
    assert again.correlation is not None
    np.testing.assert_allclose(model.predict(again).median, model.predict(some).median, rtol=1e-5)
    gap = np.array(some.ivar)
    gap[:, 20:40] = 0
    filled = model.generate(replace(some, ivar=gap))
    assert filled.correlation is not None
    assert filled.correlation.of(3)[19, 41] == some.correlation.of(3)[19, 41]  # type: ignore[union-attr]
    assert not filled.correlation.of(3)[19, 20:40].any()
    plain = replace(some, ivar=np.where(gap > 0, 1, 0), correlation=None)
    made = model.generate(plain)
    measured = (made.ivar * (gap > 0))[0]
    assert len(np.unique(measured)) == 2
    assert measured.max() == pytest.approx(1e6 / (plain.flux**2)[0, gap[0] > 0].mean(), rel=1e-4)
    again = model.predict(replace(made, ivar=made.ivar * (gap > 0)))
    np.testing.assert_allclose(again.median, model.predict(plain).median, rtol=1e-4)
    assert (made.ivar[gap > 0] != 1).all()
    catalogue = Spectra.from_table(model.own_grid, {"g_mag": [12.0], "bp_mag": [12.3], "rp_mag": [11.6]})
    assert model.generate(catalogue).quantity == some.quantity


def test_spectra_from_labels_alone(
    model: MaskedAutoencoder, stars: Spectra, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from draper.cli import main

    labels = {"teff": [5000.0, 6000.0], "fe_h": [-0.5, 0.0]}
    made = model.generate(Spectra.from_table(model.own_grid, labels))
    assert (made.ivar > 0).all()
    assert made.quantity == "coefficients"
    assert made.table["brightness_assumed"].all()
    assert abs(made.table["g_mag"] - np.median(stars.table["g_mag"])).max() < 0.7
    # A magnitude given beside them sets the brightness, and nothing else.
    brighter = [
        model.generate(Spectra.from_table(model.own_grid, {**labels, "g_mag": g}), given="labels")
        for g in ([10.0, 10.0], [12.5, 12.5])
    ]
    np.testing.assert_allclose(brighter[0].flux, 10 * brighter[1].flux, rtol=1e-3)
    np.testing.assert_allclose(brighter[0].table["g_mag"], 10, atol=1e-3)
    np.testing.assert_allclose(brighter[0].table["bp_mag"] + 2.5, brighter[1].table["bp_mag"], atol=1e-3)
    # Measured colours do not show.
    odd = stars[:20].with_columns(j_mag=stars.table["j_mag"][:20] + 1)
    one, other = (model.generate(without_pixels(part), given="labels") for part in (stars[:20], odd))
    colours = [part.table["j_mag"] - part.table["g_mag"] for part in (one, other)]
    np.testing.assert_allclose(*colours, atol=1e-3)
    np.testing.assert_allclose(*(part.flux / part.flux[:, :1] for part in (one, other)), atol=1e-4)
    with pytest.raises(DraperError, match="no column with a label"):
        model.generate(stars[:3].with_columns(teff=None, fe_h=None), given="labels")
    folder, out = str(model.save(tmp_path / "model")), str(tmp_path / "made.h5")
    assert main(["generate", folder, "--set", "teff=5000,6000", "fe_h=0", "-o", out]) == 0
    assert "no brightness of their own" in capsys.readouterr().out
    assert len(draper.read(out)) == 2
    out = str(tmp_path / "bright.h5")
    assert main(["generate", folder, "--set", "teff=5000", "g_mag=10", "--given", "labels", "-o", out]) == 0
    assert draper.read(out).table["g_mag"][0] == pytest.approx(10, abs=1e-3)
    # A magnitude beside labels does not make them useless.
    out = str(tmp_path / "two.h5")
    assert main(["generate", folder, "--set", "teff=4500,6500", "fe_h=0", "g_mag=10", "-o", out]) == 0
    cool, hot = draper.read(out).table["bp_mag"] - 10
    assert cool > hot + 0.2
    assert main(["generate", folder, "--set", "tef=5000", "-o", str(tmp_path / "no.h5")]) != 0


def test_photometry_far_off_is_flagged(model: MaskedAutoencoder, test_stars: Spectra) -> None:
    some = without_pixels(test_stars[:200])
    odd = some.with_columns(j_mag=some.table["j_mag"] + 3, w1_mag=some.table["w1_mag"] - 3)
    assert model.predict(odd).flags["outside"].mean() > 0.9
    assert model.predict(some).flags["outside"].mean() < 0.1
    assert np.isnan(model.predict(some, novelty=False).columns["p_value"]).all()


def test_stars_beyond_the_labels_of_training_are_flagged(stars: Spectra, test_stars: Spectra) -> None:
    cool = stars[stars.table["teff"] < 5500]
    trained = MaskedAutoencoder(labels=("teff",), **SMALL).fit(cool, train=quick(300))  # type: ignore[arg-type]
    bright = test_stars[test_stars.table["g_mag"] < 15]
    hot = bright.table["teff"] > 6000
    p = trained.predict(bright).columns["p_labels"]
    assert np.median(p[hot]) < 0.01 < np.quantile(p[bright.table["teff"] < 5300], 0.1)


def test_filling_of_spectra_and_bands(model: MaskedAutoencoder, test_stars: Spectra) -> None:
    some = test_stars[:300]
    ivar = np.array(some.ivar)
    ivar[:, 55:] = 0
    seen = Spectra(some.grid, some.flux, ivar, some.table, some.quantity, correlation=some.correlation)
    seen = seen.with_columns(j_mag=np.full(300, np.nan))
    filled = model.generate(seen)
    assert np.array_equal(filled.flux[:, :55], some.flux[:, :55])
    assert np.array_equal(filled.ivar[:, :55], some.ivar[:, :55])
    error = filled.flux[:, 55] / some.flux[:, 55] - 1
    assert 1.4826 * np.median(np.abs(error)) < 0.1
    off = (filled.table["j_mag"] - some.table["j_mag_true"]) / filled.table["j_mag_err"]
    assert 1.4826 * np.median(np.abs(filled.table["j_mag"] - some.table["j_mag_true"])) < 0.08
    assert 0.3 < 1.4826 * np.median(np.abs(off)) < 2.5
    assert np.array_equal(filled.table["h_mag"], some.table["h_mag"])
    table = model.impute(seen)
    assert np.array_equal(table["j_mag"], filled.table["j_mag"])
    from_labels = model.generate(some, given="labels")
    assert not np.isclose(from_labels.flux[:, 0], some.flux[:, 0], rtol=1e-6).any()
    ratio = from_labels.flux[:, [0]] / some.flux[:, [0]]
    assert np.median(np.abs(ratio - 1)) < 0.3
    with pytest.raises(DraperError, match="labels"):
        MaskedAutoencoder(**SMALL).fit(made_spectra(100), train=quick(5)).generate(some, given="labels")


@pytest.mark.parametrize("gap", [(5, 10), (15, 30), (60, 66)])
def test_gaps_are_filled_as_well_as_by_the_linear_posterior(
    model: MaskedAutoencoder, test_stars: Spectra, gap: tuple[int, int]
) -> None:
    part = slice(*gap)
    ivar = np.array(test_stars.ivar)
    ivar[:, part] = 0
    seen = replace(test_stars, ivar=ivar)
    network = model.network

    def look(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        found = network.see(batch)
        statistics = network.statistics
        return (found.level[:, None] * (statistics.mean + found.visible.z @ statistics.basis.T),)

    (linear,) = model.apply(seen, look, (110,))
    filled = model.generate(seen)
    prior = LowResolution().prior.read(test_stars.table)
    truth = LowResolution().coefficients(torch.from_numpy(prior)).numpy()
    error, other = (
        np.median(np.abs((one - truth) * np.sqrt(test_stars.ivar))[:, part]) for one in (filled.flux, linear)
    )
    assert error < 1.05 * other
    stated = np.median(np.abs((filled.flux - truth) * np.sqrt(filled.ivar))[:, part])
    assert 0.4 < 1.4826 * stated < 2.5
    low, high = model.predict(seen, novelty=False).interval(0.68)
    inside = (test_stars.columns(["teff", "fe_h"]) >= low) & (test_stars.columns(["teff", "fe_h"]) <= high)
    assert 0.6 < inside.mean(axis=0).min() < inside.mean(axis=0).max() < 0.85


def test_frozen_tokens_stay(stars: Spectra) -> None:
    model = MaskedAutoencoder(architecture="tokens", components=12, width=16, blocks=1)
    model.fit(stars[:300], train=quick(3))
    before = {name: one.clone() for name, one in model.network.trunk.named_parameters()}
    model.config = model.config.replace(encoder="frozen")
    with pytest.raises(DraperError, match="left to train"):
        deepcopy(model).fit(stars[:300], train=quick(3))
    model.fit(stars[:300], labels=["teff"], train=quick(5))
    for name, one in model.network.trunk.named_parameters():
        assert torch.equal(one, before[name]) != ("label" in name), name


def test_later_labels_need_no_earlier_ones(stars: Spectra) -> None:
    model = MaskedAutoencoder(labels=["teff"], **SMALL).fit(stars[:300], train=quick(5))  # type: ignore[arg-type]
    model.fit(stars[:300].with_columns(teff=None), labels=["logg"], train=quick(5))
    assert np.isfinite(model.predict(stars[:5]).median).all()
    with pytest.raises(DraperError, match="no column 'teff'"):
        model.fit(stars[:300].with_columns(teff=None, logg=None), train=quick(5))


def test_columns_that_make_no_sense_are_refused(stars: Spectra) -> None:
    with pytest.raises(DraperError, match="twice"):
        MaskedAutoencoder(columns=["g_mag", "g_mag"])
    text = stars[:300].with_columns(g_mag=np.array(["bright"] * 300))
    with pytest.raises(DraperError, match="g_mag' is not a number"):
        MaskedAutoencoder(**SMALL).fit(text, train=quick(5))  # type: ignore[arg-type]


def test_fine_tuning_of_the_heads_alone(
    pretrained: MaskedAutoencoder, stars: Spectra, tmp_path: Path
) -> None:
    model = draper.load(pretrained.save(tmp_path / "pre"))
    assert isinstance(model, MaskedAutoencoder)
    assert model.labels.names == ()
    before = {name: one.clone() for name, one in model.network.trunk.named_parameters()}
    model.config = model.config.replace(encoder="frozen")
    model.fit(stars[:400], labels=["teff"], train=quick(60))
    for name, one in model.network.trunk.named_parameters():
        if name != "read_labels.weight":  # reads the new label
            assert torch.equal(one, before[name]), name
    head, scale = model.network.heads[0][2].weight[0].clone(), model.network.label_scatter[0].clone()
    kept = model.network.statistics.basis.clone()
    model.fit(stars[:400], labels=["logg"], train=quick(30))
    assert model.labels.names == ("teff", "logg")
    assert torch.equal(kept, model.network.statistics.basis)
    assert (model.network.heads[0][2].weight[0] - head).abs().max() < 0.5 * head.abs().max()
    assert torch.equal(model.network.label_scatter[0], scale)


def test_what_cannot_be_predicted_is_refused(model: MaskedAutoencoder, stars: Spectra) -> None:
    with pytest.raises(DraperError, match="sees this column"):
        model.fit(stars[:200], labels=["parallax"], train=quick(5))
    with pytest.raises(DraperError, match="seen and predicted"):
        MaskedAutoencoder(labels=["parallax"], columns=["parallax", "g_mag"], **SMALL).fit(stars[:200])
    with pytest.raises(DraperError, match="lacks columns"):
        MaskedAutoencoder(columns=["z_mag"], **SMALL).fit(stars[:200])
    alone = MaskedAutoencoder(labels=["parallax"], **SMALL).fit(stars[:200], train=quick(5))
    assert "parallax" not in (alone.columns or ())
    with pytest.raises(DraperError, match="without labels"):
        MaskedAutoencoder(**SMALL).fit(stars[:200], train=quick(5)).predict(stars[:2])


def test_correlations_of_errors_matter(stars: Spectra, test_stars: Spectra) -> None:
    """With them labels of bright stars are better than with independent errors."""
    errors = []
    truth = test_stars.columns(["teff"])
    bright = test_stars.table["g_mag"] < 13
    for one in (True, False):
        train, test = (
            spectra
            if one
            else Spectra(spectra.grid, spectra.flux, spectra.ivar, spectra.table, spectra.quantity)
            for spectra in (stars, test_stars)
        )
        model = MaskedAutoencoder(labels=["teff"], columns=(), components=30, width=48, blocks=1)
        model.fit(train, train=quick(500))
        errors.append(np.median(np.abs(model.predict(test).median - truth)[bright]))
    assert errors[0] < 0.9 * errors[1]


def test_label_errors_are_weights() -> None:
    """Labels that are wrong, and say so, do no harm."""
    train, test = made_spectra(1500, seed=1), made_spectra(500, seed=2)
    rng = np.random.default_rng(0)
    wrong = rng.random(1500) < 0.5
    teff = np.where(wrong, train.table["teff"] + rng.normal(0, 1500, 1500), train.table["teff"])
    scatter = []
    for error in (np.where(wrong, 1500.0, 5.0), np.full(1500, 5.0)):
        seen = train.with_columns(teff=teff, teff_err=error)
        model = MaskedAutoencoder(labels=["teff"], **SMALL).fit(seen, train=quick(500))
        found = model.predict(test, calibrated=False)
        scatter.append((np.median(np.abs(found["teff"] - test.table["teff"])), np.median(found.sigma)))
    assert scatter[0][0] < 110
    assert scatter[0][0] < scatter[1][0]
    assert scatter[0][1] < 0.5 * scatter[1][1]


def test_labels_with_impossible_errors_are_worth_nothing() -> None:
    spectra = made_spectra(300)
    bad = np.arange(300) % 3 == 0
    teff = np.where(bad, 99999.0, spectra.table["teff"])
    odd = spectra.with_columns(teff=teff, teff_err=np.where(bad, -1.0, 10.0))
    missing = spectra.with_columns(teff=np.where(bad, np.nan, teff), teff_err=np.full(300, 10.0))
    one, other = (
        MaskedAutoencoder(labels=("teff",), **SMALL).fit(part, train=quick(20)) for part in (odd, missing)
    )  # type: ignore[arg-type]
    assert one.labels["teff"].high < 10_000
    assert np.array_equal(one.predict(spectra)["teff"], other.predict(spectra)["teff"])


def test_a_fit_that_would_train_nothing_says_so() -> None:
    with pytest.raises(DraperError, match="left to train"):
        MaskedAutoencoder(encoder="frozen", **SMALL).fit(made_spectra(100), train=quick(5))  # type: ignore[arg-type]


def test_attention_among_tokens(stars: Spectra, test_stars: Spectra) -> None:
    model = MaskedAutoencoder(labels=["teff"], architecture="tokens", components=12, width=32, blocks=1)
    model.fit(stars, train=quick(400))
    error = model.predict(test_stars)["teff"] - test_stars.table["teff"]
    assert 1.4826 * np.median(np.abs(error)) < 200
    one = model.predict(test_stars[5:6]).median
    np.testing.assert_allclose(one, model.predict(test_stars).median[5:6], rtol=1e-3)
    model.fit(stars[:300], labels=["logg"], train=quick(5))
    assert model.predict(test_stars[:3]).labels.names == ("teff", "logg")


def test_masks_hide_blocks_ends_and_gaps() -> None:
    numbers = torch.rand(4000, NUMBERS + 3 + 2, generator=torch.Generator().manual_seed(0))
    block, place = torch.arange(40) // 20, torch.arange(40) % 20 / 20
    masks = random_masks(numbers, block, place, 3, 2, is_related=True)
    hidden = masks.pixels == 0
    first, second = hidden[:, :20], hidden[:, 20:]
    inside = [~part[:, 0] & part.any(1) & ~part[:, -1] for part in (first, second)]
    assert all((one & ~other).float().mean() > 0.01 for one, other in (inside, inside[::-1]))
    assert (inside[0] & (first == second).all(1)).float().mean() > 0.01
    assert (first.all(1) & ~second.any(1)).float().mean() > 0.02
    assert 0.2 < (~hidden).all(1).float().mean() < 0.5
    assert 0.15 < hidden.all(1).float().mean() < 0.5
    assert torch.equal(masks.columns[:, 0], masks.pixels.any(1).float())
    assert 0.02 < masks.labels.all(1).float().mean() < 0.3
    single = random_masks(numbers[:, :-2], torch.zeros(50).long(), torch.arange(50) / 50, 3, 0)
    assert not single.labels.numel()
    assert ((single.pixels == 0).any(1) & (single.pixels[:, [0, -1]] == 1).all(1)).any()


def test_scales_do_not_depend_on_distance() -> None:
    rng = np.random.default_rng(0)
    colour = rng.normal(size=(500, 2))
    near = torch.from_numpy(np.column_stack([colour[:, 0] + 10, colour.sum(1) + 11, np.full(500, 10.0)]))
    scales = ColumnScales(["g_mag", "parallax"]).double()
    values = near.clone()
    values[:, 2] = 10.0
    errors = torch.full_like(values, 0.01)
    scales.measure(values, errors)
    farther = values.clone()
    farther[:, :2] += 5
    farther[:, 2] /= 10
    keep = torch.ones_like(values)
    one, other = scales(values, errors, keep), scales(farther, errors, keep)
    torch.testing.assert_close(one.value, other.value)
    back, _ = scales.unscaled(one.target, one.target_error, one.magnitude)
    torch.testing.assert_close(back, values)


def test_columns_are_read_by_name() -> None:
    table = {
        "g_mag": np.array([10.0, np.inf]),
        "g_mag_err": np.array([0.1, 0.1]),
        "h_mag": np.array([1.0, 2.0]),
    }
    values, errors = read_columns(table, ["h_mag", "z_mag", "g_mag"])
    assert np.array_equal(values, [[1, np.nan, 10], [2, np.nan, np.nan]], equal_nan=True)
    assert np.array_equal(errors, [[np.nan, np.nan, 0.1]] * 2, equal_nan=True)
    absurd = {"g_mag": np.array([1e20, 12.0]), "parallax": np.array([1.0, 1e38])}
    assert np.isnan(read_columns(absurd, ["g_mag", "parallax"])[0]).sum() == 2


def test_what_is_missing_or_poor_does_no_harm(model: MaskedAutoencoder, test_stars: Spectra) -> None:
    """Errors that are missing are typical ones, poor values are left out; neither makes a star unusual."""
    truth = test_stars.table["teff"]

    def scatter(seen: Spectra) -> float:
        return float(np.median(np.abs(model.predict(seen, novelty=False)["teff"] - truth)))

    whole, nothing = scatter(test_stars), np.full(len(test_stars), np.nan)
    names = model.columns or ()
    assert scatter(test_stars.with_columns(**{f"{name}_err": None for name in names})) < 1.3 * whole
    same = test_stars.with_columns(w2_mag=nothing)
    poor = test_stars.with_columns(w2_mag=test_stars.table["w2_mag"] + 3, w2_mag_err=np.full(len(truth), 9.9))
    assert np.allclose(model.predict(poor)["teff"], model.predict(same)["teff"])
    no_parallax = test_stars.with_columns(parallax=nothing)
    alone = test_stars.with_columns(**dict.fromkeys(names, nothing))
    for seen, shown in ((no_parallax, True), (no_parallax, False), (alone, True)):
        assert model.predict(seen, spectrum=shown).flags["outside"].mean() < 0.08


def test_the_ledger_compares_what_it_says(pretrained: MaskedAutoencoder, stars: Spectra) -> None:
    told: list[str] = []
    unlabelled = np.arange(800) % 2 > 0
    some = stars[:800].with_columns(teff=np.where(unlabelled, np.nan, stars.table["teff"][:800]))
    done: list[tuple[int, int]] = []
    sizes = (60, 300, 10_000)
    rows = ledger(
        pretrained, some, ["teff"], sizes=sizes, seeds=1, say=told.append, progress=lambda *n: done.append(n)
    )
    assert done == [(number, 5) for number in range(1, 6)]
    assert [row["labels"] for row in rows] == [60] * 5
    methods = {row["method"]: row for row in rows}
    assert methods["pre-trained"]["teff"] < methods["mean"]["teff"]
    assert methods["same network, not pre-trained"]["gain"] == 1
    assert len(told) == 5
    assert pretrained.labels.names == ()
    assert steps_for(10**6, 512) == 3000
    with pytest.raises(DraperError, match="no star has all"):
        ledger(pretrained, some[unlabelled], ["teff"], sizes=(60,), seeds=1)


def test_option_files_of_the_masked_stellar_autoencoder() -> None:
    content = {
        "data": {
            "feature_cols": ["W1", "G", "bp_1", "rp_1", "U_SMSS", "PARALLAX", "EBV", "RA"],
            "datafile": "x",
        },
        "model": {"layer_dims": [8], "rtdl_embed": 16},
        "training": {"lr": 1e-5, "mini_batch_size": 64, "epochs": 3, "xp_masking_ratio": 0.9},
        "saving": {"model_str": "m.pth"},
    }
    assert OPTION_FILE.recognises(content)
    assert not OPTION_FILE.recognises({"data": {"labels": ["teff"]}})
    found = OPTION_FILE.translate(content)
    assert found.model == {"columns": ("w1_mag", "g_mag", "u_smss_mag", "parallax", "ebv")}
    assert found.train == {"epochs": 3, "batch_size": 64}
    assert any("xp_masking_ratio" in note for note in found.notes)
    for wrong in (
        {"data": {"feature_cols": ["G"], "other": 1}},
        {"data": {"feature_cols": ["G"]}, "modle": {}},
        {"data": {"feature_cols": ["G"]}, "model": [1]},
        {"data": {"feature_cols": None}},
        {"data": {"feature_cols": "G"}},
    ):
        with pytest.raises(DraperError):
            OPTION_FILE.translate(wrong)
    colours = OPTION_FILE.translate({"data": {"feature_cols": ["G_MAG", "bp_rp", "bp_12"]}})
    assert colours.model["columns"] == ("g_mag", "bp_rp")
    alone = OPTION_FILE.translate({"data": {"feature_cols": ["bp_1", "rp_1"]}})
    assert alone.model["columns"] == ()
    assert not any(note.endswith(":  here") for note in alone.notes)
