"""The radial network interpolates, and knows what it would do without a point."""

import pytest
import torch

from draper.nn.radial import RadialNetwork


@pytest.fixture
def points() -> torch.Tensor:
    return 2 * torch.rand(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1


def surface(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.sin(2 * x[:, 0]) + x[:, 1], x[:, 0] * x[:, 1]], dim=1)


def network(points: int) -> RadialNetwork:
    torch.manual_seed(0)
    made = RadialNetwork(inputs=2, hidden=4, points=points, outputs=2).double()
    with torch.no_grad():
        made.outer.normal_(std=0.1)
    return made


def test_interpolates(points: torch.Tensor) -> None:
    made = network(60)
    made.solve(points, surface(points))
    between = (points[:-1] + points[1:]) / 2
    with torch.no_grad():
        assert (made(points) - surface(points)).abs().max() < 5e-3
        assert (made(between) - surface(between)).abs().max() < 5e-3


def test_left_out_is_what_happens_without_the_point(points: torch.Tensor) -> None:
    missed = network(60).left_out(points, surface(points))
    for row in (0, 17, 59):
        rest = torch.arange(60) != row
        without = network(59)
        without.solve(points[rest], surface(points[rest]))
        expected = surface(points[row : row + 1]) - without(points[row : row + 1])
        torch.testing.assert_close(missed[row : row + 1], expected, rtol=1e-5, atol=1e-9)


def test_left_out_error_can_be_learnt(points: torch.Tensor) -> None:
    made = network(60)
    before = made.left_out(points, surface(points)).square().mean()
    optimiser = torch.optim.Adam(made.parameters(), lr=0.05)
    for _ in range(30):
        optimiser.zero_grad()
        made.left_out(points, surface(points)).square().mean().backward()
        optimiser.step()
    assert made.left_out(points, surface(points)).square().mean() < before / 2


def test_is_differentiable(points: torch.Tensor) -> None:
    made = network(60).requires_grad_(False)
    made.solve(points, surface(points))
    assert torch.autograd.gradcheck(made, points[:4].clone().requires_grad_(), atol=1e-6)


def test_derivatives(points: torch.Tensor) -> None:
    network = RadialNetwork(points.shape[1], 8, 0, 0).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        x, step = points[:4], 1e-6
        near, slopes = network.similarity_jacobian(x, points)
        torch.testing.assert_close(near, network.similarity(x, points))
        torch.testing.assert_close(network.variance(x), network.similarity(x, x).diagonal())
        for number, shift in enumerate(step * torch.eye(x.shape[1], dtype=torch.float64)):
            change = network.similarity(x + shift, points) - network.similarity(x - shift, points)
            torch.testing.assert_close(slopes[:, number], change / (2 * step), rtol=1e-6, atol=1e-7)
