"""The label fit of any differentiable function: closed forms, errors, and a network as a plain function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made import LABELS, drawn, forward, network, noise, wavelength

from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.infer.instrument_model import ResampleAndBroaden
from draper.infer.label_fit import LabelFit
from draper.results.estimates import Estimates

GRID = Grid(wavelength())
SIGMA = 0.01
PAIR = LabelSet([Label("teff", low=4000, high=7000), Label("fe_h", low=-2.5, high=0.5)])


def spectra(flux: torch.Tensor, sigma: float = SIGMA, grid: Grid = GRID) -> Spectra:
    return Spectra(grid, flux.float().numpy(), np.full(flux.shape, sigma**-2, dtype=np.float32))


def design() -> torch.Tensor:
    """Derivatives (2, p) of a linear function by teff / 1000 K and fe_h."""
    place = torch.arange(len(GRID)).float()
    return torch.stack([0.05 * torch.sin(place / 7), 0.08 * torch.cos(place / 11)])


def linear(labels: torch.Tensor) -> torch.Tensor:
    scaled = torch.stack([labels[:, 0] / 1000 - 5.5, labels[:, 1]], dim=1)
    return 1 + scaled @ design()


def covariance(sigma: np.ndarray) -> np.ndarray:
    """Return the closed form (2, 2) of weighted least squares, in K and dex."""
    columns = design().double().numpy() / np.array([[1000.0], [1.0]])
    return np.linalg.inv((columns / sigma**2) @ columns.T)


@pytest.mark.parametrize("error", [None, 0.02], ids=["exact", "with an error"])
def test_linear_functions_give_the_closed_form(error: float | None) -> None:
    truth = torch.tensor([[5100.0, -0.4], [6200.0, 0.1], [4500.0, -1.5]])
    own = None if error is None else error * (1 + torch.arange(len(GRID)) / len(GRID)).numpy()
    data = spectra(noise(linear(truth), SIGMA))
    fit = LabelFit(ForwardModel.from_function(linear, GRID, PAIR, error=own))
    found = fit.predict(data, rv=0.0, tolerance=1e-6)
    sigma = np.full(len(GRID), SIGMA) if own is None else np.hypot(SIGMA, own)
    exact = covariance(sigma)
    columns = design().double().numpy() / np.array([[1000.0], [1.0]])
    residual = data.flux - linear(torch.tensor([[5500.0, 0.0]])).numpy()
    best = np.array([5500.0, 0.0]) + (residual / sigma**2) @ columns.T @ exact
    assert np.abs((found.median - best) / np.sqrt(exact.diagonal())).max() < 5e-3
    assert found.covariance is not None
    assert np.allclose(
        found.covariance, exact, rtol=1e-3, atol=1e-3 * np.sqrt(np.outer(*2 * [exact.diagonal()])).min()
    )
    information = fit.information(dict(zip(PAIR.names, truth.numpy().T, strict=True)), snr=1 / SIGMA, rv=0.0)
    assert np.allclose(information.bound, np.sqrt(exact.diagonal()), rtol=1e-3)


def test_limits_and_best_fits_of_a_function() -> None:
    truth = torch.tensor([[5100.0, -0.4]])
    data = spectra(linear(truth))
    fit = LabelFit(ForwardModel.from_function(linear, GRID, PAIR))
    sigma = np.sqrt(covariance(np.full(len(GRID), SIGMA))[1, 1])
    for side, sign in (("upper", 1), ("lower", -1)):
        limit = fit.upper_limits(data, ["fe_h"], rv=0.0, side=side)["fe_h"]  # type: ignore[arg-type]
        assert limit == pytest.approx([-0.4 + sign * 1.645 * sigma], abs=0.02 * sigma)
    _, (best,) = fit.explain(data, rv=0.0)
    assert np.abs(best.flux - data.flux).max() < 1e-4


def test_errors_that_pixels_share_do_not_average_out() -> None:
    modes = 0.03 * design()[1:] / design()[1].square().mean().sqrt()
    error = 1e-4 + np.abs(modes[0].numpy())
    wide = LabelFit(ForwardModel.from_function(linear, GRID, PAIR, error=error, modes=modes))
    narrow = LabelFit(ForwardModel.from_function(linear, GRID, PAIR, error=error))
    stars = {"teff": 5500.0, "fe_h": 0.0}
    ratio = (
        wide.information(stars, snr=100.0, rv=0.0)["fe_h"]
        / narrow.information(stars, snr=100.0, rv=0.0)["fe_h"]
    )
    assert ratio[0] > 3


@pytest.mark.parametrize("options", [{}, {"vsini": 12.0, "rv": 0.0}, {"continuum": 2}], ids=str)
def test_a_network_as_a_plain_function_gives_the_same_labels(options: dict[str, object]) -> None:
    own = network()
    low, high = (torch.from_numpy(end) for end in (LABELS.low, LABELS.high))

    def plain(labels: torch.Tensor) -> torch.Tensor:
        return own(((labels.double() - low) / (high - low) - 0.5).float())

    points = LABELS.unscale((own.points + 0.5).double().numpy())
    data = spectra(noise(own(drawn(20)), SIGMA))
    fits = (
        LabelFit(forward(own, wavelength())),
        LabelFit(ForwardModel.from_function(plain, GRID, LABELS, points=points)),
    )
    first, second = (fit.predict(data, None, tolerance=1e-4, **options) for fit in fits)
    assert np.abs((first.median - second.median) / first.sigma).max() < 0.02
    assert np.allclose(first.sigma, second.sigma, rtol=5e-3)


def test_derivatives_of_logarithmic_labels() -> None:
    labels = LabelSet([Label("vsini", low=1, high=100, scale="log10")])
    function = ForwardModel.from_function(
        lambda v: v * torch.ones(3), Grid(np.arange(3.0) + 5000), labels
    ).function
    flux, columns = function.jacobian(torch.tensor([[0.0], [0.25]]))
    expected = torch.tensor([[10.0], [10**1.5]])
    assert torch.allclose(flux, expected.expand(-1, 3))
    assert torch.allclose(columns[:, :, 0], 2 * np.log(10) * expected.expand(-1, 3))


def test_points_say_where_a_function_is_good() -> None:
    points = [[5000.0, -1.0], [6000.0, -1.0], [5500.0, 0.0]]
    fit = LabelFit(ForwardModel.from_function(linear, GRID, PAIR, points=points))
    found: Estimates = fit.predict(spectra(linear(torch.tensor([[5500.0, -0.7], [4200.0, 0.3]]))), rv=0.0)
    assert found.flags["outside"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"error": [0.1, 0.2]}, "one number, or one for each pixel"),
        ({"error": -1.0}, "not negative"),
        ({"modes": [0.1]}, "modes has the wrong shape"),
        ({"points": [[1.0, 2.0, 3.0]]}, "points has the wrong shape"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], what: str) -> None:
    with pytest.raises(DraperError, match=what):
        ForwardModel.from_function(linear, GRID, PAIR, **arguments)  # type: ignore[arg-type]


def test_the_same_resolving_power_everywhere() -> None:
    """0.5 % above the model's own power is the same power; 2 % is not."""
    own = Grid(wavelength(), resolving_power=20_000.0)
    fit = LabelFit(ForwardModel.from_function(linear, own, PAIR))
    stars = {"teff": 5500.0, "fe_h": 0.0}
    flux = linear(torch.tensor([[5500.0, 0.0]]))
    for power in (20_100.0, 19_900.0):
        grid = Grid(wavelength(), resolving_power=power)
        assert fit.predict(spectra(flux, grid=grid), rv=0.0).median[0] == pytest.approx([5500, 0], abs=1e-2)
        bound = fit.information(stars, snr=100.0, grid=grid, rv=0.0)["teff"]
        assert bound == pytest.approx(fit.information(stars, snr=100.0, rv=0.0)["teff"], rel=1e-6)
    sharp = Grid(wavelength(), resolving_power=20_400.0)
    with pytest.raises(DraperError, match="cannot be sharper"):
        fit.information(stars, snr=100.0, grid=sharp)


def test_spectra_that_are_sharper_than_the_model_are_broadened() -> None:
    """A model of R = 12,000, and spectra of R = 20,000 with a gap of zeros between detectors."""
    own = Grid(wavelength(), resolving_power=12_000.0)
    sharp, made, lam = network(width=1.5), network(width=1.5), torch.from_numpy(wavelength())
    # 1 / 12,000^2 = 1 / 20,000^2 + 1 / 15,000^2.
    broader = ResampleAndBroaden(lam, lam, {"resolving_power": torch.tensor(15_000.0)})
    made.last.weight.copy_(broader(made.last.weight.T).T)
    made.last.bias.copy_(broader(made.last.bias[None])[0])
    fit = LabelFit(ForwardModel(made, own, LABELS))
    x = drawn(8)
    truth = LABELS.unscale((x + 0.5).double().numpy())
    flux = sharp(x).clone()
    flux[:, 400:430] = 0.0
    ivar = np.full(flux.shape, 1e6, dtype=np.float32)
    ivar[:, 400:430] = 0.0
    data = Spectra(Grid(wavelength(), resolving_power=20_000.0), flux.numpy(), ivar)
    found = fit.predict(data, rv=0.0)
    told = fit.predict(replace(data, grid=own), rv=0.0, resolving_power=20_000.0)
    assert np.array_equal(found.median, told.median)
    kept = fit.predict(replace(data, grid=own), rv=0.0)
    off, off_kept = (np.abs(each.median - truth) / (LABELS.high - LABELS.low) for each in (found, kept))
    assert off.max() < 0.1 * off_kept.max()


def test_errors_that_no_file_states_are_measured() -> None:
    """Spectra without errors get that of their residuals; others beside them keep their own."""
    truth = torch.tensor([[5100.0, -0.4], [6200.0, 0.1]])
    fit = LabelFit(ForwardModel.from_function(linear, GRID, PAIR))
    known = spectra(noise(linear(truth), SIGMA))
    unknown = replace(known, ivar=np.ones_like(known.ivar))
    scaled = replace(unknown, flux=1e-15 * unknown.flux)
    sigma = fit.predict(known, rv=0.0).sigma
    for data, options in ((unknown, {}), (unknown, {"jitter": "fit"}), (scaled, {"continuum": 0})):
        found = fit.predict(data, rv=0.0, **options)  # type: ignore[arg-type]
        assert found.sigma == pytest.approx(sigma, rel=0.2)
        assert found.columns["jitter"] / np.median(data.flux) == pytest.approx(SIGMA, rel=0.1)
    # A star with errors keeps them beside others without.
    ivar = known.ivar.copy()
    ivar[1] = 1.0
    both = fit.predict(replace(known, ivar=ivar), rv=0.0)
    assert both.sigma[0] == pytest.approx(sigma[0], rel=1e-4)
    assert (both.columns["jitter"] > 0).tolist() == [False, True]
    nothing = fit.predict(replace(unknown, flux=np.zeros_like(unknown.flux)), rv=0.0)
    assert nothing.flags["bad_fit"].all()


def test_lines_that_the_model_lacks_count_once() -> None:
    """Errors of labels hold where residuals of neighbouring pixels are alike; chi2 counts all pixels."""
    generator = np.random.default_rng(0)
    truth = torch.tensor([[5500.0, -1.5]]).expand(300, 2)
    wrong = generator.normal(size=(300, len(GRID)))
    wrong = 0.02 * np.stack([np.convolve(row, np.ones(9) / 3, mode="same") for row in wrong])
    data = spectra(noise(linear(truth), SIGMA) + torch.from_numpy(wrong))
    fit = LabelFit(ForwardModel.from_function(linear, GRID, PAIR))
    found = fit.predict(data, rv=0.0, jitter="fit")
    pulls = (found.median - truth.numpy()) / found.sigma
    assert np.sqrt(np.mean(pulls**2, axis=0)) == pytest.approx(1.0, abs=0.25)
    assert np.median(found.columns["pixels_alike"]) == pytest.approx(9 * 0.8, rel=0.3)
    assert found.columns["reduced_chi2"] == pytest.approx(1.0, abs=0.02)
    assert not found.flags["bad_fit"].any()


def test_a_fit_that_explains_no_lines_is_flagged_even_if_errors_are_measured() -> None:
    """Flux in other units than the model's, without a continuum: chi2 is 1, as the jitter takes up all."""
    made = network()
    fit = LabelFit(forward(made, wavelength()))
    flux = made(drawn(4))
    data = Spectra(GRID, flux.numpy(), np.ones(flux.shape))
    assert not fit.predict(data, rv=0.0).flags["bad_fit"].any()
    assert fit.predict(replace(data, flux=0.3 * data.flux), rv=0.0).flags["bad_fit"].all()
