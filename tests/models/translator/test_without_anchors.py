"""Tests of what observed spectra without labels teach."""

from __future__ import annotations

import numpy as np
import torch

from draper import Grid, Label, LabelSet
from draper.models.translator.anchored import AnchoredNetwork, features, independent, number_of_features
from draper.models.translator.anchors import NONE, Anchors, Choice, learn, shaped, with_residual
from draper.models.translator.known_labels import observed_model
from draper.models.translator.label_fit import Nuisances
from draper.models.translator.residual import describe, learnt
from draper.models.translator.without_anchors import disagreement, learn_without_labels
from draper.nn.emulator import EmulatorNetwork
from draper.nn.hull import outside

PIXELS = 120
GRID_AND_LABELS = (
    Grid.linear(5000, 5119, 1.0, medium="vacuum"),
    LabelSet([Label("teff", low=4000, high=7000), Label("logg", low=0, high=5)]),
)


def network(labels: int = 2) -> AnchoredNetwork:
    """Return a network of computed spectra with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        found = AnchoredNetwork(EmulatorNetwork(labels, PIXELS, (16,)), labels)
        found.synthetic.mean.fill_(1.0)
        found.synthetic.scale.fill_(0.2)
        found.points = torch.rand(64, labels) - 0.5
    return found


def nuisances() -> Nuisances:
    """Return a constant continuum, and no velocity."""
    return Nuisances(torch.ones(PIXELS, 1).double(), torch.zeros(PIXELS).double())


def seen(net: AnchoredNetwork, n: int, noise: float, wrong: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return labels, flux with a residual that grows with the first label, and weights."""
    random = torch.Generator().manual_seed(n)
    x = 0.8 * torch.rand(n, net.known, generator=random) - 0.4
    with torch.no_grad():
        flux = net.synthetic(x) * (1 + (0.5 + x[:, :1]) * wrong)
    flux = flux + noise * torch.randn(flux.shape, generator=random)
    return x, flux, torch.full_like(flux, noise**-2)


def test_labels_that_follow_from_the_main_ones_are_not_independent() -> None:
    random = np.random.default_rng(0)
    table = {name: random.uniform(size=300) for name in ("teff", "logg", "fe_h", "mg_fe")}
    table["vmic"] = 2 - 0.3 * table["logg"] + 0.01 * random.normal(size=300)
    assert independent(table, [*table]) == ["teff", "logg", "fe_h", "mg_fe"]
    assert independent(table, ["mg_fe", "vmic"]) == ["mg_fe", "vmic"]  # there is nothing to follow


def test_a_residual_of_few_shapes_is_cleaned_of_noise() -> None:
    random = torch.Generator().manual_seed(1)
    value = features(torch.rand(400, 2, generator=random).double() - 0.5, 3)[0]
    true = torch.randn(10, 2, generator=random).double() @ torch.randn(2, 200, generator=random).double()
    noisy = value @ true + 2.0 * torch.randn(400, 200, generator=random).double()
    residual = torch.linalg.lstsq(value, noisy).solution
    mixture, shapes = shaped(value, residual, torch.full((200,), 2.0).double(), 10.0)
    assert shapes.shape == (2, 200)
    before, after = ((value @ (one - true)).square().mean() for one in (residual, mixture @ shapes))
    assert after < 0.3 * before


def test_without_a_residual_pixels_have_the_errors_that_anchors_show() -> None:
    net = network()
    wrong = torch.zeros(PIXELS)
    wrong[50] = 0.2
    x, flux, ivar = seen(net, 40, 1e-3, wrong)
    stars = Anchors(flux, ivar, x.double(), torch.full_like(x, 0.01).double())
    found = with_residual(net, stars, Choice(NONE, 1.0), nuisances().continuum)
    assert float(found.ratio(x).abs().max()) == 0
    assert len(found.modes) == 0
    assert int(found.uncertainty.argmax()) == 50


def test_errors_hold_what_halves_of_spectra_disagree_on() -> None:
    net = network()
    _, flux, ivar = seen(net, 60, 2e-3, torch.zeros(PIXELS))
    clean = net.replaced(uncertainty=torch.full((PIXELS,), 1e-4))
    assert float(disagreement(clean, flux, ivar, nuisances()).max()) < 1.5
    wrong = 0.02 * torch.randn(PIXELS, generator=torch.Generator().manual_seed(9))
    _, flux, ivar = seen(net, 60, 2e-3, wrong)
    assert float(disagreement(clean, flux, ivar, nuisances()).min()) > 1.5


def test_the_residual_is_learnt_in_all_labels() -> None:
    net = network()
    wrong = torch.zeros(PIXELS)
    wrong[40:50] = -0.3
    x, flux, ivar = seen(net, 300, 2e-3, wrong)
    found, facts = learn_without_labels(net, flux, ivar, nuisances())
    assert facts["degree"] >= 1
    assert len(facts["widths"]) == 2
    assert len(found.mixture) == number_of_features(2, facts["degree"])
    with torch.no_grad():
        off = found.ratio(x) - (0.5 + x[:, :1]) * wrong
    off = off - off.mean(1, keepdim=True)  # a constant is continuum
    assert float(off[:, 40:50].square().mean().sqrt()) < 0.02


def test_a_residual_that_no_polynomial_makes_has_hidden_units() -> None:
    net = network()
    random = torch.Generator().manual_seed(4)
    x = 0.9 * torch.rand(800, 2, generator=random) - 0.45
    wrong = torch.zeros(PIXELS)
    wrong[40:50], wrong[80:85] = -0.3, 0.2

    def true(labels: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(30 * (labels[:, :1] + 0.5 * labels[:, 1:])) * wrong

    with torch.no_grad():
        flux = net.synthetic(x) * (1 + true(x))
    flux = flux + 5e-3 * torch.randn(flux.shape, generator=random)
    stars = Anchors(flux, torch.full_like(flux, 4e4), x.double(), torch.full_like(x, 0.01).double())
    new = 0.9 * torch.rand(200, 2, generator=random) - 0.45
    off = {}
    for neural in (False, True):
        choice = Choice(3, 0.3, neural=neural)
        found = with_residual(net, stars, choice, nuisances().continuum)
        with torch.no_grad():
            rest = found.ratio(new) - true(new)
        off[neural] = float((rest - rest.mean(1, keepdim=True)).square().mean().sqrt())
        assert found.degree == 3
    assert off[True] < 0.5 * off[False]
    step = 1e-4 * torch.eye(2)
    wide = found.double()
    slope = torch.stack([(wide(new + d) - wide(new - d)) / 2e-4 for d in step.double()], dim=2)
    torch.testing.assert_close(wide.jacobian(new.double())[1], slope, atol=1e-4, rtol=1e-3)


def test_the_function_for_label_fits_is_one_of_true_labels_and_flags_those_beyond() -> None:
    net = network()
    shift = torch.tensor([0.1, -0.05])
    function = observed_model(net, *GRID_AND_LABELS, shift).function
    x = torch.tensor([[0.2, 0.1]])
    with torch.no_grad():
        torch.testing.assert_close(function(x), net(x + shift))
        torch.testing.assert_close(function.jacobian(x)[1], net.jacobian(x + shift)[1])
    beyond = outside(torch.tensor([[2.0, 2.0], [0.0, 0.0]]), function.facets)
    assert beyond.tolist() == [True, False]


def test_few_labels_show_where_those_of_all_spectra_are() -> None:
    net = network()
    random = torch.Generator().manual_seed(8)
    x = 0.8 * torch.rand(600, 2, generator=random) - 0.4
    shift = torch.tensor([0.08, 0.0])
    wrong = torch.zeros(PIXELS)
    wrong[40:50] = -0.3
    with torch.no_grad():  # what looks like another temperature in all stars, and a line
        flux = net.synthetic(x + shift) * (1 + (0.5 + x[:, :1]) * wrong)
    flux = flux + 5e-3 * torch.randn(flux.shape, generator=random)
    ivar = torch.full_like(flux, 4e4)
    known = x.double()
    known[10:] = torch.nan
    found, facts = learnt(net, flux, ivar, known, torch.full_like(known, 0.02), nuisances())
    alone, _, _ = learn(net, Anchors(flux, ivar, x.double(), known)[:10], nuisances())
    assert facts["anchors"] == 10
    assert facts["spectra"] > 500
    new = 0.7 * torch.rand(100, 2, generator=random) - 0.35
    with torch.no_grad():
        true = net.synthetic(new + shift) * (1 + (0.5 + new[:, :1]) * wrong)
        off = [float((one(new) / true - 1).square().mean().sqrt()) for one in (found, alone)]
    assert off[0] < 0.5 * off[1]
    assert "show by how much the labels of all were off" in describe(facts, GRID_AND_LABELS[1])
