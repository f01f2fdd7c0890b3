"""A measure of dependence, and the erasure of what is linear, against closed forms."""

import numpy as np
import pytest
import torch

from draper.nn.independence import dependence, eraser


def normal(n: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(n, columns, generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------- dependence


@pytest.mark.parametrize("n", [100, 400])
def test_independent_rows_give_about_one_over_n(n: int) -> None:
    found = [float(dependence(normal(n, 3, seed), normal(n, 1, 99 + seed))) for seed in range(12)]
    assert 0.5 / n < np.mean(found) < 8 / n


def test_dependence_grows_with_what_is_shared() -> None:
    x, noise = normal(300, 1, 0), normal(300, 1, 1)
    found = [float(dependence(x, x + scale * noise)) for scale in (0.0, 0.5, 2.0, 20.0)]
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert found == sorted(found, reverse=True)
    assert found[1] > 0.4
    # No line sees this.
    assert float(dependence(x, x.square())) > 0.2
    assert float(dependence(x, torch.cos(3 * x))) > 5 * float(dependence(x, noise))


def test_dependence_has_no_units_and_no_order() -> None:
    x, y = normal(80, 2, 0), normal(80, 1, 1)
    y = y + x[:, :1]
    expected = dependence(x, y)
    torch.testing.assert_close(dependence(y, x), expected)
    torch.testing.assert_close(dependence(5 + 100 * x, 0.01 * y - 3), expected, rtol=1e-3, atol=1e-5)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(dependence(x[order], y[order]), expected)


def test_dependence_equals_the_traces_of_its_definition() -> None:
    x, y = normal(30, 2, 0).double(), normal(30, 1, 1).double()
    kernels = []
    for rows in (x, y):
        square = (rows[:, None] - rows).square().sum(-1)
        centring = torch.eye(30).double() - 1 / 30
        kernels.append(centring @ torch.exp(-square / square.mean()) @ centring)
    one, other = kernels
    expected = torch.trace(one @ other) / (torch.trace(one @ one) * torch.trace(other @ other)).sqrt()
    torch.testing.assert_close(dependence(x, y), expected)


def test_gradient_of_dependence() -> None:
    x, y = normal(9, 2, 0).double().requires_grad_(), normal(9, 1, 1).double().requires_grad_()
    # The widths of the kernels count as constants, so the rows are scaled to widths that stay.
    fixed = [rows.detach().clone() for rows in (x, y)]

    def with_fixed_widths(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        parts = []
        for rows, held in ((one, fixed[0]), (other, fixed[1])):
            square = (rows[:, None] - rows).square().sum(-1)
            kernel = torch.exp(-square / torch.cdist(held, held).square().mean())
            parts.append(kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean())
        return (parts[0] * parts[1]).sum() / (parts[0].norm() * parts[1].norm())

    assert torch.autograd.gradcheck(with_fixed_widths, (x, y))
    for found, expected in zip(
        torch.autograd.grad(dependence(x, y), (x, y)),
        torch.autograd.grad(with_fixed_widths(x, y), (x, y)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_rows_that_do_not_vary_are_independent(n: int) -> None:
    x = torch.ones(n, 3, requires_grad=True)
    found = dependence(x, normal(n, 1, 0))
    assert abs(float(found.detach())) < 1e-6
    (gradient,) = torch.autograd.grad(found, x)
    assert torch.isfinite(gradient).all()


# ----------------------------------------------------------------------- erasure


def mixed(
    n: int = 500, latents: int = 6, labels: int = 2, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return correlated latents of very different scales, and labels that they tell in part."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, latents)) @ random.normal(size=(latents, latents))
    y = z @ random.normal(size=(latents, labels)) + random.normal(size=(n, labels))
    return torch.tensor(z * np.logspace(-2, 2, latents) + 7).float(), torch.tensor(y).float()


def erased(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    mean, matrix = eraser(z, y)
    return z.double() - (z.double() - mean.double()) @ matrix.double().T


def covariances(left: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> float:
    """Return the largest covariance with a label, in units of the scatters before anything was erased."""
    centred_labels = (y.double() - y.double().mean(0)) / y.double().std(0)
    return float(abs((left - left.mean(0)).T @ centred_labels / len(y) / z.double().std(0)[:, None]).max())


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_nothing_linear_is_left(labels: int) -> None:
    z, y = mixed(labels=labels)
    assert covariances(z.double(), z, y) > 0.3
    assert covariances(erased(z, y), z, y) < 1e-6


def test_erasure_is_the_closed_form() -> None:
    """Belrose et al. 2023: C (C' S^-1 C)^-1 C' S^-1 for covariances S of latents and C with labels."""
    z, y = mixed()
    centred, centred_labels = z.double() - z.double().mean(0), y.double() - y.double().mean(0)
    covariance, cross = centred.T @ centred / len(z), centred.T @ centred_labels / len(z)
    inverse = torch.linalg.inv(covariance)
    expected = cross @ torch.linalg.inv(cross.T @ inverse @ cross) @ cross.T @ inverse
    mean, matrix = eraser(z, y)
    torch.testing.assert_close(mean, z.mean(0))
    torch.testing.assert_close(matrix.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_erasing_twice_is_erasing_once() -> None:
    z, y = mixed()
    matrix = eraser(z, y)[1].double()
    scale = z.double().std(0)
    relative = matrix / scale[:, None] * scale
    torch.testing.assert_close(relative @ relative, relative, rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(relative, rtol=1e-4) == 2
    left = erased(z, y) - z.double().mean(0)
    torch.testing.assert_close((left @ matrix.T) / scale, torch.zeros(500, 6).double(), rtol=0, atol=1e-5)


def test_the_rest_is_touched_as_little_as_possible() -> None:
    z, y = mixed(labels=1)
    centred = z.double() - z.double().mean(0)
    cross = centred.T @ (y.double() - y.double().mean(0))
    inverse = torch.linalg.inv(centred.T @ centred / len(z))

    def cost(moved: torch.Tensor) -> float:
        return float(((moved @ inverse) * moved).sum(1).mean())

    least = cost(centred - (erased(z, y) - z.double().mean(0)))
    assert least == pytest.approx(1, abs=1e-4), "one direction of unit scatter"
    for seed in range(5):
        # Every direction that is taken along the covariance leaves none; all others move more.
        other = inverse @ cross + 0.3 * inverse.diagonal().sqrt()[:, None] * normal(6, 1, seed).double()
        moved = centred @ (cross @ other.T / (other.T @ cross)).T
        left = centred - moved
        assert abs(left.T @ (y.double() - y.double().mean(0))).max() < 1e-6 * abs(cross).max()
        assert cost(moved) > least


def test_latents_that_tell_nothing_stay() -> None:
    z = normal(4000, 3, 0)
    y = z[:, :1].clone()
    z[:, 1:] -= y * (z[:, 1:] * y).mean(0) / y.square().mean()  # exactly uncorrelated but for means
    left = erased(z, y)
    torch.testing.assert_close(left[:, 1:], z[:, 1:].double(), rtol=0, atol=2e-3)
    assert left[:, 0].std() < 2e-3


def test_latents_may_be_constant_or_copies() -> None:
    z, y = mixed(latents=3)
    double = torch.column_stack([z, z[:, :1], torch.full((500,), 2.0)])
    left = erased(double, y)
    assert torch.isfinite(left).all()
    centred_labels = (left - left.mean(0)).T @ (y.double() - y.double().mean(0)) / len(y)
    assert (centred_labels.abs() < 1e-5 * double.double().std(0).clamp(min=1)[:, None]).all()
    torch.testing.assert_close(left[:, 4], double[:, 4].double())
    mean, matrix = eraser(torch.ones(5, 2), y[:5])
    assert torch.equal(matrix, torch.zeros(2, 2))
    assert torch.equal(mean, torch.ones(2))


def test_labels_may_be_missing() -> None:
    z, y = mixed()
    some = y.clone()
    some[:300, 0], some[200:, 1] = torch.nan, torch.nan  # no row has both but a hundred
    some[250:, 1] = torch.nan
    left = erased(z, some)
    for number in range(2):
        known = torch.isfinite(some[:, number])
        assert covariances(left[known], z[known], y[known][:, [number]]) < 1e-6
