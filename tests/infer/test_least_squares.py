"""The minimiser against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import drawn, network, noise, wavelength
from scipy.optimize import least_squares

from draper.infer.instrument_model import instrument_model
from draper.infer.least_squares import Normal, Prior, Problem, inverse_curvature, minimise
from draper.infer.pixels import Layout, PixelProblem


class Quadratic(Problem):
    """chi2 = |A x - b|^2 for each row."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self.a, self.b, self.rows, self.calls = a, b, len(b), 0

    def normal(self, x: torch.Tensor, rows: torch.Tensor, *, rough: bool = False) -> Normal:
        self.calls += len(rows)
        residual = x @ self.a.T - self.b[rows]
        return Normal(residual.square().sum(1), residual @ self.a, (self.a.T @ self.a).expand(len(x), -1, -1))


@pytest.fixture
def quadratic() -> Quadratic:
    random = torch.Generator().manual_seed(0)
    return Quadratic(
        torch.randn(7, 3, generator=random, dtype=torch.float64),
        torch.randn(50, 7, generator=random, dtype=torch.float64),
    )


def ends(low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((3,), low).double(), torch.full((3,), high).double()


def test_linear_problems_are_solved_exactly(quadratic: Quadratic) -> None:
    found = minimise(quadratic, torch.zeros(50, 3), *ends(-99, 99), tolerance=1e-12)
    exact = torch.linalg.lstsq(quadratic.a, quadratic.b.T).solution.T
    assert torch.allclose(found.x, exact, atol=1e-5)
    assert found.converged.all()
    assert torch.allclose(found.normal.chi2, (exact @ quadratic.a.T - quadratic.b).square().sum(1), atol=1e-8)
    assert torch.allclose(
        inverse_curvature(found.normal.curvature)[0], torch.linalg.inv(quadratic.a.T @ quadratic.a)
    )


def test_bounds_are_those_of_a_bounded_fit(quadratic: Quadratic) -> None:
    found = minimise(quadratic, torch.zeros(50, 3), *ends(-0.2, 0.2), tolerance=1e-10, iterations=200)
    for row in range(50):
        exact = least_squares(
            lambda x, row=row: quadratic.a.numpy() @ x - quadratic.b[row].numpy(),
            np.zeros(3),
            bounds=(-0.2, 0.2),
        )
        assert found.normal.chi2[row] == pytest.approx(2 * exact.cost, rel=1e-4)
    assert found.bound.any()
    assert ((found.x.abs() < 0.2 - 1e-9) | found.bound).all()


def test_equal_bounds_fix_a_parameter(quadratic: Quadratic) -> None:
    low, high = ends(-99, 99)
    low[1] = high[1] = 0.5
    found = minimise(quadratic, torch.zeros(50, 3), low, high, tolerance=1e-12)
    rest = quadratic.a[:, [0, 2]]
    exact = torch.linalg.lstsq(rest, (quadratic.b - 0.5 * quadratic.a[:, 1]).T).solution.T
    assert torch.allclose(found.x[:, [0, 2]], exact, atol=1e-5)
    assert (found.x[:, 1] == 0.5).all()
    assert not found.bound[:, 1].any()


def test_priors_add_their_knowledge(quadratic: Quadratic) -> None:
    mean, sigma = torch.zeros(50, 3).double(), torch.full((50, 3), torch.inf).double()
    mean[:, 0], sigma[:, 0] = 2.0, 0.1
    found = minimise(quadratic, torch.zeros(50, 3), *ends(-99, 99), prior=Prior(mean, sigma), tolerance=1e-12)
    row = torch.tensor([[10.0, 0, 0]]).double()
    exact = torch.linalg.lstsq(
        torch.cat([quadratic.a, row]), torch.cat([quadratic.b.T, torch.full((1, 50), 20.0).double()])
    ).solution.T
    assert torch.allclose(found.x, exact, atol=1e-5)
    assert torch.allclose(found.penalty, ((exact[:, 0] - 2) / 0.1).square(), rtol=1e-3)


def test_rows_that_have_converged_are_left_alone(quadratic: Quadratic) -> None:
    exact = torch.linalg.lstsq(quadratic.a, quadratic.b.T).solution.T
    start = exact.clone()
    start[-1] += 50
    minimise(quadratic, start, *ends(-99, 99))
    assert quadratic.calls <= 50 + 3 + 50  # at the start and at the end all are looked at


def test_singular_curvatures_have_no_inverse() -> None:
    matrices = torch.stack([torch.eye(2), torch.ones(2, 2)]).double()
    inverse = inverse_curvature(matrices)
    assert torch.allclose(inverse[0], torch.eye(2).double())
    assert inverse[1].isnan().all()


def test_an_emulator_is_fitted_as_by_scipy() -> None:
    made, lam = network(), torch.from_numpy(wavelength())
    data = noise(made(drawn(5)), 0.01)
    model, _ = instrument_model(made, lam, even=False, widths={})
    problem = PixelProblem(model, lam, lam, data, torch.full_like(data, 1e4), Layout(3, rv=False))
    half = torch.full((3,), 0.5).double()
    found = minimise(problem, torch.zeros(5, 3), -half, half, tolerance=1e-4)
    for row in range(5):

        def residual(x: np.ndarray, row: int = row) -> np.ndarray:
            return 100 * (made(torch.from_numpy(x)[None].float())[0] - data[row]).double().numpy()

        def jacobian(x: np.ndarray) -> np.ndarray:
            return 100 * made.jacobian(torch.from_numpy(x)[None].float())[1][0].double().numpy()

        exact = least_squares(residual, np.zeros(3), jacobian, method="lm")
        covariance = inverse_curvature(found.normal.curvature)[row]
        sigma = covariance.diagonal().sqrt().numpy()
        assert np.abs((found.x[row].numpy() - exact.x) / sigma).max() < 0.03
        assert np.allclose(np.linalg.inv(exact.jac.T @ exact.jac), covariance, rtol=2e-3)
