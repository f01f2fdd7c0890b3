"""The Retriever as a whole: what it is trained on, what it says of which spectra, and what it writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from draper import Grid, Spectra, TrainConfig, load, read, write
from draper.data.data_sets import join
from draper.errors import DraperError
from draper.models.retriever.model import Retriever
from draper.simulate.made import MadeStars
from draper.simulate.planets import INSTRUMENTS, Planets
from draper.train.checkpoint import Checkpoint

SMALL = {"components": 6, "transforms": 2, "width": 16, "blocks": 1, "calibration": 0}
TRAIN = TrainConfig(
    steps=20,
    batch_size=32,
    learning_rate=3e-3,
    warmup=5,
    patience=None,
    checkpoint_every=5,
    threads=1,
    matmul="highest",
    progress="none",
)
QUICK: dict[str, Any] = {"draws": 400, "samples": 100, "refine": "never"}
LABELS = ("planet_radius", "log_h2o")


def wfc3(n: int, seed: int = 5, **options: Any) -> Spectra:
    return Planets("hst-wfc3-g141", **{"box": "exogan", "error": 300.0, **options}).simulate(n, seed)


def noiseless(n: int, seed: int = 0) -> Spectra:
    """Return spectra without errors, as of a file of simulations."""
    spectra = wfc3(n, seed, error=1e-3)
    return Spectra(spectra.grid, spectra.flux, table=spectra.table, quantity=spectra.quantity)


@pytest.fixture(scope="module")
def model() -> Retriever:
    return Retriever(**SMALL).fit(Planets(box="exogan"), valid=0, train=TRAIN)


@pytest.fixture(scope="module")
def of_files() -> Retriever:
    return Retriever(**{**SMALL, "calibration": 100}, labels=LABELS).fit(noiseless(300), train=TRAIN)


def same(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in ("samples", "median", "log_evidence")
    )


def test_an_interrupted_run_on_the_simulator_goes_on_exactly(tmp_path: Path, monkeypatch) -> None:
    options = {"valid": 0, "train": TRAIN.replace(steps=30)}
    whole = Retriever(**SMALL).fit(Planets(box="exogan"), **options)
    written, calls = Checkpoint.write, []

    def write_and_die(self: Checkpoint, path: Path) -> Path:
        result = written(self, path)
        calls.append(path)
        if len(calls) == 3:
            raise ProcessLookupError
        return result

    monkeypatch.setattr(Checkpoint, "write", write_and_die)
    with pytest.raises(ProcessLookupError):
        Retriever(**SMALL).fit(Planets(box="exogan"), **options, out=tmp_path / "run")
    monkeypatch.undo()
    resumed = Retriever(**SMALL).fit(Planets(box="exogan"), **options, out=tmp_path / "run", resume=True)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor.nan_to_num(), resumed.state()[name].nan_to_num()), name
    with pytest.raises(DraperError, match="other options"):
        Retriever(**SMALL).fit(Planets(), **options, out=tmp_path / "run", resume=True)
    again = load(tmp_path / "run")
    planets = wfc3(2)
    assert same(again.predict(planets, **QUICK), whole.predict(planets, **QUICK))


def test_a_saved_model_says_the_same(model: Retriever, of_files: Retriever, tmp_path: Path) -> None:
    for name, one in (("physics", model), ("files", of_files)):
        again = load(one.save(tmp_path / name))
        assert again.config == one.config
        assert same(one.predict(wfc3(2), **QUICK), again.predict(wfc3(2), **QUICK))


def test_a_spectrum_is_sampled_alike_in_any_company(model: Retriever) -> None:
    planets = wfc3(4)
    among = model.predict(planets, **QUICK)
    alone = model.predict(planets[2:3], **QUICK)
    assert np.array_equal(among.samples[2], alone.samples[0])
    other = model.predict(planets[2:3], **QUICK, seed=1)
    assert not np.array_equal(other.samples, alone.samples)


def test_samples_lie_in_the_prior_and_hold_the_truth(model: Retriever) -> None:
    planets = wfc3(30)
    found = model.predict(planets, **{**QUICK, "draws": 2000, "samples": 200})
    assert found.labels.names == Planets().prior.names
    assert model.labels.inside(found.samples.reshape(-1, 7)).all()
    truth = planets.table["planet_radius"]
    pulls = (found["planet_radius"] - truth) / found.sigma[:, 2]
    assert np.abs(pulls).max() < 5
    assert 0.6 < pulls.std() < 1.5
    assert found.sigma[:, 2].max() < 0.1
    # Nothing is known of most gases at 300 ppm.
    assert (found.label_flags[:, 6] == "prior").mean() > 0.5
    assert np.mean(found.flags["outside"]) < 0.2


def test_other_bins_of_the_same_planet_agree(model: Retriever) -> None:
    table = {"planet_mass": [1.0], "temperature": [1500.0], "planet_radius": [1.2]}
    table |= {f"log_{gas}": [-4.0] for gas in ("h2o", "co2", "ch4", "co")}
    for name in INSTRUMENTS:
        planet = Planets(name, box="exogan", error=100.0).simulate(table, seed=3)
        found = model.predict(planet, **{**QUICK, "draws": 3000})
        assert found["planet_radius"][0] == pytest.approx(1.2, abs=5 * found.sigma[0, 2] + 0.01)
    # R = 3000
    ends = np.geomspace(2.9, 3.3, 389)
    fine = Grid.from_wavelength(
        np.sqrt(ends[1:] * ends[:-1]),
        unit="um",
        medium="vacuum",
        edges=np.stack([ends[:-1], ends[1:]], axis=1),
    )
    whole = Planets(box="exogan").simulate(table)
    depth = np.interp(fine.vacuum, whole.grid.vacuum, whole.flux[0])[None]
    found = model.predict(Spectra(fine, depth, np.full(depth.shape, 1e6)), **{**QUICK, "draws": 3000})
    assert found["planet_radius"][0] == pytest.approx(1.2, abs=5 * found.sigma[0, 2] + 0.01)


def test_the_star_sets_the_scale(model: Retriever) -> None:
    sun = wfc3(2)
    small = Spectra(sun.grid, 4 * sun.flux, sun.ivar / 16, sun.table, sun.quantity, meta=sun.meta)
    expected = model.predict(sun, **QUICK)
    answers = [
        model.predict(small, **QUICK, star_radius=0.5),
        model.predict(small.with_columns(star_radius=np.full(2, 0.5)), **QUICK),
        model.predict(
            replace(small.with_columns(star_radius=None), meta={**small.meta, "star_radius": 0.5}), **QUICK
        ),
    ]
    for found in answers:
        np.testing.assert_allclose(found.median, expected.median, rtol=0.02)
    for unknown in (np.nan, np.inf, 0.0):
        partly = model.predict(small.with_columns(star_radius=np.array([0.5, unknown])), **QUICK)
        np.testing.assert_allclose(partly.median[0], expected.median[0], rtol=0.02)
        assert np.isnan(partly.median[1]).all()
        assert partly.flags["unreliable"][1]
    with pytest.raises(DraperError, match="well enough"):
        model.predict(small, **QUICK, star_radius=0.5, star_radius_error=0.4)
    made = Planets("hst-wfc3-g141", box="exogan", error=300.0, star_radius=0.5).simulate(1, seed=5)
    found = model.predict(made, **QUICK)
    truth = made.table["planet_radius"]
    assert abs(found["planet_radius"] - truth)[0] < 5 * found.sigma[0, 2]


def test_bad_bins_and_empty_spectra(model: Retriever) -> None:
    planets = wfc3(3)
    flux, ivar = np.array(planets.flux), np.array(planets.ivar)
    flux[0, 4], ivar[0, 4] = np.nan, 0
    ivar[1] = 0
    damaged = Spectra(planets.grid, flux, ivar, planets.table, planets.quantity, meta=planets.meta)
    found = model.predict(damaged, **QUICK)
    assert np.isfinite(found.median[[0, 2]]).all()
    assert np.isnan(found.median[1]).all()
    assert found.flags["no_data"].tolist() == [False, True, False]
    assert found.columns["bins"].tolist() == [17, 0, 18]
    assert np.isnan(model.encode(damaged)[1]).all()
    assert len(model.predict(damaged[:0], **QUICK)) == 0


def test_spectra_without_errors_need_one(model: Retriever) -> None:
    planets = wfc3(3)
    plain = Spectra(planets.grid, planets.flux, None, planets.table, planets.quantity)
    for verb in (model.predict, model.evaluate, model.encode):
        with pytest.raises(DraperError, match="no errors"):
            verb(plain)
    with pytest.raises(DraperError, match=r"error=[\s\S]*snr="):
        model.evaluate(plain)
    ivar = np.array(planets.ivar)
    ivar[1] = 1
    partly = replace(planets, ivar=ivar)
    with pytest.raises(DraperError, match=r"1 of 3[\s\S]*error=$"):  # snr is not for some of them
        model.evaluate(partly)
    with pytest.raises(DraperError, match=r"2 of 3 spectra have errors[\s\S]*apart"):
        model.evaluate(partly, snr=100)
    given = 1e6 / np.sqrt(planets.ivar[0, 0])
    found = model.predict(plain, error=float(given), **QUICK)
    expected = model.predict(planets, **QUICK)
    assert np.allclose(found.median, expected.median, rtol=0.1, atol=0.5 * expected.sigma)


def test_spectra_in_other_units_are_flagged(model: Retriever) -> None:
    planets = wfc3(2)
    percent = Spectra(planets.grid, 100 * planets.flux, planets.ivar / 1e4, planets.table, planets.quantity)
    found = model.predict(percent, **QUICK)
    assert found.flags["outside"].all() | found.flags["unreliable"].all()


@pytest.mark.parametrize("options", [{}, {"weigh": False}])
def test_depths_of_no_planet_at_all_are_flagged(model: Retriever, options: dict[str, Any]) -> None:
    planets = wfc3(2)
    ivar = np.array(planets.ivar)
    ivar[1] = 0
    wrong = replace(planets, flux=-planets.flux, ivar=ivar)
    found = model.predict(wrong, **{**QUICK, **options})
    assert found.flags["no_data"].all()
    assert found.flags["outside"].tolist() == [True, False]  # without a bin nothing is known of it


def test_narrow_priors_that_hold_no_sample_say_nothing_of_the_spectrum(model: Retriever) -> None:
    narrow = {"planet_mass": (1.2, 1.2001), "temperature": (1500.0, 1500.1)}
    found = model.predict(wfc3(2), **QUICK, bounds=narrow)
    assert found.flags["no_data"].all()
    assert not found.flags["outside"].any()


def test_nested_sampling_is_not_for_data_that_no_planet_is_like(
    model: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dynesty")
    called: list[int] = []

    def stopped(*arguments: Any, **options: Any) -> None:
        called.append(len(arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr("draper.models.retriever.posterior.nested", stopped)
    monkeypatch.setattr("draper.models.retriever.posterior.is_good", lambda *figures: False)
    planets = wfc3(1, error=50.0)
    sawtooth = 10 * 50e-6 * (-1.0) ** np.arange(planets.flux.shape[1])
    found = model.predict(replace(planets, flux=planets.flux + sawtooth), draws=2000, samples=100)
    assert not called
    assert found.flags["outside"].all()
    with pytest.raises(KeyboardInterrupt):
        model.predict(planets, draws=2000, samples=100)


def test_offsets_of_data_sets_are_marginalised(model: Retriever) -> None:
    planets = wfc3(1, error=50.0)
    flux = np.array(planets.flux)
    flux[:, 9:] += 2e-3
    meta = {**planets.meta, "data_sets": [0] * 9 + [1] * 9}
    shifted = Spectra(planets.grid, flux, planets.ivar, planets.table, planets.quantity, meta=meta)
    options = {**QUICK, "draws": 3000}
    rigid, free = model.predict(shifted, **options), model.predict(shifted, **options, offset=2000.0)
    assert free.columns["chi2"][0] < 30 < rigid.columns["chi2"][0]


def test_the_error_of_the_simulator_is_counted_once(model: Retriever, tmp_path: Path) -> None:
    made = wfc3(1, error=1.0)
    options = model.options_of("predict")
    variance = model.observations(made, options)[0].variance
    for suffix in ("csv", "ecsv"):
        again = read(write(made, tmp_path / f"made.{suffix}"))
        np.testing.assert_allclose(model.observations(again, options)[0].variance, variance, rtol=1e-5)
    real = replace(made, meta={})
    more = model.observations(real, options)[0].variance
    assert (more > 1.1 * variance).all()
    for sets, expected in (((made, real), [variance, more]), ((real, made), [more, variance])):
        seen = model.observations(join(sets), options)[0]
        for number in range(2):
            np.testing.assert_allclose(seen.variance[seen.groups == number], expected[number], rtol=1e-5)


def test_spectra_of_samples_fill_missing_bands(model: Retriever) -> None:
    planets = wfc3(2)
    filled = model.generate(planets, **QUICK)
    assert filled.grid.matches(Planets().grid)
    assert np.array_equal(filled.ids, planets.ids)
    truth = Planets(box="exogan").simulate({name: planets.table[name] for name in Planets().prior.names})
    inside = (filled.grid.vacuum > 11_000) & (filled.grid.vacuum < 17_000)
    assert np.abs(filled.flux - truth.flux)[:, inside].max() < 1e-3
    each = model.generate(planets, **QUICK, kind="samples", grid=planets.grid)
    assert each.flux.shape == (200, 18)
    _, made = model.explain(planets, **QUICK)
    assert made.grid.matches(planets.grid)
    chi2 = ((made.flux - planets.flux) ** 2 * planets.ivar).sum(1)
    assert chi2.max() < 60


def test_files_are_calibrated_on_held_out_rows_alone(of_files: Retriever) -> None:
    measured = of_files.calibration
    assert measured.labels[:2] == LABELS
    assert measured.groups[0].numbers.max() == 30
    assert of_files.config.errors == (3.0, 1500.0)
    noisy = Retriever(**SMALL, labels=LABELS).fit(wfc3(100), train=TRAIN.replace(steps=2))
    assert noisy.config.errors is None


def test_labels_that_are_not_known_everywhere_are_learnt_where_they_are() -> None:
    data = noiseless(200)
    gaps = np.where(np.arange(200) % 2 == 0, data.table["log_h2o"], np.nan)
    train = TRAIN.replace(steps=3)
    made = Retriever(**{**SMALL, "calibration": 20}, labels=LABELS).fit(
        data.with_columns(log_h2o=gaps), train=train
    )
    found = made.predict(wfc3(2), **QUICK)
    assert np.isfinite(found.samples).all()
    with pytest.raises(DraperError, match="simulator"):
        made.predict(wfc3(2), **QUICK, fixed={"planet_radius": 1.0})


def test_one_label_and_flow_matching() -> None:
    made = Retriever(**{**SMALL, "density": "matching"}, labels=("planet_radius",))
    made.fit(noiseless(200), valid=0, train=TRAIN.replace(steps=5))
    found = made.predict(wfc3(2), **QUICK)
    assert found.samples.shape == (2, 100, 1)
    assert np.isfinite(found.samples).all()


def test_a_simulator_of_stars_serves_as_well() -> None:
    stars = MadeStars()
    made = Retriever(**SMALL, errors=(500.0, 5e4)).fit(stars, valid=0, train=TRAIN.replace(steps=5))
    assert made.physics is None
    found = made.predict(stars.simulate(3, seed=1), **QUICK)
    assert set(found.labels.names) == set(stars.prior.names)
    assert np.isfinite(found.samples).all()
    with pytest.raises(DraperError, match="simulator"):
        made.generate(stars.simulate(1, seed=1))


@pytest.mark.parametrize(
    ("options", "source", "message"),
    [
        ({"labels": LABELS}, Planets(), "all of its labels"),
        ({}, noiseless(5), "must be named"),
        ({"labels": ("planet_radiu",)}, noiseless(5), "planet_radius"),
        ({}, Planets(error=30.0), "noise of the training"),
        ({"errors": None}, Planets(), "no noise"),
    ],
)
def test_what_cannot_be_learnt_is_refused(options: dict[str, Any], source: Any, message: str) -> None:
    with pytest.raises(DraperError, match=message):
        Retriever(**SMALL, **options).fit(source, valid=0, train=TRAIN)


def test_without_held_out_spectra_nothing_stops_early() -> None:
    train = TrainConfig(steps=3, batch_size=16, threads=1, matmul="highest", progress="none")
    model = Retriever(**SMALL, labels=LABELS).fit(wfc3(40), valid=0, train=train)
    assert model.training["held_out"] == 0
    assert model.training["config"]["patience"] is None


def test_what_is_sampled_beside_the_labels_is_reported(model: Retriever) -> None:
    made = Planets(box="exogan", instrument="hst-wfc3-g141", error=100.0).simulate(2, seed=3)
    quick = {"draws": 4000, "samples": 1000, "refine": "never"}
    options = {"inflation": 3.0, "star_radius_error": 0.05, **quick}
    found = model.predict(made, **options)
    assert found.labels.names[-2:] == ("star_radius_ratio", "inflation")
    assert ((found["inflation"] >= 1) & (found["inflation"] <= 3)).all()
    assert np.allclose(found["star_radius_ratio"], 1, atol=0.2)
    # The data say nothing of the star; of so small a network some spectra have few effective samples.
    assert found.sigma[found.columns["effective"].argmax(), 7] == pytest.approx(0.05, abs=0.02)
    assert "inflation" not in model.predict(made, **quick).labels.names
    # Spectra of samples are those in front of the star that belongs to each.
    _, version = model.explain(made, **options)
    chi2 = ((version.flux - made.flux) ** 2 * made.ivar).sum(1)
    assert chi2.max() < 60
    each = model.generate(made, **options, kind="samples", grid=made.grid)
    chi2 = ((each.flux - np.repeat(made.flux, 1000, axis=0)) ** 2 * made.ivar[:1]).sum(1)
    assert np.median(chi2) < 100


def test_what_is_not_allowed_is_not_retrieved(model: Retriever, of_files: Retriever) -> None:
    with pytest.raises(DraperError, match="knows no stars"):
        of_files.predict(wfc3(1), **QUICK, star_radius=0.8)
    with pytest.raises(DraperError, match="refine"):
        of_files.predict(wfc3(1), draws=400, samples=100, refine="nested")


def test_gases_are_compared_whatever_is_known_of_them(model: Retriever) -> None:
    made = wfc3(1, error=100.0)
    quick = {"draws": 1000, "samples": 100}
    known = {"bounds": {"log_h2o": (-3.0, -2.0)}, "priors": {"log_co": (-4.0, 0.1)}}
    columns = model.predict(made, **quick, detect=True, **known).columns
    for gas in ("h2o", "co2", "ch4", "co"):
        assert np.isfinite(columns[f"log_bayes_{gas}"]).all()
        assert (columns[f"log_bayes_{gas}_err"] > 0).all()
    # Of carbon monoxide WFC3 says next to nothing.
    assert abs(columns["log_bayes_co"][0]) < 1 + 3 * columns["log_bayes_co_err"][0]
