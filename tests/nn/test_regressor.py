"""The regressor: what it learns, how it scales, and what has no weight."""

import numpy as np
import pytest
import torch

from draper.errors import DraperError
from draper.nn.regressor import Regressor
from draper.train.regress import regress


def made(n: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (n, 4) and labels (n, 2) in units far from 1, one of them nonlinear."""
    x = np.random.default_rng(seed).normal(size=(n, 4))
    return x, np.column_stack([5000 + 800 * x[:, 0] * x[:, 1], 1e-3 * x[:, 2]])


def share(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the share of the variance that is missed."""
    return np.square(found - truth).mean(0) / truth.var(0)


def moments_of(network: Regressor, *batches: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        network.prepare(lambda: iter(batches))


def test_learns_and_repeats_itself() -> None:
    x, y = made()
    other, truth = made(seed=1)
    found = regress(x, y, hidden=(64, 32), epochs=200, seed=3)
    assert (share(found.predict(other), truth) < 0.02).all()
    short = [regress(x, y, hidden=(64, 32), epochs=2, seed=seed).predict(other) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(short[0], short[1])
    assert not np.array_equal(short[0], short[2])


def test_is_no_worse_than_that_of_scikit_learn() -> None:
    from sklearn.neural_network import MLPRegressor

    x, y = made()
    other, truth = made(seed=1)
    scaled = (y - y.mean(0)) / y.std(0)
    theirs = MLPRegressor(hidden_layer_sizes=(200, 100), early_stopping=True, random_state=0)
    theirs.fit(x, scaled)
    missed = share(theirs.predict(other) * y.std(0) + y.mean(0), truth)
    assert (share(regress(x, y).predict(other), truth) <= missed).all()


def test_scales_are_those_of_all_batches_and_of_known_labels() -> None:
    network = Regressor(2, 2)
    x = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
    y = torch.tensor([[2.0, torch.nan], [4.0, 10.0]])
    moments_of(network, {"x": x[:1], "y": y[:1]}, {"x": x[1:], "y": y[1:]})
    assert network.x_mean.tolist() == [2.0, 7.0]
    assert network.x_scale.tolist() == [1.0, 1.0], "a constant input is not divided by its scatter of 0"
    assert network.y_mean.tolist() == [3.0, 10.0]
    assert network.y_scale.tolist() == [1.0, 1.0]


def test_small_scatter_beside_a_large_mean() -> None:
    network, tiny = (
        Regressor(1, 1),
        1 + 1e-4 * torch.randn(5000, 1, generator=torch.Generator().manual_seed(0)),
    )
    moments_of(network, {"x": tiny, "y": tiny})
    assert float(network.x_scale) == pytest.approx(float(tiny.double().std()), rel=1e-3)


def test_without_standardising_numbers_stay_as_they_are() -> None:
    network = Regressor(4, 2, standardise=False)
    x, y = made(20)
    moments_of(network, {"x": torch.tensor(x).float(), "y": torch.tensor(y).float()})
    assert network.x_mean.abs().max() == 0
    assert (network.y_scale == 1).all()
    raw = regress(*made(), standardise=False, epochs=30, hidden=(16,))
    fair = regress(*made(), epochs=30, hidden=(16,))
    other, truth = made(seed=1)
    assert share(raw.predict(other), truth)[0] > share(fair.predict(other), truth)[0]


def test_missing_labels_move_nothing() -> None:
    torch.manual_seed(0)
    network = Regressor(3, 2, (8,))
    x, y = torch.randn(6, 3), torch.randn(6, 2)
    y[0, 1], y[5] = torch.nan, torch.nan

    def gradients(x: torch.Tensor) -> list[torch.Tensor]:
        total = network.loss({"x": x, "y": y}, {}, "model", 0.0)["total"]
        return list(torch.autograd.grad(total, list(network.parameters())))

    other = x.clone()
    other[5] = 1e3
    for before, after in zip(gradients(x), gradients(other), strict=True):
        assert torch.isfinite(before).all()
        assert torch.equal(before, after)


def test_refuses_what_is_no_table_of_numbers() -> None:
    x, y = made(40)
    with pytest.raises(DraperError, match="do not fit"):
        regress(x, y[:-1])
    with pytest.raises(DraperError, match="table of numbers"):
        regress(np.where(x > 1, np.nan, x), y)
