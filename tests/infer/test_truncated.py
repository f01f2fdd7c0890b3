"""Posteriors between walls: against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from draper.infer.least_squares import Normal
from draper.infer.posterior import label_flags, posterior, truncated
from draper.infer.priors import MixturePrior
from draper.infer.truncated import LEVELS

LOW, HIGH = -0.5 * torch.ones(4).double(), 0.5 * torch.ones(4).double()


def gaussian(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Means inside and outside of the box, and covariances with correlations."""
    random = np.random.default_rng(seed)
    roots = random.normal(size=(n, 4, 4)) * np.array([0.02, 0.1, 0.3, 0.05])[:, None]
    covariance = roots @ roots.transpose(0, 2, 1) + 1e-6 * np.eye(4)
    return torch.from_numpy(random.uniform(-0.6, 0.6, (n, 4))), torch.from_numpy(covariance)


def normal_of(mean: torch.Tensor, covariance: torch.Tensor, x: torch.Tensor) -> Normal:
    """The normal equations at x of a chi2 whose minimum is at the mean."""
    curvature = torch.linalg.inv(covariance)
    gradient = (curvature @ (x - mean)[:, :, None])[:, :, 0]
    return Normal(((x - mean) * gradient).sum(1), gradient, curvature)


def test_independent_labels_are_truncated_gaussians() -> None:
    mean = torch.tensor([[0.0, 0.45, 0.7, -0.5]]).double()
    sigma = torch.tensor([0.01, 0.1, 0.2, 0.5]).double()
    found = truncated(mean[:, None], torch.diag(sigma**2)[None, None], torch.zeros(1, 1), LOW, HIGH)
    for number in range(4):
        centre, width = float(mean[0, number]), float(sigma[number])
        exact = truncnorm((-0.5 - centre) / width, (0.5 - centre) / width, centre, width)
        assert found.quantiles[0, :, number].numpy() == pytest.approx(exact.ppf(LEVELS), abs=0.02 * width)
        assert float(found.covariance[0, number, number]) == pytest.approx(exact.var(), rel=0.03)


def test_correlated_labels_agree_with_rejection() -> None:
    mean, covariance = gaussian(30)
    found = truncated(mean[:, None], covariance[:, None], torch.zeros(30, 1), LOW, HIGH)
    random = np.random.default_rng(1)
    compared = 0
    for row in range(30):
        draws = random.multivariate_normal(mean[row].numpy(), covariance[row].numpy(), 400_000)
        inside = draws[(np.abs(draws) < 0.5).all(axis=1)]
        if len(inside) < 20_000:
            continue
        compared += 1
        off = found.quantiles[row].numpy() - np.quantile(inside, LEVELS, axis=0)
        off = np.abs(off / inside.std(axis=0)).max(axis=1)
        assert off[1:4].max() < 0.12  # 16, 50, 84 %
        assert off.max() < 0.35
        assert np.diag(found.covariance[row]) == pytest.approx(inside.var(axis=0), rel=0.15)
    assert compared > 8


def test_intervals_cover_what_they_say() -> None:
    """With labels from the prior and noise of the likelihood, intervals are right at any noise."""
    random = np.random.default_rng(2)
    truth = torch.from_numpy(random.uniform(-0.5, 0.5, (2000, 4)))
    _, covariance = gaussian(1, seed=3)
    factor = torch.linalg.cholesky(4 * covariance)
    mean = truth + torch.from_numpy(random.normal(size=(2000, 4))) @ factor[0].T
    x = mean.clamp(-0.5, 0.5)
    found = posterior(normal_of(mean, (4 * covariance).expand(2000, -1, -1), x), x, None, LOW, HIGH)
    for first, last, share in ((1, 3, 0.68), (0, 4, 0.95)):
        inside = (truth >= found.quantiles[:, first]) & (truth <= found.quantiles[:, last])
        assert inside.double().mean(0).numpy() == pytest.approx(share, abs=0.035)


def test_a_mixture_prior_is_part_of_the_posterior() -> None:
    """One label, two possible groups of stars: the nearer one wins, as often as Bayes says."""
    prior = MixturePrior(
        torch.log(torch.tensor([0.3, 0.7]).double() / 0.01),
        torch.tensor([[-0.2], [0.2]]).double(),
        torch.full((2, 1, 1), 1e4).double(),
        torch.tensor([0.2]).double(),
    )
    x = torch.tensor([[-0.2]]).double()
    weak = Normal(torch.zeros(1), torch.zeros(1, 1).double(), torch.full((1, 1, 1), 1e-6).double())
    rows = torch.arange(1)
    normal = Normal(
        weak.chi2, weak.gradient + prior.gradient(x, rows), weak.curvature + prior.curvature(x, rows)
    )
    found = posterior(normal, x, prior, -torch.ones(1).double(), torch.ones(1).double())
    assert found.quantiles[0, 2, 0] > 0.15
    assert found.quantiles[0, 1, 0] < -0.15
    assert float(found.covariance[0, 0, 0]) == pytest.approx(0.21 * 0.16 + 1e-4, rel=0.1)


def test_slopes_of_a_mixture_are_those_of_its_density() -> None:
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(-0.2, 0.05, (300, 2)), random.normal(0.2, 0.1, (600, 2))])
    prior = MixturePrior.of_points(points, np.array([True, False, True]), 3)
    assert len(prior.mean) > 1
    x = torch.tensor([[-0.1, 0.3, 0.15], [0.2, -0.4, 0.1]]).double().requires_grad_()
    (slope,) = torch.autograd.grad(prior.chi2(x, torch.arange(2)).sum(), x)
    assert prior.gradient(x, torch.arange(2)).detach().numpy() == pytest.approx(slope.numpy() / 2, rel=1e-6)
    assert (slope[:, 1] == 0).all()
    assert torch.isinf(prior.sigma[1])


def test_known_labels_leave_the_slopes_of_the_others() -> None:
    random = np.random.default_rng(1)
    points = np.concatenate([random.normal(-0.2, 0.05, (300, 3)), random.normal(0.2, 0.1, (600, 3))])
    points[:, 2] = points[:, 0] + 0.01 * random.normal(size=900)
    prior = MixturePrior.of_points(points, np.array([True, True, True, False]), 4)
    x = torch.tensor([[-0.1, 0.1, 0.15, 3.0], [0.2, -0.1, 0.15, -5.0]]).double()
    fixed = torch.tensor([False, False, True, False])
    known, rows = prior.given(fixed, torch.tensor([0.15]).double()), torch.arange(2)
    for one, other in (
        (known.gradient(x[:, ~fixed], rows), prior.gradient(x, rows)[:, ~fixed]),
        (known.curvature(x[:, ~fixed], rows), prior.curvature(x, rows)[:, ~fixed][:, :, ~fixed]),
    ):
        assert one.numpy() == pytest.approx(other.numpy(), rel=1e-6, abs=1e-6)


def test_label_flags_say_how_well_labels_are_known() -> None:
    mean = torch.tensor([[0.0, 0.48, 0.0, 0.9]]).double()
    sigma = torch.tensor([[0.01, 0.05, 2.0, 0.05]]).double()
    x = mean.clamp(-0.5, 0.5)
    normal = normal_of(mean, torch.diag_embed(sigma**2), x)
    found = posterior(normal, x, None, LOW, HIGH)
    flags = label_flags(found, mean, sigma, None, LOW, HIGH)
    assert flags.tolist() == [["measured", "limit", "prior", "edge"]]
    assert (found.covariance.diagonal(dim1=1, dim2=2) > 0).all()


def test_what_changes_nothing_stays_between_its_walls() -> None:
    curvature = torch.diag(torch.tensor([1e6, 0.0, 0.0, 1e4])).double()[None]
    normal = Normal(torch.zeros(1), torch.zeros(1, 4).double(), curvature)
    found = posterior(normal, torch.zeros(1, 4).double(), None, LOW, HIGH)
    assert found.quantiles[0, :, 1].numpy() == pytest.approx(np.array(LEVELS) - 0.5, abs=0.02)
    assert float(found.covariance[0, 0, 0]) == pytest.approx(1e-6, rel=0.1)
