"""Latents of kept labels: estimates whose errors follow removed labels, corrected and made alike in size."""

import torch

from draper.nn.kept_latents import KeptLatents

N = 20_000


def shrunk() -> tuple[torch.Tensor, ...]:
    """Return labels with a correlation of 0.8, estimates of them that are posterior means, and ln(errors)."""
    random = torch.Generator().manual_seed(1)
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    labels = torch.randn(N, 2, generator=random) @ torch.linalg.cholesky(covariance).T
    noise = torch.tensor([0.5, 1.0])
    seen = labels + noise * torch.randn(N, 2, generator=random)
    gain = covariance @ torch.linalg.inv(covariance + torch.diag(noise**2))
    left = (covariance - gain @ covariance).diagonal()
    return labels, seen @ gain.T, (0.5 * left.log()).expand(N, -1)


def correlation(error: torch.Tensor, kept: torch.Tensor, removed: torch.Tensor) -> float:
    """Return the correlation of errors with what a removed label has beyond the kept one."""
    beyond = removed - 0.8 * kept
    return float(torch.corrcoef(torch.stack([error, beyond]))[0, 1])


def test_errors_of_corrected_estimates_do_not_follow_other_labels() -> None:
    labels, estimates, log_error = shrunk()
    errors = 0.3 * torch.ones_like(labels)
    published = labels + errors * torch.randn(N, 2, generator=torch.Generator().manual_seed(2))
    level = torch.zeros(N)
    latents = KeptLatents(2, (0,))
    before, noise = latents(estimates, level, log_error)
    assert (noise == 0).all()
    torch.testing.assert_close(before[:, 0], estimates[:, 0])
    latents.fit(estimates, level, log_error, published, errors, cost=0.0)
    after, noise = latents(estimates, level, log_error)
    assert (noise == 0).all()
    kept, removed = labels.T
    assert abs(correlation(before[:, 0] - kept, kept, removed)) > 0.15
    assert abs(correlation(after[:, 0] - kept, kept, removed)) < 0.05
    assert abs(correlation(after[:, 0] - kept, removed, kept)) < 0.2, "nor is it drawn to the mean"


def test_noise_makes_errors_alike_at_the_cost_that_is_allowed() -> None:
    random = torch.Generator().manual_seed(3)
    labels = torch.randn(N, 2, generator=random)
    log_error = (-2 + 0.5 * labels[:, 1:]).expand(-1, 2)  # large where the removed label is
    estimates = labels + log_error.exp() * torch.randn(N, 2, generator=random)
    level = torch.zeros(N)
    latents = KeptLatents(2, (0,))
    latents.fit(estimates, level, log_error, labels, torch.zeros(N, 2), cost=0.05)
    _, noise = latents(estimates, level, log_error)
    left = (2 * log_error[:, 0]).exp()
    assert abs(float(noise.square().mean() / (1 - left.mean())) - 0.05) < 0.01
    whole = left + noise[:, 0].square()
    before, after = (torch.corrcoef(torch.stack([v.log(), labels[:, 1]]))[0, 1] for v in (left, whole))
    assert before > 0.9
    assert after < 0.7 * before


def test_few_rows_change_nothing() -> None:
    labels, estimates, log_error = (values[:100] for values in shrunk())
    latents = KeptLatents(2, (0,))
    latents.fit(estimates, torch.zeros(100), log_error, labels, torch.zeros(100, 2), cost=0.05)
    found, noise = latents(estimates, torch.zeros(100), log_error)
    assert (noise == 0).all()
    torch.testing.assert_close(found, estimates[:, :1])
