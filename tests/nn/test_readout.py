"""Closed forms against what they stand for: brute force, numpy's SVD, and points whose hull is known."""

import numpy as np
import pytest
import torch

from draper.nn.hull import facets, outside
from draper.nn.readout import RIDGES, Ridge, components, fill_bad


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ridge_solves_the_regularised_equations() -> None:
    features, targets = drawn(30, 6), drawn(30, 4, seed=1)
    ridge = Ridge(features)
    gram = features.T @ features
    damped = gram + 1e-2 * torch.linalg.eigvalsh(gram)[-1] * torch.eye(6, dtype=torch.float64)
    expected = torch.linalg.solve(damped, features.T @ targets)
    torch.testing.assert_close(ridge.weights(targets, 1e-2), expected)
    leverage = (features @ torch.linalg.inv(damped) * features).sum(1)
    torch.testing.assert_close((features @ ridge.spread(1e-2)).square().sum(1), leverage)


def test_strength_is_the_best_of_leaving_each_row_out() -> None:
    features = drawn(24, 20)
    truth = drawn(20, 3, seed=1)
    targets = features @ truth + 3 * drawn(24, 3, seed=2)
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    largest = torch.linalg.eigvalsh(features.T @ features)[-1]
    errors = []
    for strength in RIDGES:
        error = 0.0
        for row in range(24):
            rest = [other for other in range(24) if other != row]
            gram = features[rest].T @ features[rest] + strength * largest * torch.eye(20, dtype=torch.float64)
            left = torch.linalg.solve(gram, features[rest].T @ targets[rest])
            error += float(((features[row] @ left - targets[row]).square() * weight).sum())
        errors.append(error)
    best = RIDGES[int(np.argmin(errors))]
    assert RIDGES[0] < best < RIDGES[-1], "a case that decides nothing"
    assert Ridge(features).strength(targets, weight) == best


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_components_are_those_of_the_svd(missing: float) -> None:
    factors, loadings = drawn(80, 5), drawn(5, 40, seed=1) * torch.tensor([5.0, 4, 3, 2, 1])[:, None]
    values = (factors @ loadings).float()
    good = torch.rand(values.shape, generator=torch.Generator().manual_seed(3)) >= missing
    held = torch.where(good, values, 99.0)

    def batches():
        for rows in (slice(0, 30), slice(30, 80)):
            yield held[rows], good[rows]

    found, power = components(batches, 5 if missing else 8, 40)
    exact = torch.linalg.svd(values, full_matrices=False)
    torch.testing.assert_close(
        power[:5], exact.S[:5].square() / 80, rtol=0.02 if missing else 1e-3, atol=1e-4
    )
    assert (power[5:] < 0.02 * power[4]).all()
    projected = found[:, :5] @ found[:, :5].T
    torch.testing.assert_close(
        projected, exact.Vh[:5].T @ exact.Vh[:5], rtol=0, atol=0.05 if missing else 1e-3
    )


def test_filling_leaves_what_is_known() -> None:
    values = torch.tensor([[1.0, 2.0, 77.0], [4.0, 5.0, 6.0]])
    good = torch.tensor([[True, True, False], [True, True, True]])
    made = fill_bad(values, good, lambda v: v[:, :2].sum(1, keepdim=True).expand(-1, 3))
    assert made.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_hull_of_pairs() -> None:
    random = np.random.default_rng(0)
    cloud = random.uniform(-0.5, 0.5, (500, 3))
    cloud = cloud[cloud[:, 0] + cloud[:, 1] < 0.2]
    planes = facets(torch.from_numpy(cloud))
    assert not outside(torch.from_numpy(cloud).float(), planes).any()
    at = torch.tensor([[0.0, 0.0, 0.0], [0.4, 0.4, 0.0], [0.0, 0.0, 0.6], [0.3, -0.3, 0.3]])
    assert outside(at, planes).tolist() == [False, True, True, False]
    assert len(facets(torch.zeros(0, 3))) == 0
    assert not outside(torch.full((1, 2), 9.0), facets(torch.linspace(0, 1, 9)[:, None].expand(-1, 2))).any()
