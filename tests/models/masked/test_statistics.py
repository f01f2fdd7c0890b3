"""What spectra say of their components: against least squares done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from draper.data.correlation import Correlation
from draper.models.masked.statistics import (
    Posterior,
    SpectrumStatistics,
    chosen_templates,
    nearest,
    thinned,
    whiteners,
    whiteners_of,
)

N, P, K = 5, 24, 3


def correlations(rng: np.random.Generator, number: int, split: int | None = None) -> np.ndarray:
    """Return correlation matrices; the pixels before and after ``split`` are independent."""
    found = []
    for _ in range(number):
        root = rng.normal(size=(P, P))
        covariance = root @ root.T + P * np.eye(P)
        if split:
            covariance[:split, split:] = covariance[split:, :split] = 0
        sigma = np.sqrt(np.diag(covariance))
        found.append(covariance / np.outer(sigma, sigma))
    return np.array(found, dtype=np.float32)


@pytest.fixture
def case() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.05, 0.3, (N, P))
    return {
        "mean": 1 + 0.3 * np.sin(np.arange(P)),
        "basis": rng.normal(size=(P, K)) * [0.3, 0.2, 0.1],
        "sigma": sigma,
        "flux": rng.uniform(2, 9, (N, 1)) * (1 + 0.2 * rng.normal(size=(N, P))),
        "templates": correlations(rng, N),
    }


def statistics(case: dict[str, np.ndarray], templates: np.ndarray | None) -> SpectrumStatistics:
    count = 0 if templates is None else len(templates)
    found = SpectrumStatistics(P, K, count).double()
    found.mean.copy_(torch.from_numpy(case["mean"]))
    found.basis.copy_(torch.from_numpy(case["basis"]))
    if templates is not None:
        found.whiteners.copy_(torch.from_numpy(whiteners(templates)))
    return found


def by_hand(case: dict[str, np.ndarray], row: int, covariance: np.ndarray, keep: np.ndarray) -> tuple:
    """Return brightness, components and their errors by generalised least squares."""
    inverse = np.linalg.inv(covariance[np.ix_(keep, keep)])
    mean, basis, flux = case["mean"][keep], case["basis"][keep], case["flux"][row, keep]
    level = (mean @ inverse @ flux) / (mean @ inverse @ mean)
    precision = level**2 * basis.T @ inverse @ basis + np.eye(K)
    pull = level * basis.T @ inverse @ (flux - level * mean)
    return level, np.linalg.solve(precision, pull), np.sqrt(np.diag(np.linalg.inv(precision)))


@pytest.mark.parametrize("related", [False, True])
@pytest.mark.parametrize("hidden", [-2, 9])
def test_components_are_those_of_least_squares(
    case: dict[str, np.ndarray], related: bool, hidden: int
) -> None:
    keep = np.abs(np.arange(P) - 8) > hidden // 2  # a gap in the middle
    model = statistics(case, case["templates"] if related else None)
    batch = {
        "flux": torch.from_numpy(case["flux"]),
        "ivar": torch.from_numpy(case["sigma"] ** -2),
        **({"template": torch.arange(N)} if related else {}),
    }
    shown = model.products(batch, torch.from_numpy(np.tile(keep, (N, 1))).double())[0]
    ratio, error = model.brightness(shown)
    found = model.components(shown, ratio).posterior()
    z, sigma = found.mean, found.sigma()
    for row in range(N):
        correlation = case["templates"][row].astype(float) if related else np.eye(P)
        covariance = correlation * np.outer(case["sigma"][row], case["sigma"][row])
        level, expected, errors = by_hand(case, row, covariance, keep)
        assert (shown.level[row] * ratio[row]).item() == pytest.approx(level, rel=2e-5)
        np.testing.assert_allclose(z[row], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(sigma[row], errors, rtol=1e-4)
        inverse = np.linalg.inv(covariance[np.ix_(keep, keep)])
        mean = case["mean"][keep]
        assert error[row].item() == pytest.approx((mean @ inverse @ mean) ** -0.5 / level, rel=1e-4)


def test_the_misfit_is_that_of_the_whole_covariance(case: dict[str, np.ndarray]) -> None:
    model = statistics(case, case["templates"])
    batch = {
        "flux": torch.from_numpy(case["flux"]),
        "ivar": torch.from_numpy(case["sigma"] ** -2),
        "template": torch.arange(N),
    }
    every, _ = model.products(batch)
    ratio, _ = model.brightness(every)
    parts = model.components(every, ratio)
    rng = np.random.default_rng(1)
    z, variance = rng.normal(size=(N, K)), rng.uniform(0.1, 2, (N, K))
    precision = torch.diag_embed(1 / torch.from_numpy(variance))
    predicted = Posterior(torch.from_numpy(z), precision, precision.sqrt())
    chi2, volume = parts.misfit(predicted)
    for row in range(N):
        errors = case["templates"][row].astype(float) * np.outer(case["sigma"][row], case["sigma"][row])
        level = (every.level[row] * ratio[row]).item()
        errors = errors / level**2
        whole = errors + case["basis"] @ np.diag(variance[row]) @ case["basis"].T
        off = case["flux"][row] / level - case["mean"] - case["basis"] @ z[row]
        assert chi2[row].item() == pytest.approx(off @ np.linalg.solve(whole, off), rel=1e-3)
        expected = np.linalg.slogdet(whole)[1] - np.linalg.slogdet(errors)[1]
        assert volume[row].item() == pytest.approx(expected, rel=1e-4)


def test_gaps_between_related_pixels_are_exact(case: dict[str, np.ndarray]) -> None:
    """Bad pixels and hidden ones anywhere: shown pixels tell what they tell without the others."""
    model = statistics(case, case["templates"])
    good, shown = np.ones((N, P), dtype=bool), np.ones((N, P), dtype=bool)
    good[2, 15], good[3, [4, 11]] = False, False
    shown[0, 3:9], shown[2, [2, 3, 20]], shown[3, 10:16] = False, False, False
    batch = {
        "flux": torch.from_numpy(case["flux"]),
        "ivar": torch.from_numpy(np.where(good, case["sigma"] ** -2, 0)),
        "template": torch.arange(N),
    }
    every, _ = model.products(batch)
    seen, hidden = model.products(batch, torch.from_numpy(shown).double())
    assert every.pixels.tolist() == good.sum(1).tolist()
    assert hidden.pixels.tolist() == (good & ~shown).sum(1).tolist()
    for one, both in zip(every, seen.with_rest(hidden), strict=True):
        torch.testing.assert_close(one, both, rtol=1e-6, atol=1e-6)
    ratio, _ = model.brightness(seen)
    z = model.components(seen, ratio).posterior().mean
    for row in range(N):
        covariance = case["templates"][row].astype(float) * np.outer(case["sigma"][row], case["sigma"][row])
        expected = by_hand(case, row, covariance, good[row] & shown[row])[1]
        np.testing.assert_allclose(z[row], expected, rtol=1e-3, atol=1e-4)


def test_units_do_not_matter(case: dict[str, np.ndarray]) -> None:
    """Not even those in which squares are beyond single precision."""
    found = []
    for unit in (1.0, 1e-21, 1e18):
        model = SpectrumStatistics(P, 2, 0)
        flux = torch.from_numpy(case["flux"] * unit).float()
        ivar = torch.from_numpy((case["sigma"] * unit) ** -2.0).float().clamp(max=3e38)
        batch = {"flux": flux, "ivar": ivar}
        model.prepare(lambda batch=batch: iter([batch]))
        every, _ = model.products(batch)
        ratio, _ = model.brightness(every)
        found.append((model.mean, every.level * ratio / unit))
    torch.testing.assert_close(found[2], found[0], rtol=1e-3, atol=1e-4)
    assert torch.isfinite(found[1][0]).all()


def test_blocks_of_related_pixels_are_found(case: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    model = statistics(case, correlations(rng, 4, split=10))
    block, place = model.blocks
    assert block.tolist() == [0] * 10 + [1] * (P - 10)
    assert place[[0, 10]].tolist() == [0, 0]
    assert place.max() < 1
    assert statistics(case, None).blocks[0].tolist() == [0] * P


def test_bad_pixels_of_related_ones_have_no_part(case: dict[str, np.ndarray]) -> None:
    good = np.ones((N, P), dtype=bool)
    good[1, [2, 7, 20]] = False
    correlation = Correlation(case["templates"], np.arange(N))
    found = whiteners_of(correlation, good)
    model = statistics(case, case["templates"])
    batch = {
        "flux": torch.from_numpy(case["flux"]),
        "ivar": torch.from_numpy(np.where(good, case["sigma"] ** -2, 0)),
        "whitener": torch.from_numpy(found).double(),
    }
    every, _ = model.products(batch)
    ratio, _ = model.brightness(every)
    z = model.components(every, ratio).posterior().mean
    covariance = case["templates"][1].astype(float) * np.outer(case["sigma"][1], case["sigma"][1])
    np.testing.assert_allclose(z[1], by_hand(case, 1, covariance, good[1])[1], rtol=1e-3, atol=1e-4)


def test_templates_are_kept_and_found_again(case: dict[str, np.ndarray]) -> None:
    correlation = Correlation(case["templates"], np.array([3, 1, 3]))
    kept = chosen_templates(correlation)
    assert len(kept) == 2
    known = whiteners(case["templates"])
    assert nearest(case["templates"][[3, 1]], known).tolist() == [3, 1]


@pytest.mark.parametrize(("rows", "kept"), [(1000, 63), (64, 64), (65, 33), (3, 3)])
def test_some_rows_stand_for_a_sorted_file(rows: int, kept: int) -> None:
    numbers = torch.arange(rows, dtype=torch.float32)
    batches = [{"flux": part[:, None], "ivar": part[:, None]} for part in numbers.split(100)]
    found = thinned(lambda: iter(batches), 64)["flux"][:, 0]
    assert len(found) == kept
    assert (found.diff() == found.diff()[0]).all()
    assert found[0] == 0
    assert found[-1] > rows - 1 - found.diff()[0]


def test_the_basis_finds_faint_directions_beside_noise() -> None:
    """A direction is found by its signal over the noise, not by its size."""
    rng = np.random.default_rng(5)
    n = 3000
    faint, loud = np.zeros(P), np.zeros(P)
    faint[3:6], loud[12:20] = 1, 1
    sigma = np.where(np.arange(P) < 8, 1e-3, 0.2)
    flux = 1 + 0.01 * rng.normal(size=(n, 1)) * faint + 0.05 * rng.normal(size=(n, 1)) * loud
    flux = flux + sigma * rng.normal(size=(n, P))
    batch = {
        "flux": torch.from_numpy(flux).float(),
        "ivar": torch.from_numpy(np.tile(sigma**-2.0, (n, 1))).float(),
    }
    model = SpectrumStatistics(P, 1, 0)
    model.prepare(lambda: iter([batch]))
    # A change of brightness is none of the shape.
    both = np.stack([model.basis[:8, 0].numpy(), faint[:8]])
    both -= both.mean(axis=1, keepdims=True)
    assert abs(np.corrcoef(both)[0, 1]) > 0.99
