"""The network with wavelength as an input, and distillation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from draper import Grid, Label, LabelSet, Spectra, TrainConfig, load
from draper.configs.emulator import EmulatorConfig
from draper.errors import DraperError
from draper.models.emulator.model import Emulator
from draper.nn import query
from draper.nn.emulator import EmulatorNetwork
from draper.nn.query import QueryNetwork
from draper.testing import checks, made_spectra

QUICK = TrainConfig(epochs=100, batch_size=64, threads=1, matmul="highest", progress="none")
SMALL = {"architecture": "query", "hidden": (32, 32), "waves": 48, "decoder": (96, 32, 32)}
STARS = {"teff": [5200.0, 6300.0], "logg": [2.0, 4.0], "fe_h": [-1.0, 0.1]}


def clean(n: int, seed: int = 0, **options) -> Spectra:
    spectra = made_spectra(n, snr=1e6, seed=seed, **options)
    return Spectra(spectra.grid, spectra.flux, table=spectra.table, quantity=spectra.quantity)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def scatter(spectra: Spectra) -> float:
    return rms(spectra.flux - spectra.flux.mean(0))


@pytest.fixture(scope="module")
def model() -> Emulator:
    return Emulator(**SMALL).fit(clean(400), train=QUICK)


def test_learns_spectra_it_has_not_seen(model: Emulator, tmp_path: Path) -> None:
    test = clean(100, seed=5)
    made = model.generate(test.table)
    assert rms(made.flux - test.flux) < 0.1 * scatter(test)
    assert 0.7 < rms((made.flux - test.flux) * np.sqrt(made.ivar)) < 1.4
    assert not made.table["outside_box"].any()
    loaded = load(model.save(tmp_path / "model"))
    again = loaded.generate(test.table)
    assert np.array_equal(made.flux, again.flux)
    assert np.array_equal(made.ivar, again.ivar)
    assert loaded.generate({"teff": 9000, "logg": 3, "fe_h": 0}).table["outside_box"].all()


def test_any_wavelength_is_its_own_too(model: Emulator) -> None:
    network, own = model.network, model.own_grid.vacuum
    assert isinstance(network, QueryNetwork)
    x = torch.from_numpy(model.scaled(model.labels.read(STARS)))
    with torch.no_grad():
        torch.testing.assert_close(network.at(x, own), network(x), rtol=0, atol=1e-6)
        torch.testing.assert_close(network.at(x, own[[7, 3]]), network(x)[:, [7, 3]], rtol=0, atol=1e-6)
    with pytest.raises(DraperError, match="wavelengths are outside"):
        network.at(x, [own[-1] + 1])


def test_between_the_pixels_it_is_as_good_as_on_them() -> None:
    """Every second pixel is learnt; the others are known as well, and better than by straight lines."""
    train, test = clean(400, pixels=239), clean(100, seed=5, pixels=239)
    model = Emulator(**SMALL).fit(train.pixels(slice(0, None, 2)), train=QUICK)
    made = model.generate(test.table, grid=test.grid)
    error = made.flux - test.flux
    on, between = rms(error[:, ::2]), rms(error[:, 1::2])
    assert between < 2 * on < 0.15 * scatter(test)
    straight = (test.flux[:, :-2:2] + test.flux[:, 2::2]) / 2
    assert between < 0.5 * rms(straight - test.flux[:, 1::2])
    x = torch.from_numpy(model.scaled(model.labels.read(test.table)))
    with torch.no_grad():
        asked = model.network.at(x, test.grid.vacuum).numpy()
    np.testing.assert_allclose(made.flux, asked, atol=1e-6)


def test_pixels_beyond_its_ends_have_no_weight(model: Emulator) -> None:
    own = model.own_grid
    wide = Grid.linear(own.vacuum[0] - 5, own.vacuum[-1] + 5, 1.25, medium="vacuum")
    made = model.generate(STARS, grid=wide)
    inside = (wide.vacuum >= own.vacuum[0]) & (wide.vacuum <= own.vacuum[-1])
    assert np.array_equal(made.ivar > 0, np.tile(inside, (2, 1)))
    broadened = model.generate(STARS, grid=own, resolving_power=1000)
    assert rms(np.diff(broadened.flux)) < rms(np.diff(model.generate(STARS).flux))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_jacobian_is_the_derivative(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "NUMBERS", 1000)  # several blocks
    torch.manual_seed(0)
    wavelength = np.linspace(8500, 8600, 41)
    network = QueryNetwork(3, wavelength, (8, 8), waves=12, decoder=(16, *[8] * depth)).double()
    x = torch.rand(5, 3, dtype=torch.float64) - 0.5
    with torch.inference_mode():
        flux, columns = network.jacobian(x)
        torch.testing.assert_close(flux, network(x))
        for label in range(3):
            step = torch.zeros(3, dtype=torch.float64)
            step[label] = 1e-5
            slope = (network(x + step) - network(x - step)) / 2e-5
            torch.testing.assert_close(columns[:, :, label], slope, rtol=1e-6, atol=1e-8)
    assert columns.abs().amax((0, 1)).min() > 0.01


def test_jacobian_in_physical_units(model: Emulator) -> None:
    found = model.jacobian(STARS)
    for number, (name, step) in enumerate({"teff": 20.0, "logg": 0.02, "fe_h": 0.02}.items()):
        values = np.array(STARS[name])
        low, high = (model.generate({**STARS, name: values + s * step}).flux for s in (-1, 1))
        np.testing.assert_allclose(found[:, :, number], (high - low) / (2 * step), atol=2e-2 / step * 0.01)


def test_labels_are_found_again(model: Emulator) -> None:
    test = made_spectra(20, seed=5)
    found = model.predict(test, rv=0.0)
    for number, name in enumerate(model.labels.names):
        error = found[name] - test.table[name]
        assert rms(error) < 0.5 * np.std(test.table[name])
        assert 0.4 < rms(error / found.sigma[:, number]) < 2


def test_phases_are_exact_at_high_resolution() -> None:
    """In single precision wavelengths would be off by a tenth of such a pixel."""
    own = 8500 + 0.005 * np.arange(1001)
    network = QueryNetwork(2, own, (4,), waves=16, decoder=(8, 4))
    phase = 2 * np.pi * np.log(own / np.sqrt(own[0] * own[-1])) / network.periods[-1]
    np.testing.assert_allclose(network.waves[:, 15].numpy(), np.sin(phase), atol=1e-6)
    assert 3.9 < network.periods[-1] / np.log(own[1] / own[0]) < 4.1


def test_every_pixel_is_looked_at_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "PIXELS", 10)
    network = QueryNetwork(2, np.linspace(8500, 8600, 95), (4,), waves=4, decoder=(8, 4)).train()
    steps = [network._chosen(step / 300) for step in range(300)]
    counts = torch.bincount(torch.cat(steps), minlength=95)
    assert counts.min() > 10
    assert torch.equal(steps[7], network._chosen(7 / 300))
    assert torch.equal(network.eval()._chosen(0.1), network._chosen(0.2))


def test_processes_see_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over the rows of a batch, whatever torch's generator says: so two processes do what one does."""
    monkeypatch.setattr(query, "PIXELS", 20)
    model = Emulator(**SMALL).fit(clean(100), train=QUICK.replace(epochs=2))
    network, batch = model.own_module.train(), checks.batch_of(model, 32, seed=3)
    whole = network.loss(batch, {}, "model", 0.3)["total"]
    torch.rand(3)
    halves = [
        network.loss({name: tensor[rows] for name, tensor in batch.items()}, {}, "model", 0.3)["total"]
        for rows in (slice(16), slice(16, None))
    ]
    torch.testing.assert_close(whole, sum(halves) / 2)
    assert whole != network.loss(batch, {}, "model", 0.4)["total"]


@pytest.mark.parametrize(
    "check",
    [
        checks.check_fit_lowers_loss,
        checks.check_gradients_by_player,
        checks.check_moving_buffers_are_named,
        checks.check_same_seed_same_weights,
        checks.check_resume_is_exact,
        checks.check_save_and_load,
        checks.check_gaps_are_tolerated,
        checks.check_bad_pixels_do_not_matter,
        checks.check_held_out_spectra_teach_nothing,
        checks.check_any_number,
    ],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
def test_conforms(check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example: Mapping = {"architecture": "query", "hidden": (16,), "waves": 16, "decoder": (24, 12, 12)}
    monkeypatch.setattr(EmulatorConfig, "example", {"labels": ("teff", "logg", "fe_h"), **example})
    monkeypatch.setattr(query, "PIXELS", 30)
    check("emulator", tmp_path)


def test_options_that_do_not_go_together_are_refused() -> None:
    for options in ({"components": 5}, {"output": "bounded"}, {"start": "ridge"}):
        with pytest.raises(DraperError, match="has no components"):
            Emulator(architecture="query", **options)


def test_a_network_of_others() -> None:
    grid = Grid.linear(5000, 5010, 1, medium="vacuum")
    labels = LabelSet([Label("teff", low=4000, high=8000), Label("logg", low=0, high=5)])
    network = QueryNetwork(2, grid.vacuum, (5, 7), waves=6, decoder=(9, 4, 3), activation="leaky_relu")
    model = Emulator.from_network(network, grid, labels)
    with torch.no_grad():
        expected = network(torch.tensor([[0.25, -0.3]])).numpy()
    np.testing.assert_allclose(model.generate({"teff": 7000, "logg": 1.0}).flux, expected, atol=1e-6)


# -------------------------------------------------------------------- distilled


def test_a_pupil_agrees_with_its_teacher_within_its_error(model: Emulator, tmp_path: Path) -> None:
    fine = Grid.linear(8465, 8695, 1.3, medium="vacuum")
    quick = TrainConfig(steps=400, batch_size=64, threads=1, matmul="highest", progress="none")
    pupil = model.distil(800, grid=fine, train=quick, hidden=(32, 32))
    assert isinstance(pupil.network, EmulatorNetwork)
    assert pupil.own_grid.matches(fine)
    assert pupil.labels.names == model.labels.names
    np.testing.assert_allclose(
        pupil.labels.scale([model.labels.low, model.labels.high]).T, [[0, 1]] * 3, atol=1e-3
    )
    test = clean(200, seed=5, pixels=96)
    theirs, own = model.generate(test.table, grid=fine), pupil.generate(test.table)
    inside, known = (~(made.table["outside_box"] | made.table["outside_hull"]) for made in (own, theirs))
    assert inside.sum() > 0.9 * known.sum()
    apart = (own.flux - theirs.flux)[inside]
    assert rms(apart) < 0.1 * scatter(theirs)
    assert rms(apart * np.sqrt(own.ivar[inside])) < 1.2
    teacher = np.sqrt(np.mean(1 / theirs.ivar[inside], axis=0))
    assert (pupil.network.uncertainty.numpy() > 0.9 * teacher).all()
    told = load(pupil.save(tmp_path / "pupil")).training
    assert told["distilled_from"]["architecture"] == "query"
    assert told["distilled_from"]["fingerprint"] == model.training["fingerprint"]
    assert told["quantity"] == "normalised flux"


def test_stars_to_learn_from(model: Emulator) -> None:
    quick = QUICK.replace(epochs=2)
    stars = {name: clean(60, seed=3).table[name] for name in model.labels.names}
    stars["teff"] = np.where(np.arange(60) < 5, 9000, stars["teff"])
    wide = Grid.linear(8450, 8600, 2, medium="vacuum")
    pupil = model.distil(stars, grid=wide, train=quick, hidden=(8,))
    assert pupil.training["spectra"] + pupil.training["held_out"] < 56
    assert pupil.labels["teff"].high < 7001
    assert pupil.own_grid.vacuum[0] >= model.own_grid.vacuum[0]
    with pytest.raises(DraperError, match="all labels are outside"):
        model.distil({"teff": 9000.0, "logg": 3.0, "fe_h": 0.0}, train=quick)
    with pytest.raises(DraperError, match="no pixel of the grid"):
        model.distil(20, grid=Grid.linear(5000, 5010, 1, medium="vacuum"), train=quick)
    with pytest.raises(DraperError, match="too few"):
        model.distil(3, train=quick)


def test_a_teacher_that_knows_neither_its_points_nor_its_errors() -> None:
    grid = Grid.linear(5000, 5030, 1, medium="vacuum")
    labels = LabelSet([Label("teff", low=4000, high=8000), Label("logg", low=0, high=5)])
    torch.manual_seed(0)
    teacher = Emulator.from_network(EmulatorNetwork(2, 31, (5, 7)), grid, labels)
    pupil = teacher.distil(300, train=QUICK.replace(epochs=30), hidden=(16,))
    assert np.isfinite(pupil.network.uncertainty.numpy()).all()
    np.testing.assert_allclose(pupil.labels.low, [4000, 0], atol=40)
    np.testing.assert_allclose(pupil.labels.high, [8000, 5], atol=40)
