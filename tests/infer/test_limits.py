"""Limits by profile likelihood: where they must be, how often they hold, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from made import LABELS, drawn, forward, network, noise, wavelength

from draper.configs.fit import FitConfig
from draper.configs.train import TrainConfig
from draper.errors import DraperError
from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.limits import Side, limits
from draper.models.emulator.model import Emulator
from draper.testing import made_spectra

LAM = wavelength()
TRUTH = LABELS.unscale((drawn(300) + 0.5).double().numpy())


def mocks(sigma: float) -> Exposure:
    flux = noise(network()(drawn(300)), sigma).float().numpy()
    return Exposure(LAM, flux, np.full_like(flux, sigma**-2))


def fitter(**options: object) -> Fitter:
    return Fitter(forward(network(), LAM), FitConfig(rv=0.0, **options))


@pytest.mark.parametrize(("side", "sign"), [("upper", 1), ("lower", -1)])
def test_limits_of_gaussians(side: Side, sign: int) -> None:
    fit = fitter()
    found = limits(fit, [mocks(0.002)], ["fe_h"], 0.95, side)["fe_h"]
    best = fit([mocks(0.002)])
    number = best.names.index("fe_h")
    sigma = np.sqrt(best.covariance[:, number, number])
    assert sigma.max() < 0.1
    assert np.median(np.abs((found - best.values[:, number]) / sigma - sign * 1.645)) < 0.02
    # The share of limits that hold has a standard error of 0.013.
    assert np.mean(sign * (found - TRUTH[:, number]) > 0) == pytest.approx(0.95, abs=0.035)


def test_everything_is_allowed_without_data() -> None:
    data = mocks(100.0)
    assert np.isnan(limits(fitter(), [data], ["fe_h"], 0.95)["fe_h"]).all()
    none = Exposure(LAM, data.flux[:2], np.zeros_like(data.ivar[:2]))
    assert np.isnan(limits(fitter(), [none], ["fe_h"], 0.95)["fe_h"]).all()


def test_prior_is_part_of_the_profile() -> None:
    data = mocks(100.0)
    found = limits(fitter(priors={"fe_h": (-1.0, 0.2)}), [data], ["fe_h"], 0.95)["fe_h"]
    assert found == pytest.approx(-1.0 + 1.645 * 0.2, abs=0.03)


def test_rotation_has_limits() -> None:
    data = mocks(0.005)
    few = Exposure(LAM, data.flux[:40], data.ivar[:40])
    found = limits(fitter(vsini="free"), [few], ["vsini"], 0.95)["vsini"]
    assert (found > 0).all()
    assert np.median(found) < 15


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [("fe", 0.95, "fe_h"), ("teff", 0.95, "free"), ("fe_h", 0.3, "between 0.5 and 1")],
)
def test_what_has_no_limit(name: str, level: float, message: str) -> None:
    with pytest.raises(DraperError, match=message):
        limits(fitter(fixed={"teff": 5000.0}), [mocks(0.005)], [name], level)


def test_emulator_has_limits() -> None:
    spectra = made_spectra(300, seed=2)
    model = Emulator(hidden=(16,)).fit(
        spectra, train=TrainConfig(epochs=20, threads=1, matmul="highest", progress="none")
    )
    high = model.upper_limits(spectra[:20], ["fe_h"], rv=0.0)["fe_h"]
    low = model.upper_limits(spectra[:20], ["fe_h"], side="lower", rv=0.0)["fe_h"]
    best = model.predict(spectra[:20], rv=0.0)["fe_h"]
    both = np.isfinite(high) & np.isfinite(low)
    assert both.sum() > 10
    assert (low[both] < best[both]).all()
    assert (best[both] < high[both]).all()
