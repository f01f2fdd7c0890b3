"""Ranks of true labels among samples: uniform for exact posteriors, and of the right spectra."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from draper import Label, LabelSet, Spectra
from draper.configs.retriever import RetrieverConfig
from draper.models.retriever import calibrate
from draper.models.retriever.calibrate import ERRORS, Stratum, ranked, strata
from draper.models.retriever.observation import Binning, observations
from draper.models.retriever.summary import Summary
from draper.simulate.planets import INSTRUMENTS, Planets

LABELS = LabelSet([Label("a", low=-6, high=6), Label("b", low=-6, high=6)])


class Gaussian:
    """A model whose labels are the first two bins without their noise, both standard normal."""

    labels = LABELS
    physics = None

    def __init__(self, width: float = 1.0) -> None:
        self.width, self.config = width, RetrieverConfig(labels=LABELS.names)
        self.training: dict[str, Any] = {}
        self.own_grid = Planets("hst-wfc3-g141").grid

    def observations(self, spectra: Spectra, options: Any) -> list[Any]:
        del options
        binning = Binning.between(self.own_grid, spectra.grid)
        return observations(spectra, binning, np.ones(len(spectra)), np.zeros(len(self.own_grid)))

    def drawn(self, seen: list[Any], noise: torch.Tensor) -> np.ndarray:
        data = np.array([one.flux[:2] for one in seen])
        variance = np.array([one.variance[:2] for one in seen])
        centre, sigma = data / (1 + variance), np.sqrt(variance / (1 + variance))
        draws = noise.double().numpy().reshape(len(seen), -1, 2)
        return centre[:, None] + self.width * sigma[:, None] * draws

    @property
    def network(self) -> Any:
        summary = Summary(torch.ones(18), 2)
        summary.basis[0, 0] = summary.basis[1, 1] = 1.0
        return type("Network", (), {"summary": summary})


def made(n: int, seed: int = 0) -> Spectra:
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(n, 2))
    sigma = rng.uniform(0.3, 2.0, (n, 18))
    flux = sigma * rng.normal(size=(n, 18))
    flux[:, :2] += labels
    table = {"a": labels[:, 0], "b": labels[:, 1]}
    return Spectra(Planets("hst-wfc3-g141").grid, flux, 1 / sigma**2, table)


def test_ranks_of_exact_posteriors_are_uniform() -> None:
    ranks = ranked(Gaussian(), made(2000))
    for values in (*ranks.labels.T, ranks.joint):
        assert stats.kstest(values, "uniform").pvalue > 1e-3
    narrow = ranked(Gaussian(0.6), made(2000))
    assert all(stats.kstest(values, "uniform").pvalue < 1e-6 for values in narrow.labels.T)
    central = (np.abs(narrow.labels - 0.5) < 0.34).mean(axis=0)
    # 68 % of such samples lie within 0.6 of the scatter.
    expected = stats.norm.cdf(0.6 * stats.norm.ppf(0.84)) * 2 - 1
    assert central == pytest.approx([expected] * 2, abs=0.03)


def test_what_is_not_known_has_no_rank() -> None:
    spectra = made(300)
    ivar, a = np.array(spectra.ivar), np.array(spectra.table["a"])
    ivar[3], a[150] = 0, np.nan
    damaged = Spectra(spectra.grid, spectra.flux, ivar, {"a": a, "b": spectra.table["b"]})
    ranks = ranked(Gaussian(), damaged)
    missing = np.zeros((300, 2), dtype=bool)
    missing[3], missing[150, 0] = True, True
    assert np.array_equal(np.isnan(ranks.labels), missing)
    assert np.array_equal(np.isnan(ranks.joint), missing.any(axis=1))


def test_spectra_of_the_simulator_are_fresh_and_of_every_instrument() -> None:
    model = Gaussian()
    model.physics = Planets(box="exogan", clouds=True)
    found = list(strata(model, made(1), 12))
    assert {one.name for one in found} == {*INSTRUMENTS, "random bins"}
    assert len({one.title for one in found}) == len(found) == 5 * len(ERRORS)
    flux = np.concatenate([one.spectra.flux[:, 0] for one in found])
    assert len(np.unique(flux)) == len(flux)
    for one in found:
        assert len(one.spectra) == 12
        assert "log_cloud_top" in one.spectra.table
        if one.name == "random bins":
            assert 0.4 < (one.spectra.ivar > 0).mean() < 0.6
        truth = Planets(
            one.name if one.name in INSTRUMENTS else "jwst-nirspec-prism", clouds=True, error=1e-6
        )
        clean = truth.simulate({name: one.spectra.table[name] for name in truth.prior.names})
        scatter = (one.spectra.flux - clean.flux).std()
        assert scatter == pytest.approx(1e-6 * one.error, rel=0.2)


def test_held_out_spectra_get_the_noise_that_they_lack() -> None:
    model, spectra = Gaussian(), made(400)
    assert calibrate._noisy(model, spectra) is spectra
    bare = Spectra(spectra.grid, np.full((400, 18), 0.01), table=spectra.table)
    ivar = np.array(bare.ivar)
    ivar[:, 7] = 0
    noisy = calibrate._noisy(model, Spectra(bare.grid, bare.flux, ivar, bare.table))
    assert not noisy.ivar[:, 7].any()
    good = noisy.ivar > 0
    pulls = ((noisy.flux - 0.01) * np.sqrt(noisy.ivar))[good]
    assert pulls.std() == pytest.approx(1, abs=0.05)
    sigma = 1e6 / np.sqrt(noisy.ivar[:, 0])
    low, high = model.config.errors
    assert low <= sigma.min() < 2 * low
    assert high / 2 < sigma.max() <= high
    spread = np.log(sigma / low) / np.log(high / low)
    assert stats.kstest(spread, "uniform").pvalue > 1e-3


def test_limits_of_flags_spoil_one_percent() -> None:
    model = Gaussian()
    model.config = model.config.replace(calibration=1000)
    result = calibrate.calibrated(model, made(1000))
    # The novelty of good spectra is standard normal.
    assert result["limits"] == {"novelty": pytest.approx(stats.norm.ppf(0.99), abs=0.5)}
    again = calibrate.calibrated(model, made(1000))
    assert again == result


def test_titles_of_strata() -> None:
    assert Stratum("hst", 30.0, made(1)).title == "hst, 30 ppm"
    assert Stratum("held-out", float("nan"), made(1)).title == "held-out"
