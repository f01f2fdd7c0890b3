"""Sufficient statistics are those of explicit matrices, and features those of a Gaussian posterior."""

import numpy as np
import pytest
import torch

from draper.models.retriever.designs import GROUP, Design
from draper.models.retriever.summary import Statistics, Summary

PIXELS, COMPONENTS = 30, 4
REFERENCE = torch.arange(10, 20, 3)


def made(seed: int = 0, rows: int = 500) -> torch.Tensor:
    """Return spectra near 1 of four smooth components and a little scatter."""
    rng = np.random.default_rng(seed)
    phase = np.arange(PIXELS) / PIXELS
    shapes = np.stack([np.cos(2 * np.pi * (phase * n + 0.1 * n)) for n in range(COMPONENTS)])
    spectra = 1 + rng.normal(size=(rows, COMPONENTS)) * [0.1, 0.05, 0.03, 0.02] @ shapes
    return torch.from_numpy(spectra + 1e-3 * rng.normal(size=spectra.shape)).float()


def batches(values: torch.Tensor, variance: torch.Tensor | None = None):
    """Return what passes over spectra in two batches."""
    variance = torch.zeros_like(values) if variance is None else variance
    parts = [
        {"values": v, "variance": w} for v, w in zip(values.split(300), variance.split(300), strict=True)
    ]
    return lambda: iter(parts)


@pytest.fixture(scope="module")
def summary() -> Summary:
    width = torch.from_numpy(np.random.default_rng(1).uniform(0.5, 1.5, PIXELS))
    summary = Summary(width, COMPONENTS, REFERENCE)
    summary.prepare(batches(made()))
    return summary


def operator(edges: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the means (m, p) over bins, from the overlap of each bin with each pixel."""
    pixel = np.arange(len(width))
    overlap = np.minimum(edges[:, 1:], pixel + 1) - np.maximum(edges[:, :1], pixel)
    weight = np.maximum(overlap, 0) * width
    return weight / weight.sum(1, keepdims=True)


def design(rows: int, seed: int = 0, whole: bool = False) -> Design:
    """Return instruments of seven bins, shared by groups of rows; one bin of each row is missing."""
    rng = np.random.default_rng(seed)
    places = np.sort(rng.uniform(0, PIXELS, (-(-rows // GROUP), 8)), axis=1)
    if whole:
        places = np.stack([np.sort(rng.choice(PIXELS + 1, 8, replace=False)) for _ in places])
    places = np.repeat(places, GROUP, axis=0)[:rows]
    sigma = rng.uniform(0.01, 0.1, (rows, 7))
    sigma[np.arange(rows), rng.integers(0, 7, rows)] = np.inf
    edges = np.stack([places[:, :-1], places[:, 1:]], axis=2)
    return Design(torch.from_numpy(edges), torch.from_numpy(sigma), GROUP)


def explicit(
    summary: Summary, data: np.ndarray, matrix: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return A'C^-1 (d - mean) and A'C^-1 A of one spectrum on the components."""
    inverse = np.diag(1 / variance)
    on_bins = matrix @ summary.basis.numpy()
    rest = data - matrix @ summary.mean.numpy()
    return on_bins.T @ inverse @ rest, on_bins.T @ inverse @ on_bins


def test_components_are_those_of_the_covariance(summary: Summary) -> None:
    values = made().double().numpy()
    np.testing.assert_allclose(summary.mean, values.mean(0), rtol=1e-6)
    eigenvalues, vectors = np.linalg.eigh(np.cov(values.T, ddof=0))
    largest = vectors[:, -COMPONENTS:] * np.sqrt(eigenvalues[-COMPONENTS:])
    basis = summary.basis.numpy()
    np.testing.assert_allclose(basis @ basis.T, largest @ largest.T, atol=1e-9)
    # In a spectrum of the training set the components are standard normal.
    scores = (values - values.mean(0)) @ np.linalg.pinv(basis).T
    np.testing.assert_allclose(scores.T @ scores / len(values), np.eye(COMPONENTS), atol=1e-6)


def test_bad_pixels_do_not_distort_the_components(summary: Summary) -> None:
    values = made()
    bad = torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    other = Summary(summary.width, COMPONENTS, REFERENCE)
    found = []
    for filling in (0.0, 7.0):
        variance = torch.where(bad, torch.inf, 0.0)
        other.prepare(batches(torch.where(bad, filling, values), variance))
        found.append(other.basis.clone())
        np.testing.assert_allclose(other.mean, summary.mean, atol=0.02)
        ours, theirs = other.basis @ other.basis.T, summary.basis @ summary.basis.T
        assert float((ours - theirs).norm() / theirs.norm()) < 0.1
    assert torch.equal(*found)


def test_components_are_those_of_spectra_without_their_noise(summary: Summary) -> None:
    values = made(rows=20_000)
    noise = 0.1 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    other = Summary(summary.width, COMPONENTS, REFERENCE)
    other.prepare(batches(values + noise, torch.full_like(values, 0.01)))
    ours, theirs = other.basis @ other.basis.T, summary.basis @ summary.basis.T
    assert float((ours - theirs).norm() / theirs.norm()) < 0.1


@pytest.mark.parametrize("noisy", [False, True])
def test_statistics_are_those_of_explicit_matrices(summary: Summary, noisy: bool) -> None:
    rows = 2 * GROUP + 3
    # Independent noise of fine pixels stays independent only in bins of whole pixels.
    chosen = design(rows, whole=noisy)
    flux, rng = made(5, rows), np.random.default_rng(3)
    own = rng.uniform(0.0, 0.01, flux.shape) if noisy else np.zeros(flux.shape)
    noise = torch.from_numpy(rng.normal(size=(rows, 7)))
    found = summary.observe(flux, chosen, noise, torch.from_numpy(own).float())
    alone = summary.observe(flux, chosen._replace(group=1), noise, torch.from_numpy(own).float())
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    for row in range(rows):
        sigma = chosen.sigma[row].numpy()
        kept = np.isfinite(sigma)
        matrix = operator(chosen.edges[row].numpy(), summary.width.numpy())[kept]
        data = matrix @ flux[row].double().numpy() + sigma[kept] * noise[row].numpy()[kept]
        variance = sigma[kept] ** 2 + matrix**2 @ own[row]
        weighted, precision = explicit(summary, data, matrix, variance)
        np.testing.assert_allclose(found.weighted[row], weighted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.precision[row], precision, rtol=1e-5, atol=1e-5)


def test_bins_on_bad_pixels_count_for_nothing(summary: Summary) -> None:
    rows = GROUP
    chosen = design(rows, whole=True)
    flux, noise = made(5, rows), torch.randn(rows, 7, generator=torch.Generator().manual_seed(0))
    bad = torch.rand(flux.shape, generator=torch.Generator().manual_seed(1)) < 0.1
    variance = torch.where(bad, torch.inf, 0.0)
    found = [
        summary.observe(torch.where(bad, filling, flux), chosen, noise, variance)
        for filling in (0.0, 9.0, 1e4)
    ]
    touched = np.array(
        [
            [bad[row, int(low) : int(high)].any() for low, high in chosen.edges[row].tolist()]
            for row in range(rows)
        ]
    )
    assert 0.1 < touched.mean() < 0.9
    sigma = torch.where(torch.from_numpy(touched), torch.inf, chosen.sigma)
    without = summary.observe(flux, chosen._replace(sigma=sigma), noise, torch.zeros_like(flux))
    for part, expected in zip(zip(*found, strict=True), without, strict=True):
        for one in part:
            torch.testing.assert_close(one, expected, rtol=1e-6, atol=1e-8)
        # Nothing is left of a filling but the rounding of the sums over other pixels.
        torch.testing.assert_close(part[0], part[1], rtol=1e-9, atol=1e-9)


def test_a_spectrum_without_errors_counts_for_nothing(summary: Summary) -> None:
    chosen = design(GROUP)
    flux = made(5, GROUP)
    silent = chosen._replace(sigma=torch.where(torch.isfinite(chosen.sigma), 0.0, torch.inf))
    found = summary.observe(flux, silent, torch.zeros(GROUP, 7), torch.zeros_like(flux))
    assert not found.precision.any()
    features, reference = summary(found)
    assert torch.isfinite(features).all()
    torch.testing.assert_close(features[:, :COMPONENTS], torch.zeros(GROUP, COMPONENTS))
    level = summary.mean[REFERENCE].mean().log() / 2
    torch.testing.assert_close(reference.centre, level.expand(GROUP))


def test_data_sets_add(summary: Summary) -> None:
    rows = GROUP
    one, other = design(rows, 1), design(rows, 2)
    flux, zero = made(5, rows), torch.zeros(rows, PIXELS)
    noise = torch.randn(rows, 14, generator=torch.Generator().manual_seed(0))
    both = Design(*(torch.cat(parts, dim=1) for parts in zip(one[:2], other[:2], strict=True)), GROUP)
    whole = summary.observe(flux, both, noise, zero)
    parts = [
        summary.observe(flux, one, noise[:, :7], zero),
        summary.observe(flux, other, noise[:, 7:], zero),
    ]
    for first, second, together in zip(*parts, whole, strict=True):
        torch.testing.assert_close(first + second, together, rtol=1e-9, atol=1e-9)


def test_features_are_the_gaussian_posterior_of_the_components(summary: Summary) -> None:
    rows = GROUP
    chosen, flux = design(rows), made(7, rows)
    noise = torch.randn(rows, 7, generator=torch.Generator().manual_seed(0))
    features, reference = summary(summary.observe(flux, chosen, noise, torch.zeros_like(flux)))
    assert features.shape == (rows, summary.features)
    basis, mean = summary.basis.numpy(), summary.mean.numpy()
    for row in range(rows):
        sigma = chosen.sigma[row].numpy()
        kept = np.isfinite(sigma)
        matrix = operator(chosen.edges[row].numpy(), summary.width.numpy())[kept]
        data = matrix @ flux[row].double().numpy() + sigma[kept] * noise[row].double().numpy()[kept]
        # Conditioning the joint Gaussian of components and data.
        cross = basis.T @ matrix.T
        covariance = matrix @ basis @ cross + np.diag(sigma[kept] ** 2)
        gain = np.linalg.solve(covariance, cross.T).T
        centre = gain @ (data - matrix @ mean)
        left = np.eye(COMPONENTS) - gain @ cross.T
        expected = np.concatenate([centre, np.log(np.diag(left)) / 4])
        np.testing.assert_allclose(features[row, : 2 * COMPONENTS], expected, rtol=1e-4, atol=1e-4)
        weights = np.zeros(PIXELS)
        weights[REFERENCE] = 1 / len(REFERENCE)
        level = weights @ (mean + basis @ centre)
        assert float(reference.centre[row]) == pytest.approx(np.log(level) / 2, abs=1e-6)
        scatter = np.sqrt(weights @ basis @ left @ basis.T @ weights)
        assert float(reference.sigma[row]) == pytest.approx(scatter / (2 * level), rel=1e-5)


def test_the_reference_is_as_good_as_it_says(summary: Summary) -> None:
    rows = 4000
    generator = torch.Generator().manual_seed(0)
    components = torch.randn(rows, COMPONENTS, generator=generator, dtype=torch.float64)
    flux = summary.mean + components @ summary.basis.T
    chosen = design(rows)
    noise = torch.randn(rows, 7, generator=generator)
    _, reference = summary(summary.observe(flux, chosen, noise, torch.zeros_like(flux)))
    truth = flux[:, REFERENCE].mean(1).log() / 2
    pulls = (truth - reference.centre) / reference.sigma
    assert float(pulls.mean()) == pytest.approx(0, abs=0.1)
    assert float(pulls.std()) == pytest.approx(1, abs=0.07)


def test_statistics_of_nothing_give_the_prior(summary: Summary) -> None:
    nothing = Statistics(torch.zeros(1, COMPONENTS).double(), torch.zeros(1, COMPONENTS, COMPONENTS).double())
    features, reference = summary(nothing)
    assert not features[:, : 2 * COMPONENTS].any()
    scatter = float(summary.basis[REFERENCE].mean(0).norm())
    level = float(summary.mean[REFERENCE].mean())
    assert float(reference.sigma) == pytest.approx(scatter / (2 * level))
