"""Labels to spectra: what is learnt, what is flagged, what is broadened and moved, and how sure it is."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from draper import Grid, Label, LabelSet, Spectra, TrainConfig, load
from draper.data import samples
from draper.errors import DivergedError, DraperError, MissingLabels
from draper.instrument.doppler import SPEED_OF_LIGHT
from draper.models.emulator.columns import complete_columns
from draper.models.emulator.model import Emulator
from draper.nn.emulator import EmulatorNetwork
from draper.testing import made_spectra

LABELS = ("teff", "logg", "fe_h")
QUICK = TrainConfig(epochs=100, batch_size=64, threads=1, matmul="highest", progress="none")
QUIET = 1e6
"""Signal-to-noise ratio of spectra without noise."""


def clean(n: int, seed: int = 0, **options) -> Spectra:
    spectra = made_spectra(n, snr=QUIET, seed=seed, **options)
    return Spectra(spectra.grid, spectra.flux, table=spectra.table, quantity=spectra.quantity)


@pytest.fixture(scope="module")
def model() -> Emulator:
    return Emulator(hidden=(64, 64)).fit(clean(600), train=QUICK)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_learns_spectra_it_has_not_seen(model: Emulator) -> None:
    test = clean(200, seed=5)
    made = model.generate(test.table)
    assert made.grid.matches(test.grid)
    assert made.quantity == "normalised flux"
    assert np.array_equal(made.ids, test.ids)
    assert rms(made.flux - test.flux) < 0.03 * rms(test.flux - test.flux.mean(0))


def test_names_the_labels_itself(model: Emulator) -> None:
    assert model.labels.names == LABELS
    bare = clean(60).with_columns(teff=None, logg=None, fe_h=None, snr=np.ones(60))
    with pytest.raises(DraperError, match="stellar label"):
        Emulator().fit(bare, train=QUICK)


@pytest.mark.parametrize(
    "options",
    [
        {"components": 0},
        {"components": 0, "activation": "leaky_relu"},
        {"output": "bounded"},
        {"output": "bounded", "start": "ridge"},
        {"loss": "l1"},
        {"start": "ridge", "components": 10},
        {"solve": False},
    ],
    ids=str,
)
def test_every_form_learns(options: dict) -> None:
    model = Emulator(hidden=(32, 32), **options).fit(clean(400), train=QUICK)
    test = clean(100, seed=5)
    made = model.generate(test.table).flux
    assert rms(made - test.flux) < 0.15 * rms(test.flux - test.flux.mean(0))
    if "output" in options:
        assert made.min() > 0
        assert made.max() < 1


def test_closed_form_start_is_worth_epochs() -> None:
    first = {}
    for start in ("ridge", "random"):
        config = QUICK.replace(steps=1, learning_rate=1e-9)
        model = Emulator(hidden=(64,), start=start, solve=False).fit(clean(600), train=config)
        first[start] = model.history[-1]["valid/error"]
    assert first["ridge"] < 0.2 * first["random"]


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(DraperError, match="components need loss"):
        Emulator(loss="l1", components=20)
    with pytest.raises(DraperError, match="only a label of the model"):
        Emulator(labels=["teff"], censor={"mg_fe": [(8500, 8600)]})
    with pytest.raises(DraperError, match="only a label of the model"):
        Emulator(censor={"mg_fe": [(8500, 8600)]}).fit(clean(60), train=QUICK)


def test_censored_labels_move_no_other_pixels(tmp_path: Path) -> None:
    train = clean(400)
    model = Emulator(hidden=(48, 48), censor={"fe_h": [(8500, 8560), (8600, 8620)]})
    model.fit(train, train=QUICK)
    where = train.grid.inside([(8500, 8560), (8600, 8620)])
    ends = {"teff": 5500, "logg": 2.5, "fe_h": [-2.0, 0.5]}
    metals = model.jacobian(ends)[:, :, 2]
    assert (metals[:, ~where] == 0).all()
    assert (abs(metals[:, where]).max(0) > 1e-4).any()
    low, high = model.generate(ends).flux
    assert np.array_equal(low[~where], high[~where])
    again = load(model.save(tmp_path / "model")).fit(train, train=QUICK.replace(epochs=2))
    assert (again.jacobian(ends)[:, ~where, 2] == 0).all()


@pytest.mark.parametrize("options", [{}, {"output": "bounded"}, {"activation": "leaky_relu"}], ids=str)
def test_jacobian_is_the_derivative(options: dict) -> None:
    model = Emulator(hidden=(32, 32), **options).fit(clean(300), train=QUICK.replace(epochs=20))
    at = {"teff": [5200.0, 6300.0], "logg": [2.0, 4.0], "fe_h": [-1.0, 0.1]}
    found = model.jacobian(at)
    assert found.shape == (2, 96, 3)
    network = model.network.double()
    x = torch.from_numpy(model.labels.scale(model.labels.read(at)) - 0.5)
    exact = torch.stack([torch.func.jacfwd(lambda v: network(v[None])[0])(row) for row in x])
    width = model.labels.high - model.labels.low
    np.testing.assert_allclose(found, exact.detach().numpy() / width, rtol=1e-3, atol=1e-6 / width.min())


def test_box_and_hull_are_flagged() -> None:
    spectra = clean(600)
    # No hot star of low gravity, as in every grid of stars.
    kept = spectra.select(spectra.table["teff"] < 4500 + 500 * spectra.table["logg"])
    model = Emulator(hidden=(32,)).fit(kept, train=QUICK.replace(epochs=5))
    made = model.generate({"teff": [4500, 6800, 7500], "logg": [3.0, 0.5, 4.5], "fe_h": -1.0})
    assert made.table["outside_box"].tolist() == [False, False, True]
    assert made.table["outside_hull"].tolist() == [False, True, True]
    assert not model.generate(kept.table).table["outside_hull"].any()


def test_errors_are_of_the_right_size_and_grow_outside(model: Emulator, tmp_path: Path) -> None:
    test = clean(400, seed=5)
    made = model.generate(test.table)
    assert 0.7 < rms((made.flux - test.flux) * np.sqrt(made.ivar)) < 1.4
    by_size = np.argsort(made.ivar.mean(1))
    sizes = [rms((made.flux - test.flux)[half]) for half in (by_size[200:], by_size[:200])]
    assert sizes[1] > sizes[0], "spectra said to be uncertain are not"
    inside, far = model.generate({"teff": [5500, 12000], "logg": 2.5, "fe_h": -0.75}).ivar.mean(1) ** -0.5
    assert far > 2 * inside
    loaded = load(model.save(tmp_path / "model"))
    again = loaded.generate(test.table)
    for name in ("flux", "ivar"):
        assert np.array_equal(getattr(made, name), getattr(again, name))
    for name in ("outside_box", "outside_hull"):
        assert np.array_equal(made.table[name], again.table[name])


def test_noise_of_training_spectra_is_not_the_error_of_the_model() -> None:
    model = Emulator(hidden=(16,)).fit(made_spectra(800, snr=50), train=QUICK)
    test = clean(200, seed=5)
    made = model.generate(test.table)
    error = rms(made.flux - test.flux)
    assert error < 0.5 / 50
    assert error / 3 < rms(made.ivar**-0.5) < 0.6 / 50


def test_without_held_out_spectra_errors_are_unknown() -> None:
    model = Emulator(hidden=(16,)).fit(clean(100), valid=0, train=QUICK.replace(epochs=2))
    assert np.isnan(model.network.uncertainty.numpy()).all()
    assert (model.generate({"teff": 5000, "logg": 3, "fe_h": 0}).ivar == 1).all()


def test_velocity_and_broadening(model: Emulator) -> None:
    star = {"teff": [5000.0, 5000.0], "logg": 3.0, "fe_h": 0.0}
    rest = model.generate(star)
    moved = model.generate(star, rv=[0.0, 200.0])
    np.testing.assert_allclose(moved.flux[0], rest.flux[0], atol=2e-6)
    beyond = rest.grid.vacuum < rest.grid.vacuum[0] * (1 + 200 / SPEED_OF_LIGHT)
    assert (moved.ivar[1, beyond] == 0).all()
    assert (moved.ivar[1, ~beyond] > 0).all()
    expected = np.interp(rest.grid.vacuum / (1 + 200 / SPEED_OF_LIGHT), rest.grid.vacuum, rest.flux[0])
    assert rms((moved.flux[1] - expected)[~beyond]) < 0.1 * rms(moved.flux[1] - rest.flux[1])
    broad = model.generate(star, vsini=[0.0, 150.0], vmac=5.0)
    assert np.ptp(broad.flux[1]) < np.ptp(broad.flux[0])
    coarse = model.generate(star, resolving_power=1000)
    assert coarse.grid.resolving_power == 1000
    assert np.ptp(coarse.flux[0]) < np.ptp(rest.flux[0])
    with pytest.raises(DraperError, match="cannot be sharper"):
        model.generate(star, resolving_power=3000)


def test_other_pixels(model: Emulator) -> None:
    star = {"teff": 5000.0, "logg": 3.0, "fe_h": 0.0}
    rest = model.generate(star)
    some = model.generate(star, pixels=slice(10, 20))
    assert np.array_equal(some.flux, rest.flux[:, 10:20])
    fine = model.generate(star, grid=Grid.linear(8450, 8690, 0.5, medium="vacuum"))
    assert (fine.ivar[0, :20] == 0).all()  # the model begins at 8460
    np.testing.assert_allclose(
        np.interp(rest.grid.vacuum[5:-5], fine.grid.vacuum, fine.flux[0]), rest.flux[0, 5:-5], atol=2e-3
    )
    coarse = model.generate(star, grid=Grid.linear(8470, 8680, 10, medium="vacuum"))
    assert coarse.flux.shape == (1, 22)
    assert coarse.flux.mean() == pytest.approx(rest.flux.mean(), abs=0.01)


def test_labels_of_any_shape(model: Emulator) -> None:
    assert len(model.generate({"teff": [], "logg": [], "fe_h": []})) == 0
    many = model.generate({"teff": np.linspace(4500, 6500, 600), "logg": 3.0, "fe_h": 0.0})
    alone = model.generate({"teff": many.table["teff"][300], "logg": 3.0, "fe_h": 0.0})
    np.testing.assert_allclose(many.flux[300], alone.flux[0], atol=1e-6)
    for wrong, says in (
        ({"teff": [5000, 6000], "logg": [1, 2, 3], "fe_h": 0}, "one value for each"),
        ({"teff": 5000, "logg": np.nan, "fe_h": 0}, "values of labels are missing"),
        ({"teff": 5000, "log_g": 2, "fe_h": 0}, "not given: logg"),
    ):
        with pytest.raises(DraperError, match=says):
            model.generate(wrong)


def test_elements_follow_iron_where_they_are_not_given() -> None:
    ranges = {"teff": (4000, 7000), "fe_h": (-2, 1), "mg_fe": (-1, 1)}
    labels = LabelSet(Label(name, low=low, high=high) for name, (low, high) in ranges.items())
    columns = complete_columns(labels, {"teff": [5000.0, 6000.0], "fe_h": -0.5})
    assert columns["mg_fe"].tolist() == [0.0, 0.0]
    assert complete_columns(labels, {"teff": 5000.0, "fe_h": 0.0, "mg_fe": 0.3})["mg_fe"] == [0.3]
    with pytest.raises(MissingLabels, match="not given: fe_h") as caught:
        complete_columns(labels, {"teff": 5000.0})
    assert caught.value.missing == ("fe_h",)


def test_microturbulence_follows_where_it_is_not_given() -> None:
    labels = LabelSet(
        [Label("teff", low=4000, high=7000), Label("logg", low=0, high=5), Label("vmic", low=1, high=2)]
    )
    grid = Grid.linear(5000, 5010, 1, medium="vacuum")
    model = Emulator.from_network(EmulatorNetwork(3, 11, (4,)), grid, labels)
    made = model.generate({"teff": [5777.0, 4500.0], "logg": [4.44, 2.0]})
    np.testing.assert_allclose(made.table["vmic"], [1.05, 1.66])
    assert model.generate({"teff": 5777.0, "logg": 4.44, "vmic": 1.7}).table["vmic"] == [1.7]


def test_a_network_of_others(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = EmulatorNetwork(2, 11, (5, 7), "leaky_relu")
    labels = LabelSet([Label("teff", low=4000, high=8000), Label("logg", low=0, high=5)])
    grid = Grid.linear(5000, 5010, 1, medium="vacuum")
    model = Emulator.from_network(network, grid, labels, source="elsewhere")
    x = np.array([0.25, -0.3])
    layers = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in (*network.layers, network.last)
    ]
    for weight, bias in layers[:-1]:
        z = weight @ x + bias
        x = np.where(z > 0, z, 0.01 * z)
    expected = layers[-1][0] @ x + layers[-1][1]
    star = {"teff": 7000.0, "logg": 1.0}
    np.testing.assert_allclose(model.generate(star).flux[0], expected, atol=1e-6)
    loaded = load(model.save(tmp_path / "model"))
    assert np.array_equal(loaded.generate(star).flux, model.generate(star).flux)
    assert loaded.training["source"] == "elsewhere"
    with pytest.raises(DraperError, match="do not fit"):
        Emulator.from_network(network, grid[:5], labels)


def test_fluxes_in_physical_units() -> None:
    spectra = clean(400)
    bright = Spectra(spectra.grid, 3e4 * spectra.flux, table=spectra.table, quantity="flux", unit="Jy")
    model = Emulator(hidden=(32, 32), components=0).fit(bright, train=QUICK)
    test = clean(100, seed=5)
    made = model.generate(test.table)
    assert (made.quantity, made.unit) == ("flux", "Jy")
    assert rms(made.flux / 3e4 - test.flux) < 0.1 * rms(test.flux - test.flux.mean(0))


def test_learns_a_computed_grid() -> None:
    train, test = samples.load("rvs-grid").split(0.8, seed=1)
    model = Emulator(hidden=(200,), components=100).fit(train, train=QUICK.replace(steps=60))
    made = model.generate(test.table)
    assert model.labels.names[:4] == ("teff", "logg", "fe_h", "vmic")
    error = rms(made.flux - test.flux)
    assert error < 0.02 < 0.4 * rms(test.flux - test.flux.mean(0))
    assert 0.6 < rms((made.flux - test.flux) * np.sqrt(made.ivar)) < 1.6


def test_last_layer_is_solved_from_rows_of_the_whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file that is sorted, the first rows are unlike the rest."""
    monkeypatch.setattr("draper.nn.emulator.ROWS", 100)
    spectra = clean(600)
    ordered = spectra[np.argsort(spectra.table["teff"])]
    model = Emulator(hidden=(32,)).fit(ordered, train=QUICK.replace(steps=1))
    test = clean(100, seed=5)
    assert rms(model.generate(test.table).flux - test.flux) < 0.1 * rms(test.flux - test.flux.mean(0))


def test_the_short_way_follows_the_weights() -> None:
    """With more components than hidden units the two layers behind are one, kept until a weight changes."""
    model = Emulator(hidden=(12,), components=40).fit(clean(200), train=QUICK.replace(epochs=5))
    network, test = model.own_module, clean(50, seed=5)
    x = torch.from_numpy(model.scaled(model.labels.read(test.table)))
    for change in range(2):
        long_way = network(x).detach()
        with torch.inference_mode():
            flux, columns = network.jacobian(x)
            torch.testing.assert_close(network(x), long_way)
        torch.testing.assert_close(flux, long_way)
        torch.testing.assert_close(columns, network.jacobian(x)[1].detach(), rtol=1e-3, atol=1e-5)
        with torch.no_grad():
            network.last.weight.mul_(1.0 + 0.1 * (change == 0))
    assert np.array_equal(model.generate(test).flux, model.generate(test.table).flux)


def test_a_network_that_has_learnt_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmulatorNetwork, "hidden", lambda self, x: torch.zeros(len(x), self.last.in_features))
    with pytest.raises(DivergedError, match="same spectrum for all labels"):
        Emulator(labels=LABELS, hidden=(8,)).fit(clean(60), train=QUICK.replace(epochs=1))


def test_what_fits_keep_follows_the_weights(model: Emulator) -> None:
    """Spectra that come one by one are not prepared for each time; but networks may change in between."""
    test = clean(3, seed=7)
    first = model.predict(test)
    kept = model.label_fit.model.kept["fitter"]
    again = model.predict(test[:1])
    assert model.label_fit.model.kept["fitter"] is kept
    np.testing.assert_allclose(again["teff"], first["teff"][:1], rtol=1e-5)
    model.predict(test, rv=0.0)
    assert model.label_fit.model.kept["fitter"] is not kept
    changed = copy.deepcopy(model)
    changed.predict(test)
    with torch.no_grad():
        for weights in changed.network.parameters():
            weights.mul_(1.02)
    fresh = copy.deepcopy(changed)
    fresh._forward = None
    found, expected = changed.predict(test), fresh.predict(test)
    assert np.abs(found["teff"] - first["teff"]).max() > 1
    np.testing.assert_array_equal(found["teff"], expected["teff"])
