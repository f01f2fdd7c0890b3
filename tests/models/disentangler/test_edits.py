"""Changed labels: the response to them, the errors that are expected, and where there are no stars."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from factor_spectra import QUICK, SMALL, flux_at, stars

from draper import load
from draper.data.spectra import Spectra
from draper.errors import TrainingWarning
from draper.models.disentangler.checks import FEW
from draper.models.disentangler.model import Disentangler
from draper.nn.response import Response

OPTIONS = {"remove": ("teff",), "keep": ("fe_h",), "probe": False, **SMALL}


@pytest.fixture(scope="module")
def model() -> Disentangler:
    return Disentangler(**OPTIONS).fit(stars(2400), train=QUICK.replace(steps=300))


@pytest.fixture(scope="module")
def unseen() -> Spectra:
    return stars(300, seed=5)


def test_the_response_is_free_of_the_errors_of_labels() -> None:
    """A regression on labels with errors would give half the slope."""
    generator = torch.Generator().manual_seed(0)
    true, noise = torch.randn(2, 4000, 1, generator=generator)
    labels = (true + noise) / 2**0.5
    flux = true * torch.tensor([1.0, -2.0]) + 0.1 * torch.randn(4000, 2, generator=generator)
    response = Response(1, 2)
    response.fit(labels, torch.full((4000, 1), 2**-0.5), [(flux, torch.ones(4000))])
    ends = torch.tensor([[-0.7], [0.7]])
    slope = (response(ends)[1] - response(ends)[0]) / 1.4
    np.testing.assert_allclose(slope, [2**0.5, -2 * 2**0.5], rtol=0.1)


def test_changes_carry_their_expected_errors(model: Disentangler, unseen: Spectra) -> None:
    assert model.edits.response.ready
    made = model.generate(unseen, teff="+300")
    names = {f"{name}_expected_error" for name in model.labels.names}
    assert names | {"expected_error", "unpopulated"} <= set(made.table)
    error = made.column("teff_expected_error")
    assert np.isfinite(error).all()
    assert (error > 0).all()
    assert np.median(error) < 300
    width = np.ptp(made.column("teff")) / np.ptp(model.labels.scale(made.columns(model.labels.names))[:, 0])
    np.testing.assert_allclose(made.column("expected_error"), error / width, rtol=1e-3)
    assert "expected_error" not in model.generate(unseen).table


def test_expected_errors_cover_the_actual_ones(model: Disentangler, unseen: Spectra) -> None:
    """The true change of the spectrum is known here: its misfit beside the true one is small."""
    before, after = model.generate(unseen), model.generate(unseen, fe_h="-0.2")
    change = after.flux - before.flux
    table = {**unseen.table, "fe_h": unseen.column("fe_h") - 0.2}
    truth = flux_at(table) - flux_at(unseen.table)
    arrived = -0.2 * (change * truth).sum(1) / np.square(truth).sum(1)
    within = np.abs(arrived + 0.2) < after.column("fe_h_expected_error")
    assert within.mean() > 0.5


def test_combinations_without_stars_are_flagged(model: Disentangler, unseen: Spectra) -> None:
    assert model.generate(unseen, teff="+1").table["unpopulated"].mean() < 0.1
    assert model.generate(unseen, teff=12000.0).table["unpopulated"].all()


def test_what_was_learnt_of_changes_is_stored(model: Disentangler, unseen: Spectra, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    own, again = (one.generate(unseen, teff=5500.0) for one in (model, load(tmp_path / "model")))
    np.testing.assert_array_equal(own.flux, again.flux)
    for name in ("teff_expected_error", "expected_error", "unpopulated"):
        np.testing.assert_array_equal(own.table[name], again.table[name])


def test_few_stars_have_unknown_errors() -> None:
    model = Disentangler(**OPTIONS).fit(stars(100), train=QUICK.replace(steps=2))
    assert np.isnan(model.generate(stars(3), teff=5500.0).column("expected_error")).all()


def test_ten_stars_are_too_few() -> None:
    with pytest.warns(TrainingWarning, match=f"10 training spectra are too few.*at least {FEW}"):
        Disentangler(**OPTIONS).fit(stars(10), valid=0, train=QUICK.replace(steps=1))


def test_engines_that_need_labels_say_so() -> None:
    data = stars(200)
    lacking = data.with_columns(teff=np.where(np.arange(200) % 10 == 0, data.column("teff"), np.nan))
    options = {**OPTIONS, "engine": "bins"}
    with pytest.warns(TrainingWarning, match="90% of the labels to remove are missing.*bottleneck"):
        model = Disentangler(**options).fit(lacking, valid=0, train=QUICK.replace(steps=2))
    assert np.isfinite(model.generate(lacking).flux).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Disentangler(**OPTIONS).fit(lacking, valid=0, train=QUICK.replace(steps=2))
