"""Fits of mock spectra: bias, errors, velocities, broadening, continuum, outliers, exposures, flags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made import LABELS, drawn, forward, network, noise, wavelength

from draper.configs.fit import FitConfig
from draper.errors import DraperError
from draper.infer.exposures import Exposure
from draper.infer.fit import Fitter
from draper.infer.fit_result import FitResult
from draper.infer.instrument_model import instrument_model
from draper.infer.least_squares import Normal
from draper.infer.pixels import Continuum, Layout, PixelProblem
from draper.infer.start import VelocitySearch
from draper.instrument.broadening import broaden
from draper.instrument.doppler import shift

SIGMA = 0.005
LAM = wavelength()


def physical(x: torch.Tensor) -> np.ndarray:
    return LABELS.unscale((x + 0.5).double().numpy())


def exposure(flux: torch.Tensor, ivar: torch.Tensor | None = None, lam: np.ndarray = LAM) -> Exposure:
    weight = torch.full_like(flux, SIGMA**-2) if ivar is None else ivar
    return Exposure(lam, flux.float().numpy(), weight.float().numpy())


def fit(data: Exposure | list[Exposure], **options: object) -> FitResult:
    fitter = Fitter(forward(network(), LAM), FitConfig(**options))
    return fitter([data] if isinstance(data, Exposure) else data)


def pulls(found: FitResult, truth: np.ndarray) -> np.ndarray:
    return (found.values[:, : truth.shape[1]] - truth) / np.sqrt(np.einsum("nii->ni", found.covariance))[
        :, : truth.shape[1]
    ]


def moved(x: torch.Tensor, rv: torch.Tensor, **widths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    made = network()(x).double()
    made = broaden(made, 10.0, **widths) if widths else made
    flux, inside = shift(made, torch.from_numpy(LAM), rv.double())
    return flux, torch.where(inside, SIGMA**-2, 0.0)


def test_errors_are_right() -> None:
    x = drawn(400)
    found = fit(exposure(noise(network()(x), SIGMA)), rv=0.0)
    pull = pulls(found, physical(x))
    assert np.abs(pull.std(axis=0) - 1).max() < 0.12
    assert np.abs(pull.mean(axis=0)).max() < 0.2
    assert found.columns["reduced_chi2"].mean() == pytest.approx(1, abs=0.02)
    assert not any(flag.any() for flag in found.flags.values())
    marginal = np.sqrt(np.einsum("nii->ni", found.covariance))
    assert (found.conditional <= marginal * 1.0001).all()


def test_compressed_and_pixel_fits_agree() -> None:
    data = exposure(noise(network()(drawn(64)), SIGMA))
    short = fit(data, rv=0.0)
    uneven = data.ivar.copy()
    uneven[::2] *= 1.001  # other weights for some, so that pixels have to be looked at
    whole = fit(Exposure(LAM, data.flux, uneven), rv=0.0)
    sigma = np.sqrt(np.einsum("nii->ni", short.covariance))
    assert np.abs((short.values - whole.values) / sigma).max() < 0.12
    assert np.allclose(short.columns["chi2"], whole.columns["chi2"], rtol=2e-3)
    assert np.allclose(short.covariance, whole.covariance, rtol=0.01)


@pytest.mark.parametrize("limit", [60.0, 500.0])
def test_any_velocity_is_found(limit: float) -> None:
    x = drawn(120)
    rv = torch.linspace(-limit, limit, 120) * 0.98
    flux, ivar = moved(x, rv)
    found = fit(exposure(noise(flux, SIGMA), ivar), rv_limit=limit)
    pull = pulls(found, np.column_stack([physical(x), rv.numpy()]))
    assert found.names[-1] == "rv"
    assert np.abs(pull).max() < 5
    assert np.abs(pull.std(axis=0) - 1).max() < 0.25
    assert found.columns["reduced_chi2"].max() < 1.25


def test_velocities_start_near_the_truth() -> None:
    rv = torch.linspace(-400, 400, 41)
    flux, ivar = moved(drawn(41), rv)
    own = torch.from_numpy(LAM)
    search = VelocitySearch(network()(drawn(8, seed=7)), own, 500.0)
    near, gain = search(own, noise(flux, SIGMA).float(), ivar.float())
    assert (near - rv).abs().max() < 10
    assert (gain > 0).all()


def test_bad_pixels_may_hold_anything() -> None:
    x = drawn(100)
    flux = noise(network()(x), SIGMA)
    bad = torch.rand(flux.shape, generator=torch.Generator().manual_seed(2)) < 0.1
    ivar = torch.where(bad, 0.0, SIGMA**-2)
    one, other = (fit(exposure(torch.where(bad, value, flux), ivar)) for value in (1e6, -3.0))
    assert np.array_equal(one.values, other.values)
    nan = fit(exposure(torch.where(bad, torch.nan, flux), ivar))
    assert np.array_equal(one.values, nan.values)
    assert np.abs(pulls(one, physical(x)).std(axis=0) - 1).max() < 0.25


def test_the_continuum_is_eliminated() -> None:
    x, rv = drawn(150), torch.full((150,), 30.0)
    flux, ivar = moved(x, rv)
    u = torch.linspace(-1, 1, len(LAM)).double()
    level = 40 * (1 + 0.3 * u - 0.2 * u**2)
    data = exposure(noise(flux, SIGMA) * level, ivar / level**2)
    found = fit(data, continuum=3)
    pull = pulls(found, np.column_stack([physical(x), rv.numpy()]))
    assert np.abs(pull.std(axis=0) - 1).max() < 0.25
    assert found.columns["reduced_chi2"].mean() == pytest.approx(1, abs=0.03)
    bare = fit(exposure(noise(flux, SIGMA), ivar))
    assert (found.covariance[:, 0, 0] > bare.covariance[:, 0, 0]).all()


def test_gradient_and_curvature_are_those_of_chi2() -> None:
    made, lam = network(), torch.from_numpy(LAM)
    truth = torch.cat([drawn(4), torch.tensor([[12.0], [-40.0], [7.0], [90.0]]), torch.full((4, 1), 20.0)], 1)
    model, change = instrument_model(made, lam, even=True, widths={})
    flux, ivar = moved(truth[:, :3], truth[:, 3], vsini=truth[:, 4].double())
    problem = PixelProblem(
        model, change.pixels, lam, noise(flux, SIGMA).float(), ivar.float(),
        Layout(3, rv=True, widths=("vsini",)), step=10.0,
        continuum=Continuum([(float(lam[0]), float(lam[-1]))], 2),
    )  # fmt: skip
    x, rows = (truth + 0.02).double(), torch.arange(4)
    normal = problem.normal(x, rows)
    for number, apart in enumerate([1e-3, 1e-3, 1e-3, 0.3, 0.3]):
        step = torch.zeros(5).double()
        step[number] = apart
        more, less = (problem.normal(x + sign * step, rows) for sign in (1, -1))
        slope = (more.chi2 - less.chi2) / (4 * apart)
        size = normal.curvature[:, number, number].sqrt()
        assert ((normal.gradient[:, number] - slope) / size).abs().max() < 0.25
        # Gauss-Newton leaves out second derivatives, and the continuum takes its part.
        bent = (more.gradient - less.gradient)[:, number] / (2 * apart)
        assert (bent / normal.curvature[:, number, number] - 1).abs().max() < (0.15 if number < 4 else 0.4)


@pytest.mark.parametrize(("name", "rows"), [("vsini", 60), ("vsini", 160), ("vmac", 60), ("vmac", 160)])
def test_widths_are_found(name: str, rows: int) -> None:
    """Few fits start from the nearest of some spectra, many from guesses at some widths."""
    x, rv = drawn(rows), torch.zeros(rows)
    width = torch.linspace(15, 60, rows).double()
    flux, ivar = moved(x, rv, **{name: width})
    found = fit(exposure(noise(flux, SIGMA), ivar), **{name: "free"})
    truth = np.column_stack([physical(x), rv.numpy(), width.numpy()])
    pull = pulls(found, truth)
    assert found.names[-1] == name
    assert np.median(np.abs(pull), axis=0).max() < 1.0
    assert (np.abs(pull[:, -1]) > 4).sum() == 0


@pytest.mark.parametrize("rows", [60, 160])
def test_slow_rotation_is_an_upper_limit(rows: int) -> None:
    """Where the least chi2 is at no rotation, spectra change with its square alone."""
    x, vsini = drawn(rows), torch.linspace(0, 8, rows).double()
    flux, ivar = moved(x, torch.zeros(rows), vsini=vsini)
    found = fit(exposure(noise(flux, SIGMA), ivar), vsini="free")
    assert np.median(np.abs(pulls(found, physical(x))), axis=0).max() < 1.0
    highest = found.quantiles[:, -1, -1]
    assert highest.max() < 40
    assert (highest > vsini.numpy()).mean() > 0.9


def test_known_widths_are_applied() -> None:
    x = drawn(40)
    flux, ivar = moved(x, torch.zeros(40), vsini=torch.full((40,), 30.0).double())
    right, wrong = (fit(exposure(noise(flux, SIGMA), ivar), vsini=value) for value in (30.0, None))
    assert right.columns["reduced_chi2"].mean() < 1.05
    assert wrong.columns["reduced_chi2"].mean() > 1.2
    assert "vsini" not in right.names


@pytest.mark.parametrize("robust", ["huber", "clip"])
def test_cosmic_rays_do_not_matter(robust: str) -> None:
    x = drawn(80)
    flux = noise(network()(x), SIGMA)
    hit = torch.rand(flux.shape, generator=torch.Generator().manual_seed(4)) < 0.01
    data = exposure(torch.where(hit, flux + 0.8, flux))
    harmed, saved = fit(data), fit(data, robust=robust)
    truth = physical(x)
    assert np.abs(pulls(saved, truth)).mean() < 1.1
    assert np.abs(pulls(harmed, truth)).mean() > 2 * np.abs(pulls(saved, truth)).mean()


def test_jitter_is_what_is_missing() -> None:
    flux = noise(network()(drawn(60)), 0.013)
    found = fit(exposure(flux), jitter="fit")
    assert found.columns["jitter"].mean() == pytest.approx(0.012, rel=0.05)
    assert found.columns["reduced_chi2"] == pytest.approx(1, abs=0.01)
    assert fit(exposure(flux)).flags["bad_fit"].all()
    given = fit(exposure(flux), jitter=0.012)
    assert given.columns["reduced_chi2"].mean() == pytest.approx(1, abs=0.03)


def test_labels_can_be_known() -> None:
    x = drawn(60)
    flux = noise(network()(x), SIGMA)
    fixed = fit(exposure(flux), fixed={"logg": 2.0})
    assert fixed.names == ("teff", "fe_h", "rv")
    assert fixed.labels[:, 1] == pytest.approx(2.0)
    x[:, 1] = 0
    flux = noise(network()(x), SIGMA)
    free, told = fit(exposure(flux)), fit(exposure(flux), priors={"logg": (2.5, 1e-4)})
    assert np.abs(told.values[:, 1] - 2.5).max() < 0.01
    assert (told.covariance[:, 0, 0] < free.covariance[:, 0, 0]).all()
    with pytest.raises(DraperError, match="did you mean 'logg'"):
        fit(exposure(flux), fixed={"logq": 2.0})


def test_windows_and_masks_choose_pixels() -> None:
    x = drawn(30)
    flux = noise(network()(x), SIGMA)
    half = float(LAM[450])
    ivar = torch.full_like(flux, SIGMA**-2)
    ivar[:, :450] = 0
    by_weight = fit(exposure(flux, ivar))
    by_window = fit(exposure(flux), windows=((half, 1e5),))
    by_mask = fit(exposure(flux), masked=((0.0, half - 1e-6),))
    assert np.array_equal(by_weight.values, by_window.values)
    assert np.array_equal(by_weight.values, by_mask.values)


def test_exposures_are_fitted_together() -> None:
    x = drawn(60)
    rv = torch.stack([torch.linspace(-80, 80, 60), torch.linspace(60, -60, 60)])
    parts = [
        exposure(noise(flux, SIGMA, seed=k), ivar) for k, (flux, ivar) in enumerate(moved(x, v) for v in rv)
    ]
    both = fit(parts)
    assert both.names == ("teff", "logg", "fe_h", "rv_1", "rv_2")
    assert np.abs(pulls(both, np.column_stack([physical(x), *rv.numpy()])).std(axis=0) - 1).max() < 0.3
    one = fit(parts[0])
    gain = both.covariance[:, 0, 0] / one.covariance[:, 0, 0]
    assert np.median(gain) == pytest.approx(0.5, abs=0.05)
    wrong = fit(parts, velocities="one")
    assert wrong.flags["bad_fit"].sum() > 50


def test_flags_tell_what_is_wrong() -> None:
    x = drawn(40)
    x[:20, 0] = 0.9  # hotter than the box
    found = fit(exposure(noise(network()(x), SIGMA)))
    assert found.flags["outside"][:20].mean() > 0.8
    assert (found.label_flags[:20, 0] == "edge").mean() > 0.8
    assert not (found.label_flags[20:] == "edge").any()
    random = torch.Generator().manual_seed(5)
    junk = fit(exposure(1 + 0.2 * torch.rand(10, len(LAM), generator=random)))
    assert junk.flags["bad_fit"].all()
    hasty = fit(exposure(noise(network()(drawn(20)), SIGMA)), iterations=1)
    assert hasty.flags["not_converged"].any()


def test_named_priors_are_the_densities_of_their_stars(tmp_path: Path) -> None:
    """Of a label that the data hardly constrain, what is known of stars like these remains."""

    def related(n: int, seed: int) -> torch.Tensor:
        x = drawn(n, seed)
        return torch.stack([x[:, 0], x[:, 1], 0.8 * x[:, 0]], dim=1)

    x, sigma = related(200, 0), 60 * SIGMA
    data = exposure(noise(network()(x), sigma), torch.full((200, len(LAM)), sigma**-2))
    path, truth = tmp_path / "stars.csv", physical(x)
    stars = physical(related(2000, 1))
    np.savetxt(path, stars[:, [0, 2]], delimiter=",", header="teff,fe_h", comments="")
    free, known = fit(data, rv=0.0), fit(data, rv=0.0, priors=str(path))
    error = [np.median(np.abs(one.quantiles[:, 2] - truth), axis=0) for one in (free, known)]
    assert error[1][0] < 0.5 * error[0][0]
    inside = (truth >= known.quantiles[:, 1]) & (truth <= known.quantiles[:, 3])
    assert inside.mean(axis=0) == pytest.approx(0.68, abs=0.1)
    (tmp_path / "other.csv").write_text("mass\n1.0\n")
    with pytest.raises(DraperError, match="none of the labels"):
        fit(data, priors=str(tmp_path / "other.csv"))
    with pytest.raises(DraperError, match="no such prior"):
        fit(data, priors="galaxy")


def test_without_pixels_there_is_no_answer() -> None:
    flux = noise(network()(drawn(20)), SIGMA)
    ivar = torch.full_like(flux, SIGMA**-2)
    ivar[3] = 0
    found = fit(exposure(flux, ivar))
    assert np.isnan(found.values[3]).all()
    assert np.isfinite(np.delete(found.values, 3, axis=0)).all()
    nothing = fit(exposure(flux[:0]))
    assert nothing.values.shape == (0, 4)


def test_more_starts_find_no_worse_minimum() -> None:
    flux = exposure(noise(network()(drawn(40)), 0.05), torch.full((40, len(LAM)), 400.0))
    one, many = fit(flux, starts=1), fit(flux, starts=6)
    assert (many.columns["chi2"] <= one.columns["chi2"] + 0.1).all()


def test_bounded_networks_fit_too() -> None:
    made, x = network(bounded=True), drawn(40)
    data = exposure(noise(made(x), SIGMA))
    found = Fitter(forward(made, LAM), FitConfig())([data])
    assert np.abs(pulls(found, physical(x)).std(axis=0) - 1).max() < 0.35


def test_other_pixels_serve_as_well() -> None:
    x = drawn(60)
    lam = np.linspace(LAM[20], LAM[-20], 700)
    flux, _ = shift(
        network()(x).double(), torch.from_numpy(LAM), torch.zeros(60).double(), torch.from_numpy(lam)
    )
    found = fit(exposure(noise(flux, SIGMA), lam=lam))
    assert np.abs(pulls(found, physical(x)).std(axis=0) - 1).max() < 0.3


def test_rough_curvature_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = exposure(noise(network()(drawn(40)), SIGMA))
    results = []
    for helps in (False, True):
        monkeypatch.setattr("draper.infer.exposures.bfloat16_helps", lambda helps=helps: helps)
        results.append(fit(data))
    sigma = np.sqrt(np.einsum("nii->ni", results[0].covariance))
    assert np.abs((results[0].values - results[1].values) / sigma).max() < 0.1
    assert np.allclose(results[0].covariance, results[1].covariance, rtol=0.01)


def test_normals_can_be_cut() -> None:
    normal = Normal(torch.arange(3.0), torch.zeros(3, 2), torch.zeros(3, 2, 2))
    assert normal[torch.tensor([2])].chi2.tolist() == [2.0]


@pytest.mark.parametrize(
    "options",
    [
        {"priors": {"logg": (2.0, 0.0)}},
        {"priors": {"logg": [2.0]}},
        {"priors": {"logg": 2.0}},
        {"priors": {"logg": (2.0, 0.1)}, "fixed": {"logg": 2.0}},
        {"fixed": {"logg": float("nan")}},
        {"fixed": {"logg": 9.0}},
        {"rv": 900.0},
        {"resolving_power": 0.0},
        {"windows": ((8500.0, 8400.0),)},
        {"windows": ((8500.0, 8520.0), (8510.0, 8530.0)), "continuum": 1},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(DraperError):
        fit(exposure(network()(drawn(2))), **options)


def test_the_unit_of_the_flux_does_not_matter() -> None:
    made = network()
    made.uncertainty = torch.full((len(LAM),), 0.004)
    made.modes = 0.003 * torch.sin(torch.arange(len(LAM)) / 40.0)[None]
    flux = noise(made(drawn(20)), SIGMA)
    results = []
    for unit in (1.0, 1e4, 1e-15):
        data = exposure(flux.double() * unit, torch.full(flux.shape, SIGMA**-2).double() / unit**2)
        results.append(Fitter(forward(made, LAM), FitConfig(continuum=2, jitter=0.002))([data]))
    sigma = np.sqrt(np.einsum("nii->ni", results[0].covariance))
    for other in results[1:]:
        assert np.abs((other.values - results[0].values) / sigma).max() < 0.1
        assert np.allclose(other.covariance, results[0].covariance, rtol=0.05)


def test_a_piece_of_one_pixel_harms_nothing() -> None:
    windows = (
        (float(LAM[0]), float(LAM[300])),
        (float(LAM[310]), float(LAM[310])),
        (float(LAM[320]), float(LAM[-1])),
    )
    flux = noise(network()(drawn(20)), SIGMA)
    data = Exposure(LAM, flux.numpy(), np.full(flux.shape, SIGMA**-2, dtype=np.float32), windows)
    found = fit(data, continuum=2)
    assert np.isfinite(found.covariance).all()
    assert not found.flags["not_converged"].any()
