"""The method cycle learns from unpaired sets what observed spectra have and synthetic ones lack."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import draper
from draper import Grid, Spectra, TrainConfig
from draper.configs.translator import TranslatorConfig
from draper.data.resample import resample
from draper.errors import DraperError
from draper.models.translator.grids import on_common_grid
from draper.models.translator.model import Translator
from draper.simulate.made import made_grid, made_spectra
from draper.simulate.stars import Stars
from draper.testing import CHECKS

QUICK: dict[str, Any] = {"batch_size": 32, "threads": 1, "progress": "none"}


@pytest.fixture(scope="module")
def model() -> Translator:
    data = Translator.example_data(800)
    train = TrainConfig(steps=400, learning_rate=2e-3, **QUICK)
    return Translator(**TranslatorConfig.cycle_example).fit(**data, train=train)


def test_a_missing_line_is_added_and_taken_away(model: Translator) -> None:
    centre = int(np.abs(made_grid(96).vacuum - 8600).argmin())
    synthetic, observed = made_spectra(200, seed=7), Translator.example_spectra(200, seed=7)
    missing = np.abs(synthetic.flux - observed.flux)[:, centre].mean()
    added = np.abs(model.generate(synthetic).flux - observed.flux)[:, centre].mean()
    taken = np.abs(model.generate(observed, to="synthetic").flux - synthetic.flux)[:, centre].mean()
    assert max(added, taken) < 0.35 * missing


def test_translated_spectra_keep_their_stars(model: Translator) -> None:
    synthetic, observed = made_spectra(200, seed=8), Translator.example_spectra(200, seed=8)
    made = model.generate(synthetic)
    assert made.table["teff"].tolist() == synthetic.table["teff"].tolist()
    # Nearer to the same star than the mean observed spectrum is.
    off = np.sqrt(np.square(made.flux - observed.flux).mean())
    assert off < 0.8 * np.sqrt(np.square(observed.flux.mean(axis=0) - observed.flux).mean())


def test_observed_spectra_are_drawn_with_different_split_latents(model: Translator) -> None:
    synthetic = made_spectra(3, seed=1)
    typical, drawn, again, other = (
        model.generate(synthetic, **options).flux
        for options in ({}, {"split": "drawn"}, {"split": "drawn"}, {"split": "drawn", "seed": 1})
    )
    np.testing.assert_array_equal(drawn, again)
    assert np.abs(drawn - other).max() > 0
    assert np.abs(drawn - typical).max() > 0
    with pytest.raises(DraperError, match="nothing that could be drawn"):
        model.generate(synthetic, to="synthetic", split="drawn")


def test_latents_of_both_domains(model: Translator) -> None:
    observed, synthetic = Translator.example_spectra(4, seed=3), made_spectra(4, seed=3)
    shared, split = (model.encode(observed, part=part) for part in ("shared", "split"))
    np.testing.assert_array_equal(model.encode(observed, part="both"), np.hstack([shared, split]))
    assert model.encode(synthetic, domain="synthetic").shape == shared.shape
    with pytest.raises(DraperError, match="no split latents"):
        model.encode(synthetic, domain="synthetic", part="both")


def test_synthetic_spectra_count_as_often_as_their_labels_are_observed() -> None:
    synthetic = made_spectra(300, seed=1)
    teff = synthetic.table["teff"]
    hot = Translator.example_spectra(600, seed=2)
    hot = hot[hot.table["teff"] > np.median(teff)]
    small = {**TranslatorConfig.cycle_example, "labels": ("teff",)}
    model = Translator(**small, reweight=True)
    model.fit(synthetic=synthetic, observed=hot, train=TrainConfig(steps=2, **QUICK))
    assert model.weights is not None
    weights = model.weights.of(synthetic.table)
    assert np.average(teff, weights=weights) > teff.mean() + 0.3 * (hot.table["teff"].mean() - teff.mean())
    assert model.weights.of({"teff": np.array([np.nan])}).tolist() == [1.0]
    assert 0 < model.training["reweighted"]["effective"] < 1
    assert "teff" in model.card_sections()["Weights of synthetic spectra"]
    # What counts for nothing changes no discriminator.
    network = model.network
    rows = {"flux": torch.tensor(synthetic.flux[:8]), "ivar": torch.ones(8, 96)}
    batch = {
        f"{domain}.{name}": array for domain in ("synthetic", "observed") for name, array in rows.items()
    }
    network.eval()
    losses = []
    for frequency in (0.0, 1.0, 2.0):
        counted = {**batch, "synthetic.frequency": torch.full((8,), frequency)}
        shared = network.shared(counted)
        losses.append(
            float(network.loss(counted, shared, "discriminators", 0.0)["judgement_observed"].detach())
        )
    assert losses[0] < losses[1]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)
    plain = hot.with_columns(teff=None)
    with pytest.raises(DraperError, match="not given: teff"):
        Translator(**small, reweight=True).fit(synthetic=synthetic, observed=plain)
    with pytest.raises(DraperError, match="both serve"):
        Translator(**small, reweight=True, best_of=4)
    with pytest.raises(DraperError, match="an option of the method cycle"):
        Translator(reweight=True)


def test_sets_on_two_grids_are_brought_to_one(tmp_path: Path) -> None:
    observed = Translator.example_spectra(40)
    fine = Grid.linear(8470, 8690, 0.5, medium="vacuum")
    synthetic = resample(made_spectra(60, seed=2), fine)
    one, other = on_common_grid(synthetic, observed)
    assert one.grid.matches(other.grid)
    assert 0 < len(one.grid) < len(observed.grid)
    train = TrainConfig(steps=2, **QUICK)
    files = {"synthetic": tmp_path / "synthetic.h5", "observed": tmp_path / "observed.h5"}
    for path, spectra in zip(files.values(), (synthetic, observed), strict=True):
        draper.write(spectra, path)
    model = Translator(**TranslatorConfig.cycle_example).fit(**files, train=train)
    assert model.own_grid.matches(one.grid)


def test_sets_that_cannot_be_brought_to_one_grid_are_refused() -> None:
    observed, train = Translator.example_spectra(40), TrainConfig(steps=2, **QUICK)
    far = Spectra(Grid.linear(5000, 5100, 1, medium="vacuum"), np.ones((9, 101)))
    with pytest.raises(DraperError, match="do not overlap"):
        Translator(**TranslatorConfig.cycle_example).fit(synthetic=far, observed=observed, train=train)
    with pytest.raises(DraperError, match="not on one grid"):
        Translator(**TranslatorConfig.cycle_example).fit(synthetic=Stars(), observed=observed, train=train)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": (8,)}, "filters and strides"),
        ({"shared_filters": (8,)}, "shared_filters and shared_strides"),
        ({"split_filters": (8,)}, "split_filters and shared_strides"),
        ({"kernel": 6}, "odd"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DraperError, match=message):
        TranslatorConfig(**options)


def test_a_network_for_other_strides_is_refused_for_few_pixels() -> None:
    with pytest.raises(DraperError, match="too few numbers"):
        Translator(method="cycle", shared=1, split=1).fit(
            **Translator.example_data(40), train=TrainConfig(steps=1, **QUICK)
        )


# That of several processes starts a program of its own, which knows the default method alone.
OWN = [check for check in CHECKS if check.__name__ != "check_processes_agree"]


@pytest.mark.parametrize("check", OWN, ids=lambda check: check.__name__.removeprefix("check_"))
def test_the_method_cycle_conforms(check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The public checks train what the example of the options says: the method anchored."""
    monkeypatch.setattr(TranslatorConfig, "example", TranslatorConfig.cycle_example)
    check("translator", tmp_path)
