"""Densities are normalised, and the same when points are drawn as when they are given."""

import numpy as np
import pytest
import torch
from scipy import stats

from draper.models.retriever.densities import Density, FlowMatching, SplineFlow

FEATURES = 3


def density(kind: str, labels: int, stretch: float = 1.5) -> Density:
    """Return a density of random weights; if they are stretched, it is far from the standard normal one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = SplineFlow(labels, FEATURES, 4, 16) if kind == "spline" else FlowMatching(labels, FEATURES, 16)
        for parameter in made.parameters():
            parameter.data *= stretch
    return made.eval()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("kind", "tolerance", "labels"),
    [
        ("spline", 1e-4, 1),
        ("spline", 1e-4, 2),
        ("spline", 1e-4, 7),
        ("matching", 1e-2, 1),
        ("matching", 1e-2, 3),
    ],
)
def test_a_draw_has_the_density_that_it_says(kind: str, tolerance: float, labels: int) -> None:
    made = density(kind, labels)
    noise, features = normal(100, labels), normal(100, FEATURES, seed=1)
    with torch.inference_mode():
        values, log_density = made.draw(noise, features)
        again = made.log_density(values, features)
    assert values.shape == (100, labels)
    assert (values - noise).abs().mean() > 0.05
    torch.testing.assert_close(again, log_density, rtol=0, atol=tolerance)
    # One row of features may serve all.
    with torch.inference_mode():
        alone, log_alone = made.draw(noise[:1], features[:1])
        shared, log_shared = made.draw(noise, features[:1])
    torch.testing.assert_close(alone, values[:1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shared[:1], alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_shared[:1], log_alone, rtol=1e-4, atol=1e-4)
    assert len(made.log_density(values[:0], features[:1])) == 0


@pytest.mark.parametrize("kind", ["spline", "matching"])
def test_densities_integrate_to_one(kind: str) -> None:
    features = normal(1, FEATURES, seed=2)
    line = torch.linspace(-15, 15, 1001)
    with torch.inference_mode():
        one = density(kind, 1).log_density(line[:, None], features).exp()
    assert float(torch.trapezoid(one, line)) == pytest.approx(1, abs=5e-3)
    line = torch.linspace(-8, 8, 65)
    square = torch.cartesian_prod(line, line)
    with torch.inference_mode():
        two = density(kind, 2).log_density(square, features).exp().reshape(65, 65)
    assert float(torch.trapezoid(torch.trapezoid(two, line), line)) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("kind", ["spline", "matching"])
def test_a_gaussian_that_moves_with_the_features_is_learnt(kind: str) -> None:
    made = density(kind, 2, stretch=1.0)
    rng = np.random.default_rng(0)
    factor = np.array([[0.5, 0.0], [0.4, 0.3]])
    optimizer = torch.optim.Adam(made.parameters(), lr=5e-3)
    for step in range(250):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / 250)
        features = rng.normal(size=(256, FEATURES))
        values = features[:, :2] + rng.normal(size=(256, 2)) @ factor.T
        noise = torch.from_numpy(rng.normal(size=(256, 3))).float()
        loss = made.loss(torch.from_numpy(values).float(), torch.from_numpy(features).float(), noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features = torch.tensor([[0.7, -0.4, 0.0]])
    with torch.inference_mode():
        values, _ = made.draw(normal(4000, 2, seed=5), features)
        log_density = made.log_density(values[:500], features).numpy()
    found = values.double().numpy()
    np.testing.assert_allclose(found.mean(0), [0.7, -0.4], atol=0.08)
    np.testing.assert_allclose(np.cov(found.T), factor @ factor.T, atol=0.05)
    expected = stats.multivariate_normal([0.7, -0.4], factor @ factor.T).logpdf(found[:500])
    assert np.mean(log_density - expected) == pytest.approx(0, abs=0.1)
    assert np.quantile(np.abs(log_density - expected), 0.9) < 0.4


def test_the_loss_of_a_flow_is_its_negative_log_density() -> None:
    made = density("spline", 2)
    values, features = normal(5, 2), normal(5, FEATURES, seed=1)
    expected = -made.log_density(values, features)
    torch.testing.assert_close(made.loss(values, features, normal(5, 3)), expected)
