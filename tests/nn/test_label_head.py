"""Several perceptrons at once, labels with errors, and the likelihood of a label."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from draper.nn.label_head import MOMENTUM, LabelHead, negative_log_likelihood
from draper.nn.perceptron import Perceptrons, perceptron


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------- perceptrons


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5, 4)], ids=str)
def test_perceptrons_are_a_loop_of_separate_ones(hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    together, rows = Perceptrons(3, 5, hidden, 2), normal(7, 5)
    found = together(rows)
    assert found.shape == (3, 7, 2)
    for number in range(3):
        alone = rows
        for layer, (weight, bias) in enumerate(zip(together.weights, together.biases, strict=True)):
            alone = functional.linear(alone, weight[number].T, bias[number, 0])
            alone = torch.relu(alone) if layer < len(hidden) else alone
        torch.testing.assert_close(found[number], alone)
    assert not torch.allclose(found[0], found[1])


def test_perceptrons_start_as_layers_of_torch_do() -> None:
    torch.manual_seed(0)
    together = Perceptrons(50, 40, (30,), 2)
    alone = torch.stack([torch.nn.Linear(40, 30).weight for _ in range(50)])
    first = together.weights[0].detach()
    assert float(first.std()) == pytest.approx(float(alone.detach().std()), rel=0.02)
    assert first.abs().max() <= 40**-0.5


def test_a_perceptron_of_any_depth_and_of_nothing() -> None:
    assert [type(layer).__name__ for layer in perceptron(3, (8, 4), 2)] == [
        "Linear", "SiLU", "Linear", "SiLU", "Linear",
    ]  # fmt: skip
    # Warnings are errors here: a model without labels must not warn of its empty layers.
    assert perceptron(0, (8,), 2)(torch.zeros(5, 0)).shape == (5, 2)
    assert perceptron(3, (8,), 0)(torch.zeros(5, 3)).shape == (5, 0)


# ------------------------------------------------------- negative log-likelihood


def test_it_is_that_of_a_gaussian_but_for_its_constant() -> None:
    mean, error, labels = (normal(6, 3, seed=seed) for seed in range(3))
    exact = -torch.distributions.Normal(mean, error.exp()).log_prob(labels)
    torch.testing.assert_close(
        negative_log_likelihood(mean, error, labels) + 0.5 * math.log(2 * math.pi), exact
    )
    # The best that knows nothing says the scatter: one half, which discriminators are measured by.
    assert float(negative_log_likelihood(torch.zeros(1), torch.zeros(1), torch.ones(1))) == 0.5


def test_unknown_labels_have_no_likelihood() -> None:
    mean, error = normal(4, 2).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    labels = normal(4, 2, seed=2)
    labels[1, 0] = torch.nan
    labels[3] = torch.nan
    found = negative_log_likelihood(mean, error, labels)
    assert (found[torch.isnan(labels)] == 0).all()
    for gradient in torch.autograd.grad(found.sum(), (mean, error)):
        assert (gradient[torch.isnan(labels)] == 0).all()
        assert (gradient[torch.isfinite(labels)] != 0).all()


# -------------------------------------------------------------------------- head


def test_a_head_follows_rows_whose_scale_changes() -> None:
    torch.manual_seed(0)
    head, rows = LabelHead(3, (8,), 2), normal(4000, 3)
    before = head(rows)[0]
    scaled = 0.5 + 1e-2 * rows
    head.update_scale(scaled)
    torch.testing.assert_close(head.centre, MOMENTUM * scaled.mean(0))
    for _ in range(3000):
        head.update_scale(scaled)
    torch.testing.assert_close(head.centre, scaled.mean(0), rtol=1e-4, atol=0)
    torch.testing.assert_close(head.variance, scaled.var(0, correction=0), rtol=0.02, atol=0)
    torch.testing.assert_close(head(scaled)[0], before, rtol=0.05, atol=0.05)
    dead = torch.zeros(5, 3)
    for _ in range(3000):
        head.update_scale(dead)
    assert torch.isfinite(head(dead)[0]).all()


def test_errors_of_a_head_have_bounds() -> None:
    head = LabelHead(2, (4,), 1)
    with torch.no_grad():
        head.layers[-1].bias[1] = 100.0
        assert (head(normal(5, 2))[1] == 3).all()
        head.layers[-1].bias[1] = -100.0
        assert (head(normal(5, 2))[1] == -7).all()


def test_calibrated_errors_hold_two_thirds_of_the_labels() -> None:
    head = LabelHead(2, (4,), 3)
    assert torch.isnan(head.predict(normal(5, 2))[1]).all()
    mean, noise = normal(5000, 3), normal(5000, 3, seed=1)
    error = normal(5000, 3, seed=2) * 0.3
    labels = mean + torch.tensor([1.0, 5.0, 0.1]) * error.exp() * noise
    labels[::3, 1] = torch.nan
    head.calibrate(mean, error, labels)
    np.testing.assert_allclose(head.stretch, [1.0, 5.0, 0.1], rtol=0.05)
    inside = (mean - labels).abs() <= error.exp() * head.stretch
    known = torch.isfinite(labels)
    np.testing.assert_allclose((inside & known).sum(0) / known.sum(0), 0.6827, atol=1e-3)
    found, sigma = head.predict(normal(5, 2))
    torch.testing.assert_close(sigma, head(normal(5, 2))[1].exp() * head.stretch)
    torch.testing.assert_close(found, head(normal(5, 2))[0])
    head.calibrate(mean, error, torch.full_like(labels, torch.nan))
    assert torch.isnan(head.stretch).all()


def test_a_number_that_has_hardly_varied_may_jump() -> None:
    torch.manual_seed(0)
    head = LabelHead(2, (8,), 1)
    still = torch.zeros(64, 2)
    for _ in range(3000):
        head.update_scale(still)
    (near, _), (far, _) = head(torch.full((1, 2), 1.0)), head(torch.full((1, 2), 1e6))
    torch.testing.assert_close(near, far)
    assert float(far.detach().abs().max()) < 100
