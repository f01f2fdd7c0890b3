"""Zero points: lines and labels by stars that are known, with honest errors of what follows."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made import LABELS, drawn, network, wavelength

from draper import Spectra, load
from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet
from draper.errors import DraperError
from draper.infer.zero_point import Offsets, sun
from draper.instrument.pipeline import Pipeline
from draper.models.emulator.model import Emulator

GRID = Grid(wavelength(), resolving_power=12_000.0)
NOISE = 0.002
FIT = {"rv": 0.0, "jitter": "fit"}


def emulator(*, bounded: bool = False) -> Emulator:
    output = "bounded" if bounded else "linear"
    model = Emulator(labels=LABELS.names, hidden=(16, 16), components=0, output=output)
    model.set_up(GRID, LABELS, Pipeline())
    model.network.load_state_dict(network(bounded=bounded).state_dict(), strict=False)
    model.training = {"quantity": "normalised flux", "unit": ""}
    return model


def wrong_lines(seed: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return errors of the strengths of lines, as wide as lines are, and some lines that are missing."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(len(GRID)).float()
    centre = torch.rand(70, generator=generator) * len(GRID)
    profiles = torch.exp(-0.5 * ((place[:, None] - centre) / 4) ** 2)
    share = (profiles[:, :60] @ (0.25 * torch.randn(60, generator=generator))).clamp(-0.5, 0.5)
    return share, 0.3 * profiles[:, 60:].sum(1)


def real_stars(n: int, seed: int) -> Spectra:
    """Return spectra of stars whose lines differ from those of the emulator."""
    true = network()
    true.correct_lines(*wrong_lines())
    x = drawn(n, seed, reach=0.25)
    flux = true(x).numpy() + NOISE * np.random.default_rng(seed).normal(size=(n, len(GRID)))
    table = dict(zip(LABELS.names, LABELS.unscale((x + 0.5).double().numpy()).T, strict=True))
    ivar = np.full(flux.shape, NOISE**-2, dtype=np.float32)
    return Spectra(GRID, flux.astype(np.float32), ivar, table)


def errors(model: Emulator, stars: Spectra) -> np.ndarray:
    """Return errors (n, d) of fitted labels, in units of their ranges."""
    found = model.predict(stars, **FIT)
    truth = np.stack([stars.table[name] for name in LABELS.names], axis=1)
    return (found.median - truth) / (LABELS.high - LABELS.low)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def test_one_star_corrects_lines_of_others(tmp_path: Path) -> None:
    stars, reference = real_stars(60, seed=2), real_stars(1, seed=3)
    plain, model = emulator(), emulator()
    assert model.zero_point(reference, **FIT) is model
    assert rms(errors(model, reference)) < 0.002
    assert rms(errors(model, stars)) < 0.5 * rms(errors(plain, stars))
    found = model.predict(stars, **FIT)
    assert set(found.columns["zero_point"]) == {"0 (lines, labels)"}
    assert "zero_point" not in plain.predict(stars, **FIT).columns
    again = load(model.save(tmp_path / "model"))
    assert np.array_equal(again.predict(stars, **FIT).sigma, found.sigma)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "## Zero point" in card
    assert "| logg | 1 |" in card


def test_many_stars_give_offset_and_scatter_and_intervals_that_hold() -> None:
    reference, stars = real_stars(30, seed=5), real_stars(200, seed=6)
    # What a catalogue says is 100 K off, and of finite accuracy.
    random = np.random.default_rng(0)
    reference, stars = (
        part.with_columns(teff=part.table["teff"] + 100 + 80 * random.normal(size=len(part)))
        for part in (reference, stars)
    )
    model = emulator().zero_point(reference, lines=False, **FIT)
    facts = model.training["zero_point"]["labels"]["teff"]
    assert facts["offset"] == pytest.approx(facts["before"], abs=50)
    assert facts["scatter"] > 60
    found = model.predict(stars, **FIT)
    pulls = (found["teff"] - stars.table["teff"]) / found.sigma[:, 0]
    assert abs(np.median(pulls)) < 0.35
    assert np.mean(np.abs(pulls) < 1) == pytest.approx(0.68, abs=0.1)
    assert found.covariance is not None
    # The range moved with the labels, so that spectra of labels are those of real stars.
    assert model.labels["teff"].low == pytest.approx(LABELS["teff"].low - facts["offset"])


def test_lines_are_left_where_spectra_do_not_resolve_them() -> None:
    blurred = replace(real_stars(1, seed=3), grid=replace(GRID, resolving_power=3_000.0))
    model, plain = emulator(), network()
    model.zero_point(blurred, **FIT)
    assert model.training["zero_point"]["lines"] is False
    x = drawn(3)
    assert torch.equal(model.network(x), plain(x))


@pytest.mark.parametrize("components", [False, True])
def test_depths_change_as_they_should(components: bool) -> None:
    made = network()
    if components:
        made.basis = torch.linalg.qr(made.last.weight, mode="reduced").Q.T.contiguous()
        rest = made.last.bias.clone()
        made.mean = made.mean + rest
        made.last.weight = torch.nn.Parameter(made.basis @ made.last.weight)
        made.last.bias = torch.nn.Parameter(torch.zeros(len(made.basis)))
    share, extra = wrong_lines()
    before = deepcopy(made)
    x = drawn(5)
    depth = 1 - before(x)
    made.correct_lines(share, extra)
    expected = (1 + share) * depth + extra * depth.mean(1, keepdim=True)
    assert torch.allclose(1 - made(x), expected, atol=2e-5)


def test_outliers_count_less() -> None:
    random = np.random.default_rng(1)
    off = random.normal(0.1, 0.05, size=(40, 2))
    off[:3, 1] = 5.0
    found = Offsets.of(off, np.full_like(off, 1e-6))
    assert found.offset == pytest.approx([0.1, 0.1], abs=0.04)
    assert found.scatter == pytest.approx([0.05, 0.055], rel=0.35)
    assert found.error == pytest.approx(0.05 / np.sqrt(40), rel=0.4)
    few = Offsets.of(np.array([[0.1, 0.3], [0.1, -0.3]]), np.full((2, 2), 1e-4))
    assert (few.scatter == 0).all()
    # Those that do not agree have a mean that is known no better than they scatter.
    assert few.error == pytest.approx([0.01 / 2**0.5, 0.3])
    unknown = Offsets.of(np.full((3, 1), np.nan), np.ones((3, 1)))
    assert (unknown.offset, unknown.error, unknown.stars) == (0, 0, 0)


def test_noise_of_a_star_is_not_taken_for_its_lines() -> None:
    """A noisy reference star: later labels are off by what the zero point says, whether errors are stated."""
    stars, model = real_stars(40, seed=2), emulator()
    x = drawn(1, 3, reach=0.25)
    flux = network()(x).numpy() + 0.03 * np.random.default_rng(1).normal(size=(1, len(GRID)))
    table = {name: LABELS.unscale((x + 0.5).double().numpy())[:, n] for n, name in enumerate(LABELS.names)}
    noisy = Spectra(GRID, flux.astype(np.float32), np.ones_like(flux), table)
    model.zero_point(noisy, **FIT)
    truth = network()(drawn(40, 2, reach=0.25)).numpy()
    clean = replace(stars, flux=truth, ivar=np.full_like(truth, 1e6))
    off = errors(model, clean) * (LABELS.high - LABELS.low)
    stated = [model.training["zero_point"]["labels"][name]["error"] for name in LABELS.names]
    assert (np.abs(np.median(off, axis=0)) < 4 * np.array(stated)).all()


def test_the_sun_is_known() -> None:
    labels = LabelSet([Label("teff", low=4000, high=7000), Label("mg_fe"), Label("vsini", high=50.0)])
    assert sun(labels) == {"teff": 5772.0, "mg_fe": 0.0}


def test_what_is_no_zero_point_is_refused() -> None:
    stars, model = real_stars(2, seed=3), emulator()
    for given, match in (
        ("moon", "columns by name, or sun"),
        ({"mass": [1.0, 1.0]}, "no label of the reference stars is known"),
        ({"teff": [9000.0, 9000.0]}, "within the labels of the model"),
    ):
        with pytest.raises(DraperError, match=match):
            model.zero_point(stars, given, **FIT)  # type: ignore[arg-type]
    assert "zero_point" not in model.training
    model.zero_point(stars, **FIT)
    with pytest.raises(DraperError, match="has a zero point already"):
        model.zero_point(stars, **FIT)
    with pytest.raises(DraperError, match="learn_error is for a model without a zero point"):
        model.learn_error(real_stars(20, seed=5), **FIT)
    with pytest.raises(DraperError, match="cannot be corrected"):
        emulator(bounded=True).zero_point(stars, lines=True, **FIT)


def test_explained_spectra_end_where_the_model_ends() -> None:
    """The continuum of a fit goes on beyond, and is no model there; labels are those of predict."""
    wide = Grid(8450.0 * np.exp(np.arange(-60, 960) * 10 / 299792.458), resolving_power=12_000.0)
    flux = np.ones((1, len(wide)), dtype=np.float32)
    flux[:, 60:960] = network()(drawn(1)).numpy()
    seen = Spectra(wide, flux, np.full_like(flux, 1e6))
    model, options = emulator(), {"rv": "free", "continuum": 2}
    found, made = model.explain(seen, **options)
    assert made.grid.matches(wide)
    assert not made.ivar[:, :59].any()
    assert not made.ivar[:, 961:].any()
    assert made.ivar[:, 70:950].all()
    assert np.array_equal(found.median, model.predict(seen, **options).median)
